//! Which values of an autocorrelated stream count as independent: every ⌈τ⌉th.
//!
//! τ is how much larger the variance of sums over blocks of 2ˡ neighbouring values is than independent values would make it, the
//! largest over all l with 30 blocks or more. It is measured on the stream itself: at 256 values and then each time their number has
//! doubled, so that the longer a stream lasts, the slower are the modes that are seen; the first 256 values all count. A stream
//! cannot tell a change from autocorrelation, so after a drift the measurement begins anew; but not before it has lasted 1,024 values,
//! or the false alarms that thinning is to end would keep it from ever being measured.

use serde::{Deserialize, Serialize};

/// Levels: blocks of up to 512 values.
const LEVELS: usize = 10;
/// Values of which one counts at least.
const LARGEST_STRIDE: u32 = 512;
/// The fewest blocks a level needs to be believed.
const FEWEST_BLOCKS: f64 = 30.0;
/// Values before the first estimate.
const FIRST_ESTIMATE: u64 = 256;
/// Values before a drift can end the measurement.
const LEAST_MEASURED: u64 = 1024;

/// Sums over whole blocks, as running mean and sum of squared deviations (Welford 1962).
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Level {
    pending: f64,
    blocks: f64,
    mean: f64,
    squares: f64,
}

impl Level {
    fn variance(&self) -> f64 {
        if self.blocks > 1.0 { self.squares / (self.blocks - 1.0) } else { 0.0 }
    }
}

/// Thins one stream. About 350 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Thinning {
    levels: [Level; LEVELS],
    seen: u64,
    stride: u32,
    waiting: u32,
}

impl Default for Thinning {
    fn default() -> Self {
        Self { levels: [Level::default(); LEVELS], seen: 0, stride: 1, waiting: 0 }
    }
}

impl Thinning {
    /// Every so many values one counts.
    #[must_use]
    pub const fn stride(&self) -> u32 {
        self.stride
    }

    /// Whether this is a state it can have come to; of one read back from bytes nobody knows.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let numbers = |level: &Level| [level.pending, level.blocks, level.mean, level.squares];
        self.stride >= 1
            && self.stride <= LARGEST_STRIDE
            && self.waiting < self.stride
            && self.levels.iter().flat_map(numbers).all(f64::is_finite)
    }

    /// Whether the next value of the stream counts.
    pub fn take(&mut self, value: f64) -> bool {
        self.measure(value);
        let taken = self.waiting == 0;
        self.waiting = if taken { self.stride - 1 } else { self.waiting - 1 };
        taken
    }

    /// Measures anew after a drift, where the measurement has lasted; until there is another estimate the old one holds.
    pub fn restart(&mut self) {
        if self.seen >= LEAST_MEASURED {
            (self.levels, self.seen) = ([Level::default(); LEVELS], 0);
        }
    }

    fn measure(&mut self, value: f64) {
        self.seen = self.seen.saturating_add(1);
        for (index, level) in self.levels.iter_mut().enumerate() {
            level.pending += value;
            if self.seen.trailing_zeros() as usize >= index {
                let sum = core::mem::take(&mut level.pending);
                level.blocks += 1.0;
                let deviation = sum - level.mean;
                level.mean += deviation / level.blocks;
                level.squares += deviation * (sum - level.mean);
            }
        }
        if self.seen >= FIRST_ESTIMATE && self.seen.is_power_of_two() {
            self.stride = self.estimate();
            self.waiting = self.waiting.min(self.stride - 1);
        }
    }

    /// ⌈τ⌉, 1 for a constant.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1 and at most 2⁹")]
    fn estimate(&self) -> u32 {
        let single = self.levels[0].variance();
        let (mut tau, mut length) = (1.0_f64, 1.0);
        for level in &self.levels {
            if level.blocks >= FEWEST_BLOCKS && single > 0.0 {
                tau = tau.max(level.variance() / (length * single));
            }
            length *= 2.0;
        }
        libm::ceil(tau).min(f64::from(LARGEST_STRIDE)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform on ±1, repeatable.
    fn noise(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(*state >> 32).expect("32 bits")) / f64::from(1_u32 << 31) - 1.0
    }

    fn stride(memory: f64, values: usize) -> u32 {
        let (mut thinning, mut state, mut value) = (Thinning::default(), 7, 0.0);
        for _ in 0..values {
            value = memory * value + noise(&mut state);
            thinning.take(value);
        }
        thinning.stride()
    }

    #[test]
    fn independent_values_nearly_all_count_and_correlated_ones_at_their_memory() {
        // τ of an autoregressive stream is (1+ρ)/(1−ρ): 1, 3 and 19.
        assert!(stride(0.0, 16_384) <= 2, "{}", stride(0.0, 16_384));
        assert!((3..=5).contains(&stride(0.5, 16_384)), "{}", stride(0.5, 16_384));
        assert!((13..=30).contains(&stride(0.9, 16_384)), "{}", stride(0.9, 16_384));
    }

    #[test]
    fn one_in_a_stride_counts_and_a_constant_counts_always() {
        let mut thinning = Thinning { stride: 4, ..Thinning::default() };
        let taken = (0..100).filter(|_| thinning.take(1.0)).count();
        assert_eq!(taken, 25);
        for _ in 0..1000 {
            thinning.take(1.0);
        }
        assert_eq!(thinning.stride(), 1);
        assert_eq!((0..100).filter(|_| thinning.take(1.0)).count(), 100);
    }

    #[test]
    fn after_a_drift_the_old_stride_holds_until_there_is_a_new_one() {
        let (mut thinning, mut state) = (Thinning::default(), 3);
        let mut feed = |thinning: &mut Thinning, values, scale: f64| {
            for at in 0..values {
                thinning.take(scale * noise(&mut state) + f64::from(at / 64 % 2));
            }
        };
        feed(&mut thinning, 1023, 0.1);
        thinning.restart();
        assert_eq!(thinning.seen, 1023, "too early to begin anew");
        feed(&mut thinning, 1, 0.1);
        let slow = thinning.stride();
        assert!(slow > 8, "{slow}");
        thinning.restart();
        feed(&mut thinning, 255, 100.0);
        assert_eq!(thinning.stride(), slow);
        feed(&mut thinning, 1, 100.0);
        assert!(thinning.stride() < 4, "{}", thinning.stride());
    }
}
