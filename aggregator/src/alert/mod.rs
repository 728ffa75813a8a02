//! Alerts: what an operator is told, and what became of it.
//!
//! These are the values the core decides on and the store keeps; the HTTP interface has types of its own that are made from them.

mod cause;
pub mod severity;

pub use cause::Cause;

use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::CameraId;
use driftglass_protocol::summary::Model;
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

/// What changed together, where an alert speaks of more than one camera.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Cameras that had changed when it was raised.
    pub changed: u32,
    /// Cameras of the group.
    pub cameras: u32,
    /// The model that watches them, where it is that what changed.
    pub model: Option<Model>,
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
    /// The camera; of a group the one that changed most.
    pub camera: CameraId,
    /// What it speaks of.
    pub scope: Scope,
    /// The group, where it is not a single camera.
    #[serde(default)]
    pub group: Option<Group>,
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

impl Alert {
    /// What an operator should do first.
    #[must_use]
    pub const fn recommended_action(&self) -> &'static str {
        match self.scope {
            Scope::Camera => self.cause.recommended_action(),
            Scope::Site => {
                "Most cameras of this site changed at once: look for one cause (light, power, weather, network, a rebuilt room) before any camera."
            }
            Scope::Model => {
                "Most cameras under this model version changed their answers: compare with the version before; roll back, or accept it as normal."
            }
            Scope::Fleet => {
                "Most sites changed at once: look for what they share (a roll-out, settings, the network) before any site."
            }
        }
    }

    /// What it speaks of, for people: `store-2/gw-1/door`, `site store-2 (7 of 8 cameras)`.
    #[must_use]
    pub fn subject(&self) -> String {
        let cameras = self
            .group
            .as_ref()
            .map_or_else(String::new, |group| format!(" ({} of {} cameras)", group.changed, group.cameras));
        match self.scope {
            Scope::Camera => self.camera.to_string(),
            Scope::Site => format!("site {}{cameras}", self.camera.device.site),
            Scope::Model => match self.group.as_ref().and_then(|group| group.model.as_ref()) {
                Some(Model { name, version }) => format!("model {name} {version}{cameras}"),
                None => format!("a model{cameras}"),
            },
            Scope::Fleet => format!("the fleet{cameras}"),
        }
    }
}
