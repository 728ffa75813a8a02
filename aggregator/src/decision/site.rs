//! The cameras of one site on a common time grid: which windows are judged together, and when.
//!
//! The grid's step is the usual time from window to window at this site. A **turn** is one step of it: the windows of all cameras
//! that began within it are compared with each other.
//!
//! **Cut-off.** A turn is judged when all its cameras have sent theirs, or when those that have are [`PATIENCE`] turns further. A
//! window that comes later than that is counted and stored; where its camera has peers it cannot be compared with them any more, and
//! is no evidence.
//!
//! Must hold, whatever clocks say and in whatever order windows come:
//! - a camera's turns are judged in order and once; a second window in the same turn is dropped;
//! - evidence is renewed only forward in time, for the camera whose window says so and for nobody else;
//! - a camera that could have peers is never judged without them, so that nothing that befalls a whole site is laid at its door.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Range, RangeInclusive};

use driftglass_protocol::feature::Subject;
use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::{Millis, UnixMillis};

use super::camera::{Camera, Waiting};
use crate::baseline::FeatureBaseline;
use crate::evidence::camera::CameraEvidence;
use crate::evidence::site::{self as evidence, Member};
use crate::evidence::stake::Stake;
use crate::evidence::stream::Stream;
use crate::evidence::whitening::{Calibration, Pool};

/// Turns by which the cameras of a site that have sent a window may be ahead before the others are no longer waited for.
const PATIENCE: u64 = 2;
/// Most windows of one camera that wait; the oldest goes first.
const WAITING_MAX: usize = 4;
/// Most turns of an epoch.
const MOST_TURNS: u32 = 1 << 20;
/// A camera counts as present while the site has sent at most this many windows per camera since its last.
const PRESENT: u64 = 4;

/// Of each feature, what the baselines of all cameras say of its memory, by wire number.
pub(super) type Pools = BTreeMap<u8, Pool>;

/// A step of a site's time grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    /// Number of the epoch, counted from 1970.
    pub(super) epoch: i64,
    /// Number of the step within the epoch.
    step: u32,
}

/// What judging a turn came to.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) turn: Turn,
    /// Cameras that had a window in it, by their places among those of the site.
    pub(super) cameras: Vec<usize>,
    /// Whether evidence has grown that could make a discovery of a camera without an alert.
    pub(super) grown: bool,
    /// Whether evidence has grown that could make a discovery of a group.
    pub(super) together: bool,
}

/// The cameras of a site.
#[derive(Debug)]
pub(super) struct Site {
    cameras: BTreeMap<CameraId, Camera>,
    /// Length of an epoch, at least 1 ms.
    epoch: Millis,
    /// Step of the time grid: the median cadence of the watched cameras.
    step: Millis,
    /// Windows of watched cameras taken in so far.
    arrivals: u64,
    /// Whether cameras were taken up and nothing was judged since.
    taken_up: bool,
    /// Why nothing is due, where a single camera is the reason.
    held_up: Option<HeldUp>,
}

/// A camera that every turn waits for. Otherwise all cameras of a site would have to be asked with every window of each.
#[derive(Debug)]
struct HeldUp {
    by: CameraId,
    /// Windows of other cameras that begin within this change nothing about that.
    during: Range<UnixMillis>,
}

impl Site {
    pub(super) fn new(epoch: Millis) -> Self {
        Self {
            cameras: BTreeMap::new(),
            epoch: Millis(epoch.0.max(1)),
            step: Millis(1),
            arrivals: 0,
            taken_up: false,
            held_up: None,
        }
    }

    pub(super) const fn cameras(&self) -> &BTreeMap<CameraId, Camera> {
        &self.cameras
    }

    pub(super) fn camera_mut(&mut self, id: &CameraId) -> Option<&mut Camera> {
        self.cameras.get_mut(id)
    }

    /// The camera, and whether it was there already.
    pub(super) fn enter(&mut self, id: &CameraId, since: UnixMillis) -> (&mut Camera, bool) {
        match self.cameras.entry(id.clone()) {
            Entry::Occupied(there) => (there.into_mut(), true),
            Entry::Vacant(new) => (new.insert(Camera::new(since)), false),
        }
    }

    /// Takes up a camera as it was kept.
    pub(super) fn restore(&mut self, id: CameraId, camera: Camera) {
        self.arrivals = self.arrivals.max(camera.state.heard);
        self.cameras.insert(id, camera);
        self.taken_up = true;
        self.pace();
    }

    /// Whether this is the first window after cameras were taken up; once. They were kept as they waited for their peers, so turns may be
    /// due before it: judged with it, the camera that sends first would be kept as it waited, and never come further from one restart to
    /// the next.
    pub(super) const fn resumes(&mut self) -> bool {
        std::mem::replace(&mut self.taken_up, false)
    }

    /// Sets the step of the time grid anew, after a baseline came or went.
    pub(super) fn pace(&mut self) {
        let mut cadences: Vec<Millis> = self.watched().map(|(_, camera)| camera.cadence()).collect();
        cadences.sort_unstable();
        self.held_up = None;
        self.step = cadences.get(cadences.len() / 2).copied().unwrap_or(Millis(1)).min(self.epoch);
    }

    pub(super) fn cameras_mut(&mut self) -> &mut BTreeMap<CameraId, Camera> {
        &mut self.cameras
    }

    fn watched(&self) -> impl Iterator<Item = (&CameraId, &Camera)> {
        self.cameras.iter().filter(|(_, camera)| camera.baseline.is_some())
    }

    /// Has a window wait for those of its peers, and says how its camera stands then. `newest` must be the start of its camera's newest
    /// window before this one.
    pub(super) fn wait(&mut self, id: &CameraId, newest: UnixMillis, window: Waiting) -> Option<&Camera> {
        let second = newest >= *self.span(self.turn(window.start)).start();
        self.held_up.take_if(|held_up| held_up.by == *id || !held_up.during.contains(&window.start));
        let heard = self.arrivals.saturating_add(1);
        let camera = self.cameras.get_mut(id)?;
        self.arrivals = heard;
        camera.state.heard = heard;
        if !second {
            let waiting = &mut camera.state.waiting;
            if waiting.len() >= WAITING_MAX {
                waiting.remove(0);
            }
            waiting.push(window);
        }
        Some(camera)
    }

    fn turn(&self, at: UnixMillis) -> Turn {
        let (epoch, step) = (i64::from(self.epoch.0), i64::from(self.step.0.max(1)));
        let number = at.0.rem_euclid(epoch) / step;
        Turn { epoch: at.0.div_euclid(epoch), step: u32::try_from(number).unwrap_or(u32::MAX).min(MOST_TURNS) }
    }

    /// When the first and the last window of a turn may begin. No time a device may say is without a turn, or in two.
    fn span(&self, turn: Turn) -> RangeInclusive<UnixMillis> {
        let (epoch, step) = (i128::from(self.epoch.0), i128::from(self.step.0.max(1)));
        let (begin, offset) = (i128::from(turn.epoch) * epoch, i128::from(turn.step) * step);
        // The last turn of an epoch takes what is left of it.
        let next = if turn.step < MOST_TURNS { (offset + step).min(epoch) } else { epoch };
        let within = |at: i128| UnixMillis(i64::try_from(at).unwrap_or(if at < 0 { i64::MIN } else { i64::MAX }));
        within(begin + offset)..=within(begin + next - 1)
    }

    fn patience(&self) -> u64 {
        PATIENCE * u64::from(self.step.0)
    }

    /// The oldest turn that need not wait any longer.
    fn due(&self) -> Option<Turn> {
        let mut after = UnixMillis(i64::MIN);
        loop {
            let waiting = self.watched().flat_map(|(_, camera)| &camera.state.waiting);
            let oldest = waiting.map(|waiting| waiting.start).filter(|start| *start >= after).min()?;
            let turn = self.turn(oldest);
            let span = self.span(turn);
            if self.is_due(&span) {
                return Some(turn);
            }
            after = UnixMillis(span.end().0.checked_add(1)?);
        }
    }

    fn is_due(&self, span: &RangeInclusive<UnixMillis>) -> bool {
        let (start, patience) = (*span.start(), self.patience());
        // A camera that has been silent for longer than that is not waited for.
        let expected = |newest: UnixMillis| newest >= start || start.since(newest) <= patience;
        let arrived = |camera: &Camera| camera.state.newest >= start || !expected(camera.state.newest);
        if self.watched().all(|(_, camera)| arrived(camera)) {
            return true;
        }
        // The middle one of those that wait: a single clock that runs ahead makes nobody late.
        let mut newest: Vec<UnixMillis> = self
            .watched()
            .filter(|(_, camera)| camera.state.waiting.iter().any(|waiting| span.contains(&waiting.start)))
            .map(|(_, camera)| camera.state.newest)
            .collect();
        newest.sort_unstable();
        newest.get(newest.len() / 2).is_some_and(|middle| middle.since(start) >= patience)
    }

    /// Forgets whom it waits for.
    #[cfg(test)]
    pub(super) fn ask_all(&mut self) {
        self.held_up = None;
    }

    /// What all turns wait for while none is due: of the cameras missing in the oldest the one that came last when it came last, which is
    /// likely to again.
    fn hold_up(&self) -> Option<HeldUp> {
        let waiting = self.watched().flat_map(|(_, camera)| &camera.state.waiting);
        let oldest = *self.span(self.turn(waiting.map(|waiting| waiting.start).min()?)).start();
        // It is expected in every turn that begins until then, and nobody is far enough ahead of the oldest.
        let during =
            |camera: &Camera| oldest..UnixMillis(camera.state.newest.0.saturating_add_unsigned(self.patience()));
        let missing =
            self.watched().filter(|(_, camera)| camera.state.newest < oldest && during(camera).contains(&oldest));
        let (by, camera) = missing.max_by_key(|(_, camera)| camera.state.heard)?;
        let during = during(camera);
        let furthest = self.watched().map(|(_, camera)| camera.state.newest).max()?;
        during.contains(&furthest).then(|| HeldUp { by: by.clone(), during })
    }

    /// Judges the oldest turn that is due.
    pub(super) fn judge(&mut self, q: f64, pools: &Pools) -> Option<Judged> {
        if self.held_up.is_some() {
            return None;
        }
        let Some(turn) = self.due() else {
            self.held_up = self.hold_up();
            return None;
        };
        let (span, patience) = (self.span(turn), self.patience());
        let horizon = (self.epoch.0 / self.step.0.max(1)).clamp(1, MOST_TURNS);
        let watched = self.watched().count();
        let recently = self.arrivals.saturating_sub(PRESENT.saturating_mul(watched as u64));
        let present = self
            .watched()
            .filter(|(_, camera)| camera.state.heard >= recently || span.start().since(camera.state.newest) <= patience)
            .count();

        let taken: Vec<Option<Waiting>> = self.cameras.values_mut().map(|camera| take(camera, &span)).collect();
        let mut members = Vec::with_capacity(taken.len());
        let mut before = Vec::with_capacity(taken.len());
        for (camera, window) in self.cameras.values_mut().zip(&taken) {
            let Some(window) = window else { continue };
            renew(camera, turn.epoch, horizon, pools);
            let alerted = camera.state.alert.is_some();
            if let Some(evidence) = camera.state.evidence.as_mut().filter(|evidence| evidence.epoch == turn.epoch) {
                before.push((evidence.supremum, alerted, changed(evidence)));
                members.push(Member {
                    evidence,
                    samples: &window.samples,
                    repeats: window.repeats,
                    extremes: window.extremes,
                });
            }
        }
        evidence::observe(&mut members, turn.step, present);
        let grown = members.iter().zip(&before).any(|(member, (before, alerted, _))| {
            let supremum = member.evidence.supremum;
            !alerted && supremum > *before && supremum * q >= 1.0
        });
        let together = members.iter().zip(&before).any(|(member, (.., before))| {
            let now = changed(member.evidence);
            now.iter().zip(before).any(|(now, before)| now > before && now * q >= 1.0)
        });
        let cameras = taken.iter().enumerate().filter(|(_, window)| window.is_some()).map(|(place, _)| place);
        Some(Judged { turn, cameras: cameras.collect(), grown, together })
    }
}

/// Takes out the window of a camera that waits for a turn. What waits for an earlier one has missed it.
fn take(camera: &mut Camera, turn: &RangeInclusive<UnixMillis>) -> Option<Waiting> {
    let waiting = &mut camera.state.waiting;
    let missed = waiting.iter().take_while(|waiting| waiting.start < *turn.start()).count();
    waiting.get(missed).filter(|waiting| turn.contains(&waiting.start))?;
    waiting.drain(..=missed).next_back()
}

/// Evidence of a camera against its own past.
fn changed(evidence: &CameraEvidence) -> [f64; 2] {
    [Subject::Picture, Subject::Model].map(|subject| evidence.against_past(subject))
}

/// Begins the evidence of a new epoch.
fn renew(camera: &mut Camera, epoch: i64, horizon: u32, pools: &Pools) {
    let state = &mut camera.state;
    let Some(baseline) = &camera.baseline else { return };
    if state.evidence.as_ref().is_some_and(|evidence| evidence.epoch >= epoch) {
        return;
    }
    let before = state.evidence.take();
    let streams = baseline.features().iter().filter_map(|normal| stream(normal, pools, before.as_ref())).collect();
    let stake = state.left.take().filter(|left| left.epoch >= epoch).map_or(Stake::WHOLE, |left| left.stake);
    state.evidence = Some(CameraEvidence::new(epoch, horizon, streams, baseline.directions()).staking(stake));
    // A resolved alert belongs to the epoch it was discovered in; from now on a new discovery is needed.
    state.alert.take_if(|alert| alert.resolved);
    state.shared.retain(|alert| !alert.resolved);
}

/// A stream of the new epoch, with the calibration the fleet gives it now.
fn stream(normal: &FeatureBaseline, pools: &Pools, before: Option<&CameraEvidence>) -> Option<Stream> {
    let feature = normal.feature()?;
    let number = feature.number();
    let calibration = Calibration::new(pools.get(&number)?.memory(), &normal.own());
    let before = before.and_then(|before| before.streams.iter().find(|stream| stream.feature() == number));
    Some(Stream::new(number, feature.spec().axis.is_circular(), calibration, before))
}
