//! One client's connection to the model server.
//!
//! A client's connection has one of its own to the server, of the same version of HTTP, begun as soon as the client's is there. What one
//! side learns from the other closing a connection it therefore learns through the proxy, too, and nothing is shared between clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::serve::{BUFFER, CONNECTION_WINDOW, HEADERS, SEND_BUFFER, STREAM_WINDOW};
use super::tee::Passing;
use crate::source::status::with_causes;

/// Time until there is a connection, or an old one is ready again.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Unanswered {
    /// No connection.
    #[error("cannot be reached: {0}")]
    Connect(io::Error),
    /// The connection broke.
    #[error("ended the connection without an answer: {0}")]
    Broke(String),
}

impl Unanswered {
    fn broke(error: &hyper::Error) -> Self {
        Self::Broke(with_causes(error))
    }
}

type One = http1::SendRequest<Passing>;
type Two = http2::SendRequest<Passing>;

/// The server's side of one client's connection.
#[derive(Debug)]
pub(super) struct Upstream {
    address: Arc<str>,
    one: Mutex<Option<One>>,
    two: Mutex<Option<Two>>,
    gone: Arc<Notify>,
}

impl Upstream {
    pub(super) fn new(address: Arc<str>) -> Self {
        Self { address, one: Mutex::default(), two: Mutex::default(), gone: Arc::default() }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Resolves when the server has closed a connection.
    pub(super) async fn gone(&self) {
        self.gone.notified().await;
    }

    /// Connects before there is anything to ask. That it fails is told to the first who asks.
    pub(super) async fn prepare(&self, version: Version) {
        if version == Version::HTTP_2 {
            let mut place = self.two.lock().await;
            if place.is_none() {
                *place = self.connect_two().await.ok();
            }
        } else {
            let mut place = self.one.lock().await;
            if place.is_none() {
                *place = self.connect_one().await.ok();
            }
        }
    }

    /// Asks. What could not even begin to be sent because the server had closed the connection is sent on a new one, once.
    pub(super) async fn ask(&self, request: Request<Passing>) -> Result<Response<Incoming>, Unanswered> {
        if request.version() == Version::HTTP_2 { self.ask_two(request).await } else { self.ask_one(request).await }
    }

    async fn ask_one(&self, mut request: Request<Passing>) -> Result<Response<Incoming>, Unanswered> {
        // A client asks one thing after the other on a connection.
        let mut place = self.one.lock().await;
        let mut old = place.take();
        if let Some(sender) = &mut old
            && !matches!(timeout(CONNECT, sender.ready()).await, Ok(Ok(())))
        {
            old = None;
        }
        let mut sender = match old {
            Some(sender) => sender,
            None => self.connect_one().await?,
        };
        let mut again = true;
        loop {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *place = Some(sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if again => request = unsent,
                    _ => return Err(Unanswered::broke(error.error())),
                },
            }
            again = false;
            sender = self.connect_one().await?;
        }
    }

    async fn ask_two(&self, mut request: Request<Passing>) -> Result<Response<Incoming>, Unanswered> {
        let mut again = true;
        loop {
            let mut sender = {
                let mut place = self.two.lock().await;
                match place.as_ref().filter(|sender| !sender.is_closed()) {
                    Some(sender) => sender.clone(),
                    None => place.insert(self.connect_two().await?).clone(),
                }
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if again => request = unsent,
                    _ => return Err(Unanswered::broke(error.error())),
                },
            }
            again = false;
        }
    }

    async fn dial(&self) -> Result<TokioIo<TcpStream>, Unanswered> {
        let stream = timeout(CONNECT, TcpStream::connect(&*self.address)).await;
        let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Unanswered::Connect)?;
        // A small request must not wait for the acknowledgement of another.
        stream.set_nodelay(true).map_err(Unanswered::Connect)?;
        Ok(TokioIo::new(stream))
    }

    async fn connect_one(&self) -> Result<One, Unanswered> {
        let (sender, connection) = http1::Builder::new()
            .max_headers(HEADERS)
            .max_buf_size(BUFFER)
            .preserve_header_case(true)
            .handshake(self.dial().await?)
            .await
            .map_err(|error| Unanswered::broke(&error))?;
        self.drive(connection);
        Ok(sender)
    }

    async fn connect_two(&self) -> Result<Two, Unanswered> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .handshake(self.dial().await?)
            .await
            .map_err(|error| Unanswered::broke(&error))?;
        self.drive(connection);
        Ok(sender)
    }

    /// Lets a connection run to its end, and says that it is gone then.
    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        let gone = Arc::clone(&self.gone);
        tokio::spawn(async move {
            // Whoever waits for the answer gets the same error.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the model server ended");
            }
            gone.notify_one();
        });
    }
}
