//! What the service manager is told: ready, alive, stopping. Nothing where there is none.

use std::time::Duration;

use driftglass_protocol::id::{DeviceId, Name};
use sd_notify::NotifyState;

use crate::writer::{Writer, WriterError};

/// Says something to the service manager, if one listens.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be notified");
    }
}

/// Everything listens.
pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The end has begun.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog as long as the writer answers. A full disk is an answer; a thread that hangs is none, and the service
/// manager then restarts us. Returns at once where no watchdog is set.
pub(super) async fn feed_watchdog(writer: Writer) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let interval = (limit / 3).max(Duration::from_millis(100));
    // A name that no certificate is asked for: reading the mark of an unknown device writes nothing.
    let Ok(name) = Name::parse("watchdog") else { return };
    let probe = DeviceId { site: name.clone(), device: name };
    loop {
        match tokio::time::timeout(interval, writer.mark(&probe)).await {
            Ok(Ok(_) | Err(WriterError::Unavailable)) => notify(&[NotifyState::Watchdog]),
            Ok(Err(WriterError::Gone)) => return,
            Err(_) => tracing::error!("the writer does not answer"),
        }
        tokio::time::sleep(interval).await;
    }
}
