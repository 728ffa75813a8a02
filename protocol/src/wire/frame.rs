//! Framing: length, version, kind, checksum.

#[cfg(any(test, not(feature = "std")))]
use crc::{CRC_32_ISCSI, Crc};
use serde::Serialize;
use thiserror::Error;

use crate::limit::{FRAME_BYTES, FRAME_HEADER_BYTES};

/// Version of the format written by this release.
pub const VERSION: u8 = 1;

#[cfg(any(test, not(feature = "std")))]
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What the payload of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A [`super::Record`]; on disk and on the wire.
    Record = 1,
    /// A [`crate::session::Hello`]; agent to aggregator.
    Hello = 2,
    /// A [`crate::session::Welcome`]; aggregator to agent.
    Welcome = 3,
    /// A [`crate::session::Acknowledge`]; aggregator to agent.
    Acknowledge = 4,
    /// A [`crate::session::Refuse`]; aggregator to agent.
    Refuse = 5,
    /// How far the sources had been read when the records before it were written; on disk only.
    Checkpoint = 6,
    /// The head of a spool segment; on disk only.
    Segment = 7,
    /// A [`crate::identity::Enrol`]; device to aggregator.
    Enrol = 8,
    /// A [`crate::identity::Renew`]; device to aggregator.
    Renew = 9,
    /// A [`crate::identity::Issued`]; aggregator to device.
    Issued = 10,
    /// A [`crate::identity::Deny`]; aggregator to device.
    Deny = 11,
    /// A [`crate::configuration::DesiredConfiguration`]; aggregator to agent.
    DesiredConfiguration = 12,
    /// A [`crate::configuration::ConfigurationReport`]; agent to aggregator.
    ConfigurationReport = 13,
}

impl Kind {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Record,
            2 => Self::Hello,
            3 => Self::Welcome,
            4 => Self::Acknowledge,
            5 => Self::Refuse,
            6 => Self::Checkpoint,
            7 => Self::Segment,
            8 => Self::Enrol,
            9 => Self::Renew,
            10 => Self::Issued,
            11 => Self::Deny,
            12 => Self::DesiredConfiguration,
            13 => Self::ConfigurationReport,
            _ => return None,
        })
    }
}

/// A frame whose checksum was right; the payload is still unparsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: Kind,
    /// The payload.
    pub payload: &'a [u8],
    /// Length of the whole frame in bytes.
    pub length: usize,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// More bytes are needed; not an error of the sender.
    #[error("the frame is incomplete: {needed} bytes are needed, {available} are there")]
    Incomplete {
        /// Bytes needed in all, as far as known.
        needed: usize,
        /// Bytes there.
        available: usize,
    },
    /// The declared length is beyond [`FRAME_BYTES`].
    #[error("a frame of {length} bytes is declared, the most allowed is {FRAME_BYTES}")]
    TooLong {
        /// Length declared.
        length: u32,
    },
    /// The declared length is shorter than a header.
    #[error("a frame of {length} bytes is declared, the header alone has {FRAME_HEADER_BYTES}")]
    TooShort {
        /// Length declared.
        length: u32,
    },
    /// Another version of the format.
    #[error("format version {version}; this release reads version {VERSION}")]
    Version {
        /// Version found.
        version: u8,
    },
    /// The checksum does not match the bytes.
    #[error("checksum {found:08x} does not match the computed {computed:08x}")]
    Checksum {
        /// Found in the header.
        found: u32,
        /// Computed from the bytes.
        computed: u32,
    },
    /// A kind this release does not know.
    #[error("unknown kind of frame {kind}")]
    Kind {
        /// Kind found.
        kind: u8,
    },
    /// The payload does not fit.
    #[error("the payload does not fit a frame of {FRAME_BYTES} bytes")]
    Overflow,
}

/// Reads the frame at the beginning of `bytes`.
///
/// # Errors
/// [`FrameError::Incomplete`] where more bytes are needed, otherwise one variant per cause.
pub fn parse_frame(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let incomplete = |needed| FrameError::Incomplete { needed, available: bytes.len() };
    let Some(&length) = bytes.first_chunk::<4>() else {
        return Err(incomplete(FRAME_HEADER_BYTES));
    };
    let declared = u32::from_le_bytes(length);
    let length = declared as usize;
    if length > FRAME_BYTES {
        return Err(FrameError::TooLong { length: declared });
    }
    if length < FRAME_HEADER_BYTES {
        return Err(FrameError::TooShort { length: declared });
    }
    let Some(frame) = bytes.get(..length) else {
        return Err(incomplete(length));
    };
    let (version, kind) = (frame[4], frame[5]);
    if version != VERSION {
        return Err(FrameError::Version { version });
    }
    let payload = &frame[FRAME_HEADER_BYTES..];
    let found = u32::from_le_bytes([frame[6], frame[7], frame[8], frame[9]]);
    let computed = checksum(version, kind, payload);
    if found != computed {
        return Err(FrameError::Checksum { found, computed });
    }
    let kind = Kind::from_number(kind).ok_or(FrameError::Kind { kind })?;
    Ok(Frame { kind, payload, length })
}

/// Writes `payload` as a frame at the beginning of `out` and returns its length.
///
/// # Errors
/// [`FrameError::Overflow`] where `out` or [`FRAME_BYTES`] is too small.
pub fn write_frame(kind: Kind, payload: &impl Serialize, out: &mut [u8]) -> Result<usize, FrameError> {
    let room = out.len().min(FRAME_BYTES);
    let body = out.get_mut(FRAME_HEADER_BYTES..room).ok_or(FrameError::Overflow)?;
    let used = postcard::to_slice(payload, body).map_err(|_| FrameError::Overflow)?.len();
    let length = FRAME_HEADER_BYTES + used;
    let declared = u32::try_from(length).map_err(|_| FrameError::Overflow)?;
    let crc = checksum(VERSION, kind as u8, &out[FRAME_HEADER_BYTES..length]);
    out[..4].copy_from_slice(&declared.to_le_bytes());
    out[4] = VERSION;
    out[5] = kind as u8;
    out[6..10].copy_from_slice(&crc.to_le_bytes());
    Ok(length)
}

#[cfg(feature = "std")]
fn checksum(version: u8, kind: u8, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[version, kind]), payload)
}

#[cfg(any(test, not(feature = "std")))]
fn checksum_by_table(version: u8, kind: u8, payload: &[u8]) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(&[version, kind]);
    digest.update(payload);
    digest.finalize()
}

#[cfg(not(feature = "std"))]
use checksum_by_table as checksum;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    extern crate std;
    use std::vec::Vec;

    fn framed(payload: &(u32, u64)) -> Vec<u8> {
        let mut out = [0; 64];
        let length = write_frame(Kind::Acknowledge, payload, &mut out).expect("fits");
        out[..length].to_vec()
    }

    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn every_way_to_be_malformed_has_its_own_error() {
        let good = framed(&(7, 9));
        assert_eq!(parse_frame(&good).map(|frame| frame.kind), Ok(Kind::Acknowledge));
        assert_eq!(parse_frame(&good[..3]), Err(FrameError::Incomplete { needed: 10, available: 3 }));
        assert_eq!(
            parse_frame(&good[..good.len() - 1]),
            Err(FrameError::Incomplete { needed: good.len(), available: good.len() - 1 })
        );
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(parse_frame(&with(3, 1)), Err(FrameError::TooLong { length: (1 << 24) + 12 }));
        assert_eq!(parse_frame(&with(0, 9)), Err(FrameError::TooShort { length: 9 }));
        assert_eq!(parse_frame(&with(4, 2)), Err(FrameError::Version { version: 2 }));
        assert!(matches!(parse_frame(&with(11, 8)), Err(FrameError::Checksum { .. })));
        assert!(matches!(parse_frame(&with(5, 99)), Err(FrameError::Checksum { .. })));
        assert_eq!(write_frame(Kind::Hello, &[0_u64; 32], &mut [0; 20]), Err(FrameError::Overflow));
    }

    proptest! {
        #[test]
        fn both_ways_to_a_checksum_agree(
            version in any::<u8>(), kind in any::<u8>(), payload in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            prop_assert_eq!(checksum(version, kind, &payload), checksum_by_table(version, kind, &payload));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(frame) = parse_frame(&bytes) {
                prop_assert!(frame.length <= bytes.len());
            }
        }

        #[test]
        fn one_flipped_bit_is_noticed(bit in 0_usize..(12 * 8), epoch in any::<u32>()) {
            let mut bytes = framed(&(epoch & 0x7f, 1));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse_frame(&bytes).is_err());
        }
    }
}
