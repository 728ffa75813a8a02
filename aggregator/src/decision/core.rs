//! The loop over windows: learn, read, wait for the site, gather, discover, name.
//!
//! The promise: of the camera alerts raised in one epoch, the expected share that is false is at most q. How it is kept: the
//! windows of a site are judged together ([`crate::evidence::site`]), and each camera gathers evidence M that under the null
//! hypothesis begins at 1 and expects never to grow; its running maximum gives the anytime p-value 1/M; and Benjamini-Hochberg
//! over all K cameras known in the epoch decides. The maximum never falls within an epoch, so the alerts raised in it are exactly
//! the discoveries at its end.
//!
//! K counts every camera ever seen, also those still learning and those that are silent: silence must not lower a threshold.
//!
//! **Cut-off.** A window of a site is judged when all its cameras have sent theirs, or at the latest when one camera is
//! [`PATIENCE`] windows ahead. A window that comes later than that is counted and stored, and is no evidence.
//!
//! Deliberately absent for now: whole-site, model and fleet causes as alerts of their own. They raise none camera by camera either
//! where a site has enough cameras to tell.

use std::collections::BTreeMap;

use driftglass_protocol::id::{CameraId, Name};
use driftglass_protocol::unit::{Millis, UnixMillis};
use thiserror::Error;

use super::camera::{Camera, CameraState, OpenAlert, Waiting};
use super::{Change, CountedWindow, History};
use crate::alert::{Alert, AlertState, HistoryEntry, MovedFeature, Scope};
use crate::baseline::{Baseline, BaselineError, FeatureBaseline, FeatureComparison, MIN_WINDOWS, Tolerances, compare};
use crate::diagnose;
use crate::evidence::fdr;
use crate::evidence::site::{self, CameraEvidence, Member, Stream};
use crate::evidence::whitening::{Calibration, LENGTHS, Pool};
use crate::ledger::Decide;

/// Windows a site's fastest camera may be ahead before the others are no longer waited for.
const PATIENCE: u64 = 2;
/// Most windows of one camera that wait; the oldest goes first.
const WAITING_MAX: usize = 4;
/// Most windows of an epoch.
const MOST_WINDOWS: u32 = 1 << 20;
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
    /// Shifts that count as none.
    pub tolerances: Tolerances,
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
    sites: BTreeMap<Name, BTreeMap<CameraId, Camera>>,
    /// What the baselines of all cameras say of each feature's memory, by wire number.
    pools: BTreeMap<u8, Pool>,
    alerts: BTreeMap<u64, Alert>,
    next_alert_id: u64,
}

impl Core {
    /// A core that knows no camera yet.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings, sites: BTreeMap::new(), pools: BTreeMap::new(), alerts: BTreeMap::new(), next_alert_id: 1 }
    }

    /// Cameras known: the hypotheses of an epoch.
    #[must_use]
    pub fn cameras(&self) -> usize {
        self.sites.values().map(BTreeMap::len).sum()
    }

    fn camera_mut(&mut self, id: &CameraId) -> Option<&mut Camera> {
        self.sites.get_mut(&id.device.site)?.get_mut(id)
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
        if let Some(baseline) = &baseline {
            pool(&mut self.pools, baseline);
        }
        self.sites.entry(camera.device.site.clone()).or_default().insert(camera, Camera { state, baseline });
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
        let site = self.sites.entry(id.device.site.clone()).or_default();
        let known = site.contains_key(id);
        let camera = site.entry(id.clone()).or_insert_with(|| Camera::new(start));
        // A window that is not newer than its camera's newest is too late to be evidence; it is counted and changes nothing here.
        if window.quality.frames == 0 || (known && start <= camera.state.newest) {
            return Ok(if known { Vec::new() } else { vec![kept(id, camera)] });
        }
        camera.state.newest = start;

        let Some(baseline) = &camera.baseline else {
            return learn(self.settings, &mut self.pools, id, camera, window, history);
        };
        let waiting = &mut camera.state.waiting;
        if waiting.len() >= WAITING_MAX {
            waiting.remove(0);
        }
        waiting.push(Waiting { start, length: window.window.length, readings: baseline.read(window) });
        let comparisons = camera.state.alert.is_some().then(|| compare(window, baseline));
        let mut changes: Vec<Change> = comparisons
            .and_then(|comparisons| self.follow(id, window.window.end(), &comparisons))
            .into_iter()
            .collect();
        changes.extend(self.gather(id, window, history)?);
        Ok(changes)
    }
}

impl Core {
    /// Judges the windows of a site that are due, and raises what is discovered.
    fn gather<H: History>(
        &mut self,
        id: &CameraId,
        window: &CountedWindow,
        history: &H,
    ) -> Result<Vec<Change>, H::Error> {
        let (mut touched, mut grown) = (false, None);
        if let Some(site) = self.sites.get_mut(&id.device.site) {
            while let Some((start, length)) = due(site) {
                touched = true;
                if judge(self.settings, &self.pools, site, start, length) {
                    grown = Some(epoch_of(self.settings, start));
                }
            }
        }
        let mut changes = Vec::new();
        if let Some(epoch) = grown {
            for discovered in self.discoveries(epoch) {
                changes.extend(self.raise(&discovered, (id, window), history)?);
            }
        }
        if let Some(site) = self.sites.get(&id.device.site) {
            let moved = site.iter().filter(|(other, camera)| *other == id || (touched && camera.baseline.is_some()));
            changes.extend(moved.map(|(id, camera)| kept(id, camera)));
        }
        Ok(changes)
    }

    /// Cameras that Benjamini-Hochberg discovers in an epoch and that have no alert yet.
    fn discoveries(&self, epoch: i64) -> Vec<CameraId> {
        let tested: Vec<(&CameraId, &Camera, f64)> = self
            .sites
            .values()
            .flatten()
            .filter_map(|(id, camera)| {
                let evidence = camera.state.evidence.as_ref().filter(|evidence| evidence.epoch == epoch)?;
                Some((id, camera, 1.0 / evidence.supremum))
            })
            .collect();
        let p: Vec<f64> = tested.iter().map(|(.., p)| *p).collect();
        let Ok(discovered) = fdr::benjamini_hochberg_of(self.cameras(), &p, self.settings.q) else {
            return Vec::new();
        };
        tested
            .into_iter()
            .zip(discovered.rejected)
            .filter(|((_, camera, _), rejected)| *rejected && camera.state.alert.is_none())
            .map(|((id, ..), _)| id.clone())
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
        let (epoch_length, cameras) = (i64::from(self.settings.epoch.0.max(1)), self.cameras());
        let Some(camera) = self.camera_mut(id) else { return Ok(Vec::new()) };
        let (Some(baseline), Some(evidence)) = (&camera.baseline, &camera.state.evidence) else {
            return Ok(Vec::new());
        };
        // A small change is seen in long blocks only, without a single window that stands out: then the longest of them.
        let span = epoch_length / i64::from(evidence.horizon.max(1));
        let onset = evidence.onset().map_or_else(
            || UnixMillis(camera.state.newest.0.saturating_sub(span * i64::from(LENGTHS[LENGTHS.len() - 1]))),
            |window| UnixMillis(evidence.epoch * epoch_length + i64::from(window) * span),
        );
        let supremum = evidence.supremum;
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
            "evidence {supremum:.0} against {cameras} cameras at q = {}: {}",
            self.settings.q, diagnosis.explanation
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
        if let Some(camera) = self.camera_mut(id) {
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
        let open = self.sites.get_mut(&id.device.site)?.get_mut(id)?.state.alert.as_mut()?;
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

/// The oldest window of a site that need not wait any longer: its start and length.
fn due(site: &BTreeMap<CameraId, Camera>) -> Option<(UnixMillis, Millis)> {
    let oldest = site.values().filter_map(|camera| camera.state.waiting.first()).min_by_key(|waiting| waiting.start)?;
    let (start, length) = (oldest.start, oldest.length);
    let patience = PATIENCE * u64::from(length.0);
    let watched = || site.values().filter(|camera| camera.baseline.is_some());
    let newest = watched().map(|camera| camera.state.newest).max()?;
    let complete = watched()
        // A camera that has been silent for longer than that is not waited for.
        .filter(|camera| camera.state.newest >= start || start.since(camera.state.newest) <= patience)
        .all(|camera| camera.state.newest >= start);
    (complete || newest.since(start) >= patience).then_some((start, length))
}

/// Takes in the windows of a site that began at `start`. Says whether a camera without an alert has gained evidence that could
/// matter.
fn judge(
    settings: Settings,
    pools: &BTreeMap<u8, Pool>,
    site: &mut BTreeMap<CameraId, Camera>,
    start: UnixMillis,
    length: Millis,
) -> bool {
    let epoch = epoch_of(settings, start);
    let horizon = (settings.epoch.0 / length.0.max(1)).clamp(1, MOST_WINDOWS);
    let since = start.0 - epoch * i64::from(settings.epoch.0.max(1));
    let window = u32::try_from(since / i64::from(length.0.max(1))).unwrap_or(0);
    let mut readings = Vec::with_capacity(site.len());
    for camera in site.values_mut() {
        let waiting = &mut camera.state.waiting;
        let due = waiting.first().is_some_and(|first| first.start == start);
        readings.push(if due { waiting.remove(0).readings } else { Vec::new() });
        let current = camera.state.evidence.as_ref().is_some_and(|e| e.epoch == epoch && e.horizon == horizon);
        if let (false, Some(baseline)) = (current, &camera.baseline) {
            let before = camera.state.evidence.take();
            let streams =
                baseline.features().iter().filter_map(|normal| stream(normal, pools, before.as_ref())).collect();
            camera.state.evidence = Some(CameraEvidence::new(epoch, horizon, streams, baseline.directions()));
            // A resolved alert belongs to the epoch it was discovered in; from now on a new discovery is needed.
            camera.state.alert.take_if(|alert| alert.resolved);
        }
    }
    let mut members = Vec::with_capacity(site.len());
    let mut before = Vec::with_capacity(site.len());
    for (camera, readings) in site.values_mut().zip(&readings) {
        if let Some(evidence) = &mut camera.state.evidence {
            before.push((evidence.supremum, camera.state.alert.is_some()));
            members.push(Member { evidence, readings });
        }
    }
    site::observe(&mut members, window);
    members.iter().zip(before).any(|(member, (before, alerted))| {
        let supremum = member.evidence.supremum;
        !alerted && supremum > before && supremum * settings.q >= 1.0
    })
}

/// A stream of the new epoch, with the calibration the fleet gives it now.
fn stream(normal: &FeatureBaseline, pools: &BTreeMap<u8, Pool>, before: Option<&CameraEvidence>) -> Option<Stream> {
    let feature = normal.feature()?;
    let number = feature.number();
    let calibration = Calibration::new(pools.get(&number)?.memory(), &normal.own());
    let before = before.and_then(|before| before.streams.iter().find(|stream| stream.feature == number));
    Some(Stream::new(number, feature.spec().axis.is_circular(), calibration, before))
}

fn epoch_of(settings: Settings, start: UnixMillis) -> i64 {
    start.0.div_euclid(i64::from(settings.epoch.0.max(1)))
}

/// Adds a baseline to what is known of the features' memory.
fn pool(pools: &mut BTreeMap<u8, Pool>, baseline: &Baseline) {
    for normal in baseline.features() {
        if let Some(feature) = normal.feature() {
            let (shares, levels) = normal.variograms();
            pools.entry(feature.number()).or_default().add(shares, levels);
        }
    }
}

/// Counts a window towards the baseline and takes the baseline when there are enough.
fn learn<H: History>(
    settings: Settings,
    pools: &mut BTreeMap<u8, Pool>,
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
        if let Ok(baseline) = Baseline::learn(&windows, MIN_WINDOWS, &settings.tolerances)
            && let Ok(bytes) = baseline.to_bytes()
        {
            state.baseline_version += 1;
            changes.push(Change::Baseline {
                camera: id.clone(),
                version: state.baseline_version,
                learned_at: window.window.end(),
                baseline: bytes,
            });
            pool(pools, &baseline);
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
