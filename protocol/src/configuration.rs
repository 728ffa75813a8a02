//! Configuration from the centre: what a device shall be set to, and what became of it.
//!
//! ```text
//! agent                                       aggregator
//!   ConfigurationReport(in effect, offered)  -->    on a stream of its own; after greeting, and whenever it has changed
//!                                            <--    DesiredConfiguration; the text only where the agent does not know it
//!                                            <--    DesiredConfiguration, on a stream that the aggregator opens: the wish has changed
//! ```
//! Over TCP, where a connection carries one stream, the same messages go between the frames of the session.
//!
//! A configuration is one text that says everything: the whole wish, never a change to another one. It is the same one where the
//! digest is the same. Versions grow within one aggregator; a restored aggregator gives numbers again, so nothing is decided by their order.

use serde::{Deserialize, Serialize};

use crate::limit::{CONFIGURATION_BYTES, TEXT_BYTES};
use crate::session::MessageError;
use crate::wire::{Frame, FrameError, Kind, write_frame};

/// SHA-256 of the text of a configuration.
pub type Digest = [u8; 32];

/// Which configuration. Version 0 is the device's own file and nothing else: no wish was ever expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConfigurationId {
    /// Its number at the aggregator.
    pub version: u64,
    /// What it says.
    pub digest: Digest,
}

/// What the device shall be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredConfiguration<'a> {
    /// Which.
    pub id: ConfigurationId,
    /// What it says, at most [`CONFIGURATION_BYTES`]; absent where the device has just said that it knows it.
    pub text: Option<&'a str>,
}

/// What became of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConfigurationOutcome {
    /// It is in effect, and something was delivered under it.
    Applied,
    /// It is in effect, and has to prove itself yet.
    OnTrial,
    /// It was never in effect: what it says cannot be.
    Refused,
    /// It was in effect, and the device went back to the one before.
    RolledBack,
    /// The device's owner takes no configuration from the centre.
    Declined,
}

impl ConfigurationOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [Self::Applied, Self::OnTrial, Self::Refused, Self::RolledBack, Self::Declined];

    /// Its name in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::OnTrial => "on-trial",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
            Self::Declined => "declined",
        }
    }
}

/// How a device is set, and what became of the configuration offered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationReport<'a> {
    /// In effect now.
    pub in_effect: ConfigurationId,
    /// Offered last.
    pub offered: ConfigurationId,
    /// What became of it.
    pub outcome: ConfigurationOutcome,
    /// Part of what is in effect waits for the agent's next start.
    pub restart: bool,
    /// Why, where it was not taken; at most [`TEXT_BYTES`].
    pub detail: &'a str,
}

macro_rules! message {
    ($type:ident, $fits:expr) => {
        impl<'a> $type<'a> {
            /// Reads the message in a frame.
            ///
            /// # Errors
            /// One variant of [`MessageError`] per cause.
            pub fn parse(frame: Frame<'a>) -> Result<Self, MessageError> {
                let kind = Kind::$type;
                if frame.kind != kind {
                    return Err(MessageError::Kind { expected: kind, found: frame.kind });
                }
                let fits: fn(&Self) -> bool = $fits;
                match postcard::take_from_bytes(frame.payload) {
                    Ok((message, [])) if fits(&message) => Ok(message),
                    _ => Err(MessageError::Payload { kind }),
                }
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
message!(DesiredConfiguration, |message| message.text.is_none_or(|text| text.len() <= CONFIGURATION_BYTES));
message!(ConfigurationReport, |message| message.detail.len() <= TEXT_BYTES);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::parse_frame;

    extern crate std;
    use std::string::String;

    const ID: ConfigurationId = ConfigurationId { version: 3, digest: [7; 32] };

    #[test]
    fn what_is_longer_than_allowed_is_no_message() {
        let text: String = "x".repeat(CONFIGURATION_BYTES + 1);
        let mut out = [0; CONFIGURATION_BYTES + 128];
        for (length, good) in [(CONFIGURATION_BYTES, true), (CONFIGURATION_BYTES + 1, false)] {
            let desired = DesiredConfiguration { id: ID, text: text.get(..length) };
            let written = desired.write(&mut out).expect("fits");
            let frame = parse_frame(&out[..written]).expect("a frame");
            assert_eq!(DesiredConfiguration::parse(frame).is_ok(), good);
            assert!(matches!(ConfigurationReport::parse(frame), Err(MessageError::Kind { .. })));
        }
        for (length, good) in [(TEXT_BYTES, true), (TEXT_BYTES + 1, false)] {
            let report = ConfigurationReport {
                in_effect: ID,
                offered: ID,
                outcome: ConfigurationOutcome::Refused,
                restart: false,
                detail: &text[..length],
            };
            let written = report.write(&mut out).expect("fits");
            assert_eq!(ConfigurationReport::parse(parse_frame(&out[..written]).expect("a frame")).is_ok(), good);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let frame = |kind| Frame { kind, payload: &payload, length: payload.len() + 10 };
            if let Ok(desired) = DesiredConfiguration::parse(frame(Kind::DesiredConfiguration)) {
                prop_assert!(desired.text.is_none_or(|text| text.len() <= payload.len()));
            }
            if let Ok(report) = ConfigurationReport::parse(frame(Kind::ConfigurationReport)) {
                prop_assert!(report.detail.len() <= payload.len());
            }
        }
    }
}
