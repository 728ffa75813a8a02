//! The one place of the aggregator that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use driftglass_protocol::unit::UnixMillis;

/// The time now, in milliseconds since 1970; a clock before 1970 reads as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the host hands time to everything else")]
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
