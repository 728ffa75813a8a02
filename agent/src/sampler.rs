//! The sampling rate: which frames of a faster source count.
//!
//! The phase follows the frames taken, in event time: a frame counts when it comes no earlier than a quarter period before it is
//! due, and the next is due one period after this one was. A camera that delivers at the configured rate with some jitter therefore
//! loses none, and a faster one is thinned to the rate. After a gap the phase begins anew.
//!
//! Must hold: fixed memory, no clock; the phase is part of the checkpoint, so a restart does not disturb it.

use driftglass_protocol::unit::UnixMillis;

use crate::window::FrameRate;

/// Thins one camera's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    rate: Option<FrameRate>,
    due: Option<i64>,
}

impl Sampler {
    /// A sampler for `rate`; without one every frame counts. `due` is what [`Self::due`] said at the checkpoint.
    #[must_use]
    pub const fn new(rate: Option<FrameRate>, due: Option<i64>) -> Self {
        Self { rate, due }
    }

    /// When the next frame is due, in microseconds of event time.
    #[must_use]
    pub const fn due(&self) -> Option<i64> {
        self.due
    }

    /// Whether the frame of this time counts.
    pub fn take(&mut self, time: UnixMillis) -> bool {
        let Some(rate) = self.rate else { return true };
        let (now, period) = (time.0.saturating_mul(1000), rate.period_micros());
        // Due implausibly far ahead: the clock was set back.
        let due = self.due.filter(|&due| due.saturating_sub(now) <= period.saturating_mul(2));
        match due {
            Some(due) if now < due.saturating_sub(period / 4) => false,
            Some(due) if now < due.saturating_add(period) => {
                self.due = Some(due.saturating_add(period));
                true
            }
            _ => {
                self.due = Some(now.saturating_add(period));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn taken(rate: u32, times: impl Iterator<Item = i64>) -> usize {
        let mut sampler = Sampler::new(FrameRate::from_millihertz(rate), None);
        times.filter(|&time| sampler.take(UnixMillis(time))).count()
    }

    #[test]
    fn a_faster_source_is_thinned_to_the_rate_and_an_equal_one_loses_nothing() {
        assert_eq!(
            taken(1_000, (0..2_500).map(|n| n * 40)),
            101,
            "25 a second for 100 s; the second one may come early"
        );
        assert_eq!(taken(1_000, (0..100).map(|n| n * 1_000 + (n * 37 % 41) - 20)), 100, "jitter of 20 ms");
        assert_eq!(taken(5_000, (0..100).map(|n| n * 2_000)), 100, "a slower source");
        assert!(Sampler::new(None, None).take(UnixMillis(0)));
    }

    #[test]
    fn after_a_gap_or_a_clock_set_back_it_goes_on() {
        let mut sampler = Sampler::new(FrameRate::from_millihertz(1_000), None);
        let times = [0, 100, 1_000, 50_000, 50_500, 51_000, 1_000, 1_500, 2_000];
        let taken: Vec<bool> = times.iter().map(|&time| sampler.take(UnixMillis(time))).collect();
        assert_eq!(taken, [true, false, true, true, false, true, true, false, true]);
    }
}
