//! Where frames come from. One enum, so that adding a kind is one variant and the compiler names every place to think of.
//!
//! A source hands out candidates in its own order, each with a position; what was counted is remembered by position together with the
//! windows it went into, and after a restart the source goes on behind it. Reading the bytes is a second step, because a frame that
//! the sampling rate leaves out need not be read.
//!
//! A folder is looked through by the pipeline itself. Everything else is live: a task fetches or receives frames, with its own time-outs
//! and its own way back after a failure, and the pipeline takes them from a small waiting room ([`Live`]). A live source cannot fail for
//! good: whatever is wrong is in its [`Status`], and it is tried again after a jittered delay.
//!
//! Some sources hear what a model says of their frames; it travels with the frame ([`FrameSource::heard`]).

pub mod address;
mod digest;
mod directory;
mod exec;
mod fetch;
mod http;
mod huffman;
#[cfg(feature = "inference")]
pub(crate) mod inference;
mod jpeg_stream;
mod live;
mod mjpeg;
mod multipart;
mod push;
#[cfg(feature = "rtsp")]
mod rtsp;
mod running;
mod snapshot;
pub(crate) mod status;
#[cfg(feature = "v4l2")]
mod v4l2;

use driftglass_protocol::unit::UnixMillis;
use thiserror::Error;

use crate::prediction::Heard;

pub use directory::{Directory, MAX_FILE_BYTES};
pub use exec::CommandLine;
pub use fetch::{Prepared, prepare};
pub use http::SCHEMES as HTTP_SCHEMES;
pub use live::{Live, Outside};
pub use multipart::Malformed;
pub use running::Running;
pub use status::{Failure, Health, Status};

pub use crate::moment::Moment;

/// Why a candidate is not a readable picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unusable {
    /// No bytes.
    #[error("it is empty")]
    Empty,
    /// More bytes than allowed: [`MAX_FILE_BYTES`] of a file, `max_frame` of a live source.
    #[error("it has more bytes than allowed")]
    TooLarge,
    /// More memory to decode than a live source's picture may take; nothing was allocated for it.
    #[error("it announces more pixels than allowed")]
    TooManyPixels,
    /// The system does not let us read it.
    #[error("the file cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    /// It kept changing for too long.
    #[error("the file did not stop changing")]
    NeverComplete,
}

impl Unusable {
    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::TooManyPixels => "too_many_pixels",
            Self::Unreadable(_) => "unreadable",
            Self::NeverComplete => "never_complete",
        }
    }
}

/// What to do with a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Complete; read it.
    Ready,
    /// No picture, but what a model said of one.
    Heard,
    /// The truth of an earlier frame is known: whether the model was wrong.
    Judged(bool),
    /// Counted as undecodable.
    Unusable(Unusable),
    /// So many frames before this one were left out, because they came faster than they could be measured.
    Skipped(u32),
    /// It appeared behind the position; counted as late, and the position stays.
    OutOfOrder,
}

/// A frame to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The position of the source once this is counted: for a folder the file's name; empty for a source that has none.
    pub position: Vec<u8>,
    /// When it was taken as far as is known: a file's time of modification, where the system says so; for a live source when it came.
    pub taken: Option<UnixMillis>,
    /// What to do with it.
    pub condition: Condition,
}

/// A source of frames.
#[derive(Debug)]
pub enum FrameSource {
    /// A watched folder.
    Directory(Directory),
    /// Anything that delivers by itself.
    Live(Live),
}

impl FrameSource {
    /// Goes on behind what was counted of the camera before; to be called before the first candidate is taken. A live source has no
    /// position to go on from.
    pub fn resume(&mut self, position: &[u8]) {
        if let Self::Directory(directory) = self {
            directory.resume(position);
        }
    }

    /// The next candidate, where one is ready. It counts as taken.
    pub fn poll(&mut self, now: Moment) -> Option<Candidate> {
        match self {
            Self::Directory(directory) => directory.poll(now),
            Self::Live(live) => live.poll(now),
        }
    }

    /// The bytes of a candidate just taken; `Ok(None)` where it has vanished.
    ///
    /// # Errors
    /// [`Unusable`], one variant per cause.
    pub fn read(&mut self, candidate: &Candidate) -> Result<Option<&[u8]>, Unusable> {
        match self {
            Self::Directory(directory) => directory.read(candidate),
            Self::Live(live) => Ok(Some(live.read())),
        }
    }

    /// What a model said of the candidate just taken, where that was heard.
    #[must_use]
    pub fn heard(&self) -> Option<&Heard> {
        match self {
            Self::Directory(_) => None,
            Self::Live(live) => live.heard(),
        }
    }

    /// When, by the wall clock, a look last found nothing waiting; `None` while something waits.
    #[must_use]
    pub const fn idle_at(&self) -> Option<UnixMillis> {
        match self {
            Self::Directory(directory) => directory.idle_at(),
            Self::Live(live) => live.idle_at(),
        }
    }
}

#[cfg(test)]
mod tests;
