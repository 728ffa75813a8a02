//! The agent's side: what may be sent next, and what is durable at the centre.
//!
//! Call order: `handle_connected`, `handle_welcome`, then alternate `poll_transmit`/`handle_sent` with `handle_acknowledge`, until
//! `handle_disconnected`. The records themselves stay in the spool; the sender only knows marks.

use heapless::Deque;
use thiserror::Error;

use super::message::{Acknowledge, Welcome};
use crate::limit::IN_FLIGHT;
use crate::wire::{Mark, RecordId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offline,
    AwaitingWelcome,
    Streaming { in_flight_max: usize },
}

/// One session after another, as seen by the agent.
#[derive(Debug)]
pub struct Sender {
    epoch: u32,
    state: State,
    acknowledged: Mark,
    in_flight: Deque<Mark, IN_FLIGHT>,
}

/// What the aggregator said makes no sense, or says that we must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SenderError {
    /// The aggregator has counted an epoch that this agent has not reached: its state folder was lost or is an old copy.
    #[error(
        "the aggregator has counted up to {mark}, beyond this agent's epoch {epoch}: the state folder was lost or restored, or the clock was set back"
    )]
    Behind {
        /// The aggregator's mark.
        mark: Mark,
        /// Our epoch.
        epoch: u32,
    },
    /// A record was acknowledged that was never sent on this connection.
    #[error("the aggregator acknowledged {mark}, which was not sent (acknowledged before: {acknowledged})")]
    NeverSent {
        /// The mark acknowledged.
        mark: Mark,
        /// Acknowledged before.
        acknowledged: Mark,
    },
    /// A message out of turn.
    #[error("a message arrived out of turn")]
    OutOfTurn,
}

impl Sender {
    /// A sender for this start of the agent; `acknowledged` is the last mark known from earlier starts.
    #[must_use]
    pub const fn new(epoch: u32, acknowledged: Mark) -> Self {
        Self { epoch, state: State::Offline, acknowledged, in_flight: Deque::new() }
    }

    /// Everything up to here is durable at the centre.
    #[must_use]
    pub const fn acknowledged(&self) -> Mark {
        self.acknowledged
    }

    /// The last record handed to the connection, or what is acknowledged where there is none.
    #[must_use]
    pub fn last_sent(&self) -> Mark {
        self.in_flight.back().copied().unwrap_or(self.acknowledged)
    }

    /// Number of records sent and not yet acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// A connection stands and the Hello is on its way.
    pub fn handle_connected(&mut self) {
        self.in_flight.clear();
        self.state = State::AwaitingWelcome;
    }

    /// The aggregator answered. Everything after its mark will be sent again.
    ///
    /// # Errors
    /// [`SenderError::Behind`], [`SenderError::OutOfTurn`].
    pub fn handle_welcome(&mut self, welcome: Welcome) -> Result<(), SenderError> {
        if self.state != State::AwaitingWelcome {
            return Err(SenderError::OutOfTurn);
        }
        if welcome.mark.epoch > self.epoch {
            return Err(SenderError::Behind { mark: welcome.mark, epoch: self.epoch });
        }
        self.acknowledged = welcome.mark;
        self.state = State::Streaming { in_flight_max: usize::from(welcome.in_flight).clamp(1, IN_FLIGHT) };
        Ok(())
    }

    /// The mark after which to take the next record from the spool, where one more may be sent now.
    #[must_use]
    pub fn poll_transmit(&self) -> Option<Mark> {
        match self.state {
            State::Streaming { in_flight_max } if self.in_flight.len() < in_flight_max => Some(self.last_sent()),
            _ => None,
        }
    }

    /// The record was handed to the connection.
    ///
    /// # Errors
    /// [`SenderError::OutOfTurn`] where [`Self::poll_transmit`] did not allow one.
    pub fn handle_sent(&mut self, id: RecordId) -> Result<(), SenderError> {
        if self.poll_transmit().is_none() {
            return Err(SenderError::OutOfTurn);
        }
        self.in_flight.push_back(id.mark()).map_err(|_| SenderError::OutOfTurn)
    }

    /// The aggregator acknowledged. Returns the mark up to which the spool may forget.
    ///
    /// # Errors
    /// [`SenderError::NeverSent`], [`SenderError::OutOfTurn`].
    pub fn handle_acknowledge(&mut self, acknowledge: Acknowledge) -> Result<Mark, SenderError> {
        if !matches!(self.state, State::Streaming { .. }) {
            return Err(SenderError::OutOfTurn);
        }
        let mark = acknowledge.mark;
        if mark > self.last_sent() {
            return Err(SenderError::NeverSent { mark, acknowledged: self.acknowledged });
        }
        while self.in_flight.front().is_some_and(|&sent| sent <= mark) {
            self.in_flight.pop_front();
        }
        self.acknowledged = self.acknowledged.max(mark);
        Ok(self.acknowledged)
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self) {
        self.in_flight.clear();
        self.state = State::Offline;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::UnixMillis;

    fn welcome(epoch: u32, sequence: u64) -> Welcome {
        Welcome { mark: Mark { epoch, sequence }, clock: UnixMillis(0), in_flight: 2 }
    }
    const fn id(sequence: u64) -> RecordId {
        RecordId { epoch: 3, first: sequence, last: sequence }
    }
    const fn ack(sequence: u64) -> Acknowledge {
        Acknowledge { mark: Mark { epoch: 3, sequence } }
    }

    #[test]
    fn sends_up_to_the_limit_and_again_after_a_lost_connection() {
        let mut sender = Sender::new(3, Mark::default());
        assert_eq!(sender.poll_transmit(), None);
        sender.handle_connected();
        assert_eq!(sender.poll_transmit(), None, "nothing before the welcome");
        assert_eq!(sender.handle_welcome(welcome(3, 4)), Ok(()));
        assert_eq!(sender.poll_transmit(), Some(Mark { epoch: 3, sequence: 4 }));
        assert_eq!(sender.handle_sent(id(5)), Ok(()));
        assert_eq!(sender.handle_sent(id(6)), Ok(()));
        assert_eq!(sender.poll_transmit(), None, "two in flight is the limit");
        assert_eq!(sender.handle_sent(id(7)), Err(SenderError::OutOfTurn));
        assert_eq!(sender.handle_acknowledge(ack(5)), Ok(Mark { epoch: 3, sequence: 5 }));
        assert_eq!(sender.poll_transmit(), Some(Mark { epoch: 3, sequence: 6 }));
        sender.handle_disconnected();
        sender.handle_connected();
        assert_eq!(sender.handle_welcome(welcome(3, 5)), Ok(()));
        assert_eq!(sender.poll_transmit(), Some(Mark { epoch: 3, sequence: 5 }), "6 is sent again");
    }

    #[test]
    fn an_aggregator_that_talks_nonsense_is_told_so() {
        let mut sender = Sender::new(3, Mark::default());
        sender.handle_connected();
        assert!(matches!(sender.handle_acknowledge(ack(1)), Err(SenderError::OutOfTurn)));
        assert!(matches!(sender.handle_welcome(welcome(4, 0)), Err(SenderError::Behind { .. })));
        assert_eq!(sender.handle_welcome(welcome(2, 9)), Ok(()));
        assert!(matches!(sender.handle_welcome(welcome(2, 9)), Err(SenderError::OutOfTurn)));
        assert!(matches!(sender.handle_acknowledge(ack(1)), Err(SenderError::NeverSent { .. })));
    }
}
