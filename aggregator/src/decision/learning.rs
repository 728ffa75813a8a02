//! How a camera comes by its baseline: by itself, after its learning time, or because an operator says so.
//!
//! A baseline never follows its camera, so somebody has to say when a camera shows something else on purpose. An operator may have it
//! learn anew from a moment on (**promote**), end its learning time now (**freeze**), or put an earlier version in force again
//! (**rollback**). Each is a decision of a person, kept with name and note.
//!
//! Must hold:
//! - nothing a device sends does any of it;
//! - a version's number is given once: the next is one more than the largest there ever was, and a rollback deletes none;
//! - evidence against another baseline counts no longer, and what begins in its place is no further chance of a false alarm
//!   ([`crate::evidence::stake::Stake`]); the camera stays one of the K hypotheses throughout;
//! - alerts that speak of the other baseline are over, with the operator's name;
//! - what is refused has changed nothing.

use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::UnixMillis;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::camera::kept;
use super::camera::{Camera, Left, Said};
use super::core::Core;
use super::site::Pools;
use super::{Change, CountedWindow, History};
use super::{FOR_EVER, Settings};
use crate::alert::{AlertState, HistoryEntry};
use crate::baseline::{Baseline, MIN_WINDOWS};

/// Most windows a baseline is taken from: a day of minutes.
pub(super) const LEARNING_WINDOWS_MAX: usize = 1_500;

/// What an operator wants of a camera's baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// What it shows since then is normal: it learns anew from there. Without a time, since the first window of its open alert, or from
    /// its next window on; a time after its newest window means the same.
    Promote {
        /// In event time.
        since: Option<UnixMillis>,
    },
    /// Its learning time is over: its baseline is taken from what it has shown so far.
    Freeze,
    /// An earlier version is in force again; without a number the one before.
    Rollback {
        /// The version.
        to: Option<u32>,
    },
}

impl Wish {
    /// Its name in every interface.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Promote { .. } => "promote",
            Self::Freeze => "freeze",
            Self::Rollback { .. } => "rollback",
        }
    }
}

/// An operator's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is wanted.
    pub wish: Wish,
    /// Who wants it.
    pub author: String,
    /// What he says of it; may be empty.
    pub note: String,
}

/// Why an order is not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OrderError {
    /// No window of such a camera has been counted.
    #[error("no such camera is known")]
    UnknownCamera,
    /// The version never was, or is no longer kept.
    #[error("version {0} of the baseline is not kept")]
    UnknownVersion(u32),
    /// No version is kept from before the one in force.
    #[error("no earlier version of the baseline is kept")]
    NothingEarlier,
    /// The version is the one in force.
    #[error("version {0} of the baseline is in force already")]
    InForce(u32),
    /// The version was written by a release whose baselines this one cannot read.
    #[error("version {0} of the baseline was written by another release and cannot be read")]
    Unreadable(u32),
    /// The camera has a baseline.
    #[error("the camera does not learn: it has a baseline")]
    NotLearning,
    /// It has not shown enough.
    #[error(
        "a baseline needs at least {needed} windows with frames, there are {found} since the camera began to learn"
    )]
    TooFewWindows {
        /// Windows with frames since it began to learn.
        found: usize,
        /// Windows needed.
        needed: usize,
    },
}

/// How a version of a baseline came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// By the camera's first learning time.
    Learned,
    /// Learned anew because an operator accepted what the camera shows.
    Promoted,
    /// An operator ended the learning time.
    Frozen,
}

/// Where a version of a baseline comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// How it came to be.
    pub how: How,
    /// `driftglass`, or the operator's name.
    pub author: String,
    /// What he said; may be empty.
    pub note: String,
}

/// What an operator did to a camera's baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaselineMove {
    /// The camera.
    pub camera: CameraId,
    /// When, by the aggregator's clock.
    pub at: UnixMillis,
    /// What was asked for; see [`Wish::name`].
    pub wish: &'static str,
    /// The version in force from then on; `None` where the camera learns.
    pub version: Option<u32>,
    /// Start of the first window that may go into the next version, where it learns anew.
    pub since: Option<UnixMillis>,
    /// Who.
    pub author: String,
    /// What he said; may be empty.
    pub note: String,
}

/// Adds a baseline to what is known of the features' memory.
pub(super) fn pool(pools: &mut Pools, baseline: &Baseline) {
    for normal in baseline.features() {
        if let Some(feature) = normal.feature() {
            let (shares, levels) = normal.variograms();
            pools.entry(feature.number()).or_default().add(shares, levels);
        }
    }
}

/// Counts a window towards the baseline and takes the baseline when there are enough.
pub(super) fn learn<H: History>(
    settings: Settings,
    pools: &mut Pools,
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
        let mut windows = history.windows(id, state.learning_since..FOR_EVER, LEARNING_WINDOWS_MAX)?;
        windows.push(window.clone());
        if let Ok(baseline) = Baseline::learn(&windows, MIN_WINDOWS, &settings.tolerances) {
            let origin = match state.accepted.clone() {
                Some(Said { author, note }) => Origin { how: How::Promoted, author, note },
                None => Origin { how: How::Learned, author: String::from("driftglass"), note: String::new() },
            };
            changes.extend(take(id, camera, baseline, origin, history)?);
            if let Some(baseline) = &camera.baseline {
                pool(pools, baseline);
            }
        }
    }
    changes.extend(kept(id, camera));
    Ok(changes)
}

/// Puts a new baseline in force. One that cannot be encoded, for want of memory, is tried again with the next window.
fn take<H: History>(
    id: &CameraId,
    camera: &mut Camera,
    baseline: Baseline,
    origin: Origin,
    history: &H,
) -> Result<Option<Change>, H::Error> {
    let Ok(bytes) = baseline.to_bytes() else { return Ok(None) };
    // The store knows of versions that a camera whose state was lost does not.
    let newest = history.versions(id)?.last().copied().unwrap_or(0);
    let version = newest.max(camera.state.baseline_version).saturating_add(1);
    (camera.state.baseline_version, camera.state.accepted) = (version, None);
    let (_, learned_at) = baseline.span();
    camera.baseline = Some(baseline);
    Ok(Some(Change::Baseline { camera: id.clone(), version, learned_at, baseline: bytes, origin }))
}

impl Core {
    /// Does what an operator wants of a camera's baseline; see [`crate::ledger::Decide::order`].
    pub(super) fn obey<H: History>(
        &mut self,
        id: &CameraId,
        order: &Order,
        now: UnixMillis,
        history: &H,
    ) -> Result<Result<Vec<Change>, OrderError>, H::Error> {
        match order.wish {
            Wish::Promote { since } => self.promote(id, since, order, now, history),
            Wish::Freeze => self.freeze(id, order, now, history),
            Wish::Rollback { to } => self.roll_back(id, to, order, now, history),
        }
    }

    fn promote<H: History>(
        &mut self,
        id: &CameraId,
        since: Option<UnixMillis>,
        order: &Order,
        now: UnixMillis,
        history: &H,
    ) -> Result<Result<Vec<Change>, OrderError>, H::Error> {
        let Some(camera) = self.camera(id) else { return Ok(Err(OrderError::UnknownCamera)) };
        let next = next_window(camera);
        // A time that lies ahead would leave the camera unwatched until then.
        let since = since.or_else(|| self.alerted_since(id)).map_or(next, |since| since.min(next));
        let windows = history.windows(id, since..FOR_EVER, LEARNING_WINDOWS_MAX)?;
        // The learning time is a time that was watched: it does not begin before the first window that is still there.
        let since = match windows.first() {
            None => next,
            Some(first) if windows.len() < LEARNING_WINDOWS_MAX => first.window.start,
            Some(_) => since,
        };
        let shown = windows.iter().filter(|window| window.quality.frames > 0).count();

        let mut changes = self.begin_anew(id, order, now, "accepted as normal");
        if let Some(camera) = self.camera_mut(id) {
            camera.baseline = None;
            camera.state.learning_since = since;
            camera.state.learning_windows = u32::try_from(shown).unwrap_or(u32::MAX);
            camera.state.accepted = Some(Said { author: order.author.clone(), note: order.note.clone() });
        }
        self.take_stock(&id.device.site);
        changes.push(Change::InForce { camera: id.clone(), version: None });
        changes.push(moved(id, order, now, None, Some(since)));
        changes.extend(self.camera(id).and_then(|camera| kept(id, camera)));
        Ok(Ok(changes))
    }

    fn freeze<H: History>(
        &mut self,
        id: &CameraId,
        order: &Order,
        now: UnixMillis,
        history: &H,
    ) -> Result<Result<Vec<Change>, OrderError>, H::Error> {
        let Some(camera) = self.camera(id) else { return Ok(Err(OrderError::UnknownCamera)) };
        if camera.baseline.is_some() {
            return Ok(Err(OrderError::NotLearning));
        }
        let windows = history.windows(id, camera.state.learning_since..FOR_EVER, LEARNING_WINDOWS_MAX)?;
        let Ok(baseline) = Baseline::learn(&windows, MIN_WINDOWS, &self.settings().tolerances) else {
            let found = windows.iter().filter(|window| window.quality.frames > 0).count();
            return Ok(Err(OrderError::TooFewWindows { found, needed: MIN_WINDOWS }));
        };
        let Order { author, note, .. } = order;
        let origin = Origin { how: How::Frozen, author: author.clone(), note: note.clone() };
        let mut changes = Vec::new();
        if let Some(camera) = self.camera_mut(id) {
            changes.extend(take(id, camera, baseline, origin, history)?);
            let version = camera.baseline.is_some().then_some(camera.state.baseline_version);
            changes.push(moved(id, order, now, version, None));
            changes.extend(kept(id, camera));
        }
        self.take_stock(&id.device.site);
        Ok(Ok(changes))
    }

    fn roll_back<H: History>(
        &mut self,
        id: &CameraId,
        to: Option<u32>,
        order: &Order,
        now: UnixMillis,
        history: &H,
    ) -> Result<Result<Vec<Change>, OrderError>, H::Error> {
        let Some(camera) = self.camera(id) else { return Ok(Err(OrderError::UnknownCamera)) };
        let (learns, last) = (camera.baseline.is_none(), camera.state.baseline_version);
        let version = match to {
            Some(version) => version,
            None => {
                let kept = history.versions(id)?;
                // A camera that learns anew goes back to what it was held against last.
                let before = |version: &&u32| if learns { last == 0 || **version <= last } else { **version < last };
                match kept.iter().rev().find(before) {
                    Some(version) => *version,
                    None => return Ok(Err(OrderError::NothingEarlier)),
                }
            }
        };
        if !learns && version == last {
            return Ok(Err(OrderError::InForce(version)));
        }
        let Some(bytes) = history.baseline(id, version)? else { return Ok(Err(OrderError::UnknownVersion(version))) };
        let Ok(baseline) = Baseline::from_bytes(&bytes) else { return Ok(Err(OrderError::Unreadable(version))) };

        let mut changes =
            self.begin_anew(id, order, now, &format!("version {version} of the baseline is in force again"));
        if let Some(camera) = self.camera_mut(id) {
            camera.baseline = Some(baseline);
            // What it showed under another baseline is no guide to what is usual under this one.
            camera.state.learning_since = next_window(camera);
            camera.state.learning_windows = 0;
            camera.state.baseline_version = version;
            camera.state.accepted = None;
        }
        self.take_stock(&id.device.site);
        changes.push(Change::InForce { camera: id.clone(), version: Some(version) });
        changes.push(moved(id, order, now, Some(version), None));
        changes.extend(self.camera(id).and_then(|camera| kept(id, camera)));
        Ok(Ok(changes))
    }

    /// When what a camera's open alerts speak of began.
    fn alerted_since(&self, id: &CameraId) -> Option<UnixMillis> {
        let shared = self.camera(id).into_iter().flat_map(|camera| &camera.state.shared);
        let shared = shared.filter(|open| !open.resolved).map(|open| open.id);
        let alerts = self.open_alerts_of(id).into_iter().chain(shared);
        alerts.filter_map(|alert| Some(self.alert(alert)?.first_window)).min()
    }

    /// Ends the evidence against a camera and its alerts; those of groups where no other camera has a part in them.
    fn begin_anew(&mut self, id: &CameraId, order: &Order, now: UnixMillis, why: &str) -> Vec<Change> {
        let mut over = self.open_alerts_of(id);
        if let Some(Camera { state, .. }) = self.camera_mut(id) {
            if let Some(evidence) = state.evidence.take() {
                state.left = Some(Left { epoch: evidence.epoch, stake: evidence.left() });
            }
            state.waiting.clear();
            state.alert = None;
            over.extend(
                std::mem::take(&mut state.shared).into_iter().filter(|open| !open.resolved).map(|open| open.id),
            );
        }
        let has_part = |core: &Self, alert: u64| {
            core.all_cameras().any(|(_, camera)| camera.state.shared.iter().any(|open| open.id == alert))
        };
        over.retain(|alert| !has_part(self, *alert));
        let note = if order.note.is_empty() { why.to_owned() } else { format!("{why}: {}", order.note) };
        let changes = over.into_iter().filter_map(|number| {
            let severity = self.alert(number)?.severity;
            let (author, note) = (order.author.clone(), note.clone());
            self.change(number, severity, HistoryEntry { at: now, state: AlertState::Resolved, author, note })
        });
        changes.collect()
    }
}

/// The earliest start of a window that a camera has yet to send; by its own clock, for the aggregator's may be another.
const fn next_window(camera: &Camera) -> UnixMillis {
    UnixMillis(camera.state.newest.0.saturating_add(1))
}

fn moved(id: &CameraId, order: &Order, at: UnixMillis, version: Option<u32>, since: Option<UnixMillis>) -> Change {
    let Order { wish, author, note } = order;
    let (author, note) = (author.clone(), note.clone());
    Change::Moved(Box::new(BaselineMove { camera: id.clone(), at, wish: wish.name(), version, since, author, note }))
}
