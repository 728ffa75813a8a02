//! The uplink against an aggregator in the same process: real QUIC, real certificates, the protocol's own receiver.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::aggregator::{Issuer, Ledger, Manner, authority, block_on, client, device, serve, server};
use driftglass_agent::spool::{self, Settings, Shared};
use driftglass_agent::uplink::{
    ConnectError, Connector, Counters, Credentials, Fallback, Fatal, Speaker, Surroundings, Target, Transport, run,
};
use driftglass_protocol::id::Name;
use driftglass_protocol::session::{RefuseReason, Welcome};
use driftglass_protocol::summary::{Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, Mark};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

fn connector(issuer: &Issuer, port: u16) -> Connector {
    connector_to(issuer, port, None)
}

/// With a way over TCP besides.
fn falling_back(issuer: &Issuer, port: u16, tcp: u16) -> Connector {
    let retry_quic = Duration::from_secs(60);
    connector_to(issuer, port, Some(Fallback { host: "127.0.0.1".into(), port: tcp, retry_quic }))
}

fn connector_to(issuer: &Issuer, port: u16, fallback: Option<Fallback>) -> Connector {
    let (certificate, key) = client(issuer);
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let credentials =
        Credentials { chain: vec![certificate.der().clone()], key, authorities: vec![issuer.der().clone()] };
    let target = Target {
        host: "127.0.0.1".into(),
        port,
        server_name: "aggregator.test".into(),
        trust_domain: None,
        segmentation_offload: true,
        fallback,
    };
    Connector::new(credentials, target, Arc::new(rustls::time_provider::DefaultTimeProvider)).expect("connector")
}

fn spool(folder: &Path) -> spool::Opened {
    let settings = Settings { state_dir: folder.to_path_buf(), device: device(), max_bytes: 1 << 20 };
    spool::open(settings, 1_700_000_000).expect("opens")
}

fn append(writer: &mut spool::Writer, minute: i64) {
    let body = Body::Summary(Summary {
        camera: Name::parse("c").expect("name"),
        model: None,
        window: Window { start: UnixMillis(minute * 60_000), length: Millis(60_000), merged: 1 },
        first_frame: None,
        last_frame: None,
        quality: Quality::default(),
        sketches: heapless::Vec::new(),
        predictions: None,
    });
    writer.append(&[body], Vec::new()).expect("appended");
}

struct Uplink {
    shared: Arc<Shared>,
    counters: Counters,
    speaker: Speaker,
}

impl Uplink {
    fn new(opened: &spool::Opened) -> Self {
        let speaker = Speaker { device: device(), epoch: opened.writer.epoch(), instance: 1, version: "test" };
        Self { shared: Arc::clone(&opened.shared), counters: Counters::default(), speaker }
    }

    /// Runs until the spool is empty.
    async fn drain(&self, connector: Connector) -> Result<(), Fatal> {
        let (stop, stopping) = watch::channel(false);
        let mut random = || 0;
        let surroundings = Surroundings {
            clock: &|| UnixMillis(0),
            random: &mut random,
            stop: stopping,
            counters: &self.counters,
            keeper: None,
            guidance: None,
        };
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
        let uplink = Uplink::new(&opened);
        let ledger = Ledger::default();
        let aggregator = async {
            let manners = [
                Manner::DiesAfter(1),
                Manner::Refuses(RefuseReason::Unavailable),
                Manner::DiesAfter(7),
                Manner::Refuses(RefuseReason::Gap),
                Manner::Honest,
            ];
            for manner in manners {
                serve(endpoint.accept().await.expect("incoming"), &ledger, manner, 20).await;
            }
        };
        let (ended, ()) = tokio::join!(uplink.drain(connector(&issuer, port)), aggregator);
        assert!(ended.is_ok());
        assert_eq!((ledger.minutes.take(), ledger.lost.get()), ((0..20).collect(), 0));
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
        let uplink = Uplink::new(&opened);
        let ledger = Ledger::default();
        let aggregator = async { serve(endpoint.accept().await.expect("incoming"), &ledger, Manner::Honest, 1).await };
        let (ended, ()) = tokio::join!(uplink.drain(connector(&issuer, port)), aggregator);
        assert!(ended.is_ok());
        assert_eq!((ledger.minutes.take(), ledger.lost.get()), (vec![2], 1), "one is announced as lost, one arrives");
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
        let uplink = Uplink::new(&opened);
        let ahead = opened.writer.epoch() + 500;
        let (_stop, stopping) = watch::channel(false);
        let mut random = || 0;
        let surroundings = Surroundings {
            clock: &|| UnixMillis(0),
            random: &mut random,
            stop: stopping,
            counters: &uplink.counters,
            keeper: None,
            guidance: None,
        };
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

#[test]
fn a_connection_goes_on_from_another_socket_without_a_new_handshake() {
    block_on(async {
        let issuer = authority();
        let endpoint = server(&issuer);
        let port = endpoint.local_addr().expect("address").port();
        let mut connector = connector(&issuer, port);
        let echo = async {
            let connection = endpoint.accept().await.expect("incoming").await.expect("handshake");
            let before = connection.remote_address();
            let (mut send, mut receive) = connection.accept_bi().await.expect("stream");
            let mut chunk = [0; 64];
            for _ in 0..2 {
                let count = receive.read(&mut chunk).await.expect("whole").expect("open");
                send.write_all(&chunk[..count]).await.expect("sent");
            }
            connection.closed().await;
            (before, connection.remote_address())
        };
        let device = async {
            let link = connector.connect().await.expect("connected");
            assert_eq!(link.transport(), Transport::Quic);
            let (mut reading, mut writing) = link.open().await.expect("a stream");
            let mut answer = [0; 5];
            for word in [b"first", b"after"] {
                writing.write_all(word).await.expect("sent");
                reading.read_exact(&mut answer).await.expect("answered");
                assert_eq!(&answer, word);
                assert!(link.rebind().expect("a socket"), "QUIC can");
            }
            link.close().await;
        };
        let both = async { tokio::join!(device, echo) };
        let ((), (before, after)) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("in time");
        assert_ne!(before, after, "the aggregator has seen another address");
    });
}

#[test]
fn without_another_way_silence_is_an_error_and_with_one_both_are_named() {
    block_on(async {
        let issuer = authority();
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("socket").local_addr().expect("address").port();
        let port = silent.local_addr().expect("address").port();
        let mut connector = falling_back(&issuer, port, closed);
        let error = connector.connect().await.expect_err("nobody answers");
        assert!(matches!(&error, ConnectError::Neither { .. }) && error.is_silence(), "{error}");
        assert!(error.to_string().contains("within 5 s") && error.to_string().contains("over TCP"), "{error}");
    });
}

#[test]
fn what_an_aggregator_answers_over_quic_is_final() {
    block_on(async {
        let issuer = authority();
        let endpoint = server(&authority());
        let port = endpoint.local_addr().expect("address").port();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("socket");
        tcp.set_nonblocking(true).expect("not waiting");
        let mut connector = falling_back(&issuer, port, tcp.local_addr().expect("address").port());
        let refuse = async { endpoint.accept().await.expect("incoming").await.is_err() };
        let (connected, refused) = tokio::join!(connector.connect(), refuse);
        assert!(refused && matches!(connected, Err(ConnectError::Handshake { .. })), "{connected:?}");
        assert!(tcp.accept().is_err(), "nobody came over TCP");
    });
}
