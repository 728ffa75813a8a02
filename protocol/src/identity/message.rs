//! What a device and the aggregator say to each other about certificates.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::id::DeviceId;
use crate::limit::{AUTHORITIES, CERTIFICATE_BYTES};
use crate::session::MessageError;
use crate::unit::UnixMillis;
use crate::wire::{Frame, FrameError, Kind, write_frame};

/// A device without an identity asks for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol<'a> {
    /// Who it believes it is; must be the device that the token was made for.
    pub device: DeviceId,
    /// The token's secret.
    pub secret: Secret,
    /// A PKCS#10 request in DER, signed with the device's key.
    pub request: &'a [u8],
}

/// A device asks for a new certificate for the key it is registered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew<'a> {
    /// A PKCS#10 request in DER, signed with the device's key.
    pub request: &'a [u8],
}

/// The aggregator certifies the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued<'a> {
    /// The device's certificate in DER.
    pub certificate: &'a [u8],
    /// The authorities that an aggregator may be certified by from now on, newest first, in DER.
    #[serde(borrow)]
    pub authorities: Vec<&'a [u8], AUTHORITIES>,
    /// The aggregator's clock.
    pub clock: UnixMillis,
}

/// The aggregator certifies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deny {
    /// Why.
    pub reason: DenyReason,
}

/// Why no certificate was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DenyReason {
    /// No such token.
    TokenUnknown,
    /// Another key has been registered with this token.
    TokenUsed,
    /// The token's time is over.
    TokenExpired,
    /// The token is for another device.
    TokenDevice,
    /// This key, or this device, has been revoked.
    Revoked,
    /// The device is not registered, or with another key.
    Unregistered,
    /// The request is not a PKCS#10 request of a P-256 key signed with that key.
    Request,
    /// A message that is malformed or out of turn.
    Protocol,
    /// This aggregator issues no certificates: its authority is somebody else's.
    Unsupported,
    /// The aggregator cannot store anything now.
    Unavailable,
}

impl DenyReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::TokenUnknown,
        Self::TokenUsed,
        Self::TokenExpired,
        Self::TokenDevice,
        Self::Revoked,
        Self::Unregistered,
        Self::Request,
        Self::Protocol,
        Self::Unsupported,
        Self::Unavailable,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokenUnknown => "token_unknown",
            Self::TokenUsed => "token_used",
            Self::TokenExpired => "token_expired",
            Self::TokenDevice => "token_device",
            Self::Revoked => "revoked",
            Self::Unregistered => "unregistered",
            Self::Request => "request",
            Self::Protocol => "protocol",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
        }
    }
}

macro_rules! message {
    ($type:ident, $parsed:ty, $lifetime:lifetime, $fits:expr) => {
        impl<$lifetime> $parsed {
            /// Reads the message in a frame.
            ///
            /// # Errors
            /// One variant of [`MessageError`] per cause.
            pub fn parse(frame: Frame<$lifetime>) -> Result<Self, MessageError> {
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
message!(Enrol, Enrol<'a>, 'a, |message| message.request.len() <= CERTIFICATE_BYTES);
message!(Renew, Renew<'a>, 'a, |message| message.request.len() <= CERTIFICATE_BYTES);
message!(Issued, Issued<'a>, 'a, |message| {
    message.certificate.len() <= CERTIFICATE_BYTES
        && message.authorities.iter().all(|authority| authority.len() <= CERTIFICATE_BYTES)
});

impl Deny {
    /// Reads the message in a frame.
    ///
    /// # Errors
    /// One variant of [`MessageError`] per cause.
    pub fn parse(frame: Frame<'_>) -> Result<Self, MessageError> {
        if frame.kind != Kind::Deny {
            return Err(MessageError::Kind { expected: Kind::Deny, found: frame.kind });
        }
        match postcard::take_from_bytes(frame.payload) {
            Ok((message, [])) => Ok(message),
            _ => Err(MessageError::Payload { kind: Kind::Deny }),
        }
    }

    /// Writes the message as a frame and returns its length.
    ///
    /// # Errors
    /// [`FrameError::Overflow`] where `out` is too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, FrameError> {
        write_frame(Kind::Deny, self, out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::parse_frame;

    #[test]
    fn what_is_too_long_to_be_a_request_is_no_message() {
        let mut out = [0; CERTIFICATE_BYTES + 64];
        for (length, good) in [(CERTIFICATE_BYTES, true), (CERTIFICATE_BYTES + 1, false)] {
            let request = [7; CERTIFICATE_BYTES + 1];
            let renew = Renew { request: &request[..length] };
            let written = renew.write(&mut out).expect("fits");
            let frame = parse_frame(&out[..written]).expect("a frame");
            assert_eq!(Renew::parse(frame).is_ok(), good);
            assert!(matches!(Enrol::parse(frame), Err(MessageError::Kind { .. })));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let frame = |kind| Frame { kind, payload: &payload, length: payload.len() + 10 };
            let _ = (Enrol::parse(frame(Kind::Enrol)).is_ok(), Renew::parse(frame(Kind::Renew)).is_ok());
            let _ = (Issued::parse(frame(Kind::Issued)).is_ok(), Deny::parse(frame(Kind::Deny)).is_ok());
        }
    }
}
