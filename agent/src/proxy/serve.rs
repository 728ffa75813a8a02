//! The clients' side of the proxy: connections, headers, and what is said where the model server says nothing.
//!
//! Must hold: at most [`CONNECTIONS`] connections, headers of at most [`HEADERS`] fields and [`BUFFER`] bytes, and no connection without
//! a request for longer than [`IDLE`]; headers that speak of a connection (RFC 9110, section 7.6.1) stay on it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::{Authority, Scheme};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch as signal};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::DRAIN;
use super::tee::Passing;
use super::upstream::Upstream;
use super::watch::Watch;

/// Connections of clients at a time; more wait.
const CONNECTIONS: usize = 256;
/// Most fields of a header.
pub(super) const HEADERS: usize = 128;
/// Most bytes of a header, and most that is read ahead of HTTP/1. With half as much, passing on a picture takes twice as long.
pub(super) const BUFFER: usize = 128 * 1024;
/// Most bytes on their way in one direction of a stream of HTTP/2, and of all streams of a connection.
pub(super) const STREAM_WINDOW: u32 = 1024 * 1024;
pub(super) const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Most bytes of a stream of HTTP/2 that wait to be sent: a picture, so that neither side waits for the other piece by piece.
pub(super) const SEND_BUFFER: usize = 512 * 1024;
/// Most bytes of a piece of a stream of HTTP/2; clients that know only the usual 16 KiB send those.
pub(super) const FRAME: u32 = 64 * 1024;
/// Streams of a connection at a time.
const STREAMS: u32 = 256;
/// Time for a request's header, and without a request. Longer than what servers use, so that theirs counts.
const IDLE: Duration = Duration::from_secs(120);
/// Wait after the system refused a connection.
const REFUSED: Duration = Duration::from_millis(100);
/// Wait for more of a connection's first bytes.
const FIRST: Duration = Duration::from_millis(1);

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What all connections share.
#[derive(Clone, Debug)]
pub(super) struct Served {
    /// Who watches may change while connections go on.
    pub(super) watch: signal::Receiver<Arc<Watch>>,
    pub(super) upstream: Arc<str>,
    pub(super) forwarded: bool,
}

/// Serves until told to stop, and then until what is on its way has arrived.
pub(super) async fn serve(listener: TcpListener, served: Served, mut stop: signal::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            // An error is that nobody is left who could say it.
            _ = stop.wait_for(|&stop| stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (served, stopping) = (served.clone(), stopping.clone());
                connections.spawn(async move {
                    converse(stream, peer, served, stopping).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the inference proxy accepts nothing");
                sleep(REFUSED).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, ended).await.is_err() {
        tracing::debug!("inferences were cut off because they took too long");
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, served: Served, mut stop: signal::Receiver<bool>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let upstream = Arc::new(Upstream::new(Arc::clone(&served.upstream)));
    // Most speak HTTP/1; a connection that turns out not to has lost nothing.
    let Ok(Some(version)) = timeout(IDLE, version(&stream)).await else { return };
    let early = Arc::clone(&upstream);
    tokio::spawn(async move { early.prepare(version).await });
    let service = service_fn(|request: Request<Incoming>| {
        let (served, upstream) = (&served, &upstream);
        async move { Ok::<_, Infallible>(pass(request, peer.ip(), served, upstream).await) }
    });
    let io = TokioIo::new(stream);
    // The same for both, but their types have nothing in common.
    macro_rules! until_the_end {
        ($connection:expr) => {{
            let mut connection = pin!($connection);
            let mut closing = false;
            loop {
                tokio::select! {
                    ended = connection.as_mut() => break ended,
                    () = upstream.gone(), if !closing => {}
                    _ = stop.wait_for(|&stop| stop), if !closing => {}
                }
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }};
    }
    let ended = if version == Version::HTTP_2 {
        let service = service_fn(|request: Request<Incoming>| {
            let (served, upstream) = (served.clone(), Arc::clone(&upstream));
            async move { Ok::<_, Infallible>(pass(request, peer.ip(), &served, &upstream).await) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(BUFFER).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_send_buf_size(SEND_BUFFER);
        until_the_end!(builder.serve_connection(io, service))
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .auto_date_header(false)
            .preserve_header_case(true)
            .max_headers(HEADERS)
            .max_buf_size(BUFFER);
        until_the_end!(builder.serve_connection(io, service))
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection through the inference proxy failed");
    }
}

/// What a connection begins with: nothing in HTTP/1 begins like the preface of HTTP/2 (RFC 9113, section 3.4). `None` where it ended.
async fn version(stream: &TcpStream) -> Option<Version> {
    const PREFACE: &[u8] = b"PRI";
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await.ok()?;
        match first.get(..count)? {
            [] => return None,
            PREFACE => return Some(Version::HTTP_2),
            start if !PREFACE.starts_with(start) => return Some(Version::HTTP_11),
            _ => sleep(FIRST).await,
        }
    }
}

/// Passes on a request, and its answer.
async fn pass(request: Request<Incoming>, peer: IpAddr, served: &Served, upstream: &Upstream) -> Response<Passing> {
    let (mut head, body) = request.into_parts();
    if head.method == Method::CONNECT {
        return own(StatusCode::NOT_IMPLEMENTED, "driftglass: there is no tunnel here\n".to_owned());
    }
    let watch = Arc::clone(&served.watch.borrow());
    let asking = watch.asked(&head, &body);
    let is_grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    keep_on_connection(&mut head.headers);
    if served.forwarded {
        forward_for(&mut head.headers, peer);
    }
    if head.version == Version::HTTP_2 {
        complete(&mut head.uri, &head.headers, upstream.address());
        head.headers.remove(HOST);
    } else if let Some(path) = head.uri.path_and_query() {
        head.uri = Uri::from(path.clone());
    }
    let body = match &asking {
        Some(asking) => Passing::request(body, Arc::clone(asking)),
        None => Passing::Unwatched(body),
    };
    match upstream.ask(Request::from_parts(head, body)).await {
        Ok(response) => {
            let (mut head, body) = response.into_parts();
            let closes = head.version != Version::HTTP_2 && says_close(&head.headers);
            keep_on_connection(&mut head.headers);
            if closes {
                // The client's connection ends with the server's, and should know.
                head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let body = match asking {
                Some(asking) => {
                    let answering = asking.answered(&head, &body);
                    Passing::answer(body, answering)
                }
                None => Passing::Unwatched(body),
            };
            Response::from_parts(head, body)
        }
        Err(unanswered) => {
            watch.unanswered(asking.as_deref(), &unanswered);
            let text = format!("driftglass: the model server at {} {unanswered}\n", upstream.address());
            if is_grpc { own_grpc(&text) } else { own(StatusCode::BAD_GATEWAY, text) }
        }
    }
}

/// Removes what speaks of this connection only.
fn keep_on_connection(headers: &mut HeaderMap) {
    let named =
        headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let named: Vec<HeaderName> = named.filter_map(|name| HeaderName::try_from(name.trim()).ok()).collect();
    // Nobody may have the length or the host of a message forgotten.
    for name in named.iter().filter(|name| **name != CONTENT_LENGTH && **name != HOST && **name != TE) {
        headers.remove(name);
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|text| text.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"))
}

/// Appends to what proxies before this one have said.
fn forward_for(headers: &mut HeaderMap, peer: IpAddr) {
    let before = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let chain: Vec<_> = before.map(str::to_owned).chain([peer.to_canonical().to_string()]).collect();
    if let Ok(value) = HeaderValue::try_from(chain.join(", ")) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// HTTP/2 asks by scheme and authority; a client may have sent a host instead of the latter.
fn complete(uri: &mut Uri, headers: &HeaderMap, upstream: &str) {
    if uri.scheme().is_some() && uri.authority().is_some() {
        return;
    }
    let mut parts = std::mem::take(uri).into_parts();
    let host = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    parts.authority = parts.authority.or(host).or_else(|| Authority::try_from(upstream).ok());
    parts.scheme = parts.scheme.or(Some(Scheme::HTTP));
    parts.path_and_query = parts.path_and_query.or_else(|| "/".parse().ok());
    if let Ok(complete) = Uri::from_parts(parts) {
        *uri = complete;
    }
}

fn own(status: StatusCode, text: String) -> Response<Passing> {
    let mut response = Response::new(Passing::Own(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A call that ends before it began: trailers only, status 14, unavailable.
fn own_grpc(text: &str) -> Response<Passing> {
    let mut response = Response::new(Passing::Own(Full::default()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("14"));
    // Percent signs and what is beyond ASCII would have to be encoded.
    let plain: String =
        text.trim_end().chars().map(|c| if c.is_ascii_graphic() && c != '%' { c } else { ' ' }).collect();
    if let Ok(message) = HeaderValue::try_from(plain) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_speaks_of_the_connection_stays_on_it() {
        let mut passed = headers(&[
            ("connection", "keep-alive, x-private, content-length"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("content-length", "5"),
            ("x-other", "2"),
        ]);
        keep_on_connection(&mut passed);
        assert_eq!(passed, headers(&[("content-length", "5"), ("x-other", "2")]));
        let mut call = headers(&[("te", "trailers"), ("grpc-timeout", "1S")]);
        keep_on_connection(&mut call);
        assert_eq!(call.len(), 2);
        assert!(
            says_close(&headers(&[("connection", "foo, Close")]))
                && !says_close(&headers(&[("connection", "keep-alive")]))
        );
    }

    #[test]
    fn who_asked_is_appended() {
        let mut passed = headers(&[("x-forwarded-for", "10.0.0.1")]);
        forward_for(&mut passed, [127, 0, 0, 1].into());
        assert_eq!(passed.get(FORWARDED_FOR).expect("there"), "10.0.0.1, 127.0.0.1");
    }

    #[test]
    fn an_address_is_completed() {
        let of = |uri: &'static str, headers: &HeaderMap| {
            let mut uri = Uri::from_static(uri);
            complete(&mut uri, headers, "h:1");
            uri.to_string()
        };
        assert_eq!(of("/a", &headers(&[("host", "model:8001")])), "http://model:8001/a");
        assert_eq!(of("/a?b", &HeaderMap::new()), "http://h:1/a?b");
        assert_eq!(of("http://other:2/a", &HeaderMap::new()), "http://other:2/a");
    }
}
