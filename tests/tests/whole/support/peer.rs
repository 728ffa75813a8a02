//! A peer that speaks QUIC by hand, so that it can say what no agent would.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::identity::{Deny, DenyReason, ENROLMENT_ALPN, Renew};
use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::session::{Acknowledge, Hello, Refuse, Welcome};
use driftglass_protocol::summary::{Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, FrameError, Kind, Mark, Record, RecordId, parse_frame};
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::timeout;

use super::authority::{Authority, Identity};

const LIMIT: Duration = Duration::from_secs(30);

/// What the aggregator answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Welcome(Mark),
    Acknowledge(Mark),
    Refuse(Refuse),
}

pub(crate) fn device(site: &str, device: &str) -> DeviceId {
    DeviceId { site: Name::parse(site).expect("name"), device: Name::parse(device).expect("name") }
}

pub(crate) fn hello(device: DeviceId, epoch: u32) -> Vec<u8> {
    let version = "test".try_into().expect("short");
    let hello = Hello { device, epoch, instance: 1, clock: UnixMillis(1_800_000_000_000), version };
    written(|out| hello.write(out))
}

/// A record of one window of ten frames.
pub(crate) fn record(epoch: u32, first: u64, last: u64) -> Vec<u8> {
    let start = UnixMillis(1_800_000_000_000).plus(Millis(u32::try_from(last).expect("small") * 1_000));
    let summary = Summary {
        camera: Name::parse("door").expect("name"),
        model: None,
        window: Window { start, length: Millis(1_000), merged: 1 },
        first_frame: None,
        last_frame: None,
        quality: Quality { frames: 10, ..Quality::default() },
        sketches: Default::default(),
        predictions: None,
    };
    let record =
        Record { id: RecordId { epoch, first, last }, previous: Mark::default(), body: Body::Summary(summary) };
    written(|out| record.write(out))
}

pub(crate) fn written(write: impl FnOnce(&mut [u8]) -> Result<usize, FrameError>) -> Vec<u8> {
    let mut out = vec![0; FRAME_BYTES];
    let length = write(&mut out).expect("fits");
    out.truncate(length);
    out
}

/// Connects, with the certificate given or with none. A refused certificate shows only afterwards, as a closed connection.
pub(crate) async fn connect(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&Identity>,
) -> Result<Connected, quinn::ConnectionError> {
    connect_with(address, authority.der(), identity.map(Shown::of)).await
}

/// What a peer shows of itself.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Shown {
    pub(crate) fn of(identity: &Identity) -> Self {
        let Identity { certificate, key } = identity;
        Self {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        }
    }
}

/// The same with certificates that come from elsewhere.
pub(crate) async fn connect_with(
    address: SocketAddr,
    authority: CertificateDer<'static>,
    shown: Option<Shown>,
) -> Result<Connected, quinn::ConnectionError> {
    connect_for(Ipv4Addr::LOCALHOST, address, authority, shown, b"driftglass/1").await
}

/// The same from another address of this machine.
pub(crate) async fn connect_from(
    from: Ipv4Addr,
    address: SocketAddr,
    authority: &Authority,
    identity: &Identity,
) -> Result<Connected, quinn::ConnectionError> {
    connect_for(from, address, authority.der(), Some(Shown::of(identity)), b"driftglass/1").await
}

/// Asks for a certificate for `key`, over a connection that is good for nothing else. What was denied, or `None`.
pub(crate) async fn renew(
    address: SocketAddr,
    authority: CertificateDer<'static>,
    shown: Option<Shown>,
    key: &KeyPair,
) -> Option<DenyReason> {
    let connected =
        connect_for(Ipv4Addr::LOCALHOST, address, authority, shown, ENROLMENT_ALPN).await.expect("a good chain");
    let request = CertificateParams::default().serialize_request(key).expect("signed");
    let frame = written(|out| Renew { request: request.der() }.write(out));
    let (mut send, mut receive) = connected.connection.open_bi().await.expect("a stream");
    send.write_all(&frame).await.expect("sent");
    send.finish().expect("open");
    let bytes = timeout(LIMIT, receive.read_to_end(FRAME_BYTES)).await.expect("in time").expect("an answer");
    let frame = parse_frame(&bytes).expect("a frame");
    if frame.kind == Kind::Issued { None } else { Some(Deny::parse(frame).expect("a refusal").reason) }
}

async fn connect_for(
    from: Ipv4Addr,
    address: SocketAddr,
    authority: CertificateDer<'static>,
    shown: Option<Shown>,
    protocol: &[u8],
) -> Result<Connected, quinn::ConnectionError> {
    let tls = client_tls(authority, shown, protocol);
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS for QUIC")));
    let endpoint = quinn::Endpoint::client((from, 0).into()).expect("a socket");
    let connecting = endpoint.connect_with(config, address, "127.0.0.1").expect("begun");
    let connection = timeout(LIMIT, connecting).await.expect("in time")?;
    Ok(Connected { connection, _endpoint: endpoint })
}

/// A device's side of TLS.
pub(crate) fn client_tls(
    authority: CertificateDer<'static>,
    shown: Option<Shown>,
    protocol: &[u8],
) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut tls = match shown {
        Some(Shown { chain, key }) => builder.with_client_auth_cert(chain, key).expect("a certificate"),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls
}

/// A connection on which nothing has been said.
#[derive(Debug)]
pub(crate) struct Connected {
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl Connected {
    /// Waits for the aggregator to close it.
    pub(crate) async fn closed(&self) -> quinn::ConnectionError {
        timeout(LIMIT, self.connection.closed()).await.expect("the aggregator closes the connection")
    }

    pub(crate) async fn open(self) -> Session {
        let (send, receive) = self.connection.open_bi().await.expect("a stream");
        Session { send, receive, inbox: Vec::new(), connected: self }
    }
}

/// A connection with its stream.
#[derive(Debug)]
pub(crate) struct Session {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    inbox: Vec<u8>,
    connected: Connected,
}

impl Session {
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        timeout(LIMIT, self.send.write_all(bytes)).await.expect("in time").expect("sent");
    }

    /// The next message.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            match parse_frame(&self.inbox) {
                Ok(frame) => {
                    let length = frame.length;
                    let answer = match frame.kind {
                        Kind::Welcome => Answer::Welcome(Welcome::parse(frame).expect("a welcome").mark),
                        Kind::Acknowledge => {
                            Answer::Acknowledge(Acknowledge::parse(frame).expect("an acknowledgement").mark)
                        }
                        Kind::Refuse => Answer::Refuse(Refuse::parse(frame).expect("a refusal")),
                        other => panic!("the aggregator sent a {other:?}"),
                    };
                    self.inbox.drain(..length);
                    return answer;
                }
                Err(FrameError::Incomplete { .. }) => {}
                Err(error) => panic!("the aggregator sent a malformed frame: {error}"),
            }
            let mut chunk = [0; 1024];
            let read = timeout(LIMIT, self.receive.read(&mut chunk)).await.expect("an answer in time");
            let count = read.expect("the stream is whole").expect("an answer before the end of the stream");
            self.inbox.extend_from_slice(&chunk[..count]);
        }
    }

    /// The next message, which has to be a refusal, and the end of the connection, which has to follow.
    pub(crate) async fn refusal(&mut self) -> Refuse {
        loop {
            match self.answer().await {
                Answer::Refuse(refuse) => {
                    let closed = self.connected.closed().await;
                    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed}");
                    return refuse;
                }
                // What came before the fault may be acknowledged first.
                Answer::Acknowledge(_) => {}
                Answer::Welcome(_) => panic!("welcomed instead of refused"),
            }
        }
    }
}
