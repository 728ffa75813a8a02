//! The service manager: ready, reloading, alive, stopping; each says what is really so.
//!
//! An agent that was started by the process of the inference proxies tells that process, which tells the service manager what concerns
//! both.

#[cfg(feature = "inference")]
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

#[cfg(feature = "inference")]
use crate::source::inference::Link;

/// What the service manager is told.
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
pub(super) fn tell(sign: Sign) {
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

/// Who is told how the agent is.
#[derive(Clone, Debug)]
pub(super) enum Manager {
    /// The service manager, where there is one.
    System,
    /// The process of the inference proxies.
    #[cfg(feature = "inference")]
    Keeper(Arc<Link>),
}

impl Manager {
    pub(super) fn tell(&self, sign: Sign) {
        match self {
            Self::System => tell(sign),
            #[cfg(feature = "inference")]
            Self::Keeper(link) => link.sign(sign),
        }
    }

    /// How often at least it wants to hear that there is progress, where it wants to.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self {
            Self::System => sd_notify::watchdog_enabled(),
            #[cfg(feature = "inference")]
            Self::Keeper(_) => Some(super::keeper::STUCK),
        }
    }

    /// Resolves when the agent has nobody any more who started it.
    pub(super) async fn gone(&self) {
        match self {
            Self::System => std::future::pending().await,
            #[cfg(feature = "inference")]
            Self::Keeper(link) => link.gone().await,
        }
    }
}
