//! What the proxies' process and the agent say to each other.
//!
//! A frame is the length of its message (four bytes, little-endian), the message (postcard), and the bodies it announces. Both ends are
//! the same build: the one starts the other from its own program. Nevertheless every length is checked before anything is read.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sign::Sign;
use crate::window::FrameRate;

/// Most bytes of a message: names of models are what makes it long.
pub(crate) const MESSAGE: usize = 32 << 20;

/// Most bytes of a body.
pub(crate) const BODY: usize = 64 << 20;

/// From the agent: what is to be served, and what becomes of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Only these will be served; what an earlier agent ordered besides ends.
    Only(Vec<SocketAddr>),
    /// Pass on what comes here; what stands at the same address changes, or gives way.
    Serve(Place),
    /// Nobody wants this any more.
    Leave(SocketAddr),
    /// For the service manager.
    Sign(Sign),
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// What the notes of it are marked with.
    pub(crate) id: u64,
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: String,
    pub(crate) camera_header: Option<String>,
    pub(crate) cameras: Vec<Watched>,
}

/// A camera whose model stands behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) inferences: Inferences,
    /// Most bytes of a request or an answer that are copied.
    pub(crate) max_body: usize,
    /// How many inferences are looked at; all without one.
    pub(crate) millihertz: Option<u32>,
}

impl Watched {
    pub(crate) fn rate(&self) -> Option<FrameRate> {
        self.millihertz.and_then(FrameRate::from_millihertz)
    }
}

/// Which requests are inferences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Inferences {
    /// Those of the Open Inference Protocol, of these models; of all where there are none.
    Open(Vec<String>),
    /// Those posted to this path.
    Path(String),
}

/// To the agent: what came of an order, and what has passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Note {
    /// It is served, or why not.
    Served(u64, Result<(), String>),
    /// Nothing is served there any more.
    Left(SocketAddr),
    /// An inference has passed.
    Passed(Passed),
    /// The model server does not answer.
    Unanswered { place: u64, why: String },
    /// What passes on a connection cannot be read, and its inferences are not seen.
    Unread { place: u64, why: String },
    /// So many inferences have passed of which nothing was noted.
    Missed(u64),
}

/// An inference that has passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Passed {
    pub(crate) place: u64,
    pub(crate) camera: usize,
    pub(crate) outcome: Outcome,
    pub(crate) latency: Option<Duration>,
    pub(crate) look: Look,
}

/// Whether it is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Look {
    /// Left out by the sampling rate.
    Skipped,
    /// Too many were being copied.
    Busy,
    /// The bodies follow.
    Copied(Announced),
}

/// An exchange whose bodies follow, as long as they say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announced {
    pub(crate) spoken: Spoken,
    /// When the request came.
    pub(crate) taken: UnixMillis,
    pub(crate) compressed: bool,
    pub(crate) request: Result<usize, Uncopied>,
    pub(crate) answer: Result<usize, Uncopied>,
}

/// Why a body is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Uncopied {
    /// Beyond the limit.
    TooLarge,
    /// It ended early.
    Incomplete,
}

/// How an exchange was spoken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Spoken {
    /// The protocol over HTTP: model and version as the path has them, and the lengths of the JSON where tensors follow it.
    Http { model: String, version: String, request_json: Option<usize>, answer_json: Option<usize> },
    /// The protocol over gRPC.
    Grpc,
    /// Plain HTTP: the boundary of the request's parts, where it has such.
    Plain { boundary: Option<String> },
}

/// How an inference ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Answered with success.
    Ok,
    /// Refused for what the client sent.
    ClientError,
    /// The model server failed.
    ServerError,
    /// The model server could not be reached, or went away before it answered.
    Unreachable,
    /// The answer was cut off, by either side.
    Broken,
}

impl Outcome {
    /// Of an HTTP status.
    pub(crate) const fn of_status(status: u16) -> Self {
        match status {
            400..=499 => Self::ClientError,
            500.. => Self::ServerError,
            _ => Self::Ok,
        }
    }

    /// Of a gRPC status code.
    pub(crate) const fn of_grpc(code: u16) -> Self {
        match code {
            0 => Self::Ok,
            // Cancelled, invalid argument, not found, already exists, denied, precondition, aborted, range, unauthenticated.
            1 | 3 | 5 | 6 | 7 | 9 | 10 | 11 | 16 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

/// Bytes that are no message.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error("a message of {0} bytes")]
    TooLong(u32),
    #[error("a body of {0} bytes")]
    TooLarge(usize),
    #[error("a message that is none: {0}")]
    Malformed(postcard::Error),
}

impl From<Unreadable> for io::Error {
    fn from(error: Unreadable) -> Self {
        Self::new(io::ErrorKind::InvalidData, error.to_string())
    }
}

/// A message as it is sent, with its length before it.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] where it is too long.
pub(crate) fn framed(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(Unreadable::Malformed)?;
    let length = u32::try_from(frame.len().saturating_sub(4)).unwrap_or(u32::MAX);
    checked(length)?;
    if let Some(place) = frame.first_chunk_mut() {
        *place = length.to_le_bytes();
    }
    Ok(frame)
}

/// The length of a message.
///
/// # Errors
/// [`Unreadable::TooLong`].
pub(crate) fn checked(length: u32) -> Result<usize, Unreadable> {
    usize::try_from(length).ok().filter(|&length| length <= MESSAGE).ok_or(Unreadable::TooLong(length))
}

/// A message from its bytes.
///
/// # Errors
/// [`Unreadable::Malformed`].
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    postcard::from_bytes(bytes).map_err(Unreadable::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_went_and_others_are_refused() {
        let note = Note::Unanswered { place: 7, why: "cannot be reached".into() };
        let frame = framed(&note).expect("short");
        let (length, message) = frame.split_first_chunk().expect("a length");
        assert_eq!(checked(u32::from_le_bytes(*length)).expect("short"), message.len());
        assert_eq!(parse::<Note>(message).expect("one"), note);
        assert!(matches!(parse::<Note>(&[200]), Err(Unreadable::Malformed(_))));
        assert!(matches!(checked(u32::MAX), Err(Unreadable::TooLong(u32::MAX))));
    }
}
