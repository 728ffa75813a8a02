//! What an agent sends, turned into records that the ledger has committed: one session over any byte stream.
//!
//! Must hold: no peer is trusted (lengths are checked before anything is reserved, the device comes from the certificate, a frame
//! that is not understood ends the session); records reach the ledger in the order they came; nothing is acknowledged before it
//! is committed; at most [`IN_FLIGHT`] records and one frame are held per connection.
//!
//! Deliberately absent: sockets and TLS ([`crate::host`]), the judgement of the chain (the ledger, inside its transaction), time
//! limits on silence between frames (the transport's idle timeout ends silent connections).

mod aside;
mod connections;
mod meter;
mod session;
mod shares;
mod splitter;

pub use aside::{Aside, Confidant};
pub use connections::{Connections, Registration};
pub use meter::{BURST, Meter, Rate};
pub use session::{Ended, Ledger, LedgerError, Observer, Peer, Place, Stop, refusal, serve, serve_beside};
pub use shares::{Share, Shares};
pub use splitter::{FrameSplitter, Located, Malformed};

use driftglass_protocol::session::RefuseReason;
use driftglass_protocol::wire::FrameError;

/// Records handed to the ledger and not yet committed, per connection; told to the agent in the Welcome.
pub const IN_FLIGHT: usize = driftglass_protocol::limit::IN_FLIGHT;

/// Why something a peer sent was not counted: the label `reason` of `driftglass_summaries_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    /// The TLS handshake failed or took too long.
    Handshake,
    /// More connections or handshakes than this aggregator serves at once.
    Overload,
    /// The certificate names no device of ours, or the Hello names another one.
    Identity,
    /// The device, or its key, has been revoked.
    Revoked,
    /// The device is not registered with the key of its certificate.
    Unregistered,
    /// The certificate has expired; it is good for nothing but its renewal.
    Expired,
    /// A frame longer than allowed is declared.
    TooLong,
    /// A frame shorter than its header is declared.
    TooShort,
    /// Another version of the format.
    Version,
    /// The checksum is wrong.
    Checksum,
    /// An unknown kind of frame.
    Kind,
    /// The payload is not an acceptable record or message.
    Payload,
    /// A message out of turn.
    Protocol,
    /// The greeting, or a frame that had begun, did not arrive in time.
    Slow,
    /// The epoch is older than the one counted last.
    StaleEpoch,
    /// Records before it are missing.
    Gap,
    /// Part of it has been counted.
    Overlap,
    /// The store could not commit it.
    Unavailable,
    /// Another living instance of the device owns its epoch.
    Cloned,
}

impl Rejection {
    /// Every reason, so that each has a time series from the start.
    pub const ALL: [Self; 19] = [
        Self::Handshake,
        Self::Overload,
        Self::Identity,
        Self::Revoked,
        Self::Unregistered,
        Self::Expired,
        Self::TooLong,
        Self::TooShort,
        Self::Version,
        Self::Checksum,
        Self::Kind,
        Self::Payload,
        Self::Protocol,
        Self::Slow,
        Self::StaleEpoch,
        Self::Gap,
        Self::Overlap,
        Self::Unavailable,
        Self::Cloned,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Overload => "overload",
            Self::Identity => "identity",
            Self::Revoked => "revoked",
            Self::Unregistered => "unregistered",
            Self::Expired => "expired",
            Self::TooLong => "too_long",
            Self::TooShort => "too_short",
            Self::Version => "version",
            Self::Checksum => "checksum",
            Self::Kind => "kind",
            Self::Payload => "payload",
            Self::Protocol => "protocol",
            Self::Slow => "slow",
            Self::StaleEpoch => "stale_epoch",
            Self::Gap => "gap",
            Self::Overlap => "overlap",
            Self::Unavailable => "unavailable",
            Self::Cloned => "cloned",
        }
    }
}

impl From<RefuseReason> for Rejection {
    fn from(reason: RefuseReason) -> Self {
        match reason {
            RefuseReason::Identity => Self::Identity,
            RefuseReason::StaleEpoch => Self::StaleEpoch,
            RefuseReason::Gap => Self::Gap,
            RefuseReason::Overlap => Self::Overlap,
            RefuseReason::Malformed => Self::Payload,
            RefuseReason::Protocol | RefuseReason::Superseded => Self::Protocol,
            RefuseReason::Unavailable => Self::Unavailable,
            RefuseReason::Revoked => Self::Revoked,
            RefuseReason::Unregistered => Self::Unregistered,
            RefuseReason::Expired => Self::Expired,
            RefuseReason::Cloned => Self::Cloned,
        }
    }
}

impl From<FrameError> for Rejection {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLong { .. } | FrameError::Overflow => Self::TooLong,
            FrameError::TooShort { .. } => Self::TooShort,
            FrameError::Version { .. } => Self::Version,
            FrameError::Checksum { .. } => Self::Checksum,
            FrameError::Kind { .. } => Self::Kind,
            // A stream that ends inside a frame.
            FrameError::Incomplete { .. } => Self::Payload,
        }
    }
}
