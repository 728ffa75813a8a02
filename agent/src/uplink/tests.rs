//! The uplink against an aggregator in the same process: real QUIC, real certificates, the protocol's own receiver.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use driftglass_protocol::id::Name;
use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::session::{Acknowledge, Incoming, Receiver, Refuse, Welcome};
use driftglass_protocol::unit::Millis;
use driftglass_protocol::wire::{Body, FrameError, parse_frame};
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::*;
use crate::spool::{self, Settings};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("key")).expect("signed")
}

fn certified(
    issuer: &Issuer,
    name: SanType,
    purpose: ExtendedKeyUsagePurpose,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![name];
    parameters.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().expect("key");
    let certificate = parameters.signed_by(&key, issuer).expect("signed");
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).expect("key"))
}

fn device() -> DeviceId {
    DeviceId { site: Name::parse("s").expect("name"), device: Name::parse("d").expect("name") }
}

fn connector(issuer: &Issuer, port: u16) -> Connector {
    let uri = "spiffe://driftglass.local/site/s/device/d".try_into().expect("ascii");
    let (certificate, key) = certified(issuer, SanType::URI(uri), ExtendedKeyUsagePurpose::ClientAuth);
    let credentials = Credentials { chain: vec![certificate], key, authorities: vec![issuer.der().clone()] };
    let target = Target { host: "127.0.0.1".into(), port, server_name: "aggregator.test".into() };
    Connector::new(credentials, target).expect("connector")
}

fn server(issuer: &Issuer) -> quinn::Endpoint {
    let name = SanType::DnsName("aggregator.test".try_into().expect("ascii"));
    let (certificate, key) = certified(issuer, name, ExtendedKeyUsagePurpose::ServerAuth);
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).expect("root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().expect("verifier");
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .expect("certificate");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("quic")));
    quinn::Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("socket")
}

/// What an aggregator remembers.
#[derive(Debug, Default)]
struct Ledger {
    mark: Mark,
    minutes: Vec<i64>,
    lost: u64,
    duplicates: u64,
}

/// How an aggregator misbehaves in one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Commits so many records and closes without acknowledging the last.
    DiesAfter(u64),
    Refuses(RefuseReason),
}

async fn serve_once(endpoint: &quinn::Endpoint, ledger: &mut Ledger, manner: Manner, until: usize) {
    let connection = endpoint.accept().await.expect("incoming").await.expect("handshake");
    let (mut send, mut receive) = connection.accept_bi().await.expect("stream");
    let mut receiver = Receiver::new(device());
    let (mut inbox, mut chunk, mut out) = (Vec::new(), [0; 4096], vec![0; FRAME_BYTES]);
    let mut records = 0;
    while ledger.minutes.len() < until {
        let Ok(Some(count)) = receive.read(&mut chunk).await else { return };
        inbox.extend_from_slice(&chunk[..count]);
        loop {
            let frame = match parse_frame(&inbox) {
                Ok(frame) => frame,
                Err(FrameError::Incomplete { .. }) => break,
                Err(error) => panic!("{error}"),
            };
            let (length, clock) = (frame.length, UnixMillis(0));
            let answer = match receiver.handle_frame(frame, ledger.mark).expect("well-behaved agent") {
                Incoming::Hello(hello) => {
                    assert_eq!(hello.device, device());
                    match manner {
                        Manner::Refuses(reason) => {
                            Refuse { reason, expected_after: ledger.mark, retry_after_s: 0 }.write(&mut out)
                        }
                        _ => Welcome { mark: ledger.mark, clock, in_flight: 3 }.write(&mut out),
                    }
                }
                Incoming::Record(record) => {
                    records += 1;
                    match judge(ledger.mark, record.id, record.previous) {
                        Verdict::Accept => {
                            ledger.mark = record.id.mark();
                            match record.body {
                                Body::Summary(summary) => ledger.minutes.push(summary.window.start.0 / 60_000),
                                Body::Tombstone(_) => ledger.lost += record.id.last - record.id.first + 1,
                            }
                        }
                        Verdict::Duplicate => ledger.duplicates += 1,
                        other => panic!("{other:?}: {:?} after {}", record.id, ledger.mark),
                    }
                    if manner == Manner::DiesAfter(records) {
                        connection.close(quinn::VarInt::from_u32(1), b"dies");
                        return;
                    }
                    Acknowledge { mark: ledger.mark }.write(&mut out)
                }
            };
            inbox.drain(..length);
            let length = answer.expect("fits");
            send.write_all(&out[..length]).await.expect("sent");
        }
    }
    // Until the agent has read the last acknowledgement and closes.
    connection.closed().await;
}

fn spool(folder: &Path) -> spool::Opened {
    let settings = Settings { state_dir: folder.to_path_buf(), device: device(), max_bytes: 1 << 20 };
    spool::open(settings, 1_700_000_000).expect("opens")
}

fn append(writer: &mut spool::Writer, minute: i64) {
    let body = Body::Summary(driftglass_protocol::summary::Summary {
        camera: Name::parse("c").expect("name"),
        model: None,
        window: driftglass_protocol::summary::Window {
            start: UnixMillis(minute * 60_000),
            length: Millis(60_000),
            merged: 1,
        },
        first_frame: None,
        last_frame: None,
        quality: Default::default(),
        sketches: heapless::Vec::new(),
    });
    writer.append(&[body], Vec::new()).expect("appended");
}

struct Uplink {
    shared: Arc<Shared>,
    counters: Counters,
    speaker: Speaker,
}

impl Uplink {
    fn new(opened: &spool::Opened, folder: &Path) -> Self {
        let speaker = Speaker {
            device: device(),
            epoch: opened.writer.epoch(),
            instance: 1,
            version: "test",
            state_dir: folder.into(),
        };
        Self { shared: Arc::clone(&opened.shared), counters: Counters::default(), speaker }
    }

    /// Runs until the spool is empty.
    async fn drain(&self, connector: Connector) -> Result<(), Fatal> {
        let (stop, stopping) = watch::channel(false);
        let mut random = || 0;
        let surroundings =
            Surroundings { clock: &|| UnixMillis(0), random: &mut random, stop: stopping, counters: &self.counters };
        let empty = async {
            while self.shared.pending() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.send(true).expect("the uplink listens");
        };
        let run = async { tokio::join!(run(connector, &self.speaker, &self.shared, surroundings), empty).0 };
        tokio::time::timeout(Duration::from_secs(20), run).await.expect("in time")
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

#[test]
fn whatever_the_aggregator_does_every_record_is_counted_once_and_in_order() {
    block_on(async {
        let folder = tempfile::tempdir().expect("folder");
        let mut opened = spool(folder.path());
        for minute in 0..20 {
            append(&mut opened.writer, minute);
        }
        let issuer = authority();
        let endpoint = server(&issuer);
        let port = endpoint.local_addr().expect("address").port();
        let uplink = Uplink::new(&opened, folder.path());
        let mut ledger = Ledger::default();
        let aggregator = async {
            let manners = [
                Manner::DiesAfter(1),
                Manner::Refuses(RefuseReason::Unavailable),
                Manner::DiesAfter(7),
                Manner::Refuses(RefuseReason::Gap),
                Manner::Honest,
            ];
            for manner in manners {
                serve_once(&endpoint, &mut ledger, manner, 20).await;
            }
        };
        let (ended, ()) = tokio::join!(uplink.drain(connector(&issuer, port)), aggregator);
        assert!(ended.is_ok());
        assert_eq!((ledger.minutes, ledger.lost), ((0..20).collect(), 0));
        assert_eq!(uplink.counters.refused.load(Ordering::Relaxed), 2);
        assert!(uplink.counters.sent.load(Ordering::Relaxed) >= 20);
    });
}

#[test]
fn records_of_earlier_starts_come_first_and_an_aggregator_that_forgot_is_told_what_is_gone() {
    block_on(async {
        let folder = tempfile::tempdir().expect("folder");
        for minute in 0..3 {
            append(&mut spool(folder.path()).writer, minute);
        }
        let opened = spool(folder.path());
        let epoch = opened.writer.epoch();
        // The first two were acknowledged, and an aggregator without memory begins from nothing.
        opened.shared.acknowledge(Mark { epoch: epoch - 2, sequence: 1 });
        assert_eq!(opened.shared.pending(), 1);
        let issuer = authority();
        let endpoint = server(&issuer);
        let port = endpoint.local_addr().expect("address").port();
        let uplink = Uplink::new(&opened, folder.path());
        let mut ledger = Ledger::default();
        let aggregator = serve_once(&endpoint, &mut ledger, Manner::Honest, 1);
        let (ended, ()) = tokio::join!(uplink.drain(connector(&issuer, port)), aggregator);
        assert!(ended.is_ok());
        assert_eq!((ledger.minutes, ledger.lost), (vec![2], 1), "one is announced as lost, one arrives");
    });
}

#[test]
fn an_aggregator_ahead_of_this_agent_ends_the_uplink_and_raises_the_next_epoch() {
    block_on(async {
        let folder = tempfile::tempdir().expect("folder");
        let mut opened = spool(folder.path());
        append(&mut opened.writer, 0);
        let issuer = authority();
        let endpoint = server(&issuer);
        let port = endpoint.local_addr().expect("address").port();
        let uplink = Uplink::new(&opened, folder.path());
        let ahead = opened.writer.epoch() + 500;
        let (_stop, stopping) = watch::channel(false);
        let mut random = || 0;
        let surroundings =
            Surroundings { clock: &|| UnixMillis(0), random: &mut random, stop: stopping, counters: &uplink.counters };
        let aggregator = async {
            let connection = endpoint.accept().await.expect("incoming").await.expect("handshake");
            let (mut send, mut receive) = connection.accept_bi().await.expect("stream");
            let mut out = [0; 256];
            receive.read(&mut out).await.expect("hello");
            let welcome = Welcome { mark: Mark { epoch: ahead, sequence: 1 }, clock: UnixMillis(0), in_flight: 1 };
            let length = welcome.write(&mut out).expect("fits");
            send.write_all(&out[..length]).await.expect("sent");
            connection.closed().await;
        };
        let (ended, ()) =
            tokio::join!(run(connector(&issuer, port), &uplink.speaker, &uplink.shared, surroundings), aggregator);
        assert!(matches!(ended, Err(Fatal::Behind { .. })));
        drop(opened);
        assert_eq!(spool(folder.path()).writer.epoch(), ahead + 1);
    });
}

#[test]
fn a_server_with_another_authority_is_not_spoken_to() {
    block_on(async {
        let endpoint = server(&authority());
        let port = endpoint.local_addr().expect("address").port();
        let mut connector = connector(&authority(), port);
        let accept = async {
            let incoming = endpoint.accept().await.expect("incoming");
            assert!(incoming.await.is_err());
        };
        let (connected, ()) = tokio::join!(connector.connect(), accept);
        assert!(matches!(connected, Err(ConnectError::Handshake { .. })));
    });
}
