//! What a camera would show within the hour: the smallest shift of each feature that would be found, and the faults that would not.
//!
//! The service's own code is asked. For a shift, the camera's baseline is moved along its axis; every window is then read as that
//! moved baseline would be, whitened, and bet on by [`crate::evidence::site`] with the camera's own calibration, among still peers
//! where its site has enough of them. The shift is found where the evidence reaches what the first camera of the fleet needs to be
//! discovered, `K/q` with the cameras' share of q. So constants, filters and bets cannot differ from those that decide.
//!
//! Must hold: the answer is that of a middling run. Windows without noise gather what windows with noise gather in the middle of
//! many runs, a little less in fact, because the largest evidence counts and noise helps it there (checked by simulation below). One
//! feature is moved alone; a fault that moves several is found sooner. A change that begins with a block of windows is found sooner
//! too: here it begins in the middle of one.
//!
//! Deliberately absent: changes of shape, and repeated pictures. No decision is made here.

use driftglass_protocol::feature::Feature;
use driftglass_protocol::limit::BINS;
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::unit::Millis;

use crate::alert::Cause;
use crate::baseline::{Baseline, FeatureBaseline, Sample, THRESHOLDS};
use crate::decision::SHARES;
use crate::diagnose::{NEEDED, Way};
use crate::evidence::camera::{CameraEvidence, SINGLE_FEATURES};
use crate::evidence::detectability::{Detectability, Reach, smallest_shifts};
use crate::evidence::peers::ENOUGH_PEERS;
use crate::evidence::site::{self, Member};
use crate::evidence::stream::Stream;
use crate::evidence::whitening::{Calibration, Pool};

/// The time a change is given to be found.
pub const WITHIN: Millis = Millis(3_600_000);
/// Most windows that are rehearsed; with windows of seconds the time given is shorter.
const MOST_WINDOWS: u32 = 240;
/// Halvings of the axis: to a sixteenth of a bin.
const HALVINGS: u32 = 12;
/// Windows before the change, in which the filter warms up; it ends in the middle of a block of the third length.
const BEFORE: std::ops::Range<u32> = 10..30;

/// The fleet that a camera stands in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Circumstances {
    /// Cameras known, K.
    pub cameras: u64,
    /// Target of the false discovery rate.
    pub q: f64,
    /// Length of an epoch.
    pub epoch: Millis,
    /// Cameras at the site, this one among them.
    pub at_site: u64,
}

/// What would be found of one feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureReach {
    /// The feature.
    pub feature: Feature,
    /// Smallest shifts both ways.
    pub smallest: Detectability,
}

/// What would be found of a camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Foresight {
    /// The time that a change is given.
    pub within: Millis,
    /// Of every feature of the baseline.
    pub features: Vec<FeatureReach>,
}

/// Asks what would be found. `calibrations` are those in force; features without one get what their own baseline says.
#[must_use]
pub fn foresee(baseline: &Baseline, calibrations: &[(u8, Calibration)], circumstances: &Circumstances) -> Foresight {
    let cadence = baseline.cadence().0.max(1);
    let windows = (WITHIN.0 / cadence).clamp(1, MOST_WINDOWS);
    let rehearsal = Rehearsal {
        windows,
        horizon: (circumstances.epoch.0 / cadence).max(1),
        needed: needed(circumstances, baseline.features().len()),
        peers: if circumstances.at_site >= ENOUGH_PEERS as u64 { ENOUGH_PEERS - 1 } else { 0 },
    };
    let features = baseline.features().iter().filter_map(|normal| {
        let feature = normal.feature()?;
        let known = calibrations.iter().find(|(number, _)| *number == feature.number());
        let calibration = known.map_or_else(|| alone(normal), |(_, calibration)| *calibration);
        let axis = feature.spec().axis;
        let found = |counts: &[u64; BINS]| Ok(rehearsal.finds(normal, calibration, counts));
        let smallest = smallest_shifts(axis, normal.histogram().counts(), HALVINGS, found).ok()?;
        Some(FeatureReach { feature, smallest })
    });
    Foresight { within: Millis(windows.saturating_mul(cadence)), features: features.collect() }
}

/// What the capital of one feature must reach for its camera to be the first one discovered.
#[expect(clippy::cast_precision_loss, reason = "numbers of cameras and features")]
fn needed(circumstances: &Circumstances, features: usize) -> f64 {
    circumstances.cameras.max(1) as f64 / (SHARES.cameras * circumstances.q.max(f64::MIN_POSITIVE)) * features as f64
        / SINGLE_FEATURES
}

/// The calibration of a camera that is alone in the world.
fn alone(normal: &FeatureBaseline) -> Calibration {
    let (shares, levels) = normal.variograms();
    let mut pool = Pool::default();
    pool.add(shares, levels);
    Calibration::new(pool.memory(), &normal.own())
}

struct Rehearsal {
    windows: u32,
    horizon: u32,
    needed: f64,
    peers: usize,
}

impl Rehearsal {
    /// Whether windows with these counts would be found in time.
    fn finds(&self, normal: &FeatureBaseline, calibration: Calibration, counts: &[u64; BINS]) -> bool {
        let Some(moved) = read(normal, counts) else { return false };
        let still = Sample { reading: [0.0; THRESHOLDS], ..moved.clone() };
        let stream = Stream::new(moved.feature, circular(normal), calibration, None);
        let mut cameras = vec![CameraEvidence::new(0, self.horizon, vec![stream], 1.0); 1 + self.peers];
        for window in BEFORE.start..BEFORE.end + self.windows {
            let of_this_one = if window < BEFORE.end { &still } else { &moved };
            let mut members: Vec<Member<'_>> = cameras
                .iter_mut()
                .enumerate()
                .map(|(index, evidence)| {
                    let sample = if index == 0 { of_this_one } else { &still };
                    Member { evidence, samples: std::slice::from_ref(sample), repeats: None, extremes: None }
                })
                .collect();
            site::observe(&mut members, window, 1 + self.peers);
            let gathered = cameras[0].streams.first().map_or(0.0, Stream::evidence);
            if gathered >= self.needed {
                return true;
            }
        }
        false
    }
}

fn circular(normal: &FeatureBaseline) -> bool {
    normal.feature().is_some_and(|feature| feature.spec().axis.is_circular())
}

/// Counts of 2³² frames as a window is read; as noisy as a usual one.
fn read(normal: &FeatureBaseline, counts: &[u64; BINS]) -> Option<Sample> {
    // 2²⁴ frames: a histogram's bins have 32 bits.
    let counts = counts.map(|count| u32::try_from(count >> 8).unwrap_or(u32::MAX));
    let mut histogram = Histogram::new();
    histogram.set(&counts);
    normal.read(&histogram)
}

/// A fault that would not be seen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// The fault.
    pub cause: Cause,
    /// The features it would have to be told by.
    pub for_want_of: Vec<Feature>,
}

impl Unseen {
    /// In a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let fault = match self.cause {
            Cause::Frozen => "a freeze",
            Cause::Covered => "a cover",
            Cause::Moved => "a move",
            Cause::Defocused => "defocus",
            Cause::Dirty => "dirt",
            Cause::Fogged => "fog",
            Cause::Dark => "darkness",
            Cause::Overexposed => "overexposure",
            Cause::ColourCast => "a colour cast",
            Cause::Infrared => "a switch to infrared",
            other => other.name(),
        };
        let names: Vec<&str> = self.for_want_of.iter().map(|feature| feature.name()).collect();
        format!("{fault} would not be seen: no shift of {} would raise an alert here", names.join(" or "))
    }
}

impl Foresight {
    /// The smallest shift of a feature in a way; none for a feature that the camera does not have.
    fn reach(&self, feature: Feature, way: Way) -> Reach {
        let Some(FeatureReach { smallest: Detectability { up, down }, .. }) =
            self.features.iter().find(|reach| reach.feature == feature)
        else {
            return Reach::Undetectable;
        };
        match way {
            Way::Up => *up,
            Way::Down => *down,
            Way::Either if *up == Reach::Undetectable => *down,
            Way::Either => *up,
        }
    }

    /// The faults of which no feature that they need could show enough.
    #[must_use]
    pub fn unseen(&self) -> Vec<Unseen> {
        let blind = |needed: &[(Feature, Way)]| {
            needed.iter().all(|&(feature, way)| self.reach(feature, way) == Reach::Undetectable)
        };
        NEEDED
            .iter()
            .filter(|(_, needed)| blind(needed))
            .map(|(cause, needed)| Unseen {
                cause: *cause,
                for_want_of: needed.iter().map(|(feature, _)| *feature).collect(),
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "foresight/tests.rs"]
mod tests;
