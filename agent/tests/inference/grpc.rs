//! HTTP/2: gRPC calls of every kind pass with their trailers, and one kind is looked at.

use std::convert::Infallible;
use std::net::SocketAddr;

use driftglass_agent::source::Condition;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Channel};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::sidecar::{Answer, PATIENCE, Sidecar, free, full, jpeg, server_two};

type Sender = http2::SendRequest<BoxBody<Bytes, Infallible>>;

async fn connect(address: SocketAddr) -> Sender {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(async move { connection.await.ok() });
    sender
}

fn call(path: &str, body: BoxBody<Bytes, Infallible>) -> Request<BoxBody<Bytes, Infallible>> {
    Request::post(format!("http://model{path}"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "5S")
        .header("some-bin", "AAEC")
        .body(body)
        .expect("a request")
}

fn message(content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).expect("short").to_be_bytes();
    [&[0][..], &length, content].concat().into()
}

/// A field of bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let (mut bytes, mut length) = (vec![number << 3 | 2], content.len());
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).expect("seven bits"));
    bytes.extend_from_slice(content);
    bytes
}

fn trailers(status: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    trailers.insert("custom-trailer-bin", HeaderValue::from_static("AQID"));
    trailers
}

fn answered(messages: Vec<Bytes>, status: &'static str) -> Answer {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for message in messages {
            sender.send_data(message).await.expect("sent");
        }
        sender.send_trailers(trailers(status)).await.expect("sent");
    });
    let response = Response::builder().header("content-type", "application/grpc").header("custom", "1");
    response.body(body.boxed()).expect("a response")
}

/// Scores 0.125 and 0.875 of model "m", version "3".
fn infer_answer() -> Bytes {
    let scores: Vec<u8> = [0.125_f32, 0.875].iter().flat_map(|score| score.to_le_bytes()).collect();
    let output = [field(1, b"scores"), field(2, b"FP32"), field(3, &[1, 2])].concat();
    message(&[field(1, b"m"), field(2, b"3"), field(3, b"call-1"), field(5, &output), field(6, &scores)].concat())
}

fn infer_request(picture: &[u8]) -> Bytes {
    let length = u32::try_from(picture.len()).expect("short").to_le_bytes();
    let input = [field(1, b"image"), field(2, b"BYTES"), field(3, &[1])].concat();
    message(&[field(1, b"m"), field(5, &input), field(7, &[&length[..], picture].concat())].concat())
}

async fn services(request: Request<Incoming>) -> Answer {
    match request.uri().path() {
        "/inference.GRPCInferenceService/ModelInfer" => {
            request.into_body().collect().await.expect("a request");
            answered(vec![infer_answer()], "0")
        }
        // Trailers only.
        "/unknown.Service/Refuses" => Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "12")
            .header("grpc-message", "no such method")
            .body(full(""))
            .expect("a response"),
        // Both directions at once, message by message.
        _ => {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    let Ok(piece) = frame.into_data() else { continue };
                    sender.send_data(piece).await.expect("sent");
                }
                sender.send_trailers(trailers("0")).await.expect("sent");
            });
            Response::builder().header("content-type", "application/grpc").body(body.boxed()).expect("a response")
        }
    }
}

async fn collected(response: Response<Incoming>) -> (HeaderMap, Bytes, Option<HeaderMap>) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body");
    let trailers = body.trailers().cloned();
    (head.headers, body.to_bytes(), trailers)
}

#[tokio::test]
async fn a_call_is_answered_the_same_with_and_without_and_becomes_a_frame() {
    let upstream = server_two(services).await;
    let mut sidecar = Sidecar::before(upstream, "classes = [\"empty\", \"person\"]").await;
    let picture = jpeg(1);
    let ask = async |address| {
        let mut sender = connect(address).await;
        let request = call("/inference.GRPCInferenceService/ModelInfer", full(infer_request(&picture)));
        collected(sender.send_request(request).await.expect("answered")).await
    };
    let strip = |(mut head, body, trailers): (HeaderMap, Bytes, Option<HeaderMap>)| {
        head.remove("date");
        (head, body, trailers)
    };
    assert_eq!(strip(ask(upstream).await), strip(ask(sidecar.address).await));
    let (condition, seen, heard) = sidecar.next(0).await;
    assert_eq!((condition, seen), (Condition::Ready, picture));
    let heard = heard.expect("heard");
    let model = heard.model.expect("told");
    assert_eq!((model.name.as_str(), model.version.as_str()), ("m", "3"));
    assert_eq!((heard.labels, heard.prediction.confidence.to_f64()), (vec!["person".to_owned()], 0.875));
    assert!(heard.prediction.latency.is_some());
    sidecar.shows("requests_total{camera=\"door\",outcome=\"ok\"} 1").await;
    sidecar.end().await;
}

#[tokio::test]
async fn unknown_services_streams_and_refusals_pass() {
    let upstream = server_two(services).await;
    let sidecar = Sidecar::before(upstream, "").await;
    let mut sender = connect(sidecar.address).await;
    let refused = sender.send_request(call("/unknown.Service/Refuses", full(message(b"x")))).await.expect("answered");
    let (head, body, _) = collected(refused).await;
    assert_eq!((head.get("grpc-status").expect("told").as_bytes(), body.len()), (&b"12"[..], 0));
    let (mut asks, body) = Channel::<Bytes, Infallible>::new(1);
    asks.send_data(message(b"first")).await.expect("sent");
    let response = sender.send_request(call("/some.Chat/Talk", body.boxed())).await.expect("begun");
    let mut answers = response.into_body();
    let mut next = async || timeout(PATIENCE, answers.frame()).await.expect("in time").expect("more").expect("whole");
    assert_eq!(next().await.into_data().expect("a message"), message(b"first"));
    let large = message(&vec![5; 3 << 20]);
    let sent = large.clone();
    let sending = tokio::spawn(async move {
        asks.send_data(message(b"second")).await.expect("sent");
        asks.send_data(sent).await.expect("sent");
    });
    let (mut got, wanted) = (Vec::new(), [message(b"second"), large].concat());
    while got.len() < wanted.len() {
        got.extend_from_slice(&next().await.into_data().expect("a message"));
    }
    assert!(got == wanted);
    sending.await.expect("sent");
    assert_eq!(next().await.into_trailers().expect("the end"), trailers("0"));
    assert!(!sidecar.figures().contains("outcome=\"ok\"} 1"), "calls that are no inference are not counted");
    sidecar.end().await;
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let upstream = server_two(services).await;
    let sidecar = Sidecar::before(upstream, "fps = 0.001").await;
    let sender = connect(sidecar.address).await;
    let calls = (0..100).map(|_| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let request = call("/inference.GRPCInferenceService/ModelInfer", full(infer_request(&jpeg(2))));
            collected(sender.send_request(request).await.expect("answered")).await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let (_, body, trailers) = call.await.expect("no panic");
        assert_eq!((body, trailers.is_some()), (infer_answer(), true));
    }
    sidecar.shows("requests_total{camera=\"door\",outcome=\"ok\"} 100").await;
    sidecar.shows("latency_seconds_count{camera=\"door\"} 100").await;
    sidecar.end().await;
}

#[tokio::test]
async fn without_a_server_a_call_is_unavailable() {
    let sidecar = Sidecar::before(free(), "").await;
    let mut sender = connect(sidecar.address).await;
    let request = call("/inference.GRPCInferenceService/ModelInfer", full(infer_request(b"")));
    let (head, body, _) = collected(sender.send_request(request).await.expect("answered")).await;
    assert_eq!((head.get("grpc-status").expect("told").as_bytes(), body.len()), (&b"14"[..], 0));
    assert!(head.get("grpc-message").expect("told").to_str().expect("text").contains("cannot be reached"));
    sidecar.shows("requests_total{camera=\"door\",outcome=\"unreachable\"} 1").await;
    sidecar.end().await;
}
