//! Alerts in the log: what somebody reads who is woken at night and has nothing else.

use driftglass_protocol::unit::UnixMillis;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::alert::{Alert, AlertState, Severity};
use crate::api::rfc3339;
use crate::ledger::Event;

/// Logs every alert that changes, until the writer ends.
pub(super) async fn log(mut events: Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::Alert(alert)) => tell(&alert),
            Ok(Event::Window { .. }) => {}
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "events came faster than they could be logged; the alerts are all in the store");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn tell(alert: &Alert) {
    let note = alert.history.last().map_or("", |entry| entry.note.as_str());
    let (id, subject, cause, since) = (alert.id, alert.subject(), alert.cause, time(alert.first_window));
    if alert.state == AlertState::Resolved {
        tracing::info!(id, subject, %cause, %since, "alert resolved: {note}");
        return;
    }
    let action = alert.recommended_action();
    if alert.severity >= Severity::High {
        tracing::error!(id, subject, %cause, severity = ?alert.severity, %since, "ALERT: {note}. {action}");
    } else {
        tracing::warn!(id, subject, %cause, severity = ?alert.severity, %since, "alert: {note}. {action}");
    }
}

/// For people; empty where a device's clock is beyond what a calendar date can say.
fn time(at: UnixMillis) -> String {
    rfc3339(at).unwrap_or_default()
}
