//! The uplink against an aggregator in the same process: real QUIC, real certificates, the protocol's own receiver.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::aggregator::{Issuer, Ledger, Manner, authority, block_on, client, device, serve, server};
use driftglass_agent::spool::{self, Settings, Shared};
use driftglass_agent::uplink::{
    ConnectError, Connector, Counters, Credentials, Fatal, Speaker, Surroundings, Target, run,
};
use driftglass_protocol::id::Name;
use driftglass_protocol::session::{RefuseReason, Welcome};
use driftglass_protocol::summary::{Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, Mark};
use tokio::sync::watch;

fn connector(issuer: &Issuer, port: u16) -> Connector {
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
        fallback: None,
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
