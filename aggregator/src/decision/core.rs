//! The loop over windows: learn, compare, gather, discover, name.
//!
//! The promise: of the camera alerts raised in one epoch, the expected share that is false is at most q. How it is kept:
//! each window gives a p-value per feature; each feature an e-process over the epoch; each camera the mean of its e-processes;
//! its running maximum M the anytime p-value 1/M; and Benjamini-Hochberg over all K cameras known in the epoch decides. M never
//! falls within an epoch, so the alerts raised in it are exactly the discoveries at its end.
//!
//! K counts every camera ever seen, also those still learning and those that are silent: silence must not lower a threshold.
//!
//! Deliberately absent for now: peers and whole-site causes, so weather that hits a site is alerted camera by camera.

use std::collections::BTreeMap;

use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::{Millis, UnixMillis};
use thiserror::Error;

use super::camera::{Camera, CameraState, Evidence, OpenAlert};
use super::{Change, CountedWindow, History};
use crate::alert::{Alert, AlertState, HistoryEntry, MovedFeature, Scope};
use crate::baseline::{Baseline, BaselineError, FeatureComparison, MIN_WINDOWS, compare};
use crate::diagnose;
use crate::evidence::fdr;
use crate::ledger::Decide;

/// Most windows a baseline is taken from: a day of minutes.
const LEARNING_WINDOWS_MAX: usize = 1_500;
/// Most windows since the change that are pooled to name the fault.
const DIAGNOSIS_WINDOWS_MAX: usize = 32;
/// Windows in a row as before until an alert is resolved, or changed until a resolved one is open again.
const STREAK: i32 = 10;

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Expected share of false alerts among those of an epoch, above 0 and at most 0.5.
    pub q: f64,
    /// Length of an epoch.
    pub epoch: Millis,
    /// How long a camera is watched before it has a baseline; never fewer than [`MIN_WINDOWS`] windows.
    pub learning: Millis,
}

/// Why stored state cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// A camera's state does not decode.
    #[error("the stored state of camera {camera} does not decode: {error}")]
    Camera {
        /// The camera.
        camera: Box<CameraId>,
        /// What the decoder said.
        error: postcard::Error,
    },
    /// A baseline does not decode.
    #[error("camera {camera}: {error}")]
    Baseline {
        /// The camera.
        camera: Box<CameraId>,
        /// What the decoder said.
        error: BaselineError,
    },
}

/// The decision core.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    cameras: BTreeMap<CameraId, Camera>,
    alerts: BTreeMap<u64, Alert>,
    next_alert_id: u64,
}

impl Core {
    /// A core that knows no camera yet.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings, cameras: BTreeMap::new(), alerts: BTreeMap::new(), next_alert_id: 1 }
    }
}

impl Decide for Core {
    type StateError = StateError;

    fn restore(&mut self, camera: CameraId, state: &[u8], baseline: Option<(u32, &[u8])>) -> Result<(), StateError> {
        let state: CameraState = postcard::from_bytes(state)
            .map_err(|error| StateError::Camera { camera: Box::new(camera.clone()), error })?;
        let baseline = match baseline {
            Some((_, bytes)) => Some(
                Baseline::from_bytes(bytes)
                    .map_err(|error| StateError::Baseline { camera: Box::new(camera.clone()), error })?,
            ),
            None => None,
        };
        self.cameras.insert(camera, Camera { state, baseline });
        Ok(())
    }

    fn restore_alert(&mut self, alert: Alert) {
        self.next_alert_id = self.next_alert_id.max(alert.id.saturating_add(1));
        self.alerts.insert(alert.id, alert);
    }

    fn set_next_alert_id(&mut self, id: u64) {
        self.next_alert_id = self.next_alert_id.max(id);
    }

    fn observe<H: History>(
        &mut self,
        id: &CameraId,
        window: &CountedWindow,
        history: &H,
    ) -> Result<Vec<Change>, H::Error> {
        let start = window.window.start;
        let known = self.cameras.contains_key(id);
        let camera = self.cameras.entry(id.clone()).or_insert_with(|| Camera::new(start));
        // A window that is not newer than its camera's newest is too late to be evidence; it is counted and changes nothing here.
        if window.quality.frames == 0 || (known && start <= camera.state.newest) {
            return Ok(if known { Vec::new() } else { vec![kept(id, camera)] });
        }
        camera.state.newest = start;

        let Some(baseline) = &camera.baseline else {
            return learn(self.settings, id, camera, window, history);
        };
        let comparisons = compare(window, baseline);
        let mut changes = self.gather(id, window, &comparisons, history)?;
        if let Some(camera) = self.cameras.get(id) {
            changes.push(kept(id, camera));
        }
        Ok(changes)
    }
}

impl Core {
    /// Adds a window to the evidence and moves alerts.
    fn gather<H: History>(
        &mut self,
        id: &CameraId,
        window: &CountedWindow,
        comparisons: &[FeatureComparison],
        history: &H,
    ) -> Result<Vec<Change>, H::Error> {
        let mut changes = Vec::new();
        let (start, end) = (window.window.start, window.window.end());
        let epoch = start.0.div_euclid(i64::from(self.settings.epoch.0.max(1)));
        let horizon = (self.settings.epoch.0 / window.window.length.0.max(1)).max(1);
        let Some(camera) = self.cameras.get_mut(id) else { return Ok(changes) };
        if camera.state.evidence.epoch != epoch {
            camera.state.evidence = Evidence::new(epoch);
            // A resolved alert belongs to the epoch it was discovered in; from now on a new discovery is needed.
            camera.state.alert.take_if(|alert| alert.resolved);
        }
        let before = camera.state.evidence.supremum().value();
        camera.state.evidence.observe(comparisons, start, horizon);
        let evidence = camera.state.evidence.supremum().value();

        if camera.state.alert.is_some() {
            changes.extend(self.follow(id, end, comparisons));
        } else if evidence > before && evidence * self.settings.q >= 1.0 {
            for discovered in self.discoveries(epoch) {
                changes.extend(self.raise(&discovered, (id, window), history)?);
            }
        }
        Ok(changes)
    }

    /// Cameras that Benjamini-Hochberg discovers in an epoch and that have no alert yet.
    fn discoveries(&self, epoch: i64) -> Vec<CameraId> {
        let tested: Vec<(&CameraId, &Camera)> =
            self.cameras.iter().filter(|(_, camera)| camera.state.evidence.epoch == epoch).collect();
        let p: Vec<f64> = tested.iter().map(|(_, camera)| camera.state.evidence.supremum().anytime_p()).collect();
        let Ok(discovered) = fdr::benjamini_hochberg_of(self.cameras.len(), &p, self.settings.q) else {
            return Vec::new();
        };
        tested
            .into_iter()
            .zip(discovered.rejected)
            .filter(|((_, camera), rejected)| *rejected && camera.state.alert.is_none())
            .map(|((id, _), _)| id.clone())
            .collect()
    }

    /// Names the fault and opens an alert. `newest` is the window just observed, which the history does not have yet.
    fn raise<H: History>(
        &mut self,
        id: &CameraId,
        newest: (&CameraId, &CountedWindow),
        history: &H,
    ) -> Result<Vec<Change>, H::Error> {
        let at = newest.1.window.end();
        let Some(camera) = self.cameras.get_mut(id) else { return Ok(Vec::new()) };
        let (Some(baseline), Some(onset)) = (&camera.baseline, camera.state.evidence.onset()) else {
            return Ok(Vec::new());
        };
        let mut windows = history.windows(id, onset, DIAGNOSIS_WINDOWS_MAX)?;
        if newest.0 == id {
            windows.push(newest.1.clone());
        }
        let Some(pooled) = CountedWindow::sum(windows) else { return Ok(Vec::new()) };
        let first_window = pooled.window.start;
        let diagnosis = diagnose::diagnose(&compare(&pooled, baseline));

        let number = self.next_alert_id;
        self.next_alert_id = number.saturating_add(1);
        let note = format!(
            "evidence {:.0} against {} cameras at q = {}: {}",
            camera.state.evidence.supremum().value(),
            self.cameras.len(),
            self.settings.q,
            diagnosis.explanation
        );
        let alert = Alert {
            id: number,
            camera: id.clone(),
            scope: Scope::Camera,
            cause: diagnosis.cause,
            severity: diagnosis.severity,
            state: AlertState::Alerting,
            first_window,
            raised_at: at,
            features: diagnosis.features,
            history: vec![entry(at, AlertState::Alerting, note)],
        };
        let mut changes = Vec::new();
        if let Some(camera) = self.cameras.get_mut(id) {
            let features = alert.features.iter().map(|moved: &MovedFeature| (moved.feature, moved.distance)).collect();
            camera.state.alert = Some(OpenAlert { id: number, features, streak: 0, resolved: false });
            changes.push(kept(id, camera));
        }
        self.alerts.insert(number, alert.clone());
        changes.push(Change::Alert(alert));
        Ok(changes)
    }

    /// Resolves an alert whose camera is as before, and opens it again when the change is back within the same epoch.
    fn follow(&mut self, id: &CameraId, at: UnixMillis, comparisons: &[FeatureComparison]) -> Option<Change> {
        let open = self.cameras.get_mut(id)?.state.alert.as_mut()?;
        let streak = open.observe(comparisons);
        let (state, note) = if !open.resolved && streak == STREAK {
            (AlertState::Resolved, format!("as before for {STREAK} windows"))
        } else if open.resolved && streak == -STREAK {
            (AlertState::Alerting, format!("changed again for {STREAK} windows"))
        } else {
            return None;
        };
        let alert = self.alerts.get_mut(&open.id)?;
        open.resolved = state == AlertState::Resolved;
        alert.state = state;
        alert.history.push(entry(at, state, note));
        Some(Change::Alert(alert.clone()))
    }
}

/// Counts a window towards the baseline and takes the baseline when there are enough.
fn learn<H: History>(
    settings: Settings,
    id: &CameraId,
    camera: &mut Camera,
    window: &CountedWindow,
    history: &H,
) -> Result<Vec<Change>, H::Error> {
    let state = &mut camera.state;
    state.learning_windows = state.learning_windows.saturating_add(1);
    let mut changes = Vec::new();
    let long_enough = window.window.end().since(state.learning_since) >= u64::from(settings.learning.0);
    if long_enough && state.learning_windows as usize >= MIN_WINDOWS {
        let mut windows = history.windows(id, state.learning_since, LEARNING_WINDOWS_MAX)?;
        windows.push(window.clone());
        if let Ok(baseline) = Baseline::learn(&windows, MIN_WINDOWS)
            && let Ok(bytes) = baseline.to_bytes()
        {
            state.baseline_version += 1;
            changes.push(Change::Baseline {
                camera: id.clone(),
                version: state.baseline_version,
                learned_at: window.window.end(),
                baseline: bytes,
            });
            camera.baseline = Some(baseline);
        }
    }
    changes.push(kept(id, camera));
    Ok(changes)
}

fn kept(id: &CameraId, camera: &Camera) -> Change {
    Change::Camera { camera: id.clone(), state: postcard::to_stdvec(&camera.state).unwrap_or_default() }
}

fn entry(at: UnixMillis, state: AlertState, note: String) -> HistoryEntry {
    HistoryEntry { at, state, author: String::from("driftglass"), note }
}
