//! The record: what a spool stores and a session delivers, byte for byte the same.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::frame::{Frame, FrameError, Kind, write_frame};
use crate::summary::{Summary, SummaryError};
use crate::unit::UnixMillis;

/// A position in a device's sequence of records: everything up to it, and nothing after. Ordered by epoch, then sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Boot epoch: grows with every start of the agent, made durable before the first record of that start.
    pub epoch: u32,
    /// Last sequence number within the epoch; 0 is none.
    pub sequence: u64,
}

impl core::fmt::Display for Mark {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.epoch, self.sequence)
    }
}

/// Which windows of a device's sequence a record carries; more than one where the spool merged neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// Boot epoch.
    pub epoch: u32,
    /// First sequence number, from 1.
    pub first: u64,
    /// Last sequence number.
    pub last: u64,
}

impl RecordId {
    /// The mark that having this record means.
    #[must_use]
    pub const fn mark(self) -> Mark {
        Mark { epoch: self.epoch, sequence: self.last }
    }
}

/// Why a range of windows will never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TombstoneCause {
    /// The spool was full and nothing could be merged any further.
    SpoolFull,
    /// The stored bytes were damaged.
    Damaged,
    /// Neither side holds them any more: the aggregator expects what it has let the agent delete, or it is uncertain whether they were
    /// counted before a state folder was lost or restored.
    Forgotten,
}

/// Stands in the sequence for windows that were lost, so that the loss is counted and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Why.
    pub cause: TombstoneCause,
    /// Event time of the first instant lost, as far as known.
    pub from: UnixMillis,
    /// Event time of the last instant lost.
    pub to: UnixMillis,
}

/// What a record carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "without an allocator there is nothing to box with; tombstones are rare")]
pub enum Body<'a> {
    /// A camera window.
    #[serde(borrow)]
    Summary(Summary<'a>),
    /// Windows that will never come.
    Tombstone(Tombstone),
}

/// One link of the chain a device delivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// Its place in the sequence.
    pub id: RecordId,
    /// The last record known when this epoch began.
    pub previous: Mark,
    /// What it carries.
    #[serde(borrow)]
    pub body: Body<'a>,
}

/// Why a frame is not an acceptable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The frame is of another kind.
    #[error("expected a record, found {found:?}")]
    Kind {
        /// Kind found.
        found: Kind,
    },
    /// The payload is not the postcard encoding of a record.
    #[error("the payload does not decode")]
    Payload,
    /// Bytes remain after the record.
    #[error("{extra} bytes remain after the record")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// The range of sequence numbers is empty or begins at 0.
    #[error("records are numbered from 1 upwards, this one from {first} to {last}")]
    Range {
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
    },
    /// The summary is not acceptable.
    #[error(transparent)]
    Summary(#[from] SummaryError),
}

impl<'a> Record<'a> {
    /// Reads and checks the record in a frame.
    ///
    /// # Errors
    /// One variant of [`RecordError`] per cause.
    pub fn parse(frame: Frame<'a>) -> Result<Self, RecordError> {
        if frame.kind != Kind::Record {
            return Err(RecordError::Kind { found: frame.kind });
        }
        let (mut record, mut rest): (Self, _) =
            postcard::take_from_bytes(frame.payload).map_err(|_| RecordError::Payload)?;
        if let Body::Summary(summary) = &mut record.body
            && !rest.is_empty()
        {
            // A 1 says that predictions follow; that there are none is said by nothing.
            let (predictions, after) =
                postcard::take_from_bytes::<Option<_>>(rest).map_err(|_| RecordError::Payload)?;
            if predictions.is_none() {
                return Err(RecordError::Trailing { extra: rest.len() });
            }
            (summary.predictions, rest) = (predictions, after);
        }
        if !rest.is_empty() {
            return Err(RecordError::Trailing { extra: rest.len() });
        }
        let RecordId { first, last, .. } = record.id;
        if first == 0 || last < first {
            return Err(RecordError::Range { first, last });
        }
        if let Body::Summary(summary) = &record.body {
            summary.check()?;
        }
        Ok(record)
    }

    /// Writes the record as a frame and returns its length.
    ///
    /// # Errors
    /// [`FrameError::Overflow`] where `out` is too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, FrameError> {
        write_frame(Kind::Record, self, out)
    }
}
