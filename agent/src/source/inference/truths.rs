//! Labels that come later: `POST /CAMERA` with one JSON object or an array of them.
//!
//! - `{"id": "42", "label": "person"}`: the inference with this identifier should have said so. The newest predictions of each camera are
//!   remembered by their identifiers, as many as `remember` says; an unsampled one is not.
//! - `{"predicted": "car", "label": "person"}`: the same of an inference that the sender remembers better.
//!
//! The answer, 200, counts what was `taken`, what was `unknown`, and what was `refused` because too many wait.
//!
//! Must hold: fixed memory; a body of at most [`BODY`] bytes; loopback only, which the configuration sees to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::observer::{Camera, lock};

/// Most bytes of a request.
const BODY: usize = 256 * 1024;
/// Connections at a time; more wait.
const CONNECTIONS: usize = 4;
/// Time for a connection.
const CONNECTION: Duration = Duration::from_secs(30);

/// The newest predictions: hashes of their identifiers and of what was said.
#[derive(Debug)]
pub(super) struct Remembered {
    newest: VecDeque<(u64, u64)>,
    most: usize,
}

impl Remembered {
    pub(super) const fn new(most: usize) -> Self {
        Self { newest: VecDeque::new(), most }
    }

    /// Remembers what was said; the oldest gives way.
    pub(super) fn add(&mut self, id: &str, label: &str) {
        if id.is_empty() || self.most == 0 {
            return;
        }
        if self.newest.len() >= self.most {
            self.newest.pop_front();
        }
        self.newest.push_back((hash(id), hash(label)));
    }

    /// Whether what was said was wrong; known once.
    fn wrong(&mut self, id: &str, label: &str) -> Option<bool> {
        let id = hash(id);
        let place = self.newest.iter().rposition(|(known, _)| *known == id)?;
        self.newest.remove(place).map(|(_, said)| said != hash(label))
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// One label.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Truth {
    OfId { id: String, label: String },
    OfSaid { predicted: String, label: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Truths {
    Many(Vec<Truth>),
    One(Truth),
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, cameras: Arc<Vec<Camera>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let cameras = Arc::clone(&cameras);
                tokio::spawn(async move {
                    converse(stream, &cameras).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the socket for labels accepts nothing");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, cameras: &[Camera]) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let (status, text) = answer(request, cameras).await;
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection of one who posts labels failed"),
    }
}

async fn answer(request: Request<Incoming>, cameras: &[Camera]) -> (StatusCode, String) {
    let error = |status, text: &str| (status, format!("{{\"error\":\"{text}\"}}\n"));
    let name = request.uri().path().trim_matches('/').to_owned();
    let Some(camera) = cameras.iter().find(|camera| camera.name() == name) else {
        return error(StatusCode::NOT_FOUND, "the path is the name of a camera whose model is watched here");
    };
    if request.method() != Method::POST {
        return error(StatusCode::METHOD_NOT_ALLOWED, "POST labels");
    }
    let body = match Limited::new(request.into_body(), BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return error(StatusCode::PAYLOAD_TOO_LARGE, "at most 256 KiB at once"),
    };
    let truths = match serde_json::from_slice(&body) {
        Ok(Truths::Many(truths)) => truths,
        Ok(Truths::One(truth)) => vec![truth],
        Err(_) => return error(StatusCode::BAD_REQUEST, "objects with label and id, or label and predicted"),
    };
    (StatusCode::OK, judge(camera, &truths))
}

fn judge(camera: &Camera, truths: &[Truth]) -> String {
    let (mut taken, mut unknown, mut refused) = (0_usize, 0_usize, 0_usize);
    for truth in truths {
        let wrong = match truth {
            Truth::OfId { id, label } => lock(&camera.remembered).wrong(id, label),
            Truth::OfSaid { predicted, label } => Some(predicted != label),
        };
        let (count, result) = match wrong {
            None => (&mut unknown, "unknown"),
            Some(wrong) if camera.feed.judge(wrong) => (&mut taken, "taken"),
            Some(_) => (&mut refused, "refused"),
        };
        *count += 1;
        camera.figures.truth(result);
    }
    format!("{{\"taken\":{taken},\"unknown\":{unknown},\"refused\":{refused}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_predictions_are_remembered_and_each_is_judged_once() {
        let mut remembered = Remembered::new(2);
        for (id, label) in [("1", "a"), ("2", "b"), ("", "x"), ("3", "c")] {
            remembered.add(id, label);
        }
        assert_eq!(remembered.wrong("1", "a"), None, "forgotten");
        assert_eq!(remembered.wrong("3", "c"), Some(false));
        assert_eq!(remembered.wrong("3", "c"), None, "judged already");
        assert_eq!(remembered.wrong("2", "c"), Some(true));
        assert_eq!(remembered.wrong("", "x"), None);
        let mut none = Remembered::new(0);
        none.add("1", "a");
        assert_eq!(none.wrong("1", "a"), None);
    }
}
