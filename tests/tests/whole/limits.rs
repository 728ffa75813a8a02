//! Who floods, hurries or dawdles is refused or slowed down and counted, and nobody else notices.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::session::RefuseReason;
use driftglass_protocol::wire::Mark;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::time::timeout;

use crate::support::authority::{Authority, Identity};
use crate::support::peer::{Answer, Session, Shown, client_tls, connect, connect_from, device, hello, record};
use crate::support::service::Aggregator;
use crate::support::{PATIENCE, now, until};

/// Runs one conversation.
fn converse<T>(conversation: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(conversation)
}

async fn greet(aggregator: &Aggregator, authority: &Authority, identity: &Identity, name: &str) -> Session {
    let connected = connect(aggregator.quic, authority, Some(identity)).await.expect("a good certificate");
    let mut session = connected.open().await;
    session.say(&hello(device("lab", name), 1)).await;
    let answer = session.answer().await;
    assert!(matches!(answer, Answer::Welcome(_)), "{answer:?}");
    session
}

/// Sends a record and waits for its acknowledgement, which has to come soon.
async fn deliver(session: &mut Session, sequence: u64) {
    session.say(&record(1, sequence, sequence)).await;
    let answer = timeout(Duration::from_secs(5), session.answer()).await.expect("undisturbed");
    assert_eq!(answer, Answer::Acknowledge(Mark { epoch: 1, sequence }));
}

/// First packets of handshakes that will never go on, as a flood would send them.
async fn first_packets(authority: &Authority, count: usize) -> Vec<Vec<u8>> {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = silent.local_addr().expect("an address");
    let tls = client_tls(authority.der(), None, b"driftglass/1");
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS for QUIC")));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let (mut packets, mut attempts) = (Vec::new(), Vec::new());
    let mut packet = [0; 2048];
    while packets.len() < count {
        attempts.push(endpoint.connect_with(config.clone(), address, "127.0.0.1").expect("begun"));
        let length = timeout(PATIENCE, silent.recv(&mut packet)).await.expect("in time").expect("received");
        packets.push(packet[..length].to_vec());
    }
    packets
}

#[test]
fn a_flood_of_handshakes_from_unproven_addresses_keeps_nobody_out() {
    let root = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let mut aggregator = Aggregator::start(root.path(), &authority, 0);
    converse(async {
        let bystander = authority.device("lab", "bystander");
        let mut bystander = greet(&aggregator, &authority, &bystander, "bystander").await;
        deliver(&mut bystander, 1).await;
        // More than are let in without proof, each from a network of its own: 127.1.0.1, 127.1.1.1, 127.1.2.1 ...
        let packets = first_packets(&authority, 700).await;
        for (number, packet) in packets.iter().enumerate() {
            let [high, low] = u16::try_from(number).expect("few").to_be_bytes();
            let socket =
                UdpSocket::bind((Ipv4Addr::new(127, 1 + high, low, 1), 0)).expect("an address of this machine");
            socket.send_to(packet, aggregator.quic).expect("sent");
            if number % 100 == 99 {
                deliver(&mut bystander, u64::try_from(2 + number / 100).expect("few")).await;
            }
        }
        let retries = || aggregator.counter("driftglass_quic_retries_total");
        until("proof asked for", PATIENCE, || (retries() >= 100).then_some(()));
        // Who answers is let in, in the middle of it.
        let late = authority.device("lab", "late");
        let mut late = greet(&aggregator, &authority, &late, "late").await;
        deliver(&mut late, 1).await;
    });
    until("the handshakes that did not go on", PATIENCE, || (aggregator.rejected("handshake") >= 256).then_some(()));
    aggregator.process.assert_running();
    assert!(aggregator.process.highest_memory() < 256 << 20, "{}", aggregator.process.highest_memory());
}

#[test]
fn a_device_at_ten_times_its_quota_is_slowed_down_and_others_are_not() {
    let root = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let quota = "[quota]\nrecords_per_second = 20\nbytes_per_second = 1000000";
    let aggregator = Aggregator::start_with(root.path(), &authority, 0, "", quota);
    converse(async {
        let (greedy, modest) = (authority.device("lab", "greedy"), authority.device("lab", "modest"));
        let mut greedy = greet(&aggregator, &authority, &greedy, "greedy").await;
        let mut modest = greet(&aggregator, &authority, &modest, "modest").await;
        let begun = now();
        // Ten seconds' worth at once, and then two hundred a second for as long as it is let.
        let stream: Vec<u8> = (1..=400).flat_map(|sequence| record(1, sequence, sequence)).collect();
        greedy.say(&stream).await;
        for sequence in 1..=10 {
            deliver(&mut modest, sequence).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        let counted = aggregator.counts("lab/greedy/door").frames / 10;
        let allowed = 200 + 20 * (now() - begun).as_secs() + 40;
        assert!((200..=allowed).contains(&counted), "{counted} of {allowed}");
        assert!(aggregator.counter("driftglass_sessions_throttled_total") > 0);
        // It loses nothing by it.
        let mut last = Mark::default();
        while last.sequence < 400 {
            match timeout(PATIENCE, greedy.answer()).await.expect("slowed down, not stopped") {
                Answer::Acknowledge(mark) => last = mark,
                other => panic!("{other:?}"),
            }
        }
        assert!(now() - begun >= Duration::from_secs(9), "two hundred records at twenty a second");
        deliver(&mut modest, 11).await;
    });
    assert_eq!(aggregator.rejected_in_all(), 0);
}

#[test]
fn one_network_cannot_take_every_place() {
    let root = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let aggregator = Aggregator::start_with(root.path(), &authority, 0, "max_connections_per_network = 3", "");
    converse(async {
        let near = Ipv4Addr::new(127, 3, 0, 1);
        let mut held = Vec::new();
        for name in ["a", "b", "c"] {
            let identity = authority.device("lab", name);
            held.push(connect_from(near, aggregator.quic, &authority, &identity).await.expect("within its share"));
        }
        let identity = authority.device("lab", "d");
        let refused = connect_from(near, aggregator.quic, &authority, &identity).await.expect_err("beyond its share");
        assert!(matches!(refused, quinn::ConnectionError::ConnectionClosed(_)), "{refused}");
        until("counted", PATIENCE, || (aggregator.rejected("overload") == 1).then_some(()));
        let far = Ipv4Addr::new(127, 3, 1, 1);
        let other = connect_from(far, aggregator.quic, &authority, &identity).await.expect("another network");
        let mut session = other.open().await;
        session.say(&hello(device("lab", "d"), 1)).await;
        assert!(matches!(session.answer().await, Answer::Welcome(_)));
        deliver(&mut session, 1).await;
    });
}

#[test]
fn who_dawdles_over_the_greeting_is_turned_away() {
    let root = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let aggregator = Aggregator::start(root.path(), &authority, 0);
    converse(async {
        let (slow, brisk) = (authority.device("lab", "slow"), authority.device("lab", "brisk"));
        let mut brisk = greet(&aggregator, &authority, &brisk, "brisk").await;
        let connected = connect(aggregator.quic, &authority, Some(&slow)).await.expect("a good certificate");
        let mut session = connected.open().await;
        let greeting = hello(device("lab", "slow"), 1);
        let mut sequence = 0;
        // A byte a second, for longer than a greeting may take.
        for byte in greeting.iter().take(9) {
            session.say(&[*byte]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            sequence += 1;
            deliver(&mut brisk, sequence).await;
        }
        assert_eq!(session.refusal().await.reason, RefuseReason::Protocol);
        until("counted", PATIENCE, || (aggregator.rejected("slow") == 1).then_some(()));
        deliver(&mut brisk, sequence + 1).await;
    });
    assert_eq!(aggregator.rejected_in_all(), 1);
}

#[test]
fn nothing_is_accepted_before_the_handshake_is_over_nor_is_one_resumed() {
    let root = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let aggregator = Aggregator::start(root.path(), &authority, 0);
    converse(async {
        let identity = authority.device("lab", "replay");
        let mut tls = client_tls(authority.der(), Some(Shown::of(&identity)), b"driftglass/1");
        // It would resume and send early data if it could.
        tls.enable_early_data = true;
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS for QUIC")));
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let address: SocketAddr = aggregator.quic;
        for epoch in 1..=2 {
            let connecting = endpoint.connect_with(config.clone(), address, "127.0.0.1").expect("begun");
            let connecting = match connecting.into_0rtt() {
                Ok(_) => panic!("early data would be sent"),
                Err(connecting) => connecting,
            };
            let connection = timeout(PATIENCE, connecting).await.expect("in time").expect("a handshake");
            let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
            send.write_all(&hello(device("lab", "replay"), epoch)).await.expect("sent");
            // Tickets would have come before the welcome.
            let mut welcome = [0; 64];
            assert!(receive.read(&mut welcome).await.expect("an answer").is_some());
            connection.close(quinn::VarInt::from_u32(0), b"");
        }
    });
}
