//! What a model server and its clients say to each other, as a source of frames.
//!
//! The proxy in between is another process's business, or at least another thread's ([`crate::proxy`]); here it is ordered ([`link`]),
//! and what passed is heard of ([`observer`]) and taken apart ([`reading`]). From there it goes the way of every other frame.
//!
//! Must hold: whatever could not be looked at is counted by reason ([`Unread`]); labels that come later are taken on loopback only
//! ([`truths`]).

mod figures;
mod link;
mod observer;
mod oip;
mod plain;
mod protobuf;
mod reading;
mod tensor;
mod truths;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;

use super::live::Feed;
use super::status::Failure;
use crate::config::{Api, InferenceConfig, SourceConfig};
use crate::proxy::note::{Inferences, Place, Watched};
use crate::window::FrameRate;
pub(crate) use link::Link;
pub(super) use link::Links;
use observer::Camera;

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
        }
    }
}

/// The proxy of cameras that share their `listen`, as it is ordered.
#[derive(Debug)]
pub(super) struct Proxy {
    config: InferenceConfig,
    links: Links,
    cameras: Arc<Vec<Camera>>,
    watched: Vec<Watched>,
    waits: Vec<Duration>,
}

impl Proxy {
    /// None where there are no cameras.
    pub(super) fn of<'c>(
        cameras: impl Iterator<Item = (&'c InferenceConfig, Feed, &'c SourceConfig)>,
        links: &Links,
    ) -> Option<Self> {
        let mut first = None;
        let (mut observed, mut watched, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        for (config, feed, source) in cameras {
            first.get_or_insert(config);
            watched.push(Watched {
                name: feed.status().camera().as_str().to_owned(),
                inferences: inferences(config),
                max_body: config.max_body,
                millihertz: source.rate.map(FrameRate::millihertz),
            });
            waits.push(source.timeout);
            observed.push(Camera::new(config.clone(), feed, links.figures()));
        }
        let config = first?.clone();
        Some(Self { config, links: links.clone(), cameras: Arc::new(observed), watched, waits })
    }

    /// How long each camera may be without a frame until that is said.
    pub(super) fn waits(&self) -> impl Iterator<Item = Duration> + use<> {
        self.waits.clone().into_iter()
    }

    /// Has it served; returns only where that is not possible.
    pub(super) async fn attempt(&mut self) -> Failure {
        let refused = |place: SocketAddr| move |error| Failure::Listen { place: place.to_string(), error };
        let listen = self.config.listen;
        let link = match self.links.get().map_err(refused(listen)) {
            Ok(link) => link,
            Err(failure) => return failure,
        };
        let truths = match self.config.outcomes {
            None => None,
            Some(place) => match TcpListener::bind(place).await.map_err(refused(place)) {
                Ok(listener) => Some(listener),
                Err(failure) => return failure,
            },
        };
        let place = Place {
            id: 0,
            listen,
            upstream: self.config.upstream.clone(),
            camera_header: self.config.camera_header.clone(),
            cameras: self.watched.clone(),
        };
        if let Err(error) = link.serve(place, Arc::clone(&self.cameras)).await {
            return refused(listen)(error);
        }
        let truths = async {
            match truths {
                Some(listener) => truths::serve(listener, Arc::clone(&self.cameras)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = truths => Failure::Ended,
            () = link.gone() => Failure::Ended,
        }
    }

    /// Has it end; what is on its way arrives, for a while.
    pub(super) async fn close(&mut self) {
        if let Some(link) = self.links.known() {
            link.leave(self.config.listen).await;
        }
    }
}

/// Which requests are inferences.
fn inferences(config: &InferenceConfig) -> Inferences {
    match &config.api {
        Api::Open { .. } => Inferences::Open(config.models.clone()),
        Api::Json { path, .. } => Inferences::Path(path.clone()),
    }
}
