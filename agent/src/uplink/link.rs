//! A connection to the aggregator, whatever carries it: QUIC, or TLS over TCP where UDP is blocked.
//!
//! Over QUIC a connection carries several streams, survives another address of this device, and closes with a reason; over TCP it is one
//! stream and nothing more. What a session needs of either is here, so that it does not see the difference.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_user_timeout,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Silence after which a TCP peer is asked whether it is still there, so that the path's address translation stays; how often, and how
/// many times, before it is given up.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(25), Duration::from_secs(20), 4);
/// How long what was sent may stay without the system's acknowledgement, in milliseconds.
const UNACKNOWLEDGED_MS: u32 = 120_000;
/// How often it is looked by which address this device reaches the aggregator.
const PATH_LOOK: Duration = Duration::from_secs(5);
/// How long a connection may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP.
    Tcp,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Self; 2] = [Self::Quic, Self::Tcp];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// Where a session reads.
pub type Reading = Box<dyn AsyncRead + Unpin + Send>;
/// Where a session writes.
pub type Writing = Box<dyn AsyncWrite + Unpin + Send>;

/// A connection.
#[derive(Debug)]
pub struct Link(Carrier);

#[derive(Debug)]
enum Carrier {
    /// The endpoint has to be kept as long as the connection.
    Quic { endpoint: quinn::Endpoint, connection: quinn::Connection },
    /// The stream, until it is opened.
    Tcp { stream: Mutex<Option<Box<TlsStream<TcpStream>>>>, peer: SocketAddr },
}

impl Link {
    pub(super) const fn quic(endpoint: quinn::Endpoint, connection: quinn::Connection) -> Self {
        Self(Carrier::Quic { endpoint, connection })
    }

    pub(super) fn tcp(stream: TlsStream<TcpStream>, peer: SocketAddr) -> Self {
        Self(Carrier::Tcp { stream: Mutex::new(Some(Box::new(stream))), peer })
    }

    /// What carries it.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match &self.0 {
            Carrier::Quic { .. } => Transport::Quic,
            Carrier::Tcp { .. } => Transport::Tcp,
        }
    }

    /// A stream of its own over QUIC; over TCP the only one there is, once.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn open(&self) -> io::Result<(Reading, Writing)> {
        match &self.0 {
            Carrier::Quic { connection, .. } => {
                let (send, receive) = connection.open_bi().await?;
                Ok((Box::new(receive), Box::new(send)))
            }
            Carrier::Tcp { stream, .. } => {
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
                let stream = stream.ok_or_else(|| io::Error::other("a connection over TCP carries one stream"))?;
                let (reader, writer) = tokio::io::split(stream);
                Ok((Box::new(reader), Box::new(writer)))
            }
        }
    }

    /// The connection that further streams can be opened on, where there is one.
    pub(super) const fn quic_connection(&self) -> Option<&quinn::Connection> {
        match &self.0 {
            Carrier::Quic { connection, .. } => Some(connection),
            Carrier::Tcp { .. } => None,
        }
    }

    /// What the aggregator said when it closed the connection, or why it is gone.
    #[must_use]
    pub fn close_reason(&self) -> Option<String> {
        match &self.0 {
            Carrier::Quic { connection, .. } => connection.close_reason().map(|reason| reason.to_string()),
            Carrier::Tcp { .. } => None,
        }
    }

    /// Closes the connection in order; over TCP dropping its stream does that.
    pub async fn close(&self) {
        let Carrier::Quic { endpoint, connection } = &self.0 else { return };
        connection.close(quinn::VarInt::from_u32(0), b"");
        if tokio::time::timeout(CLOSE, endpoint.wait_idle()).await.is_err() {
            tracing::debug!("the connection took too long to close");
        }
    }

    /// Goes on from a new socket, over QUIC; `false` where the transport cannot do that.
    ///
    /// # Errors
    /// Where there is no socket.
    pub fn rebind(&self) -> io::Result<bool> {
        let Carrier::Quic { endpoint, .. } = &self.0 else { return Ok(false) };
        endpoint.rebind(UdpSocket::bind(any(endpoint.local_addr()?.ip()))?)?;
        Ok(true)
    }

    /// Looks by which of its addresses this device reaches the aggregator. When that changes a connection over QUIC goes on from a new
    /// socket, which the aggregator learns at once and not by the next keep-alive; one over TCP cannot, and this returns.
    pub(super) async fn follow_path(&self) {
        let mut known = self.local_address();
        loop {
            tokio::time::sleep(PATH_LOOK).await;
            let now = self.local_address();
            // Without any address there is nothing to go on from; the connection's own time limit decides.
            if now.is_none() || now == known {
                continue;
            }
            let from = known.map_or_else(|| "nowhere".to_owned(), |address| address.to_string());
            tracing::info!(from, to = ?now, "the way to the aggregator goes through another address of this device");
            match self.rebind() {
                Ok(true) => known = now,
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "no new socket"),
            }
        }
    }

    /// The address that the system would send to the aggregator from. Asking sends nothing.
    fn local_address(&self) -> Option<IpAddr> {
        let peer = match &self.0 {
            Carrier::Quic { connection, .. } => connection.remote_address(),
            Carrier::Tcp { peer, .. } => *peer,
        };
        let socket = UdpSocket::bind(any(peer.ip())).ok()?;
        socket.connect(peer).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    }
}

/// Any address and port of the same family.
pub(super) const fn any(address: IpAddr) -> SocketAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        IpAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

/// Has the system notice a peer that is gone.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    let (idle, interval, count) = KEEP_ALIVE;
    stream.set_nodelay(true)?;
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, idle)?;
    set_tcp_keepintvl(stream, interval)?;
    set_tcp_keepcnt(stream, count)?;
    Ok(set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?)
}
