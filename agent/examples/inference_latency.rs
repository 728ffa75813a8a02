//! What the inference sidecar adds to an inference: clients that ask a model server directly and through the sidecar by turns.
//!
//! ```text
//! cargo run --release -p driftglass-agent --example inference_latency -- benches/frames/1080p-420.jpg
//! ```
//!
//! Server, sidecar and client are threads of this process with connections of their own over loopback; the server answers at once. Fails
//! where the median with the sidecar is beyond the one without by more than the limit. For bodies of more than a megabyte there is none,
//! because that many bytes take longer over one more connection, whoever passes them on: beside each stands a relay that only copies.
#![expect(clippy::print_stdout, reason = "a program for a terminal")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use driftglass_agent::config::{Config, Overrides};
use driftglass_agent::host::clock;
use driftglass_agent::source::{Running, prepare};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

type Fault = Box<dyn Error + Send + Sync>;

/// Turns of each measurement; a fifth of them first, to warm up.
const TURNS: usize = 2000;
/// What the sidecar may add at the median, to bodies of at most so many bytes.
const LIMIT: Duration = Duration::from_micros(200);
const LIMITED: usize = 1_000_000;
/// Most bytes that the relay beside it copies at a time.
const PIECE: usize = 256 * 1024;
const ANSWER: &str =
    r#"{"model_name":"m","outputs":[{"name":"p","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}]}"#;
const JSON_PATH: &str = "/v2/models/m/infer";
const GRPC_PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// One kind of inference.
struct Inference {
    what: String,
    version: Version,
    body: Bytes,
    /// Length of the JSON before tensors in binary.
    json: Option<usize>,
}

/// A field of bytes, as Protocol Buffers write it.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let (mut bytes, mut length) = (vec![number << 3 | 2], content.len());
    while length >= 0x80 {
        bytes.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes()[0]);
    bytes.extend_from_slice(content);
    bytes
}

/// A message of gRPC.
fn message(parts: &[Vec<u8>]) -> Result<Bytes, Fault> {
    let content = parts.concat();
    let length = u32::try_from(content.len())?.to_be_bytes();
    Ok([&[0][..], &length, &content].concat().into())
}

/// A picture as text in JSON, and over gRPC; tensors in binary over both, of a few numbers and of a picture's pixels.
fn inferences(picture: &[u8]) -> Result<Vec<Inference>, Fault> {
    let jpeg = format!("a JPEG of {} KB", picture.len() / 1000);
    let text = STANDARD.encode(picture);
    let as_json = format!(
        r#"{{"inputs":[{{"name":"image","shape":[1],"datatype":"BYTES","parameters":{{"content_type":"base64"}},"data":["{text}"]}}]}}"#
    );
    let length = u32::try_from(picture.len())?.to_le_bytes();
    let input = [field(1, b"image"), field(2, b"BYTES"), field(3, &[1])].concat();
    let with_picture = message(&[field(1, b"m"), field(5, &input), field(7, &[&length[..], picture].concat())])?;
    let (one, two) = (Version::HTTP_11, Version::HTTP_2);
    let mut all = vec![
        Inference { what: format!("HTTP/1.1, JSON with {jpeg}"), version: one, body: as_json.into(), json: None },
        Inference { what: format!("gRPC, {jpeg}"), version: two, body: with_picture, json: None },
    ];
    for (tensor, datatype, shape, packed) in [
        (vec![64; 4096], "FP32", "[1,1024]", &[1, 0x80, 8][..]),
        (vec![64; 640 * 640 * 3], "UINT8", "[1,640,640,3]", &[1, 0x80, 5, 0x80, 5, 3]),
    ] {
        let size = tensor.len();
        let what = format!("a tensor of {size} bytes");
        let head = format!(
            r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#
        );
        let input = [field(1, b"x"), field(2, datatype.as_bytes()), field(3, packed)].concat();
        let call = message(&[field(1, b"m"), field(5, &input), field(7, &tensor)])?;
        let (json, body) = (Some(head.len()), [head.into_bytes(), tensor].concat().into());
        all.push(Inference { what: format!("HTTP/1.1, {what}"), version: one, json, body });
        all.push(Inference { what: format!("gRPC, {what}"), version: two, body: call, json: None });
    }
    Ok(all)
}

enum Client {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    async fn connect(address: SocketAddr, version: Version) -> Result<Self, Fault> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        Ok(if version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Self::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Self::One(sender)
        })
    }

    async fn ask(&mut self, inference: &Inference) -> Result<Duration, Fault> {
        let request = match (inference.version, inference.json) {
            (Version::HTTP_2, _) => Request::post(format!("http://model{GRPC_PATH}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers"),
            (_, Some(length)) => Request::post(JSON_PATH)
                .header("host", "model")
                .header("content-type", "application/octet-stream")
                .header("inference-header-content-length", length),
            (_, None) => Request::post(JSON_PATH).header("host", "model").header("content-type", "application/json"),
        };
        let request = request.body(Full::new(inference.body.clone()))?;
        let began = Instant::now();
        let response = match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Two(sender) => sender.send_request(request).await?,
        };
        let status = response.status();
        response.into_body().collect().await?;
        if status.is_success() { Ok(began.elapsed()) } else { Err(format!("answered with {status}").into()) }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Fault> {
    let is_grpc = request.version() == Version::HTTP_2;
    request.into_body().collect().await?;
    if !is_grpc {
        return Ok(Response::builder().header("content-type", "application/json").body(Full::from(ANSWER).boxed())?);
    }
    let scores: Vec<u8> = [0.25_f32, 0.75].iter().flat_map(|score| score.to_le_bytes()).collect();
    let output = [field(1, b"p"), field(2, b"FP32"), field(3, &[1, 2])].concat();
    let answer = message(&[field(1, b"m"), field(5, &output), field(6, &scores)])?;
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(answer).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    Ok(Response::builder().header("content-type", "application/grpc").body(body)?)
}

async fn serve(listener: TcpListener) -> Result<Infallible, std::io::Error> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut first = [0; 3];
        tokio::spawn(async move {
            stream.peek(&mut first).await.ok();
            let io = TokioIo::new(stream);
            if &first == b"PRI" {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.serve_connection(io, service_fn(answer)).await.ok();
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(answer)).await.ok();
            }
        });
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Begins a sidecar before the server; takes frames out as a pipeline would.
fn sidecar(upstream: SocketAddr, settings: &str) -> Result<SocketAddr, Fault> {
    let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let text = format!(
        "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"h:1\"\n[[camera]]\nname = \"c\"\n\
         source = {{ kind = \"inference\", listen = \"{listen}\", upstream = \"{upstream}\"{settings} }}\n"
    );
    let config =
        Config::resolve(Path::new("here"), &text, &Overrides::default()).map_err(|faults| faults.to_string())?;
    std::thread::spawn(move || {
        let Ok(runtime) = runtime() else { return };
        runtime.block_on(async {
            let mut running = Running::new(clock::now, || 0);
            let outside = running.outside();
            let pairs = config.cameras().iter().map(|camera| prepare(&camera.name, &camera.source, &outside));
            let (mut sources, prepared): (Vec<_>, Vec<_>) = pairs.unzip();
            running.start(prepared).await;
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                for source in &mut sources {
                    while source.poll(clock::now()).is_some() {}
                }
            }
        });
    });
    while std::net::TcpStream::connect(listen).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(listen)
}

/// Begins what a hop costs at least: a relay of the runtime's own that copies and looks at nothing.
fn bare(upstream: SocketAddr) -> Result<SocketAddr, Fault> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let listen = listener.local_addr()?;
    std::thread::spawn(move || {
        let Ok(runtime) = runtime() else { return };
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(upstream).await?;
                    client.set_nodelay(true)?;
                    server.set_nodelay(true)?;
                    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, PIECE, PIECE).await
                });
            }
        });
    });
    Ok(listen)
}

fn main() -> Result<(), Fault> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let upstream = listener.local_addr()?;
    std::thread::spawn(move || {
        let Ok(runtime) = runtime() else { return };
        runtime.block_on(async {
            if let Ok(listener) = TcpListener::from_std(listener) {
                serve(listener).await.ok();
            }
        });
    });
    let sampled = sidecar(upstream, ", fps = 1")?;
    let every = sidecar(upstream, "")?;
    let bare = bare(upstream)?;
    let picture = std::fs::read(std::env::args().nth(1).ok_or("usage: inference_latency PICTURE")?)?;
    let runtime = runtime()?;
    let mut within = true;
    for inference in inferences(&picture)? {
        let mut ways = Vec::new();
        for address in [upstream, bare, sampled, every] {
            ways.push((runtime.block_on(Client::connect(address, inference.version))?, Vec::new()));
        }
        for turn in 0..TURNS + TURNS / 5 {
            for (client, times) in &mut ways {
                let time = runtime.block_on(client.ask(&inference))?;
                if turn >= TURNS / 5 {
                    times.push(time);
                }
            }
        }
        let mut medians = ways.iter_mut().map(|(_, times)| median(times));
        let direct = medians.next().unwrap_or_default();
        let hop = medians.next().unwrap_or_default().saturating_sub(direct);
        for (with, looking) in medians.zip(["looking once a second", "looking at every one"]) {
            let added = with.saturating_sub(direct);
            let limit = if inference.body.len() <= LIMITED {
                within &= added <= LIMIT;
                format!("limit {} µs, ratio {:.2}", LIMIT.as_micros(), added.as_secs_f64() / LIMIT.as_secs_f64())
            } else {
                "no limit".to_owned()
            };
            let times = added.as_secs_f64() / hop.as_secs_f64();
            println!(
                "{}: median {} µs without the sidecar, {} µs with it, {looking}: {} µs more; {limit}; a bare relay {} µs, ratio {times:.2}",
                inference.what,
                direct.as_micros(),
                with.as_micros(),
                added.as_micros(),
                hop.as_micros(),
            );
        }
    }
    if within { Ok(()) } else { Err("the sidecar adds more than it may".into()) }
}
