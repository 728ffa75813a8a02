//! An aggregator small enough to reason about: the chain rule and a ledger in memory, over real QUIC.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use driftglass_agent::uplink::ALPN;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::session::{Acknowledge, Incoming, Receiver, Refuse, RefuseReason, Welcome};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, FrameError, Mark, Record, parse_frame};
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Issuer {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("key")).expect("signed")
}

fn certified(issuer: &Issuer, name: SanType, purpose: ExtendedKeyUsagePurpose) -> (Certificate, KeyPair) {
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![name];
    parameters.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().expect("key");
    (parameters.signed_by(&key, issuer).expect("signed"), key)
}

pub(crate) fn device() -> DeviceId {
    DeviceId { site: Name::parse("s").expect("name"), device: Name::parse("d").expect("name") }
}

/// The certificate of [`device`].
pub(crate) fn client(issuer: &Issuer) -> (Certificate, KeyPair) {
    let uri = "spiffe://driftglass.local/site/s/device/d".try_into().expect("ascii");
    certified(issuer, SanType::URI(uri), ExtendedKeyUsagePurpose::ClientAuth)
}

/// Listens on a free port of this machine as `aggregator.test`.
pub(crate) fn server(issuer: &Issuer) -> quinn::Endpoint {
    let name = SanType::DnsName("aggregator.test".try_into().expect("ascii"));
    let (certificate, key) = certified(issuer, name, ExtendedKeyUsagePurpose::ServerAuth);
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).expect("root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().expect("verifier");
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("certificate");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("quic")));
    quinn::Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("socket")
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

/// What an aggregator remembers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) mark: Cell<Mark>,
    /// Start of every window counted, in minutes.
    pub(crate) minutes: RefCell<Vec<i64>>,
    /// Frames, undecodable ones, skipped and late ones.
    pub(crate) counted: Cell<[u64; 4]>,
    pub(crate) lost: Cell<u64>,
    pub(crate) duplicates: Cell<u64>,
}

/// How an aggregator behaves in one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Commits so many records and goes without acknowledging the last.
    DiesAfter(u64),
    Refuses(RefuseReason),
}

impl Ledger {
    fn commit(&self, record: &Record<'_>) {
        match judge(self.mark.get(), record.id, record.previous) {
            Verdict::Accept => {
                self.mark.set(record.id.mark());
                match &record.body {
                    Body::Summary(summary) => {
                        self.minutes.borrow_mut().push(summary.window.start.0 / 60_000);
                        let quality = summary.quality;
                        let more = [quality.frames, quality.undecodable, quality.skipped, quality.late];
                        let mut counted = self.counted.get();
                        for (sum, more) in counted.iter_mut().zip(more) {
                            *sum += u64::from(more);
                        }
                        self.counted.set(counted);
                    }
                    Body::Tombstone(_) => self.lost.set(self.lost.get() + record.id.last - record.id.first + 1),
                }
            }
            Verdict::Duplicate => self.duplicates.set(self.duplicates.get() + 1),
            other => panic!("{other:?}: {:?} after {}", record.id, self.mark.get()),
        }
    }
}

/// One session, until `until` windows are counted and the agent has closed, or either side dies.
pub(crate) async fn serve(incoming: quinn::Incoming, ledger: &Ledger, manner: Manner, until: usize) {
    let Ok(connection) = incoming.await else { return };
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let mut receiver = Receiver::new(device());
    let (mut inbox, mut chunk, mut out) = (Vec::new(), [0; 4096], vec![0; FRAME_BYTES]);
    let mut records = 0;
    while ledger.minutes.borrow().len() < until {
        let Ok(Some(count)) = receive.read(&mut chunk).await else { return };
        inbox.extend_from_slice(&chunk[..count]);
        loop {
            let frame = match parse_frame(&inbox) {
                Ok(frame) => frame,
                Err(FrameError::Incomplete { .. }) => break,
                Err(error) => panic!("{error}"),
            };
            let (length, mark) = (frame.length, ledger.mark.get());
            let answer = match receiver.handle_frame(frame, mark).expect("well-behaved agent") {
                Incoming::Hello(hello) => {
                    assert_eq!(hello.device, device());
                    match manner {
                        Manner::Refuses(reason) => {
                            Refuse { reason, expected_after: mark, retry_after_s: 0 }.write(&mut out)
                        }
                        _ => Welcome { mark, clock: UnixMillis(0), in_flight: 3 }.write(&mut out),
                    }
                }
                Incoming::Record(record) => {
                    records += 1;
                    ledger.commit(&record);
                    if manner == Manner::DiesAfter(records) {
                        connection.close(quinn::VarInt::from_u32(1), b"dies");
                        return;
                    }
                    Acknowledge { mark: ledger.mark.get() }.write(&mut out)
                }
            };
            inbox.drain(..length);
            let length = answer.expect("fits");
            if send.write_all(&out[..length]).await.is_err() {
                return;
            }
        }
    }
    // Until the agent has read the last acknowledgement and closes.
    connection.closed().await;
}
