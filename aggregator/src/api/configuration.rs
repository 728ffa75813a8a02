//! The configuration of agents: what is wished, and how each device is set.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use driftglass_protocol::id::{DeviceId, Name};
use serde::{Deserialize, Serialize};

use super::Problem;
use super::identity::{DevicePath, Sent, bounded, device_id, sent};
use super::rest::{Answer, Asked, Paging, Shared, SiteQuery, asked};
use super::types::{DeviceConfiguration, List, rfc3339};
use crate::configurator::ConfiguratorError;
use crate::store::Scope;
use crate::store::embedded::ConfigurationRow;

/// A wish: for one device, for a site, or for all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    site: Option<Name>,
    device: Option<Name>,
    /// TOML; null withdraws the wish there was for the same devices.
    text: Option<String>,
    #[serde(default)]
    note: String,
}

/// A wish that was taken.
#[derive(Debug, Serialize)]
pub(super) struct Taken {
    version: u64,
}

/// A wish that holds.
#[derive(Debug, Serialize)]
pub(super) struct Configuration {
    version: u64,
    /// Null: for every site.
    site: Option<String>,
    /// Null: for every device of the site.
    device: Option<String>,
    text: String,
    set_at: Option<String>,
    note: String,
}

impl From<ConfigurationRow> for Configuration {
    fn from(row: ConfigurationRow) -> Self {
        let ConfigurationRow { version, scope, text, set_at, note } = row;
        let (site, device) = scope.parts();
        let part = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        Self { version, site: part(site), device: part(device), text, set_at: rfc3339(set_at), note }
    }
}

/// How one device is set, and what it shall be set to.
#[derive(Debug, Serialize)]
pub(super) struct OfDevice {
    device: String,
    configuration: DeviceConfiguration,
    /// What the version desired says.
    text: String,
}

impl From<ConfiguratorError> for Problem {
    fn from(error: ConfiguratorError) -> Self {
        let status = match error {
            ConfiguratorError::TooLong { .. } | ConfiguratorError::Toml(_) => StatusCode::BAD_REQUEST,
            ConfiguratorError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

pub(super) async fn list(State(api): Shared, query: Asked<SiteQuery>) -> Answer<List<Configuration>> {
    let query = asked(query)?;
    let paging = Paging::new(query.offset, query.limit)?;
    let rows = api.read(move |reader| reader.configurations(paging.page())).await?;
    Ok(paging.list(rows, Configuration::from))
}

pub(super) async fn set(State(api): Shared, body: Sent<Wish>) -> Result<(StatusCode, Json<Taken>), Problem> {
    let Wish { site, device, text, note } = sent(body)?;
    let scope = match (site, device) {
        (Some(site), Some(device)) => Scope::Device(DeviceId { site, device }),
        (Some(site), None) => Scope::Site(site),
        (None, None) => Scope::Fleet,
        (None, Some(_)) => return Err(Problem::bad_request("a device without its site: give both")),
    };
    let version = api.configurator.set(scope, text, bounded(note)?).await?;
    Ok((StatusCode::CREATED, Json(Taken { version })))
}

pub(super) async fn of_device(State(api): Shared, path: DevicePath) -> Answer<OfDevice> {
    let id = device_id(path)?;
    let named = id.clone();
    let known = api.read(move |reader| reader.device(&named)).await?;
    let known = known.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no device {id} is known")))?;
    let desired = api.configurator.desired(&id).await?;
    Ok(Json(OfDevice { device: id.to_string(), configuration: known.configuration.into(), text: desired.text }))
}
