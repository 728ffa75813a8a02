//! What must not happen, and what is said when it does.

use std::net::SocketAddr;
use std::time::Duration;

use driftglass_agent::source::{Condition, Health};
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::sidecar::{PATIENCE, Sidecar, exchange, free, full, post, raw, seen, server, whole};

/// Answers every connection with these bytes and closes it.
async fn blurting(answer: &'static [u8]) -> SocketAddr {
    raw(async |mut stream| {
        let mut buffer = [0; 65536];
        if stream.read(&mut buffer).await? > 0 {
            stream.write_all(answer).await?;
        }
        Ok(())
    })
    .await
}

fn infer() -> Vec<u8> {
    post("/v2/models/m/infer", "", br#"{"inputs":[]}"#)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn without_a_server_there_is_a_clear_answer_and_with_one_again_the_right_one() {
    let upstream = free();
    let mut sidecar = Sidecar::before(upstream, "").await;
    let answer = text(&exchange(sidecar.address, &infer()).await);
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("cannot be reached"), "{answer}");
    sidecar.shows("requests_total{camera=\"door\",outcome=\"unreachable\"} 1").await;
    let health = sidecar.health();
    assert!(
        matches!(&health, Health::Failed { reason: "upstream", message, .. } if message.contains(&upstream.to_string()))
    );
    let listener = TcpListener::bind(upstream).await.expect("still free");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            if let Ok(1..) = stream.read(&mut buffer).await {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n{\"outputs\":[{\"name\":\"p\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[0,1]}]}";
                stream.write_all(answer).await.ok();
            }
        }
    });
    let answer = text(&exchange(sidecar.address, &infer()).await);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    sidecar.shows("outcome=\"ok\"} 1").await;
    drop(sidecar.sources.pop());
    sidecar.end().await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_cut_off_for_the_client_too() {
    let upstream = blurting(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this").await;
    let sidecar = Sidecar::before(upstream, "").await;
    let answer = exchange(sidecar.address, &infer()).await;
    assert_eq!(seen(&answer), seen(&exchange(upstream, &infer()).await));
    sidecar.shows("outcome=\"broken\"} 1").await;
    sidecar.end().await;
    let upstream = blurting(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n").await;
    let sidecar = Sidecar::before(upstream, "").await;
    let answer = text(&exchange(sidecar.address, &infer()).await);
    assert!(answer.contains("only") && !answer.contains("\r\n0\r\n"), "it must not look complete: {answer}");
    sidecar.shows("outcome=\"broken\"} 1").await;
    sidecar.end().await;
    let upstream = blurting(b"").await;
    let sidecar = Sidecar::before(upstream, "").await;
    assert_eq!(exchange(sidecar.address, &infer()).await, exchange(upstream, &infer()).await);
    sidecar.shows("outcome=\"unreachable\"} 1").await;
    let Health::Failed { reason: "upstream", message, .. } = sidecar.health() else { panic!("{:?}", sidecar.health()) };
    assert!(message.contains("without an answer"), "{message}");
    sidecar.end().await;
}

#[tokio::test]
async fn a_connection_that_breaks_breaks_on_both_sides() {
    let resetting = raw(async |mut stream| {
        let mut buffer = [0; 65536];
        if stream.read(&mut buffer).await? > 0 {
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nthe length is not told").await?;
            sleep(Duration::from_millis(100)).await;
            stream.set_zero_linger()?;
        }
        Ok(())
    })
    .await;
    let sidecar = Sidecar::before(resetting, "").await;
    for address in [resetting, sidecar.address] {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(&infer()).await.expect("sent");
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
        assert_eq!(read.expect_err("no end in order").kind(), std::io::ErrorKind::ConnectionReset);
        assert!(answer.ends_with(b"not told"), "{}", text(&answer));
    }
    sidecar.shows("outcome=\"broken\"} 1").await;
    sidecar.end().await;
    let (ends, mut ended) = tokio::sync::mpsc::channel(8);
    let waiting = raw(move |mut stream| {
        let ends = ends.clone();
        async move {
            let mut buffer = [0; 65536];
            while stream
                .read(&mut buffer)
                .await
                .map_err(|error| ends.try_send(error.kind()))
                .is_ok_and(|count| count > 0)
            {}
            Ok(())
        }
    })
    .await;
    let sidecar = Sidecar::before(waiting, "").await;
    let mut stream = TcpStream::connect(sidecar.address).await.expect("a connection");
    stream.write_all(&infer()).await.expect("sent");
    sleep(Duration::from_millis(100)).await;
    stream.set_zero_linger().expect("set");
    drop(stream);
    let end = timeout(PATIENCE, ended.recv()).await.expect("in time");
    assert_eq!(end, Some(std::io::ErrorKind::ConnectionReset));
    sidecar.shows("outcome=\"broken\"} 1").await;
    sidecar.end().await;
}

#[tokio::test]
async fn what_is_no_http_passes_both_ways_and_that_it_is_not_seen_is_said() {
    let echo = raw(async |mut stream| {
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.map(drop)
    })
    .await;
    let sidecar = Sidecar::before(echo, "").await;
    // As TLS begins.
    let hello: Vec<u8> = [0x16, 3, 1, 2, 0].into_iter().chain((0..=255).cycle().take(700_000)).collect();
    let mut stream = TcpStream::connect(sidecar.address).await.expect("a connection");
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; hello.len()];
    let (sent, received) = tokio::join!(to.write_all(&hello), from.read_exact(&mut back));
    sent.expect("sent");
    received.expect("received");
    assert!(back == hello);
    let Health::Failed { reason: "unread", message, .. } = sidecar.health() else { panic!("{:?}", sidecar.health()) };
    assert!(message.contains("is TLS") && message.contains(&sidecar.address.to_string()), "{message}");
    drop(stream);
    sidecar.end().await;
}

#[tokio::test]
async fn a_giant_header_is_for_the_server_to_refuse_and_disturbs_nobody() {
    let upstream = server(async |_| Response::new(full("fine"))).await;
    let sidecar = Sidecar::before(upstream, "").await;
    let giant = format!("GET / HTTP/1.1\r\nHost: m\r\nX-Giant: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = TcpStream::connect(sidecar.address).await.expect("a connection");
    // It may be refused before all of it was taken.
    stream.write_all(giant.as_bytes()).await.ok();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end").ok();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{}", text(&answer));
    let many = format!("GET / HTTP/1.1\r\nHost: m\r\n{}\r\n", "X-A: b\r\n".repeat(1000));
    assert_eq!(exchange(sidecar.address, many.as_bytes()).await, exchange(upstream, many.as_bytes()).await);
    let fine = exchange(sidecar.address, b"GET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").await;
    assert!(fine.ends_with(b"fine"));
    sidecar.end().await;
}

#[tokio::test]
async fn what_cannot_be_read_passes_and_is_told() {
    let upstream = server(async |request| Response::new(full(whole(request).await))).await;
    let mut sidecar = Sidecar::before(upstream, "max_body = \"64KiB\"").await;
    for (body, fields, reason) in [
        ("{\"inputs\": [", "", "malformed"),
        ("{\"inputs\": []}", "Content-Encoding: gzip\r\n", "compressed"),
        ("{}", "Inference-Header-Content-Length: 100\r\n", "malformed"),
        ("{\"outputs\": []}", "", "nothing"),
        (&"x".repeat(65_537), "", "too_large"),
    ] {
        let request = post("/v2/models/m/infer", fields, body.as_bytes());
        assert_eq!(seen(&exchange(sidecar.address, &request).await), seen(&exchange(upstream, &request).await));
        sidecar.shows(&format!("reason=\"{reason}\"}}")).await;
        assert!(matches!(sidecar.health(), Health::Failed { reason: "unread", .. }), "{:?}", sidecar.health());
    }
    sidecar.shows("reason=\"malformed\"} 2").await;
    assert!(sidecar.sources[0].poll(driftglass_agent::host::clock::now()).is_none());
    drop(sidecar.sources.pop());
    sidecar.end().await;
}

#[tokio::test]
async fn while_too_many_are_looked_at_further_ones_pass_unseen() {
    let upstream = server(async |request| {
        whole(request).await;
        sleep(Duration::from_secs(1)).await;
        Response::new(full("{}"))
    })
    .await;
    let mut sidecar = Sidecar::before(upstream, "").await;
    let address = sidecar.address;
    let asked: Vec<_> = (0..12).map(|_| tokio::spawn(async move { exchange(address, &infer()).await })).collect();
    for asked in asked {
        assert!(asked.await.expect("no panic").ends_with(b"{}"));
    }
    sidecar.shows("reason=\"busy\"} 8").await;
    sidecar.shows("reason=\"nothing\"} 4").await;
    assert_eq!(sidecar.next(0).await.0, Condition::Skipped(8));
    sidecar.end().await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let upstream = server(async |request| {
        whole(request).await;
        sleep(Duration::from_secs(60)).await;
        Response::new(full("too late"))
    })
    .await;
    let sidecar = Sidecar::before(upstream, "").await;
    let mut stream = TcpStream::connect(sidecar.address).await.expect("a connection");
    stream.write_all(&infer()).await.expect("sent");
    sleep(Duration::from_millis(200)).await;
    drop(stream);
    sidecar.shows("outcome=\"broken\"} 1").await;
    // If the request were still waited for, the sidecar would take its whole time to stop.
    let began = tokio::time::Instant::now();
    sleep(Duration::from_millis(200)).await;
    sidecar.end().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
