//! Why a JPEG is not a whole picture.

use thiserror::Error;

use crate::frame::FrameError;

/// Why a JPEG is not a whole picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum JpegError {
    /// The end is missing.
    #[error("the picture ends early")]
    Truncated,
    /// A part is malformed.
    #[error("the picture is corrupt: {what}")]
    Corrupt {
        /// What was found.
        what: &'static str,
    },
    /// The size it announces is not allowed.
    #[error("the picture has a size that is not measured")]
    Size(#[from] FrameError),
}
