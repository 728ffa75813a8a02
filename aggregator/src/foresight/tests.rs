//! What is foreseen, held against the decision core itself.

use std::cell::RefCell;
use std::collections::BTreeMap;

use driftglass_protocol::id::CameraId;
use driftglass_protocol::summary::{Quality, Window};
use driftglass_protocol::unit::UnixMillis;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::*;
use crate::baseline::Tolerances;
use crate::decision::fixture::Stored;
use crate::decision::{Change, Core, CountedWindow, Dependence, Settings, Standing};
use crate::ledger::Decide;

const MINUTE: i64 = 60_000;
const FRAMES: u32 = 60;
const DAY: Millis = Millis(86_400_000);
const LEARNED: i64 = 90;
/// Seeded runs of every case.
const RUNS: u32 = 24;
const FEATURES: [Feature; 4] =
    [Feature::LumaMean, Feature::LumaStd, Feature::HighFrequencyEnergy, Feature::SpectralTilt];

/// A core and what a store would keep.
struct World {
    core: Core,
    windows: RefCell<BTreeMap<CameraId, Vec<CountedWindow>>>,
    states: BTreeMap<CameraId, Vec<u8>>,
    baselines: BTreeMap<CameraId, Vec<u8>>,
    alerts: Vec<CameraId>,
    random: ChaCha8Rng,
    levels: Vec<[f64; FEATURES.len()]>,
}

fn id(number: usize) -> CameraId {
    format!("store-1/gw-{number}/entrance").parse().expect("a camera id")
}

impl World {
    fn new(seed: u64, cameras: usize, tolerances: Tolerances) -> Self {
        let settings = Settings {
            q: 0.05,
            budget: None,
            epoch: DAY,
            learning: Millis(85 * 60_000),
            tolerances,
            dependence: Dependence::Positive,
        };
        let mut world = Self {
            core: Core::new(settings),
            windows: RefCell::default(),
            states: BTreeMap::new(),
            baselines: BTreeMap::new(),
            alerts: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
            levels: vec![[0.0; FEATURES.len()]; cameras],
        };
        for minute in 0..LEARNED {
            world.minute(minute, 0.0);
        }
        assert_eq!(world.baselines.len(), cameras, "all have learned");
        world
    }

    /// One window of every camera: in bins, frames with a deviation of 5 around a level that wanders by 1.5; the luma of the first
    /// camera is shifted.
    fn minute(&mut self, minute: i64, shift: f64) {
        for camera in 0..self.levels.len() {
            let mut histograms = Vec::new();
            for (index, feature) in FEATURES.into_iter().enumerate() {
                let news: f64 = self.random.sample(StandardNormal);
                let level = &mut self.levels[camera][index];
                *level = 0.5 * *level + 1.5 * 0.75_f64.sqrt() * news;
                let centre = 100.0 + *level + if camera == 0 && index == 0 { shift } else { 0.0 };
                let mut histogram = Histogram::new();
                for _ in 0..FRAMES {
                    let bin = (centre + 5.0 * self.random.sample::<f64, _>(StandardNormal)).clamp(0.0, 255.0);
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins")]
                    histogram.add(bin as u8);
                }
                histograms.push((feature, histogram));
            }
            let window = CountedWindow {
                window: Window { start: UnixMillis(minute * MINUTE), length: Millis(60_000), merged: 1 },
                quality: Quality { frames: FRAMES, ..Quality::default() },
                model: None,
                histograms,
            };
            let id = id(camera);
            let changes = match self.core.observe(&id, &window, &Stored(&self.windows)) {
                Ok(changes) => changes,
                Err(never) => match never {},
            };
            self.windows.borrow_mut().entry(id).or_default().push(window);
            for change in changes {
                match change {
                    Change::Camera { camera, state } => drop(self.states.insert(camera, state)),
                    Change::Baseline { camera, baseline, .. } => drop(self.baselines.insert(camera, baseline)),
                    Change::Alert(alert) => self.alerts.push(alert.camera),
                    Change::InForce { .. } | Change::Moved(_) => {}
                }
            }
        }
    }

    fn foresee(&self) -> Foresight {
        let baseline = Baseline::from_bytes(&self.baselines[&id(0)]).expect("own bytes");
        let standing = Standing::of(&self.states[&id(0)]).expect("own bytes");
        let cameras = self.levels.len() as u64;
        let circumstances = Circumstances { cameras, q: 0.05, epoch: DAY, at_site: cameras };
        foresee(&baseline, &standing.calibrations, &circumstances)
    }
}

/// In how many runs a share of the shift foreseen is found within the hour, wherever in a block it begins.
fn found(cameras: usize, tolerances: Tolerances, share: f64) -> u32 {
    let mut count = 0;
    for seed in 0..RUNS {
        let mut world = World::new(seed.into(), cameras, tolerances);
        let begins = LEARNED + 20 + i64::from(seed * 7 % 20);
        for minute in LEARNED..begins {
            world.minute(minute, 0.0);
        }
        let foresight = world.foresee();
        let Reach::Shift(shift) = foresight.reach(Feature::LumaMean, Way::Up) else { panic!("{foresight:?}") };
        assert_eq!(foresight.within, WITHIN);
        for minute in begins..begins + 60 {
            // A level is a bin of luma.
            world.minute(minute, share * shift);
        }
        count += u32::from(world.alerts.contains(&id(0)));
    }
    count
}

#[test]
fn a_shift_as_large_as_foreseen_is_found_within_the_hour_and_half_of_it_is_not() {
    for (what, tolerances) in [("tolerances", Tolerances::CATALOGUE), ("no tolerance", Tolerances::NONE)] {
        for cameras in [1, 6] {
            let (whole, half) = (found(cameras, tolerances, 1.0), found(cameras, tolerances, 0.5));
            println!(
                "{cameras} cameras, {what}: the whole shift found in {whole} of {RUNS} runs, half of it in {half}"
            );
            assert!(whole * 5 >= 3 * RUNS && half * 4 <= RUNS, "{cameras} cameras, {what}: {whole} and {half}");
        }
    }
}

/// A camera whose features stand at these bins, with a wander of three bins, once it has learned.
fn camera_at(bins: &[(Feature, u8)]) -> Foresight {
    let windows: Vec<CountedWindow> = (0..60)
        .map(|minute: i64| {
            let histograms = bins.iter().map(|&(feature, bin)| {
                let mut histogram = Histogram::new();
                for frame in 0..FRAMES {
                    let wander = u8::try_from((u32::try_from(minute).expect("small") + frame) % 3).expect("small");
                    histogram.add(bin.saturating_add(wander));
                }
                (feature, histogram)
            });
            CountedWindow {
                window: Window { start: UnixMillis(minute * MINUTE), length: Millis(60_000), merged: 1 },
                quality: Quality { frames: FRAMES, ..Quality::default() },
                model: None,
                histograms: histograms.collect(),
            }
        })
        .collect();
    let baseline = Baseline::learn(&windows, 30, &Tolerances::CATALOGUE).expect("enough windows");
    foresee(&baseline, &[], &Circumstances { cameras: 100, q: 0.05, epoch: DAY, at_site: 1 })
}

#[test]
fn a_camera_that_looks_at_a_blank_wall_would_not_see_a_defocus_and_one_with_texture_would() {
    let unseen = |detail: u8| -> Vec<Cause> {
        let foresight = camera_at(&[(Feature::HighFrequencyEnergy, detail), (Feature::LumaMean, 120)]);
        foresight.unseen().into_iter().map(|unseen| unseen.cause).collect()
    };
    let wall = camera_at(&[(Feature::HighFrequencyEnergy, 0), (Feature::LumaMean, 120)]).unseen();
    let sentences: Vec<String> = wall.iter().map(Unseen::sentence).collect();
    assert!(
        sentences.iter().any(|said| said.starts_with("defocus would not be seen: no shift of high_")),
        "{sentences:?}"
    );
    let (wall, street) = (unseen(0), unseen(120));
    assert!(wall.contains(&Cause::Defocused) && !street.contains(&Cause::Defocused), "{wall:?} {street:?}");
    assert!(!wall.contains(&Cause::Noise), "noise gives detail to a wall: {wall:?}");
    assert!(!wall.contains(&Cause::Dark) && wall.contains(&Cause::Infrared), "it has luma and no colour: {wall:?}");
}

#[test]
fn among_more_cameras_a_larger_shift_is_needed_and_windows_of_seconds_have_minutes() {
    let world = World::new(3, 1, Tolerances::CATALOGUE);
    let baseline = Baseline::from_bytes(&world.baselines[&id(0)]).expect("own bytes");
    let up = |cameras, q, at_site| {
        let circumstances = Circumstances { cameras, q, epoch: DAY, at_site };
        match foresee(&baseline, &[], &circumstances).reach(Feature::LumaMean, Way::Up) {
            Reach::Shift(shift) => shift,
            Reach::Undetectable => panic!("undetectable among {cameras}"),
        }
    };
    assert!(up(100_000, 0.05, 1) > up(1, 0.05, 1) && up(1, 0.0001, 1) > up(1, 0.05, 1));
    assert!(up(10, 0.05, 10) < up(10, 0.05, 4), "without peers a camera must allow for the weather");
}
