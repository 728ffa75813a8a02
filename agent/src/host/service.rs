//! The service manager: ready, alive, stopping; each says what is really so.

use sd_notify::NotifyState;

/// Tells the service manager, where there is one.
pub(super) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
