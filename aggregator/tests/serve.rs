//! The program as it is installed: a real process, real certificates, QUIC from outside, HTTP from outside, signals.

#![expect(clippy::expect_used, reason = "helpers of a test fail the test")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use driftglass_aggregator::host::Addresses;
use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::limit::HISTOGRAM_BYTES;
use driftglass_protocol::session::{Acknowledge, Hello, Refuse, RefuseReason, Welcome};
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{FeatureSketch, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, Mark, Record, RecordId, parse_frame};
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROGRAM: &str = env!("CARGO_BIN_EXE_driftglass-aggregator");
const PATIENCE: Duration = Duration::from_secs(20);

struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed");
        Self { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: SanType) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.subject_alt_names.push(name);
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }
}

/// A running aggregator; killed when dropped.
struct Aggregator {
    folder: tempfile::TempDir,
    authority: Authority,
    child: Child,
    addresses: Addresses,
}

fn prepare() -> (tempfile::TempDir, Authority) {
    let folder = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let identity = folder.path().join("identity");
    std::fs::create_dir(&identity).expect("created");
    let (certificate, key) = authority.issue(SanType::DnsName("aggregator".try_into().expect("name")));
    std::fs::write(identity.join("ca.pem"), &authority.pem).expect("written");
    std::fs::write(identity.join("cert.pem"), certificate.pem()).expect("written");
    let key_path = identity.join("key.pem");
    std::fs::write(&key_path, key.serialize_pem()).expect("written");
    std::fs::set_permissions(&key_path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
    let config = format!(
        "data_dir = {:?}\n[quic]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n",
        folder.path().display().to_string()
    );
    std::fs::write(folder.path().join("aggregator.toml"), config).expect("written");
    (folder, authority)
}

fn config_of(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("aggregator.toml")
}

fn start(config: &Path) -> Child {
    Command::new(PROGRAM).args(["serve", "--config"]).arg(config).stderr(Stdio::piped()).spawn().expect("starts")
}

async fn addresses_in(folder: &Path) -> Addresses {
    let path = folder.join(Addresses::FILE_NAME);
    let found = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(&path) {
                return serde_json::from_str(&text).expect("addresses");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the aggregator is ready in time")
}

impl Aggregator {
    async fn start() -> Self {
        let (folder, authority) = prepare();
        let child = start(&config_of(&folder));
        let addresses = addresses_in(folder.path()).await;
        Self { folder, authority, child, addresses }
    }

    /// Asks it to end, and returns its exit code and log.
    async fn stop(&mut self) -> (Option<i32>, String) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(status.success());
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("ours") {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let code = tokio::time::timeout(PATIENCE, ended).await.expect("it ends in time");
        let mut log = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut log).expect("text");
        }
        (code, log)
    }

    async fn get(&self, path: &str) -> (u16, String, String) {
        request(self.addresses.http, "GET", path, "localhost").await
    }

    async fn json(&self, path: &str) -> serde_json::Value {
        let (status, head, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Waits until the metrics contain a line; some are counted shortly after the peer knows.
    async fn shows(&self, line: &str) {
        let shown = async {
            while !self.get("/metrics").await.2.lines().any(|found| found == line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, shown).await.is_ok(), "{line} does not appear");
    }

    async fn connect(&self, uri: &str) -> Result<Agent, String> {
        Agent::connect(self.addresses.quic, &self.authority, &self.authority, uri, b"driftglass/1").await
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Status, head in lower case, and body.
async fn request(address: SocketAddr, method: &str, path: &str, host: &str) -> (u16, String, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_owned())
}

/// An agent made of the protocol alone.
struct Agent {
    connection: quinn::Connection,
    writer: quinn::SendStream,
    reader: quinn::RecvStream,
    buffer: Vec<u8>,
    _endpoint: quinn::Endpoint,
}

impl Agent {
    async fn connect(
        address: SocketAddr,
        trusted: &Authority,
        issuer: &Authority,
        uri: &str,
        alpn: &[u8],
    ) -> Result<Self, String> {
        let (certificate, key) = issuer.issue(SanType::URI(uri.try_into().expect("ASCII")));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.certificate.clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("key"),
            )
            .expect("certificate and key");
        tls.alpn_protocols = vec![alpn.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).expect("fit for QUIC");
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let connection = endpoint
            .connect_with(quinn::ClientConfig::new(Arc::new(crypto)), address, "aggregator")
            .expect("configured")
            .await
            .map_err(|error| error.to_string())?;
        let (writer, reader) = connection.open_bi().await.map_err(|error| error.to_string())?;
        Ok(Self { connection, writer, reader, buffer: Vec::new(), _endpoint: endpoint })
    }

    async fn send(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let mut out = vec![0; 64 * 1024];
        let length = write(&mut out);
        self.writer.write_all(&out[..length]).await.expect("sent");
    }

    async fn greet(&mut self, device: &str, epoch: u32) {
        self.greet_as(device, epoch, 7).await;
    }

    async fn greet_as(&mut self, device: &str, epoch: u32, instance: u64) {
        let hello = Hello {
            device: device_id(device),
            epoch,
            instance,
            clock: UnixMillis(0),
            version: "0.1.0".try_into().expect("short"),
        };
        self.send(|out| hello.write(out).expect("fits")).await;
    }

    async fn send_window(&mut self, sequence: u64, start: UnixMillis, bin: u8) {
        let mut histogram = Histogram::new();
        (0..60).for_each(|_| histogram.add(bin));
        let mut encoded = [0; HISTOGRAM_BYTES];
        let length = histogram.encode(&mut encoded);
        let mut summary = Summary {
            camera: name("door"),
            model: None,
            window: Window { start, length: Millis(60_000), merged: 1 },
            first_frame: Some(start),
            last_frame: Some(start),
            quality: Quality { frames: 60, ..Quality::default() },
            sketches: Default::default(),
            predictions: None,
        };
        let sketch = FeatureSketch { feature: Feature::LumaMean.number(), absent: 0, histogram: &encoded[..length] };
        assert!(summary.sketches.push(sketch).is_ok());
        let id = RecordId { epoch: 1, first: sequence, last: sequence };
        let record = Record { id, previous: Mark::default(), body: Body::Summary(summary) };
        self.send(|out| record.write(out).expect("fits")).await;
    }

    /// The next frame, handed to `read`.
    async fn hear<T>(&mut self, read: impl Fn(driftglass_protocol::wire::Frame<'_>) -> T) -> T {
        loop {
            if let Ok(frame) = parse_frame(&self.buffer) {
                let (heard, length) = (read(frame), frame.length);
                self.buffer.drain(..length);
                return heard;
            }
            let mut piece = [0; 512];
            let count = tokio::time::timeout(PATIENCE, self.reader.read(&mut piece)).await.expect("an answer in time");
            let count = count.expect("the stream is open").expect("the stream has not ended");
            self.buffer.extend_from_slice(&piece[..count]);
        }
    }

    /// Reads acknowledgements until this mark.
    async fn acknowledged(&mut self, mark: Mark) {
        while self.hear(|frame| Acknowledge::parse(frame).expect("an acknowledgement").mark).await < mark {}
    }

    async fn refused(&mut self) -> Refuse {
        loop {
            if let Some(refuse) = self.hear(|frame| Refuse::parse(frame).ok()).await {
                return refuse;
            }
        }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn device_id(device: &str) -> DeviceId {
    DeviceId { site: name("store-1"), device: name(device) }
}

const DEVICE: &str = "spiffe://driftglass.local/site/store-1/device/gw";

#[tokio::test]
async fn what_an_agent_sends_is_acknowledged_and_shown_once_also_after_a_restart() {
    let mut aggregator = Aggregator::start().await;
    let mut agent = aggregator.connect(DEVICE).await.expect("connects");
    agent.greet("gw", 1).await;
    let welcome = agent.hear(|frame| Welcome::parse(frame).expect("a welcome")).await;
    assert_eq!(welcome.mark, Mark::default());
    for sequence in 1..=40 {
        let start = UnixMillis(1_700_000_040_000 + i64::try_from(sequence).expect("small") * 60_000);
        agent.send_window(sequence, start, 100).await;
    }
    agent.acknowledged(Mark { epoch: 1, sequence: 40 }).await;

    let cameras = aggregator.json("/api/v1/cameras").await;
    assert_eq!(cameras["items"][0]["id"], "store-1/gw/door");
    assert_eq!(cameras["items"][0]["frames_total"], 2_400);
    assert_eq!(cameras["items"][0]["state"], "learning");
    assert_eq!(cameras["items"][0]["connected"], true);
    assert_eq!(cameras["next_offset"], serde_json::Value::Null);
    let stats = aggregator.json("/api/v1/cameras/store-1%2Fgw%2Fdoor/features/luma_mean/stats?windows=10").await;
    assert_eq!(stats["current"]["count"], 600);
    assert_eq!(stats["current"]["windows"], 10);
    assert_eq!(stats["current"]["mean"], 100.5);
    assert_eq!(stats["baseline"], serde_json::Value::Null);
    let camera = aggregator.json("/api/v1/cameras/store-1%2Fgw%2Fdoor").await;
    assert_eq!(camera["windows_total"], 40);
    assert_eq!(aggregator.json("/api/v1/devices").await["items"][0]["state"], "connected");
    assert_eq!(aggregator.json("/api/v1/sites").await["items"][0]["frames_total"], 2_400);
    let (status, _, metrics) = aggregator.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "driftglass_summaries_accepted_total 40",
        "driftglass_frames_total{site=\"store-1\"} 2400",
        "driftglass_devices{state=\"connected\"} 1",
        "driftglass_evaluation_seconds_count 40",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing from\n{metrics}");
    }
    assert_eq!(aggregator.get("/readyz").await.0, 200);

    let (code, log) = aggregator.stop().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!aggregator.folder.path().join(Addresses::FILE_NAME).exists());
    let refuse = agent.refused().await;
    assert_eq!((refuse.reason, refuse.expected_after.sequence), (RefuseReason::Unavailable, 40));

    aggregator.child = start(&config_of(&aggregator.folder));
    aggregator.addresses = addresses_in(aggregator.folder.path()).await;
    let mut agent = aggregator.connect(DEVICE).await.expect("connects again");
    agent.greet("gw", 1).await;
    let welcome = agent.hear(|frame| Welcome::parse(frame).expect("a welcome")).await;
    assert_eq!(welcome.mark, Mark { epoch: 1, sequence: 40 });
    agent.send_window(40, UnixMillis(1_700_000_040_000), 100).await;
    agent.acknowledged(Mark { epoch: 1, sequence: 40 }).await;
    assert_eq!(aggregator.json("/api/v1/cameras").await["items"][0]["frames_total"], 2_400, "counted once");
    agent.send_window(43, UnixMillis(1_700_000_040_000), 100).await;
    let refuse = agent.refused().await;
    assert_eq!((refuse.reason, refuse.expected_after.sequence), (RefuseReason::Gap, 40));
    let (_, _, metrics) = aggregator.get("/metrics").await;
    assert!(metrics.contains("driftglass_summaries_duplicates_total 1"), "{metrics}");
    aggregator.shows("driftglass_summaries_rejected_total{reason=\"gap\"} 1").await;
    aggregator.shows("driftglass_evaluation_seconds_count 0").await;
}

#[tokio::test]
async fn only_certified_devices_speak_for_themselves_and_the_newest_connection_wins() {
    let mut aggregator = Aggregator::start().await;
    let stranger = Authority::new();
    let quic = aggregator.addresses.quic;
    // With TLS 1.3 a client learns of a rejected certificate only after its own handshake is done.
    for (issuer, uri, alpn) in [
        (&stranger, DEVICE, b"driftglass/1".as_slice()),
        (&aggregator.authority, DEVICE, b"h3"),
        (&aggregator.authority, "spiffe://elsewhere/site/store-1/device/gw", b"driftglass/1"),
    ] {
        if let Ok(agent) = Agent::connect(quic, &aggregator.authority, issuer, uri, alpn).await {
            let closed = tokio::time::timeout(PATIENCE, agent.connection.closed()).await;
            assert!(closed.is_ok(), "{uri} was let in");
        }
    }
    let mut liar = aggregator.connect(DEVICE).await.expect("connects");
    liar.greet("other", 1).await;
    assert_eq!(liar.refused().await.reason, RefuseReason::Identity);

    let mut first = aggregator.connect(DEVICE).await.expect("connects");
    first.greet("gw", 1).await;
    first.hear(|frame| Welcome::parse(frame).expect("a welcome")).await;
    let mut second = aggregator.connect(DEVICE).await.expect("connects");
    second.greet("gw", 1).await;
    second.hear(|frame| Welcome::parse(frame).expect("a welcome")).await;
    assert_eq!(first.refused().await.reason, RefuseReason::Superseded);

    aggregator.shows("driftglass_summaries_rejected_total{reason=\"handshake\"} 2").await;
    aggregator.shows("driftglass_summaries_rejected_total{reason=\"identity\"} 2").await;
    let (code, log) = aggregator.stop().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("store-1/gw") && log.contains("127.0.0.1:") && log.contains("offset"), "{log}");
}

/// Sends a body, and returns status and body of the answer.
async fn post(address: SocketAddr, path: &str, host: &str, kind: &str, body: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let text = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

#[tokio::test]
async fn nobody_changes_identities_by_accident_or_from_a_foreign_page() {
    // An authority of its own, so that tokens are made at all.
    let (folder, _) = prepare();
    std::fs::remove_dir_all(folder.path().join("identity")).expect("removed");
    let mut child = start(&config_of(&folder));
    let http = addresses_in(folder.path()).await.http;
    let good = r#"{"site":"store-1","device":"gw"}"#;
    let json = "application/json";
    for (host, kind, body, expected) in [
        // What a page may send without being asked first: a form, or text that looks like JSON.
        ("localhost", "text/plain", good, 415),
        ("localhost", "application/x-www-form-urlencoded", "site=store-1&device=gw", 415),
        ("evil.example", json, good, 421),
        ("localhost", json, "{", 400),
        ("localhost", json, r#"{"site":"store-1"}"#, 422),
        ("localhost", json, r#"{"site":"../x","device":"gw"}"#, 422),
        ("localhost", json, r#"{"site":"a","device":"b","colour":1}"#, 422),
        ("localhost", json, r#"{"site":"a","device":"b","ttl_seconds":0}"#, 400),
        ("localhost", json, r#"{"site":"a","device":"b","ttl_seconds":99999999}"#, 400),
    ] {
        let (status, answer) = post(http, "/api/v1/tokens", host, kind, body).await;
        assert_eq!(status, expected, "{host} {kind} {body}: {answer}");
        assert!(!answer.contains("dg1.") && answer.contains("\"detail\""), "{answer}");
    }
    for (path, body, expected) in [
        ("/api/v1/devices/store-1%2Fgw/revoke", "{}", 404),
        ("/api/v1/devices/store-1%2Fgw/reinstate", "{}", 404),
        ("/api/v1/devices/store-1/revoke", "{}", 400),
        ("/api/v1/devices/store-1%2F..%2Fgw/revoke", "{}", 400),
        ("/api/v1/devices/store-1%2Fgw/revoke", r#"{"why":1}"#, 422),
    ] {
        let (status, answer) = post(http, path, "localhost", json, body).await;
        assert_eq!(status, expected, "{path} {body}: {answer}");
    }
    let (_, _, listed) = request(http, "GET", "/api/v1/tokens", "localhost").await;
    assert_eq!(listed, r#"{"items":[],"next_offset":null}"#, "none was made");
    let (status, answer) = post(http, "/api/v1/tokens", "localhost", json, good).await;
    assert!(status == 201 && answer.contains("dg1."), "{answer}");
    let (_, _, listed) = request(http, "GET", "/api/v1/tokens", "localhost").await;
    assert!(listed.contains("store-1") && !listed.contains("dg1."), "{listed}");
    child.kill().expect("ours");
    child.wait().expect("ours");
}

#[tokio::test]
async fn baselines_are_frozen_promoted_and_rolled_back_over_http_and_every_refusal_has_its_status() {
    let mut aggregator = Aggregator::start().await;
    let mut agent = aggregator.connect(DEVICE).await.expect("connects");
    agent.greet("gw", 1).await;
    agent.hear(|frame| Welcome::parse(frame).expect("a welcome")).await;
    let minute = |sequence: u64| UnixMillis(1_700_000_040_000 + i64::try_from(sequence).expect("small") * 60_000);
    for sequence in 1..=20 {
        agent.send_window(sequence, minute(sequence), 100).await;
    }
    agent.acknowledged(Mark { epoch: 1, sequence: 20 }).await;

    let (json, door) = ("application/json", "/api/v1/baselines/store-1%2Fgw%2Fdoor");
    let http = aggregator.addresses.http;
    let say = async |path: &str, body: &str| {
        let (status, answer) = post(http, path, "localhost", json, body).await;
        (status, serde_json::from_str::<serde_json::Value>(&answer).expect("JSON"))
    };
    let young = aggregator.json(door).await;
    assert_eq!((&young["in_force"], &young["learning"]["windows"]), (&serde_json::Value::Null, &20.into()), "{young}");
    let (status, refused) = say(&format!("{door}/freeze"), "{}").await;
    assert_eq!(status, 409, "{refused}");
    assert!(
        refused["detail"].as_str().is_some_and(|detail| detail.contains("30") && detail.contains("20")),
        "{refused}"
    );
    for sequence in 21..=40 {
        agent.send_window(sequence, minute(sequence), 100).await;
    }
    agent.acknowledged(Mark { epoch: 1, sequence: 40 }).await;
    let (status, frozen) = say(&format!("{door}/freeze"), r#"{"note":"a quiet shop"}"#).await;
    assert_eq!((status, &frozen["in_force"]), (200, &1.into()), "{frozen}");
    let version = &frozen["versions"][0];
    assert_eq!((&version["origin"], &version["author"]), (&"frozen".into(), &"operator".into()), "{version}");
    assert_eq!((&version["note"], &version["in_force"]), (&"a quiet shop".into(), &true.into()), "{version}");

    let (status, learning) =
        say(&format!("{door}/promote"), r#"{"since":"2023-11-14T22:20:00Z","note":"turned"}"#).await;
    assert_eq!((status, &learning["in_force"]), (200, &serde_json::Value::Null), "{learning}");
    // From minute 6 to minute 40, of a learning time of a day.
    assert_eq!(learning["learning"]["windows"], 35, "{learning}");
    assert_eq!(learning["learning"]["remaining_seconds"], 86_400.0 - 35.0 * 60.0);
    assert_eq!(aggregator.json("/api/v1/cameras").await["items"][0]["state"], "learning");
    let (status, frozen) = say(&format!("{door}/freeze"), "{}").await;
    assert_eq!((status, &frozen["in_force"]), (200, &2.into()), "{frozen}");
    let (status, back) = say(&format!("{door}/rollback"), "{}").await;
    assert_eq!((status, &back["in_force"], &back["moves"][0]["move"]), (200, &1.into(), &"rollback".into()), "{back}");

    let long = format!(r#"{{"note":"{}"}}"#, "x".repeat(501));
    for (path, kind, body, expected) in [
        ("/rollback", json, "{}", 404),
        ("/rollback", json, r#"{"to":9}"#, 404),
        ("/rollback", json, r#"{"to":1}"#, 409),
        ("/rollback", json, r#"{"to":-1}"#, 422),
        ("/rollback", json, r#"{"version":1}"#, 422),
        ("/freeze", json, "{}", 409),
        ("/freeze", json, &long, 400),
        ("/promote", json, r#"{"since":"yesterday"}"#, 400),
        ("/promote", json, r#"{"since":5}"#, 422),
        ("/promote", "text/plain", "{}", 415),
        ("", json, "{}", 405),
        ("/import", json, "{}", 404),
    ] {
        let (status, answer) = post(http, &format!("{door}{path}"), "localhost", kind, body).await;
        assert_eq!(status, expected, "{path} {body}: {answer}");
        assert!(answer.contains("\"detail\""), "{answer}");
    }
    for path in ["promote", "freeze", "rollback"] {
        let (status, _) = say(&format!("/api/v1/baselines/store-1%2Fgw%2Fgate/{path}"), "{}").await;
        assert_eq!(status, 404, "{path} of a camera that nobody knows");
    }
    let (status, _) = post(http, &format!("{door}/promote"), "evil.example", json, "{}").await;
    assert_eq!(status, 421, "a foreign page");

    let before = aggregator.json(door).await;
    let (code, log) = aggregator.stop().await;
    assert_eq!(code, Some(0), "{log}");
    aggregator.child = start(&config_of(&aggregator.folder));
    aggregator.addresses = addresses_in(aggregator.folder.path()).await;
    let after = aggregator.json(door).await;
    assert_eq!((&after["in_force"], &after), (&1.into(), &before), "nothing that was refused is in it");
    assert_eq!(
        (after["versions"].as_array().map(Vec::len), after["moves"].as_array().map(Vec::len)),
        (Some(2), Some(4))
    );
}

#[tokio::test]
async fn whatever_is_asked_wrongly_is_answered_with_a_problem_and_safe_headers() {
    let aggregator = Aggregator::start().await;
    for (method, path, expected) in [
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/cameras/a%2Fb%2Fc", 404),
        ("GET", "/api/v1/cameras/a", 400),
        ("GET", "/api/v1/cameras/%FF", 400),
        ("GET", "/api/v1/cameras/a%2Fb%2Fc/features/luma_mean/stats", 404),
        ("GET", "/api/v1/cameras/a%2Fb%2Fc/features/weather/stats", 404),
        ("GET", "/api/v1/cameras/a%2Fb%2Fc/features/luma_mean/stats?windows=0", 400),
        ("GET", "/api/v1/cameras?limit=0", 400),
        ("GET", "/api/v1/cameras?limit=501", 400),
        ("GET", "/api/v1/cameras?colour=red", 400),
        ("GET", "/api/v1/cameras?site=..%2Fx", 400),
        ("GET", "/api/v1/alerts?state=angry", 400),
        ("GET", "/api/v1/alerts?since=yesterday", 400),
        ("GET", "/api/v1/alerts/one", 400),
        ("GET", "/api/v1/alerts/1", 404),
        ("GET", "/api/v1/baselines/a%2Fb%2Fc", 404),
        ("GET", "/api/v1/baselines/a", 400),
        ("GET", "/api/v1/baselines", 404),
        ("POST", "/api/v1/alerts", 405),
        ("DELETE", "/", 405),
    ] {
        let (status, head, body) = request(aggregator.addresses.http, method, path, "127.0.0.1").await;
        assert_eq!(status, expected, "{method} {path}: {body}");
        assert!(head.contains("content-type: application/problem+json"), "{path}: {head}");
        let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(problem["status"], expected, "{path}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{path}");
    }
    let (status, head, body) = aggregator.get("/").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'") && head.contains("nosniff"), "{head}");
    assert!(!body.contains("http://") && !body.contains("https://"), "nothing is loaded from elsewhere");
    for path in
        ["/page.js", "/page.css", "/healthz", "/readyz", "/api/v1/alerts?state=root-caused&since=2026-01-01T00:00:00Z"]
    {
        assert_eq!(aggregator.get(path).await.0, 200, "{path}");
    }
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example", ""] {
        let (status, _, _) = request(aggregator.addresses.http, "GET", "/api/v1/cameras", host).await;
        assert_eq!(status, 421, "{host:?}");
    }
    for host in ["localhost:1", "127.0.0.1:9", "[::1]:80"] {
        assert_eq!(request(aggregator.addresses.http, "GET", "/healthz", host).await.0, 200, "{host}");
    }
}

#[tokio::test]
async fn a_copy_of_a_device_is_turned_away_and_its_owner_goes_on_undisturbed() {
    let aggregator = Aggregator::start().await;
    let mut owner = aggregator.connect(DEVICE).await.expect("connects");
    owner.greet("gw", 1).await;
    owner.hear(|frame| Welcome::parse(frame).expect("a welcome")).await;
    owner.send_window(1, UnixMillis(1_700_000_040_000), 100).await;
    owner.acknowledged(Mark { epoch: 1, sequence: 1 }).await;
    for number in 1..=2 {
        let mut copy = aggregator.connect(DEVICE).await.expect("connects");
        copy.greet_as("gw", 1, 8).await;
        assert_eq!(copy.refused().await.reason, RefuseReason::Cloned);
        aggregator.shows(&format!("driftglass_summaries_rejected_total{{reason=\"cloned\"}} {number}")).await;
    }
    // One that says nothing at all is no reason either.
    let silent = aggregator.connect(DEVICE).await.expect("connects");
    owner.send_window(2, UnixMillis(1_700_000_100_000), 100).await;
    owner.acknowledged(Mark { epoch: 1, sequence: 2 }).await;
    drop(silent);
    // The owner itself, over another connection: that is the one that counts now.
    let mut again = aggregator.connect(DEVICE).await.expect("connects");
    again.greet("gw", 1).await;
    again.hear(|frame| Welcome::parse(frame).expect("a welcome")).await;
    assert_eq!(owner.refused().await.reason, RefuseReason::Superseded);
    again.send_window(3, UnixMillis(1_700_000_160_000), 100).await;
    again.acknowledged(Mark { epoch: 1, sequence: 3 }).await;
    aggregator.shows("driftglass_devices{state=\"connected\"} 1").await;
}

fn output(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().expect("runs")
}

#[test]
fn wrong_settings_are_all_listed_with_exit_code_2_and_check_touches_nothing() {
    let (folder, _) = prepare();
    let config = config_of(&folder);
    let path = config.display().to_string();
    let before: Vec<_> =
        std::fs::read_dir(folder.path()).expect("readable").flatten().map(|file| file.path()).collect();
    assert_eq!(output(&["check", "--config", &path]).status.code(), Some(0));
    let after: Vec<_> = std::fs::read_dir(folder.path()).expect("readable").flatten().map(|file| file.path()).collect();
    assert_eq!(before, after);

    std::fs::write(&config, "q = 1\n[alerting]\nq = 2\n[http]\nlisten = \"0.0.0.0:80\"\n").expect("written");
    for command in ["check", "serve"] {
        let output = output(&[command, "--config", &path]);
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains(&format!("{path}:3: alerting.q = 2: allowed is")), "{text}");
    }
    assert_eq!(output(&["serve", "--config", "/does/not/exist.toml"]).status.code(), Some(2));
    assert_eq!(output(&["dance"]).status.code(), Some(2));
    assert_eq!(output(&["--version"]).status.code(), Some(0));
    assert_eq!(output(&["completion", "bash"]).status.code(), Some(0));
}

#[tokio::test]
async fn a_port_or_a_folder_in_use_and_a_missing_identity_end_with_exit_code_1_and_say_so() {
    let aggregator = Aggregator::start().await;
    let (folder, _other) = prepare();
    let other = config_of(&folder).display().to_string();
    let text = |arguments: &[&str]| {
        let output = output(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let (quic, http) = (aggregator.addresses.quic.to_string(), aggregator.addresses.http.to_string());
    let said = text(&["serve", "--config", &other, "--quic-listen", &quic]);
    assert!(said.contains(&format!("quic.listen = \"{quic}\": cannot listen there")), "{said}");
    let said = text(&["serve", "--config", &other, "--http-listen", &http]);
    assert!(said.contains(&format!("http.listen = \"{http}\": cannot listen there")), "{said}");
    let said = text(&["serve", "--config", &config_of(&aggregator.folder).display().to_string()]);
    assert!(said.contains("in use by another aggregator"), "{said}");
    std::fs::remove_file(folder.path().join("identity/ca.pem")).expect("removed");
    let said = text(&["serve", "--config", &other]);
    assert!(said.contains("identity/ca.pem"), "{said}");
    assert!(aggregator.folder.path().join(Addresses::FILE_NAME).exists(), "the running one is left alone");
}
