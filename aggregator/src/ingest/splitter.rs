//! Bytes as they arrive, cut into frames.

use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::wire::{Frame, FrameError, parse_frame};
use thiserror::Error;

/// Room for a typical record (about 1.5 KB); an idle connection holds no more than this.
const SMALL: usize = 2 * 1024;

/// What is wrong with a stream, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("at byte {offset} of the stream: {error}")]
pub struct Malformed {
    /// Offset of the frame in the stream, from 0.
    pub offset: u64,
    /// What is wrong with it.
    pub error: FrameError,
}

/// A whole frame and where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located<'a> {
    /// Offset in the stream, from 0.
    pub offset: u64,
    /// The frame.
    pub frame: Frame<'a>,
    /// Its bytes, header included.
    pub bytes: &'a [u8],
}

/// A buffer of at most one frame that grows only as far as the frame at hand needs.
///
/// Use: read into [`Self::spare`], say how much with [`Self::advance`], then take frames until there is none.
#[derive(Debug)]
pub struct FrameSplitter {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
}

impl Default for FrameSplitter {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameSplitter {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: vec![0; SMALL], start: 0, end: 0, offset: 0 }
    }

    /// Where to read to; never empty after [`Self::take_frame`] has returned `None`.
    pub fn spare(&mut self) -> &mut [u8] {
        let end = self.end;
        self.buffer.get_mut(end..).unwrap_or_default()
    }

    /// `count` bytes have been read into [`Self::spare`].
    pub fn advance(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.buffer.len());
    }

    /// Offset in the stream of the next byte that has not been taken.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether there are bytes of a frame that has not been taken.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.end > self.start
    }

    /// Whether the stream may end here: no frame has been begun.
    ///
    /// # Errors
    /// [`FrameError::Incomplete`] with what is missing.
    pub fn finish(&self) -> Result<(), Malformed> {
        let rest = self.rest();
        if rest.is_empty() {
            return Ok(());
        }
        let error =
            parse_frame(rest).err().unwrap_or(FrameError::Incomplete { needed: rest.len(), available: rest.len() });
        Err(Malformed { offset: self.offset, error })
    }

    /// The next complete frame; `None` where more bytes are needed.
    ///
    /// # Errors
    /// What is wrong with the stream; it cannot be read on after that.
    pub fn take_frame(&mut self) -> Result<Option<Located<'_>>, Malformed> {
        let offset = self.offset;
        let length = match parse_frame(self.rest()) {
            Ok(frame) => frame.length,
            Err(FrameError::Incomplete { needed, .. }) => {
                self.make_room(needed.min(FRAME_BYTES));
                return Ok(None);
            }
            Err(error) => return Err(Malformed { offset, error }),
        };
        let start = self.start;
        self.start += length;
        self.offset = self.offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        let bytes = self.buffer.get(start..start + length).unwrap_or_default();
        // The second parse gives the borrow that the first could not; the checksum of a few kilobytes costs about a microsecond.
        match parse_frame(bytes) {
            Ok(frame) => Ok(Some(Located { offset, frame, bytes })),
            Err(error) => Err(Malformed { offset, error }),
        }
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Moves what is left to the front and makes the buffer as large as the frame needs, and no larger.
    fn make_room(&mut self, needed: usize) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let wanted = needed.max(SMALL);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        } else if self.buffer.len() > wanted && self.end <= wanted {
            self.buffer.truncate(wanted);
            self.buffer.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::wire::{Kind, write_frame};
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; FRAME_BYTES];
        let length = write_frame(Kind::Record, &payload, &mut out).expect("fits");
        out.truncate(length);
        out
    }

    /// Feeds `bytes` in pieces and returns the frames, or the fault.
    fn split(bytes: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut splitter = FrameSplitter::new();
        let mut frames = Vec::new();
        let mut rest = bytes;
        loop {
            while let Some(located) = splitter.take_frame()? {
                frames.push(located.bytes.to_vec());
            }
            assert!(splitter.buffer.len() <= FRAME_BYTES);
            if rest.is_empty() {
                return splitter.finish().map(|()| frames);
            }
            let spare = splitter.spare();
            assert!(!spare.is_empty(), "there is always room to read on");
            let count = piece.min(rest.len()).min(spare.len());
            spare[..count].copy_from_slice(&rest[..count]);
            splitter.advance(count);
            rest = &rest[count..];
        }
    }

    #[test]
    fn the_longest_frame_passes_and_its_memory_is_given_back() {
        let longest = frame(&vec![7; FRAME_BYTES - 10 - 3]);
        assert_eq!(longest.len(), FRAME_BYTES);
        let mut splitter = FrameSplitter::new();
        let mut rest = longest.as_slice();
        while splitter.take_frame().expect("well-formed").is_none() {
            let spare = splitter.spare();
            let count = spare.len().min(rest.len());
            spare[..count].copy_from_slice(&rest[..count]);
            splitter.advance(count);
            rest = &rest[count..];
        }
        assert_eq!(splitter.take_frame(), Ok(None));
        assert_eq!(splitter.buffer.len(), SMALL);
        assert_eq!(splitter.offset(), u64::try_from(FRAME_BYTES).expect("small"));
    }

    #[test]
    fn a_giant_length_is_refused_from_its_four_bytes_alone() {
        let length = u32::MAX;
        assert_eq!(
            split(&length.to_le_bytes(), 4),
            Err(Malformed { offset: 0, error: FrameError::TooLong { length } })
        );
    }

    #[test]
    fn a_fault_is_reported_at_the_offset_of_its_frame() {
        let good = frame(b"good");
        let second = u64::try_from(good.len()).expect("small");
        let damaged = |at: usize, byte: u8| {
            let mut bytes = [good.clone(), good.clone()].concat();
            bytes[good.len() + at] = byte;
            split(&bytes, 7).expect_err("damaged")
        };
        assert_eq!(damaged(4, 9), Malformed { offset: second, error: FrameError::Version { version: 9 } });
        let checksum = damaged(12, 0xff);
        assert!(matches!(checksum, Malformed { offset, error: FrameError::Checksum { .. } } if offset == second));
        let cut = split(&[good.clone(), good[..6].to_vec()].concat(), 100).expect_err("cut");
        assert!(matches!(cut, Malformed { offset, error: FrameError::Incomplete { .. } } if offset == second));
        assert_eq!(split(&[], 1), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_frames_are_the_same(
            sizes in prop::collection::vec(0_usize..6_000, 0..6),
            piece in 1_usize..5_000,
        ) {
            let frames: Vec<Vec<u8>> = sizes.iter().map(|&size| frame(&vec![3; size])).collect();
            prop_assert_eq!(split(&frames.concat(), piece), Ok(frames));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
            drop(split(&bytes, piece));
        }
    }
}
