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
//! What befalls many cameras at once is found by [`super::group`], with a share of q of its own. Cameras that have no peers to be
//! compared with are a family of their own too, so that what is found among them, without that safeguard, does not lower the bar for
//! the others.

use std::collections::{BTreeMap, BTreeSet};

use driftglass_protocol::id::{CameraId, Name};
use driftglass_protocol::unit::UnixMillis;
use thiserror::Error;

use super::camera::{Camera, CameraState, Waiting, kept};
use super::group::SHARES;
use super::learning::{Order, OrderError, learn, pool};
use super::season::Places;
use super::site::{Pools, Site};
use super::target::{Judged, Target};
use super::{Change, CountedWindow, History, Settings};
use crate::alert::{Alert, AlertState, HistoryEntry, Judgement, Scope, Severity};
use crate::baseline::{Baseline, BaselineError, Beside, compare};
use crate::evidence::camera::CameraEvidence;
use crate::evidence::peers::ENOUGH_PEERS;
use crate::ledger::Decide;

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
    pub(super) places: Places,
    pub(super) sites: BTreeMap<Name, Site>,
    pools: Pools,
    pub(super) alerts: BTreeMap<u64, Alert>,
    next_alert_id: u64,
    judged: Judged,
    /// What is promised in the epoch begun last.
    target: Target,
}

impl Core {
    /// A core that knows no camera yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            places: Places::default(),
            sites: BTreeMap::new(),
            pools: BTreeMap::new(),
            alerts: BTreeMap::new(),
            next_alert_id: 1,
            judged: Judged::NONE,
            target: settings.target(0),
        }
    }

    /// The same with sites that hang somewhere.
    #[must_use]
    pub fn at(self, places: Places) -> Self {
        Self { places, ..self }
    }

    /// What is promised in the epoch begun last.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// Notes that a site was judged in an epoch.
    fn note_judged(&mut self, site: &Name, epoch: i64) {
        if self.judged.note(site, epoch) {
            self.target = self.settings.target(self.judged.sites(epoch));
        }
    }

    /// Cameras known: the hypotheses of an epoch.
    #[must_use]
    pub fn cameras(&self) -> usize {
        self.sites.values().map(|site| site.cameras().len()).sum()
    }

    pub(super) fn camera(&self, id: &CameraId) -> Option<&Camera> {
        self.sites.get(&id.device.site)?.cameras().get(id)
    }

    pub(super) fn camera_mut(&mut self, id: &CameraId) -> Option<&mut Camera> {
        self.sites.get_mut(&id.device.site)?.camera_mut(id)
    }

    pub(super) fn all_cameras(&self) -> impl Iterator<Item = (&CameraId, &Camera)> {
        self.sites.values().flat_map(Site::cameras)
    }

    pub(super) fn all_cameras_mut(&mut self) -> impl Iterator<Item = (&CameraId, &mut Camera)> {
        self.sites.values_mut().flat_map(Site::cameras_mut)
    }

    pub(super) fn alert(&self, id: u64) -> Option<&Alert> {
        self.alerts.get(&id)
    }

    /// Alerts of this camera alone that are not over.
    pub(super) fn open_alerts_of(&self, id: &CameraId) -> Vec<u64> {
        let open =
            |alert: &&Alert| alert.scope == Scope::Camera && alert.camera == *id && alert.state != AlertState::Resolved;
        self.alerts.values().filter(open).map(|alert| alert.id).collect()
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is known of the features' memory and of a site's pace, as after a restart: a baseline has gone.
    pub(super) fn take_stock(&mut self, site: &Name) {
        let mut pools = Pools::new();
        for baseline in self.all_cameras().filter_map(|(_, camera)| camera.baseline.as_ref()) {
            pool(&mut pools, baseline);
        }
        self.pools = pools;
        if let Some(site) = self.sites.get_mut(site) {
            site.pace();
        }
    }

    /// Keeps an alert that was just raised.
    pub(super) fn open(&mut self, alert: Alert) -> Change {
        self.next_alert_id = self.next_alert_id.max(alert.id.saturating_add(1));
        self.alerts.insert(alert.id, alert.clone());
        Change::Alert(Box::new(alert))
    }

    /// The number of the next alert.
    pub(super) const fn number(&self) -> u64 {
        self.next_alert_id
    }

    /// Adds to an alert what became of it.
    pub(super) fn change(&mut self, id: u64, severity: Severity, entry: HistoryEntry) -> Option<Change> {
        let alert = self.alerts.get_mut(&id)?;
        (alert.severity, alert.state) = (severity, entry.state);
        alert.history.push(entry);
        Some(Change::Alert(Box::new(alert.clone())))
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
        let judged = state.evidence.as_ref().map(|evidence| evidence.epoch);
        if let Some(epoch) = judged.or(state.left.map(|left| left.epoch)) {
            self.note_judged(&camera.device.site, epoch);
        }
        let site = self.sites.entry(camera.device.site.clone()).or_insert_with(|| Site::new(self.settings.epoch));
        site.restore(camera, Camera { state, baseline });
        Ok(())
    }

    fn restore_alert(&mut self, alert: Alert) {
        self.next_alert_id = self.next_alert_id.max(alert.id.saturating_add(1));
        self.alerts.insert(alert.id, alert);
    }

    fn set_next_alert_id(&mut self, id: u64) {
        self.next_alert_id = self.next_alert_id.max(id);
    }

    fn judge(&mut self, id: u64, judgement: &Judgement, now: UnixMillis) -> Vec<Change> {
        let Some(alert) = self.alerts.get_mut(&id) else { return Vec::new() };
        alert.judge(judgement, now);
        let (alert, over) = (alert.clone(), alert.state == AlertState::Resolved);
        let mut changes = Vec::new();
        if let Some(camera) = self.camera_mut(&alert.camera)
            && let Some(open) = camera.state.alert.as_mut().filter(|open| open.id == id)
        {
            open.resolved = over;
            changes.extend(kept(&alert.camera, camera));
        }
        if alert.group.is_some() {
            let noted = self.resolve(id, over);
            changes.extend(noted.iter().filter_map(|id| kept(id, self.camera(id)?)));
        }
        changes.push(Change::Alert(Box::new(alert)));
        changes
    }

    fn order<H: History>(
        &mut self,
        camera: &CameraId,
        order: &Order,
        now: UnixMillis,
        history: &H,
    ) -> Result<Result<Vec<Change>, OrderError>, H::Error> {
        self.obey(camera, order, now, history)
    }

    fn observe<H: History>(
        &mut self,
        id: &CameraId,
        window: &CountedWindow,
        history: &H,
    ) -> Result<Vec<Change>, H::Error> {
        let start = window.window.start;
        let site = self.sites.entry(id.device.site.clone()).or_insert_with(|| Site::new(self.settings.epoch));
        let (camera, known) = site.enter(id, start);
        // A window that is not newer than its camera's newest is too late to be evidence; it is counted and changes nothing here.
        if window.quality.frames == 0 || (known && start <= camera.state.newest) {
            return Ok(if known { Vec::new() } else { unlearned(id).chain(kept(id, camera)).collect() });
        }
        let newest = std::mem::replace(&mut camera.state.newest, start);
        camera.state.model.clone_from(&window.model);

        let Some(baseline) = &camera.baseline else {
            let mut changes = learn(self.settings, &mut self.pools, id, camera, window, history)?;
            if camera.baseline.is_some() {
                site.pace();
            }
            if !known {
                changes.splice(0..0, unlearned(id));
            }
            return Ok(changes);
        };
        let Beside { samples, repeats, extremes } = baseline.read(window);
        let read = Waiting { start, samples, repeats, extremes };
        let followed = camera.state.alert.is_some() || !camera.state.shared.is_empty();
        let comparisons = followed.then(|| compare(window, baseline));
        let (mut changes, mut touched) = (Vec::new(), BTreeSet::new());
        if site.resumes() {
            changes.extend(self.gather((id, window), history, &mut touched)?);
        }
        // What is kept of a camera is how it waits for its peers; judging that again after a restart comes to the same. Only where judging
        // led to an alert must those that were judged be kept as they are after it.
        let waits = self.sites.get_mut(&id.device.site).and_then(|site| site.wait(id, newest, read));
        if let Some(comparisons) = comparisons {
            self.let_be_if_usual(id, window, history)?;
            changes.extend(self.follow(id, window.window, &comparisons));
            changes.extend(self.follow_groups(id, window.window, &comparisons, &mut touched));
            changes.extend(self.camera(id).and_then(|camera| kept(id, camera)));
        } else {
            changes.extend(waits.and_then(|camera| kept(id, camera)));
        }
        changes.extend(self.gather((id, window), history, &mut touched)?);
        changes.extend(touched.iter().filter_map(|id| kept(id, self.camera(id)?)));
        Ok(changes)
    }
}

impl Core {
    /// Judges the turns of a site that are due, and raises what is discovered. `newest` is the window just observed, which the history
    /// does not have yet; cameras whose state changed go into `touched`.
    fn gather<H: History>(
        &mut self,
        newest: (&CameraId, &CountedWindow),
        history: &H,
        touched: &mut BTreeSet<CameraId>,
    ) -> Result<Vec<Change>, H::Error> {
        let (mut grown, mut together, mut seen) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut judged_in = BTreeSet::new();
        if let Some(site) = self.sites.get_mut(&newest.0.device.site) {
            while let Some(judged) = site.judge(self.settings.q, &self.pools) {
                seen.extend(judged.cameras);
                judged_in.insert(judged.turn.epoch);
                if judged.grown {
                    grown.insert(judged.turn.epoch);
                }
                if judged.together {
                    together.insert(judged.turn.epoch);
                }
            }
        }
        for epoch in judged_in {
            self.note_judged(&newest.0.device.site, epoch);
        }
        let mut changes = Vec::new();
        for epoch in grown {
            for discovered in self.unusual(epoch, newest, history, touched)? {
                changes.extend(self.raise(&discovered, newest, history)?);
                touched.insert(discovered);
            }
        }
        for epoch in together {
            changes.extend(self.raise_groups(epoch, newest, history, touched)?);
        }
        if let Some(site) = self.sites.get(&newest.0.device.site).filter(|_| !touched.is_empty()) {
            let cameras: Vec<&CameraId> = site.cameras().keys().collect();
            touched.extend(seen.into_iter().filter_map(|place: usize| cameras.get(place).copied().cloned()));
        }
        Ok(changes)
    }

    /// Expected share of false alerts among those of an epoch, over all families.
    pub(super) fn q_in(&self, epoch: i64) -> f64 {
        self.settings.target(self.judged.sites(epoch)).q
    }

    /// What is discovered in an epoch, without the cameras that look as they usually do at this time; those go into `touched`.
    fn unusual<H: History>(
        &mut self,
        epoch: i64,
        newest: (&CameraId, &CountedWindow),
        history: &H,
        touched: &mut BTreeSet<CameraId>,
    ) -> Result<Vec<CameraId>, H::Error> {
        let mut asked = BTreeSet::new();
        loop {
            let discovered = self.discoveries(epoch);
            let mut forgiven = false;
            for id in &discovered {
                if asked.insert(id.clone()) && self.looks_as_usual(id, newest, history)? {
                    let evidence = self.camera_mut(id).and_then(|camera| camera.state.evidence.as_mut());
                    evidence.into_iter().for_each(CameraEvidence::forgive);
                    touched.insert(id.clone());
                    forgiven = true;
                }
            }
            // Without those the bar is another one for the rest.
            if !forgiven {
                return Ok(discovered);
            }
        }
    }

    /// Cameras that are discovered in an epoch and that have no alert yet.
    fn discoveries(&self, epoch: i64) -> Vec<CameraId> {
        let (with_peers, alone): (Vec<&Site>, Vec<&Site>) =
            self.sites.values().partition(|site| site.cameras().len() >= ENOUGH_PEERS);
        let cameras = self.cameras().max(1) as f64;
        [with_peers, alone]
            .into_iter()
            .flat_map(|family| {
                let size: usize = family.iter().map(|site| site.cameras().len()).sum();
                self.discoveries_of(&family, epoch, SHARES.cameras * self.q_in(epoch) * size as f64 / cameras)
            })
            .collect()
    }

    /// Cameras of a family that Benjamini-Hochberg discovers at level `q`.
    fn discoveries_of(&self, family: &[&Site], epoch: i64, q: f64) -> Vec<CameraId> {
        let tested: Vec<(&CameraId, &Camera, f64)> = family
            .iter()
            .flat_map(|site| site.cameras())
            .filter_map(|(id, camera)| {
                let evidence = camera.state.evidence.as_ref().filter(|evidence| evidence.epoch == epoch)?;
                Some((id, camera, evidence.supremum))
            })
            .collect();
        let size = family.iter().map(|site| site.cameras().len()).sum();
        let suprema: Vec<f64> = tested.iter().map(|(.., supremum)| *supremum).collect();
        let Ok(discovered) = self.settings.dependence.discoveries(size, &suprema, q) else {
            return Vec::new();
        };
        tested
            .into_iter()
            .zip(discovered.rejected)
            .filter(|((_, camera, _), rejected)| *rejected && camera.state.alert.is_none())
            .map(|((id, ..), _)| id.clone())
            .collect()
    }
}

/// That a camera which nobody knew has no baseline in force: it may be one whose state could not be taken up again.
fn unlearned(id: &CameraId) -> impl Iterator<Item = Change> {
    std::iter::once(Change::InForce { camera: id.clone(), version: None })
}
