//! Who may speak to the aggregator, and what may be said: nobody is trusted beyond a certificate, and nothing beyond the format.

use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::session::RefuseReason;
use driftglass_protocol::wire::{Kind, Mark, write_frame};

use crate::support::authority::{Authority, Identity, device_uri, self_signed};
use crate::support::camera::{Camera, scene, shots, view};
use crate::support::peer::{Answer, Session, connect, device, hello, record, written};
use crate::support::service::{Agent, Aggregator};
use crate::support::{PATIENCE, until};

/// Runs one conversation.
fn converse<T>(conversation: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(conversation)
}

fn rejected(aggregator: &Aggregator, reason: &str, expected: u64) {
    until(&format!("{expected} rejections for {reason}"), PATIENCE, || {
        let count = aggregator.rejected(reason);
        assert!(count <= expected, "{count} rejections for {reason}, {expected} expected");
        (count == expected).then_some(())
    });
}

#[test]
fn strangers_stay_outside() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority, other) = (root.path(), Authority::new(), Authority::new());
    let aggregator = Aggregator::start(root, &authority, 0);
    let frames = root.join("frames");
    let mut camera = Camera::new(frames.clone(), &shots(&scene(), view(1)), 0);
    let proper = authority.device("home", "gw");
    let mut agent = Agent::start(root, &authority, &proper, aggregator.quic, "home", &frames, 0);
    let mut serve_the_proper_agent = || {
        camera.shoot();
        camera.shoot();
        let written = camera.written;
        until("the frames of the proper agent", PATIENCE, || {
            (aggregator.counts("home/gw/door").frames == written).then_some(())
        });
    };
    serve_the_proper_agent();

    let home = device_uri("home", "gw");
    // The chain does not lead to our authority, or there is none: TLS ends it.
    let (foreign, alone) = (other.client(&[&home]), self_signed(&home));
    let mut handshakes = 0;
    for identity in [Some(&foreign), Some(&alone), None] {
        let closed = converse(async {
            match connect(aggregator.quic, &authority, identity).await {
                Ok(connected) => connected.closed().await,
                Err(error) => error,
            }
        });
        assert!(matches!(closed, quinn::ConnectionError::ConnectionClosed(_)), "{closed}");
        handshakes += 1;
        rejected(&aggregator, "handshake", handshakes);
    }
    serve_the_proper_agent();

    // Our authority has signed it, but it names no device of ours.
    let nobody = authority.client(&[]);
    let elsewhere = authority.client(&["spiffe://elsewhere/site/home/device/gw"]);
    let two = authority.client(&[&home, &device_uri("home", "gw-2")]);
    let mut identities = 0;
    for identity in [&nobody, &elsewhere, &two] {
        let closed = converse(async {
            connect(aggregator.quic, &authority, Some(identity)).await.expect("a good chain").closed().await
        });
        match closed {
            quinn::ConnectionError::ApplicationClosed(close) => assert_eq!(&close.reason[..], b"identity"),
            closed => panic!("{closed}"),
        }
        identities += 1;
        rejected(&aggregator, "identity", identities);
    }

    // A good certificate and another name in the greeting.
    let thief = authority.device("home", "thief");
    let refuse = converse(async {
        let connected = connect(aggregator.quic, &authority, Some(&thief)).await.expect("a good certificate");
        let mut session = connected.open().await;
        session.say(&hello(device("home", "gw"), 1)).await;
        session.refusal().await
    });
    assert_eq!((refuse.reason, refuse.expected_after), (RefuseReason::Identity, Mark::default()));
    rejected(&aggregator, "identity", identities + 1);

    // An agent finds out by itself that its certificate is another's.
    let mistaken = authority.device("home", "gw");
    let mut refused = Agent::start(root, &authority, &mistaken, aggregator.quic, "away", &frames, 0);
    let status = refused.process.wait();
    let log = refused.process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("is the certificate of home/gw, but the configuration says away/gw"), "{log}");

    // An agent with an identity of another authority goes on trying, and gets nowhere.
    let mut outsider = Agent::start(root, &authority, &other.device("far", "gw"), aggregator.quic, "far", &frames, 0);
    until("the outsider's handshake refused", PATIENCE, || {
        (aggregator.rejected("handshake") > handshakes).then_some(())
    });
    outsider.process.assert_running();

    serve_the_proper_agent();
    agent.process.assert_running();
    let devices = aggregator.list("devices").expect("the aggregator answers");
    assert_eq!(devices.len(), 1, "nobody else has been noted: {devices:#?}");
    assert_eq!(aggregator.list("cameras").expect("the aggregator answers").len(), 1);
}

/// Greets and expects to be welcome.
async fn greet(aggregator: &Aggregator, authority: &Authority, identity: &Identity, name: &str, epoch: u32) -> Session {
    let connected = connect(aggregator.quic, authority, Some(identity)).await.expect("a good certificate");
    let mut session = connected.open().await;
    session.say(&hello(device("lab", name), epoch)).await;
    let answer = session.answer().await;
    assert!(matches!(answer, Answer::Welcome(_)), "{answer:?}");
    session
}

#[test]
fn malformed_records_are_refused_and_counted() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let aggregator = Aggregator::start(root, &authority, 0);
    let good = record(1, 1, 1);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let damaged = |at: usize| with(at, good[at] ^ 1);
    let length = |length: usize| {
        let mut bytes = good.clone();
        bytes[..4].copy_from_slice(&u32::try_from(length).expect("small").to_le_bytes());
        bytes
    };
    let garbage = written(|out| write_frame(Kind::Record, &[0xff_u8; 32], out));
    let numbered_from_zero = record(1, 0, 0);
    let checkpoint = written(|out| write_frame(Kind::Checkpoint, &1_u8, out));
    let again = hello(device("lab", "again"), 1);
    let spanning = [record(1, 1, 1), record(1, 1, 2)].concat();
    let leaping = [record(1, 1, 1), record(1, 3, 3)].concat();
    let malformed = RefuseReason::Malformed;
    // Who says what after a greeting, and what becomes of it: the refusal, the reason counted, and the records counted before it.
    let faults: [(&str, Vec<u8>, RefuseReason, &str, u64); 13] = [
        ("longest", length(usize::try_from(u32::MAX).expect("64 bits")), malformed, "too_long", 0),
        ("long", length(FRAME_BYTES + 1), malformed, "too_long", 0),
        ("short", length(9), malformed, "too_short", 0),
        ("version", with(4, 2), malformed, "version", 0),
        ("checksum", damaged(7), malformed, "checksum", 0),
        ("payload", damaged(good.len() - 1), malformed, "checksum", 0),
        ("garbage", garbage, malformed, "payload", 0),
        ("zero", numbered_from_zero, malformed, "payload", 0),
        ("kind", checkpoint, RefuseReason::Protocol, "protocol", 0),
        ("again", again, RefuseReason::Protocol, "protocol", 0),
        ("gap", record(1, 2, 2), RefuseReason::Gap, "gap", 0),
        ("leap", leaping, RefuseReason::Gap, "gap", 1),
        ("span", spanning, RefuseReason::Overlap, "overlap", 1),
    ];

    converse(async {
        let bystander = authority.device("lab", "bystander");
        let mut bystander = greet(&aggregator, &authority, &bystander, "bystander", 1).await;
        let mut sequence = 0;
        for (name, bytes, refusal, reason, counted) in &faults {
            let identity = authority.device("lab", name);
            let mut session = greet(&aggregator, &authority, &identity, name, 1).await;
            let before = aggregator.rejected(reason);
            session.say(bytes).await;
            let refuse = session.refusal().await;
            let expected = Mark { epoch: u32::from(*counted > 0), sequence: *counted };
            assert_eq!((refuse.reason, refuse.expected_after), (*refusal, expected), "{name}");
            rejected(&aggregator, reason, before + 1);
            assert_eq!(aggregator.counts(&format!("lab/{name}/door")).frames, 10 * counted, "{name}");

            sequence += 1;
            bystander.say(&record(1, sequence, sequence)).await;
            let answer = bystander.answer().await;
            assert_eq!(answer, Answer::Acknowledge(Mark { epoch: 1, sequence }), "after {name}");
        }

        // A record before the greeting.
        let early = authority.device("lab", "early");
        let connected = connect(aggregator.quic, &authority, Some(&early)).await.expect("a good certificate");
        let mut session = connected.open().await;
        let before = aggregator.rejected("protocol");
        session.say(&record(1, 1, 1)).await;
        assert_eq!(session.refusal().await.reason, RefuseReason::Protocol);
        rejected(&aggregator, "protocol", before + 1);

        // An epoch from the past, after a later one has been counted.
        let restored = authority.device("lab", "restored");
        let mut session = greet(&aggregator, &authority, &restored, "restored", 7).await;
        session.say(&record(7, 1, 1)).await;
        let mark = Mark { epoch: 7, sequence: 1 };
        assert_eq!(session.answer().await, Answer::Acknowledge(mark));
        drop(session);
        let connected = connect(aggregator.quic, &authority, Some(&restored)).await.expect("a good certificate");
        let mut session = connected.open().await;
        session.say(&hello(device("lab", "restored"), 6)).await;
        let refuse = session.refusal().await;
        assert_eq!((refuse.reason, refuse.expected_after), (RefuseReason::StaleEpoch, mark));
        rejected(&aggregator, "stale_epoch", 1);

        // Who was refused for a gap is welcome again with what was missing, and a repetition counts nothing.
        let gap = authority.device("lab", "gap");
        let mut session = greet(&aggregator, &authority, &gap, "gap", 1).await;
        for (bytes, sequence) in [(record(1, 1, 1), 1), (record(1, 1, 1), 1), (record(1, 2, 2), 2)] {
            session.say(&bytes).await;
            assert_eq!(session.answer().await, Answer::Acknowledge(Mark { epoch: 1, sequence }));
        }
        assert_eq!(aggregator.counts("lab/gap/door").frames, 20);
    });
    let faults = u64::try_from(faults.len()).expect("few");
    assert_eq!(aggregator.rejected_in_all(), faults + 2);
    assert_eq!(aggregator.counts("lab/bystander/door").frames, 10 * faults);
}
