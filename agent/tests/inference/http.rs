//! HTTP/1: what the client gets and what the server gets, with and without the sidecar.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Channel};
use hyper::body::Bytes;
use hyper::{Method, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::sidecar::{Answer, PATIENCE, Sidecar, exchange, full, post, raw, seen, server, whole};

/// Answers in every way a server can, by the path.
async fn answers(request: hyper::Request<hyper::body::Incoming>) -> Answer {
    let head = request.method() == Method::HEAD;
    let path = request.uri().to_string();
    let mut response = Response::builder().header("X-Path", &path).header("x-two", "1").header("X-Two", "2");
    if head {
        return response.header("Content-Length", "12345").body(full("")).expect("a response");
    }
    if path.starts_with("/empty") {
        response = response.status(StatusCode::NO_CONTENT);
        return response.body(full("")).expect("a response");
    }
    if path.starts_with("/missing") {
        return response.status(StatusCode::NOT_FOUND).body(full("{\"error\":\"no such model\"}")).expect("a response");
    }
    if path.starts_with("/chunked") {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            for piece in ["one, ", "two, ", "three"] {
                sender.send_data(Bytes::from(piece)).await.expect("sent");
            }
        });
        return response.body(body.boxed()).expect("a response");
    }
    let body = whole(request).await;
    response.header("Content-Type", "application/octet-stream").body(full(body)).expect("a response")
}

#[tokio::test]
async fn every_byte_of_every_kind_of_answer_is_the_same() {
    let upstream = server(answers).await;
    let sidecar = Sidecar::before(upstream, "").await;
    let binary: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let chunked = b"POST /echo HTTP/1.1\r\nHost: model\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
        5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n";
    for request in [
        post("/v2/models/m/infer", "Content-Type: application/json\r\n", b"{}"),
        post("/v2/models/m/infer", "Inference-Header-Content-Length: 2\r\n", &[b"{}".as_slice(), &binary].concat()),
        post("/anything?query=%20x&y", "X-Strange: a, b\r\nx-strange: c\r\n", &binary),
        post("/echo", "Expect: 100-continue\r\n", b"after a nod"),
        post("/missing", "", b""),
        b"GET /empty HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n".to_vec(),
        b"HEAD /v2/health/ready HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET /missing HTTP/1.0\r\nHost: model\r\n\r\n".to_vec(),
        b"GET /chunked HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n".to_vec(),
        chunked.to_vec(),
    ] {
        let text = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        let direct = exchange(upstream, &request).await;
        let passed = exchange(sidecar.address, &request).await;
        assert!(!direct.is_empty(), "{text}");
        assert_eq!(seen(&direct), seen(&passed), "{text}");
    }
    sidecar.end().await;
}

/// A server that answers one request and keeps all it got.
async fn recorder() -> (std::net::SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let got = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&got);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let record = Arc::clone(&record);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    record.lock().expect("sound").extend_from_slice(&buffer[..count]);
                    if record.lock().expect("sound").ends_with(b"the end") {
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.ok();
                    }
                }
            });
        }
    });
    (address, got)
}

#[tokio::test]
async fn the_server_gets_what_the_client_sent_byte_by_byte() {
    let (upstream, got) = recorder().await;
    let take = || std::mem::take(&mut *got.lock().expect("sound"));
    let request = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: model:8000\r\nUser-Agent: test\r\nX-ODD-Case: Yes\r\n\
        content-length: 7\r\n\r\nthe end";
    let ask = async |address| {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request).await.expect("sent");
        let mut answer = [0; 40];
        let count = timeout(PATIENCE, stream.read(&mut answer)).await.expect("in time").expect("an answer");
        assert!(answer[..count].ends_with(b"ok") || answer[..count].starts_with(b"HTTP/1.1 200 OK"));
    };
    let sidecar = Sidecar::before(upstream, "").await;
    ask(sidecar.address).await;
    assert_eq!(String::from_utf8(take()).expect("text"), String::from_utf8_lossy(request));
    sidecar.end().await;
}

#[tokio::test]
async fn pieces_pass_as_they_come_in_both_directions() {
    // The server echoes what it gets while it gets it.
    let upstream = server(async |request| {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(piece) = frame.into_data() else { continue };
                if sender.send_data(piece).await.is_err() {
                    return;
                }
            }
        });
        Response::new(body.boxed())
    })
    .await;
    let sidecar = Sidecar::before(upstream, "").await;
    let mut stream = TcpStream::connect(sidecar.address).await.expect("a connection");
    stream
        .write_all(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .expect("sent");
    let mut got = Vec::new();
    for word in ["alpha", "bravo", "gamma"] {
        // The next goes out only once the one before came back.
        stream.write_all(format!("5\r\n{word}\r\n").as_bytes()).await.expect("sent");
        while !got.windows(5).any(|window| window == word.as_bytes()) {
            let mut buffer = [0; 1024];
            let count = timeout(PATIENCE, stream.read(&mut buffer)).await.expect("in time").expect("read");
            assert!(count > 0, "the answer goes on");
            got.extend_from_slice(&buffer[..count]);
        }
    }
    stream.write_all(b"0\r\n\r\n").await.expect("sent");
    drop(stream);
    sidecar.end().await;
}

#[tokio::test]
async fn a_connection_is_kept_and_closed_when_the_server_closes_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let upstream = listener.local_addr().expect("bound");
    let sidecar = Sidecar::before(upstream, "").await;
    let serve = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        // The first only looked whether the sidecar listens.
        let (mut probe, _) = listener.accept().await.expect("accepted");
        assert_eq!(probe.read(&mut buffer).await.expect("ended"), 0);
        let (mut stream, _) = listener.accept().await.expect("accepted");
        for _ in 0..2 {
            assert!(stream.read(&mut buffer).await.expect("asked") > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("sent");
        }
        // Tired of waiting, as servers are.
        sleep(Duration::from_millis(200)).await;
    });
    let mut stream = TcpStream::connect(sidecar.address).await.expect("a connection");
    for _ in 0..2 {
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: m\r\n\r\n").await.expect("sent");
        let mut answer = [0; 100];
        let mut got = 0;
        while !answer[..got].ends_with(b"ok") {
            let count = timeout(PATIENCE, stream.read(&mut answer[got..])).await.expect("in time").expect("an answer");
            assert!(count > 0, "the connection is kept");
            got += count;
        }
    }
    serve.await.expect("the server closes");
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed in turn").expect("in order");
    assert!(rest.is_empty());
    sidecar.end().await;
}

#[tokio::test]
async fn a_connection_on_which_both_agree_to_speak_otherwise_goes_on() {
    const AGREED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let upstream = raw(async |mut stream| {
        if stream.read(&mut [0; 4096]).await? == 0 {
            return Ok(());
        }
        stream.write_all(AGREED).await?;
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.map(drop)
    })
    .await;
    let sidecar = Sidecar::before(upstream, "").await;
    let mut stream = TcpStream::connect(sidecar.address).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: m\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.expect("sent");
    let mut answer = [0; AGREED.len()];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(answer, AGREED);
    for word in [b"alpha", b"bravo"] {
        stream.write_all(word).await.expect("sent");
        let mut back = [0; 5];
        timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("in time").expect("an echo");
        assert_eq!(&back, word);
    }
    drop(stream);
    sidecar.end().await;
}

#[tokio::test]
async fn a_client_that_says_no_more_gets_its_answer() {
    let upstream = raw(async |mut stream| {
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await?;
        stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\nafter {} bytes", asked.len()).as_bytes()).await
    })
    .await;
    let sidecar = Sidecar::before(upstream, "").await;
    let mut stream = TcpStream::connect(sidecar.address).await.expect("a connection");
    stream.write_all(b"POST /v2/models/m/infer HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}").await.expect("sent");
    stream.shutdown().await.expect("said no more");
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time").expect("in order");
    assert!(answer.ends_with(b"after 57 bytes"), "{}", String::from_utf8_lossy(&answer));
    sidecar.shows("requests_total{camera=\"door\",outcome=\"ok\"} 1").await;
    sidecar.end().await;
}

#[tokio::test]
async fn large_bodies_pass_whole_and_a_slow_reader_is_waited_for() {
    const LARGE: usize = 48 << 20;
    let upstream = server(async |request| {
        let length = whole(request).await.len();
        let body: Vec<u8> = (0..=250).cycle().take(length).collect();
        Response::new(full(body))
    })
    .await;
    let sidecar = Sidecar::before(upstream, "").await;
    let answer = exchange(sidecar.address, &post("/v2/models/m/infer", "", &vec![7; LARGE])).await;
    assert!(answer.ends_with(&(0..=250).cycle().take(LARGE).collect::<Vec<u8>>()), "{} bytes", answer.len());
    sidecar.shows("unobserved_total{camera=\"door\",reason=\"too_large\"} 1").await;
    sidecar.end().await;
}

#[tokio::test]
async fn nothing_piles_up_between_a_fast_server_and_a_client_that_does_not_read() {
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let upstream = server(move |_| {
        let count = Arc::clone(&count);
        async move {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                let piece = Bytes::from(vec![0; 65536]);
                while sender.send_data(piece.clone()).await.is_ok() {
                    count.fetch_add(piece.len(), std::sync::atomic::Ordering::Relaxed);
                }
            });
            Response::new(body.boxed())
        }
    })
    .await;
    let amount = || sent.load(std::sync::atomic::Ordering::Relaxed);
    let sidecar = Sidecar::before(upstream, "").await;
    let mut stream = TcpStream::connect(sidecar.address).await.expect("a connection");
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: m\r\n\r\n").await.expect("sent");
    let mut before = usize::MAX;
    while amount() != before {
        before = amount();
        sleep(Duration::from_millis(500)).await;
    }
    // Mostly the kernel's buffers of two connections.
    assert!(before < 24 << 20, "{before} bytes are on their way");
    let mut buffer = vec![0; 1 << 20];
    stream.read_exact(&mut buffer).await.expect("it goes on");
    let mut after = before;
    while after == before {
        stream.read_exact(&mut buffer).await.expect("it goes on");
        after = amount();
    }
    drop(stream);
    sidecar.end().await;
}

#[tokio::test]
async fn what_is_on_its_way_when_the_agent_stops_arrives() {
    let upstream = server(async |_| {
        sleep(Duration::from_secs(1)).await;
        Response::new(full("at last"))
    })
    .await;
    let sidecar = Sidecar::before(upstream, "").await;
    let address = sidecar.address;
    let asked = tokio::spawn(async move { exchange(address, &post("/v2/models/m/infer", "", b"{}")).await });
    sleep(Duration::from_millis(300)).await;
    sidecar.end().await;
    assert!(asked.await.expect("no panic").ends_with(b"at last"));
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
