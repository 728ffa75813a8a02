//! TLS over TCP, for agents whose site blocks UDP: the same session, the same identities, the same limits.
//!
//! A connection carries one stream. Renewals come over a connection of their own; what is said of configuration goes between the
//! frames of the session. What QUIC does by itself is asked of TCP here: a peer that is gone is noticed, and last words arrive before a
//! connection ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::identity::{DenyReason, ENROLMENT_ALPN};
use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_user_timeout,
};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clock::now;
use super::door::{Peered, Place, Shared, admit, close_with, failed_handshake, identify, told_to_stop, unidentified};
use super::{configuration, enrolment};
use crate::identity::IdentityError;
use crate::ingest::{Aside, Peer, serve_beside};

/// As over QUIC.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long the last words of a connection may take to arrive.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// Most bytes thrown away while they do.
const GOODBYE_BYTES: usize = 1024 * 1024;
/// Silence after which a peer is asked whether it is still there, how often, and how many times.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(20), 3);
/// How long what was sent may stay without the system's acknowledgement, in milliseconds.
const UNACKNOWLEDGED_MS: u32 = 120_000;
/// After a failure to accept, as where there are no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `stop` turns true, then waits for every session to say goodbye.
pub(super) async fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = told_to_stop(&mut stop) => break,
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let Some(place) = shared.room.take(address.ip(), &shared.metrics) else { continue };
                    let config = Arc::clone(&tls.borrow());
                    tasks.spawn(receive(stream, address, config, place, Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "no TCP connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    shared.connections.stop_all();
    while tasks.join_next().await.is_some() {}
}

async fn receive(
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<rustls::ServerConfig>,
    place: Place,
    shared: Arc<Shared>,
) {
    if let Err(error) = prepare(&stream) {
        return failed_handshake(&shared, address, &error.to_string());
    }
    let mut stream = match tokio::time::timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return failed_handshake(&shared, address, &error.to_string()),
        Err(_) => return failed_handshake(&shared, address, "it took too long"),
    };
    place.established();
    attend(&mut stream, address, &shared).await;
    goodbye(&mut stream).await;
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    let (idle, interval, count) = KEEP_ALIVE;
    stream.set_nodelay(true)?;
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, idle)?;
    set_tcp_keepintvl(stream, interval)?;
    set_tcp_keepcnt(stream, count)?;
    Ok(set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?)
}

/// One connection from its certificate to its end.
async fn attend(stream: &mut TlsStream<TcpStream>, address: SocketAddr, shared: &Shared) {
    let (_, tls) = stream.get_ref();
    let enrols = tls.alpn_protocol() == Some(ENROLMENT_ALPN);
    if tls.alpn_protocol().is_none() {
        return failed_handshake(shared, address, "it names no protocol");
    }
    let peered = identity(tls.peer_certificates(), shared);
    if enrols {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let peered = || peered.map_err(|_| DenyReason::Unregistered);
        let exchange = enrolment::exchange(&mut reader, &mut writer, address, peered, shared);
        drop(tokio::time::timeout(enrolment::EXCHANGE_LIMIT, Box::pin(exchange)).await);
        return;
    }
    let peered = match peered {
        Ok(peered) => peered,
        Err(error) => return unidentified(&error, address, shared),
    };
    let mut registration = match Box::pin(admit(&peered, address, shared)).await {
        Ok(registration) => registration,
        Err((_, refuse)) => {
            let mut out = [0; 64];
            let length = refuse.write(&mut out).unwrap_or_default();
            let refusal = stream.write_all(out.get(..length).unwrap_or_default());
            // The connection ends either way.
            drop(tokio::time::timeout(GOODBYE_LIMIT, refusal).await);
            return;
        }
    };
    let Peered { device, .. } = peered;
    let peer = Peer { device: device.clone(), ledger: &shared.writer, observer: shared.metrics.as_ref(), clock: now };
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (aside, confidant) = Aside::new();
    let ended = tokio::select! {
        ended = serve_beside(&peer, &mut reader, &mut writer, &mut registration, Some(aside)) => ended,
        never = configuration::converse(confidant, shared, &device) => match never {},
    };
    close_with(&ended, &device, address, shared);
}

fn identity(chain: Option<&[CertificateDer<'_>]>, shared: &Shared) -> Result<Peered, IdentityError> {
    identify(chain.unwrap_or_default(), &shared.trust_domain)
}

/// Ends the connection so that the peer can read what was said last: a socket that is closed with something unread in it would discard
/// what is under way in the other direction.
async fn goodbye(stream: &mut TlsStream<TcpStream>) {
    let read_on = async {
        stream.shutdown().await.ok()?;
        let (mut chunk, mut left) = ([0; 4096], GOODBYE_BYTES);
        while left > 0 {
            let count = stream.read(&mut chunk).await.ok().filter(|&count| count > 0)?;
            left = left.saturating_sub(count);
        }
        Some(())
    };
    drop(tokio::time::timeout(GOODBYE_LIMIT, Box::pin(read_on)).await);
}
