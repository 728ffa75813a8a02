//! One agent's session: greet, then records in and acknowledgements out, until either side ends it.

use std::collections::VecDeque;
use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::session::{Acknowledge, Hello, Incoming, Receiver, Refuse, RefuseReason, Welcome};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, FrameError, Mark, Record};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::aside::{self, Aside};
use super::splitter::{FrameSplitter, Located};
use super::{IN_FLIGHT, Rejection};
use crate::ledger::Outcome;
use crate::store::{Greeting, Standing};

/// How long a new connection may take to greet.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// How long a frame may take from its first byte to its last: the longest one at a kilobyte a second.
const FRAME_LIMIT: Duration = Duration::from_secs(64);
/// How long an answer may take to leave; a peer that does not read loses its connection.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long a session that is told to stop waits for what it has handed to the ledger.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// When an agent that is turned away because the aggregator stops or cannot store should try again.
const RETRY_AFTER_S: u32 = 5;
/// When a copy of a device may ask again whether the other one is still about.
const CLONE_RETRY_AFTER_S: u32 = 120;
/// Room for any message of ours.
const MESSAGE_BYTES: usize = 128;

/// The ledger has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the ledger is not available")]
pub struct LedgerError;

/// What a session needs of the ledger.
pub trait Ledger: Sync {
    /// What becomes of a record, once that is durable. Answers arrive in the order of submission.
    type Ticket: Future<Output = Result<Outcome, LedgerError>> + Unpin + Send;

    /// Notes a greeting and returns the device's mark and whether it may go on.
    fn greet(&self, hello: Hello) -> impl Future<Output = Result<Greeting, LedgerError>> + Send;

    /// Hands in a record. When this returns, the record has its place: records are judged in the order in which calls returned.
    fn submit(
        &self,
        device: &DeviceId,
        frame: Vec<u8>,
    ) -> impl Future<Output = Result<Self::Ticket, LedgerError>> + Send;
}

/// What a session tells while it runs, for the metrics.
pub trait Observer: Sync {
    /// A record was counted; `lag_s` is the time in seconds from the end of its window to its commit.
    fn accepted(&self, lag_s: Option<f64>);
    /// A record had been counted before.
    fn duplicate(&self);
    /// The session waits, because the device has sent more than it may.
    fn throttled(&self);
}

/// Who speaks, and what the session needs of its surroundings.
#[derive(Debug)]
pub struct Peer<'a, L, O> {
    /// The device that the certificate names.
    pub device: DeviceId,
    /// The ledger.
    pub ledger: &'a L,
    /// Who is told of outcomes.
    pub observer: &'a O,
    /// The aggregator's clock.
    pub clock: fn() -> UnixMillis,
}

/// The connection's place among those of its device.
pub trait Place: Send {
    /// Turns to `Some` when the session should end early; dropping its sender means nothing.
    fn stop(&mut self) -> &mut watch::Receiver<Option<Stop>>;

    /// The greeting has been accepted: from now on this is the device's connection, and an older one is not.
    fn accepted(&mut self);

    /// Notes a record of so many bytes; returns how long to wait before the next is taken.
    fn spend(&mut self, bytes: usize) -> Duration;
}

/// Why a session is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A newer connection of the same device has come.
    Superseded,
    /// The aggregator is going down.
    ShuttingDown,
    /// The device has been revoked.
    Revoked,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The agent closed its side after a whole frame.
    Finished,
    /// It was told to stop.
    Stopped(Stop),
    /// The agent sent something that cannot be counted.
    Rejected {
        /// Why.
        reason: Rejection,
        /// Offset in the stream of the frame that was refused.
        offset: u64,
        /// The reason in full.
        detail: String,
    },
    /// The connection broke.
    Lost {
        /// What the transport said.
        detail: String,
    },
}

/// A record between submission and commit.
struct Pending<T> {
    ticket: T,
    offset: u64,
    window_end: Option<UnixMillis>,
}

/// Runs a session to its end.
pub async fn serve<R, W, L, O, P>(peer: &Peer<'_, L, O>, reader: &mut R, writer: &mut W, place: &mut P) -> Ended
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    L: Ledger,
    O: Observer,
    P: Place,
{
    serve_beside(peer, reader, writer, place, None).await
}

/// The same over a connection that has no other stream: what else there is to say goes over this one.
pub async fn serve_beside<R, W, L, O, P>(
    peer: &Peer<'_, L, O>,
    reader: &mut R,
    writer: &mut W,
    place: &mut P,
    aside: Option<Aside>,
) -> Ended
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    L: Ledger,
    O: Observer,
    P: Place,
{
    let mut session = Session {
        peer,
        writer,
        place,
        receiver: Receiver::new(peer.device.clone()),
        greeted: false,
        resume_at: None,
        mark: Mark::default(),
        pending: VecDeque::new(),
        aside,
    };
    match session.run(reader).await {
        Ok(ended) | Err(ended) => ended,
    }
}

struct Session<'a, W, L: Ledger, O, P> {
    peer: &'a Peer<'a, L, O>,
    writer: &'a mut W,
    place: &'a mut P,
    receiver: Receiver,
    greeted: bool,
    /// Nothing is taken before this: the device has sent more than it may.
    resume_at: Option<Instant>,
    mark: Mark,
    pending: VecDeque<Pending<L::Ticket>>,
    aside: Option<Aside>,
}

impl<W: AsyncWrite + Unpin + Send, L: Ledger, O: Observer, P: Place> Session<'_, W, L, O, P> {
    async fn run<R: AsyncRead + Unpin + Send>(&mut self, reader: &mut R) -> Result<Ended, Ended> {
        let mut splitter = FrameSplitter::new();
        let greeting_limit = tokio::time::sleep(GREETING_LIMIT);
        let frame_limit = tokio::time::sleep(FRAME_LIMIT);
        tokio::pin!(greeting_limit, frame_limit);
        let mut open = true;
        // Where the frame stands that has begun to arrive.
        let mut begun = None;
        loop {
            while self.pending.len() < IN_FLIGHT && self.resume_at.is_none() {
                match self.take(&mut splitter).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err((reason, ended)) => return Err(self.refuse(reason, ended).await),
                }
            }
            let room = self.pending.len() < IN_FLIGHT && self.resume_at.is_none();
            let begins = (room && splitter.has_begun()).then(|| splitter.offset());
            if begins.is_some() && begins != begun {
                frame_limit.as_mut().reset(Instant::now() + FRAME_LIMIT);
            }
            begun = begins;
            if !open && room && self.pending.is_empty() {
                return match splitter.finish() {
                    Ok(()) => Ok(Ended::Finished),
                    Err(malformed) => Err(Ended::Lost { detail: format!("the stream ends early {malformed}") }),
                };
            }
            tokio::select! {
                biased;
                Some(reason) = told_to_stop(self.place.stop()) => return Err(self.stop(reason).await),
                outcomes = next_outcomes(&mut self.pending), if !self.pending.is_empty() => {
                    self.settle(outcomes).await?;
                }
                () = &mut greeting_limit, if !self.greeted => {
                    let detail = format!("no greeting within {} s", GREETING_LIMIT.as_secs());
                    let ended = Ended::Rejected { reason: Rejection::Slow, offset: splitter.offset(), detail };
                    return Err(self.refuse(RefuseReason::Protocol, ended).await);
                }
                () = &mut frame_limit, if begun.is_some() => {
                    let detail = format!("a frame did not arrive within {} s", FRAME_LIMIT.as_secs());
                    let ended = Ended::Rejected { reason: Rejection::Slow, offset: splitter.offset(), detail };
                    return Err(self.refuse(RefuseReason::Protocol, ended).await);
                }
                message = aside::next(self.aside.as_mut()), if self.greeted => self.write(&message).await?,
                () = until(self.resume_at), if self.resume_at.is_some() => self.resume_at = None,
                read = reader.read(splitter.spare()), if open && room => match read {
                    Ok(0) => open = false,
                    Ok(count) => splitter.advance(count),
                    Err(error) => return Err(Ended::Lost { detail: error.to_string() }),
                },
            }
        }
    }

    /// Takes one frame from the buffer and acts on it; `false` where there is none.
    async fn take(&mut self, splitter: &mut FrameSplitter) -> Result<bool, (RefuseReason, Ended)> {
        let next = splitter.take_frame().map_err(|malformed| {
            let detail = malformed.error.to_string();
            let reason = Rejection::from(malformed.error);
            (RefuseReason::Malformed, Ended::Rejected { reason, offset: malformed.offset, detail })
        })?;
        let Some(Located { offset, frame, bytes }) = next else { return Ok(false) };
        let rejected = |refuse: RefuseReason, detail: String| {
            (refuse, Ended::Rejected { reason: Rejection::from(refuse), offset, detail })
        };
        if let Some(aside) = self.aside.as_ref().filter(|_| self.greeted && Aside::takes(frame.kind)) {
            aside.pass_on(bytes);
            self.spend(bytes.len());
            return Ok(true);
        }
        // The device's mark is only known after the greeting, which is why the epoch is compared below and not by the receiver.
        match self.receiver.handle_frame(frame, Mark::default()) {
            Ok(Incoming::Hello(hello)) => {
                let epoch = hello.epoch;
                let greeted = self.peer.ledger.greet(hello).await;
                let greeting = greeted.map_err(|error| rejected(RefuseReason::Unavailable, error.to_string()))?;
                self.mark = greeting.mark;
                if let Some(reason) = refusal(greeting, epoch) {
                    let detail = format!("epoch {epoch}, counted up to {}: {:?}", self.mark, greeting.standing);
                    return Err(rejected(reason, detail));
                }
                self.greeted = true;
                self.place.accepted();
                let in_flight = u16::try_from(IN_FLIGHT).unwrap_or(u16::MAX);
                let welcome = Welcome { mark: self.mark, clock: (self.peer.clock)(), in_flight };
                self.send(|out| welcome.write(out)).await.map_err(|ended| (RefuseReason::Protocol, ended))?;
            }
            Ok(Incoming::Record(record)) => {
                let window_end = match &record.body {
                    Body::Summary(summary) => Some(summary.window.end()),
                    Body::Tombstone(_) => None,
                };
                let submitted = self.peer.ledger.submit(&self.peer.device, bytes.to_vec()).await;
                let ticket = submitted.map_err(|error| rejected(RefuseReason::Unavailable, error.to_string()))?;
                self.pending.push_back(Pending { ticket, offset, window_end });
                self.spend(bytes.len());
            }
            Err(refuse) => {
                let detail = match refuse {
                    RefuseReason::Malformed => Record::parse(frame)
                        .err()
                        .map_or_else(|| "the greeting does not decode".to_owned(), |error| error.to_string()),
                    RefuseReason::Identity => "the greeting names another device than the certificate".to_owned(),
                    _ => format!("a {:?} out of turn", frame.kind),
                };
                return Err(rejected(refuse, detail));
            }
        }
        Ok(true)
    }

    /// Counts bytes against what the device may send.
    fn spend(&mut self, bytes: usize) {
        let wait = self.place.spend(bytes);
        if !wait.is_zero() {
            self.peer.observer.throttled();
            self.resume_at = Some(Instant::now() + wait);
        }
    }

    /// Acknowledges what has been committed, cumulatively; refuses what the ledger refused.
    async fn settle(&mut self, outcomes: Vec<(Settled, u64)>) -> Result<(), Ended> {
        let now = (self.peer.clock)();
        let mut refusal = None;
        for ((outcome, window_end), offset) in outcomes {
            match outcome {
                Ok(Outcome::Accepted(mark)) => {
                    self.mark = self.mark.max(mark);
                    #[expect(clippy::cast_precision_loss, reason = "a lag in milliseconds stays far below 2⁵³")]
                    self.peer.observer.accepted(window_end.map(|end| now.since(end) as f64 / 1000.0));
                }
                Ok(Outcome::Duplicate(mark)) => {
                    self.mark = self.mark.max(mark);
                    self.peer.observer.duplicate();
                }
                Ok(Outcome::Refused { reason, expected_after }) => {
                    refusal = Some((reason, offset, format!("the next record expected follows {expected_after}")));
                    break;
                }
                Err(error) => {
                    refusal = Some((RefuseReason::Unavailable, offset, error.to_string()));
                    break;
                }
            }
        }
        if self.mark > Mark::default() {
            let acknowledge = Acknowledge { mark: self.mark };
            self.send(|out| acknowledge.write(out)).await?;
        }
        match refusal {
            None => Ok(()),
            Some((refuse, offset, detail)) => {
                let ended = Ended::Rejected { reason: Rejection::from(refuse), offset, detail };
                Err(self.refuse(refuse, ended).await)
            }
        }
    }

    /// Lets what was handed in become durable, acknowledges it, and says goodbye.
    async fn stop(&mut self, stop: Stop) -> Ended {
        let drained = tokio::time::timeout(DRAIN_LIMIT, async {
            while !self.pending.is_empty() {
                let outcomes = next_outcomes(&mut self.pending).await;
                self.settle(outcomes).await?;
            }
            Ok::<(), Ended>(())
        })
        .await;
        if let Ok(Err(ended)) = drained {
            return ended;
        }
        let reason = match stop {
            Stop::Superseded => RefuseReason::Superseded,
            Stop::ShuttingDown => RefuseReason::Unavailable,
            Stop::Revoked => RefuseReason::Revoked,
        };
        self.refuse(reason, Ended::Stopped(stop)).await
    }

    /// Sends a refusal where it still can be sent; returns how the session ended either way.
    async fn refuse(&mut self, reason: RefuseReason, ended: Ended) -> Ended {
        if matches!(ended, Ended::Lost { .. }) {
            return ended;
        }
        let retry_after_s = match reason {
            RefuseReason::Unavailable => RETRY_AFTER_S,
            RefuseReason::Cloned => CLONE_RETRY_AFTER_S,
            _ => 0,
        };
        let refuse = Refuse { reason, expected_after: self.mark, retry_after_s };
        // The agent learns more from a refusal than from a closed connection, and loses nothing without one.
        drop(self.send(|out| refuse.write(out)).await);
        ended
    }

    async fn send(&mut self, write: impl FnOnce(&mut [u8]) -> Result<usize, FrameError>) -> Result<(), Ended> {
        let mut out = [0; MESSAGE_BYTES];
        let length = write(&mut out).map_err(|error| Ended::Lost { detail: error.to_string() })?;
        self.write(out.get(..length).unwrap_or_default()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        match tokio::time::timeout(WRITE_LIMIT, self.writer.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended::Lost { detail: error.to_string() }),
            Err(_) => Err(Ended::Lost { detail: "the agent does not read its acknowledgements".to_owned() }),
        }
    }
}

/// Why a device that greets is turned away, where it is.
#[must_use]
pub const fn refusal(greeting: Greeting, epoch: u32) -> Option<RefuseReason> {
    match greeting.standing {
        Standing::Cloned => Some(RefuseReason::Cloned),
        Standing::Spent => Some(RefuseReason::StaleEpoch),
        Standing::Welcome if epoch < greeting.mark.epoch => Some(RefuseReason::StaleEpoch),
        Standing::Welcome => None,
    }
}

/// `None` where nobody can ask for a stop any more.
async fn told_to_stop(stop: &mut watch::Receiver<Option<Stop>>) -> Option<Stop> {
    stop.wait_for(Option::is_some).await.ok().and_then(|reason| *reason)
}

/// Waits for an instant, or for ever where there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

type Settled = (Result<Outcome, LedgerError>, Option<UnixMillis>);

/// Waits for the oldest record and takes every further one that is already settled, so that one acknowledgement covers all.
async fn next_outcomes<T>(pending: &mut VecDeque<Pending<T>>) -> Vec<(Settled, u64)>
where
    T: Future<Output = Result<Outcome, LedgerError>> + Unpin,
{
    std::future::poll_fn(|context| {
        let mut settled = Vec::new();
        while let Some(front) = pending.front_mut() {
            let Poll::Ready(outcome) = std::pin::Pin::new(&mut front.ticket).poll(context) else { break };
            settled.push(((outcome, front.window_end), front.offset));
            pending.pop_front();
        }
        if settled.is_empty() { Poll::Pending } else { Poll::Ready(settled) }
    })
    .await
}

#[cfg(test)]
mod tests;
