//! What the service manager is told: ready, reloading, alive, stopping; each says what is really so.

use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sign {
    /// It runs, or has read its configuration again.
    Ready,
    /// It reads its configuration again.
    Reloading,
    /// It makes progress.
    Alive,
    /// It stops.
    Stopping,
}

/// Tells the service manager, where there is one.
pub(crate) fn tell(sign: Sign) {
    let told = match sign {
        Sign::Ready => sd_notify::notify(&[NotifyState::Ready]),
        Sign::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        Sign::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        // Since when, it wants to know in the same message.
        Sign::Reloading => {
            NotifyState::monotonic_usec_now().and_then(|since| sd_notify::notify(&[NotifyState::Reloading, since]))
        }
    };
    if let Err(error) = told {
        tracing::debug!(%error, ?sign, "the service manager could not be told");
    }
}
