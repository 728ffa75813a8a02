//! A simulated fleet: what every camera would have sent, and which of them really drift.
//!
//! Frames of one feature of one camera are a first-order autoregressive series with unit variance, correlation ρ from frame to frame
//! drawn from 0..0.8, and a level that wanders from window to window. Site-wide shocks move half of the features of all cameras of
//! a site for ten to thirty windows, each camera by its own gain. A drifting camera steps in a quarter of its features at a moment
//! drawn from the first quarter of the run, and stays there.
//!
//! Must hold: the same scenario and seed give the same frames on every machine and in every release (ChaCha8, one generator).

use std::ops::Range;

use clap::ValueEnum;
use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson, StandardNormal};

/// Frames per window.
pub(super) const FRAMES: u32 = 60;
/// Cameras of a site.
pub(super) const SITE: usize = 20;
/// Bins per standard deviation: 0 lies in the middle of the axis, which spans ±5.3.
const BINS_PER_DEVIATION: f64 = 24.0;

/// What a fleet goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Scenario {
    /// Site-wide shocks, and no camera that drifts: every alert is false.
    Null,
    /// Site-wide shocks and drifting cameras.
    Shocks,
    /// Drifting cameras, and otherwise quiet.
    Noshocks,
    /// As `shocks`, with a drift of 0.6 standard deviations at most.
    SmallShift,
    /// No shocks, but levels that wander far (0.3 standard deviations) and slowly (0.95 from window to window).
    SlowWander,
    /// Independent frames and no wander: the textbook case.
    Iid,
}

/// How a scenario differs from the others.
struct Character {
    shocks: bool,
    drifts: bool,
    most_shift: f64,
    most_correlation: f64,
    wander: f64,
    memory: f64,
}

impl Scenario {
    const fn character(self) -> Character {
        let usual = Character {
            shocks: true,
            drifts: true,
            most_shift: f64::INFINITY,
            most_correlation: 0.8,
            wander: 0.1,
            memory: 0.5,
        };
        match self {
            Self::Null => Character { drifts: false, ..usual },
            Self::Shocks => usual,
            Self::Noshocks => Character { shocks: false, ..usual },
            Self::SmallShift => Character { most_shift: 0.6, ..usual },
            Self::SlowWander => Character { shocks: false, wander: 0.3, memory: 0.95, ..usual },
            Self::Iid => Character { shocks: false, most_correlation: 0.0, wander: 0.0, memory: 0.0, ..usual },
        }
    }
}

/// The size of a fleet and of what befalls it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) scenario: Scenario,
    pub(super) cameras: usize,
    pub(super) features: usize,
    pub(super) windows: u32,
    pub(super) drifting: usize,
    pub(super) shift: f64,
}

/// A step that stays.
#[derive(Clone, Debug)]
pub(super) struct Drift {
    /// First window it shows in.
    pub(super) at: u32,
    features: Vec<usize>,
    shift: f64,
}

struct Shock {
    windows: Range<u32>,
    features: Vec<usize>,
    size: f64,
    gains: Vec<f64>,
}

struct Stream {
    correlation: f64,
    frame: f64,
    level: f64,
}

/// A fleet in the middle of its run.
pub(super) struct Fleet {
    plan: Plan,
    wander: f64,
    memory: f64,
    streams: Vec<Stream>,
    shocks: Vec<Vec<Shock>>,
    drifts: Vec<Option<Drift>>,
    random: ChaCha8Rng,
}

impl Fleet {
    pub(super) fn new(plan: Plan, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let character = plan.scenario.character();
        let streams = (0..plan.cameras * plan.features)
            .map(|_| Stream {
                correlation: character.most_correlation * random.random::<f64>(),
                frame: random.sample(StandardNormal),
                level: character.wander * random.sample::<f64, _>(StandardNormal),
            })
            .collect();
        let shocks = (0..plan.cameras.div_ceil(SITE))
            .map(|_| if character.shocks { shocks(&plan, &mut random) } else { Vec::new() })
            .collect();
        let mut drifts = vec![None; plan.cameras];
        if character.drifts {
            for camera in index::sample(&mut random, plan.cameras, plan.drifting.min(plan.cameras)) {
                let shift = plan.shift.min(character.most_shift);
                drifts[camera] = Some(Drift {
                    at: random.random_range(plan.windows / 12..=plan.windows / 4),
                    features: index::sample(&mut random, plan.features, (plan.features / 4).max(1)).into_vec(),
                    shift: if random.random() { shift } else { -shift },
                });
            }
        }
        Self { plan, wander: character.wander, memory: character.memory, streams, shocks, drifts, random }
    }

    /// The drift of a camera, if it has one.
    pub(super) fn drift(&self, camera: usize) -> Option<&Drift> {
        self.drifts[camera].as_ref()
    }

    /// Whether the site of a camera has had a shock by the end of a window.
    pub(super) fn shocked(&self, camera: usize, window: u32) -> bool {
        self.shocks[camera / SITE].iter().any(|shock| shock.windows.start <= window)
    }

    /// How many cameras drift.
    pub(super) fn drifting(&self) -> usize {
        self.drifts.iter().flatten().count()
    }

    /// The next window of one feature of one camera, as counts per bin. `None` for `window` is the clean time before the run.
    pub(super) fn count(&mut self, camera: usize, feature: usize, window: Option<u32>, mut add: impl FnMut(u8)) {
        let stream = &mut self.streams[camera * self.plan.features + feature];
        if self.wander > 0.0 {
            let news = self.wander * (1.0 - self.memory * self.memory).sqrt();
            stream.level = self.memory * stream.level + news * self.random.sample::<f64, _>(StandardNormal);
        }
        let mut middle = stream.level;
        if let Some(window) = window {
            for shock in &self.shocks[camera / SITE] {
                if shock.windows.contains(&window) && shock.features.contains(&feature) {
                    middle += shock.size * shock.gains[camera % SITE];
                }
            }
            if let Some(drift) = &self.drifts[camera]
                && window >= drift.at
                && drift.features.contains(&feature)
            {
                middle += drift.shift;
            }
        }
        let news = (1.0 - stream.correlation * stream.correlation).sqrt();
        for _ in 0..FRAMES {
            stream.frame = stream.correlation * stream.frame + news * self.random.sample::<f64, _>(StandardNormal);
            let bin = ((stream.frame + middle) * BINS_PER_DEVIATION + 128.0).clamp(0.0, 255.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=255")]
            add(bin as u8);
        }
    }
}

/// The shocks of one site: two on average, of 0.5 to 1.5 standard deviations either way.
fn shocks(plan: &Plan, random: &mut ChaCha8Rng) -> Vec<Shock> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a Poisson count with mean 2")]
    let count = Poisson::new(2.0).map_or(0, |poisson| poisson.sample(random) as usize);
    (0..count)
        .map(|_| {
            let from = random.random_range(0..plan.windows.max(1));
            let size = random.random_range(0.5..1.5);
            Shock {
                windows: from..from + random.random_range(10..=30),
                features: index::sample(random, plan.features, (plan.features / 2).max(1)).into_vec(),
                size: if random.random() { size } else { -size },
                gains: (0..SITE).map(|_| random.random_range(0.8..1.2)).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(scenario: Scenario) -> Plan {
        Plan { scenario, cameras: 40, features: 4, windows: 60, drifting: 3, shift: 1.0 }
    }

    #[test]
    fn the_same_seed_gives_the_same_frames_and_another_seed_others() {
        let frames = |seed| {
            let mut fleet = Fleet::new(plan(Scenario::Shocks), seed);
            let mut bins = Vec::new();
            for camera in 0..40 {
                fleet.count(camera, 0, Some(7), |bin| bins.push(bin));
            }
            bins
        };
        assert_eq!(frames(1), frames(1));
        assert_ne!(frames(1), frames(2));
        assert_eq!(frames(1)[..6], [121, 108, 131, 144, 150, 157], "the frames of a seed belong to the release");
    }

    #[test]
    fn cameras_drift_as_planned_and_none_in_the_null() {
        let fleet = Fleet::new(plan(Scenario::Noshocks), 5);
        assert_eq!(fleet.drifting(), 3);
        assert!((0..40).filter_map(|camera| fleet.drift(camera)).all(|drift| (5..=15).contains(&drift.at)));
        assert_eq!(Fleet::new(plan(Scenario::Null), 5).drifting(), 0);
    }

    #[test]
    fn a_small_shift_is_never_larger_than_its_name_says() {
        let fleet = Fleet::new(plan(Scenario::SmallShift), 5);
        assert!((0..40).filter_map(|camera| fleet.drift(camera)).all(|drift| (drift.shift.abs() - 0.6).abs() < 1e-12));
    }
}
