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

use crate::evidence::effect_size::EffectSizes;

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
    /// How large the difference is; none where it could not be measured, and in alerts of earlier releases.
    #[serde(default)]
    pub effect: Option<EffectSize>,
}

/// How large a difference is beyond what chance alone would show: for people, never a test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EffectSize {
    /// Population stability index.
    pub psi: f64,
    /// Jensen-Shannon divergence in nats, at most ln 2.
    pub jensen_shannon: f64,
    /// Wasserstein's first distance, in the feature's unit.
    pub wasserstein: f64,
}

impl From<EffectSizes> for EffectSize {
    fn from(sizes: EffectSizes) -> Self {
        Self {
            psi: sizes.psi.beyond_chance(),
            jensen_shannon: sizes.jensen_shannon.beyond_chance(),
            wasserstein: sizes.wasserstein.beyond_chance(),
        }
    }
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

/// What an operator found when he looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The camera had changed.
    Right,
    /// It had not, or not so that anybody would want to know.
    False,
}

/// An operator's verdict on an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What he found.
    pub verdict: Verdict,
    /// Who.
    pub author: String,
    /// What he says of it; may be empty.
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
    /// Whether a single camera's may as well be its whole site's: there are too few cameras to tell.
    #[serde(default)]
    pub unattributed: bool,
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
    /// What an operator found; none where nobody has said.
    #[serde(default)]
    pub verdict: Option<Verdict>,
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
            Scope::Camera if self.unattributed => format!("{} or its whole site", self.camera),
            Scope::Camera => self.camera.to_string(),
            Scope::Site => format!("site {}{cameras}", self.camera.device.site),
            Scope::Model => match self.group.as_ref().and_then(|group| group.model.as_ref()) {
                Some(Model { name, version }) => format!("model {name} {version}{cameras}"),
                None => format!("a model{cameras}"),
            },
            Scope::Fleet => format!("the fleet{cameras}"),
        }
    }

    /// Takes an operator's verdict: a false alert is over, a right one is confirmed unless it is over. The newest verdict counts.
    pub fn judge(&mut self, judgement: &Judgement, at: UnixMillis) {
        let said = match judgement.verdict {
            Verdict::Right => "confirmed",
            Verdict::False => "a false alert",
        };
        self.state = match (judgement.verdict, self.state) {
            (Verdict::False, _) => AlertState::Resolved,
            (Verdict::Right, AlertState::Pending | AlertState::Alerting) => AlertState::Confirmed,
            (Verdict::Right, state) => state,
        };
        self.verdict = Some(judgement.verdict);
        let note = if judgement.note.is_empty() { said.to_owned() } else { format!("{said}: {}", judgement.note) };
        let entry = HistoryEntry { at, state: self.state, author: judgement.author.clone(), note };
        // Whoever judges again and again replaces what he said before.
        match self.history.last_mut().filter(|last| last.author == entry.author && last.state == entry.state) {
            Some(last) => *last = entry,
            None => self.history.push(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::fixture::{alert, camera, device};

    fn judged(state: AlertState, verdicts: &[Verdict]) -> Alert {
        let mut alert = alert(1, &camera(&device("gw"), "door"), state, UnixMillis(5));
        for &verdict in verdicts {
            let judgement = Judgement { verdict, author: "jo".into(), note: "a spider".into() };
            alert.judge(&judgement, UnixMillis(9));
        }
        alert
    }

    #[test]
    fn a_right_alert_is_confirmed_and_a_false_one_is_over() {
        use AlertState::{Alerting, Confirmed, Resolved, RootCaused};
        for (before, verdict, after) in [
            (Alerting, Verdict::Right, Confirmed),
            (RootCaused, Verdict::Right, RootCaused),
            (Resolved, Verdict::Right, Resolved),
            (Alerting, Verdict::False, Resolved),
            (Confirmed, Verdict::False, Resolved),
        ] {
            let alert = judged(before, &[verdict]);
            assert_eq!((alert.state, alert.verdict), (after, Some(verdict)), "{before:?}");
            let last = alert.history.last().expect("an entry");
            assert_eq!((last.author.as_str(), last.at, last.state), ("jo", UnixMillis(9), after));
        }
        let note = judged(Alerting, &[Verdict::False]).history.pop().expect("an entry").note;
        assert_eq!(note, "a false alert: a spider");
    }

    #[test]
    fn the_newest_verdict_counts_and_a_thousand_of_them_do_not_fill_the_history() {
        let mut verdicts = vec![Verdict::False; 1000];
        verdicts.push(Verdict::Right);
        let alert = judged(AlertState::Alerting, &verdicts);
        assert_eq!(alert.verdict, Some(Verdict::Right));
        assert_eq!(alert.history.len(), 2, "{:?}", alert.history);
    }

    #[test]
    fn an_alert_stored_before_there_were_verdicts_has_none() {
        let mut json = serde_json::to_value(judged(AlertState::Alerting, &[])).expect("json");
        json.as_object_mut().expect("an object").remove("verdict");
        assert_eq!(serde_json::from_value::<Alert>(json).expect("reads").verdict, None);
    }
}
