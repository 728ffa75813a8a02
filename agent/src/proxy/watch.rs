//! Which exchanges are looked at, and what is noted of each while it passes.
//!
//! Every inference is counted, with how it ended and how long it took. Those that the sampling rate takes are copied besides, as long as
//! there is a place; the others of a rate are counted as skipped. Sampled before anything is copied, so what is left out costs nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;
use hyper::Method;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::http::{request, response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::kept::Kept;
use super::note::{Announced, Inferences, Look, Note, Outcome, Passed, Place, Spoken, Watched};
use super::teller::{Bodies, Teller};
use super::upstream::Unanswered;
use crate::sampler::Sampler;
use crate::source::Moment;

/// Exchanges of a proxy that are copied or on their way to the agent at a time; further ones pass unseen.
const PLACES: usize = 4;
/// Where binary tensors begin.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// How a call ended.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The call that is looked at.
const GRPC_CALL: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A camera whose model is watched.
#[derive(Debug)]
struct Camera {
    watched: Watched,
    sampler: Mutex<Sampler>,
}

/// Each change made under these locks is whole before they are let go.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Camera {
    fn new(watched: Watched) -> Self {
        Self { sampler: Mutex::new(Sampler::new(watched.rate(), None)), watched }
    }

    /// How a request is spoken, if it is an inference by this camera's configuration.
    fn spoken(&self, head: &request::Parts) -> Option<Spoken> {
        if head.method != Method::POST {
            return None;
        }
        let path = head.uri.path();
        match &self.watched.inferences {
            Inferences::Path(wanted) => (path == wanted).then(|| Spoken::Plain { boundary: boundary(&head.headers) }),
            Inferences::Open(_) if path == GRPC_CALL => Some(Spoken::Grpc),
            Inferences::Open(models) => {
                let (model, version) = infer_path(path)?;
                let watched = models.is_empty() || models.iter().any(|name| name == model);
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
    id: u64,
    cameras: Vec<Camera>,
    header: Option<HeaderName>,
    places: Arc<Semaphore>,
    teller: Teller,
    now: fn() -> Moment,
}

impl Watch {
    pub(super) fn new(place: Place, teller: Teller, now: fn() -> Moment) -> Self {
        Self {
            id: place.id,
            header: place.camera_header.and_then(|name| HeaderName::try_from(name).ok()),
            cameras: place.cameras.into_iter().map(Camera::new).collect(),
            places: Arc::new(Semaphore::new(PLACES)),
            teller,
            now,
        }
    }

    /// Looks at a request's header; what is to be noted of the exchange, if it is an inference.
    pub(super) fn asked(self: &Arc<Self>, head: &request::Parts, body: &impl Body) -> Option<Arc<Asking>> {
        let (index, camera) = match &self.header {
            None => (0, self.cameras.first()?),
            Some(header) => {
                let name = head.headers.get(header)?.as_bytes();
                self.cameras.iter().enumerate().find(|(_, camera)| camera.watched.name.as_bytes() == name)?
            }
        };
        let spoken = camera.spoken(head)?;
        let taken = (self.now)().wall;
        // While nobody listens nothing is copied.
        let (copy, otherwise) = if self.teller.is_heard() && lock(&camera.sampler).take(taken) {
            let place = Arc::clone(&self.places).try_acquire_owned().ok();
            let copy = place
                .map(|place| Mutex::new(Some(Copy { place, spoken, taken, compressed: compressed(&head.headers) })));
            (copy, Look::Busy)
        } else {
            (None, Look::Skipped)
        };
        let limit = if copy.is_some() { camera.watched.max_body } else { 0 };
        let mut kept = Kept::new(limit);
        kept.announce(body.size_hint().exact());
        Some(Arc::new(Asking { watch: Arc::clone(self), index, limit, kept: Mutex::new(kept), copy, otherwise }))
    }

    /// The model server does not answer; `asking` is the inference that found that out, if it was one.
    pub(super) fn unanswered(&self, asking: Option<&Asking>, why: &Unanswered) {
        if let Some(asking) = asking {
            let passed = asking.passed(Outcome::Unreachable, None, asking.otherwise.clone());
            self.teller.passed(passed, None);
        }
        self.teller.mention(Note::Unanswered { place: self.id, why: why.to_string() });
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
    limit: usize,
    kept: Mutex<Kept>,
    copy: Option<Mutex<Option<Copy>>>,
    /// What is told where there is no copy.
    otherwise: Look,
}

impl Asking {
    /// A piece of the request, if any, and whether it was the last.
    pub(super) fn saw(&self, frame: Option<&Frame<Bytes>>, ended: bool) {
        let mut kept = lock(&self.kept);
        if let Some(piece) = frame.and_then(Frame::data_ref)
            && self.copy.is_some()
        {
            kept.push(piece);
        }
        if ended {
            kept.end((self.watch.now)().elapsed);
        }
    }

    fn passed(&self, outcome: Outcome, latency: Option<Duration>, look: Look) -> Passed {
        Passed { place: self.watch.id, camera: self.index, outcome, latency, look }
    }

    /// The answer begins.
    pub(super) fn answered(self: Arc<Self>, head: &response::Parts, body: &impl Body) -> Box<Answering> {
        let now = (self.watch.now)().elapsed;
        // An answer that came before the request's end was not waited for.
        let latency = lock(&self.kept).ended().map(|ended| now.saturating_sub(ended));
        let grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let mut outcome = (!grpc || !head.status.is_success()).then(|| Outcome::of_status(head.status.as_u16()));
        if let Some(told) = grpc.then(|| grpc_outcome(&head.headers)).flatten() {
            outcome = Some(told);
        }
        let mut kept = Kept::new(self.limit);
        kept.announce(body.size_hint().exact());
        Box::new(Answering {
            latency,
            outcome,
            answer_json: json_length(&head.headers),
            compressed: compressed(&head.headers),
            kept,
            asking: self,
        })
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
            self.kept.end((self.asking.watch.now)().elapsed);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let ended = self.kept.ended().is_some();
        let outcome = self.outcome.filter(|_| ended).unwrap_or(Outcome::Broken);
        let copy = self.asking.copy.as_ref().and_then(|copy| lock(copy).take());
        let (look, bodies) = match copy {
            None => (self.asking.otherwise.clone(), None),
            Some(Copy { place, mut spoken, taken, compressed }) => {
                if let Spoken::Http { answer_json, .. } = &mut spoken {
                    *answer_json = self.answer_json;
                }
                let request = std::mem::replace(&mut *lock(&self.asking.kept), Kept::new(0));
                let mut answer = std::mem::replace(&mut self.kept, Kept::new(0));
                if outcome != Outcome::Ok {
                    // There is nothing to learn from it.
                    answer = Kept::new(0);
                }
                let exchange = Announced {
                    spoken,
                    taken,
                    compressed: compressed || self.compressed,
                    request: request.length(),
                    answer: answer.length(),
                };
                (Look::Copied(exchange), Some(Bodies { request, answer, place }))
            }
        };
        let passed = self.asking.passed(outcome, self.latency, look);
        self.asking.watch.teller.passed(passed, bodies);
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
