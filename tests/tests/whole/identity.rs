//! Identities from the operator's first command to the last: tokens, enrolment, renewal, revocation, rotation. Everything that is not
//! in order is refused for its own reason and counted under it, and nobody else notices.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use driftglass_protocol::identity::DenyReason;
use driftglass_protocol::session::RefuseReason;
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::authority::{Authority, device_uri, self_signed};
use crate::support::camera::{Camera, scene, shots, view};
use crate::support::peer::{Answer, Shown, connect_with, device, hello, record, renew};
use crate::support::process::{lasting_port, run, said};
use crate::support::service::{Agent, Aggregator};
use crate::support::{PATIENCE, pause, until};

/// Runs one conversation.
fn converse<T>(conversation: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(conversation)
}

/// A token, as the operator's tool prints it.
fn token(aggregator: &Aggregator, site: &str, ttl: &str) -> String {
    let output = aggregator.operate(&["token", "create", "--site", site, "--device", "gw", "--ttl", ttl]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("dg1.") && text.trim_end().lines().count() == 1, "the token alone: {text}");
    text.trim_end().to_owned()
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// An agent with an identity from the aggregator's own authority, and its camera.
fn enrolled(root: &Path, aggregator: &Aggregator, site: &str, telemetry_port: u16) -> (Agent, Camera) {
    let frames = root.join(format!("frames-{site}"));
    let camera = Camera::new(frames.clone(), &shots(&scene()[..4], view(1)), 0);
    let agent = Agent::configured(root, aggregator.quic, site, &Agent::door(&frames), telemetry_port);
    succeeds(&agent.enroll(&token(aggregator, site, "10m")));
    (agent, camera)
}

/// Two more frames, counted in the end.
fn delivers(aggregator: &Aggregator, site: &str, camera: &mut Camera) {
    camera.shoot();
    camera.shoot();
    let written = camera.written;
    until(&format!("the frames of {site}"), PATIENCE, || {
        (aggregator.counts(&format!("{site}/gw/door")).frames == written).then_some(())
    });
}

fn rejected(aggregator: &Aggregator, reason: &str, expected: u64) {
    until(&format!("{expected} rejections for {reason}"), PATIENCE, || {
        let count = aggregator.rejected(reason);
        assert!(count <= expected, "{count} rejections for {reason}, {expected} expected");
        (count == expected).then_some(())
    });
}

/// The newest authority's certificate.
fn authority_of(aggregator: &Aggregator) -> CertificateDer<'static> {
    let mut folders: Vec<PathBuf> = fs::read_dir(aggregator.data().join("authority"))
        .expect("an authority")
        .map(|entry| entry.expect("listed").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let text = fs::read(folders.last().expect("one").join("ca.pem")).expect("read");
    CertificateDer::from_pem_slice(&text).expect("PEM")
}

/// What an agent shows of itself.
fn shown(agent: &Agent) -> Shown {
    let read = |name: &str| fs::read(agent.state().join("identity").join(name)).expect("read");
    let chain = vec![CertificateDer::from_pem_slice(&read("cert.pem")).expect("PEM")];
    Shown { chain, key: PrivateKeyDer::from_pem_slice(&read("key.pem")).expect("PEM") }
}

/// Speaks as `site/gw` with these credentials, and expects to be turned away.
fn turned_away(aggregator: &Aggregator, shown: Shown, site: &str) -> RefuseReason {
    let authority = authority_of(aggregator);
    converse(async {
        let connected = connect_with(aggregator.quic, authority, Some(shown)).await.expect("a good chain");
        let mut session = connected.open().await;
        session.say(&hello(device(site, "gw"), u32::MAX)).await;
        session.refusal().await.reason
    })
}

/// Asks for a certificate for a key, showing these credentials.
fn asks(aggregator: &Aggregator, shown: Option<Shown>, key: &KeyPair) -> Option<DenyReason> {
    let authority = authority_of(aggregator);
    converse(renew(aggregator.quic, authority, shown, key))
}

/// An agent's own key.
fn key_of(agent: &Agent) -> KeyPair {
    let text = fs::read_to_string(agent.state().join("identity/key.pem")).expect("read");
    KeyPair::from_pem(&text).expect("a key")
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).expect("listed").map(|entry| entry.expect("listed").path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|bytes| bytes == needle.as_bytes())
}

#[test]
fn a_token_makes_a_device_and_leaves_no_trace_of_any_secret() {
    let root = tempfile::tempdir().expect("folder");
    let root = root.path();
    let mut aggregator = Aggregator::issuing(root, "30d", 0);
    let frames = root.join("frames");
    let mut camera = Camera::new(frames.clone(), &shots(&scene()[..4], view(1)), 0);
    let mut agent = Agent::configured(root, aggregator.quic, "home", &Agent::door(&frames), 0);
    let token = token(&aggregator, "home", "10m");
    let output = agent.enroll(&token);
    succeeds(&output);
    assert!(said(&output).contains("enrolled as home/gw"), "{}", said(&output));
    agent.restart();
    delivers(&aggregator, "home", &mut camera);
    assert_eq!((aggregator.enrolments("enrolled"), aggregator.rejected_in_all()), (1, 0));

    let devices = aggregator.operate(&["devices"]);
    let text = said(&devices);
    assert!(text.contains("home/gw") && text.contains("connected"), "{text}");
    let known = aggregator.list("devices").expect("devices");
    assert!(known[0]["certificate_expires_at"].is_string() && known[0]["revoked_at"].is_null(), "{known:#?}");
    let events = aggregator.list("identity-events").expect("events");
    let actions: Vec<&str> = events.iter().filter_map(|event| event["action"].as_str()).collect();
    assert_eq!(actions, ["enrolled", "token-created"], "the newest first");
    assert!(aggregator.list("tokens").expect("tokens")[0]["used_at"].is_string());

    agent.process.terminate();
    aggregator.process.terminate();
    let secret = token.split('.').nth(1).expect("a secret");
    let identities = [agent.state().join("identity"), aggregator.data().join("authority")];
    let mut keys = Vec::new();
    for path in identities.iter().flat_map(|folder| files(folder)) {
        let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        let text = fs::read_to_string(&path).expect("PEM");
        if text.contains("PRIVATE KEY") {
            keys.push((path, text.lines().nth(1).expect("the key itself").to_owned()));
        }
    }
    assert_eq!(keys.len(), 3, "the device's, the authority's, and the aggregator's own: {keys:?}");
    for path in files(root) {
        let bytes = fs::read(&path).expect("read");
        assert!(!contains(&bytes, secret), "the token's secret is in {}", path.display());
        for (own, key) in &keys {
            assert!(path == *own || !contains(&bytes, key), "the key of {} is in {}", own.display(), path.display());
        }
    }
}

#[test]
fn every_token_but_the_right_one_is_refused_and_counted() {
    let root = tempfile::tempdir().expect("folder");
    let root = root.path();
    let aggregator = Aggregator::issuing(root, "30d", 0);
    let (mut bystander, mut camera) = enrolled(root, &aggregator, "home", 0);
    bystander.restart();
    let stranger = Agent::configured(root, aggregator.quic, "lab", &Agent::door(&root.join("frames")), 0);
    let refused = |agent: &Agent, token: &str, words: &str| {
        let output = agent.enroll(token);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
        let secret = token.split('.').nth(1).expect("a secret");
        assert!(!said(&output).contains(secret), "the secret is shown: {}", said(&output));
        assert!(!agent.state().join("identity/cert.pem").exists());
    };

    let used = token(&aggregator, "lab", "10m");
    let first = Agent::configured(&root.join("first"), aggregator.quic, "lab", &Agent::door(&root.join("frames")), 0);
    fs::create_dir(root.join("first")).expect("created");
    succeeds(&first.enroll(&used));
    refused(&stranger, &used, "used already");

    let short = token(&aggregator, "lab", "1s");
    pause(Duration::from_millis(1_100));
    refused(&stranger, &short, "time is over");

    refused(&stranger, &token(&aggregator, "elsewhere", "10m"), "another device");

    let good = token(&aggregator, "lab", "10m");
    let mut parts: Vec<&str> = good.split('.').collect();
    let wrong = "0".repeat(32);
    parts[1] = &wrong;
    refused(&stranger, &parts.join("."), "does not know this token");

    // Another aggregator's fingerprint: the device does not speak to this one, and the secret stays with it.
    let mut parts: Vec<&str> = good.split('.').collect();
    let wrong = "0".repeat(64);
    parts[2] = &wrong;
    refused(&stranger, &parts.join("."), "fingerprint");
    rejected(&aggregator, "handshake", 1);

    let cut = stranger.enroll(&good[..good.len() - 1]);
    assert_eq!(cut.status.code(), Some(2), "{}", said(&cut));
    for reason in ["token_used", "token_expired", "token_device", "token_unknown"] {
        assert_eq!(aggregator.enrolments(reason), 1, "{reason}");
    }
    // The same device asks again with the key it has made: the answer was lost, or so it seems.
    succeeds(&stranger.enroll(&good));
    assert_eq!(aggregator.enrolments("enrolled"), 3);
    assert_eq!(aggregator.rejected_in_all(), 1);
    delivers(&aggregator, "home", &mut camera);
    bystander.process.assert_running();
}

#[test]
fn every_certificate_but_a_registered_one_is_refused_and_counted() {
    let root = tempfile::tempdir().expect("folder");
    let root = root.path();
    let aggregator = Aggregator::issuing(root, "30d", 0);
    let (mut bystander, mut camera) = enrolled(root, &aggregator, "home", 0);
    bystander.restart();
    delivers(&aggregator, "home", &mut camera);

    // Nobody trusted has signed it: TLS ends it.
    let home = device_uri("home", "gw");
    for (number, identity) in [(1, Authority::new().client(&[&home])), (2, self_signed(&home))] {
        let key = PrivateKeyDer::try_from(identity.key.serialize_der()).expect("a key");
        let stranger = Shown { chain: vec![identity.certificate.der().clone()], key };
        let closed = converse(async {
            match connect_with(aggregator.quic, authority_of(&aggregator), Some(stranger)).await {
                Ok(connected) => connected.closed().await,
                Err(error) => error,
            }
        });
        assert!(matches!(closed, quinn::ConnectionError::ConnectionClosed(_)), "{closed}");
        rejected(&aggregator, "handshake", number);
    }
    // None at all is enough to enrol, and for nothing else.
    let closed = converse(async {
        connect_with(aggregator.quic, authority_of(&aggregator), None).await.expect("a handshake").closed().await
    });
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed}");
    rejected(&aggregator, "identity", 1);

    // Another device's name in the greeting.
    let (thief, _) = enrolled(root, &aggregator, "thief", 0);
    assert_eq!(turned_away(&aggregator, shown(&thief), "home"), RefuseReason::Identity);
    rejected(&aggregator, "identity", 2);

    // The key before the one that counts now.
    let (replaced, _) = enrolled(root, &aggregator, "moved", 0);
    let (before, key_before) = (shown(&replaced), key_of(&replaced));
    succeeds(&replaced.enroll(&token(&aggregator, "moved", "10m")));
    let again = Shown { chain: before.chain.clone(), key: before.key.clone_key() };
    assert_eq!(turned_away(&aggregator, before, "moved"), RefuseReason::Unregistered);
    assert_eq!(asks(&aggregator, Some(again), &key_before), Some(DenyReason::Unregistered));
    rejected(&aggregator, "unregistered", 1);
    let events = aggregator.list("identity-events").expect("events");
    assert_eq!(events[0]["action"], "key-replaced", "{events:#?}");

    // A revoked one, in the middle of its session; its connection ends, and it does not come back.
    let (lost, _) = enrolled(root, &aggregator, "lost", 0);
    let authority = authority_of(&aggregator);
    converse(async {
        let connected = connect_with(aggregator.quic, authority, Some(shown(&lost))).await.expect("a good chain");
        let mut session = connected.open().await;
        session.say(&hello(device("lost", "gw"), 1)).await;
        assert!(matches!(session.answer().await, Answer::Welcome(_)));
        session.say(&record(1, 1, 1)).await;
        assert!(matches!(session.answer().await, Answer::Acknowledge(_)));
        let output = aggregator.operate(&["revoke", "lost/gw", "--note", "stolen on Tuesday"]);
        assert!(output.status.success() && said(&output).contains("connection was ended"), "{}", said(&output));
        assert_eq!(session.refusal().await.reason, RefuseReason::Revoked);
    });
    assert_eq!(turned_away(&aggregator, shown(&lost), "lost"), RefuseReason::Revoked);
    rejected(&aggregator, "revoked", 1);
    assert_eq!(asks(&aggregator, Some(shown(&lost)), &key_of(&lost)), Some(DenyReason::Revoked), "nor is it renewed");
    assert_eq!(asks(&aggregator, None, &key_of(&thief)), Some(DenyReason::Unregistered), "without a certificate");
    let fresh = KeyPair::generate().expect("key");
    assert_eq!(asks(&aggregator, Some(shown(&thief)), &fresh), Some(DenyReason::Request), "another key");
    assert_eq!(asks(&aggregator, Some(shown(&thief)), &key_of(&thief)), None, "its own key");
    for (result, count) in [("revoked", 1), ("unregistered", 2), ("request", 1), ("renewed", 1)] {
        assert_eq!(aggregator.enrolments(result), count, "{result}");
    }
    assert!(said(&aggregator.operate(&["devices"])).contains("revoked"));
    let events = aggregator.list("identity-events").expect("events");
    assert_eq!((&events[0]["action"], &events[0]["detail"]), (&"revoked".into(), &"stolen on Tuesday".into()));
    assert_eq!(aggregator.counts("lost/gw/door").frames, 10, "what it had sent before stays");
    let unknown = aggregator.operate(&["revoke", "nowhere/gw"]);
    assert!(unknown.status.code() == Some(1) && said(&unknown).contains("no such device"), "{}", said(&unknown));

    delivers(&aggregator, "home", &mut camera);
    bystander.process.assert_running();
    assert_eq!(aggregator.rejected_in_all(), 2 + 2 + 1 + 1);
}

#[test]
fn a_running_agent_renews_in_time_and_after_an_expiry_and_takes_up_a_new_enrolment() {
    let root = tempfile::tempdir().expect("folder");
    let root = root.path();
    let aggregator = Aggregator::issuing(root, "10s", 0);
    let (mut agent, mut camera) = enrolled(root, &aggregator, "home", lasting_port());
    let first = shown(&agent).chain;
    agent.restart();
    delivers(&aggregator, "home", &mut camera);
    until("a renewal over the live connection", PATIENCE, || {
        let renewed =
            agent.page("/metrics").is_some() && agent.metric("driftglass_agent_certificates_renewed_total", "") > 0;
        renewed.then_some(())
    });
    assert_ne!(shown(&agent).chain, first, "the new certificate is kept");
    assert!(aggregator.enrolments("renewed") > 0);
    delivers(&aggregator, "home", &mut camera);
    let sessions = agent.process.log().matches("welcomes this device").count();
    assert_eq!((sessions, aggregator.rejected_in_all()), (1, 0), "all of it in one session");

    // Switched off for longer than its certificate lives: that is good for a renewal, and for nothing else.
    agent.process.terminate();
    pause(Duration::from_secs(12));
    assert_eq!(turned_away(&aggregator, shown(&agent), "home"), RefuseReason::Expired);
    rejected(&aggregator, "expired", 1);
    agent.restart();
    delivers(&aggregator, "home", &mut camera);
    assert_eq!(aggregator.rejected("expired"), 2, "the agent heard it too, and renewed");

    // Revoked, it goes on asking and keeps its windows; enrolled again beside the running agent, it goes on where it was.
    succeeds(&aggregator.operate(&["revoke", "home/gw"]));
    until("the agent told of its revocation", PATIENCE, || agent.process.log().contains("revoked").then_some(()));
    camera.shoot();
    let stuck = aggregator.counts("home/gw/door").frames;
    succeeds(&agent.enroll(&token(&aggregator, "home", "10m")));
    delivers(&aggregator, "home", &mut camera);
    assert!(aggregator.counts("home/gw/door").frames >= stuck + 3);
    agent.process.assert_running();
}

#[test]
fn the_authority_is_rotated_and_no_device_has_to_be_touched() {
    let root = tempfile::tempdir().expect("folder");
    let root = root.path();
    let mut aggregator = Aggregator::issuing(root, "12s", lasting_port());
    let (mut agent, mut camera) = enrolled(root, &aggregator, "home", 0);
    agent.restart();
    delivers(&aggregator, "home", &mut camera);
    let old = authority_of(&aggregator);

    aggregator.process.terminate();
    let config = root.join("aggregator.toml");
    succeeds(&run("driftglass-aggregator", &["rotate-authority", "--config", config.to_str().expect("UTF-8")]));
    aggregator.restart();
    let new = authority_of(&aggregator);
    assert_ne!(old, new);
    // It knows only the old authority, and its certificate is of the old one: it is served, and learns of the new one.
    delivers(&aggregator, "home", &mut camera);
    until("both authorities known to the device", PATIENCE, || {
        let text = fs::read(agent.state().join("identity/ca.pem")).expect("read");
        let known: Vec<_> = CertificateDer::pem_slice_iter(&text).map(|found| found.expect("PEM")).collect();
        (known == [new.clone(), old.clone()]).then_some(())
    });
    delivers(&aggregator, "home", &mut camera);

    // A new device starts with the new authority.
    let (mut newcomer, mut other) = enrolled(root, &aggregator, "new", 0);
    newcomer.restart();
    delivers(&aggregator, "new", &mut other);

    // Once more: the first authority is forgotten, and still nobody has to be touched.
    aggregator.process.terminate();
    succeeds(&run("driftglass-aggregator", &["rotate-authority", "--config", config.to_str().expect("UTF-8")]));
    aggregator.restart();
    delivers(&aggregator, "home", &mut camera);
    delivers(&aggregator, "new", &mut other);
    assert_eq!(aggregator.rejected("handshake"), 0);
}

#[test]
fn with_an_authority_of_somebody_elses_there_are_no_tokens_but_revocations() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let aggregator = Aggregator::start(root, &authority, 0);
    assert!(!aggregator.data().join("authority").exists(), "no authority is made beside the one that was given");
    let output = aggregator.operate(&["token", "create", "--site", "home", "--device", "gw"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(output.stdout.is_empty() && said(&output).contains("issues no certificates"), "{}", said(&output));

    let frames = root.join("frames");
    let mut camera = Camera::new(frames.clone(), &shots(&scene()[..4], view(1)), 0);
    let identity = authority.device("home", "gw");
    let mut agent = Agent::start(root, &authority, &identity, aggregator.quic, "home", &frames, 0);
    delivers(&aggregator, "home", &mut camera);
    succeeds(&aggregator.operate(&["revoke", "home/gw"]));
    until("the agent told of its revocation", PATIENCE, || agent.process.log().contains("revoked").then_some(()));
    agent.process.terminate();
    agent.restart();
    rejected(&aggregator, "revoked", 1);
    agent.process.terminate();
    succeeds(&aggregator.operate(&["reinstate", "home/gw"]));
    agent.restart();
    delivers(&aggregator, "home", &mut camera);
}
