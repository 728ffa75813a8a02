//! Enrolment and renewal: one request, one answer.
//!
//! A device without a certificate, or with an expired one, comes over a connection of its own (ALPN `driftglass-enrol/1`), which is
//! good for nothing else; so does one whose session runs over TCP. A device that is connected over QUIC asks on a second stream.
//!
//! Must hold: nobody is waited for longer than [`EXCHANGE_LIMIT`]; a stranger can make us read one frame and check one signature.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::{Deny, DenyReason, Enrol, Issued, Renew};
use driftglass_protocol::limit::{AUTHORITIES, CERTIFICATE_BYTES};
use driftglass_protocol::wire::{FrameError, Kind};
use quinn::Connection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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

/// Renewals on the further streams of a live connection, one after the other.
pub(super) async fn attend_renewals(
    connection: &Connection,
    shared: &Shared,
    device: &DeviceId,
    key: KeyId,
) -> Infallible {
    while let Ok((mut writer, mut reader)) = connection.accept_bi().await {
        let exchange = async {
            let answered = match next_frame(&mut reader).await {
                Some(Ok(bytes)) => match split(&bytes) {
                    Some(Request::Renew(request)) => {
                        shared.registrar.renew(device, key, request).await.map(|issued| (Served::Renewed, issued))
                    }
                    _ => Err(DenyReason::Protocol),
                },
                _ => Err(DenyReason::Protocol),
            };
            // The answer must arrive before the stream is forgotten.
            answer(&mut writer, &answered, shared).await && writer.stopped().await.is_ok()
        };
        // Boxed: a connection renews once in weeks, and waits for that without holding room for it.
        if tokio::time::timeout(EXCHANGE_LIMIT, Box::pin(exchange)).await.is_err() {
            tracing::info!(%device, "a renewal took too long");
        }
    }
    // The session notices by itself that the connection is gone.
    std::future::pending().await
}

enum Request<'a> {
    Enrol(Enrol<'a>),
    Renew(&'a [u8]),
}

fn split(bytes: &[u8]) -> Option<Request<'_>> {
    let frame = driftglass_protocol::wire::parse_frame(bytes).ok()?;
    match frame.kind {
        Kind::Enrol => Enrol::parse(frame).ok().map(Request::Enrol),
        Kind::Renew => Renew::parse(frame).ok().map(|renew| Request::Renew(renew.request)),
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
        None => Err(DenyReason::Protocol),
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
