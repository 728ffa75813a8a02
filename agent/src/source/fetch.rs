//! Keeps live sources alive: try, say what failed, wait, try again; until the agent stops.
//!
//! Must hold: two attempts are never closer than [`FLOOR`], and the waits between attempts that bring nothing for [`STEADY`] grow as
//! those of the uplink do; a source whose future is dropped leaves nothing behind that runs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::id::Name;
use prometheus::core::Collector;
use tokio::time::sleep;

use super::exec::Exec;
use super::live::{Feed, Limits, Outside, live};
use super::mjpeg::Mjpeg;
use super::push::{Server, Socket};
use super::snapshot::Snapshot;
use super::status::{Failure, Status};
use super::{Directory, FrameSource};
use crate::config::{CameraConfig, HttpSource, SourceConfig, SourceKind};
use crate::uplink::backoff::Backoff;
use crate::window::FrameRate;

/// Least time between two attempts.
const FLOOR: Duration = Duration::from_millis(200);
/// An attempt that delivered for so long was a success, however it ended.
const STEADY: Duration = Duration::from_secs(10);
/// How often those who are pushed to look whether anybody does.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Kind {
    Snapshot(Snapshot),
    Mjpeg(Mjpeg),
    Exec(Exec),
    Socket(Socket, Duration),
    Server(Server, Vec<Duration>),
    #[cfg(feature = "inference")]
    Inference(super::inference::Proxy),
    #[cfg(feature = "rtsp")]
    Rtsp(super::rtsp::Rtsp),
    #[cfg(feature = "v4l2")]
    V4l2(super::v4l2::Device),
}

/// What keeps one live source alive, or all that share a server.
#[derive(Debug)]
pub struct Fetcher {
    kind: Kind,
    feeds: Vec<Feed>,
    outside: Outside,
}

/// Sources ready to begin.
#[derive(Default)]
pub struct Open {
    /// One for each camera, in their order.
    pub sources: Vec<FrameSource>,
    /// What has to run for the live ones.
    pub fetchers: Vec<Fetcher>,
    /// Their states, in the same order.
    pub statuses: Vec<Arc<Status>>,
    /// Figures that some of them keep of their own, for the metrics.
    pub figures: Vec<Box<dyn Collector>>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("sources", &self.sources).field("fetchers", &self.fetchers).finish_non_exhaustive()
    }
}

/// A server and those who share it.
#[derive(Default)]
struct Shared {
    token_file: Option<PathBuf>,
    feeds: Vec<Feed>,
    waits: Vec<Duration>,
}

/// Opens the sources of cameras. `position` says how far the folder of a camera was counted.
#[must_use]
pub fn open(cameras: &[CameraConfig], mut position: impl FnMut(&Name) -> Vec<u8>, outside: &Outside) -> Open {
    let mut open = Open::default();
    let mut servers: BTreeMap<SocketAddr, Shared> = BTreeMap::new();
    #[cfg(feature = "inference")]
    let mut proxies = super::inference::Proxies::default();
    for CameraConfig { name, source, .. } in cameras {
        let mut begin = |place: String| {
            let limits = Limits { bytes: source.max_frame, pixels: source.max_pixels };
            let (feed, live) = live(Status::new(name.clone(), place), limits, outside.clone());
            open.statuses.push(Arc::clone(live.status()));
            open.sources.push(FrameSource::Live(live));
            feed
        };
        let (kind, feed) = match &source.kind {
            SourceKind::Directory { path, .. } => {
                let status = Arc::new(Status::new(name.clone(), path.display().to_string()));
                let folder = Directory::watched(path.clone(), position(name)).telling(Arc::clone(&status));
                open.statuses.push(status);
                open.sources.push(FrameSource::Directory(folder));
                continue;
            }
            SourceKind::PushHttp { listen, token_file } => {
                let feed = begin(format!("http://{listen}/{name}"));
                let server = servers.entry(*listen).or_default();
                server.token_file.clone_from(token_file);
                server.feeds.push(feed);
                server.waits.push(source.timeout);
                continue;
            }
            #[cfg(feature = "inference")]
            SourceKind::Inference(inference) => {
                let feed = begin(format!("http://{} for {}", inference.listen, inference.upstream));
                proxies.add(inference, feed, source);
                continue;
            }
            SourceKind::Snapshot(http) => (snapshot(http, source), begin(http.address.to_string())),
            SourceKind::Mjpeg(HttpSource { address, certificates }) => {
                let mjpeg = Mjpeg::new(address.clone(), certificates.clone(), source.timeout);
                (Kind::Mjpeg(mjpeg), begin(address.to_string()))
            }
            SourceKind::Exec(command) => {
                (Kind::Exec(Exec::new(command.clone(), source.timeout)), begin(command.name()))
            }
            SourceKind::PushSocket(path) => {
                let socket = Socket::new(path.clone(), source.timeout);
                (Kind::Socket(socket, source.timeout), begin(path.display().to_string()))
            }
            #[cfg(feature = "rtsp")]
            SourceKind::Rtsp { address, udp } => {
                let rtsp = super::rtsp::Rtsp::new(address.clone(), *udp, source.timeout);
                (Kind::Rtsp(rtsp), begin(address.to_string()))
            }
            #[cfg(feature = "v4l2")]
            SourceKind::V4l2 { device, size } => {
                let camera = super::v4l2::Device::new(device.clone(), *size, source.timeout);
                (Kind::V4l2(camera), begin(device.display().to_string()))
            }
            // The configuration refuses what this program was built without.
            #[cfg(not(all(feature = "rtsp", feature = "v4l2", feature = "inference")))]
            _ => {
                begin("a kind this program was built without".into());
                continue;
            }
        };
        open.fetchers.push(Fetcher { kind, feeds: vec![feed], outside: outside.clone() });
    }
    for (listen, Shared { token_file, feeds, waits }) in servers {
        let server = Server::new(listen, token_file, feeds.clone());
        open.fetchers.push(Fetcher { kind: Kind::Server(server, waits), feeds, outside: outside.clone() });
    }
    #[cfg(feature = "inference")]
    for (proxy, feeds) in proxies.finish(&mut open.figures) {
        open.fetchers.push(Fetcher { kind: Kind::Inference(proxy), feeds, outside: outside.clone() });
    }
    open
}

fn snapshot(http: &HttpSource, source: &SourceConfig) -> Kind {
    let micros = source.rate.map_or(1_000_000, FrameRate::period_micros);
    let period = Duration::from_micros(u64::try_from(micros).unwrap_or(1_000_000).max(1));
    Kind::Snapshot(Snapshot::new(http.address.clone(), http.certificates.clone(), source.timeout, period))
}

impl Fetcher {
    /// Runs until the agent stops.
    pub async fn run(mut self) {
        let outside = self.outside.clone();
        let mut backoff = Backoff::default();
        loop {
            let began = (outside.now)().elapsed;
            let before = self.delivered();
            let failure = tokio::select! {
                biased;
                () = outside.stopped() => break,
                failure = self.kind.attempt(&self.feeds) => failure,
            };
            for feed in &self.feeds {
                feed.failed(&failure);
            }
            self.kind.close().await;
            let steady = match self.kind {
                // Its own rate keeps it from spinning.
                Kind::Snapshot(_) => Duration::ZERO,
                _ => STEADY,
            };
            if self.delivered() > before && (outside.now)().elapsed.saturating_sub(began) >= steady {
                backoff.reset();
            }
            let wait = backoff.next_delay((outside.random)()).max(FLOOR);
            tokio::select! {
                biased;
                () = outside.stopped() => break,
                () = sleep(wait) => {}
            }
        }
        self.kind.close().await;
    }

    fn delivered(&self) -> u64 {
        self.feeds.iter().map(|feed| feed.status().pictures()).sum()
    }
}

impl Kind {
    async fn attempt(&mut self, feeds: &[Feed]) -> Failure {
        if let Self::Server(server, waits) = self {
            let pairs = feeds.iter().zip(waits.iter().copied());
            return tokio::select! {
                failure = server.attempt() => failure,
                failure = silence(pairs.collect()) => failure,
            };
        }
        #[cfg(feature = "inference")]
        if let Self::Inference(proxy) = self {
            let pairs = feeds.iter().zip(proxy.waits());
            let silence = silence(pairs.collect());
            return tokio::select! {
                failure = proxy.attempt() => failure,
                failure = silence => failure,
            };
        }
        let Some(feed) = feeds.first() else { return Failure::Ended };
        match self {
            Self::Snapshot(snapshot) => snapshot.attempt(feed).await,
            Self::Mjpeg(mjpeg) => mjpeg.attempt(feed).await,
            Self::Exec(exec) => exec.attempt(feed).await,
            Self::Socket(socket, wait) => tokio::select! {
                failure = socket.attempt(feed) => failure,
                failure = silence(vec![(feed, *wait)]) => failure,
            },
            #[cfg(feature = "rtsp")]
            Self::Rtsp(rtsp) => rtsp.attempt(feed).await,
            #[cfg(feature = "v4l2")]
            Self::V4l2(device) => device.attempt(feed).await,
            #[cfg(feature = "inference")]
            Self::Inference(_) => Failure::Ended,
            Self::Server(..) => Failure::Ended,
        }
    }

    async fn close(&mut self) {
        match self {
            Self::Exec(exec) => exec.close().await,
            Self::Socket(socket, _) => socket.close(),
            #[cfg(feature = "inference")]
            Self::Inference(proxy) => proxy.close().await,
            _ => {}
        }
    }
}

/// Says of everybody who waits for somebody to push that nobody does; never returns.
async fn silence(feeds: Vec<(&Feed, Duration)>) -> Failure {
    loop {
        sleep(LOOK).await;
        for (feed, wait) in &feeds {
            if feed.status().silent_for((feed.outside().now)()) >= *wait {
                feed.failed(&Failure::Stalled(*wait));
            }
        }
    }
}
