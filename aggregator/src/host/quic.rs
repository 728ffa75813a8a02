//! The QUIC endpoint: who may connect, how many at once, and with how much memory each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::{DenyReason, ENROLMENT_ALPN, certificate};
use driftglass_protocol::session::{Refuse, RefuseReason};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::clock::now;
use super::credentials::{Credentials, CredentialsError};
use super::enrolment;
use crate::identity::{IdentityError, KeyId, device_of};
use crate::ingest::{Connections, Ended, Peer, Rejection, serve};
use crate::metrics::Metrics;
use crate::registrar::Registrar;
use crate::writer::Writer;

/// Connections served at once; at about 40 KiB each they are 4 GB.
const CONNECTIONS_MAX: usize = 100_000;
/// Handshakes at once; each costs half a millisecond of CPU, so this many are about a second of one core.
const HANDSHAKES_MAX: usize = 2_048;
/// From this many handshakes in flight a peer must first prove that its address is its own (a retry costs it one round trip).
const RETRY_FROM: usize = 256;
/// A handshake is three round trips; a satellite link needs two seconds for them.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A peer that has connected opens its stream at once.
const STREAM_LIMIT: Duration = Duration::from_secs(10);
/// How long the last words of a connection may take to arrive.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// When a device that cannot be judged now should try again.
const RETRY_AFTER_S: u32 = 5;

/// Enrolments and renewals of expired certificates judged at once: strangers can ask, and must not crowd out who delivers.
const ENROLMENTS_MAX: usize = 64;

/// Application codes of a closed connection; agents log them, and act on the messages before them.
mod code {
    pub(super) const FINISHED: u32 = 0;
    pub(super) const REJECTED: u32 = 1;
    pub(super) const STOPPED: u32 = 2;
}

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) writer: Writer,
    pub(super) metrics: Arc<Metrics>,
    pub(super) connections: Arc<Connections>,
    pub(super) registrar: Arc<Registrar>,
    pub(super) trust_domain: String,
    pub(super) enrolments: Semaphore,
}

/// Places for enrolments.
pub(super) fn enrolments() -> Semaphore {
    Semaphore::new(ENROLMENTS_MAX)
}

/// Limits of a connection, in one place.
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        // One stream for records, one kept for control and configuration.
        .max_concurrent_bidi_streams(VarInt::from_u32(2))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        // Four frames of the largest size, so that a backlog flows without waiting for us.
        .stream_receive_window(VarInt::from_u32(256 * 1024))
        .receive_window(VarInt::from_u32(512 * 1024))
        // Acknowledgements are a few bytes; a peer that does not read them is not worth more memory.
        .send_window(128 * 1024)
        // A certificate chain of ours has about 1 KiB.
        .crypto_buffer_size(8 * 1024)
        .datagram_receive_buffer_size(None)
        // Agents say something every 25 s; four lost in a row and the link is gone.
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(120_000))));
    transport
}

/// Binds the endpoint.
pub(super) fn bind(listen: SocketAddr, credentials: &Credentials) -> Result<Endpoint, BindError> {
    let socket = std::net::UdpSocket::bind(listen).map_err(BindError::Socket)?;
    let config = server_config(credentials)?;
    Endpoint::new(endpoint(credentials), Some(config), socket, Arc::new(TokioRuntime)).map_err(BindError::Socket)
}

/// What connections that are yet to come are met with.
pub(super) fn server_config(credentials: &Credentials) -> Result<ServerConfig, CredentialsError> {
    let mut config = ServerConfig::with_crypto(Arc::new(credentials.server_config()?));
    config
        .transport_config(Arc::new(transport()))
        // First packets of peers that have not been looked at yet: few, and small.
        .max_incoming(1_024)
        .incoming_buffer_size(16 * 1024)
        .incoming_buffer_size_total(8 * 1024 * 1024);
    Ok(config)
}

/// After a crash the new process must be able to tell agents that their connections are gone (a stateless reset, RFC 9000 §10.3);
/// otherwise each would wait until it gives up by itself. The keys this takes outlive a process by being derived from the private key.
fn endpoint(credentials: &Credentials) -> EndpointConfig {
    let derive = |purpose: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, credentials.secret());
        ring::hmac::sign(&key, purpose)
    };
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, derive(b"driftglass stateless reset").as_ref());
    let ids = derive(b"driftglass connection ids");
    let id_key = ids.as_ref().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    config
}

/// Why there is no endpoint.
#[derive(Debug)]
pub(super) enum BindError {
    Credentials(CredentialsError),
    Socket(std::io::Error),
}

impl From<CredentialsError> for BindError {
    fn from(error: CredentialsError) -> Self {
        Self::Credentials(error)
    }
}

/// Accepts until `stop` turns true, then waits for every session to say goodbye. At every interval of `renewal` the aggregator's own
/// certificate is made anew.
pub(super) async fn accept(
    endpoint: Endpoint,
    shared: Arc<Shared>,
    renewal: Option<Renewal>,
    mut stop: watch::Receiver<bool>,
) {
    let mut renewals = renewal
        .as_ref()
        .map(|renewal| tokio::time::interval_at(tokio::time::Instant::now() + renewal.interval, renewal.interval));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => break,
            Some(_) = tasks.join_next() => {}
            () = tick(&mut renewals) => renew(&endpoint, renewal.as_ref()),
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                admit(incoming, &shared, &handshakes, &mut tasks);
            }
        }
    }
    endpoint.set_server_config(None);
    shared.connections.stop_all();
    while tasks.join_next().await.is_some() {}
    endpoint.close(VarInt::from_u32(code::STOPPED), b"stopping");
    drop(tokio::time::timeout(GOODBYE_LIMIT, endpoint.wait_idle()).await);
}

/// How the aggregator's own certificate is made anew.
pub(super) struct Renewal {
    pub(super) interval: Duration,
    pub(super) credentials: Box<dyn Fn() -> Result<Credentials, CredentialsError> + Send + Sync>,
}

/// Never, where there is nothing to wait for.
async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

fn renew(endpoint: &Endpoint, renewal: Option<&Renewal>) {
    let Some(renewal) = renewal else { return };
    match (renewal.credentials)().and_then(|credentials| server_config(&credentials)) {
        Ok(config) => {
            endpoint.set_server_config(Some(config));
            tracing::info!("the aggregator's own certificate was made anew");
        }
        Err(error) => tracing::error!(%error, "the aggregator's own certificate could not be made anew"),
    }
}

fn admit(incoming: Incoming, shared: &Arc<Shared>, handshakes: &Arc<Semaphore>, tasks: &mut JoinSet<()>) {
    let address = incoming.remote_address();
    let in_flight = HANDSHAKES_MAX.saturating_sub(handshakes.available_permits());
    if tasks.len() >= CONNECTIONS_MAX {
        return overload(incoming, shared, "connections");
    }
    if in_flight >= RETRY_FROM && incoming.may_retry() && !incoming.remote_address_validated() {
        if let Err(error) = incoming.retry() {
            tracing::debug!(%address, %error, "cannot ask for a retry");
        }
        return;
    }
    let Ok(permit) = Arc::clone(handshakes).try_acquire_owned() else {
        return overload(incoming, shared, "handshakes");
    };
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        let connecting = match incoming.accept() {
            Ok(connecting) => connecting,
            Err(error) => return failed_handshake(&shared, address, &error.to_string()),
        };
        let connection = match tokio::time::timeout(HANDSHAKE_LIMIT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return failed_handshake(&shared, address, &error.to_string()),
            Err(_) => return failed_handshake(&shared, address, "it took too long"),
        };
        drop(permit);
        attend(&connection, &shared).await;
    });
}

fn overload(incoming: Incoming, shared: &Shared, what: &str) {
    tracing::warn!(address = %incoming.remote_address(), "refused: too many {what}");
    shared.metrics.reject(Rejection::Overload);
    incoming.refuse();
}

fn failed_handshake(shared: &Shared, address: SocketAddr, error: &str) {
    tracing::info!(%address, reason = Rejection::Handshake.name(), "no connection: {error}");
    shared.metrics.reject(Rejection::Handshake);
}

/// One connection from its certificate to its end.
async fn attend(connection: &Connection, shared: &Shared) {
    let address = connection.remote_address();
    if is_enrolment(connection) {
        // Boxed, as is all that is over before the session begins: an idle connection must not hold room for it.
        return Box::pin(enrolment::attend(connection, shared)).await;
    }
    let Peered { device, key, expired } = match identify(connection, &shared.trust_domain) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%address, reason = Rejection::Identity.name(), "connection refused: {error}");
            shared.metrics.reject(Rejection::Identity);
            return connection.close(VarInt::from_u32(code::REJECTED), b"identity");
        }
    };
    let mut registration = match Box::pin(shared.registrar.admit(&device, key, expired)).await {
        Ok(registration) => registration,
        Err(reason) => return Box::pin(turn_away(connection, &device, reason, shared)).await,
    };
    tracing::info!(%device, %address, "connected");
    let (mut writer, mut reader) = match tokio::time::timeout(STREAM_LIMIT, connection.accept_bi()).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(error)) => return tracing::info!(%device, %address, "disconnected: {error}"),
        Err(_) => {
            tracing::warn!(%device, %address, reason = Rejection::Protocol.name(), "no stream was opened");
            shared.metrics.reject(Rejection::Protocol);
            return connection.close(VarInt::from_u32(code::REJECTED), b"no stream");
        }
    };
    let peer = Peer { device: device.clone(), ledger: &shared.writer, observer: shared.metrics.as_ref(), clock: now };
    let ended = tokio::select! {
        ended = serve(&peer, &mut reader, &mut writer, &mut registration) => ended,
        never = enrolment::attend_renewals(connection, shared, &device, key) => match never {},
    };
    // A refusal must arrive before the connection is closed, which would discard it.
    if writer.finish().is_ok() {
        drop(tokio::time::timeout(GOODBYE_LIMIT, writer.stopped()).await);
    }
    let (code, reason) = match &ended {
        Ended::Finished => {
            tracing::info!(%device, %address, "disconnected by the agent");
            (code::FINISHED, "finished")
        }
        Ended::Lost { detail } => {
            tracing::info!(%device, %address, "connection lost: {detail}");
            (code::FINISHED, "lost")
        }
        Ended::Stopped(stop) => {
            tracing::info!(%device, %address, "connection ended: {stop:?}");
            (code::STOPPED, "stopped")
        }
        Ended::Rejected { reason, offset, detail } => {
            tracing::warn!(%device, %address, reason = reason.name(), offset, "session refused: {detail}");
            shared.metrics.reject(*reason);
            (code::REJECTED, reason.name())
        }
    };
    connection.close(VarInt::from_u32(code), reason.as_bytes());
}

/// Tells a device that may not speak why, and closes the connection.
async fn turn_away(connection: &Connection, device: &DeviceId, reason: RefuseReason, shared: &Shared) {
    let rejection = Rejection::from(reason);
    let address = connection.remote_address();
    tracing::warn!(%device, %address, reason = rejection.name(), "connection refused");
    shared.metrics.reject(rejection);
    let retry_after_s = if reason == RefuseReason::Unavailable { RETRY_AFTER_S } else { 0 };
    let refuse = Refuse { reason, expected_after: Mark::default(), retry_after_s };
    let mut out = [0; 64];
    let answer = async {
        let length = refuse.write(&mut out).ok()?;
        let (mut writer, _reader) = connection.accept_bi().await.ok()?;
        writer.write_all(out.get(..length).unwrap_or_default()).await.ok()?;
        writer.finish().ok()?;
        writer.stopped().await.ok()
    };
    // A device that does not listen finds the reason in the code of the closed connection.
    drop(tokio::time::timeout(STREAM_LIMIT, answer).await);
    connection.close(VarInt::from_u32(code::REJECTED), rejection.name().as_bytes());
}

/// Says how an enrolment or a renewal ended, and closes the connection.
pub(super) fn dismiss(connection: &Connection, denied: Option<DenyReason>) {
    match denied {
        None => connection.close(VarInt::from_u32(code::FINISHED), b"issued"),
        Some(reason) => connection.close(VarInt::from_u32(code::REJECTED), reason.name().as_bytes()),
    }
}

fn is_enrolment(connection: &Connection) -> bool {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.and_then(|data| data.protocol).is_some_and(|protocol| protocol == ENROLMENT_ALPN)
}

/// What a connection's verified certificate says.
pub(super) struct Peered {
    pub(super) device: DeviceId,
    pub(super) key: KeyId,
    /// By the aggregator's clock; such a certificate is good for its own renewal only.
    pub(super) expired: bool,
}

pub(super) fn identify(connection: &Connection, trust_domain: &str) -> Result<Peered, IdentityError> {
    let identity = connection.peer_identity().ok_or(IdentityError::NoCertificate)?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| IdentityError::NoCertificate)?;
    let device = device_of(&chain, trust_domain)?;
    let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
    let key = KeyId::of_certificate(leaf).ok_or(IdentityError::NoCertificate)?;
    // One whose end cannot be read has none that we could rely on.
    let expired = certificate::validity(leaf).is_none_or(|validity| now() > UnixMillis(validity.not_after.0 + 999));
    Ok(Peered { device, key, expired })
}
