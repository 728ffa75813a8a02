//! What a session says and does, without a connection: frames out of the spool, answers into it.
//!
//! No I/O but the spool's, no clock and no waiting, so that the same code runs over QUIC and in the simulator.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use driftglass_protocol::session::{Acknowledge, MessageError, Refuse, Sender, SenderError, Welcome};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{FrameError, Kind, RecordId, parse_frame};

use super::Counters;
use super::bridge::bridge;
use crate::spool::{ReadError, Reader, Shared};

/// Longest wait for an answer: the welcome, or an acknowledgement while records are in flight.
pub(super) const ANSWER: Duration = Duration::from_secs(60);

/// Why a session ended.
#[derive(Debug)]
pub enum Ended {
    /// The agent was told to stop.
    Stopped,
    /// The spool could not be read.
    Spool(ReadError),
    /// The aggregator said what makes no sense, or that we must not go on.
    Sender(SenderError),
    /// The aggregator refused.
    Refused(Refuse),
    /// The connection is gone.
    Stream(String),
    /// The aggregator sent a malformed frame.
    Frame(FrameError),
    /// The aggregator sent a malformed message.
    Message(MessageError),
    /// The aggregator sent what is not its to send.
    Unexpected(Kind),
    /// The aggregator gave no answer.
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

/// One session's dealings with the spool.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// What may be sent next.
    pub sender: &'a mut Sender,
    /// Where it stands.
    pub reader: &'a mut Reader,
    /// What is let go once it is acknowledged.
    pub spool: &'a Arc<Shared>,
    /// Counters to keep.
    pub counters: &'a Counters,
}

/// What was among the bytes received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// A whole frame.
    pub anything: bool,
    /// The welcome, with the aggregator's clock.
    pub welcomed: Option<UnixMillis>,
    /// Frames that are not the session's, and that a connection without further streams carries between its frames.
    pub aside: Vec<Vec<u8>>,
}

impl Exchange<'_> {
    /// Puts the next frame to send into `frame`, which holds a whole one, and returns its length; `None` where nothing is to be sent
    /// now. The record counts as sent.
    ///
    /// # Errors
    /// Why the session cannot go on.
    pub fn transmit(&mut self, frame: &mut [u8]) -> Result<Option<usize>, Ended> {
        let Some(mark) = self.sender.poll_transmit() else { return Ok(None) };
        let Some(stored) = self.reader.next_after(mark).map_err(Ended::Spool)? else { return Ok(None) };
        let (id, length) = match bridge(mark, &stored) {
            None => {
                let place = frame.get_mut(..stored.frame.len()).ok_or(Ended::Frame(FrameError::Overflow))?;
                place.copy_from_slice(stored.frame);
                (stored.id, stored.frame.len())
            }
            Some(tombstone) => {
                let RecordId { epoch, first, last } = tombstone.id;
                tracing::warn!(%mark, epoch, first, last, "the aggregator lacks records that are gone; a tombstone is sent for them");
                (tombstone.id, tombstone.write(frame).map_err(Ended::Frame)?)
            }
        };
        self.sender.handle_sent(id).map_err(Ended::Sender)?;
        self.spool.note_sent(id.mark());
        self.counters.sent.fetch_add(1, Ordering::Relaxed);
        Ok(Some(length))
    }

    /// Handles every whole frame in the inbox and takes it out.
    ///
    /// # Errors
    /// Why the session cannot go on.
    pub fn receive(&mut self, inbox: &mut Vec<u8>) -> Result<Received, Ended> {
        let mut used = 0;
        let (mut welcomed, mut aside) = (None, Vec::new());
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
                    self.spool.welcome(welcome.mark);
                    self.counters.connected.store(true, Ordering::Relaxed);
                    welcomed = Some(welcome.clock);
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
                Kind::DesiredConfiguration | Kind::Deny => {
                    aside.push(rest.get(..frame.length).unwrap_or_default().to_vec());
                }
                other => return Err(Ended::Unexpected(other)),
            }
        }
        inbox.drain(..used);
        Ok(Received { anything: used > 0, welcomed, aside })
    }
}
