//! Which exchanges are looked at, and what is noted of each while it passes.
//!
//! Every inference is counted, with how it ended and how long it took. Those that the sampling rate takes are copied besides, as long as
//! there is a place; the others of a rate are counted as skipped. Sampled before anything is copied, so what is left out costs nothing.

use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;
use hyper::Method;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::http::{request, response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::figures::{CameraFigures, Figures, Outcome};
use super::kept::Kept;
use super::observer::{self, Finished, Read};
use super::reading::Spoken;
use super::truths::Remembered;
use super::{PLACES, Unread};
use crate::config::{Api, InferenceConfig};
use crate::sampler::Sampler;
use crate::source::live::Feed;
use crate::window::FrameRate;

/// Where binary tensors begin.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// How a call ended.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The call that is looked at.
const GRPC_CALL: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A camera whose model is watched.
#[derive(Clone, Debug)]
pub(super) struct Camera(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: InferenceConfig,
    pub(super) feed: Feed,
    pub(super) figures: CameraFigures,
    pub(super) remembered: Mutex<Remembered>,
    sampler: Mutex<Sampler>,
}

impl std::ops::Deref for Camera {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Each change made under these locks is whole before they are let go, so what a panicking thread left is sound.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Camera {
    pub(super) fn new(config: InferenceConfig, feed: Feed, rate: Option<FrameRate>, figures: &Figures) -> Self {
        Self(Arc::new(Inner {
            figures: figures.of(feed.status().camera().as_str()),
            remembered: Mutex::new(Remembered::new(config.remember)),
            sampler: Mutex::new(Sampler::new(rate, None)),
            config,
            feed,
        }))
    }

    pub(super) fn name(&self) -> &str {
        self.feed.status().camera().as_str()
    }

    fn now(&self) -> (UnixMillis, Duration) {
        let now = (self.feed.outside().now)();
        (now.wall, now.elapsed)
    }

    /// How a request is spoken, if it is an inference by this camera's configuration.
    fn spoken(&self, head: &request::Parts) -> Option<Spoken> {
        if head.method != Method::POST {
            return None;
        }
        let path = head.uri.path();
        match &self.config.api {
            Api::Json { path: wanted, .. } => {
                (path == wanted).then(|| Spoken::Plain { boundary: boundary(&head.headers) })
            }
            Api::Open { .. } if path == GRPC_CALL => Some(Spoken::Grpc),
            Api::Open { .. } => {
                let (model, version) = infer_path(path)?;
                let watched = self.config.models.is_empty() || self.config.models.iter().any(|name| name == model);
                watched.then(|| Spoken::Http {
                    model: model.to_owned(),
                    version: version.to_owned(),
                    request_json: json_length(&head.headers),
                    answer_json: None,
                })
            }
        }
    }
}

/// Model and version of `/v2/models/MODEL[/versions/VERSION]/infer`.
fn infer_path(path: &str) -> Option<(&str, &str)> {
    let (model, version) = match path.strip_prefix("/v2/models/")?.strip_suffix("/infer")?.split_once('/') {
        None => return path.strip_prefix("/v2/models/")?.strip_suffix("/infer").map(|model| (model, "")),
        Some((model, rest)) => (model, rest.strip_prefix("versions/")?),
    };
    (!version.contains('/')).then_some((model, version))
}

fn json_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(JSON_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The boundary of a form's parts.
fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (kind, parameters) = kind.split_once(';')?;
    let boundary = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("boundary="))?;
    let boundary = boundary.trim_matches('"');
    (kind.trim().eq_ignore_ascii_case("multipart/form-data") && (1..=70).contains(&boundary.len()))
        .then(|| boundary.into())
}

/// Whether a body is in another coding than its own.
fn compressed(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// What watches one proxy's traffic.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) cameras: Vec<Camera>,
    header: Option<HeaderName>,
    places: Arc<Semaphore>,
    queue: SyncSender<Finished>,
}

impl Watch {
    /// Begins, with a thread for what has passed.
    pub(super) fn start(cameras: Vec<Camera>, header: Option<&str>, read: Read) -> io::Result<Self> {
        Ok(Self {
            queue: observer::start(cameras.clone(), read)?,
            header: header.and_then(|name| HeaderName::try_from(name).ok()),
            places: Arc::new(Semaphore::new(PLACES)),
            cameras,
        })
    }

    /// Looks at a request's header; what is to be noted of the exchange, if it is an inference.
    pub(super) fn asked(self: &Arc<Self>, head: &request::Parts, body: &impl Body) -> Option<Arc<Asking>> {
        let (index, camera) = match &self.header {
            None => (0, self.cameras.first()?),
            Some(header) => {
                let name = head.headers.get(header)?.as_bytes();
                self.cameras.iter().enumerate().find(|(_, camera)| camera.name().as_bytes() == name)?
            }
        };
        let spoken = camera.spoken(head)?;
        let (taken, _) = camera.now();
        let copy = if lock(&camera.sampler).take(taken) {
            let place = Arc::clone(&self.places).try_acquire_owned().ok();
            if place.is_none() {
                camera.figures.unobserved(Unread::Busy);
                camera.feed.skip();
            }
            place.map(|place| {
                let compressed = compressed(&head.headers);
                Mutex::new(Some(Copy { place, spoken, taken, compressed }))
            })
        } else {
            camera.feed.skip();
            None
        };
        let mut kept = Kept::new(if copy.is_some() { camera.config.max_body } else { 0 });
        kept.announce(body.size_hint().exact());
        Some(Arc::new(Asking { watch: Arc::clone(self), index, kept: Mutex::new(kept), copy }))
    }

    /// The first camera, whose figures stand for the proxy where no camera is known.
    pub(super) fn first(&self) -> Option<&Camera> {
        self.cameras.first()
    }
}

/// What makes an exchange one that is looked at.
#[derive(Debug)]
struct Copy {
    place: OwnedSemaphorePermit,
    spoken: Spoken,
    taken: UnixMillis,
    compressed: bool,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Asking {
    watch: Arc<Watch>,
    index: usize,
    kept: Mutex<Kept>,
    copy: Option<Mutex<Option<Copy>>>,
}

impl Asking {
    fn camera(&self) -> Option<&Camera> {
        self.watch.cameras.get(self.index)
    }

    /// A piece of the request, if any, and whether it was the last.
    pub(super) fn saw(&self, frame: Option<&Frame<Bytes>>, ended: bool) {
        let mut kept = lock(&self.kept);
        if let Some(piece) = frame.and_then(Frame::data_ref)
            && self.copy.is_some()
        {
            kept.push(piece);
        }
        if ended && let Some(camera) = self.camera() {
            kept.end(camera.now().1);
        }
    }

    /// There is no answer.
    pub(super) fn failed(&self) {
        if let Some(camera) = self.camera() {
            camera.figures.ended(Outcome::Unreachable);
        }
    }

    /// The answer begins.
    pub(super) fn answered(self: Arc<Self>, head: &response::Parts, body: &impl Body) -> Option<Box<Answering>> {
        let camera = self.camera()?.clone();
        let (_, now) = camera.now();
        // An answer that came before the request's end was not waited for.
        let latency = lock(&self.kept).ended().map(|ended| now.saturating_sub(ended));
        let grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let mut outcome = (!grpc || !head.status.is_success()).then(|| Outcome::of_status(head.status.as_u16()));
        if let Some(told) = grpc.then(|| grpc_outcome(&head.headers)).flatten() {
            outcome = Some(told);
        }
        let mut kept = Kept::new(if self.copy.is_some() { camera.config.max_body } else { 0 });
        kept.announce(body.size_hint().exact());
        Some(Box::new(Answering {
            camera,
            latency,
            outcome,
            answer_json: json_length(&head.headers),
            compressed: compressed(&head.headers),
            kept,
            asking: self,
        }))
    }
}

/// The status of a call, where a header or trailer has it.
fn grpc_outcome(headers: &HeaderMap) -> Option<Outcome> {
    let code = headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()?;
    Some(Outcome::of_grpc(code))
}

/// An answer on its way; its end is when this is dropped.
#[derive(Debug)]
pub(super) struct Answering {
    camera: Camera,
    asking: Arc<Asking>,
    latency: Option<Duration>,
    /// Of gRPC known at the end only.
    outcome: Option<Outcome>,
    answer_json: Option<usize>,
    compressed: bool,
    kept: Kept,
}

impl Answering {
    /// A piece of the answer, if any, and whether it was the last.
    pub(super) fn saw(&mut self, frame: Option<&Frame<Bytes>>, ended: bool) {
        if let Some(piece) = frame.and_then(Frame::data_ref)
            && self.asking.copy.is_some()
        {
            self.kept.push(piece);
        }
        if let Some(trailers) = frame.and_then(Frame::trailers_ref) {
            self.outcome = grpc_outcome(trailers).or(self.outcome);
        }
        if ended && self.kept.ended().is_none() {
            self.kept.end(self.camera.now().1);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let figures = &self.camera.figures;
        let ended = self.kept.ended().is_some();
        let outcome = self.outcome.filter(|_| ended).unwrap_or(Outcome::Broken);
        figures.ended(outcome);
        if let Some(latency) = self.latency.filter(|_| outcome == Outcome::Ok) {
            figures.took(latency);
        }
        let Some(Copy { place, mut spoken, taken, compressed }) =
            self.asking.copy.as_ref().and_then(|copy| lock(copy).take())
        else {
            return;
        };
        if let Spoken::Http { answer_json, .. } = &mut spoken {
            *answer_json = self.answer_json;
        }
        let finished = Finished {
            camera: self.asking.index,
            spoken,
            taken,
            compressed: compressed || self.compressed,
            latency: self.latency,
            request: std::mem::replace(&mut *lock(&self.asking.kept), Kept::new(0)),
            answer: std::mem::replace(&mut self.kept, Kept::new(0)),
            outcome,
            place,
        };
        // There is room for as many as there are places; a thread that is gone reads nothing.
        if self.asking.watch.queue.try_send(finished).is_err() {
            figures.unobserved(Unread::Busy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inferences_are_told_by_their_paths() {
        assert_eq!(infer_path("/v2/models/m/infer"), Some(("m", "")));
        assert_eq!(infer_path("/v2/models/m/versions/3/infer"), Some(("m", "3")));
        for other in
            ["/v2/models/m", "/v2/models/m/ready", "/v2/models/a/b/infer", "/v2/models/m/versions/1/2/infer", "/x"]
        {
            assert_eq!(infer_path(other), None, "{other}");
        }
    }

    #[test]
    fn the_boundary_of_a_form_is_found() {
        let of = |kind: &str| boundary(&HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().expect("a value"))]));
        assert_eq!(of("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(of("Multipart/Form-Data; charset=x; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(of("multipart/mixed; boundary=abc"), None);
        assert_eq!(of("application/json"), None);
    }
}
