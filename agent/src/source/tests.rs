//! Live sources against servers, programs and pushers that do everything wrong, and some that do it right.

use std::fs;
use std::io::Cursor;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::config::{Config, Overrides};
use crate::host::clock;

const PATIENCE: Duration = Duration::from_secs(20);

fn jpeg(seed: u8, width: u32, height: u32) -> Vec<u8> {
    let image = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 3).to_le_bytes()[0], (y * 5).to_le_bytes()[0].wrapping_add(seed), seed])
    });
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Jpeg).expect("encoded");
    bytes
}

/// Running sources of some cameras.
struct Running {
    names: Vec<String>,
    sources: Vec<FrameSource>,
    statuses: Vec<Arc<Status>>,
    running: super::Running,
}

impl Running {
    /// Starts sources as a configuration file would describe them; `random` is all the luck there is.
    async fn start(cameras: &[(&str, String)], random: fn() -> u64) -> Self {
        let mut text = "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"h:1\"\n".to_owned();
        for (name, source) in cameras {
            text.push_str(&format!("[[camera]]\nname = \"{name}\"\nsource = {{ {source} }}\n"));
        }
        let config = Config::resolve(Path::new("agent.toml"), &text, &Overrides::default());
        let config = config.unwrap_or_else(|faults| panic!("{faults}"));
        let mut running = super::Running::new(clock::now, random);
        let outside = running.outside();
        let pairs = config.cameras().iter().map(|camera| prepare(&camera.name, &camera.source, &outside));
        let (sources, prepared): (Vec<_>, Vec<_>) = pairs.unzip();
        let statuses = prepared.iter().map(|prepared| Arc::clone(&prepared.status)).collect();
        running.start(prepared).await;
        let names = cameras.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self { names, sources, statuses, running }
    }

    async fn one(source: String) -> Self {
        Self::start(&[("door", source)], rand::random::<u64>).await
    }

    /// The next thing that comes from a camera.
    async fn next(&mut self, camera: usize) -> (Condition, Vec<u8>) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(candidate) = self.sources[camera].poll(clock::now()) {
                let bytes = match candidate.condition {
                    Condition::Ready => self.sources[camera].read(&candidate).expect("read").expect("there").to_vec(),
                    _ => Vec::new(),
                };
                return (candidate.condition, bytes);
            }
            assert!(Instant::now() < end, "nothing from {}: {:?}", self.names[camera], self.statuses[camera].health());
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn picture(&mut self, camera: usize) -> Vec<u8> {
        let (condition, bytes) = self.next(camera).await;
        assert_eq!(condition, Condition::Ready);
        bytes
    }

    /// Waits for a failure of this reason; how it was told.
    async fn failure(&self, camera: usize, reason: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let health = self.statuses[camera].health();
            if let Health::Failed { reason: found, message, .. } = &health
                && *found == reason
            {
                return message.clone();
            }
            assert!(Instant::now() < end, "{}: {reason} expected, found {health:?}", self.names[camera]);
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        let ended = timeout(Duration::from_secs(8), self.running.end_all()).await;
        ended.expect("sources end when they are told to");
    }
}

/// What a server does with a request.
enum Answer {
    /// Sends this, and closes.
    Close(Vec<u8>),
    /// Sends this, and waits for the next request.
    Keep(Vec<u8>),
    /// Sends this, and then nothing, for ever.
    Hold(Vec<u8>),
    /// Sends the first, and then the second again and again, at intervals.
    Repeat(Vec<u8>, Vec<u8>, Duration),
}

/// What a server does with every request.
type Script = Box<dyn Fn() -> Answer + Send + Sync>;

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Answers requests, which are numbered from 0 over all connections.
async fn serve(answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        let (answer, number) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            counted.fetch_add(1, Ordering::Relaxed);
            let (answer, number) = (Arc::clone(&answer), Arc::clone(&number));
            tokio::spawn(async move { converse(stream, &*answer, &number).await });
        }
    });
    Server { address, connections, task }
}

/// Until the client goes; what it then thinks of our bytes is its own business.
async fn converse(
    mut stream: TcpStream,
    answer: &(impl Fn(usize, &str) -> Answer + Sync),
    number: &AtomicUsize,
) -> Option<()> {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.ok()?);
        }
        let request = String::from_utf8(request).expect("text");
        match answer(number.fetch_add(1, Ordering::Relaxed), &request) {
            Answer::Close(bytes) => return stream.write_all(&bytes).await.ok(),
            Answer::Keep(bytes) => stream.write_all(&bytes).await.ok()?,
            Answer::Hold(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                // Ends when the client does.
                stream.read_u8().await.ok()?;
            }
            Answer::Repeat(first, again, interval) => {
                stream.write_all(&first).await.ok()?;
                loop {
                    stream.write_all(&again).await.ok()?;
                    sleep(interval).await;
                }
            }
        }
    }
}

fn http(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

fn image_answer(body: &[u8]) -> Vec<u8> {
    http(&format!("200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}", body.len()), body)
}

fn part(body: &[u8]) -> Vec<u8> {
    let head = format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body, b"\r\n"].concat()
}

const MULTIPART: &str = "200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame";

#[tokio::test]
async fn snapshots_come_at_their_instants_over_one_connection() {
    let server = serve(|number, request| {
        assert!(request.starts_with("GET /snap?channel=1 HTTP/1.1\r\n"), "{request}");
        Answer::Keep(image_answer(&jpeg(number.to_le_bytes()[0], 16, 16)))
    })
    .await;
    let mut running =
        Running::one(format!("kind = \"snapshot\", url = \"http://{}/snap?channel=1\", fps = 10", server.address))
            .await;
    let mut times = Vec::new();
    for number in 0..6 {
        let end = Instant::now() + PATIENCE;
        let candidate = loop {
            if let Some(candidate) = running.sources[0].poll(clock::now()) {
                break candidate;
            }
            assert!(Instant::now() < end, "{:?}", running.statuses[0].health());
            sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(running.sources[0].read(&candidate).expect("read"), Some(jpeg(number, 16, 16).as_slice()));
        times.push(candidate.taken.expect("known").0);
    }
    for pair in times.windows(2) {
        // The phase is fixed; a machine with much to do may leave an instant out or be late for one.
        assert!(pair[1] - pair[0] >= 30, "{times:?}");
    }
    assert_eq!(server.connections(), 1, "kept alive");
    assert_eq!(running.statuses[0].health(), Health::Delivering);
    running.end().await;
}

#[tokio::test]
async fn whatever_a_snapshot_server_answers_has_its_name_and_no_consequence() {
    let good = jpeg(1, 16, 16);
    let many_headers = format!("200 OK\r\nContent-Type: image/jpeg{}", "\r\nX: y".repeat(100));
    let endless = || b"X-Endless: header\r\n".repeat(100);
    let chunk = [b"10000\r\n".as_slice(), &[7; 0x1_0000], b"\r\n"].concat();
    let chunked = http("200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked", b"");
    let cases: Vec<(&str, Script)> = vec![
        ("http", Box::new(|| Answer::Close(Vec::new()))),
        ("status", Box::new(|| Answer::Close(http("404 Not Found\r\nContent-Length: 0", b"")))),
        (
            "status",
            Box::new(|| Answer::Close(http("302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0", b""))),
        ),
        (
            "content_type",
            Box::new(|| {
                Answer::Close(http("200 OK\r\nContent-Type: text/html; charset=x\r\nContent-Length: 6", b"<html>"))
            }),
        ),
        ("http", Box::new(|| Answer::Close(b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec()))),
        (
            "http",
            Box::new(move || Answer::Repeat(b"HTTP/1.1 200 OK\r\n".to_vec(), endless(), Duration::from_millis(1))),
        ),
        ("http", Box::new(move || Answer::Close(http(&many_headers, b"")))),
        ("timeout", Box::new(|| Answer::Hold(Vec::new()))),
        (
            "timeout",
            Box::new(|| Answer::Hold(http("200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 9999", b"\xff\xd8"))),
        ),
        (
            "http",
            Box::new(|| Answer::Close(http("200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 9999", b"\xff\xd8"))),
        ),
        (
            "timeout",
            Box::new(move || {
                let head = http("200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 9999", b"");
                Answer::Repeat(head, vec![7], Duration::from_millis(100))
            }),
        ),
        (
            "unauthorized",
            Box::new(|| {
                Answer::Close(http("401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0", b""))
            }),
        ),
        (
            "too large",
            Box::new(|| {
                Answer::Hold(http("200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 99999999999", b"\xff\xd8"))
            }),
        ),
        ("too large", Box::new(move || Answer::Repeat(chunked.clone(), chunk.clone(), Duration::ZERO))),
        ("empty", Box::new(|| Answer::Keep(image_answer(b"")))),
        ("good", Box::new(move || Answer::Keep(image_answer(&good)))),
    ];
    let (mut servers, mut cameras, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (name, answer)) in cases.into_iter().enumerate() {
        let server = serve(move |_, _| answer()).await;
        cameras.push((
            format!("c{number}"),
            format!(
                "kind = \"snapshot\", url = \"http://{}/\", fps = 5, timeout = \"1s\", max_frame = \"64KiB\"",
                server.address
            ),
        ));
        servers.push(server);
        expected.push(name);
    }
    // Nobody listens where somebody has just let go.
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("bound");
    cameras.push(("gone".into(), format!("kind = \"snapshot\", url = \"http://{gone}/\"")));
    expected.push("connect");
    let cameras: Vec<(&str, String)> = cameras.iter().map(|(name, source)| (name.as_str(), source.clone())).collect();
    let mut running = Running::start(&cameras, rand::random::<u64>).await;
    for (camera, name) in expected.iter().enumerate() {
        match *name {
            "good" => assert_eq!(running.picture(camera).await, jpeg(1, 16, 16)),
            "empty" => assert_eq!(running.next(camera).await.0, Condition::Unusable(Unusable::Empty)),
            "too large" => assert_eq!(running.next(camera).await.0, Condition::Unusable(Unusable::TooLarge)),
            reason => {
                let message = running.failure(camera, reason).await;
                assert!(!message.is_empty(), "{reason}");
                assert!(
                    running.sources[camera].poll(clock::now()).is_none(),
                    "{reason}: nothing is counted as a frame"
                );
            }
        }
    }
    running.end().await;
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_not_hammered_and_found_again_when_it_mends() {
    let server = serve(|number, _| match number {
        0..8 => Answer::Close(Vec::new()),
        _ => Answer::Repeat(http(MULTIPART, b""), part(&jpeg(1, 16, 16)), Duration::from_millis(20)),
    })
    .await;
    // With the worst of luck there is no wait but the least.
    let source = format!("kind = \"mjpeg\", url = \"http://{}/\"", server.address);
    let mut running = Running::start(&[("door", source)], || 0).await;
    let began = Instant::now();
    running.picture(0).await;
    assert!(began.elapsed() >= Duration::from_millis(8 * 200), "{:?}", began.elapsed());
    assert_eq!(server.connections(), 9);
    assert_eq!(running.statuses[0].failures().get("http"), Some(&8));
    assert_eq!(running.statuses[0].health(), Health::Delivering);
    running.end().await;
}

#[tokio::test]
async fn an_endless_answer_delivers_whatever_its_pictures_are() {
    let (small, large) = (jpeg(1, 16, 16), jpeg(2, 320, 240));
    let same = part(&small);
    let body = [part(&small), part(&large), part(b"not a picture"), part(&vec![7; 70_000]), part(&small)].concat();
    let server =
        serve(move |_, _| Answer::Repeat(http(MULTIPART, &body), same.clone(), Duration::from_millis(30))).await;
    let mut running =
        Running::one(format!("kind = \"mjpeg\", url = \"http://{}/\", max_frame = \"64KiB\"", server.address)).await;
    assert_eq!(running.picture(0).await, small);
    assert_eq!(running.picture(0).await, large, "another size in the middle of a stream");
    assert_eq!(running.picture(0).await, b"not a picture", "for the decoder to refuse");
    assert_eq!(running.next(0).await.0, Condition::Unusable(Unusable::TooLarge));
    for _ in 0..20 {
        assert_eq!(running.picture(0).await, small, "the same picture for ever");
    }
    assert_eq!(server.connections(), 1);
    running.end().await;
}

#[tokio::test]
async fn an_endless_answer_that_goes_wrong_has_the_name_of_what_went_wrong() {
    let cases: Vec<(&str, Script)> = vec![
        ("stalled", Box::new(|| Answer::Hold(http(MULTIPART, &part(&jpeg(1, 16, 16)))))),
        (
            "stalled",
            Box::new(|| Answer::Repeat(http(MULTIPART, b"--frame\r\n\r\n"), vec![7; 10], Duration::from_millis(20))),
        ),
        (
            "malformed",
            Box::new(|| {
                Answer::Repeat(http(MULTIPART, b"--frame\r\n"), b"X: y\r\n".repeat(50), Duration::from_millis(5))
            }),
        ),
        ("malformed", Box::new(|| Answer::Repeat(http(MULTIPART, b""), vec![b'x'; 10_000], Duration::from_millis(5)))),
        ("ended", Box::new(|| Answer::Close(http(MULTIPART, &part(&jpeg(1, 16, 16)))))),
        (
            "content_type",
            Box::new(|| Answer::Close(http("200 OK\r\nContent-Type: application/json\r\nContent-Length: 2", b"{}"))),
        ),
        ("timeout", Box::new(|| Answer::Hold(Vec::new()))),
    ];
    let (mut servers, mut cameras, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (name, answer)) in cases.into_iter().enumerate() {
        let server = serve(move |_, _| answer()).await;
        cameras.push((
            format!("c{number}"),
            format!("kind = \"mjpeg\", url = \"http://{}/\", timeout = \"1s\", max_frame = \"64KiB\"", server.address),
        ));
        servers.push(server);
        expected.push(name);
    }
    let cameras: Vec<(&str, String)> = cameras.iter().map(|(name, source)| (name.as_str(), source.clone())).collect();
    let running = Running::start(&cameras, rand::random::<u64>).await;
    for (camera, reason) in expected.iter().enumerate() {
        running.failure(camera, reason).await;
    }
    running.end().await;
}

#[tokio::test]
async fn credentials_go_only_to_a_server_that_asks_and_never_into_a_message() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let server = serve(move |number, request| {
        let authorization = request.lines().find_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned);
        seen.lock().expect("sound").push(authorization.clone());
        // The server's number becomes stale after four requests.
        let nonce = if number < 4 { "first" } else { "second" };
        match authorization {
            Some(answer) if answer.contains(&format!("nonce=\"{nonce}\"")) => Answer::Keep(image_answer(&jpeg(1, 16, 16))),
            _ => Answer::Keep(http(
                &format!("401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"cam\", qop=\"auth\", nonce=\"{nonce}\"\r\nContent-Length: 4"),
                b"nope",
            )),
        }
    })
    .await;
    let refusing = serve(|_, _| {
        Answer::Close(http("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"\r\nContent-Length: 0", b""))
    })
    .await;
    let cameras = [
        ("door", format!("kind = \"snapshot\", url = \"http://admin:pass%20word@{}/snap\", fps = 20", server.address)),
        (
            "wrong",
            format!("kind = \"snapshot\", url = \"http://admin:pass%20word@{}/?pwd=word\", fps = 20", refusing.address),
        ),
    ];
    let mut running = Running::start(&cameras, rand::random::<u64>).await;
    for _ in 0..6 {
        running.picture(0).await;
    }
    {
        let requests = requests.lock().expect("sound");
        assert_eq!(requests[0], None, "nothing is shown before the server asks");
        let answer = requests[1].as_ref().expect("asked");
        assert!(
            answer.starts_with("Digest username=\"admin\", realm=\"cam\", nonce=\"first\", uri=\"/snap\""),
            "{answer}"
        );
        let counts: Vec<bool> = [(1, "00000001"), (2, "00000002"), (3, "00000003")]
            .iter()
            .map(|&(index, count): &(usize, &str)| {
                requests[index].as_ref().is_some_and(|answer| answer.contains(&format!("nc={count}")))
            })
            .collect();
        assert_eq!(counts, [true; 3], "{requests:?}");
        assert!(
            requests[5]
                .as_ref()
                .is_some_and(|answer| answer.contains("nonce=\"second\"") && answer.contains("nc=00000001")),
            "{requests:?}"
        );
        assert!(requests.iter().flatten().all(|answer| !answer.contains("pass")), "{requests:?}");
    }
    let message = running.failure(1, "unauthorized").await;
    let shown = format!("{message} {:?}", running.statuses[1]);
    assert!(!shown.contains("word"), "{shown}");
    running.end().await;
}

#[tokio::test]
async fn a_camera_with_a_certificate_of_its_own_is_believed_when_it_is_the_one_named() {
    let folder = tempfile::tempdir().expect("folder");
    let key = rcgen::KeyPair::generate().expect("a key");
    let named =
        rcgen::CertificateParams::new(vec!["some-camera".into()]).expect("a name").self_signed(&key).expect("signed");
    let other_key = rcgen::KeyPair::generate().expect("a key");
    let other = rcgen::CertificateParams::new(vec!["127.0.0.1".into()])
        .expect("a name")
        .self_signed(&other_key)
        .expect("signed");
    fs::write(folder.path().join("named.pem"), named.pem()).expect("written");
    fs::write(folder.path().join("other.pem"), other.pem()).expect("written");
    fs::write(folder.path().join("empty.pem"), "nothing").expect("written");
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![named.der().clone()], private)
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            // A client that does not believe us goes.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 2000];
            if stream.read(&mut request).await.is_ok()
                && stream.write_all(&image_answer(&jpeg(1, 16, 16))).await.is_ok()
            {
                stream.shutdown().await.ok();
            }
        }
    });
    let source = |file: &str| {
        let path = folder.path().join(file);
        format!("kind = \"snapshot\", url = \"https://{address}/\", fps = 5, certificates = {path:?}")
    };
    let cameras = [
        ("named", source("named.pem")),
        ("other", source("other.pem")),
        ("empty", source("empty.pem")),
        ("missing", source("missing.pem")),
        ("system", format!("kind = \"snapshot\", url = \"https://{address}/\", fps = 5")),
    ];
    let mut running = Running::start(&cameras, rand::random::<u64>).await;
    assert_eq!(running.picture(0).await, jpeg(1, 16, 16));
    for camera in 1..cameras.len() {
        let message = running.failure(camera, "tls").await;
        assert!(running.sources[camera].poll(clock::now()).is_none(), "{message}");
    }
    running.end().await;
    server.abort();
}

fn shell(script: &str) -> String {
    format!("kind = \"exec\", command = [\"sh\", \"-c\", {script:?}], timeout = \"1s\", max_frame = \"64KiB\"")
}

#[tokio::test]
async fn a_program_delivers_pictures_and_is_started_again_when_it_ends() {
    let folder = tempfile::tempdir().expect("folder");
    let (first, second) = (jpeg(1, 16, 16), jpeg(2, 64, 16));
    fs::write(folder.path().join("1"), &first).expect("written");
    fs::write(folder.path().join("2"), [second.as_slice(), &second[..40]].concat()).expect("written");
    let script = format!("cd {:?}; cat 1; cat 2; echo rtsp://admin:secret@cam/1: no route >&2; exit 3", folder.path());
    let mut running = Running::one(shell(&script)).await;
    for _ in 0..2 {
        assert_eq!(running.picture(0).await, first);
        assert_eq!(running.picture(0).await, second);
        let message = running.failure(0, "exited").await;
        assert_eq!(message, "sh ended (exit code 3): rtsp://***@cam/1: no route");
    }
    running.end().await;
}

#[tokio::test]
async fn a_program_that_misbehaves_has_the_name_of_what_it_does() {
    let cameras = [
        ("absent", "kind = \"exec\", command = [\"/nonexistent/camera\"]".to_owned(), "start"),
        ("silent", shell("sleep 1000"), "stalled"),
        ("talking", shell("while true; do echo busy >&2; done"), "stalled"),
        ("garbage", shell("yes"), "malformed"),
        ("closed", shell("exec >&-; sleep 1000"), "exited"),
        ("killed", shell("kill -9 $$"), "exited"),
    ];
    let sources: Vec<(&str, String)> = cameras.iter().map(|(name, source, _)| (*name, source.clone())).collect();
    let running = Running::start(&sources, rand::random::<u64>).await;
    for (camera, (_, _, reason)) in cameras.iter().enumerate() {
        running.failure(camera, reason).await;
    }
    running.end().await;
}

/// Whether a process is there and not only waiting to be buried.
fn alive(pid: &str) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{}/stat", pid.trim())) else { return false };
    !status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_program_and_whatever_it_started_end_with_the_agent_even_if_they_do_not_want_to() {
    let folder = tempfile::tempdir().expect("folder");
    let pids = folder.path().join("pids");
    let script =
        format!("trap '' TERM; sleep 1000 & echo $! >> {pids:?}; echo $$ >> {pids:?}; while true; do sleep 0.1; done");
    let running =
        Running::one(format!("kind = \"exec\", command = [\"sh\", \"-c\", {script:?}], timeout = \"1h\"")).await;
    let end = Instant::now() + PATIENCE;
    let found = loop {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        if text.lines().count() == 2 {
            break text;
        }
        assert!(Instant::now() < end, "the program did not start: {:?}", running.statuses[0].health());
        sleep(Duration::from_millis(5)).await;
    };
    assert!(found.lines().all(alive), "{found}");
    running.end().await;
    let end = Instant::now() + PATIENCE;
    while found.lines().any(alive) {
        assert!(Instant::now() < end, "{found} live on");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a request, and returns the status of the answer.
async fn post(address: SocketAddr, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // The server may answer, and close, before it has heard everything.
    stream.write_all(request).await.ok();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    String::from_utf8(answer).expect("text")[9..].parse().expect("a status")
}

fn request(path: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n{more}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("bound")
}

async fn until_listening(address: SocketAddr) {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        assert!(Instant::now() < end, "nobody listens");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_posted_is_taken_or_refused_with_a_reason() {
    let folder = tempfile::tempdir().expect("folder");
    let token = folder.path().join("token");
    fs::write(&token, "s3cret\n").expect("written");
    let (open_address, guarded) = (free_address().await, free_address().await);
    let cameras = [
        ("door", format!("kind = \"push\", listen = \"{open_address}\", max_frame = \"64KiB\", timeout = \"1s\"")),
        ("yard", format!("kind = \"push\", listen = \"{open_address}\"")),
        ("gate", format!("kind = \"push\", listen = \"{guarded}\", token_file = {token:?}")),
    ];
    let mut running = Running::start(&cameras, rand::random::<u64>).await;
    until_listening(open_address).await;
    until_listening(guarded).await;
    let picture = jpeg(1, 32, 32);
    assert_eq!(post(open_address, &request("/door", "", &picture)).await, 202);
    assert_eq!(post(open_address, &request("/yard/", "", &picture)).await, 202);
    assert_eq!(running.picture(0).await, picture);
    assert_eq!(running.picture(1).await, picture);
    assert_eq!(post(open_address, &request("/door", "", b"<html>")).await, 415);
    assert_eq!(running.picture(0).await, b"<html>", "for the decoder to refuse");
    assert_eq!(post(open_address, &request("/door", "", &vec![0xff; 70_000])).await, 413);
    assert_eq!(running.next(0).await.0, Condition::Unusable(Unusable::TooLarge));
    let chunked =
        [b"POST /door HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n".as_slice(), &[7; 0x2_0000]]
            .concat();
    assert_eq!(post(open_address, &chunked).await, 413);
    assert_eq!(running.next(0).await.0, Condition::Unusable(Unusable::TooLarge));
    assert_eq!(post(open_address, &request("/gate", "", &picture)).await, 404, "another server's camera");
    assert_eq!(post(open_address, b"GET /door HTTP/1.1\r\nHost: h\r\n\r\n").await, 405);
    assert_eq!(post(guarded, &request("/gate", "", &picture)).await, 401);
    assert_eq!(post(guarded, &request("/gate", "Authorization: Bearer s3cre7\r\n", &picture)).await, 401);
    assert_eq!(post(guarded, &request("/gate", "Authorization: Bearer s3cret\r\n", &picture)).await, 202);
    assert_eq!(running.picture(2).await, picture);
    // Nobody takes them out: the sender learns that there is no room.
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(post(open_address, &request("/door", "", &jpeg(2, 8, 8))).await);
    }
    assert_eq!(statuses, [[202; 8].as_slice(), &[503; 2]].concat());
    // Endless headers are cut off with the connection.
    let mut stream = TcpStream::connect(open_address).await.expect("connected");
    let endless = async {
        stream.write_all(b"POST /door HTTP/1.1\r\n").await?;
        loop {
            stream.write_all(&b"X: y\r\n".repeat(1000)).await?;
        }
    };
    let cut: std::io::Result<()> = timeout(PATIENCE, endless).await.expect("cut off in time");
    assert!(cut.is_err());
    assert_eq!(running.failure(0, "stalled").await, "no picture for 1.0 s");
    running.end().await;
}

#[tokio::test]
async fn a_socket_takes_pictures_behind_their_length_and_plain_files() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("door.sock");
    // What a killed agent leaves is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let source = format!("kind = \"push\", socket = {path:?}, max_frame = \"64KiB\"");
    let mut running = Running::one(source.clone()).await;
    let connect = async || {
        let end = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let (picture, other) = (jpeg(1, 32, 32), jpeg(2, 64, 8));
    let framed = |bytes: &[u8]| [&u32::try_from(bytes.len()).expect("small").to_be_bytes(), bytes].concat();
    let mut stream = connect().await;
    // Far more than there is room for: whoever brings them waits.
    let many = [framed(&picture), framed(&other)].concat().repeat(50);
    let writer = tokio::spawn(async move { stream.write_all(&many).await.map(|()| stream) });
    for _ in 0..50 {
        assert_eq!(running.picture(0).await, picture);
        assert_eq!(running.picture(0).await, other);
    }
    drop(writer.await.expect("no panic").expect("all taken"));
    let mut stream = connect().await;
    stream.write_all(&[picture.as_slice(), &other].concat()).await.expect("taken");
    assert_eq!(running.picture(0).await, picture);
    assert_eq!(running.picture(0).await, other);
    drop(stream);
    let mut stream = connect().await;
    stream.write_all(&[0, 0, 0, 0]).await.expect("taken");
    assert_eq!(running.next(0).await.0, Condition::Unusable(Unusable::Empty));
    stream.write_all(&framed(&picture)[..20]).await.expect("taken");
    drop(stream);
    running.failure(0, "ended").await;
    let mut stream = connect().await;
    stream.write_all(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3]).await.expect("taken");
    assert_eq!(running.next(0).await.0, Condition::Unusable(Unusable::TooLarge));
    let message = running.failure(0, "protocol").await;
    assert!(message.contains("2147483647"), "{message}");
    // A second agent on the same path is told, and does not take it away.
    let second = Running::one(source).await;
    second.failure(0, "listen").await;
    second.end().await;
    running.end().await;
    assert!(!path.exists(), "the socket went with its agent");
}
