//! The one format for disk and wire: a framed, checksummed postcard payload.
//!
//! ```text
//! offset  size  field
//! 0       4     length of the whole frame, header included, little-endian
//! 4       1     version of the format: 1
//! 5       1     kind: what the payload is
//! 6       4     CRC-32C (Castagnoli, RFC 3720 B.4) of version, kind and payload, little-endian
//! 10      n     payload, postcard
//! ```
//!
//! Must hold: golden bytes of every version ever shipped are committed under `protocol/vectors` and keep decoding; a length is
//! checked against [`crate::limit::FRAME_BYTES`] before anything is reserved or read.

mod frame;
mod record;

pub use frame::{Frame, FrameError, Kind, VERSION, parse_frame, write_frame};
pub use record::{Body, Mark, Record, RecordError, RecordId, Tombstone, TombstoneCause};
