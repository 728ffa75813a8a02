//! A histogram added up: how many values lie at or below each bin.
//!
//! Made once for every feature of a window; ranks, ranges and totals are all read from it.

use driftglass_protocol::limit::BINS;

/// Windows whose number of values has no more bits than this are added up exactly, in 32 bits; of larger ones the lowest bits of the counts
/// are left out, which changes no share by more than 2⁻¹⁷.
const EXACT_BITS: u32 = 26;
/// Bins that are looked at together.
const PART: usize = 32;
const PARTS: usize = BINS / PART;
const _: () = assert!((PART as u64) << EXACT_BITS <= 1 << u32::BITS, "as many sums of so many bits fit into 32");

/// Values up to and including each bin.
pub(super) struct Cumulative {
    up_to: [u32; BINS],
}

impl Cumulative {
    /// Nothing counted.
    pub(super) const fn new() -> Self {
        Self { up_to: [0; BINS] }
    }

    pub(super) fn of(counts: &[u32; BINS]) -> Self {
        let mut cumulative = Self::new();
        cumulative.fill(counts);
        cumulative
    }

    /// Counts these, and forgets what was counted before.
    pub(super) fn fill(&mut self, counts: &[u32; BINS]) {
        let (parts, _) = counts.as_chunks::<PART>();
        // The bits there are in each part; where there are none, as in most of a usual window's, nothing has to be added.
        let bits: [u32; PARTS] = std::array::from_fn(|part| parts[part].iter().fold(0, |bits, count| bits | count));
        // 256 counts of 18 bits are the usual case.
        if bits.iter().all(|bits| bits >> (EXACT_BITS - 8) == 0) {
            self.add_up(parts, bits, |count| count);
        } else {
            let left_out = left_out(counts);
            self.add_up(parts, bits, |count| count >> left_out);
        }
    }

    /// Counts these as `scaled`.
    #[inline(always)]
    fn add_up(&mut self, parts: &[[u32; PART]], bits: [u32; PARTS], scaled: impl Fn(u32) -> u32) {
        let mut sum = 0;
        for ((slots, part), bits) in self.up_to.as_chunks_mut::<PART>().0.iter_mut().zip(parts).zip(bits) {
            if bits == 0 {
                slots.fill(sum);
                continue;
            }
            for (slot, &count) in slots.iter_mut().zip(part) {
                sum += scaled(count);
                *slot = sum;
            }
        }
    }

    /// Values in bins up to and including this one.
    pub(super) fn up_to(&self, bin: u8) -> u32 {
        self.up_to[usize::from(bin)]
    }

    pub(super) fn total(&self) -> u32 {
        self.up_to(u8::MAX)
    }

    /// Mean bin; `None` where nothing was counted.
    pub(super) fn mean(&self) -> Option<f64> {
        // A value in bin v lies at or below 256 − v bins.
        let (parts, _) = self.up_to.as_chunks::<PART>();
        let below: u64 = parts.iter().map(|part| u64::from(part.iter().sum::<u32>())).sum();
        (self.total() > 0).then(|| BINS as f64 - below as f64 / f64::from(self.total()))
    }
}

/// Lowest bits of the counts that are too many for their sum.
fn left_out(counts: &[u32; BINS]) -> u32 {
    let all: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    (u64::BITS - all.leading_zeros()).saturating_sub(EXACT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bin_counts_what_lies_at_or_below_it() {
        let counts = std::array::from_fn(|bin| u32::try_from(bin * 7 % 11).expect("small"));
        let mut cumulative = Cumulative::of(&[1 << 17; BINS]);
        cumulative.fill(&counts);
        let mut below = 0;
        for (bin, &count) in counts.iter().enumerate() {
            below += count;
            assert_eq!(cumulative.up_to[bin], below, "bin {bin}");
        }
        assert_eq!(cumulative.total(), below);
        let sum: f64 = counts.iter().enumerate().map(|(bin, &count)| bin as f64 * f64::from(count)).sum();
        assert!((cumulative.mean().expect("values") - sum / f64::from(below)).abs() < 1e-9);
        assert_eq!(Cumulative::of(&[0; BINS]).mean(), None);
    }

    #[test]
    fn no_counts_are_too_large() {
        for counts in [[u32::MAX; BINS], [(1 << 18) - 1; BINS], [1 << 18; BINS]] {
            let cumulative = Cumulative::of(&counts);
            for bin in 0..BINS {
                let share = f64::from(cumulative.up_to[bin]) / f64::from(cumulative.total());
                assert!((share - (bin + 1) as f64 / BINS as f64).abs() < 1e-6, "bin {bin} of {}", counts[0]);
            }
            assert!((cumulative.mean().expect("values") - 127.5).abs() < 1e-6);
        }
        let mut few_beside_many = [0; BINS];
        (few_beside_many[10], few_beside_many[200]) = (7, u32::MAX);
        assert!(f64::from(Cumulative::of(&few_beside_many).up_to(199)) < 1.0);
    }
}
