//! A histogram added up: how many values lie at or below each bin.
//!
//! Made once for every feature of a window; ranks, ranges and totals are all read from it.

use driftglass_protocol::limit::BINS;

/// Parts of the axis that are added up side by side: one long sum, each step waiting for the one before, is what most of a window's time
/// would go to.
const PARTS: usize = 4;
const PART: usize = BINS / PARTS;

/// Values up to and including each bin.
pub(super) struct Cumulative {
    /// Within its part.
    within: [[u64; PARTS]; PART],
    /// In the parts before.
    before: [u64; PARTS],
    total: u64,
    /// Of what lies at or below each bin, the sum over all bins.
    sum: u64,
}

impl Cumulative {
    /// 256 counts of 32 bits cannot overflow 64.
    pub(super) fn of(counts: &[u32; BINS]) -> Self {
        let (mut within, mut sums, mut heights) = ([[0; PARTS]; PART], [0_u64; PARTS], [0_u64; PARTS]);
        for (bin, slot) in within.iter_mut().enumerate() {
            for (part, sum) in sums.iter_mut().enumerate() {
                *sum += u64::from(counts[part * PART + bin]);
                heights[part] += *sum;
            }
            *slot = sums;
        }
        let (mut before, mut total, mut sum) = ([0; PARTS], 0, 0);
        for ((slot, of_part), heights) in before.iter_mut().zip(sums).zip(heights) {
            *slot = total;
            sum += heights + PART as u64 * total;
            total += of_part;
        }
        Self { within, before, total, sum }
    }

    /// Values in bins up to and including this one, which must be one.
    pub(super) const fn up_to(&self, bin: usize) -> u64 {
        let part = bin / PART;
        self.before[part] + self.within[bin % PART][part]
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Mean bin; `None` where nothing was counted.
    pub(super) fn mean(&self) -> Option<f64> {
        // A value in bin v lies at or below 256 − v bins.
        (self.total > 0).then(|| BINS as f64 - self.sum as f64 / self.total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bin_counts_what_lies_at_or_below_it() {
        let mut counts = std::array::from_fn(|bin| u32::try_from(bin * 7 % 11).expect("small"));
        (counts[63], counts[64], counts[255]) = (u32::MAX, u32::MAX, u32::MAX);
        let cumulative = Cumulative::of(&counts);
        let mut below = 0;
        for (bin, &count) in counts.iter().enumerate() {
            below += u64::from(count);
            assert_eq!(cumulative.up_to(bin), below, "bin {bin}");
        }
        assert_eq!(cumulative.total, below);
        let sum: f64 = counts.iter().enumerate().map(|(bin, &count)| bin as f64 * f64::from(count)).sum();
        assert!((cumulative.mean().expect("values") - sum / below as f64).abs() < 1e-9);
        assert_eq!(Cumulative::of(&[0; BINS]).mean(), None);
    }
}
