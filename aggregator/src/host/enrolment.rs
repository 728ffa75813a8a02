//! Enrolment and renewal: one request, one answer.
//!
//! A device without a certificate, or with an expired one, comes over a connection of its own (ALPN `driftglass-enrol/1`), which is
//! good for nothing else; so does one whose session runs over TCP. A device that is connected over QUIC asks on further streams, for
//! configuration as well; over TCP that goes between the frames of the session.
//!
//! Must hold: nobody is waited for longer than [`EXCHANGE_LIMIT`]; a stranger can make us read one frame and check one signature.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use driftglass_protocol::configuration::{ConfigurationId, ConfigurationReport};
use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::{Deny, DenyReason, Enrol, Issued, Renew};
use driftglass_protocol::limit::{AUTHORITIES, CERTIFICATE_BYTES};
use driftglass_protocol::wire::{FrameError, Kind};
use quinn::{Connection, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::configuration;
use super::door::{Peered, Shared};
use crate::identity::KeyId;
use crate::ingest::{FrameSplitter, Located};
use crate::registrar::Certified;

/// How long a request may take to arrive, and its answer to leave.
pub(super) const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);
/// Room for the longest answer.
const ANSWER_BYTES: usize = (1 + AUTHORITIES) * CERTIFICATE_BYTES + 128;

/// What became of a request: the label `result` of `driftglass_enrolments_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    Enrolled,
    Renewed,
}

impl Served {
    const fn name(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Renewed => "renewed",
        }
    }
}

/// Answers the one request of a connection for enrolment or renewal; what it was denied. `None` where it asked for nothing, or went away
/// before it had its answer.
pub(super) async fn exchange<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut R,
    writer: &mut W,
    address: SocketAddr,
    peered: impl FnOnce() -> Result<Peered, DenyReason>,
    shared: &Shared,
) -> Option<Result<(), DenyReason>> {
    let answered = match next_frame(reader).await? {
        Ok(bytes) => {
            let _turn = shared.enrolments.acquire().await.ok()?;
            judge(address, peered, &bytes, shared).await
        }
        Err(error) => {
            tracing::info!("no certificate: {error}");
            Err(DenyReason::Protocol)
        }
    };
    answer(writer, &answered, shared).await.then(|| answered.map(drop))
}

/// Requests on the further streams of a live connection, one after the other: renewals, and what the device says of its configuration.
/// A device that has spoken of its configuration is told of every change of it.
pub(super) async fn attend_requests(
    connection: &Connection,
    shared: &Shared,
    device: &DeviceId,
    key: KeyId,
) -> Infallible {
    let mut changes = shared.configurator.changes();
    let mut offered = None;
    loop {
        // Boxed: a connection asks once in weeks, and waits for that without holding room for it.
        tokio::select! {
            accepted = connection.accept_bi() => {
                // The session notices by itself that the connection is gone.
                let Ok(streams) = accepted else { return std::future::pending().await };
                let exchange = Box::pin(answer_request(streams, shared, device, key, &mut offered));
                if tokio::time::timeout(EXCHANGE_LIMIT, exchange).await.is_err() {
                    tracing::info!(%device, "a request took too long");
                }
            }
            Ok(()) = changes.changed(), if offered.is_some() => {
                let exchange = Box::pin(configuration::tell(connection, shared, device, &mut offered));
                if tokio::time::timeout(EXCHANGE_LIMIT, exchange).await.is_err() {
                    tracing::info!(%device, "a configuration took too long; the device asks for it when it connects again");
                }
            }
        }
    }
}

async fn answer_request(
    (mut writer, mut reader): (SendStream, RecvStream),
    shared: &Shared,
    device: &DeviceId,
    key: KeyId,
    offered: &mut Option<ConfigurationId>,
) {
    let answered = match next_frame(&mut reader).await {
        Some(Ok(bytes)) => match split(&bytes) {
            Some(Request::Renew(request)) => {
                shared.registrar.renew(device, key, request).await.map(|issued| (Served::Renewed, issued))
            }
            Some(Request::Report(report)) => {
                return configuration::answer(&mut writer, shared, device, &report, offered).await;
            }
            _ => Err(DenyReason::Protocol),
        },
        _ => Err(DenyReason::Protocol),
    };
    // The answer must arrive before the stream is forgotten.
    if !answer(&mut writer, &answered, shared).await || writer.stopped().await.is_err() {
        tracing::debug!(%device, "the device went away before it had its answer");
    }
}

enum Request<'a> {
    Enrol(Enrol<'a>),
    Renew(&'a [u8]),
    Report(ConfigurationReport<'a>),
}

fn split(bytes: &[u8]) -> Option<Request<'_>> {
    let frame = driftglass_protocol::wire::parse_frame(bytes).ok()?;
    match frame.kind {
        Kind::Enrol => Enrol::parse(frame).ok().map(Request::Enrol),
        Kind::Renew => Renew::parse(frame).ok().map(|renew| Request::Renew(renew.request)),
        Kind::ConfigurationReport => ConfigurationReport::parse(frame).ok().map(Request::Report),
        _ => None,
    }
}

async fn judge(
    address: SocketAddr,
    peered: impl FnOnce() -> Result<Peered, DenyReason>,
    bytes: &[u8],
    shared: &Shared,
) -> Result<(Served, Certified), DenyReason> {
    match split(bytes) {
        Some(Request::Enrol(Enrol { device, secret, request })) => {
            tracing::info!(%device, %address, "a device asks to be enrolled");
            shared.registrar.enrol(device, secret, request).await.map(|issued| (Served::Enrolled, issued))
        }
        Some(Request::Renew(request)) => {
            let Peered { device, key, .. } = peered()?;
            shared.registrar.renew(&device, key, request).await.map(|issued| (Served::Renewed, issued))
        }
        // A configuration is for who is connected in order, not for who comes to enrol.
        Some(Request::Report(_)) | None => Err(DenyReason::Protocol),
    }
}

/// The first frame of a stream; `None` where the stream ends before there is one.
async fn next_frame<R: AsyncRead + Unpin>(reader: &mut R) -> Option<Result<Vec<u8>, FrameError>> {
    let mut splitter = FrameSplitter::new();
    loop {
        match splitter.take_frame() {
            Ok(Some(Located { bytes, .. })) => return Some(Ok(bytes.to_vec())),
            Ok(None) => {}
            Err(malformed) => return Some(Err(malformed.error)),
        }
        match reader.read(splitter.spare()).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => splitter.advance(count),
        }
    }
}

/// Sends the answer, ends the stream, and counts it; false where it could not be sent.
async fn answer<W: AsyncWrite + Unpin>(
    writer: &mut W,
    answered: &Result<(Served, Certified), DenyReason>,
    shared: &Shared,
) -> bool {
    let mut out = vec![0; ANSWER_BYTES];
    let (result, written) = match answered {
        Ok((served, certified)) => {
            let issued = Issued {
                certificate: &certified.certificate,
                authorities: certified.authorities.iter().take(AUTHORITIES).map(AsRef::as_ref).collect(),
                clock: shared.registrar.now(),
            };
            (served.name(), issued.write(&mut out))
        }
        Err(reason) => {
            tracing::warn!(reason = reason.name(), "no certificate was issued");
            (reason.name(), Deny { reason: *reason }.write(&mut out))
        }
    };
    shared.metrics.enrolment(result);
    let Ok(length) = written else { return false };
    writer.write_all(out.get(..length).unwrap_or_default()).await.is_ok() && writer.shutdown().await.is_ok()
}
