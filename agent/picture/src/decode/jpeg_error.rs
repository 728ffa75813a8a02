//! Why a JPEG is not a whole picture, known without any operating system.

use thiserror::Error;

use crate::frame::FrameError;

/// Why a JPEG is not a whole picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JpegError {
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

/// Bits that begin with none of a table's codes.
pub(super) const NO_CODE: JpegError = JpegError::Corrupt { what: "bits that are no Huffman code" };
/// A run that leads out of its block.
pub(super) const TOO_MANY: JpegError = JpegError::Corrupt { what: "a block of more than 64 coefficients" };
