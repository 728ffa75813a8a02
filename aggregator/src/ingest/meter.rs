//! What a device may send in a time: how long it has to wait once it has sent more.
//!
//! Method: the generic cell rate algorithm (ITU-T I.371, Annex A): every record and every byte adds to a debt of time, and time pays
//! it off; a debt beyond [`BURST`] has to be waited for. Two debts, because records cost commits and bytes cost memory and disk.
//!
//! Deliberately absent: clocks. Time is what the caller says it is.

use std::time::Duration;

/// A device that has been quiet may send what it may send in so long at once: what piled up while the link was away.
pub const BURST: Duration = Duration::from_secs(10);
const SECOND: u64 = 1_000_000_000;

/// What one device may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Records a second, at least 1.
    pub records_per_second: u32,
    /// Bytes a second, at least 1.
    pub bytes_per_second: u32,
}

impl Rate {
    /// As good as no limit.
    pub const UNLIMITED: Self = Self { records_per_second: u32::MAX, bytes_per_second: u32::MAX };
}

/// One device's account, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    at: u64,
    records: u64,
    bytes: u64,
}

impl Meter {
    /// Notes a record of so many bytes, `now` after some beginning that is the same for every call. Returns how long to wait before
    /// taking the next.
    pub fn spend(&mut self, rate: Rate, bytes: usize, now: Duration) -> Duration {
        self.settle(now);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost = |count: u64, rate: u32| count.saturating_mul(SECOND) / u64::from(rate.max(1));
        self.records = self.records.saturating_add(cost(1, rate.records_per_second));
        self.bytes = self.bytes.saturating_add(cost(bytes, rate.bytes_per_second));
        Duration::from_nanos(self.records.max(self.bytes)).saturating_sub(BURST)
    }

    /// Whether everything has been paid off, so that a new account would be the same.
    pub fn is_settled(&mut self, now: Duration) -> bool {
        self.settle(now);
        self.records == 0 && self.bytes == 0
    }

    fn settle(&mut self, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        self.records = self.records.saturating_sub(passed);
        self.bytes = self.bytes.saturating_sub(passed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { records_per_second: 100, bytes_per_second: 10_000 };

    /// Records taken within a time by a device that sends whenever it may.
    fn taken(bytes: usize, time: Duration) -> u32 {
        let (mut meter, mut now, mut count) = (Meter::default(), Duration::ZERO, 0);
        while now < time {
            now += meter.spend(RATE, bytes, now);
            count += 1;
        }
        count
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds_for_records_and_for_bytes() {
        let minute = Duration::from_secs(60);
        assert_eq!(taken(10, minute), 7_000, "ten seconds of burst and a minute at a hundred");
        assert_eq!(taken(1_000, minute), 700, "a hundred kilobytes at once, and ten thousand bytes a second");
        let mut meter = Meter::default();
        for _ in 0..1_000 {
            assert_eq!(meter.spend(RATE, 10, Duration::ZERO), Duration::ZERO);
        }
        assert_eq!(meter.spend(RATE, 10, Duration::ZERO), Duration::from_millis(10));
        assert!(!meter.is_settled(Duration::from_secs(10)));
        assert!(meter.is_settled(Duration::from_millis(10_020)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_whatever_is_sent(steps in proptest::collection::vec((0_usize..5_000, 0_u64..2_000), 1..200)) {
            let (mut meter, mut now, mut sent) = (Meter::default(), Duration::ZERO, 0);
            for (bytes, pause) in steps {
                now += Duration::from_millis(pause);
                now += meter.spend(RATE, bytes, now);
                sent += bytes;
                // One record may be beyond the burst before it is waited for.
                let allowed = (now + BURST).as_secs_f64() * 10_000.0 + 1.0;
                prop_assert!((sent as f64) <= allowed, "{sent} of {allowed}");
            }
        }
    }
}
