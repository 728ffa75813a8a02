//! Configurations over a live connection: the answer to what a device says, and word of a change.
//!
//! Must hold: only a device that has spoken of its configuration is told of changes; one of an older release would not understand.
//!
//! Deliberately absent: configurations over TCP, where a connection carries the session and nothing else.

use driftglass_protocol::configuration::{ConfigurationId, ConfigurationReport, DesiredConfiguration};
use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::{Deny, DenyReason};
use driftglass_protocol::limit::CONFIGURATION_BYTES;
use driftglass_protocol::wire::FrameError;
use quinn::{Connection, SendStream};

use super::door::Shared;
use crate::store::Desired;

/// Room for the longest message.
const MESSAGE_BYTES: usize = CONFIGURATION_BYTES + 128;

/// Answers what a device says of its configuration; `offered` becomes what it has been told.
pub(super) async fn answer(
    writer: &mut SendStream,
    shared: &Shared,
    device: &DeviceId,
    report: &ConfigurationReport<'_>,
    offered: &mut Option<ConfigurationId>,
) {
    let reported = shared.configurator.report(device, report).await;
    let sent = match &reported {
        Ok((Desired { id, text }, known)) => {
            let desired = DesiredConfiguration { id: *id, text: (!known).then_some(text.as_str()) };
            *offered = Some(*id);
            send(writer, |out| desired.write(out)).await
        }
        Err(error) => {
            tracing::warn!(%device, %error, "what the device says of its configuration could not be kept");
            send(writer, |out| Deny { reason: DenyReason::Unavailable }.write(out)).await
        }
    };
    if !sent {
        tracing::debug!(%device, "the device went away before it had its configuration");
    }
}

/// Tells a device what it shall be set to, where that is something else than it was told last.
pub(super) async fn tell(
    connection: &Connection,
    shared: &Shared,
    device: &DeviceId,
    offered: &mut Option<ConfigurationId>,
) {
    let desired = match shared.configurator.desired(device).await {
        Ok(desired) => desired,
        Err(error) => return tracing::warn!(%device, %error, "the configuration of the device could not be read"),
    };
    if *offered == Some(desired.id) {
        return;
    }
    let Ok((mut writer, _reader)) = connection.open_bi().await else { return };
    let message = DesiredConfiguration { id: desired.id, text: Some(&desired.text) };
    if send(&mut writer, |out| message.write(out)).await {
        *offered = Some(desired.id);
    }
}

/// Sends one message and ends the stream; false where it did not arrive.
async fn send(writer: &mut SendStream, write: impl FnOnce(&mut [u8]) -> Result<usize, FrameError>) -> bool {
    let mut out = vec![0; MESSAGE_BYTES];
    let Ok(length) = write(&mut out) else { return false };
    if writer.write_all(out.get(..length).unwrap_or_default()).await.is_err() || writer.finish().is_err() {
        return false;
    }
    writer.stopped().await.is_ok()
}
