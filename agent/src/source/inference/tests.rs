//! A fault in looking, which only from within can be brought about.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::*;
use crate::config::{Config, Overrides, SourceKind};
use crate::source::live::tests::pair;

fn panics(_: &reading::Exchange, _: &InferenceConfig) -> Result<reading::Reading, Unread> {
    panic!("a fault on purpose")
}

#[tokio::test]
async fn a_panic_while_looking_is_counted_and_the_inferences_go_on() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = upstream.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = upstream.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.ok();
                }
            });
        }
    });
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let text = format!(
        "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"h:1\"\n[[camera]]\nname = \"door\"\n\
         source = {{ kind = \"inference\", listen = \"{free}\", upstream = \"{server}\" }}\n"
    );
    let config = Config::resolve(std::path::Path::new("agent.toml"), &text, &Overrides::default()).expect("good");
    let source = &config.cameras()[0].source;
    let SourceKind::Inference(settings) = &source.kind else { panic!("{source:?}") };
    let (_stop, feed, _live) = pair(1000);
    let figures = Figures::default();
    let mut proxy = Proxy::new(settings, panics);
    proxy.cameras.push(Camera::new((**settings).clone(), feed, None, &figures));
    let running = proxy.start().await.expect("starts");
    proxy.running = Some(running);

    let stream = TcpStream::connect(free).await.expect("a connection");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    for _ in 0..20 {
        let request =
            Request::post("/v2/models/m/infer").header("host", "m").body(Empty::<Bytes>::new()).expect("good");
        let response = sender.send_request(request).await.expect("answered");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.expect("whole").to_bytes(), "ok");
    }
    let counted = || -> f64 {
        let metrics = figures.collectors().into_iter().flat_map(|figure| figure.collect());
        let unobserved = metrics.filter(|family| family.name().ends_with("unobserved_total"));
        unobserved.flat_map(|family| family.get_metric().to_vec()).map(|metric| metric.get_counter().get_value()).sum()
    };
    for _ in 0..500 {
        if counted() >= 20.0 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(counted(), 20.0);
    drop(sender);
    proxy.close().await;
}
