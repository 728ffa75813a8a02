//! `/metrics` and `/healthz` on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::telemetry::Telemetry;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 8;
/// A connection lives no longer than this.
const CONNECTION: Duration = Duration::from_secs(30);

/// Serves until dropped.
pub(super) async fn serve(
    listener: TcpListener,
    telemetry: Arc<Telemetry>,
    healthy: impl Fn() -> bool + Clone + Send + Sync + 'static,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (telemetry, healthy) = (Arc::clone(&telemetry), healthy.clone());
                tokio::spawn(async move {
                    answer_all(stream, peer, telemetry, healthy).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics socket accepts nothing");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer_all(stream: TcpStream, peer: SocketAddr, telemetry: Arc<Telemetry>, healthy: impl Fn() -> bool) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, &telemetry, healthy());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5))
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection to the metrics socket failed"),
    }
}

fn answer(request: &Request<Incoming>, telemetry: &Telemetry, healthy: bool) -> Response<Full<Bytes>> {
    let text = |status, body: &'static str| (status, "text/plain; charset=utf-8", body.into());
    let (status, kind, body): (_, _, Bytes) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match telemetry.render() {
            Ok(body) => (StatusCode::OK, prometheus::TEXT_FORMAT, body.into()),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n")
            }
        },
        // A camera that is down is told, but it is no reason to restart the agent.
        (&Method::GET | &Method::HEAD, "/healthz") if healthy => {
            let body = format!("ok\n{}{}", telemetry.detour(), telemetry.ailing());
            (StatusCode::OK, "text/plain; charset=utf-8", body.into())
        }
        (&Method::GET | &Method::HEAD, "/healthz") => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the pipeline makes no progress\n")
        }
        (_, "/metrics" | "/healthz") => text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n"),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
