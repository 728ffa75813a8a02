//! A lower bound for the time, for devices whose clock starts anywhere.
//!
//! A box without a battery believes in 1970 until somebody tells it better. For judging certificates its time is at least the newest
//! it has ever known from somebody it could trust: the build of the agent, the clock of an aggregator that it had verified, the
//! beginning of a verified certificate's validity. Its own clock counts where it is later, and is never what is remembered: a clock
//! that once stood in the far future would lock the device out for good.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::source::Moment;

/// The device's notion of time for certificates. Shared behind an `Arc`.
pub struct TimeFloor {
    clock: Box<dyn Fn() -> Moment + Send + Sync>,
    /// The newest time known, as it would have been when the clock's steady part stood at 0.
    origin: AtomicI64,
}

impl fmt::Debug for TimeFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeFloor").field("known", &self.known()).finish_non_exhaustive()
    }
}

impl TimeFloor {
    /// `known` is the newest time remembered.
    #[must_use]
    pub fn new(clock: impl Fn() -> Moment + Send + Sync + 'static, known: UnixMillis) -> Self {
        let floor = Self { clock: Box::new(clock), origin: AtomicI64::new(i64::MIN) };
        floor.learn(known);
        floor
    }

    /// The time, as far as it is known.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        (self.clock)().wall.max(self.known())
    }

    /// The newest time that somebody trusted has told, and what has passed since.
    #[must_use]
    pub fn known(&self) -> UnixMillis {
        UnixMillis(self.origin.load(Ordering::Relaxed).saturating_add(self.elapsed()))
    }

    /// Somebody trusted says that it is at least `at`.
    pub fn learn(&self, at: UnixMillis) {
        self.origin.fetch_max(at.0.saturating_sub(self.elapsed()), Ordering::Relaxed);
    }

    fn elapsed(&self) -> i64 {
        i64::try_from((self.clock)().elapsed.as_millis()).unwrap_or(i64::MAX)
    }
}

impl TimeProvider for TimeFloor {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.now().0).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A clock that stands where it is put, in milliseconds of the wall and of its steady part.
    fn floor(known: i64) -> (TimeFloor, Arc<[AtomicI64; 2]>) {
        let hands = Arc::new([AtomicI64::new(0), AtomicI64::new(0)]);
        let read = Arc::clone(&hands);
        let clock = move || Moment {
            wall: UnixMillis(read[0].load(Ordering::Relaxed)),
            elapsed: Duration::from_millis(read[1].load(Ordering::Relaxed).unsigned_abs()),
        };
        (TimeFloor::new(clock, UnixMillis(known)), hands)
    }

    #[test]
    fn time_is_the_later_of_the_clock_and_what_was_learnt_and_never_goes_back() {
        let (floor, hands) = floor(500_000);
        hands[0].store(1_000_000, Ordering::Relaxed);
        assert_eq!(floor.now(), UnixMillis(1_000_000));
        assert_eq!(floor.known(), UnixMillis(500_000), "the clock is not remembered");
        floor.learn(UnixMillis(2_000_000));
        floor.learn(UnixMillis(1_500_000));
        assert_eq!((floor.now(), floor.known()), (UnixMillis(2_000_000), UnixMillis(2_000_000)));
        assert_eq!(floor.current_time(), Some(UnixTime::since_unix_epoch(Duration::from_secs(2_000))));
    }

    #[test]
    fn without_a_clock_time_goes_on_from_what_was_learnt() {
        let (floor, hands) = floor(500_000);
        hands[1].store(7_000, Ordering::Relaxed);
        assert_eq!(floor.now(), UnixMillis(507_000));
        floor.learn(UnixMillis(900_000));
        hands[1].store(10_000, Ordering::Relaxed);
        assert_eq!(floor.now(), UnixMillis(903_000));
        let (before, _) = self::floor(-9);
        assert_eq!(before.current_time().map(|time| time.as_secs()), Some(0), "nothing is before 1970");
    }
}
