//! Configurations over a live connection: the answer to what a device says, and word of a change. Over QUIC each has a stream of its
//! own; over TCP both go between the frames of the session.
//!
//! Must hold: only a device that has spoken of its configuration is told of changes; one of an older release would not understand.

use std::convert::Infallible;

use driftglass_protocol::configuration::{ConfigurationId, ConfigurationReport, DesiredConfiguration};
use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::{Deny, DenyReason};
use driftglass_protocol::limit::CONFIGURATION_BYTES;
use driftglass_protocol::wire::{FrameError, parse_frame};
use quinn::{Connection, SendStream};

use super::door::Shared;
use crate::ingest::Confidant;
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
    if !send(writer, &answer_to(shared, device, report, offered).await).await {
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
    let Some((id, message)) = news(shared, device, *offered).await else { return };
    let Ok((mut writer, _reader)) = connection.open_bi().await else { return };
    if send(&mut writer, &message).await {
        *offered = Some(id);
    }
}

/// The same beside a session on its only stream, for as long as that lives.
pub(super) async fn converse(mut confidant: Confidant, shared: &Shared, device: &DeviceId) -> Infallible {
    let mut changes = shared.configurator.changes();
    let mut offered = None;
    loop {
        // Boxed: a device speaks of its configuration once in weeks, and waits for that without holding room for it.
        let message = tokio::select! {
            received = confidant.received.recv() => match received {
                Some(frame) => Some(Box::pin(answer_to_frame(shared, device, &frame, &mut offered)).await),
                // The session is over.
                None => return std::future::pending().await,
            },
            Ok(()) = changes.changed(), if offered.is_some() => {
                let news = Box::pin(news(shared, device, offered)).await;
                news.map(|(id, message)| {
                    offered = Some(id);
                    message
                })
            }
        };
        if let Some(message) = message
            && confidant.to_send.send(message).await.is_err()
        {
            return std::future::pending().await;
        }
    }
}

async fn answer_to_frame(
    shared: &Shared,
    device: &DeviceId,
    frame: &[u8],
    offered: &mut Option<ConfigurationId>,
) -> Vec<u8> {
    match parse_frame(frame).map(ConfigurationReport::parse) {
        Ok(Ok(report)) => answer_to(shared, device, &report, offered).await,
        _ => framed(|out| Deny { reason: DenyReason::Protocol }.write(out)),
    }
}

/// The frame that answers what a device says of its configuration.
async fn answer_to(
    shared: &Shared,
    device: &DeviceId,
    report: &ConfigurationReport<'_>,
    offered: &mut Option<ConfigurationId>,
) -> Vec<u8> {
    match &shared.configurator.report(device, report).await {
        Ok((Desired { id, text }, known)) => {
            let desired = DesiredConfiguration { id: *id, text: (!known).then_some(text.as_str()) };
            *offered = Some(*id);
            framed(|out| desired.write(out))
        }
        Err(error) => {
            tracing::warn!(%device, %error, "what the device says of its configuration could not be kept");
            framed(|out| Deny { reason: DenyReason::Unavailable }.write(out))
        }
    }
}

/// What a device shall be set to, and the frame that says so, where it is something else than it was told last.
async fn news(
    shared: &Shared,
    device: &DeviceId,
    offered: Option<ConfigurationId>,
) -> Option<(ConfigurationId, Vec<u8>)> {
    let desired = shared.configurator.desired(device).await;
    let desired = desired
        .inspect_err(|error| tracing::warn!(%device, %error, "the configuration of the device could not be read"))
        .ok()
        .filter(|desired| offered != Some(desired.id))?;
    let message = DesiredConfiguration { id: desired.id, text: Some(&desired.text) };
    Some((desired.id, framed(|out| message.write(out))))
}

/// A message as a frame; nothing where it is longer than any may be, which none of ours is.
fn framed(write: impl FnOnce(&mut [u8]) -> Result<usize, FrameError>) -> Vec<u8> {
    let mut out = vec![0; MESSAGE_BYTES];
    let length = write(&mut out).unwrap_or_default();
    out.truncate(length);
    out
}

/// Sends one message and ends the stream; false where it did not arrive.
async fn send(writer: &mut SendStream, message: &[u8]) -> bool {
    writer.write_all(message).await.is_ok() && writer.finish().is_ok() && writer.stopped().await.is_ok()
}
