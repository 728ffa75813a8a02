//! Encoded pictures to measurements.
//!
//! [`StripDecoder`] measures what cameras send, in fixed memory and without an operating system. `Decoder`, which needs the feature
//! `full`, adds everything else by way of full pixels; its features mean the same.

mod bits;
mod huffman;
mod jpeg_error;
mod jpeg_header;
#[cfg(test)]
mod jpeg_writer;
#[cfg(feature = "full")]
mod pictures;
mod strip;
mod zigzag;

pub use jpeg_error::JpegError;
#[cfg(feature = "full")]
pub use pictures::decoded_bytes;
#[cfg(feature = "full")]
pub use pictures::{DecodeError, Decoder, MAX_MEMORY};
pub use strip::{StripDecoder, WIDEST};
