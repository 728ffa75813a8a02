//! A connection to the aggregator: mutual TLS 1.3, no early data, no resumption; over QUIC, or over TCP where UDP is blocked.
//!
//! Resumption would continue without checking the peer's chain again, and early data could be replayed; neither is worth a round trip
//! for a connection that lives for weeks.
//!
//! QUIC is tried first, for [`QUIC_FIRST`] where there is another way. Only where nothing answers is TCP tried: what an aggregator
//! answers is final. What worked is tried first for a while, so that a site that blocks UDP does not wait at every attempt.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::identity::ENROLMENT_ALPN;
use driftglass_protocol::identity::certificate::{self, Validity};
use driftglass_protocol::limit::PACKET_BYTES_MAX;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::link::{Link, any, prepare};
use super::trust::{AggregatorVerifier, Anchor};

/// The protocol and its version, as negotiated in the handshake.
pub const ALPN: &[u8] = b"driftglass/1";
/// A packet at least so often, so that the path's address translation stays.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// Silence after which a connection is given up, in milliseconds.
const IDLE_MS: u32 = 120_000;
/// Packets that the aggregator need not acknowledge one by one or two by two (draft-ietf-quic-ack-frequency): a backlog costs both sides
/// less, and what is counted is acknowledged by the session itself.
const ACKNOWLEDGE_AFTER: quinn::VarInt = quinn::VarInt::from_u32(10);
/// An attempt that takes longer has failed.
const CONNECT: Duration = Duration::from_secs(10);
/// An attempt over QUIC, where there is TCP to fall back to: three round trips over a satellite, and a packet lost.
const QUIC_FIRST: Duration = Duration::from_secs(5);

/// What the device shows and whom it trusts.
#[derive(Debug)]
pub struct Credentials {
    /// The device's certificate and its intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The device's key.
    pub key: PrivateKeyDer<'static>,
    /// The authorities an aggregator must be certified by.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The credentials do not make a TLS configuration.
    #[error("the identity cannot be used: {0}")]
    Identity(#[from] rustls::Error),
    /// The cipher QUIC needs is missing from the provider.
    #[error("the TLS provider lacks the cipher of QUIC: {0}")]
    Cipher(#[from] NoInitialCipherSuite),
    /// No socket.
    #[error("no UDP socket: {0}")]
    Socket(io::Error),
    /// The name has no address.
    #[error("{host} has no address: {error}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// QUIC could not begin.
    #[error("connecting to {address} could not begin: {error}")]
    Begin {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: quinn::ConnectError,
    },
    /// The handshake failed.
    #[error("connecting to {address} failed: {error}")]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: quinn::ConnectionError,
    },
    /// The handshake took too long.
    #[error("{address} did not answer within {} s: is UDP let through?", limit.as_secs())]
    Timeout {
        /// Where.
        address: SocketAddr,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The aggregator's name is none.
    #[error("{name}: {error}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: InvalidDnsNameError,
    },
    /// There is no connection over TCP either.
    #[error("{address} over TCP: {error}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// What the system or TLS said.
        error: io::Error,
    },
    /// Neither way leads to the aggregator.
    #[error("{quic}; {tcp}")]
    Neither {
        /// What came of QUIC.
        quic: Box<Self>,
        /// What came of TCP.
        tcp: Box<Self>,
    },
}

impl ConnectError {
    /// Whether nobody answered, so that another way may lead further.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Begin { .. } | Self::Timeout { .. } | Self::Resolve { .. } => true,
            Self::Handshake { error, .. } => {
                matches!(error, quinn::ConnectionError::TimedOut | quinn::ConnectionError::Reset)
            }
            Self::Neither { quic, tcp } => quic.is_silence() && tcp.is_silence(),
            Self::Tcp { error, .. } => error.kind() != io::ErrorKind::InvalidData,
            Self::Identity(_) | Self::Cipher(_) | Self::Name { .. } => false,
        }
    }
}

/// Where the aggregator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// The name its certificate must bear.
    pub server_name: String,
    /// The trust domain whose aggregator is accepted under any name: `spiffe://TRUST-DOMAIN/aggregator`.
    pub trust_domain: Option<String>,
    /// Whether several packets are handed to the system at once (UDP segmentation offload).
    pub segmentation_offload: bool,
    /// Where it is reached over TCP, where there is such a way.
    pub fallback: Option<Fallback>,
}

/// The way over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How long after it was needed QUIC is tried again.
    pub retry_quic: Duration,
}

/// One protocol's configuration for either transport.
#[derive(Clone, Debug)]
struct Protocol {
    quic: quinn::ClientConfig,
    tcp: Arc<ClientConfig>,
}

/// Makes connections.
#[derive(Debug)]
pub struct Connector {
    /// For sessions.
    session: Protocol,
    /// For renewing a certificate, and nothing else.
    renewal: Protocol,
    /// The device's own certificate.
    leaf: Option<CertificateDer<'static>>,
    time: Arc<dyn TimeProvider>,
    target: Target,
    attempt: usize,
    /// Until then TCP is tried first: UDP was blocked, and TCP was not.
    tcp_until: Option<Instant>,
}

impl Connector {
    /// Prepares TLS. `time` is what certificates are judged by.
    ///
    /// # Errors
    /// [`ConnectError::Identity`], [`ConnectError::Cipher`].
    pub fn new(credentials: Credentials, target: Target, time: Arc<dyn TimeProvider>) -> Result<Self, ConnectError> {
        let leaf = credentials.chain.first().cloned();
        let (session, renewal) = configs(credentials, &target, &time)?;
        Ok(Self { session, renewal, leaf, time, target, attempt: 0, tcp_until: None })
    }

    /// Another identity, for connections that are yet to come.
    ///
    /// # Errors
    /// As [`Self::new`]; then the one before stays.
    pub fn replace(&mut self, credentials: Credentials) -> Result<(), ConnectError> {
        let leaf = credentials.chain.first().cloned();
        (self.session, self.renewal) = configs(credentials, &self.target, &self.time)?;
        self.leaf = leaf;
        Ok(())
    }

    /// Whether this is the identity in use.
    #[must_use]
    pub fn uses(&self, credentials: &Credentials) -> bool {
        self.leaf.as_ref() == credentials.chain.first()
    }

    /// How long the certificate in use is valid; `None` where that cannot be read.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.leaf.as_ref().and_then(|leaf| certificate::validity(leaf))
    }

    /// Where it connects to.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Connects to the next of the name's addresses. The endpoint is new each time, so that a changed network interface does no harm.
    ///
    /// # Errors
    /// One variant of [`ConnectError`] per cause.
    pub async fn connect(&mut self) -> Result<Link, ConnectError> {
        let attempt = self.next_attempt();
        let protocol = self.session.clone();
        self.reach(&protocol, attempt).await
    }

    /// The same, for renewing a certificate over a connection of its own.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_to_renew(&mut self) -> Result<Link, ConnectError> {
        let attempt = self.next_attempt();
        let protocol = self.renewal.clone();
        self.reach(&protocol, attempt).await
    }

    async fn reach(&mut self, protocol: &Protocol, attempt: usize) -> Result<Link, ConnectError> {
        if self.target.fallback.is_none() {
            return reach_quic(&protocol.quic, &self.target, attempt, CONNECT).await;
        }
        let preferred = self.tcp_until.take().filter(|&until| Instant::now() < until);
        if preferred.is_some()
            && let Ok(link) = reach_tcp(protocol, &self.target, attempt).await
        {
            self.tcp_until = preferred;
            return Ok(link);
        }
        let reached = reach(protocol, &self.target, attempt).await;
        if let (Ok(link), Some(fallback)) = (&reached, &self.target.fallback)
            && link.transport() == super::Transport::Tcp
        {
            self.tcp_until = Some(Instant::now() + fallback.retry_quic);
        }
        reached
    }

    /// What looks for a way over QUIC while a session stands over TCP.
    #[must_use]
    pub(super) fn scout(&self) -> Scout {
        Scout { quic: self.session.quic.clone(), target: self.target.clone() }
    }

    /// QUIC works again.
    pub(super) const fn prefer_quic(&mut self) {
        self.tcp_until = None;
    }

    const fn next_attempt(&mut self) -> usize {
        let attempt = self.attempt;
        self.attempt = attempt.wrapping_add(1);
        attempt
    }
}

/// Looks for a way over QUIC.
#[derive(Debug)]
pub(super) struct Scout {
    quic: quinn::ClientConfig,
    target: Target,
}

impl Scout {
    /// Tries again and again, and returns the connection once there is one; for ever where there is no way but QUIC.
    pub(super) async fn find(&self) -> Link {
        let Some(fallback) = &self.target.fallback else { return std::future::pending().await };
        for attempt in 0_usize.. {
            tokio::time::sleep(fallback.retry_quic).await;
            match reach_quic(&self.quic, &self.target, attempt, QUIC_FIRST).await {
                Ok(link) => return link,
                Err(error) => tracing::debug!(%error, "still no way over QUIC"),
            }
        }
        std::future::pending().await
    }
}

/// First contact: a connection for enrolment, to the aggregator whose authority has this fingerprint. `attempt` chooses among the
/// addresses of the name.
///
/// # Errors
/// One variant of [`ConnectError`] per cause.
pub async fn connect_to_enrol(
    fingerprint: [u8; 32],
    target: &Target,
    time: &Arc<dyn TimeProvider>,
    attempt: usize,
) -> Result<Link, ConnectError> {
    let tls = builder(Anchor::Fingerprint(fingerprint), target, time)?.with_no_client_auth();
    reach(&protocol(tls, target, ENROLMENT_ALPN)?, target, attempt).await
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn builder(anchor: Anchor, target: &Target, time: &Arc<dyn TimeProvider>) -> Result<Builder, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        AggregatorVerifier { anchor, trust_domain: target.trust_domain.clone(), provider: Arc::clone(&provider) };
    Ok(ClientConfig::builder_with_details(provider, Arc::clone(time))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn configs(
    credentials: Credentials,
    target: &Target,
    time: &Arc<dyn TimeProvider>,
) -> Result<(Protocol, Protocol), ConnectError> {
    let mut roots = RootCertStore::empty();
    for authority in credentials.authorities {
        roots.add(authority)?;
    }
    let builder = builder(Anchor::Authorities(roots), target, time)?;
    let tls = builder.with_client_auth_cert(credentials.chain, credentials.key)?;
    Ok((protocol(tls.clone(), target, ALPN)?, protocol(tls, target, ENROLMENT_ALPN)?))
}

fn protocol(mut tls: ClientConfig, target: &Target, name: &[u8]) -> Result<Protocol, ConnectError> {
    tls.alpn_protocols = vec![name.to_vec()];
    tls.enable_early_data = false;
    tls.resumption = Resumption::disabled();

    let mut quic = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls.clone())?));
    quic.transport_config(Arc::new(transport(target.segmentation_offload)));
    Ok(Protocol { quic, tcp: Arc::new(tls) })
}

/// Limits of a connection over QUIC, in one place.
#[must_use]
pub fn transport(segmentation_offload: bool) -> quinn::TransportConfig {
    let mut acknowledgements = quinn::AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(ACKNOWLEDGE_AFTER);
    let mut packets = quinn::MtuDiscoveryConfig::default();
    packets.upper_bound(PACKET_BYTES_MAX);
    let mut transport = quinn::TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(quinn::VarInt::from_u32(IDLE_MS).into()))
        .max_concurrent_bidi_streams(quinn::VarInt::from_u32(1))
        .max_concurrent_uni_streams(quinn::VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(segmentation_offload)
        .stream_receive_window(quinn::VarInt::from_u32(128 * 1024))
        .receive_window(quinn::VarInt::from_u32(256 * 1024))
        .send_window(512 * 1024)
        .mtu_discovery_config(Some(packets))
        .ack_frequency_config(Some(acknowledgements));
    transport
}

/// QUIC, and TCP where nothing answers and there is such a way.
async fn reach(protocol: &Protocol, target: &Target, attempt: usize) -> Result<Link, ConnectError> {
    let limit = if target.fallback.is_some() { QUIC_FIRST } else { CONNECT };
    let quic = match reach_quic(&protocol.quic, target, attempt, limit).await {
        Err(quic) if target.fallback.is_some() && quic.is_silence() => quic,
        reached => return reached,
    };
    match reach_tcp(protocol, target, attempt).await {
        Ok(link) => {
            tracing::warn!(error = %quic, "no way over QUIC; connected over TCP instead");
            Ok(link)
        }
        Err(tcp) => Err(ConnectError::Neither { quic: Box::new(quic), tcp: Box::new(tcp) }),
    }
}

async fn reach_quic(
    config: &quinn::ClientConfig,
    target: &Target,
    attempt: usize,
    limit: Duration,
) -> Result<Link, ConnectError> {
    let address = resolve(&target.host, target.port, attempt).await?;
    let endpoint = quinn::Endpoint::client(any(address.ip())).map_err(ConnectError::Socket)?;
    let connecting = endpoint
        .connect_with(config.clone(), address, &target.server_name)
        .map_err(|error| ConnectError::Begin { address, error })?;
    match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(connection)) => Ok(Link::quic(endpoint, connection)),
        Ok(Err(error)) => Err(ConnectError::Handshake { address, error }),
        Err(_) => Err(ConnectError::Timeout { address, limit }),
    }
}

async fn reach_tcp(protocol: &Protocol, target: &Target, attempt: usize) -> Result<Link, ConnectError> {
    let Some(fallback) = &target.fallback else { return Err(ConnectError::Socket(io::ErrorKind::Unsupported.into())) };
    let name = target.server_name.clone();
    let server_name =
        ServerName::try_from(name.clone()).map_err(|error| ConnectError::Name { name: name.clone(), error })?;
    let address = resolve(&fallback.host, fallback.port, attempt).await?;
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        prepare(&stream)?;
        TlsConnector::from(Arc::clone(&protocol.tcp)).connect(server_name, stream).await
    };
    let connected = match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connected) => connected,
        Err(elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)),
    };
    let stream = connected.map_err(|error| ConnectError::Tcp { address, error })?;
    Ok(Link::tcp(stream, address))
}

async fn resolve(host: &str, port: u16, attempt: usize) -> Result<SocketAddr, ConnectError> {
    let unresolved = |error| ConnectError::Resolve { host: host.to_owned(), error };
    let lookup = tokio::net::lookup_host((host, port));
    let addresses: Vec<_> = match tokio::time::timeout(CONNECT, lookup).await {
        Ok(found) => found.map_err(unresolved)?.collect(),
        Err(elapsed) => return Err(unresolved(io::Error::new(io::ErrorKind::TimedOut, elapsed))),
    };
    match addresses.len() {
        0 => Err(unresolved(io::ErrorKind::NotFound.into())),
        count => Ok(addresses[attempt % count]),
    }
}
