//! What a camera would show within the hour, and, while it learns, how long it still does.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::Millis;
use serde::Serialize;

use super::Problem;
use super::drift::decode;
use super::rest::{Answer, CameraPath, Shared, camera_path};
use super::types::rfc3339;
use crate::alert::Cause;
use crate::baseline::{Baseline, MIN_WINDOWS, Tolerances};
use crate::decision::Standing;
use crate::evidence::detectability::Reach;
use crate::foresight::{Circumstances, Foresight, Unseen, foresee};
use crate::store::StoreError;
use crate::store::embedded::{Page, Reader};

/// Windows that a camera which still learns is judged by.
const PREVIEW_WINDOWS: u32 = 240;
/// Most cameras of a site that are counted: more peers than needed change nothing.
const PEERS_COUNTED: u32 = 16;

/// What a camera would show.
#[derive(Debug, Serialize)]
pub(super) struct Detectability {
    /// `site/device/camera`.
    camera: String,
    /// How it learns; null once it has a baseline.
    learning: Option<Learning>,
    /// Whether the figures below hold now; false where they are what it will see once it has learned, as far as that can be told.
    in_force: bool,
    /// The time a change is given to be found.
    within_seconds: Option<f64>,
    /// Smallest shifts that would be found; empty where too little is known.
    features: Vec<FeatureReach>,
    /// Faults that would not be seen.
    unseen: Vec<UnseenFault>,
}

/// A camera without a baseline.
#[derive(Debug, Serialize)]
pub(super) struct Learning {
    /// Since when it has learned.
    since: Option<String>,
    /// Windows with frames since then.
    windows: u32,
    /// Windows still needed at least.
    windows_missing: u32,
    /// Time still to be covered; 0 where only windows are missing.
    remaining_seconds: f64,
}

/// One feature.
#[derive(Debug, Serialize)]
struct FeatureReach {
    name: &'static str,
    unit: &'static str,
    /// Smallest rise that would be found; null where not even the largest would.
    up: Option<f64>,
    /// Smallest fall.
    down: Option<f64>,
}

/// A fault that would not be seen.
#[derive(Debug, Serialize)]
struct UnseenFault {
    cause: Cause,
    /// A sentence.
    because: String,
}

impl From<Unseen> for UnseenFault {
    fn from(unseen: Unseen) -> Self {
        Self { cause: unseen.cause, because: unseen.sentence() }
    }
}

impl Learning {
    /// `None` for a camera whose state cannot be read: it begins afresh with its next window.
    #[expect(clippy::cast_precision_loss, reason = "a stretch of time, for display")]
    pub(super) fn of(standing: Option<&Standing>, window: Millis, learning: Duration) -> Self {
        let least = u32::try_from(MIN_WINDOWS).unwrap_or(u32::MAX);
        let Some(Standing { learning_since, newest, learning_windows, .. }) = standing else {
            let remaining_seconds = learning.as_secs_f64();
            return Self { since: None, windows: 0, windows_missing: least, remaining_seconds };
        };
        let covered = newest.since(*learning_since).saturating_add(u64::from(window.0));
        let missing = u64::try_from(learning.as_millis()).unwrap_or(u64::MAX).saturating_sub(covered);
        Self {
            since: rfc3339(*learning_since),
            windows: *learning_windows,
            windows_missing: least.saturating_sub(*learning_windows),
            remaining_seconds: missing as f64 / 1000.0,
        }
    }
}

impl Detectability {
    fn new(camera: &CameraId, learning: Option<Learning>, foresight: Option<Foresight>) -> Self {
        let shift = |reach: Reach| match reach {
            Reach::Shift(shift) => Some(shift),
            Reach::Undetectable => None,
        };
        let unseen = foresight.as_ref().map(Foresight::unseen).unwrap_or_default();
        let features = foresight.iter().flat_map(|foresight| &foresight.features);
        Self {
            camera: camera.to_string(),
            in_force: learning.is_none() && foresight.is_some(),
            learning,
            within_seconds: foresight.as_ref().map(|foresight| f64::from(foresight.within.0) / 1000.0),
            features: features
                .map(|reach| FeatureReach {
                    name: reach.feature.name(),
                    unit: reach.feature.spec().unit,
                    up: shift(reach.smallest.up),
                    down: shift(reach.smallest.down),
                })
                .collect(),
            unseen: unseen.into_iter().map(UnseenFault::from).collect(),
        }
    }
}

pub(super) async fn show(State(api): Shared, path: CameraPath) -> Answer<Detectability> {
    let id = camera_path(path)?;
    let (target, learning) = (api.metrics.promised(), api.learning);
    let wanted = id.clone();
    let found = api
        .read(move |reader| {
            let Some(camera) = reader.camera(&wanted)? else { return Ok(None) };
            let at_site = reader.cameras(Some(&wanted.device.site), Page { offset: 0, limit: PEERS_COUNTED })?.len();
            let circumstances = Circumstances {
                cameras: reader.totals()?.cameras,
                q: target.q,
                epoch: target.epoch,
                at_site: u64::try_from(at_site).unwrap_or(u64::MAX),
            };
            let standing = reader.camera_state(&wanted)?.and_then(|state| Standing::of(&state));
            if let Some((_, baseline)) = reader.baseline(&wanted)? {
                let calibrations = standing.map(|standing| standing.calibrations).unwrap_or_default();
                let foresight = foresee(&decode(&baseline)?, &calibrations, &circumstances);
                return Ok(Some(Detectability::new(&wanted, None, Some(foresight))));
            }
            let window = camera.last_window.map_or(Millis(0), |window| window.length);
            let learning = Learning::of(standing.as_ref(), window, learning);
            let foresight = preview(reader, &wanted, &circumstances)?;
            Ok(Some(Detectability::new(&wanted, Some(learning), foresight)))
        })
        .await?;
    found.map(Json).ok_or_else(|| Problem::not_found(format!("no camera {id} is known")))
}

/// What a camera would see if it began now, from the newest of what it has learned so far; `None` where that is too little.
fn preview(reader: &Reader, id: &CameraId, circumstances: &Circumstances) -> Result<Option<Foresight>, StoreError> {
    let mut windows = reader.newest_windows(id, PREVIEW_WINDOWS)?;
    windows.reverse();
    let baseline = Baseline::learn(&windows, MIN_WINDOWS, &Tolerances::CATALOGUE).ok();
    Ok(baseline.map(|baseline| foresee(&baseline, &[], circumstances)))
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::unit::UnixMillis;

    use super::*;

    #[test]
    fn a_camera_that_learns_says_how_long_it_still_does() {
        let standing = |windows, newest| Standing {
            learning_since: UnixMillis(0),
            newest: UnixMillis(newest),
            learning_windows: windows,
            calibrations: Vec::new(),
        };
        let day = Duration::from_secs(86_400);
        let learning = |standing: Option<&Standing>| {
            let learning = Learning::of(standing, Millis(60_000), day);
            (learning.windows, learning.windows_missing, learning.remaining_seconds)
        };
        assert_eq!(learning(Some(&standing(60, 59 * 60_000))), (60, 0, 82_800.0), "an hour of twenty-four");
        assert_eq!(learning(Some(&standing(2, 23 * 3_600_000 + 59 * 60_000))), (2, 28, 0.0), "a camera that slept");
        assert_eq!(learning(Some(&standing(40, 90_000_000))), (40, 0, 0.0));
        assert_eq!(learning(None), (0, 30, 86_400.0));
    }
}
