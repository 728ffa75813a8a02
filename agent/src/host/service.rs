//! Who is told how the agent is. One that was started by the process of the inference proxies tells that process, which tells the service
//! manager what concerns both.

#[cfg(feature = "inference")]
use std::sync::Arc;
use std::time::Duration;

use crate::sign::{Sign, tell};
#[cfg(feature = "inference")]
use crate::source::inference::Link;

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
