//! Alerts: what an operator is told, and what became of it.
//!
//! These are the values the core decides on and the store keeps; the HTTP interface has types of its own that are made from them.

mod cause;
pub mod severity;

pub use cause::Cause;

use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::UnixMillis;
use serde::{Deserialize, Serialize};

/// How bad it is. Thresholds: [`severity`](mod@severity).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Visible in the numbers, harmless for most uses.
    Low,
    /// The picture or the model's answers have changed noticeably.
    Medium,
    /// The camera can no longer be relied upon.
    High,
    /// The camera shows nothing of use.
    Critical,
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertState {
    /// Evidence is gathering; nobody is told yet.
    Pending,
    /// Raised under the false-discovery promise.
    Alerting,
    /// An operator says that it is real.
    Confirmed,
    /// An operator has named the cause.
    RootCaused,
    /// Over: the camera is as before, or an operator closed it.
    Resolved,
}

/// What an alert speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One camera.
    Camera,
    /// A whole site at once.
    Site,
    /// Every camera with one model version.
    Model,
    /// The whole fleet.
    Fleet,
}

/// A feature that moved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MovedFeature {
    /// Wire number of the feature.
    pub feature: u8,
    /// Share of the distribution that lies outside the baseline's tolerance, 0..1.
    pub distance: f64,
    /// Change of the mean, in the feature's unit.
    pub shift: f64,
}

impl MovedFeature {
    /// The feature, where the catalogue knows it.
    #[must_use]
    pub fn feature(&self) -> Option<Feature> {
        Feature::from_number(self.feature)
    }
}

/// One line of an alert's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When, in the time of the windows that led to it, or of the operator's move.
    pub at: UnixMillis,
    /// The state from then on.
    pub state: AlertState,
    /// `driftglass`, or the operator's name.
    pub author: String,
    /// Why.
    pub note: String,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Number within this aggregator, from 1.
    pub id: u64,
    /// The camera.
    pub camera: CameraId,
    /// What it speaks of.
    pub scope: Scope,
    /// The fault it looks like.
    pub cause: Cause,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub state: AlertState,
    /// Start of the first window in which the change is visible.
    pub first_window: UnixMillis,
    /// End of the window that completed the evidence.
    pub raised_at: UnixMillis,
    /// What moved, strongest first.
    pub features: Vec<MovedFeature>,
    /// Every change of state, oldest first.
    pub history: Vec<HistoryEntry>,
}
