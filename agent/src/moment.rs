//! Two clocks read at once.

use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;

/// The instant of a look at a source: the wall clock, and a clock that never jumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Wall clock.
    pub wall: UnixMillis,
    /// Time since the agent started, monotonic.
    pub elapsed: Duration,
}
