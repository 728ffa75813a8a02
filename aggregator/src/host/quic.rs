//! The QUIC endpoint: who may connect, how many at once, and with how much memory each.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::identity::{DenyReason, ENROLMENT_ALPN};
use driftglass_protocol::limit::PACKET_BYTES_MAX;
use driftglass_protocol::session::Refuse;
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_recv_buffer_size};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clock::now;
use super::credentials::{Credentials, CredentialsError};
use super::door::{Peered, Shared, admit, close_with, code, failed_handshake, identify, told_to_stop, unidentified};
use super::enrolment;
use crate::config::Quic;
use crate::identity::IdentityError;
use crate::ingest::{Peer, Rejection, serve};

/// A handshake is three round trips; a satellite link needs two seconds for them.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A peer that has connected opens its stream at once.
const STREAM_LIMIT: Duration = Duration::from_secs(10);
/// How long the last words of a connection may take to arrive.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// Bytes that may wait to be read from the socket.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Limits of a connection, in one place.
#[must_use]
pub fn transport(segmentation_offload: bool) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        // One stream for records, one for whatever else there is to ask.
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
        .enable_segmentation_offload(segmentation_offload)
        // Agents say something every 25 s; four lost in a row and the link is gone.
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(120_000))));
    transport
}

/// The socket that all devices send to.
///
/// Its buffer is what a burst of all of them has to fit into while something else runs: with the kernel's 208 KiB, four devices that
/// send a backlog at once lose one packet in fifty.
///
/// # Errors
/// What the operating system says.
pub fn socket(listen: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(listen)?;
    // Linux gives what it allows (net.core.rmem_max), and counts as much again for itself; others may refuse, which is no reason not to
    // start.
    if let Err(error) = set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER) {
        tracing::debug!(%error, "the receive buffer keeps its size");
    }
    let given = socket_recv_buffer_size(&socket)? / 2;
    if given < RECEIVE_BUFFER {
        tracing::info!(
            bytes = given,
            wanted = RECEIVE_BUFFER,
            "the kernel's limit for receive buffers, net.core.rmem_max, is small; bursts of many devices will lose packets, which are then sent again"
        );
    }
    Ok(socket)
}

/// Binds the endpoint.
pub(super) fn bind(limits: Quic, credentials: &Credentials) -> Result<Endpoint, BindError> {
    let socket = socket(limits.listen).map_err(BindError::Socket)?;
    let config = server_config(limits, credentials)?;
    Endpoint::new(endpoint(credentials), Some(config), socket, Arc::new(TokioRuntime)).map_err(BindError::Socket)
}

/// What connections that are yet to come are met with.
pub(super) fn server_config(limits: Quic, credentials: &Credentials) -> Result<ServerConfig, CredentialsError> {
    let mut config = ServerConfig::with_crypto(Arc::new(credentials.quic_config()?));
    config
        .transport_config(Arc::new(transport(limits.segmentation_offload)))
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
    if let Err(error) = config.max_udp_payload_size(PACKET_BYTES_MAX) {
        tracing::warn!(%error, "packets stay as small as Ethernet's");
    }
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
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = told_to_stop(&mut stop) => break,
            Some(_) = tasks.join_next() => {}
            () = tick(&mut renewals) => renew(&endpoint, renewal.as_ref()),
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                receive(incoming, &shared, &mut tasks);
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
    /// What the QUIC endpoint is configured with besides.
    pub(super) limits: Quic,
    /// Where connections over TCP take their configuration from.
    pub(super) tls: watch::Sender<Arc<rustls::ServerConfig>>,
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
    let renewed = (renewal.credentials)().and_then(|credentials| {
        renewal.tls.send_replace(Arc::new(credentials.tls_config()?));
        server_config(renewal.limits, &credentials)
    });
    match renewed {
        Ok(config) => {
            endpoint.set_server_config(Some(config));
            tracing::info!("the aggregator's own certificate was made anew");
        }
        Err(error) => tracing::error!(%error, "the aggregator's own certificate could not be made anew"),
    }
}

fn receive(incoming: Incoming, shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    let address = incoming.remote_address();
    if shared.room.is_crowded(address.ip()) && incoming.may_retry() && !incoming.remote_address_validated() {
        shared.metrics.retried();
        if let Err(error) = incoming.retry() {
            tracing::debug!(%address, %error, "cannot ask for a retry");
        }
        return;
    }
    let Some(place) = shared.room.take(address.ip(), &shared.metrics) else { return incoming.refuse() };
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
        place.established();
        attend(&connection, &shared).await;
    });
}

/// One connection from its certificate to its end.
async fn attend(connection: &Connection, shared: &Shared) {
    let address = connection.remote_address();
    if is_enrolment(connection) {
        // Boxed, as is all that is over before the session begins: an idle connection must not hold room for it.
        return Box::pin(enrol(connection, shared)).await;
    }
    let peered = match identity(connection, shared) {
        Ok(peered) => peered,
        Err(error) => {
            unidentified(&error, address, shared);
            return connection.close(VarInt::from_u32(code::REJECTED), b"identity");
        }
    };
    let mut registration = match Box::pin(admit(&peered, address, shared)).await {
        Ok(registration) => registration,
        Err((rejection, refuse)) => return Box::pin(turn_away(connection, rejection, refuse)).await,
    };
    let Peered { device, key, .. } = peered;
    let (mut writer, mut reader) = match tokio::time::timeout(STREAM_LIMIT, connection.accept_bi()).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(error)) => return tracing::info!(%device, %address, "disconnected: {error}"),
        Err(_) => {
            tracing::warn!(%device, %address, reason = Rejection::Slow.name(), "no stream was opened");
            shared.metrics.reject(Rejection::Slow);
            return connection.close(VarInt::from_u32(code::REJECTED), b"no stream");
        }
    };
    let peer = Peer { device: device.clone(), ledger: &shared.writer, observer: shared.metrics.as_ref(), clock: now };
    let ended = tokio::select! {
        ended = serve(&peer, &mut reader, &mut writer, &mut registration) => ended,
        never = enrolment::attend_requests(connection, shared, &device, key) => match never {},
    };
    // A refusal must arrive before the connection is closed, which would discard it.
    if writer.finish().is_ok() {
        drop(tokio::time::timeout(GOODBYE_LIMIT, writer.stopped()).await);
    }
    let (code, reason) = close_with(&ended, &device, address, shared);
    connection.close(VarInt::from_u32(code), reason.as_bytes());
}

/// One connection that is good for enrolment or renewal only.
async fn enrol(connection: &Connection, shared: &Shared) {
    let exchange = async {
        let (mut writer, mut reader) = connection.accept_bi().await.ok()?;
        let peered = || identity(connection, shared).map_err(|_| DenyReason::Unregistered);
        let denied = enrolment::exchange(&mut reader, &mut writer, connection.remote_address(), peered, shared).await?;
        // The answer must arrive before the connection may be closed.
        writer.stopped().await.ok()?;
        Some(denied)
    };
    match tokio::time::timeout(enrolment::EXCHANGE_LIMIT, exchange).await {
        Ok(Some(Ok(()))) => connection.close(VarInt::from_u32(code::FINISHED), b"issued"),
        Ok(Some(Err(reason))) => connection.close(VarInt::from_u32(code::REJECTED), reason.name().as_bytes()),
        // It asked for nothing, or went away before it had its answer.
        Ok(None) | Err(_) => {
            connection.close(VarInt::from_u32(code::REJECTED), DenyReason::Protocol.name().as_bytes());
        }
    }
}

/// Tells a device that may not speak why, and closes the connection.
async fn turn_away(connection: &Connection, rejection: Rejection, refuse: Refuse) {
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

fn is_enrolment(connection: &Connection) -> bool {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.and_then(|data| data.protocol).is_some_and(|protocol| protocol == ENROLMENT_ALPN)
}

fn identity(connection: &Connection, shared: &Shared) -> Result<Peered, IdentityError> {
    let shown = connection.peer_identity().ok_or(IdentityError::NoCertificate)?;
    let chain = shown.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| IdentityError::NoCertificate)?;
    identify(&chain, &shared.trust_domain)
}
