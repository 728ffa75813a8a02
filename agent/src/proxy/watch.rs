//! Which exchanges are looked at, and what is noted of each while it passes.
//!
//! Every inference is counted, with how it ended and how long it took. Those that the sampling rate takes are copied besides, as long as
//! there is a place; the others of a rate are counted as skipped. Sampled before anything is copied, so what is left out costs nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;
use hyper::Method;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::http::{request, response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::kept::Kept;
use super::note::{Announced, Inferences, Look, Note, Outcome, Passed, Place, Spoken, Watched};
use super::teller::{Bodies, Teller};
use crate::moment::Moment;
use crate::sampler::Sampler;

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

/// Whether a message is one of gRPC, whose outcome is told at its end.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
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

    /// Looks at a request's header, which may announce how many bytes follow; what is to be noted of the exchange, if it is an inference.
    pub(super) fn asked(self: &Arc<Self>, head: &request::Parts, announced: Option<u64>) -> Option<Exchange> {
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
            let copy = place.map(|place| Copy { place, spoken, taken, compressed: compressed(&head.headers) });
            (copy, Look::Busy)
        } else {
            (None, Look::Skipped)
        };
        let limit = if copy.is_some() { camera.watched.max_body } else { 0 };
        Some(Exchange {
            watch: Arc::clone(self),
            index,
            copy,
            otherwise,
            request: Kept::new(limit, announced),
            answer: Kept::new(limit, None),
            latency: None,
            outcome: None,
            is_answered: false,
            is_told: false,
        })
    }

    /// The model server does not answer.
    pub(super) fn unanswered(&self, why: String) {
        self.teller.mention(Note::Unanswered { place: self.id, why });
    }

    /// What passes on a connection cannot be read, and its inferences are not seen.
    pub(super) fn unread(&self, why: String) {
        self.teller.mention(Note::Unread { place: self.id, why });
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

/// An inference on its way. What is dropped without having been told how it ended was cut off.
#[derive(Debug)]
pub(super) struct Exchange {
    watch: Arc<Watch>,
    index: usize,
    copy: Option<Copy>,
    /// What is told where there is no copy.
    otherwise: Look,
    request: Kept,
    answer: Kept,
    latency: Option<Duration>,
    /// Of gRPC known at the end only.
    outcome: Option<Outcome>,
    is_answered: bool,
    is_told: bool,
}

impl Exchange {
    /// A piece of the request.
    pub(super) fn request(&mut self, piece: &[u8]) {
        if self.copy.is_some() {
            self.request.push(piece);
        }
    }

    /// The request is whole.
    pub(super) fn asked(&mut self) {
        self.request.end((self.watch.now)().elapsed);
    }

    /// The answer begins, and may announce how many bytes follow.
    pub(super) fn answered(&mut self, head: &response::Parts, announced: Option<u64>) {
        self.is_answered = true;
        let now = (self.watch.now)().elapsed;
        // An answer that came before the request's end was not waited for.
        self.latency = self.request.ended().map(|ended| now.saturating_sub(ended));
        self.outcome =
            (!is_grpc(&head.headers) || !head.status.is_success()).then(|| Outcome::of_status(head.status.as_u16()));
        self.trailers(&head.headers);
        self.answer.announce(announced);
        if let Some(copy) = &mut self.copy {
            copy.compressed |= compressed(&head.headers);
            if let Spoken::Http { answer_json, .. } = &mut copy.spoken {
                *answer_json = json_length(&head.headers);
            }
        }
    }

    /// Whether the answer has begun.
    pub(super) const fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// A piece of the answer.
    pub(super) fn answer(&mut self, piece: &[u8]) {
        if self.copy.is_some() {
            self.answer.push(piece);
        }
    }

    /// What follows the answer, or stands before it where there is none.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.outcome = grpc_outcome(trailers).or(self.outcome);
    }

    /// The answer is whole.
    pub(super) fn ended(mut self) {
        self.answer.end((self.watch.now)().elapsed);
        self.tell(self.outcome.unwrap_or(Outcome::Broken));
    }

    /// The server has gone without an answer.
    pub(super) fn unanswered(mut self) {
        self.tell(Outcome::Unreachable);
    }

    /// What became of it could not be read.
    pub(super) fn lost(mut self) {
        self.is_told = true;
        self.watch.teller.miss();
    }

    fn tell(&mut self, outcome: Outcome) {
        self.is_told = true;
        let take = |kept: &mut Kept| std::mem::replace(kept, Kept::new(0, None));
        let (look, bodies) = match self.copy.take() {
            None => (self.otherwise.clone(), None),
            // There is nothing to learn from it.
            Some(_) if outcome == Outcome::Unreachable => (Look::Skipped, None),
            Some(Copy { place, spoken, taken, compressed }) => {
                let (request, mut answer) = (take(&mut self.request), take(&mut self.answer));
                if outcome != Outcome::Ok {
                    // Nothing but the picture.
                    answer = Kept::new(0, None);
                }
                let exchange =
                    Announced { spoken, taken, compressed, request: request.length(), answer: answer.length() };
                (Look::Copied(exchange), Some(Bodies { request, answer, place }))
            }
        };
        let passed = Passed { place: self.watch.id, camera: self.index, outcome, latency: self.latency, look };
        self.watch.teller.passed(passed, bodies);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell(Outcome::Broken);
        }
    }
}

/// The status of a call, where a header or trailer has it.
fn grpc_outcome(headers: &HeaderMap) -> Option<Outcome> {
    let code = headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()?;
    Some(Outcome::of_grpc(code))
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
