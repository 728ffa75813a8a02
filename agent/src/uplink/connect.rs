//! One QUIC connection to the aggregator: mutual TLS 1.3, no early data, no resumption.
//!
//! Resumption would continue without checking the peer's chain again, and early data could be replayed; neither is worth a round trip
//! for a connection that lives for weeks.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::identity::ENROLMENT_ALPN;
use driftglass_protocol::identity::certificate::{self, Validity};
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use super::trust::{AggregatorVerifier, Anchor};

/// The protocol and its version, as negotiated in the handshake.
pub const ALPN: &[u8] = b"driftglass/1";
/// A packet at least so often, so that the path's address translation stays.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// Silence after which a connection is given up, in milliseconds.
const IDLE_MS: u32 = 120_000;
/// An attempt that takes longer has failed.
const CONNECT: Duration = Duration::from_secs(10);

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
    #[error("{address} did not answer within {} s: is UDP let through?", CONNECT.as_secs())]
    Timeout {
        /// Where.
        address: SocketAddr,
    },
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
}

/// Makes connections.
#[derive(Debug)]
pub struct Connector {
    /// For sessions.
    session: quinn::ClientConfig,
    /// For renewing an expired certificate, and nothing else.
    renewal: quinn::ClientConfig,
    /// The device's own certificate.
    leaf: Option<CertificateDer<'static>>,
    time: Arc<dyn TimeProvider>,
    target: Target,
    attempt: usize,
}

impl Connector {
    /// Prepares TLS. `time` is what certificates are judged by.
    ///
    /// # Errors
    /// [`ConnectError::Identity`], [`ConnectError::Cipher`].
    pub fn new(credentials: Credentials, target: Target, time: Arc<dyn TimeProvider>) -> Result<Self, ConnectError> {
        let leaf = credentials.chain.first().cloned();
        let (session, renewal) = configs(credentials, &target, &time)?;
        Ok(Self { session, renewal, leaf, time, target, attempt: 0 })
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

    /// Connects to the next of the name's addresses. The endpoint is new each time, so that a changed network interface does no harm;
    /// it has to be kept as long as the connection.
    ///
    /// # Errors
    /// One variant of [`ConnectError`] per cause.
    pub async fn connect(&mut self) -> Result<(quinn::Endpoint, quinn::Connection), ConnectError> {
        let attempt = self.next_attempt();
        reach(&self.session, &self.target, attempt).await
    }

    /// The same, for renewing an expired certificate.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_to_renew(&mut self) -> Result<(quinn::Endpoint, quinn::Connection), ConnectError> {
        let attempt = self.next_attempt();
        reach(&self.renewal, &self.target, attempt).await
    }

    const fn next_attempt(&mut self) -> usize {
        let attempt = self.attempt;
        self.attempt = attempt.wrapping_add(1);
        attempt
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
) -> Result<(quinn::Endpoint, quinn::Connection), ConnectError> {
    let tls = builder(Anchor::Fingerprint(fingerprint), target, time)?.with_no_client_auth();
    reach(&quic(tls, ENROLMENT_ALPN)?, target, attempt).await
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
) -> Result<(quinn::ClientConfig, quinn::ClientConfig), ConnectError> {
    let mut roots = RootCertStore::empty();
    for authority in credentials.authorities {
        roots.add(authority)?;
    }
    let builder = builder(Anchor::Authorities(roots), target, time)?;
    let tls = builder.with_client_auth_cert(credentials.chain, credentials.key)?;
    Ok((quic(tls.clone(), ALPN)?, quic(tls, ENROLMENT_ALPN)?))
}

fn quic(mut tls: ClientConfig, protocol: &[u8]) -> Result<quinn::ClientConfig, ConnectError> {
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.enable_early_data = false;
    tls.resumption = Resumption::disabled();

    let mut transport = quinn::TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(quinn::VarInt::from_u32(IDLE_MS).into()))
        .max_concurrent_bidi_streams(quinn::VarInt::from_u32(1))
        .max_concurrent_uni_streams(quinn::VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(quinn::VarInt::from_u32(128 * 1024))
        .receive_window(quinn::VarInt::from_u32(256 * 1024))
        .send_window(512 * 1024);
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

async fn reach(
    config: &quinn::ClientConfig,
    target: &Target,
    attempt: usize,
) -> Result<(quinn::Endpoint, quinn::Connection), ConnectError> {
    let Target { host, port, server_name, .. } = target;
    let unresolved = |error| ConnectError::Resolve { host: host.clone(), error };
    let lookup = tokio::net::lookup_host((host.as_str(), *port));
    let addresses: Vec<_> = match tokio::time::timeout(CONNECT, lookup).await {
        Ok(found) => found.map_err(unresolved)?.collect(),
        Err(elapsed) => return Err(unresolved(io::Error::new(io::ErrorKind::TimedOut, elapsed))),
    };
    let address = match addresses.len() {
        0 => return Err(unresolved(io::ErrorKind::NotFound.into())),
        count => addresses[attempt % count],
    };
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let endpoint = quinn::Endpoint::client(any).map_err(ConnectError::Socket)?;
    let connecting = endpoint
        .connect_with(config.clone(), address, server_name)
        .map_err(|error| ConnectError::Begin { address, error })?;
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(Ok(connection)) => Ok((endpoint, connection)),
        Ok(Err(error)) => Err(ConnectError::Handshake { address, error }),
        Err(_) => Err(ConnectError::Timeout { address }),
    }
}
