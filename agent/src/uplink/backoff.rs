//! When to try again: full jitter, so that devices cut off together do not come back together.
//!
//! Method: a delay uniform in 0..=min(cap, base·2ⁿ) (Brooker, "Exponential Backoff And Jitter", 2015). Integer nanoseconds throughout;
//! the randomness is handed in.

use std::time::Duration;

/// Upper bound of the first delay.
pub const BASE: Duration = Duration::from_secs(1);
/// Upper bound of every delay.
pub const CAP: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next attempt, from 64 random bits.
    #[must_use]
    pub fn next_delay(&mut self, random: u64) -> Duration {
        let bound = BASE.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(CAP);
        self.failures = self.failures.saturating_add(1).min(31);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        // Maps 64 bits onto 0..=nanos without a bias worth speaking of (Lemire's multiplication).
        let scaled = (u128::from(random) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(nanos))
    }

    /// The attempt succeeded.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        let bounds: Vec<u64> = (0..9).map(|_| backoff.next_delay(u64::MAX).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        for _ in 0..100 {
            assert_eq!(backoff.next_delay(u64::MAX), CAP);
        }
        assert_eq!(backoff.next_delay(0), Duration::ZERO);
        assert_eq!(backoff.next_delay(1 << 63), CAP / 2);
        backoff.reset();
        assert_eq!(backoff.next_delay(u64::MAX), BASE);
    }
}
