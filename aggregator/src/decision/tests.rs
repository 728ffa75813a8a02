//! The core on made-up windows: a camera is a few bins around a level, with a small wander from window to window.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::{CameraId, Name};
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{Model, Quality, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};

use super::fixture::Stored;
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

#[test]
fn a_shifted_camera_is_alerted_once_and_nobody_else() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 8, 0);
    assert_eq!(fleet.baselines.len(), 8);
    assert!(fleet.alerts.is_empty(), "nothing was wrong");
    fleet.run(60..120, 8, 60);
    assert_eq!(fleet.alerts.len(), 1);
    let alert = &fleet.alerts[&1];
    assert_eq!((&alert.camera, alert.state), (&id(0), AlertState::Alerting));
    assert_eq!(alert.first_window, UnixMillis(60 * i64::from(MINUTE)), "the first shifted window");
    assert!(alert.features.iter().any(|moved| moved.feature() == Some(Feature::LumaMean)));
    assert!(alert.features.iter().all(|moved| moved.feature() != Some(Feature::SpectralTilt)), "it did not move");
}

#[test]
fn an_alert_says_how_large_each_difference_is_in_the_unit_of_the_feature() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 8, 0);
    fleet.run(60..120, 8, 60);
    let moved = &fleet.alerts[&1].features;
    assert!(!moved.is_empty());
    for moved in moved {
        let effect = moved.effect.expect("measured");
        assert!((0.95..1.05).contains(&(effect.wasserstein / moved.shift.abs())), "a plain shift: {moved:?}");
        assert!((0.3..=std::f64::consts::LN_2).contains(&effect.jensen_shannon) && effect.psi > 2.0, "{moved:?}");
    }
}

#[test]
fn a_shift_within_the_tolerance_is_nobody_s_business() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 4, 0);
    fleet.run(60..600, 4, usize::from(Feature::LumaMean.spec().tolerance_bins) - 2);
    assert!(fleet.alerts.is_empty());
}

#[test]
fn a_restart_in_the_middle_of_the_evidence_changes_nothing() {
    let (mut whole, mut restarted) = (Fleet::new(), Fleet::new());
    for fleet in [&mut whole, &mut restarted] {
        fleet.run(0..60, 3, 0);
    }
    for minute in 60..120 {
        whole.run(minute..minute + 1, 3, 60);
        restarted.restart();
        restarted.run(minute..minute + 1, 3, 60);
    }
    assert_eq!(whole.alerts, restarted.alerts);
    assert_eq!(whole.alerts.len(), 1);
}

#[test]
fn silent_cameras_keep_the_threshold_where_it_was() {
    let raised = |silent: usize| {
        let mut fleet = Fleet::new();
        fleet.run(0..60, 1 + silent, 0);
        (60..400).find(|&minute| {
            fleet.observe(&id(0), window(minute, 60));
            !fleet.alerts.is_empty()
        })
    };
    let (alone, among_many) = (raised(0).expect("raised"), raised(60).expect("raised"));
    assert!(alone < among_many, "sixty silent cameras still count as hypotheses: {alone} and {among_many}");
}

#[test]
fn late_and_empty_windows_are_no_evidence() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 1, 0);
    for _ in 0..500 {
        assert_eq!(fleet.observe(&id(0), window(30, 60)), 0, "older than the newest");
        let mut empty = window(61, 60);
        empty.quality.frames = 0;
        assert_eq!(fleet.observe(&id(0), empty), 0);
    }
    assert!(fleet.alerts.is_empty());
}

#[test]
fn an_alert_resolves_when_the_camera_is_as_before_and_opens_again() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 2, 0);
    fleet.run(60..100, 2, 60);
    fleet.run(100..115, 2, 0);
    assert_eq!(fleet.alerts[&1].state, AlertState::Resolved);
    fleet.run(115..130, 2, 60);
    let alert = &fleet.alerts[&1];
    assert_eq!((fleet.alerts.len(), alert.state), (1, AlertState::Alerting), "the same discovery, not a second one");
    let states: Vec<AlertState> = alert.history.iter().map(|entry| entry.state).collect();
    assert_eq!(states, [AlertState::Alerting, AlertState::Resolved, AlertState::Alerting]);
}

#[test]
fn a_new_epoch_needs_new_evidence() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 2, 0);
    fleet.run(60..100, 2, 60);
    fleet.run(100..200, 2, 0);
    let day = 24 * 60;
    fleet.run(day..day + 60, 2, 0);
    assert_eq!(fleet.alerts.len(), 1);
    fleet.run(day + 60..day + 120, 2, 60);
    assert_eq!(fleet.alerts.len(), 2, "a second fault on another day is another alert");
}

#[test]
fn bytes_that_are_not_a_state_are_refused() {
    let mut core = Core::new(settings());
    assert!(core.restore(id(0), &[0xff; 9], None).is_err());
    let mut fleet = Fleet::new();
    fleet.run(0..60, 1, 0);
    assert!(core.restore(id(0), &fleet.states[&id(0)], Some((1, &[0xff, 0xff]))).is_err());
}

#[test]
fn a_large_fault_is_found_within_minutes() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    let found = (64..200).find(|&minute| {
        fleet.run(minute..minute + 1, 8, 60);
        !fleet.alerts.is_empty()
    });
    assert!(found.is_some_and(|minute| minute <= 64 + 5), "{found:?}");
}

/// The minute in which camera 0 of eight, shifted from minute 64 on, is alerted; `disturb` may do something after every minute.
fn minute_of_the_alert(mut disturb: impl FnMut(&mut Fleet, i64)) -> Option<i64> {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    (64..200).find(|&minute| {
        fleet.run(minute..minute + 1, 8, 60);
        disturb(&mut fleet, minute);
        !fleet.alerts.is_empty()
    })
}

fn undisturbed() -> Option<i64> {
    let minute = minute_of_the_alert(|_, _| {});
    assert!(minute.is_some_and(|minute| minute >= 66), "needs some windows: {minute:?}");
    minute
}

/// Turns a camera's window into one that begins elsewhere.
fn moved(mut window: CountedWindow, start: i64, length: u32) -> CountedWindow {
    window.window.start = UnixMillis(start);
    window.window.length = Millis(length);
    window
}

#[test]
fn a_camera_whose_clock_runs_a_year_ahead_takes_nobody_s_evidence_away() {
    let year = 365 * 24 * 60;
    let ahead = minute_of_the_alert(|fleet, minute| {
        let window = moved(window(minute, 0), (minute + year) * i64::from(MINUTE), MINUTE);
        fleet.observe(&id(7), window);
    });
    assert_eq!(ahead, undisturbed());
}

#[test]
fn a_camera_that_has_peers_is_not_judged_without_them_for_its_clock_is_wrong() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    for minute in 64..164 {
        fleet.run(minute..minute + 1, 7, 0);
        let ahead = moved(window(minute, 60), (minute + 3000) * i64::from(MINUTE), MINUTE);
        fleet.observe(&id(7), ahead);
    }
    assert!(fleet.alerts.is_empty(), "{:?}", fleet.alerts.values().next());
}

#[test]
fn windows_that_come_too_late_to_be_compared_are_no_evidence() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    for minute in 64..264 {
        for camera in 1..8 {
            fleet.observe(&id(camera), window(minute, 0));
        }
        if minute >= 74 {
            fleet.observe(&id(0), window(minute - 10, 60));
        }
    }
    assert!(fleet.alerts.is_empty());
}

#[test]
fn the_backlog_of_a_gateway_with_enough_cameras_is_compared_among_themselves() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 12, 0);
    for minute in 64..164 {
        for camera in 6..12 {
            fleet.observe(&id(camera), window(minute, 0));
        }
    }
    for minute in 64..100 {
        for camera in 0..6 {
            fleet.observe(&id(camera), window(minute, if camera == 0 { 60 } else { 0 }));
        }
    }
    let alerted: Vec<&CameraId> = fleet.alerts.values().map(|alert| &alert.camera).collect();
    assert_eq!(alerted, [&id(0)]);
}

#[test]
fn a_window_sent_again_a_millisecond_later_is_no_further_evidence() {
    let twice = minute_of_the_alert(|fleet, minute| {
        let again = moved(window(minute, 60), minute * i64::from(MINUTE) + 1, MINUTE);
        fleet.observe(&id(0), again);
    });
    assert_eq!(twice, undisturbed());
}

#[test]
fn a_peer_that_sends_merged_windows_takes_nobody_s_evidence_away() {
    let merged = minute_of_the_alert(|fleet, minute| {
        let length = if minute % 2 == 0 { 5 * MINUTE } else { 1000 };
        let window = moved(window(minute, 0), minute * i64::from(MINUTE) + 2, length);
        fleet.observe(&id(7), window);
    });
    assert_eq!(merged, undisturbed());
}

#[test]
fn what_befalls_a_whole_site_is_laid_at_no_camera_s_door() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    for minute in 64..264 {
        for camera in 0..8 {
            fleet.observe(&id(camera), window(minute, 60));
        }
    }
    let about: Vec<(Scope, String)> = fleet.alerts.values().map(|alert| (alert.scope, alert.subject())).collect();
    assert_eq!(about, [(Scope::Site, String::from("site store-1 (8 of 8 cameras)"))], "the site has changed, as one");
}

#[test]
fn a_site_that_is_as_before_is_told_so_once_and_a_restart_in_between_changes_nothing() {
    let (mut whole, mut restarted) = (Fleet::new(), Fleet::new());
    for (fleet, restarts) in [(&mut whole, false), (&mut restarted, true)] {
        fleet.run(0..64, 8, 0);
        for minute in 64..264 {
            if restarts && minute % 7 == 0 {
                fleet.restart();
            }
            let shift = if (100..140).contains(&minute) { 60 } else { 0 };
            for camera in 0..8 {
                fleet.observe(&id(camera), window(minute, shift));
            }
        }
    }
    let states: Vec<AlertState> = whole.alerts[&1].history.iter().map(|entry| entry.state).collect();
    assert_eq!(states, [AlertState::Alerting, AlertState::Resolved]);
    assert_eq!((whole.alerts.len(), &whole.alerts), (1, &restarted.alerts));
}

#[test]
fn half_of_a_site_is_not_the_site() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    for minute in 64..264 {
        for camera in 0..8 {
            fleet.observe(&id(camera), window(minute, if camera < 4 { 60 } else { 0 }));
        }
    }
    assert!(fleet.alerts.values().all(|alert| alert.scope == Scope::Camera), "{:?}", fleet.alerts);
}

/// Cameras of several sites, `at_each` at each.
fn spread(sites: usize, at_each: usize) -> Vec<CameraId> {
    (0..sites)
        .flat_map(|site| (0..at_each).map(move |camera| (site, camera)))
        .map(|(site, camera)| format!("store-{site}/gw-{camera}/entrance").parse().expect("a camera id"))
        .collect()
}

#[test]
fn what_befalls_most_sites_is_one_alert_of_the_fleet() {
    let (mut fleet, cameras) = (Fleet::new(), spread(6, 5));
    for minute in 0..200 {
        for camera in &cameras {
            fleet.observe(camera, window(minute, if minute < 64 { 0 } else { 60 }));
        }
    }
    let open: Vec<Scope> =
        fleet.alerts.values().filter(|alert| alert.state != AlertState::Resolved).map(|alert| alert.scope).collect();
    assert_eq!(open, [Scope::Fleet], "{:?}", fleet.alerts.values().map(Alert::subject).collect::<Vec<_>>());
    let part = fleet.alerts.values().find(|alert| alert.scope == Scope::Site).expect("sites were seen first");
    assert!(part.history[1].note.contains("fleet"), "{:?}", part.history);
}

#[test]
fn a_model_that_answers_differently_is_one_alert_with_its_name_and_version() {
    let (mut fleet, cameras) = (Fleet::new(), spread(3, 5));
    let watched = |minute: i64, site: usize, version: &str| {
        let mut watched = window(minute, 0);
        // Half of the sites, nearly, have another model.
        let name = if site == 0 { "counter" } else { "detector" };
        watched.model =
            Some(Model { name: Name::parse(name).expect("a name"), version: Name::parse(version).expect("a name") });
        let shift = if version == "2" && site != 0 { 60 } else { 0 };
        let (_, confidence) = window(minute, shift).histograms.remove(0);
        watched.histograms.push((Feature::Confidence, confidence));
        watched
    };
    for minute in 0..200 {
        for (index, camera) in cameras.iter().enumerate() {
            fleet.observe(camera, watched(minute, index / 5, if minute < 64 { "1" } else { "2" }));
        }
    }
    let told: Vec<(Scope, Cause, String)> =
        fleet.alerts.values().map(|alert| (alert.scope, alert.cause, alert.subject())).collect();
    assert_eq!(told, [(Scope::Model, Cause::ModelDrift, String::from("model detector 2 (10 of 10 cameras)"))]);
}

#[test]
fn under_any_dependence_more_evidence_is_needed_and_a_large_fault_is_found_all_the_same() {
    let minute = |dependence| {
        let mut fleet = Fleet::new();
        fleet.core = Core::new(Settings { dependence, ..settings() });
        fleet.run(0..64, 8, 0);
        (64..400)
            .find(|&minute| {
                fleet.run(minute..minute + 1, 8, 60);
                !fleet.alerts.is_empty()
            })
            .expect("found")
    };
    let (positive, arbitrary) = (minute(Dependence::Positive), minute(Dependence::Arbitrary));
    assert!(positive < arbitrary && arbitrary < 64 + 12, "{positive} and {arbitrary}");
}

#[test]
fn windows_of_few_frames_are_worth_little_and_a_fault_shows_all_the_same() {
    let mut random = 7_u64;
    let mut sparse = |minute: i64, shift: usize| {
        let mut few = window(minute, 0);
        few.quality.frames = 2;
        for (_, histogram) in &mut few.histograms {
            *histogram = Histogram::new();
            for _ in 0..2 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let bin = 100 + usize::try_from(random >> 61).expect("three bits") + shift;
                histogram.add(u8::try_from(bin).expect("a bin"));
            }
        }
        few
    };
    let mut fleet = Fleet::new();
    fleet.run(0..64, 3, 0);
    for minute in 64..1264 {
        fleet.observe(&id(0), sparse(minute, 0));
    }
    assert!(fleet.alerts.is_empty());
    for minute in 1264..1400 {
        fleet.observe(&id(0), sparse(minute, 60));
    }
    assert_eq!(fleet.alerts.len(), 1);
}

#[test]
fn a_camera_that_sends_a_picture_every_half_hour_has_a_time_grid_of_half_hours() {
    let half_hourly = |count: i64, shift: usize| moved(window(count, shift), count * 30 * i64::from(MINUTE), MINUTE);
    let mut fleet = Fleet::new();
    for count in 0..64 {
        fleet.observe(&id(0), half_hourly(count, 0));
    }
    let found = (64..200).find(|&count| {
        fleet.observe(&id(0), half_hourly(count, 60));
        !fleet.alerts.is_empty()
    });
    assert!(found.is_some_and(|count| count <= 64 + 16), "{found:?}");
}

#[test]
fn an_alert_grows_graver_the_longer_its_fault_lasts() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 2, 0);
    fleet.run(60..100, 2, 60);
    let first = fleet.alerts[&1].severity;
    fleet.run(100..60 + 26 * 60, 2, 60);
    let alert = &fleet.alerts[&1];
    assert!(alert.severity > first, "{first:?}, and after a day {:?}", alert.severity);
    assert_eq!(alert.state, AlertState::Alerting);
    assert!(alert.history.len() <= 4, "told when it changes, not every window");
}

impl Fleet {
    fn judge(&mut self, alert: u64, verdict: Verdict) {
        let judgement = Judgement { verdict, author: "jo".into(), note: String::new() };
        for change in self.core.judge(alert, &judgement, UnixMillis(1)) {
            match change {
                Change::Camera { camera, state } => drop(self.states.insert(camera, state)),
                Change::Alert(alert) => drop(self.alerts.insert(alert.id, *alert)),
                other => panic!("a verdict changes no baseline: {other:?}"),
            }
        }
    }
}

#[test]
fn an_alert_called_false_is_over_and_stays_so_while_the_camera_is_as_it_was_then() {
    for restarts in [false, true] {
        let mut fleet = Fleet::new();
        fleet.run(0..60, 2, 0);
        fleet.run(60..120, 2, 60);
        fleet.judge(1, Verdict::False);
        if restarts {
            fleet.alerts.retain(|_, alert| alert.state != AlertState::Resolved);
            fleet.restart();
        }
        fleet.run(120..400, 2, 60);
        let open = fleet.alerts.values().filter(|alert| alert.state != AlertState::Resolved).count();
        assert_eq!(open, 0, "raised again in the same epoch: {:?}", fleet.alerts);
    }
    let mut left = Fleet::new();
    left.run(0..60, 2, 0);
    left.run(60..400, 2, 60);
    assert_eq!(left.alerts[&1].state, AlertState::Alerting, "it is open where nobody says a word");
}

#[test]
fn a_confirmed_alert_resolves_by_itself_like_any_other() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 2, 0);
    fleet.run(60..120, 2, 60);
    fleet.judge(1, Verdict::Right);
    assert_eq!(fleet.alerts[&1].state, AlertState::Confirmed);
    fleet.judge(7, Verdict::Right);
    assert_eq!(fleet.alerts.len(), 1, "an alert that nobody knows");
    fleet.run(120..160, 2, 0);
    assert_eq!((fleet.alerts[&1].state, fleet.alerts[&1].verdict), (AlertState::Resolved, Some(Verdict::Right)));
}

#[test]
fn a_tighter_budget_asks_for_more_evidence_and_its_q_is_the_one_in_the_note() {
    let raised = |budget: f64| {
        let budget = AlarmBudget::per_site_month(budget).expect("a budget");
        let mut fleet = Fleet::promising(Settings { q: LARGEST_Q, budget: Some(budget), ..settings() });
        assert!(fleet.core.target().q > 0.0);
        fleet.run(0..60, 5, 0);
        let minute = (60..400).find(|&minute| {
            fleet.run(minute..minute + 1, 5, 60);
            !fleet.alerts.is_empty()
        });
        let note = fleet.alerts.pop_first().expect("raised").1.history.remove(0).note;
        (minute.expect("raised"), fleet.core.target(), note)
    };
    let (often, monthly, note) = raised(1.0);
    assert_eq!((monthly.sites, monthly.capped), (1, false));
    assert!((0.030..0.033).contains(&monthly.q) && note.contains("at q = 0.0309"), "{monthly:?} {note}");
    let (rarely, strict, _) = raised(0.0001);
    assert!(strict.q < 1e-5 && rarely > often, "{rarely} after {often}");
}

/// Lamps that go on at seven every evening and off at eight: the same large step for an hour of each day.
fn lamps(minute: i64) -> usize {
    let of_the_day = minute.rem_euclid(24 * 60);
    if (19 * 60..20 * 60).contains(&of_the_day) { 40 } else { 0 }
}

/// Days, from 0, on which an alert of a camera without peers was raised.
fn days_with_an_alert(fleet: &Fleet) -> Vec<i64> {
    let mut days: Vec<i64> =
        fleet.alerts.values().map(|alert| alert.raised_at.0 / (24 * 60 * i64::from(MINUTE))).collect();
    days.sort_unstable();
    days.dedup();
    days
}

#[test]
fn what_happens_every_evening_is_told_until_it_is_known_and_a_fault_at_that_hour_still_is() {
    let mut fleet = Fleet::new();
    let day = 24 * 60;
    // It learns at noon and has never seen an evening.
    for minute in 12 * 60..8 * day {
        fleet.observe(&id(0), window(minute, lamps(minute)));
    }
    let told = days_with_an_alert(&fleet);
    assert_eq!(told.first(), Some(&0), "nobody could know: {told:?}");
    assert!(told.iter().all(|&day| day < 4), "known after a few evenings: {told:?}");
    assert!(fleet.alerts.values().all(|alert| alert.state == AlertState::Resolved));
    // On the eighth day the lamps go on, and at the same time something else happens.
    for minute in 8 * day..8 * day + 20 * 60 {
        let other = if minute >= 8 * day + 19 * 60 { 60 } else { 0 };
        fleet.observe(&id(0), window(minute, lamps(minute) + other));
    }
    assert_eq!(days_with_an_alert(&fleet).last(), Some(&8));
    // After that fault, on the same day, lamps are no reason to tell of it again; at another time of the day they are.
    for minute in 8 * day + 20 * 60..10 * day {
        let fault = if (9 * day + 60..9 * day + 120).contains(&minute) { 60 } else { 0 };
        fleet.observe(&id(0), window(minute, lamps(minute) + fault));
    }
    let of_that_night = fleet.alerts.values().next_back().expect("told");
    assert_eq!(of_that_night.state, AlertState::Resolved, "{:?}", of_that_night.history);
    assert!(of_that_night.history.iter().all(|entry| entry.at.0 < (9 * day + 19 * 60) * i64::from(MINUTE)));
    for minute in 10 * day..10 * day + 11 * 60 {
        fleet.observe(&id(0), window(minute, if minute >= 10 * day + 10 * 60 { 40 } else { 0 }));
    }
    assert_eq!(days_with_an_alert(&fleet).last(), Some(&10), "lamps at ten in the morning");
}

#[test]
fn who_covers_a_camera_every_night_is_told_of_every_night() {
    let mut fleet = Fleet::new();
    let day = 24 * 60;
    for minute in 12 * 60..7 * day {
        let mut seen = window(minute, 0);
        seen.histograms[3].0 = Feature::LumaEntropy;
        seen.histograms.sort_by_key(|(feature, _)| feature.number());
        if (2 * 60..3 * 60).contains(&minute.rem_euclid(day)) {
            for (_, histogram) in &mut seen.histograms {
                let mut covered = Histogram::new();
                (0..60).for_each(|frame| covered.add(10 + frame % 3));
                *histogram = covered;
            }
        }
        fleet.observe(&id(0), seen);
    }
    assert_eq!(days_with_an_alert(&fleet), [1, 2, 3, 4, 5, 6]);
    assert!(fleet.alerts.values().all(|alert| alert.cause == Cause::Covered), "{:?}", fleet.alerts);
}

#[test]
fn what_a_whole_site_does_every_evening_is_told_until_it_is_known() {
    let mut fleet = Fleet::new();
    let day = 24 * 60;
    for minute in 12 * 60..8 * day {
        for camera in 0..6 {
            fleet.observe(&id(camera), window(minute, lamps(minute)));
        }
    }
    assert!(fleet.alerts.values().all(|alert| alert.scope == Scope::Site), "{:?}", fleet.alerts);
    let told = days_with_an_alert(&fleet);
    assert_eq!(told.first(), Some(&0), "nobody could know: {told:?}");
    assert!(told.iter().all(|&day| day < 4), "known after a few evenings: {told:?}");
    let reopened_late = fleet
        .alerts
        .values()
        .flat_map(|alert| &alert.history)
        .filter(|entry| entry.state == AlertState::Alerting && entry.at.0 >= 4 * day * i64::from(MINUTE));
    assert_eq!(reopened_late.count(), 0);
}
