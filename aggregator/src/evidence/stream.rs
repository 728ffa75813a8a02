//! One feature of one camera from window to window: what was predicted, what came, and what was gathered from the difference.
//!
//! Must hold: what a window changes, beside the sketches of what is expected and of the blocks under way, takes no more than 64 bytes
//! (`State`), for there are millions of streams at a centre. Calibrations change with epochs only.

use serde::{Deserialize, Serialize};

use super::betting::Capital;
use super::run::Run;
use super::whitening::{Calibration, LENGTHS};
use crate::baseline::{Reading, Sample, THRESHOLDS};
use crate::packed;

/// Windows until a filter has forgotten where it started; the same for all, so that the blocks of peers cover the same time.
const WARM_UP: u8 = 4;
/// `√(p(1−p))` at each threshold of a grid that cuts into equal shares.
const DEVIATIONS: [f32; THRESHOLDS] =
    [0.242, 0.331, 0.390, 0.433, 0.464, 0.484, 0.496, 0.5, 0.496, 0.484, 0.464, 0.433, 0.390, 0.331, 0.242];
/// Block lengths of more than one window.
const LONGER: usize = LENGTHS.len() - 1;
const _: () = assert!(LENGTHS[0] == 1, "a window is a block of its own, which nothing has to be remembered of");
const _: () = assert!(size_of::<State>() <= 64, "what a window changes of a stream, beside its sketches");

/// One feature of one camera: what has to be remembered between windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// How it is whitened and weighed.
    pub calibration: Calibration,
    /// The filter's prediction of the next reading.
    #[serde(with = "packed")]
    predicted: Reading,
    /// Innovations over the current block of each length but the shortest.
    blocks: [Block; LONGER],
    pub(super) state: State,
}

/// What windows change of a stream, beside its sketches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Evidence of this feature.
    pub(super) capital: Capital,
    pub(super) run: Run,
    /// Window up to which the filter predicts.
    next: u32,
    /// Wire number of the feature.
    feature: u8,
    /// Whether its axis is a circle.
    circular: bool,
    /// Windows until the filter can be relied on.
    cold: u8,
}

/// A sketch of the innovations of some windows: their weighted sums on the baseline's ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Block {
    #[serde(with = "packed")]
    sum: Reading,
    /// Of how many usual windows.
    worth: f32,
    windows: u16,
}

/// What one window said that was not predicted, and how many usual windows that is worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Innovation {
    reading: Reading,
    worth: f32,
}

/// A block's mean innovation, with its variances.
pub(super) struct Finished {
    pub(super) mean: [f64; THRESHOLDS],
    pub(super) level: f64,
    pub(super) share_variance: f64,
    pub(super) level_variance: f64,
    /// The same with all of the baseline's own error.
    pub(super) whole_level_variance: f64,
}

impl Stream {
    /// A stream that has seen nothing in this epoch. `before` is the same stream in the epoch before: its filter is warm.
    #[must_use]
    pub fn new(feature: u8, circular: bool, calibration: Calibration, before: Option<&Self>) -> Self {
        Self {
            calibration,
            predicted: before.map_or([0.0; THRESHOLDS], |before| before.predicted),
            blocks: [Block::default(); LONGER],
            state: State {
                capital: Capital::NONE,
                run: Run::NONE,
                next: 0,
                feature,
                circular,
                cold: before.map_or(WARM_UP, |before| before.state.cold),
            },
        }
    }

    /// With a filter that can be relied on from the first window.
    #[cfg(test)]
    pub(super) fn warm(mut self) -> Self {
        self.state.cold = 0;
        self
    }

    /// Wire number of the feature.
    #[must_use]
    pub const fn feature(&self) -> u8 {
        self.state.feature
    }

    pub(super) const fn is_circular(&self) -> bool {
        self.state.circular
    }

    /// Its evidence: mean capital of its bettors.
    #[must_use]
    pub fn evidence(&self) -> f64 {
        self.state.capital.mean()
    }

    /// Begins anew with no evidence; what is predicted stays.
    pub(super) fn forgive(&mut self) {
        self.blocks = [Block::default(); LONGER];
        (self.state.capital, self.state.run) = (Capital::NONE, Run::NONE);
    }

    /// Takes in a reading; `None` for one that is not later than those before, and is no evidence, and while the filter is cold.
    ///
    /// A window of fewer frames than usual is noisier: it counts, and moves the prediction, by as much less. A prediction never goes
    /// further than the camera wanders: what lies beyond is a change, and must not be grown used to.
    pub(super) fn observe(&mut self, sample: &Sample, window: u32) -> Option<Innovation> {
        let next = self.state.next;
        if window < next {
            return None;
        }
        let Calibration { phi, gain, furthest, share_variance: [usual, ..], .. } = self.calibration;
        let missed = phi.powi(i32::try_from(window - next).unwrap_or(i32::MAX));
        let worth = usual / (usual + sample.noise);
        let before: Reading = std::array::from_fn(|j| self.predicted[j] * missed);
        let innovation = Innovation { reading: std::array::from_fn(|j| sample.reading[j] - before[j]), worth };
        self.predicted = std::array::from_fn(|j| {
            let furthest = furthest * DEVIATIONS[j];
            // No `clamp`, which would look at every limit before it is used.
            (phi * (before[j] + gain * worth * innovation.reading[j])).max(-furthest).min(furthest)
        });
        self.state.next = window.saturating_add(1);
        if self.state.cold > 0 {
            self.state.cold -= 1;
            return None;
        }
        for (block, length) in self.blocks.iter_mut().zip(&LENGTHS[1..]) {
            if window / length != next.saturating_sub(1) / length {
                *block = Block::default();
            }
            block.windows += 1;
            block.worth += worth;
            for (sum, innovation) in block.sum.iter_mut().zip(&innovation.reading) {
                *sum += worth * innovation;
            }
        }
        Some(innovation)
    }

    /// The block of more than one window that ends with this one, if at least nine in ten of its windows came, this one among them:
    /// peers are compared over the same time, and a shock that began while some of them were silent, or their filters cold, would look
    /// like a difference. It is given out once.
    pub(super) fn finish(&mut self, length: usize, window: u32) -> Option<Finished> {
        let whole = LENGTHS[length];
        if self.state.next != window.saturating_add(1) || self.state.cold > 0 {
            return None;
        }
        let block = self.blocks.get_mut(length.checked_sub(1)?)?;
        if u32::from(block.windows) * 10 < whole * 9 || block.windows == 0 {
            return None;
        }
        block.windows = 0;
        let worth = f64::from(block.worth);
        let mean = block.sum.map(|sum| f64::from(sum) / worth);
        // Fewer windows, and windows of fewer frames, are worth less.
        Some(self.finished(mean, length, f64::from(whole) / worth))
    }

    /// A window as the block of one window that it is.
    pub(super) fn single(&self, window: &Innovation) -> Finished {
        self.finished(window.reading.map(f64::from), 0, 1.0 / f64::from(window.worth))
    }

    fn finished(&self, mean: [f64; THRESHOLDS], length: usize, scale: f64) -> Finished {
        let level_variance = f64::from(self.calibration.level_variance[length]) * scale;
        Finished {
            level: mean.iter().sum::<f64>() / THRESHOLDS as f64,
            mean,
            share_variance: f64::from(self.calibration.share_variance[length]) * scale,
            level_variance,
            whole_level_variance: level_variance + f64::from(self.calibration.level_left_out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::fixture::camera;

    #[test]
    fn a_window_twice_as_noisy_as_usual_counts_half() {
        let usual = Sample { feature: 0, noise: 0.0, reading: [0.4; THRESHOLDS], excursion: 0.0 };
        let mut stream = camera().streams.remove(0);
        stream.observe(&usual, 0);
        stream.observe(&Sample { noise: stream.calibration.share_variance[0], ..usual }, 1);
        let block = &stream.blocks[0];
        assert!((block.worth - 1.5).abs() < 1e-6 && (block.sum[7] - 0.6).abs() < 1e-6, "{block:?}");
    }

    #[test]
    fn a_block_is_given_out_once_and_only_where_nine_in_ten_of_its_windows_came() {
        let sample = Sample { feature: 0, noise: 0.0, reading: [0.4; THRESHOLDS], excursion: 0.0 };
        let blocks_of = |windows: &[u32]| {
            let mut stream = camera().streams.remove(0);
            for &window in windows {
                stream.observe(&sample, window);
            }
            [stream.finish(1, 7), stream.finish(1, 7)].map(|block| block.is_some())
        };
        assert_eq!(blocks_of(&[4, 5, 6, 7]), [true, false]);
        assert_eq!(blocks_of(&[0, 1, 2, 3, 4, 5, 6, 7]), [true, false]);
        assert_eq!(blocks_of(&[0, 1, 2, 3, 4, 5, 7]), [false; 2], "one in four is missing");
        assert_eq!(blocks_of(&[4, 5, 6]), [false; 2], "it has not ended");
    }
}
