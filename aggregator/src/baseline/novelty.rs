//! Windows unlike anything a camera ever showed, and how unlikely it is that there are so many.
//!
//! Distances on the rank scale end where the baseline ends: a covered lens and an empty road may both lie at the lower end of every
//! feature, and a camera whose picture jumps between two looks all day (a car stands there or does not) has every reason to be at that
//! end. What is taken for its memory is then taken off, however long it lasts. But the cover lies *beyond* the end, further than anything
//! ever did while the camera learned.
//!
//! The **excursion** of a window is how far the mean of a feature of its picture lies outside the range of the baseline windows' means
//! and the feature's tolerance, in units of their standard deviation plus half the tolerance; the largest over the features counts. It is
//! not assumed to have any distribution. What it is for an honest camera is learned by leaving out: each baseline window is held against
//! the others without its neighbours, for these look alike. Of `m` independent windows and one more of the same kind, the one more is the
//! furthest with a probability of at most `1/(m+1)`, and among the two furthest with `2/(m+1)` (conformal prediction: Vovk, Gammerman and
//! Shafer 2005). An e-value bets half on each, and keeps [`KEPT`] of its stake.
//!
//! Neighbouring windows are no independent ones. With a memory of `L` windows each bets with the `L`-th root of its e-value: however the
//! `L` depend on each other, the product expects no more than 1 (Hölder's inequality). The memory is that of the largest distance
//! from the features' centres. One camera's baseline is too short to tell how slowly it wanders; what the fleet shows to wander
//! longer than that takes no part (`crate::evidence::whitening`).
//!
//! Must hold: no more than [`MOST_PIECES`] independent windows are believed, however long the baseline. A lorry that parks in the view for
//! the first time is not the fault that so many quiet days would make of it; what lasts is found within half an hour all the same.
//!
//! Evidence (`tests/tests/scenes`: clips as they are, backwards, and at their ends; 15 faults): where three features had to be far outside
//! at once, and their number was bet on as a normal deviate, faults were missed on every camera that had seen a car while it learned, and
//! those found took up to 47 windows; now most take 13 to 20, and clean halves stay quiet. The sum of several excursions, or a margin of
//! less than the tolerance, calls clean clips changed.

use driftglass_protocol::feature::{Feature, Subject};
use serde::{Deserialize, Serialize};

use super::cumulative::Cumulative;
use crate::decision::CountedWindow;

/// Excursions below this are none.
const LEAST: f64 = 0.5;
/// Least standard deviation of a feature's means, in bins, beside its tolerance.
const LEAST_SPREAD: f64 = 0.25;
/// Share of a stake that is not bet.
const KEPT: f64 = 0.15;
/// Most independent windows that a baseline counts for.
const MOST_PIECES: f64 = 30.0;
/// Fewest windows that a camera remembers: who stops in front of it stays a while.
const LEAST_MEMORY: f64 = 4.0;
/// Most of the learning time that a camera may remember: with less than five independent pieces nothing is known.
const MOST_MEMORY: f64 = 0.2;
/// Lengths of the blocks, in windows, whose means tell the memory.
const BLOCKS: [usize; 4] = [2, 4, 8, 16];
/// Fewest blocks of a length.
const FEWEST_BLOCKS: usize = 4;
/// Least share of the usual number of frames that a window must have: the mean of a few frames strays further than that of many.
const ENOUGH_FRAMES: f64 = 0.5;

/// How far a camera goes while nothing is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Novelty {
    /// By wire number.
    known: Vec<(u8, Known)>,
    extremes: Extremes,
    /// Fewest frames of a window that is judged.
    frames: f32,
}

/// The largest excursions of a baseline's windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extremes {
    /// The largest, and the largest of those that are not of the same piece.
    furthest: [f32; 2],
    /// Independent windows.
    pieces: f32,
    /// Windows per independent window.
    memory: f32,
}

/// What is known of the means of one feature, in bins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    /// The range, widened by the tolerance.
    low: f32,
    high: f32,
    /// A unit of excursion.
    unit: f32,
}

/// What a window says that is like nothing before, or that is not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Surprise {
    /// Natural logarithm of the e-value that it would have if windows did not remember each other; above 0 where it is novel.
    log_e: f32,
    /// Windows per independent window, at least 1.
    memory: f32,
}

impl Extremes {
    /// Of a camera whose memory is the least, and that never went further than is possible.
    #[cfg(test)]
    pub(crate) const ANY: Self = Self { furthest: [1.0; 2], pieces: 12.0, memory: 4.0 };

    /// Windows per independent window, at least 1.
    #[must_use]
    pub const fn memory(&self) -> f32 {
        self.memory
    }

    /// What a window says whose largest excursion this is.
    pub(crate) fn surprise(&self, excursion: f32) -> Surprise {
        let [furthest, second] = self.furthest.map(|usual| if excursion > usual { 1.0 } else { 0.0 });
        let odds = f64::from(self.pieces) + 1.0;
        let e = KEPT + (1.0 - KEPT) * (furthest * odds + second * odds / 2.0) / 2.0;
        Surprise { log_e: single(e.ln()), memory: self.memory }
    }
}

impl Surprise {
    /// Whether it is new rather than usual.
    pub(crate) const fn is_novel(&self) -> bool {
        self.log_e > 0.0
    }

    /// The logarithm of what a window may multiply its stake with, where the e-value of an independent one is `most` at most.
    pub(crate) fn log_e_of_window(&self, most: f64) -> f64 {
        f64::from(self.log_e).min(most.ln()) / f64::from(self.memory).max(1.0)
    }
}

impl Known {
    /// Of means, where there are some.
    fn of(sums: &Sums, tolerance: u8) -> Option<Self> {
        let tolerance = f64::from(tolerance);
        let (low, high) = sums.range?;
        let spread = sums.variance().sqrt();
        Some(Self {
            low: single(low - tolerance),
            high: single(high + tolerance),
            unit: single((spread + tolerance / 2.0).max(LEAST_SPREAD)),
        })
    }

    fn excursion(&self, mean: f32) -> f32 {
        (self.low - mean).max(mean - self.high).max(0.0) / self.unit
    }
}

/// Range and moments of means.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: f64,
    sum: f64,
    squares: f64,
    range: Option<(f64, f64)>,
}

impl Sums {
    fn add(mut self, mean: Option<f64>) -> Self {
        let Some(mean) = mean else { return self };
        self.count += 1.0;
        self.sum += mean;
        self.squares += mean * mean;
        self.range = Some(self.range.map_or((mean, mean), |(low, high)| (low.min(mean), high.max(mean))));
        self
    }

    fn with(self, other: Self) -> Self {
        let range = match (self.range, other.range) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, another) => one.or(another),
        };
        Self {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
            range,
        }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    fn variance(&self) -> f64 {
        (self.squares / self.count.max(1.0) - self.mean().powi(2)).max(0.0)
    }
}

fn picture(feature: Feature) -> bool {
    feature.subject() == Subject::Picture && !feature.spec().axis.is_circular()
}

#[expect(clippy::cast_possible_truncation, reason = "bins and shares need no more than single precision")]
const fn single(value: f64) -> f32 {
    value as f32
}

/// A feature's tolerance, and its mean in every window.
type Means = (u8, Vec<Option<f64>>);

impl Novelty {
    /// From clean windows and the features of their baseline, each with its tolerance in bins. `None` where no picture was seen.
    #[must_use]
    pub(super) fn learn(windows: &[&CountedWindow], features: &[(Feature, u8)]) -> Option<Self> {
        let usual = windows.iter().map(|window| f64::from(window.quality.frames)).sum::<f64>() / windows.len() as f64;
        let frames = usual * ENOUGH_FRAMES;
        let full: Vec<&CountedWindow> =
            windows.iter().copied().filter(|window| f64::from(window.quality.frames) >= frames).collect();
        let mean = |window: &CountedWindow, feature| {
            window.histogram(feature).and_then(|histogram| Cumulative::of(histogram.counts()).mean())
        };
        let (mut known, mut means) = (Vec::with_capacity(features.len()), Vec::<Means>::with_capacity(features.len()));
        let mut distances = vec![0.0_f32; full.len()];
        for &(feature, tolerance) in features.iter().filter(|(feature, _)| picture(*feature)) {
            let of_windows: Vec<Option<f64>> = full.iter().map(|window| mean(window, feature)).collect();
            let whole = of_windows.iter().fold(Sums::default(), |sums, mean| sums.add(*mean));
            let Some(usual) = Known::of(&whole, tolerance) else { continue };
            for (distance, mean) in distances.iter_mut().zip(&of_windows) {
                let from_centre = mean.map_or(0.0, |mean| single((mean - whole.mean()).abs()) / usual.unit);
                *distance = distance.max(from_centre);
            }
            known.push((feature.number(), usual));
            means.push((tolerance, of_windows));
        }
        if known.is_empty() {
            return None;
        }
        let count = full.len() as f64;
        let memory = memory(&distances).clamp(LEAST_MEMORY, (count * MOST_MEMORY).max(LEAST_MEMORY));
        let mut excursions = excursions(&means, memory, full.len());
        excursions.sort_unstable_by(|a, b| b.total_cmp(a));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of windows")]
        let furthest =
            [0, memory as usize].map(|place| excursions.get(place).copied().unwrap_or(0.0).max(single(LEAST)));
        let pieces = single((count / memory).min(MOST_PIECES));
        let extremes = Extremes { furthest, pieces, memory: single(memory) };
        Some(Self { known, extremes, frames: single(frames) })
    }

    /// How far a feature, by its wire number, lies outside, at least 0.
    pub(super) fn excursion(&self, feature: u8, window: &Cumulative) -> f32 {
        let known = self.known.iter().find(|(known, _)| *known == feature);
        let mean = known.and_then(|_| window.mean()).map(single);
        known.zip(mean).map_or(0.0, |((_, known), mean)| known.excursion(mean))
    }

    /// What a window of so many frames is held against; `None` for too few.
    pub(super) fn extremes(&self, frames: u32) -> Option<Extremes> {
        (f64::from(frames) >= f64::from(self.frames)).then_some(self.extremes)
    }
}

/// Of each window the largest excursion from all others but those next to it, `memory` on either side.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of windows")]
fn excursions(means: &[Means], memory: f64, windows: usize) -> Vec<f32> {
    let beside = memory.ceil() as usize;
    let mut largest = vec![0.0_f32; windows];
    for (tolerance, of_windows) in means {
        let before = running(of_windows.iter());
        let after = running(of_windows.iter().rev());
        for (place, (largest, mean)) in largest.iter_mut().zip(of_windows).enumerate() {
            let left = before[place.saturating_sub(beside)];
            let right = after[windows.saturating_sub(place + beside + 1)];
            let excursion = Known::of(&left.with(right), *tolerance).zip(*mean);
            *largest = excursion.map_or(*largest, |(known, mean)| largest.max(known.excursion(single(mean))));
        }
    }
    largest
}

/// Of the first 0, 1, 2, … means.
fn running<'a>(means: impl Iterator<Item = &'a Option<f64>>) -> Vec<Sums> {
    let mut so_far = Sums::default();
    let mut all = vec![so_far];
    all.extend(means.map(|mean| {
        so_far = so_far.add(*mean);
        so_far
    }));
    all
}

/// Windows per independent one: by how much the means of blocks scatter more than they would (Flyvbjerg and Petersen 1989), at least 1.
fn memory(values: &[f32]) -> f64 {
    let variance =
        |values: &mut dyn Iterator<Item = f64>| values.fold(Sums::default(), |sums, v| sums.add(Some(v))).variance();
    let single = variance(&mut values.iter().map(|&value| f64::from(value)));
    if single <= 1e-12 {
        return 1.0;
    }
    let of_blocks = |length: usize| {
        let means =
            values.windows(length).map(|block| block.iter().copied().map(f64::from).sum::<f64>() / length as f64);
        length as f64 * variance(&mut means.into_iter()) / single
    };
    let lengths = BLOCKS.into_iter().filter(|length| values.len() / length >= FEWEST_BLOCKS);
    lengths.map(of_blocks).fold(1.0, f64::max)
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::sketch::Histogram;
    use driftglass_protocol::summary::{Quality, Window};
    use driftglass_protocol::unit::{Millis, UnixMillis};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SEEN: [Feature; 2] = [Feature::LumaEntropy, Feature::LumaStd];
    const TOLERANCE: u8 = 2;

    /// A window whose features all have the same few values.
    fn window(bins: &[u8]) -> CountedWindow {
        let mut histogram = Histogram::new();
        bins.iter().for_each(|&bin| histogram.add(bin));
        CountedWindow {
            window: Window { start: UnixMillis(0), length: Millis(60_000), merged: 1 },
            quality: Quality { frames: u32::try_from(bins.len()).expect("few"), ..Quality::default() },
            model: None,
            histograms: SEEN.map(|feature| (feature, histogram.clone())).to_vec(),
        }
    }

    fn learn(windows: &[CountedWindow]) -> Novelty {
        let windows: Vec<&CountedWindow> = windows.iter().collect();
        Novelty::learn(&windows, &SEEN.map(|feature| (feature, TOLERANCE))).expect("pictures")
    }

    fn surprise(novelty: &Novelty, window: &CountedWindow) -> Option<Surprise> {
        let excursion = window
            .histograms
            .iter()
            .map(|(feature, counts)| novelty.excursion(feature.number(), &Cumulative::of(counts.counts())));
        Some(novelty.extremes(window.quality.frames)?.surprise(excursion.fold(0.0, f32::max)))
    }

    fn is_novel(novelty: &Novelty, bins: &[u8]) -> bool {
        surprise(novelty, &window(bins)).expect("enough frames").is_novel()
    }

    /// A road: empty most of the time, now and then a car for five windows.
    fn road() -> Vec<CountedWindow> {
        (0..100).map(|at| if at % 20 < 5 { window(&[118, 120, 121]) } else { window(&[80, 81, 82]) }).collect()
    }

    #[test]
    fn what_lies_beyond_everything_is_novel_and_what_jumps_within_it_is_not() {
        let normal = learn(&road());
        assert!(!is_novel(&normal, &[80, 80, 80]), "an empty road");
        assert!(!is_novel(&normal, &[121, 121, 121]), "a car that stays");
        assert!(!is_novel(&normal, &[76, 77, 78]), "a little darker than ever");
        assert!(is_novel(&normal, &[40, 40, 40]), "a cover");
        assert!(is_novel(&normal, &[200, 200, 200]), "the sun in the lens");
    }

    #[test]
    fn what_happened_while_it_learned_is_held_against_the_next() {
        // Now and then somebody stands before the lens, in another coat each time.
        let log_e = |coats: &[u8]| {
            let bins = |at: usize| coats.get(at / 4).copied().unwrap_or(80);
            let normal = learn(&(0..100).map(|at| window(&[bins(at); 3])).collect::<Vec<_>>());
            surprise(&normal, &window(&[40; 3])).expect("enough frames").log_e
        };
        let (never, once, twice) = (log_e(&[]), log_e(&[250]), log_e(&[250, 80, 80, 1]));
        assert!(never > 2.0 && once > 0.0 && once < never, "{never}, {once}");
        assert!(twice <= 0.0, "{twice}");
    }

    #[test]
    fn the_longer_excursions_last_the_less_a_window_says() {
        let lasting = |windows: usize| {
            let mut random = ChaCha8Rng::seed_from_u64(5);
            let mut bin = 100;
            let all: Vec<CountedWindow> = (0..400)
                .map(|at| {
                    bin = if at % windows == 0 { random.random_range(60..140) } else { bin };
                    window(&[bin; 3])
                })
                .collect();
            learn(&all).extremes.memory()
        };
        assert!(lasting(12) > 1.5 * lasting(1), "{} and {}", lasting(12), lasting(1));
        assert!(lasting(1) >= single(LEAST_MEMORY) && lasting(12) < 20.0);
    }

    #[test]
    fn a_window_is_not_held_against_itself_and_its_neighbours() {
        let rising: Vec<Option<f64>> = (0..9).map(|at| Some(f64::from(at) * 10.0)).collect();
        let found = excursions(&[(0, rising)], 1.0, 9);
        assert!(found[8] > 0.0 && found[0] > 0.0, "the ends lie outside of all but their neighbours: {found:?}");
        assert!(found[4].abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn a_few_frames_are_no_window_to_be_judged() {
        let normal = learn(&road());
        assert!(surprise(&normal, &window(&[40])).is_none());
        assert!(surprise(&normal, &window(&[40, 40])).is_some());
    }

    #[test]
    fn what_is_bet_on_an_honest_camera_does_not_grow() {
        // Levels that are new in every window, and such as wander with a memory of about six windows.
        for forgotten in [1.0, 0.3] {
            let mut random = ChaCha8Rng::seed_from_u64(9);
            let (mut capital, cameras) = (0.0, 1500);
            for _ in 0..cameras {
                let mut level = 0.0;
                let mut next = || {
                    level += forgotten * (f64::from(random.random_range(-60_i8..=60)) - level);
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the axis")]
                    let bin = (128.0 + level) as u8;
                    window(&[bin; 3])
                };
                let normal = learn(&(0..60).map(|_| next()).collect::<Vec<_>>());
                let log_e = (0..40).map(|_| surprise(&normal, &next()).expect("frames").log_e_of_window(f64::INFINITY));
                capital += log_e.sum::<f64>().exp() / f64::from(cameras);
            }
            assert!(capital < 1.1, "memory lost {forgotten} a window: {capital}");
        }
    }
}
