//! What one camera of a site does beside the others.
//!
//! What all do at once is no camera's: weather, dusk and a power dip move a whole site. Peers react with different strength, so a share
//! of the common movement is forgiven, and where the peers disagree among themselves more than their own past explains, the scale is
//! widened by as much. Fewer than [`ENOUGH_PEERS`] cameras: a site-wide cause cannot be told from a camera's.

use super::stream::Finished;
use crate::baseline::{Surprise, THRESHOLDS};

/// Cameras at a site, from which on peers take part in the decision: a mean over at least four others.
pub const ENOUGH_PEERS: usize = 5;
/// Peers that disagree `1 + c/√n` times more than expected, n of them, disagree by more than chance (the median of n squared deviates strays by
/// 2.3/√n), and the scale is widened by as much as they do. Much less is asked while the whole site is moved by something: two opposite
/// shocks at once cancel in the mean of the peers, and only their disagreement tells. By simulation (1,000 cameras, 20 runs each at
/// q = 0.1): with 5 in any case 8.8 of 10 drifts among slowly wandering cameras were found; with 7, 9.15, but 3 of 40 runs with nothing but
/// shocks had a false alert.
const DISAGREEMENT: f64 = 7.0;
const DISAGREEMENT_IF_SHAKEN: f64 = 3.0;
/// Median of a chi-square with one degree of freedom.
const MEDIAN_SQUARE: f64 = 0.455;

/// Blocks of all cameras of a site.
pub(super) struct Peers {
    count: f64,
    sum: [f64; THRESHOLDS],
    level: f64,
    /// Mean variance of their levels.
    level_variance: f64,
    /// How many times more than expected they disagree.
    disagreement: f64,
    /// By how much the variance of a residual exceeds that of the camera's own innovation.
    widening: f64,
}

/// What one camera does beside the others.
pub(super) struct Others {
    pub(super) common: [f64; THRESHOLDS],
    pub(super) residual: [f64; THRESHOLDS],
}

impl Peers {
    /// `None` for too few.
    pub(super) fn of(blocks: &[(usize, usize, Finished)]) -> Option<Self> {
        if blocks.len() < ENOUGH_PEERS {
            return None;
        }
        let (mut sum, mut level) = ([0.0; THRESHOLDS], 0.0);
        for (.., block) in blocks {
            level += block.level;
            for (slot, mean) in sum.iter_mut().zip(&block.mean) {
                *slot += mean;
            }
        }
        let count = blocks.len() as f64;
        // About the middle one, which a camera that has changed does not move.
        let middle = median(blocks.iter().map(|(.., block)| block.level).collect());
        let squares = blocks.iter().map(|(.., block)| (block.level - middle).powi(2) / block.whole_level_variance);
        let disagreement = median(squares.collect()) / MEDIAN_SQUARE;
        let level_variance = blocks.iter().map(|(.., block)| block.level_variance).sum::<f64>() / count;
        Some(Self { count, sum, level, level_variance, disagreement, widening: count / (count - 1.0) })
    }

    /// Whether something moves all of them: their mean is off by more than a single one usually is.
    pub(super) fn are_shaken(&self) -> bool {
        (self.level / self.count).powi(2) > self.level_variance
    }

    /// Widens the scale where they disagree by more than chance.
    pub(super) fn widen(&mut self, shaken: bool) {
        let chance = if shaken { DISAGREEMENT_IF_SHAKEN } else { DISAGREEMENT } / self.count.sqrt();
        if self.disagreement > 1.0 + chance {
            self.widening *= self.disagreement;
        }
    }

    /// What a camera's block is beside those of the others.
    pub(super) fn without(&self, block: &Finished) -> Others {
        let others = self.count - 1.0;
        let (mut common, mut residual) = ([0.0; THRESHOLDS], [0.0; THRESHOLDS]);
        for j in 0..THRESHOLDS {
            common[j] = (self.sum[j] - block.mean[j]) / others;
            residual[j] = block.mean[j] - common[j];
        }
        Others { common, residual }
    }

    /// The same of their levels: what is common, and what is left.
    pub(super) fn level_without(&self, block: &Finished) -> (f64, f64) {
        let common = (self.level - block.level) / (self.count - 1.0);
        (common, block.level - common)
    }

    /// By how much the variance of a residual exceeds that of the camera's own innovation.
    pub(super) const fn widening(&self) -> f64 {
        self.widening
    }
}

/// The median of at least one number.
fn median(mut numbers: Vec<f64>) -> f64 {
    let (half, odd) = (numbers.len() / 2, numbers.len() % 2 == 1);
    let (below, &mut upper, _) = numbers.select_nth_unstable_by(half, f64::total_cmp);
    let lower = below.iter().copied().max_by(f64::total_cmp).filter(|_| !odd).unwrap_or(upper);
    f64::midpoint(lower, upper)
}

/// How many cameras of a site show what they never showed.
pub(super) struct Novelties {
    cameras: usize,
    novel: usize,
}

impl Novelties {
    /// Of what those say that can tell.
    pub(super) fn of(surprises: impl Iterator<Item = Surprise>) -> Self {
        surprises.fold(Self { cameras: 0, novel: 0 }, |so_far, surprise| Self {
            cameras: so_far.cameras + 1,
            novel: so_far.novel + usize::from(surprise.is_novel()),
        })
    }

    /// The logarithm of a camera's e-value, and no more than what the share of its peers that show something new as well leaves of it: fog
    /// and a power cut are new to a whole site. `None` where it has peers that cannot be asked.
    pub(super) fn beside_the_others(&self, surprise: Surprise, active: usize) -> Option<f64> {
        if active < ENOUGH_PEERS {
            return Some(surprise.log_e_of_window(f64::INFINITY));
        }
        if self.cameras < ENOUGH_PEERS {
            return None;
        }
        let novel = self.novel - usize::from(surprise.is_novel());
        Some(surprise.log_e_of_window((self.cameras - 1) as f64 / novel as f64))
    }
}
