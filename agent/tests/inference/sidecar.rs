//! A sidecar as a configuration file would start it, model servers to stand behind it, and a client that keeps every byte.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use driftglass_agent::config::{Config, Overrides};
use driftglass_agent::host::clock;
use driftglass_agent::prediction::Heard;
use driftglass_agent::source::{Condition, FrameSource, Health, Running, Status, prepare};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn jpeg(seed: u8) -> Vec<u8> {
    let image = image::RgbImage::from_fn(64, 48, |x, y| {
        image::Rgb([(x * 3).to_le_bytes()[0], (y * 5).to_le_bytes()[0].wrapping_add(seed), seed])
    });
    let mut bytes = Vec::new();
    image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).expect("encoded");
    bytes
}

/// An address that is free a moment later, too.
pub(crate) fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}

pub(crate) struct Sidecar {
    pub(crate) address: SocketAddr,
    pub(crate) truths: SocketAddr,
    pub(crate) sources: Vec<FrameSource>,
    statuses: Vec<Arc<Status>>,
    registry: Registry,
    running: Running,
}

impl Sidecar {
    /// One camera in front of a server, with further settings.
    pub(crate) async fn before(upstream: SocketAddr, settings: &str) -> Self {
        Self::of(&["door"], upstream, settings).await
    }

    pub(crate) async fn of(cameras: &[&str], upstream: SocketAddr, settings: &str) -> Self {
        let (address, truths) = (free(), free());
        let mut text = "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"h:1\"\n".to_owned();
        for name in cameras {
            text.push_str(&format!(
                "[[camera]]\nname = \"{name}\"\nsource = {{ kind = \"inference\", listen = \"{address}\", \
                 upstream = \"{upstream}\", outcomes = \"{truths}\"{}{settings} }}\n",
                if settings.is_empty() { "" } else { ", " },
            ));
        }
        let config = Config::resolve(Path::new("agent.toml"), &text, &Overrides::default());
        let config = config.unwrap_or_else(|faults| panic!("{faults}"));
        let mut running = Running::new(clock::now, rand::random::<u64>);
        let outside = running.outside();
        let registry = Registry::new();
        running.figures().into_iter().for_each(|figure| registry.register(figure).expect("registered"));
        let pairs = config.cameras().iter().map(|camera| prepare(&camera.name, &camera.source, &outside));
        let (sources, prepared): (Vec<_>, Vec<_>) = pairs.unzip();
        running.start(prepared).await;
        let statuses = running.statuses();
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < end, "the sidecar listens");
            sleep(Duration::from_millis(5)).await;
        }
        Self { address, truths, sources, statuses, registry, running }
    }

    /// The next thing that comes from a camera: what it is, the picture, what was said.
    pub(crate) async fn next(&mut self, camera: usize) -> (Condition, Vec<u8>, Option<Heard>) {
        let end = Instant::now() + PATIENCE;
        loop {
            let source = self.sources.get_mut(camera).expect("a camera");
            if let Some(candidate) = source.poll(clock::now()) {
                let heard = source.heard().cloned();
                let picture = match candidate.condition {
                    Condition::Ready => source.read(&candidate).expect("read").expect("there").to_vec(),
                    _ => Vec::new(),
                };
                return (candidate.condition, picture, heard);
            }
            assert!(Instant::now() < end, "nothing came:\n{}", self.figures());
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn figures(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("encoded");
        String::from_utf8(text).expect("text")
    }

    /// Waits for a figure, which is part of a line.
    pub(crate) async fn shows(&self, line: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.figures().contains(line) {
            assert!(Instant::now() < end, "{line} is not in:\n{}", self.figures());
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.statuses.first().expect("a camera").health()
    }

    /// Tells it to stop; ends when it has.
    pub(crate) async fn end(self) {
        timeout(PATIENCE, self.running.end_all()).await.expect("it ends when it is told to");
    }
}

pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

pub(crate) fn full(body: impl Into<Bytes>) -> BoxBody<Bytes, Infallible> {
    Full::new(body.into()).boxed()
}

pub(crate) async fn whole(request: Request<Incoming>) -> Bytes {
    request.into_body().collect().await.expect("a body").to_bytes()
}

/// A model server of HTTP/1.
pub(crate) async fn server<S, F>(answer: S) -> SocketAddr
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    each_connection(move |stream| {
        let service = answering(answer.clone());
        let mut builder = http1::Builder::new();
        builder.auto_date_header(false);
        async move { builder.serve_connection(TokioIo::new(stream), service).await }
    })
    .await
}

/// A model server of HTTP/2.
pub(crate) async fn server_two<S, F>(answer: S) -> SocketAddr
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    each_connection(move |stream| {
        let service = answering(answer.clone());
        async move { http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await }
    })
    .await
}

fn answering<S, F>(
    answer: S,
) -> impl Service<Request<Incoming>, Response = Answer, Error = Infallible, Future: Send + 'static> + Send
where
    S: Fn(Request<Incoming>) -> F + Send,
    F: Future<Output = Answer> + Send + 'static,
{
    service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    })
}

/// A server of whatever, connection by connection.
pub(crate) async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    each_connection(serve).await
}

/// Accepts connections and lets each run to its end.
async fn each_connection<F, E>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Sends bytes on a new connection and says that nothing follows by `Connection: close` in them; every byte that comes back.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end").expect("read");
    answer
}

/// A request with a body as its bytes.
pub(crate) fn post(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: model\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// An answer without what speaks of its connection, and its fields in order of their names: what a client can see of it.
pub(crate) fn seen(answer: &[u8]) -> (Vec<String>, Vec<u8>) {
    let answer = answer.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(answer);
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("a header");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines: Vec<_> = head.split("\r\n").filter(|line| *line != "connection: close").map(str::to_owned).collect();
    lines[1..].sort();
    (lines, answer[end + 4..].to_vec())
}
