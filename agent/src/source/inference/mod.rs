//! What passes between a model server and its clients: a transparent reverse proxy, and somebody who watches it pass.
//!
//! The proxy is in the path of every inference, so it owns a thread and a runtime of its own that nothing else of the agent can hold up.
//! It passes on what comes as it comes ([`serve`], [`upstream`]): one connection to the model server for each of a client's, of the same
//! version of HTTP, closed when the other is closed. What is to be looked at is copied beside, within bounds ([`kept`], [`tee`]), and is
//! handed to another thread once the answer has gone on ([`observer`]); there it is taken apart ([`reading`]) and goes the way of every
//! other frame.
//!
//! Must hold: the bytes that go on are the bytes that came; at most [`PLACES`] exchanges are copied or being read at any time, and of
//! each at most `max_body` bytes of the request and of the answer; a fault in looking, be it an error or a panic, is counted and goes no
//! further; whatever could not be looked at is counted by reason ([`Unread`]).
//!
//! Deliberately absent: TLS on either side (the proxy stands beside the server), `Upgrade` (HTTP/2 is spoken by those who know that it is),
//! compressed bodies (they pass unseen), retries of what has reached the server.

mod figures;
mod kept;
mod observer;
mod oip;
mod plain;
mod protobuf;
mod reading;
mod serve;
mod tee;
mod tensor;
#[cfg(test)]
mod tests;
mod truths;
mod upstream;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch as signal};
use tokio::time::timeout;

use super::live::Feed;
use super::status::Failure;
use crate::config::{InferenceConfig, SourceConfig};
pub(super) use figures::Figures;
use observer::Read;
use serve::Served;
use watch::{Camera, Watch};

#[cfg(panic = "abort")]
compile_error!(
    "the inference sidecar fails open by catching panics: build with panic = \"unwind\", or without the feature `inference`"
);

/// Exchanges that are copied or being read at a time; further ones pass unseen.
const PLACES: usize = 4;
/// Time for answers that are on their way when the agent stops.
const DRAIN: Duration = Duration::from_secs(3);

/// Why an exchange was not looked at, or gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unread {
    /// Too many were being looked at.
    #[error("too many are being looked at already")]
    Busy,
    /// Beyond the limit.
    #[error("it has more bytes than max_body")]
    TooLarge,
    /// Request or answer ended early.
    #[error("it ended early")]
    Incomplete,
    /// Compressed.
    #[error("it is compressed")]
    Compressed,
    /// Not what the configuration says.
    #[error("it holds {0}")]
    Malformed(&'static str),
    /// Where the picture should be there is none.
    #[error("the input named as image is no picture")]
    Picture,
    /// Values that are no pixels by the configuration.
    #[error("the values of its image are not in the range configured by scale, mean and std")]
    Range,
    /// Of a model that is not watched.
    #[error("it is of a model that is not watched")]
    OtherModel,
    /// Neither a picture nor scores.
    #[error("there is neither a picture nor scores in it")]
    Nothing,
    /// A fault of ours.
    #[error("a fault of the agent, which should be reported")]
    Panicked,
}

impl Unread {
    /// Its name in metrics.
    const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::Compressed => "compressed",
            Self::Malformed(_) => "malformed",
            Self::Picture => "no_picture",
            Self::Range => "range",
            Self::OtherModel => "other_model",
            Self::Nothing => "nothing",
            Self::Panicked => "panic",
        }
    }
}

/// One proxy in front of a model server.
#[derive(Debug)]
pub(super) struct Proxy {
    listen: SocketAddr,
    upstream: String,
    forwarded: bool,
    camera_header: Option<String>,
    truths: Option<SocketAddr>,
    cameras: Vec<Camera>,
    waits: Vec<Duration>,
    read: Read,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: signal::Sender<bool>,
    /// Resolves when the thread has ended.
    ended: oneshot::Receiver<()>,
}

impl Proxy {
    /// The proxy of cameras that share their `listen`; none where there are no cameras.
    pub(super) fn of<'c>(
        cameras: impl Iterator<Item = (&'c InferenceConfig, Feed, &'c SourceConfig)>,
        figures: &Figures,
    ) -> Option<Self> {
        let mut proxy = None;
        for (config, feed, source) in cameras {
            let proxy: &mut Self = proxy.get_or_insert_with(|| Self::new(config, reading::read));
            proxy.cameras.push(Camera::new(config.clone(), feed, source.rate, figures));
            proxy.waits.push(source.timeout);
        }
        proxy
    }

    fn new(config: &InferenceConfig, read: Read) -> Self {
        Self {
            listen: config.listen,
            upstream: config.upstream.clone(),
            forwarded: config.forwarded,
            camera_header: config.camera_header.clone(),
            truths: config.outcomes,
            cameras: Vec::new(),
            waits: Vec::new(),
            read,
            running: None,
        }
    }

    /// How long each camera may be without a frame until that is said.
    pub(super) fn waits(&self) -> impl Iterator<Item = Duration> + use<> {
        self.waits.clone().into_iter()
    }

    /// Serves; returns only where that is not possible.
    pub(super) async fn attempt(&mut self) -> Failure {
        match self.start().await {
            Err(failure) => failure,
            Ok(running) => {
                let running = self.running.insert(running);
                // An error is the thread's end as well.
                match (&mut running.ended).await {
                    Ok(()) | Err(_) => Failure::Ended,
                }
            }
        }
    }

    /// Lets what is on its way arrive, for a while.
    pub(super) async fn close(&mut self) {
        let Some(Running { stop, ended }) = self.running.take() else { return };
        stop.send_replace(true);
        if timeout(DRAIN + Duration::from_millis(500), ended).await.is_err() {
            tracing::warn!(listen = %self.listen, "the inference proxy took too long to stop");
        }
    }

    async fn start(&self) -> Result<Running, Failure> {
        let refused = |place: SocketAddr| move |error| Failure::Listen { place: place.to_string(), error };
        let listener = bind(self.listen).await.map_err(refused(self.listen))?;
        let truths = match self.truths {
            Some(place) => Some(bind(place).await.map_err(refused(place))?),
            None => None,
        };
        let watch = Watch::start(self.cameras.clone(), self.camera_header.as_deref(), self.read);
        let watch = Arc::new(watch.map_err(refused(self.listen))?);
        let served = Served { watch, upstream: self.upstream.as_str().into(), forwarded: self.forwarded };
        let (stop, stopping) = signal::channel(false);
        let (finished, ended) = oneshot::channel();
        let thread = Builder::new().name("inference".into()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(serve::serve(listener, truths, served, stopping)),
                Err(error) => tracing::error!(%error, "the inference proxy cannot begin"),
            }
            if finished.send(()).is_err() {
                tracing::debug!("nobody waits for the inference proxy any more");
            }
        });
        thread.map_err(refused(self.listen))?;
        Ok(Running { stop, ended })
    }
}

/// Bound here, so that a failure is told; served on another runtime.
async fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    TcpListener::bind(address).await?.into_std()
}
