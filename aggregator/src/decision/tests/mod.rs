//! The core on made-up windows: a camera is a few bins around a level, with a small wander from window to window.

mod alerts;
mod evening;
mod group;
mod learning;
mod order;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::{CameraId, Name};
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{Model, Quality, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};

use super::camera::Camera;
use super::fixture::Stored;
use super::site::Site;
use super::{BaselineMove, Change, Core, CountedWindow, Dependence, History, Order, OrderError, Origin, Settings};
use crate::alert::{Alert, AlertState, Cause, Judgement, Scope, Verdict};
use crate::baseline::Tolerances;
use crate::evidence::budget::{AlarmBudget, LARGEST_Q};
use crate::ledger::Decide;

const MINUTE: u32 = 60_000;
const FEATURES: [Feature; 4] =
    [Feature::LumaMean, Feature::LumaStd, Feature::HighFrequencyEnergy, Feature::SpectralTilt];

/// A version of a camera's baseline.
type Version = (CameraId, u32, Vec<u8>, Origin);

/// A fleet, its core, and everything a store would keep.
pub(super) struct Fleet {
    pub(super) core: Core,
    pub(super) stored: RefCell<BTreeMap<CameraId, Vec<CountedWindow>>>,
    pub(super) states: BTreeMap<CameraId, Vec<u8>>,
    /// Those in force.
    pub(super) baselines: BTreeMap<CameraId, (u32, Vec<u8>)>,
    /// Every version, in the order they came.
    pub(super) versions: RefCell<Vec<Version>>,
    pub(super) moves: Vec<BaselineMove>,
    pub(super) alerts: BTreeMap<u64, Alert>,
}

/// What a fleet has kept.
struct Kept<'a> {
    windows: Stored<'a>,
    versions: &'a RefCell<Vec<Version>>,
}

impl History for Kept<'_> {
    type Error = Infallible;
    fn windows(
        &self,
        camera: &CameraId,
        span: Range<UnixMillis>,
        limit: usize,
    ) -> Result<Vec<CountedWindow>, Infallible> {
        self.windows.windows(camera, span, limit)
    }
    fn versions(&self, camera: &CameraId) -> Result<Vec<u32>, Infallible> {
        let of_camera = |(other, version, ..): &Version| (other == camera).then_some(*version);
        Ok(self.versions.borrow().iter().filter_map(of_camera).collect())
    }
    fn baseline(&self, camera: &CameraId, version: u32) -> Result<Option<Vec<u8>>, Infallible> {
        let versions = self.versions.borrow();
        let found = versions.iter().find(|(other, number, ..)| other == camera && *number == version);
        Ok(found.map(|(_, _, bytes, _)| bytes.clone()))
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        q: 0.05,
        dependence: Dependence::Positive,
        budget: None,
        epoch: Millis(24 * 60 * MINUTE),
        learning: Millis(40 * MINUTE),
        tolerances: Tolerances::CATALOGUE,
    }
}

pub(super) fn id(number: usize) -> CameraId {
    format!("store-1/gw-{number}/entrance").parse().expect("a camera id")
}

/// 60 frames around bin `100 + wander`, moved by `shift` bins in the first two features.
pub(super) fn window(minute: i64, shift: usize) -> CountedWindow {
    let wander = usize::try_from(minute.rem_euclid(3)).expect("small");
    let histograms = FEATURES
        .iter()
        .enumerate()
        .map(|(index, &feature)| {
            let mut histogram = Histogram::new();
            for frame in 0..60_usize {
                let bin = 100 + wander + frame % 5 + if index < 2 { shift } else { 0 };
                histogram.add(u8::try_from(bin.min(255)).expect("a bin"));
            }
            (feature, histogram)
        })
        .collect();
    CountedWindow {
        window: Window { start: UnixMillis(minute * i64::from(MINUTE)), length: Millis(MINUTE), merged: 1 },
        quality: Quality { frames: 60, ..Quality::default() },
        model: None,
        histograms,
    }
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self::promising(settings())
    }

    pub(super) fn promising(settings: Settings) -> Self {
        Self {
            core: Core::new(settings),
            stored: RefCell::default(),
            states: BTreeMap::new(),
            baselines: BTreeMap::new(),
            versions: RefCell::default(),
            moves: Vec::new(),
            alerts: BTreeMap::new(),
        }
    }

    pub(super) fn observe(&mut self, camera: &CameraId, window: CountedWindow) -> usize {
        let kept = Kept { windows: Stored(&self.stored), versions: &self.versions };
        let Ok(changes) = self.core.observe(camera, &window, &kept);
        self.stored.borrow_mut().entry(camera.clone()).or_default().push(window);
        let count = changes.len();
        self.keep(changes);
        count
    }

    pub(super) fn order(&mut self, camera: &CameraId, order: &Order) -> Result<(), OrderError> {
        let kept = Kept { windows: Stored(&self.stored), versions: &self.versions };
        let Ok(changes) = self.core.order(camera, order, UnixMillis(1), &kept);
        self.keep(changes?);
        Ok(())
    }

    fn keep(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Camera { camera, state } => drop(self.states.insert(camera, state)),
                Change::Baseline { camera, version, baseline, origin, .. } => {
                    self.baselines.insert(camera.clone(), (version, baseline.clone()));
                    let known =
                        self.versions.borrow().iter().any(|(other, number, ..)| *other == camera && *number == version);
                    assert!(!known, "version {version} of {camera} is given twice");
                    self.versions.borrow_mut().push((camera, version, baseline, origin));
                }
                Change::InForce { camera, version: None } => drop(self.baselines.remove(&camera)),
                Change::InForce { camera, version: Some(version) } => {
                    let versions = self.versions.borrow();
                    let found = versions.iter().find(|(other, number, ..)| *other == camera && *number == version);
                    let (_, _, bytes, _) = found.expect("a version that was kept");
                    self.baselines.insert(camera, (version, bytes.clone()));
                }
                Change::Moved(moved) => self.moves.push(*moved),
                Change::Alert(alert) => drop(self.alerts.insert(alert.id, *alert)),
            }
        }
    }

    /// Minutes `from..to` of `cameras` cameras; camera 0 is shifted.
    pub(super) fn run(&mut self, minutes: std::ops::Range<i64>, cameras: usize, shift: usize) {
        for minute in minutes {
            for camera in 0..cameras {
                self.observe(&id(camera), window(minute, if camera == 0 { shift } else { 0 }));
            }
        }
    }

    /// As after a restart: a new core from what was kept.
    pub(super) fn restart(&mut self) {
        self.core = Core::new(settings());
        for (camera, state) in &self.states {
            let baseline = self.baselines.get(camera).map(|(version, bytes)| (*version, bytes.as_slice()));
            self.core.restore(camera.clone(), state, baseline).expect("own bytes");
        }
        for alert in self.alerts.values() {
            self.core.restore_alert(alert.clone());
        }
    }
}
