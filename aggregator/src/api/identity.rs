//! Tokens, revocations, and what happened to identities.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use driftglass_protocol::id::{DeviceId, Name};
use serde::{Deserialize, Serialize};

use super::Problem;
use super::rest::{Answer, Asked, Paging, Shared, SiteQuery, asked};
use super::types::{List, rfc3339};
use crate::registrar::RegistrarError;
use crate::store::embedded::{IdentityEvent, TokenRow};

const TTL_DEFAULT_S: u64 = 60 * 60;
/// A token that lies about for longer is not one for a single occasion.
const TTL_MAX_S: u64 = 30 * 24 * 60 * 60;
/// Longest note kept, in characters.
const NOTE_MAX: usize = 500;

/// A wish for a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenWish {
    site: Name,
    device: Name,
    ttl_seconds: Option<u64>,
}

/// A token: shown once, stored by its hash.
#[derive(Debug, Serialize)]
pub(super) struct CreatedToken {
    token: String,
    site: Name,
    device: Name,
    expires_at: Option<String>,
}

/// A token that was made, without what makes it valid.
#[derive(Debug, Serialize)]
pub(super) struct Token {
    site: String,
    device: String,
    created_at: Option<String>,
    expires_at: Option<String>,
    /// When it was redeemed; null where it was not.
    used_at: Option<String>,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            site: row.device.site.to_string(),
            device: row.device.device.to_string(),
            created_at: rfc3339(row.created_at),
            expires_at: rfc3339(row.expires_at),
            used_at: row.used_at.and_then(rfc3339),
        }
    }
}

/// Something that happened to an identity.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    at: Option<String>,
    /// `site/device`.
    device: String,
    /// `token-created`, `enrolled`, `key-replaced`, `revoked`, `reinstated`.
    action: String,
    detail: String,
}

impl From<IdentityEvent> for Event {
    fn from(event: IdentityEvent) -> Self {
        let IdentityEvent { at, device, action, detail } = event;
        Self { at: rfc3339(at), device: device.to_string(), action, detail }
    }
}

/// Why something is done.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    #[serde(default)]
    note: String,
}

/// What became of a revocation.
#[derive(Debug, Serialize)]
pub(super) struct Revoked {
    device: String,
    /// Whether a connection was ended by it.
    was_connected: bool,
}

/// What became of a reinstatement.
#[derive(Debug, Serialize)]
pub(super) struct Reinstated {
    device: String,
}

pub(super) type Sent<T> = Result<Json<T>, JsonRejection>;
pub(super) type DevicePath = Result<Path<String>, PathRejection>;

impl From<RegistrarError> for Problem {
    fn from(error: RegistrarError) -> Self {
        let status = match error {
            RegistrarError::Unknown => StatusCode::NOT_FOUND,
            RegistrarError::Foreign | RegistrarError::KeyRevoked | RegistrarError::NotRevoked => StatusCode::CONFLICT,
            RegistrarError::Unavailable | RegistrarError::Random => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

pub(super) fn sent<T>(body: Sent<T>) -> Result<T, Problem> {
    // A body that is not declared as JSON is refused: a page of a foreign site could send that without being asked first.
    body.map(|Json(body)| body).map_err(|error| Problem::new(error.status(), error.body_text()))
}

pub(super) fn device_id(path: DevicePath) -> Result<DeviceId, Problem> {
    let Path(text) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let wrong = |why: String| Problem::bad_request(format!("device {text:?}: {why}"));
    let (site, device) =
        text.split_once('/').ok_or_else(|| wrong("a device id has the form site/device, percent-encoded".into()))?;
    let name = |text: &str| Name::parse(text).map_err(|error| wrong(error.to_string()));
    Ok(DeviceId { site: name(site)?, device: name(device)? })
}

fn note(body: Sent<Note>) -> Result<String, Problem> {
    let Note { note } = sent(body)?;
    bounded(note)
}

/// A note that is not too long.
pub(super) fn bounded(note: String) -> Result<String, Problem> {
    let length = note.chars().count();
    if length > NOTE_MAX {
        return Err(Problem::bad_request(format!("note of {length} characters: allowed are {NOTE_MAX}")));
    }
    Ok(note)
}

pub(super) async fn create_token(
    State(api): Shared,
    body: Sent<TokenWish>,
) -> Result<(StatusCode, Json<CreatedToken>), Problem> {
    let TokenWish { site, device, ttl_seconds } = sent(body)?;
    let ttl = ttl_seconds.unwrap_or(TTL_DEFAULT_S);
    if !(1..=TTL_MAX_S).contains(&ttl) {
        return Err(Problem::bad_request(format!("ttl_seconds = {ttl}: allowed is 1 to {TTL_MAX_S}")));
    }
    let id = DeviceId { site, device };
    let (token, expires_at) = api.registrar.create_token(&id, Duration::from_secs(ttl)).await?;
    let DeviceId { site, device } = id;
    let created = CreatedToken { token: token.to_string(), site, device, expires_at: rfc3339(expires_at) };
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn tokens(State(api): Shared, query: Asked<SiteQuery>) -> Answer<List<Token>> {
    let query = asked(query)?;
    let paging = Paging::new(query.offset, query.limit)?;
    let rows = api.read(move |reader| reader.tokens(paging.page())).await?;
    Ok(paging.list(rows, Token::from))
}

pub(super) async fn events(State(api): Shared, query: Asked<SiteQuery>) -> Answer<List<Event>> {
    let query = asked(query)?;
    let paging = Paging::new(query.offset, query.limit)?;
    let rows = api.read(move |reader| reader.identity_events(paging.page())).await?;
    Ok(paging.list(rows, Event::from))
}

pub(super) async fn revoke(State(api): Shared, path: DevicePath, body: Sent<Note>) -> Answer<Revoked> {
    let id = device_id(path)?;
    let was_connected = api.registrar.revoke(&id, note(body)?).await?;
    Ok(Json(Revoked { device: id.to_string(), was_connected }))
}

pub(super) async fn reinstate(State(api): Shared, path: DevicePath, body: Sent<Note>) -> Answer<Reinstated> {
    let id = device_id(path)?;
    api.registrar.reinstate(&id, note(body)?).await?;
    Ok(Json(Reinstated { device: id.to_string() }))
}
