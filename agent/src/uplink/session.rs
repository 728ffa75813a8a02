//! One session over one connection: the exchange driven by a stream.

use std::time::Duration;

use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::session::Hello;
use driftglass_protocol::wire::parse_frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::aside::{Aside, next};
use super::backoff::Backoff;
use super::exchange::{ANSWER, Ended, Exchange};
use super::link::{Link, Reading, Transport, Writing};
use super::renewal::Keeper;

/// Longest wait for the connection to take one frame.
const SEND: Duration = Duration::from_secs(60);
/// How long a connection over TCP may take to close.
const GOODBYE: Duration = Duration::from_secs(2);

/// A session on its connection.
pub(super) struct Session<'a> {
    pub(super) exchange: Exchange<'a>,
    pub(super) keeper: Option<&'a dyn Keeper>,
    /// Where the connection has no stream for anything else.
    pub(super) aside: Option<Aside>,
}

impl Session<'_> {
    pub(super) async fn drive(
        &mut self,
        link: &Link,
        hello: &Hello,
        backoff: &mut Backoff,
        stop: watch::Receiver<bool>,
    ) -> Ended {
        let (mut receive, mut send) = match link.open().await {
            Ok(streams) => streams,
            Err(error) => return Ended::Stream(link.close_reason().unwrap_or_else(|| error.to_string())),
        };
        let conversed = self.converse(&mut receive, &mut send, hello, backoff, stop).await;
        if link.transport() == Transport::Tcp && timeout(GOODBYE, send.shutdown()).await.is_err() {
            tracing::debug!("the connection took too long to close");
        }
        match conversed {
            Ok(()) => Ended::Stopped,
            // What the aggregator said last tells more than that the stream broke.
            Err(Ended::Stream(error)) => Ended::Stream(link.close_reason().unwrap_or(error)),
            Err(ended) => ended,
        }
    }

    async fn converse(
        &mut self,
        receive: &mut Reading,
        send: &mut Writing,
        hello: &Hello,
        backoff: &mut Backoff,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Ended> {
        let mut frame = vec![0; FRAME_BYTES];
        let length = hello.write(&mut frame).map_err(Ended::Frame)?;
        transmit(send, &frame[..length]).await?;
        self.exchange.sender.handle_connected();
        let mut inbox = Vec::new();
        let mut chunk = [0; 2048];
        let mut deadline = Some(Instant::now() + ANSWER);
        loop {
            let idle = self.exchange.sender.in_flight() == 0;
            self.transmit_all(send, &mut frame).await?;
            if idle && self.exchange.sender.in_flight() > 0 {
                deadline = Some(Instant::now() + ANSWER);
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                () = self.exchange.spool.appended() => {}
                message = next(self.aside.as_mut()) => transmit(send, &message).await?,
                () = expired(deadline) => return Err(Ended::Silent),
                read = receive.read(&mut chunk) => match read {
                    Ok(0) => return Err(Ended::Stream("closed by the aggregator".into())),
                    Ok(count) => {
                        inbox.extend_from_slice(&chunk[..count]);
                        let received = self.exchange.receive(&mut inbox)?;
                        if let Some(clock) = received.welcomed {
                            backoff.reset();
                            self.exchange.counters.clock_offset.set(hello.clock.0.saturating_sub(clock.0));
                            if let Some(keeper) = self.keeper {
                                keeper.learn(clock);
                            }
                        }
                        for message in received.aside {
                            match &self.aside {
                                Some(aside) => aside.pass_on(message),
                                None => return Err(unexpected(&message)),
                            }
                        }
                        if received.anything {
                            deadline = (self.exchange.sender.in_flight() > 0).then(|| Instant::now() + ANSWER);
                        }
                    }
                    Err(error) => return Err(Ended::Stream(error.to_string())),
                },
            }
        }
    }

    /// Sends as much as the sender allows and the spool has.
    async fn transmit_all(&mut self, send: &mut Writing, frame: &mut [u8]) -> Result<(), Ended> {
        while let Some(length) = self.exchange.transmit(frame)? {
            transmit(send, frame.get(..length).unwrap_or_default()).await?;
        }
        Ok(())
    }
}

async fn transmit(send: &mut Writing, bytes: &[u8]) -> Result<(), Ended> {
    let written = async {
        send.write_all(bytes).await?;
        send.flush().await
    };
    match timeout(SEND, written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ended::Stream(error.to_string())),
        Err(_) => Err(Ended::Silent),
    }
}

/// A frame that has a stream of its own over this connection.
fn unexpected(frame: &[u8]) -> Ended {
    match parse_frame(frame) {
        Ok(frame) => Ended::Unexpected(frame.kind),
        Err(error) => Ended::Frame(error),
    }
}

async fn expired(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
