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

mod cameras;
mod programs;
mod pushers;

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
