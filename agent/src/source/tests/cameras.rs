//! Cameras that are asked over HTTP: snapshots and endless answers, credentials and certificates.

use super::*;

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
