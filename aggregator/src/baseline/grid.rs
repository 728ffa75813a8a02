//! A baseline seen on the scale of its own ranks: up to fifteen thresholds that cut it into equal shares.
//!
//! On this scale cameras with quite different pictures can be compared and averaged (the probability integral transform): a
//! reading says at each threshold how much larger a share of the window lies at or below it than of the baseline. Evaluating a
//! distance at fixed thresholds only can make it smaller than Kolmogorov-Smirnov's D, so what is valid for D stays valid.
//!
//! A tolerance of `t` bins is a dead zone: a share counts as gone only if it lies more than `t` bins beyond its threshold. For the
//! share of a picture that changed, bin 0 is no small value but another fact, the same picture again, and lies beyond any tolerance.

use driftglass_protocol::limit::BINS;
use serde::{Deserialize, Serialize};

use super::cumulative::Cumulative;
use crate::packed;

/// Thresholds of a grid.
pub const THRESHOLDS: usize = 15;

/// Differences of cumulated shares, window minus baseline, one per threshold, in −1..1.
pub type Reading = [f32; THRESHOLDS];

/// What one window of a camera says of one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Wire number of the feature.
    pub feature: u8,
    /// Variance it has beyond that of a usual window for having fewer frames, in units of `p(1−p)`.
    pub noise: f32,
    /// How it differs.
    #[serde(with = "packed")]
    pub reading: Reading,
    /// How far its mean lies beyond everything that was seen while the baseline was learned, at least 0 ([`super::Extremes`]).
    pub excursion: f32,
}

/// Where a baseline's ranks lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    bins: [u8; THRESHOLDS],
    shares: [f32; THRESHOLDS],
}

impl Grid {
    /// The grid of a baseline; `None` for one without counts.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "shares are kept in single precision"
    )]
    pub fn of(counts: &[u32; BINS]) -> Option<Self> {
        let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        if total == 0 {
            return None;
        }
        let (mut bins, mut shares) = ([u8::MAX; THRESHOLDS], [1.0; THRESHOLDS]);
        let (mut below, mut next) = (0_u64, 0);
        for (bin, &count) in (0..=u8::MAX).zip(counts) {
            below += u64::from(count);
            while next < THRESHOLDS && below * (THRESHOLDS as u64 + 1) >= (next as u64 + 1) * total {
                bins[next] = bin;
                shares[next] = (below as f64 / total as f64) as f32;
                next += 1;
            }
        }
        Some(Self { bins, shares })
    }

    /// Share of the baseline at or below each threshold.
    #[must_use]
    pub const fn shares(&self) -> &[f32; THRESHOLDS] {
        &self.shares
    }

    /// How a window differs, with a dead zone of `tolerance` bins, beyond which bin 0 lies in any case if it is `zero_apart`; `None` for a
    /// window without counts.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a window are small, and shares are kept in single precision"
    )]
    pub(super) fn read(&self, window: &Cumulative, tolerance: u8, zero_apart: bool) -> Option<Reading> {
        let total = window.total();
        if total == 0 {
            return None;
        }
        // Counts first, one by one; then shares, side by side. Signed numbers become fractions in one step, and these fit (EXACT_BITS).
        let (mut low, mut high) = ([0; THRESHOLDS], [0; THRESHOLDS]);
        for ((low, high), &bin) in low.iter_mut().zip(&mut high).zip(&self.bins) {
            let within = window.up_to(bin.saturating_sub(tolerance)).cast_signed();
            *low = if bin < tolerance && !zero_apart { 0 } else { within };
            *high = window.up_to(if bin == 0 && zero_apart { 0 } else { bin.saturating_add(tolerance) }).cast_signed();
        }
        let total = total.cast_signed() as f32;
        Some(std::array::from_fn(|j| {
            let (low, high) = (low[j] as f32 / total, high[j] as f32 / total);
            // One of the two is 0, for low ≤ high.
            (low - self.shares[j]).max(0.0) + (high - self.shares[j]).min(0.0)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cumulative(counts: [u32; BINS]) -> Cumulative {
        Cumulative::of(&counts)
    }

    fn around(middle: usize) -> [u32; BINS] {
        let mut counts = [0; BINS];
        for (bin, slot) in counts.iter_mut().enumerate().skip(middle - 16).take(32) {
            *slot = u32::try_from(1 + bin % 3).expect("small");
        }
        counts
    }

    #[test]
    fn a_window_like_the_baseline_reads_as_nothing() {
        let grid = Grid::of(&around(100)).expect("counts");
        let reading = grid.read(&cumulative(around(100)), 0, false).expect("counts");
        assert!(reading.iter().all(|difference| difference.abs() < 1e-6), "{reading:?}");
    }

    #[test]
    fn a_shift_upwards_takes_shares_away_from_below_and_one_within_the_tolerance_does_not() {
        let grid = Grid::of(&around(100)).expect("counts");
        let reading = grid.read(&cumulative(around(108)), 0, false).expect("counts");
        assert!(reading.iter().all(|&difference| difference <= 0.0) && reading[7] < -0.1, "{reading:?}");
        let tolerated = grid.read(&cumulative(around(108)), 9, false).expect("counts");
        assert!(tolerated.iter().all(|difference| difference.abs() < 0.04), "{tolerated:?}");
        let beyond = grid.read(&cumulative(around(150)), 9, false).expect("counts");
        assert!(beyond.iter().zip(grid.shares()).all(|(difference, share)| (difference + share).abs() < 1e-6));
        let below = grid.read(&cumulative(around(40)), 9, false).expect("counts");
        assert!(below.iter().zip(grid.shares()).all(|(difference, share)| (difference - (1.0 - share)).abs() < 1e-6));
    }

    #[test]
    fn the_distance_on_the_grid_never_exceeds_kolmogorov_and_smirnov_s() {
        for shift in [0_usize, 1, 5, 9, 40] {
            let (normal, window) = (around(60), around(60 + shift));
            let on_grid = Grid::of(&normal).expect("counts").read(&cumulative(window), 0, false).expect("counts");
            let largest = on_grid.iter().fold(0.0_f64, |most, difference| most.max(f64::from(difference.abs())));
            let exact = crate::stats::binned::kolmogorov_smirnov(&window[..], &normal[..], 0).expect("counts");
            assert!(largest <= exact + 1e-6 && largest > 0.9 * exact - 1e-6, "{shift}: {largest} of {exact}");
        }
    }

    #[test]
    fn nothing_to_count_gives_no_grid_and_no_reading() {
        assert!(Grid::of(&[0; BINS]).is_none());
        assert!(Grid::of(&around(100)).expect("counts").read(&cumulative([0; BINS]), 4, false).is_none());
    }

    #[test]
    fn bin_0_lies_beyond_any_tolerance_where_it_is_another_fact() {
        let mut live = [0; BINS];
        live[2..8].fill(10);
        let mut frozen = live;
        frozen[0] = 180;
        let grid = Grid::of(&live).expect("counts");
        let reading = |window: &[u32; BINS], apart| {
            grid.read(&cumulative(*window), 8, apart).expect("counts").iter().sum::<f32>() / 15.0
        };
        assert!(reading(&frozen, false).abs() < 1e-6);
        assert!(reading(&frozen, true) > 0.2, "three frames in four are repeated");
        assert!(reading(&live, true).abs() < 1e-6);
        let used_to_it = Grid::of(&frozen).expect("counts");
        assert!(
            used_to_it
                .read(&cumulative(frozen), 8, true)
                .expect("counts")
                .iter()
                .all(|difference| difference.abs() < 1e-6)
        );
    }
}
