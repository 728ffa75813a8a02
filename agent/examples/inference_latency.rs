//! What the inference sidecar adds to an inference: clients that ask a model server directly and through the sidecar by turns.
//!
//! ```text
//! cargo run --release -p driftglass-agent --example inference_latency
//! ```
//!
//! Server, sidecar and client are threads of this process with connections of their own over loopback; the server answers at once.
#![expect(clippy::print_stdout, reason = "a program for a terminal")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use driftglass_agent::config::{Config, Overrides};
use driftglass_agent::host::clock;
use driftglass_agent::source::{Running, prepare};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

type Fault = Box<dyn Error>;

/// Turns of each measurement; a fifth of them first, to warm up.
const TURNS: usize = 2000;
const ANSWER: &str =
    r#"{"model_name":"m","outputs":[{"name":"p","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}]}"#;

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

    async fn ask(&mut self, body: &Bytes) -> Result<Duration, Fault> {
        let request =
            Request::post("http://model/v2/models/m/infer").header("host", "model").body(Full::new(body.clone()))?;
        let began = Instant::now();
        let response = match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Two(sender) => sender.send_request(request).await?,
        };
        response.into_body().collect().await?;
        Ok(began.elapsed())
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    request.into_body().collect().await?;
    Ok(Response::new(Full::from(ANSWER)))
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
    let runtime = runtime()?;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for size in [1_000, 200_000, 1_000_000] {
            // As an inference would be in JSON; what is in it nobody looks for in vain.
            let body = Bytes::from(format!(r#"{{"inputs":[],"padding":"{}"}}"#, "x".repeat(size)));
            let mut ways = Vec::new();
            for address in [upstream, sampled, every] {
                ways.push((runtime.block_on(Client::connect(address, version))?, Vec::new()));
            }
            for turn in 0..TURNS + TURNS / 5 {
                for (client, times) in &mut ways {
                    let time = runtime.block_on(client.ask(&body))?;
                    if turn >= TURNS / 5 {
                        times.push(time);
                    }
                }
            }
            let mut medians = ways.iter_mut().map(|(_, times)| median(times));
            let direct = medians.next().unwrap_or_default();
            let added: Vec<_> =
                medians.map(|way| format!("{:.0}", (way.as_secs_f64() - direct.as_secs_f64()) * 1e6)).collect();
            println!(
                "{version:?}, {size} bytes: {:.0} µs directly; the sidecar adds {} µs at 1 fps, {} µs looking at every inference (medians of {TURNS} turns)",
                direct.as_secs_f64() * 1e6,
                added.first().map_or("?", String::as_str),
                added.get(1).map_or("?", String::as_str),
            );
        }
    }
    Ok(())
}
