//! One endless answer with a picture a part.
//!
//! Must hold: the connection is given up when no picture was completed for the time configured, however many bytes came.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::address::Address;
use super::http::{self, Client};
use super::live::Feed;
use super::multipart::Parser;
use super::status::Failure;

/// A camera that sends by itself once asked.
#[derive(Debug)]
pub(super) struct Mjpeg {
    client: Client,
    wait: Duration,
}

impl Mjpeg {
    pub(super) const fn new(address: Address, certificates: Option<PathBuf>, wait: Duration) -> Self {
        Self { client: Client::new(address, certificates, wait), wait }
    }

    /// Reads until something fails, which an endless answer's end is.
    pub(super) async fn attempt(&mut self, feed: &Feed) -> Failure {
        let failure = match self.read(feed).await {
            Ok(()) => Failure::Ended,
            Err(failure) => failure,
        };
        self.client.close();
        failure
    }

    async fn read(&mut self, feed: &Feed) -> Result<(), Failure> {
        let mut body = self.client.get(feed.outside()).await?.into_body();
        let mut parser = Parser::new(feed.limit());
        let mut deadline = Instant::now() + self.wait;
        loop {
            let bytes = match timeout_at(deadline, http::piece(&mut body)).await {
                Err(_) => return Err(Failure::Stalled(self.wait)),
                Ok(bytes) => bytes?,
            };
            let Some(bytes) = bytes else { return Ok(()) };
            parser.feed(&bytes, &mut |picture| {
                feed.put(picture);
                deadline = Instant::now() + self.wait;
            })?;
        }
    }
}
