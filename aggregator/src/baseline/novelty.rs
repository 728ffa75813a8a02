//! Pictures unlike anything that was ever seen, and how unlikely it is that there are so many.
//!
//! Distances on the rank scale end where the baseline ends: a covered lens and an empty road may both lie at the lower end of every
//! feature, and a camera whose picture jumps between two looks all day (a car stands there or does not) has every reason to be at that
//! end. What is taken for its memory is then taken off, however long it lasts. But the cover lies *far* beyond the end, in several
//! features at once, and that never happened while the camera learned.
//!
//! A window is **novel** where at least [`FEATURES`] features of the picture have nearly all their values further outside the baseline's
//! range than [`FAR`] of its width. How often that happens to an honest camera is learned by leaving out: each window of the learning
//! time is held against the range of the others, without its neighbours as far as the camera remembers, for these look alike. Novel
//! windows are then counted like repeated pictures (`rarity.rs`), each for as much as it is news. With M windows and a memory of L,
//! the share is at least L/(M+2L): what was never seen in a short time may still be usual, and more of it is needed.

use driftglass_protocol::feature::{Feature, Subject};
use serde::{Deserialize, Serialize};

use super::cumulative::Cumulative;
use super::rarity::many;
use crate::decision::CountedWindow;

/// Features that must be far outside at once.
const FEATURES: usize = 3;
/// How far outside, in widths of the baseline's range.
const FAR: f64 = 0.4;
/// Of a window's values, how many must be.
const NEARLY_ALL: f64 = 0.9;
/// Fewest windows that a camera remembers: who stops in front of it stays a while.
const LEAST_MEMORY: f64 = 3.0;
/// Most of the learning time that a camera may remember: with less than five independent pieces nothing is known.
const MEMORY_MAX: f64 = 0.2;

/// What is not novel for one camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Novelty {
    /// Features of the picture, and the bins between which they are not far outside.
    known: Vec<(u8, Range)>,
    /// Share of an honest camera's independent windows that are novel.
    share: f64,
    /// Windows per independent window.
    memory: f64,
}

/// Lowest and highest bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    low: u8,
    high: u8,
}

impl Range {
    /// Of the values of a histogram; `None` where it has none.
    fn of(counts: &[u32; 256]) -> Option<Self> {
        let low = counts.iter().position(|&count| count > 0)?;
        let high = counts.iter().rposition(|&count| count > 0)?;
        Some(Self { low: u8::try_from(low).ok()?, high: u8::try_from(high).ok()? })
    }

    fn with(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Widened by what is not far outside: a share of its width, and twice the tolerance.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of at most 255")]
    fn widened(self, tolerance: u8) -> Self {
        let margin = ((f64::from(self.high - self.low) * FAR).ceil() as u8).max(tolerance.saturating_mul(2));
        Self { low: self.low.saturating_sub(margin), high: self.high.saturating_add(margin) }
    }

    /// Whether nearly all values lie outside.
    fn excludes(self, window: &Cumulative) -> bool {
        let below = self.low.checked_sub(1).map_or(0, |bin| window.up_to(bin.into()));
        let within = window.up_to(self.high.into()).saturating_sub(below);
        let all = window.total();
        all > 0 && within as f64 <= (1.0 - NEARLY_ALL) * all as f64
    }
}

fn picture(feature: Feature) -> bool {
    let axis = feature.spec().axis;
    feature.subject() == Subject::Picture && !axis.is_circular()
}

impl Novelty {
    /// From clean windows and the features of their baseline, each with its tolerance in bins; `memory` is the number of windows per
    /// independent window. `None` where there are too few features for a window to be novel.
    #[must_use]
    pub(super) fn learn(windows: &[&CountedWindow], features: &[(Feature, u8)], memory: f64) -> Option<Self> {
        let memory = memory.clamp(LEAST_MEMORY, (windows.len() as f64 * MEMORY_MAX).max(LEAST_MEMORY));
        let mut known = Vec::with_capacity(features.len());
        let mut outside = vec![0_usize; windows.len()];
        for &(feature, tolerance) in features.iter().filter(|(feature, _)| picture(*feature)) {
            let counts = |window: &&CountedWindow| window.histogram(feature).map(|histogram| *histogram.counts());
            let ranges: Vec<Option<Range>> =
                windows.iter().map(|window| counts(window).as_ref().and_then(Range::of)).collect();
            let Some(whole) = ranges.iter().flatten().copied().reduce(Range::with) else { continue };
            known.push((feature.number(), whole.widened(tolerance)));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of windows")]
            let others = without_neighbours(&ranges, memory.ceil() as usize);
            for ((outside, window), others) in outside.iter_mut().zip(windows).zip(others) {
                let beyond = |(others, counts): (Range, [u32; 256])| {
                    others.widened(tolerance).excludes(&Cumulative::of(&counts))
                };
                *outside += usize::from(others.zip(counts(window)).is_some_and(beyond));
            }
        }
        if known.len() < FEATURES {
            return None;
        }
        let novel = outside.iter().filter(|&&outside| outside >= FEATURES).count() as f64;
        let share = (novel / memory + 1.0) / (windows.len() as f64 / memory + 2.0);
        Some(Self { known, share, memory })
    }

    /// Whether nearly all values of a feature, by its wire number, lie far outside.
    pub(super) fn is_outside(&self, feature: u8, window: &Cumulative) -> bool {
        let known = self.known.iter().find(|(known, _)| *known == feature);
        known.is_some_and(|(_, range)| range.excludes(window))
    }

    /// The standard normal deviate of a window with so many features outside: it is novel, or is not.
    #[must_use]
    pub(super) fn deviate(&self, outside: usize) -> f32 {
        let novel = u8::from(outside >= FEATURES);
        many(f64::from(novel) / self.memory, 1.0 / self.memory, self.share)
    }
}

/// For each window the range of all others but those next to it, `memory` on either side.
fn without_neighbours(ranges: &[Option<Range>], memory: usize) -> Vec<Option<Range>> {
    let join = |a: Option<Range>, b: Option<Range>| match (a, b) {
        (Some(a), Some(b)) => Some(a.with(b)),
        (one, other) => one.or(other),
    };
    let running = |range: &mut dyn Iterator<Item = &Option<Range>>| -> Vec<Option<Range>> {
        let mut so_far = None;
        let mut all = vec![None];
        all.extend(range.map(|range| {
            so_far = join(so_far, *range);
            so_far
        }));
        all
    };
    let (before, after) = (running(&mut ranges.iter()), running(&mut ranges.iter().rev()));
    (0..ranges.len())
        .map(|place| {
            let left = place.saturating_sub(memory);
            let right = ranges.len().saturating_sub(place + memory + 1);
            join(before[left], after[right])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::sketch::Histogram;
    use driftglass_protocol::summary::{Quality, Window};
    use driftglass_protocol::unit::{Millis, UnixMillis};

    use super::*;

    const SEEN: [Feature; 4] =
        [Feature::LumaEntropy, Feature::HighFrequencyEnergy, Feature::ReferenceCorrelation, Feature::LumaStd];

    /// A window whose features all have the same few values.
    fn window(bins: &[u8]) -> CountedWindow {
        let mut histogram = Histogram::new();
        bins.iter().for_each(|&bin| histogram.add(bin));
        CountedWindow {
            window: Window { start: UnixMillis(0), length: Millis(60_000), merged: 1 },
            quality: Quality { frames: 3, ..Quality::default() },
            model: None,
            histograms: SEEN.map(|feature| (feature, histogram.clone())).to_vec(),
        }
    }

    fn learn(windows: &[CountedWindow], memory: f64) -> Novelty {
        let windows: Vec<&CountedWindow> = windows.iter().collect();
        Novelty::learn(&windows, &SEEN.map(|feature| (feature, 2)), memory).expect("enough features")
    }

    fn deviate(novelty: &Novelty, window: &CountedWindow) -> f32 {
        let counts =
            window.histograms.iter().map(|(feature, counts)| (feature.number(), Cumulative::of(counts.counts())));
        novelty.deviate(counts.filter(|(feature, counts)| novelty.is_outside(*feature, counts)).count())
    }

    /// A road: empty most of the time, now and then a car for five windows.
    fn road() -> Vec<CountedWindow> {
        (0..100).map(|at| if at % 20 < 5 { window(&[118, 120, 121]) } else { window(&[80, 81, 82]) }).collect()
    }

    #[test]
    fn what_lies_far_beyond_everything_is_novel_and_what_jumps_within_it_is_not() {
        let normal = learn(&road(), 5.0);
        assert!(deviate(&normal, &window(&[80, 80, 80])) <= 0.0, "an empty road");
        assert!(deviate(&normal, &window(&[121, 121, 121])) <= 0.0, "a car that stays");
        assert!(deviate(&normal, &window(&[72, 72, 72])) <= 0.0, "a little darker than ever");
        assert!(deviate(&normal, &window(&[40, 40, 40])) > 0.5, "a cover");
        assert!(deviate(&normal, &window(&[40, 40, 81])) <= 0.0, "some frames only");
    }

    #[test]
    fn the_longer_a_camera_remembers_the_less_a_window_says() {
        let cover = window(&[40, 40, 40]);
        let [short, long] = [3.0, 12.0].map(|memory| deviate(&learn(&road(), memory), &cover));
        assert!(short > 1.0 && long > 0.0 && long < short / 2.0, "{short} and {long}");
    }

    #[test]
    fn a_camera_that_always_shows_something_new_may_go_on() {
        // Every twenty windows it looks elsewhere.
        let restless: Vec<CountedWindow> =
            (0..100_u8).map(|at| window(&[if at % 20 < 2 { 60 + at } else { 30 }])).collect();
        let restless = learn(&restless, 2.0);
        let calm = learn(&road(), 2.0);
        let cover = window(&[250, 250, 250]);
        assert!(
            deviate(&restless, &cover) <= deviate(&calm, &cover),
            "what it showed once in its learning time counts"
        );
        assert!(restless.share >= calm.share);
    }

    #[test]
    fn a_window_is_not_held_against_itself_and_its_neighbours() {
        let ranges: Vec<Option<Range>> = (0..5).map(|at| Some(Range { low: at, high: at })).collect();
        let others = without_neighbours(&ranges, 1);
        assert_eq!(others[0], Some(Range { low: 2, high: 4 }));
        assert_eq!(others[2], Some(Range { low: 0, high: 4 }));
        assert_eq!(without_neighbours(&ranges, 9), vec![None; 5]);
    }
}
