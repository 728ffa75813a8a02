//! The service manager: ready, reloading, alive, stopping; each says what is really so.

use sd_notify::NotifyState;

/// Tells the service manager, where there is one.
pub(super) fn tell(state: NotifyState<'_>) {
    tell_all(&[state]);
}

/// Says that a reload has begun; [`NotifyState::Ready`] ends it. Since when, it wants to know in the same message.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(since) => tell_all(&[NotifyState::Reloading, since]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of the reload"),
    }
}

fn tell_all(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
