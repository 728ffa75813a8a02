//! Encoded pictures to measurements.
//!
//! [`StripDecoder`] measures what cameras send, in fixed memory and without an operating system. `Decoder`, which needs the feature
//! `host`, adds everything else by way of full pixels; its features mean the same.

mod bits;
mod huffman;
mod jpeg_error;
mod jpeg_header;
#[cfg(test)]
mod jpeg_writer;
#[cfg(feature = "host")]
mod pictures;
mod strip;
mod zigzag;

pub use jpeg_error::JpegError;
#[cfg(feature = "host")]
pub(crate) use pictures::decoded_bytes;
#[cfg(feature = "host")]
pub use pictures::{DecodeError, Decoder, MAX_MEMORY};
pub use strip::{StripDecoder, WIDEST};
