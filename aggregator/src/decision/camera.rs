//! One camera: learning, then watched; its evidence within an epoch; its alert.

use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::CameraId;
use driftglass_protocol::summary::Model;
use driftglass_protocol::unit::{Millis, UnixMillis};
use serde::{Deserialize, Serialize};

use super::Change;
use crate::alert::Alert;
use crate::baseline::{Baseline, Extremes, FeatureComparison, Sample};
use crate::evidence::camera::CameraEvidence;
use crate::evidence::stake::Stake;
use crate::evidence::whitening::Calibration;

/// Room made for the state of a camera before it is encoded: that of two dozen features.
const STATE_BYTES: usize = 12 << 10;

/// What of an alert decides whether it is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OpenAlert {
    pub(super) id: u64,
    /// Features that moved, with their distance when the alert was raised.
    pub(super) features: Vec<(u8, f64)>,
    /// How far the camera was from normal when it was raised, 0..=1.
    pub(super) effect: f64,
    /// Windows in a row that were as before (positive) or changed (negative).
    pub(super) streak: i32,
    /// Milliseconds of windows that were changed.
    pub(super) lasted: u64,
    pub(super) resolved: bool,
}

impl OpenAlert {
    /// An alert as it was raised.
    pub(super) fn new(alert: &Alert, effect: f64) -> Self {
        let features = alert.features.iter().map(|moved| (moved.feature, moved.distance)).collect();
        Self { id: alert.id, features, effect, streak: 0, lasted: 0, resolved: false }
    }

    /// Counts a window as quiet or loud and returns the length of the run: positive for quiet, negative for loud.
    pub(super) fn observe(&mut self, comparisons: &[FeatureComparison], length: Millis) -> i32 {
        let (mut now, mut then) = (0.0, 0.0);
        for &(number, distance) in &self.features {
            let current = comparisons.iter().find(|c| Some(c.feature) == Feature::from_number(number));
            now += current.map_or(distance, |c| c.distance);
            then += distance;
        }
        let quiet = if self.features.is_empty() {
            comparisons.iter().all(|comparison| comparison.distance - comparison.margin < 0.25)
        } else {
            now < 0.25 * then
        };
        if !quiet {
            self.lasted = self.lasted.saturating_add(u64::from(length.0));
        }
        self.streak = match (quiet, self.streak) {
            (true, streak) if streak > 0 => streak.saturating_add(1),
            (true, _) => 1,
            (false, streak) if streak < 0 => streak.saturating_sub(1),
            (false, _) => -1,
        };
        self.streak
    }
}

/// A window of one camera, read against its baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) start: UnixMillis,
    pub(super) samples: Vec<Sample>,
    /// Deviate of its repeated pictures.
    pub(super) repeats: Option<f32>,
    /// What its excursions are held against.
    pub(super) extremes: Option<Extremes>,
}

/// What the evidence that an operator ended has left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) epoch: i64,
    pub(super) stake: Stake,
}

/// An operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) author: String,
    pub(super) note: String,
}

/// Where a camera stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CameraState {
    /// Start of the first window that may go into the baseline; days before it are not asked.
    pub(super) learning_since: UnixMillis,
    /// Windows with frames seen since, while learning.
    pub(super) learning_windows: u32,
    /// Version of the baseline in force; while learning that of the one in force before, 0 where there was none.
    pub(super) baseline_version: u32,
    /// Who had it learn anew, while it does.
    pub(super) accepted: Option<Said>,
    /// Taken up by the next evidence of the same epoch.
    pub(super) left: Option<Left>,
    /// Start of the newest window seen.
    pub(super) newest: UnixMillis,
    /// How many windows the site had sent when this camera sent its newest.
    pub(super) heard: u64,
    /// Windows that wait for those of the other cameras of the site, oldest first.
    pub(super) waiting: Vec<Waiting>,
    /// Evidence of the current epoch; none while learning.
    pub(super) evidence: Option<CameraEvidence>,
    /// The model that watches it, by its newest window.
    pub(super) model: Option<Model>,
    /// The alert of this camera, if one was raised and its epoch is not over.
    pub(super) alert: Option<OpenAlert>,
    /// Alerts of groups it changed with, at most one each of its site, its model and the fleet at a time.
    pub(super) shared: Vec<OpenAlert>,
}

/// Where a camera stands, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Start of the first window that may go into the baseline.
    pub learning_since: UnixMillis,
    /// Start of the newest window seen.
    pub newest: UnixMillis,
    /// Windows with frames seen while learning.
    pub learning_windows: u32,
    /// How each feature is whitened and weighed now, by wire number; empty until the first window is judged.
    pub calibrations: Vec<(u8, Calibration)>,
}

impl Standing {
    /// From the stored state of a camera; `None` where it is not one of this release.
    #[must_use]
    pub fn of(state: &[u8]) -> Option<Self> {
        let state: CameraState = postcard::from_bytes(state).ok()?;
        let streams = state.evidence.iter().flat_map(|evidence| &evidence.streams);
        Some(Self {
            learning_since: state.learning_since,
            newest: state.newest,
            learning_windows: state.learning_windows,
            calibrations: streams.map(|stream| (stream.feature(), stream.calibration)).collect(),
        })
    }
}

/// A camera in memory: its state and the baseline it is held against.
#[derive(Debug)]
pub(super) struct Camera {
    pub(super) state: CameraState,
    pub(super) baseline: Option<Baseline>,
}

impl Camera {
    pub(super) const fn new(since: UnixMillis) -> Self {
        Self {
            state: CameraState {
                learning_since: since,
                learning_windows: 0,
                baseline_version: 0,
                accepted: None,
                left: None,
                newest: since,
                heard: 0,
                waiting: Vec::new(),
                evidence: None,
                model: None,
                alert: None,
                shared: Vec::new(),
            },
            baseline: None,
        }
    }

    /// Usual time from window to window; meaningful once there is a baseline.
    pub(super) fn cadence(&self) -> Millis {
        self.baseline.as_ref().map_or(Millis(1), Baseline::cadence)
    }
}

/// The state of a camera, to be kept. One that cannot be encoded, for want of memory, leaves the one kept before.
pub(super) fn kept(id: &CameraId, camera: &Camera) -> Option<Change> {
    let state = postcard::to_extend(&camera.state, Vec::with_capacity(STATE_BYTES)).ok()?;
    Some(Change::Camera { camera: id.clone(), state })
}
