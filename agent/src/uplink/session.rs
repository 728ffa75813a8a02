//! One session over one connection: the protocol's `Sender` driven by a stream.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::session::{Acknowledge, Hello, MessageError, Refuse, Sender, SenderError, Welcome};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{FrameError, Kind, RecordId, parse_frame};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Counters;
use super::backoff::Backoff;
use super::bridge::bridge;
use super::renewal::Keeper;
use crate::spool::{ReadError, Reader, Shared};

/// Longest wait for an answer: the welcome, or an acknowledgement while records are in flight.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest wait for the connection to take one frame.
const SEND: Duration = Duration::from_secs(60);

/// Why a session ended.
#[derive(Debug)]
pub(super) enum Ended {
    Stopped,
    Spool(ReadError),
    Sender(SenderError),
    Refused(Refuse),
    Stream(String),
    Frame(FrameError),
    Message(MessageError),
    Unexpected(Kind),
    Silent,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the agent stops"),
            Self::Spool(error) => error.fmt(f),
            Self::Sender(error) => error.fmt(f),
            Self::Refused(refuse) => write!(f, "refused: {}", refuse.reason.name()),
            Self::Stream(error) => write!(f, "the connection is gone: {error}"),
            Self::Frame(error) => write!(f, "the aggregator sent a malformed frame: {error}"),
            Self::Message(error) => write!(f, "the aggregator sent a malformed message: {error}"),
            Self::Unexpected(kind) => write!(f, "the aggregator sent a {kind:?}, which is not its to send"),
            Self::Silent => write!(f, "the aggregator gave no answer for {} s", ANSWER.as_secs()),
        }
    }
}

/// What a session works on.
pub(super) struct Session<'a> {
    pub(super) sender: &'a mut Sender,
    pub(super) reader: &'a mut Reader,
    pub(super) spool: &'a Arc<Shared>,
    pub(super) counters: &'a Counters,
    pub(super) keeper: Option<&'a dyn Keeper>,
}

impl Session<'_> {
    pub(super) async fn drive(
        &mut self,
        connection: &quinn::Connection,
        hello: &Hello,
        backoff: &mut Backoff,
        stop: watch::Receiver<bool>,
    ) -> Ended {
        match self.converse(connection, hello, backoff, stop).await {
            Ok(()) => Ended::Stopped,
            // What the aggregator said last tells more than that the stream broke.
            Err(Ended::Stream(error)) => {
                Ended::Stream(connection.close_reason().map_or(error, |reason| reason.to_string()))
            }
            Err(ended) => ended,
        }
    }

    async fn converse(
        &mut self,
        connection: &quinn::Connection,
        hello: &Hello,
        backoff: &mut Backoff,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Ended> {
        let (mut send, mut receive) = connection.open_bi().await.map_err(|error| Ended::Stream(error.to_string()))?;
        let mut frame = vec![0; FRAME_BYTES];
        let length = hello.write(&mut frame).map_err(Ended::Frame)?;
        transmit(&mut send, &frame[..length]).await?;
        self.sender.handle_connected();
        let mut inbox = Vec::new();
        let mut chunk = [0; 2048];
        let mut deadline = Some(Instant::now() + ANSWER);
        loop {
            let idle = self.sender.in_flight() == 0;
            self.transmit_all(&mut send, &mut frame).await?;
            if idle && self.sender.in_flight() > 0 {
                deadline = Some(Instant::now() + ANSWER);
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                () = self.spool.appended() => {}
                () = expired(deadline) => return Err(Ended::Silent),
                read = receive.read(&mut chunk) => match read {
                    Ok(Some(count)) => {
                        inbox.extend_from_slice(&chunk[..count]);
                        if self.receive_all(&mut inbox, hello.clock, backoff)? {
                            deadline = (self.sender.in_flight() > 0).then(|| Instant::now() + ANSWER);
                        }
                    }
                    Ok(None) => return Err(Ended::Stream("closed by the aggregator".into())),
                    Err(error) => return Err(Ended::Stream(error.to_string())),
                },
            }
        }
    }

    /// Sends as much as the sender allows and the spool has.
    async fn transmit_all(&mut self, send: &mut quinn::SendStream, frame: &mut [u8]) -> Result<(), Ended> {
        while let Some(mark) = self.sender.poll_transmit() {
            let Some(stored) = self.reader.next_after(mark).map_err(Ended::Spool)? else { return Ok(()) };
            let id = match bridge(mark, stored.id, stored.previous) {
                None => {
                    transmit(send, stored.frame).await?;
                    stored.id
                }
                Some(tombstone) => {
                    let RecordId { epoch, first, last } = tombstone.id;
                    tracing::warn!(%mark, epoch, first, last, "the aggregator lacks records that are gone; a tombstone is sent for them");
                    let length = tombstone.write(frame).map_err(Ended::Frame)?;
                    transmit(send, &frame[..length]).await?;
                    tombstone.id
                }
            };
            self.sender.handle_sent(id).map_err(Ended::Sender)?;
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Handles every whole frame in the inbox; true where there was one. The hello was said at `said_at`.
    fn receive_all(&mut self, inbox: &mut Vec<u8>, said_at: UnixMillis, backoff: &mut Backoff) -> Result<bool, Ended> {
        let mut used = 0;
        while let Some(rest) = inbox.get(used..).filter(|rest| !rest.is_empty()) {
            let frame = match parse_frame(rest) {
                Ok(frame) => frame,
                Err(FrameError::Incomplete { .. }) => break,
                Err(error) => return Err(Ended::Frame(error)),
            };
            used += frame.length;
            match frame.kind {
                Kind::Welcome => {
                    let welcome = Welcome::parse(frame).map_err(Ended::Message)?;
                    self.sender.handle_welcome(welcome).map_err(Ended::Sender)?;
                    self.spool.acknowledge(welcome.mark);
                    self.counters.connected.store(true, Ordering::Relaxed);
                    backoff.reset();
                    self.counters.clock_offset.set(said_at.0.saturating_sub(welcome.clock.0));
                    if let Some(keeper) = self.keeper {
                        keeper.learn(welcome.clock);
                    }
                    tracing::info!(mark = %welcome.mark, pending = self.spool.pending(), "the aggregator welcomes this device");
                }
                Kind::Acknowledge => {
                    let before = self.sender.in_flight();
                    let acknowledge = Acknowledge::parse(frame).map_err(Ended::Message)?;
                    let mark = self.sender.handle_acknowledge(acknowledge).map_err(Ended::Sender)?;
                    let count = before.saturating_sub(self.sender.in_flight());
                    self.counters.acknowledged.fetch_add(count as u64, Ordering::Relaxed);
                    self.spool.acknowledge(mark);
                }
                Kind::Refuse => return Err(Ended::Refused(Refuse::parse(frame).map_err(Ended::Message)?)),
                other => return Err(Ended::Unexpected(other)),
            }
        }
        inbox.drain(..used);
        Ok(used > 0)
    }
}

async fn transmit(send: &mut quinn::SendStream, bytes: &[u8]) -> Result<(), Ended> {
    match timeout(SEND, send.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ended::Stream(error.to_string())),
        Err(_) => Err(Ended::Silent),
    }
}

async fn expired(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
