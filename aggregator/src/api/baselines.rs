//! The versions of a camera's baseline, and what operators do to them.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::Millis;
use serde::{Deserialize, Serialize};

use super::detectability::Learning;
use super::identity::{Sent, bounded, sent};
use super::promise::author;
use super::rest::{Answer, CameraPath, Shared, camera_path, instant};
use super::types::{BaselineVersion, rfc3339};
use super::{Api, Problem};
use crate::decision::{Order, OrderError, Standing, Wish};
use crate::operators::OperatorError;
use crate::store::embedded::{BaselineMoveRow, Page};

/// Of what operators did, the newest that are shown.
const MOVES_SHOWN: u32 = 100;

/// The baseline of a camera.
#[derive(Debug, Serialize)]
pub(super) struct Baselines {
    /// `site/device/camera`.
    camera: String,
    /// The version it is held against; null while it learns.
    in_force: Option<u32>,
    /// How it learns; null while a version is in force.
    learning: Option<Learning>,
    /// Versions that are kept, oldest first.
    versions: Vec<BaselineVersion>,
    /// What operators did, newest first.
    moves: Vec<Move>,
}

/// What an operator did.
#[derive(Debug, Serialize)]
struct Move {
    at: Option<String>,
    /// `promote`, `freeze` or `rollback`.
    r#move: String,
    /// The version in force from then on; null where the camera learned.
    version: Option<u32>,
    /// From which window on it learned anew, in event time; null for the others.
    since: Option<String>,
    author: String,
    note: String,
}

impl From<BaselineMoveRow> for Move {
    fn from(row: BaselineMoveRow) -> Self {
        let BaselineMoveRow { at, wish, version, since, author, note } = row;
        Self { at: rfc3339(at), r#move: wish, version, since: since.and_then(rfc3339), author, note }
    }
}

/// What is to be normal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Promotion {
    /// RFC 3339; without it since the first window of the open alert, or from the next window on.
    since: Option<String>,
    #[serde(default)]
    note: String,
}

/// The learning time is over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Freezing {
    #[serde(default)]
    note: String,
}

/// Which version is to be in force again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// Without it the one before.
    to: Option<u32>,
    #[serde(default)]
    note: String,
}

pub(super) async fn show(State(api): Shared, path: CameraPath) -> Answer<Baselines> {
    read(&api, camera_path(path)?).await
}

pub(super) async fn promote(
    State(api): Shared,
    path: CameraPath,
    headers: HeaderMap,
    body: Sent<Promotion>,
) -> Answer<Baselines> {
    let Promotion { since, note } = sent(body)?;
    let since = since.as_deref().map(instant).transpose()?;
    order(&api, path, &headers, Wish::Promote { since }, note).await
}

pub(super) async fn freeze(
    State(api): Shared,
    path: CameraPath,
    headers: HeaderMap,
    body: Sent<Freezing>,
) -> Answer<Baselines> {
    let Freezing { note } = sent(body)?;
    order(&api, path, &headers, Wish::Freeze, note).await
}

pub(super) async fn roll_back(
    State(api): Shared,
    path: CameraPath,
    headers: HeaderMap,
    body: Sent<Rollback>,
) -> Answer<Baselines> {
    let Rollback { to, note } = sent(body)?;
    order(&api, path, &headers, Wish::Rollback { to }, note).await
}

async fn order(api: &Api, path: CameraPath, headers: &HeaderMap, wish: Wish, note: String) -> Answer<Baselines> {
    let id = camera_path(path)?;
    let order = Order { wish, author: author(api, headers), note: bounded(note)? };
    api.operators.order(&id, order).await.map_err(|error| match error {
        OperatorError::Baseline(OrderError::UnknownCamera) => unknown(&id),
        error => error.into(),
    })?;
    read(api, id).await
}

async fn read(api: &Api, id: CameraId) -> Answer<Baselines> {
    let (learning, wanted) = (api.learning, id.clone());
    let found = api
        .read(move |reader| {
            let Some(camera) = reader.camera(&wanted)? else { return Ok(None) };
            let learning = match camera.baseline_version {
                Some(_) => None,
                None => {
                    let standing = reader.camera_state(&wanted)?.and_then(|state| Standing::of(&state));
                    let window = camera.last_window.map_or(Millis(0), |window| window.length);
                    Some(Learning::of(standing.as_ref(), window, learning))
                }
            };
            let moves = reader.baseline_moves(&wanted, Page { offset: 0, limit: MOVES_SHOWN })?;
            Ok(Some(Baselines {
                camera: wanted.to_string(),
                in_force: camera.baseline_version,
                learning,
                versions: reader.baseline_versions(&wanted)?.into_iter().map(BaselineVersion::from).collect(),
                moves: moves.into_iter().map(Move::from).collect(),
            }))
        })
        .await?;
    found.map(Json).ok_or_else(|| unknown(&id))
}

fn unknown(id: &CameraId) -> Problem {
    Problem::not_found(format!("no camera {id} is known"))
}
