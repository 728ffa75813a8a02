//! The clocks of this machine; the only place that asks for them on behalf of the pure parts.
#![expect(clippy::disallowed_methods, reason = "this is where the clocks come from")]

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use driftglass_protocol::unit::UnixMillis;

use crate::source::Moment;

/// The wall clock; before 1970 it stands at 0.
#[must_use]
pub fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Seconds since 1970.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A clock that began when it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment { wall: wall(), elapsed: self.0.elapsed() }
    }
}

/// Now, by the clock of this process, which began when it was first asked.
#[must_use]
pub fn now() -> Moment {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::default).now()
}
