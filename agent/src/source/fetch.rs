//! Keeps live sources alive: try, say what failed, wait, try again; until told to stop.
//!
//! Must hold: two attempts are never closer than [`FLOOR`], and the waits between attempts that bring nothing for [`STEADY`] grow as
//! those of the uplink do; a source whose future is dropped leaves nothing behind that runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::id::Name;
use tokio::time::sleep;

use super::exec::Exec;
use super::live::{Feed, Limits, Outside, live};
use super::mjpeg::Mjpeg;
use super::push::{Server, Socket};
use super::snapshot::Snapshot;
use super::status::{Failure, Status};
use super::{Directory, FrameSource};
use crate::config::{HttpSource, SourceConfig, SourceKind};
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
pub(super) struct Fetcher {
    kind: Kind,
    feeds: Vec<Feed>,
    outside: Outside,
}

/// A source that is ready to begin; nothing of it runs yet.
#[derive(Debug)]
pub struct Prepared {
    pub(super) name: Name,
    pub(super) source: SourceConfig,
    /// Where its frames go in; a folder is looked through by the pipeline and has none.
    pub(super) feed: Option<Feed>,
    pub(super) status: Arc<Status>,
}

/// Prepares the source of a camera: the end that the pipeline takes frames from, and what has to run for it.
#[must_use]
pub fn prepare(name: &Name, source: &SourceConfig, outside: &Outside) -> (FrameSource, Prepared) {
    let status = Arc::new(Status::new(name.clone(), place(name, &source.kind)));
    let (frames, feed) = if let SourceKind::Directory { path, .. } = &source.kind {
        let folder =
            Directory::watched(path.clone(), Vec::new()).limited(source.max_frame as u64).telling(Arc::clone(&status));
        (FrameSource::Directory(folder), None)
    } else {
        let limits = Limits { bytes: source.max_frame, pixels: source.max_pixels };
        let (feed, live) = live(Arc::clone(&status), limits, outside.clone());
        (FrameSource::Live(live), Some(feed))
    };
    (frames, Prepared { name: name.clone(), source: source.clone(), feed, status })
}

/// What people are told of where a source is; it holds no credentials.
fn place(name: &Name, kind: &SourceKind) -> String {
    match kind {
        SourceKind::Directory { path, .. } => path.display().to_string(),
        SourceKind::Snapshot(http) | SourceKind::Mjpeg(http) => http.address.to_string(),
        SourceKind::Exec(command) => command.name(),
        SourceKind::PushHttp { listen, .. } => format!("http://{listen}/{name}"),
        SourceKind::PushSocket(path) => path.display().to_string(),
        #[cfg(feature = "inference")]
        SourceKind::Inference(inference) => format!("http://{} for {}", inference.listen, inference.upstream),
        SourceKind::Rtsp { address, .. } => address.to_string(),
        SourceKind::V4l2 { device, .. } => device.display().to_string(),
    }
}

impl Prepared {
    /// The address of the server that this camera shares with others.
    pub(super) const fn server(&self) -> Option<SocketAddr> {
        match &self.source.kind {
            SourceKind::PushHttp { listen, .. } => Some(*listen),
            #[cfg(feature = "inference")]
            SourceKind::Inference(inference) => Some(inference.listen),
            _ => None,
        }
    }

    /// What has to run for this camera alone, where anything has.
    pub(super) fn fetcher(&self, outside: Outside) -> Option<Fetcher> {
        let (source, feed) = (&self.source, self.feed.clone()?);
        let kind = match &source.kind {
            SourceKind::Directory { .. } | SourceKind::PushHttp { .. } => return None,
            #[cfg(feature = "inference")]
            SourceKind::Inference(_) => return None,
            SourceKind::Snapshot(http) => snapshot(http, source),
            SourceKind::Mjpeg(HttpSource { address, certificates }) => {
                Kind::Mjpeg(Mjpeg::new(address.clone(), certificates.clone(), source.timeout))
            }
            SourceKind::Exec(command) => Kind::Exec(Exec::new(command.clone(), source.timeout)),
            SourceKind::PushSocket(path) => Kind::Socket(Socket::new(path.clone(), source.timeout), source.timeout),
            #[cfg(feature = "rtsp")]
            SourceKind::Rtsp { address, udp } => {
                Kind::Rtsp(super::rtsp::Rtsp::new(address.clone(), *udp, source.timeout))
            }
            #[cfg(feature = "v4l2")]
            SourceKind::V4l2 { device, size } => {
                Kind::V4l2(super::v4l2::Device::new(device.clone(), *size, source.timeout))
            }
            // The configuration refuses what this program was built without.
            #[cfg(not(all(feature = "rtsp", feature = "v4l2")))]
            _ => return None,
        };
        Some(Fetcher { kind, feeds: vec![feed], outside })
    }
}

/// What runs for the cameras behind one address: a proxy in front of their model server, or a server that they are pushed to.
pub(super) fn server<'p>(
    listen: SocketAddr,
    cameras: impl Iterator<Item = &'p Prepared> + Clone,
    outside: Outside,
    #[cfg(feature = "inference")] links: &super::inference::Links,
) -> Fetcher {
    // The configuration has one for all of them; while they change one after the other the stricter side wins.
    let token_file = cameras.clone().find_map(|camera| match &camera.source.kind {
        SourceKind::PushHttp { token_file, .. } => token_file.clone(),
        _ => None,
    });
    let feeds: Vec<Feed> = cameras.clone().filter_map(|camera| camera.feed.clone()).collect();
    #[cfg(feature = "inference")]
    if let Some(proxy) = proxy(cameras.clone(), links) {
        return Fetcher { kind: Kind::Inference(proxy), feeds, outside };
    }
    let waits = cameras.map(|camera| camera.source.timeout).collect();
    Fetcher { kind: Kind::Server(Server::new(listen, token_file, feeds.clone()), waits), feeds, outside }
}

/// The proxy of these cameras, where they have one.
#[cfg(feature = "inference")]
fn proxy<'p>(
    cameras: impl Iterator<Item = &'p Prepared>,
    links: &super::inference::Links,
) -> Option<super::inference::Proxy> {
    let watched = cameras.filter_map(|camera| match &camera.source.kind {
        SourceKind::Inference(inference) => Some((&**inference, camera.feed.clone()?, &camera.source)),
        _ => None,
    });
    super::inference::Proxy::of(watched, links)
}

fn snapshot(http: &HttpSource, source: &SourceConfig) -> Kind {
    let micros = source.rate.map_or(1_000_000, FrameRate::period_micros);
    let period = Duration::from_micros(u64::try_from(micros).unwrap_or(1_000_000).max(1));
    Kind::Snapshot(Snapshot::new(http.address.clone(), http.certificates.clone(), source.timeout, period))
}

impl Fetcher {
    /// Runs until it is told to stop.
    pub(super) async fn run(mut self) {
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
