//! Frames that somebody else brings: over HTTP, or over a socket of this machine.
//!
//! HTTP: `POST /CAMERA` with one picture as the body. Cameras with the same `listen` share a server. The answers: 202 it waits to be
//! measured; 413 more bytes or pixels than allowed; 415 neither JPEG nor PNG; 503 too many wait, try again; 401, 404, 405, 408 as usual. What is
//! answered with 413 or 415 is counted as undecodable, what is answered with 503 is not counted.
//!
//! Socket: a connection carries any number of pictures, each behind its length as four bytes, the highest first. A connection that
//! begins like a JPEG file is JPEG files one after the other instead, so that `socat` or `ffmpeg -f mjpeg unix:PATH` fit; no
//! length allowed begins like that. Nothing is answered; who brings faster than is measured waits.
//!
//! Must hold: one body a camera at a time over HTTP, two connections a camera over a socket; everything that is waited for has its time.
//!
//! Deliberately absent: TLS. Beyond this machine a token is required, and a proxy in front where the network is not trusted.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::http;
use super::jpeg_stream::{Piece, Splitter};
use super::live::Feed;
use super::status::Failure;

/// Connections to one server at a time; more wait.
const CONNECTIONS: usize = 32;
/// Time for a request's header, and for its body.
const REQUEST: Duration = Duration::from_secs(10);
/// Connections to one socket at a time; more wait.
const SOCKET_CONNECTIONS: usize = 2;
/// Wait before a place in the waiting room is asked for again.
const FULL: Duration = Duration::from_millis(20);
/// Wait after the system refused a connection.
const REFUSED: Duration = Duration::from_secs(1);
/// Longest token, in bytes.
const TOKEN: usize = 1024;

/// Cameras that are pushed to over one HTTP server.
#[derive(Debug)]
pub(super) struct Server {
    listen: SocketAddr,
    token_file: Option<PathBuf>,
    cameras: Arc<[Camera]>,
}

#[derive(Debug)]
struct Camera {
    feed: Feed,
    body: Semaphore,
}

impl Server {
    pub(super) fn new(listen: SocketAddr, token_file: Option<PathBuf>, feeds: Vec<Feed>) -> Self {
        let cameras = feeds.into_iter().map(|feed| Camera { feed, body: Semaphore::new(1) });
        Self { listen, token_file, cameras: cameras.collect() }
    }

    /// Serves; returns only where that is not possible.
    pub(super) async fn attempt(&self) -> Failure {
        let refused = |error| Failure::Listen { place: self.listen.to_string(), error };
        let token = match self.token_file.as_deref().map(token).transpose() {
            Ok(token) => token.map(Arc::<str>::from),
            Err(error) => return refused(error),
        };
        let listener = match TcpListener::bind(self.listen).await {
            Ok(listener) => listener,
            Err(error) => return refused(error),
        };
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return refused(io::ErrorKind::Other.into());
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (cameras, token) = (Arc::clone(&self.cameras), token.clone());
                    connections.spawn(async move {
                        converse(stream, peer, &cameras, token.as_deref()).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the push socket accepts nothing");
                    sleep(REFUSED).await;
                }
            }
        }
    }
}

fn token(path: &Path) -> io::Result<String> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(told)?;
    let token = text.trim();
    if (1..=TOKEN).contains(&token.len()) {
        Ok(token.into())
    } else {
        Err(told(io::Error::new(io::ErrorKind::InvalidData, "a token of 1 to 1024 bytes is needed")))
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, cameras: &[Camera], token: Option<&str>) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(response(answer(request, cameras, token).await))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .max_buf_size(http::BUFFER)
        .max_headers(http::HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%peer, %error, "a connection of one who pushes failed");
    }
}

type Answer = (StatusCode, &'static str);

async fn answer(request: Request<Incoming>, cameras: &[Camera], token: Option<&str>) -> Answer {
    if !token.is_none_or(|token| bears(&request, token)) {
        return (StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
    }
    let name = request.uri().path().trim_matches('/');
    let Some(camera) = cameras.iter().find(|camera| camera.feed.status().camera().as_str() == name) else {
        return (StatusCode::NOT_FOUND, "the path is the name of a camera that is pushed to\n");
    };
    if !matches!(*request.method(), Method::POST | Method::PUT) {
        return (StatusCode::METHOD_NOT_ALLOWED, "POST a picture\n");
    }
    const BUSY: Answer = (StatusCode::SERVICE_UNAVAILABLE, "too many pictures of this camera wait\n");
    // One body a camera, so that those who send slowly cannot fill the memory.
    let Ok(Ok(_place)) = timeout(REQUEST, camera.body.acquire()).await else { return BUSY };
    if camera.feed.full() {
        return BUSY;
    }
    let picture = match timeout(REQUEST, body(request.into_body(), camera.feed.limit())).await {
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the picture did not arrive in time\n"),
        Ok(Err(_)) => return (StatusCode::BAD_REQUEST, "the picture did not arrive\n"),
        Ok(Ok(picture)) => picture,
    };
    let answer = match &picture {
        Piece::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the picture has more bytes than allowed\n"),
        Piece::Picture(bytes) if camera.feed.too_many_pixels(bytes) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "the picture has more pixels than allowed\n")
        }
        Piece::Picture(bytes) if looks_like_a_picture(bytes) => (StatusCode::ACCEPTED, "it waits to be measured\n"),
        Piece::Picture(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "neither a JPEG nor a PNG\n"),
    };
    if camera.feed.offer(picture) { answer } else { BUSY }
}

fn response((status, text): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Compared in a time that depends on the lengths only.
fn bears(request: &Request<Incoming>, token: &str) -> bool {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    given.is_some_and(|given| {
        let difference = given.iter().zip(token.as_bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        given.len() == token.len() && difference == 0
    })
}

async fn body(mut body: Incoming, limit: usize) -> Result<Piece, Failure> {
    if http::length(&body).is_some_and(|length| length > limit as u64) {
        return Ok(Piece::TooLarge);
    }
    let mut picture = Vec::new();
    while let Some(bytes) = http::piece(&mut body).await? {
        if picture.len() + bytes.len() > limit {
            return Ok(Piece::TooLarge);
        }
        picture.extend_from_slice(&bytes);
    }
    Ok(Piece::Picture(picture))
}

fn looks_like_a_picture(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff]) || bytes.starts_with(b"\x89PNG\r\n\x1a\n")
}

/// A camera that is pushed to over a socket of this machine.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    wait: Duration,
}

impl Socket {
    pub(super) const fn new(path: PathBuf, wait: Duration) -> Self {
        Self { path, wait }
    }

    /// Serves; returns only where that is not possible.
    pub(super) async fn attempt(&self, feed: &Feed) -> Failure {
        let refused = |error| Failure::Listen { place: self.path.display().to_string(), error };
        let listener = match bind(&self.path) {
            Ok(listener) => listener,
            Err(error) => return refused(error),
        };
        let places = Arc::new(Semaphore::new(SOCKET_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return refused(io::ErrorKind::Other.into());
            };
            match listener.accept().await {
                Ok((mut stream, _)) => {
                    let (feed, wait) = (feed.clone(), self.wait);
                    connections.spawn(async move {
                        if let Err(error) = receive(&mut stream, &feed, wait).await {
                            feed.failed(&error);
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the push socket accepts nothing");
                    sleep(REFUSED).await;
                }
            }
        }
    }

    /// Takes the socket away.
    pub(super) fn close(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the push socket was not there any more");
        }
    }
}

/// A socket that its group may write to; one that a dead process left is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let there = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if there && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Receives pictures until the end of the connection.
async fn receive(stream: &mut (impl AsyncRead + Unpin), feed: &Feed, wait: Duration) -> Result<(), Failure> {
    let mut head = [0; 4];
    if !exact(stream, &mut head, wait).await? {
        return Ok(());
    }
    if head.starts_with(&[0xff, 0xd8, 0xff]) {
        return receive_files(stream, &head, feed, wait).await;
    }
    loop {
        let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        if length > feed.limit() {
            // What follows cannot be told from anything else: the rest of the connection is of no use.
            place(feed, Piece::TooLarge).await;
            return Err(Failure::Protocol(format!(
                "a length of {length} bytes, more than the {} allowed",
                feed.limit()
            )));
        }
        let mut picture = vec![0; length];
        if length > 0 && !exact(stream, &mut picture, wait).await? {
            return Err(Failure::Ended);
        }
        place(feed, Piece::Picture(picture)).await;
        if !exact(stream, &mut head, wait).await? {
            return Ok(());
        }
    }
}

async fn receive_files(
    stream: &mut (impl AsyncRead + Unpin),
    head: &[u8],
    feed: &Feed,
    wait: Duration,
) -> Result<(), Failure> {
    let mut splitter = Splitter::new(feed.limit());
    let mut buffer = vec![0; 64 * 1024];
    let mut pieces = Vec::new();
    let malformed = |_| Failure::from(super::multipart::Malformed::NoPicture);
    splitter.feed(head, &mut |piece| pieces.push(piece)).map_err(malformed)?;
    loop {
        let read = timeout(wait, stream.read(&mut buffer)).await.map_err(|_| Failure::Stalled(wait))?;
        let count = read.map_err(|error| Failure::Protocol(error.to_string()))?;
        if count == 0 {
            return Ok(());
        }
        let read = buffer.get(..count).unwrap_or_default();
        splitter.feed(read, &mut |piece| pieces.push(piece)).map_err(malformed)?;
        for piece in pieces.drain(..) {
            place(feed, piece).await;
        }
    }
}

/// Fills the buffer; false where the connection ended before its first byte.
async fn exact(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8], wait: Duration) -> Result<bool, Failure> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = timeout(wait, stream.read(rest)).await.map_err(|_| Failure::Stalled(wait))?;
        match read.map_err(|error| Failure::Protocol(error.to_string()))? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(Failure::Ended),
            count => filled += count,
        }
    }
    Ok(true)
}

/// Waits for a place.
async fn place(feed: &Feed, piece: Piece) {
    while feed.full() {
        sleep(FULL).await;
    }
    // Nobody else ran since; and if they had, the oldest would give way and be counted.
    feed.put(piece);
}
