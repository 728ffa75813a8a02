//! What the two sides say to each other besides records.

use heapless::String;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::DeviceId;
use crate::limit;
use crate::unit::UnixMillis;
use crate::wire::{Frame, FrameError, Kind, Mark, write_frame};

/// The agent's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who the agent believes it is; must equal the identity in its certificate.
    pub device: DeviceId,
    /// The epoch of this start.
    pub epoch: u32,
    /// Random number of this process; two instances of one epoch are a cloned device.
    pub instance: u64,
    /// The agent's clock.
    pub clock: UnixMillis,
    /// The agent's version, for people.
    pub version: String<{ limit::TEXT_BYTES }>,
}

/// The aggregator's answer to a Hello it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Everything up to here is durable at the centre.
    pub mark: Mark,
    /// The aggregator's clock.
    pub clock: UnixMillis,
    /// Most records the agent may have unacknowledged.
    pub in_flight: u16,
}

/// Everything up to the mark is durable at the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The mark.
    pub mark: Mark,
}

/// Why a session or a record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefuseReason {
    /// The device claimed is not the one in the certificate.
    Identity,
    /// The epoch is older than the one counted last: the state folder was lost or restored and the clock is behind.
    StaleEpoch,
    /// Records are missing before the one sent.
    Gap,
    /// A record spans what has been counted.
    Overlap,
    /// A frame that does not parse.
    Malformed,
    /// A message out of turn.
    Protocol,
    /// The aggregator cannot store anything now.
    Unavailable,
    /// A newer connection of the same device took over.
    Superseded,
    /// The device, or its key, has been revoked: only a new token can bring it back.
    Revoked,
    /// The device is not registered with the key of its certificate: only a new token can bring it back.
    Unregistered,
    /// The certificate has expired: it is still good for its own renewal, and for nothing else.
    Expired,
    /// Another instance speaks in the same epoch: one of the two is a copy, and this one came later.
    Cloned,
}

impl RefuseReason {
    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::StaleEpoch => "stale_epoch",
            Self::Gap => "gap",
            Self::Overlap => "overlap",
            Self::Malformed => "malformed",
            Self::Protocol => "protocol",
            Self::Unavailable => "unavailable",
            Self::Superseded => "superseded",
            Self::Revoked => "revoked",
            Self::Unregistered => "unregistered",
            Self::Expired => "expired",
            Self::Cloned => "cloned",
        }
    }
}

/// The aggregator ends the session; nothing beyond `expected_after` was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// Why.
    pub reason: RefuseReason,
    /// The mark after which the next record is expected.
    pub expected_after: Mark,
    /// Seconds to wait before trying again; 0 leaves it to the agent's back-off.
    pub retry_after_s: u32,
}

/// Why a frame is not the message expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Another kind of message.
    #[error("expected {expected:?}, found {found:?}")]
    Kind {
        /// Kind expected.
        expected: Kind,
        /// Kind found.
        found: Kind,
    },
    /// The payload does not decode, or is followed by more bytes.
    #[error("the payload of a {kind:?} does not decode")]
    Payload {
        /// Its kind.
        kind: Kind,
    },
}

macro_rules! message {
    ($type:ident) => {
        impl $type {
            /// Reads the message in a frame.
            ///
            /// # Errors
            /// One variant of [`MessageError`] per cause.
            pub fn parse(frame: Frame<'_>) -> Result<Self, MessageError> {
                parse(Kind::$type, frame)
            }

            /// Writes the message as a frame and returns its length.
            ///
            /// # Errors
            /// [`FrameError::Overflow`] where `out` is too small.
            pub fn write(&self, out: &mut [u8]) -> Result<usize, FrameError> {
                write_frame(Kind::$type, self, out)
            }
        }
    };
}
message!(Hello);
message!(Welcome);
message!(Acknowledge);
message!(Refuse);

fn parse<T: DeserializeOwned>(expected: Kind, frame: Frame<'_>) -> Result<T, MessageError> {
    if frame.kind != expected {
        return Err(MessageError::Kind { expected, found: frame.kind });
    }
    match postcard::take_from_bytes(frame.payload) {
        Ok((message, [])) => Ok(message),
        _ => Err(MessageError::Payload { kind: expected }),
    }
}
