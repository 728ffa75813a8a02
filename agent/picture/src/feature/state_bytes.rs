//! A camera's reference as bytes, so that it outlives the process.
//!
//! Layout, all little-endian: version (1 byte), kind (1: learning, 2: learned, 3: pinned), width and height (2 bytes each, 0 where
//! unknown), frames (4 bytes, 0 unless learning), then thumbnail, hash grid and tile details row by row: sums of 8 bytes while
//! learning, else means of 2, 2 and 4 bytes. The fine grid follows row by row: while learning, the votes of each cell in a signed byte;
//! then, eight bytes with a bit for each brighter cell and eight with one for each darker. Last, what each cell of the thumbnail usually is
//! beside its neighbourhood: while learning, its sum and its sum of squares in 8 bytes each; then, its mean and its spread in 2 each.
//!
//! Not kept are the previous frame (after a restart the first frame has no change) and what has changed lastingly.
//!
//! Deliberately absent: a checksum; whoever stores the bytes has one.

use thiserror::Error;

use super::camera::{CameraState, Knowledge};
use super::cells::{Cells, FINE, HASH, THUMBNAIL, TILES};
use super::reference::{Reference, ReferenceLearner};
use super::registration::CodeRow;
use super::relief::{Sums, Usual};
use crate::frame::{FrameError, PictureSize};

const VERSION: u8 = 3;
const HEADER_BYTES: usize = 10;
const CELLS: usize = THUMBNAIL.0 * THUMBNAIL.1 + HASH.0 * HASH.1 + TILES.0 * TILES.1;
const LEARNED_BYTES: usize = HEADER_BYTES
    + 2 * (THUMBNAIL.0 * THUMBNAIL.1 + HASH.0 * HASH.1)
    + 4 * TILES.0 * TILES.1
    + 16 * FINE.1
    + 4 * THUMBNAIL.0 * THUMBNAIL.1;

/// Longest encoding of a [`CameraState`].
pub const STATE_BYTES: usize = HEADER_BYTES + 8 * CELLS + FINE.0 * FINE.1 + 16 * THUMBNAIL.0 * THUMBNAIL.1;

/// Why bytes are not a camera's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// Written by a version of this program that this one does not know.
    #[error("camera state has version {got}, expected {VERSION}")]
    Version {
        /// The version found.
        got: u8,
    },
    /// A kind that does not exist.
    #[error("camera state has unknown kind {got}")]
    Kind {
        /// The kind found.
        got: u8,
    },
    /// Too few or too many bytes.
    #[error("camera state has {got} bytes, expected {expected}")]
    Length {
        /// What its kind asks for.
        expected: usize,
        /// What is there.
        got: usize,
    },
    /// A picture size that cannot be.
    #[error("camera state has no valid picture size")]
    Size(#[from] FrameError),
    /// Sums exceed what the number of frames can add up to, or that number does not fit the kind or the size.
    #[error("camera state does not add up for {frames} frames")]
    Sums {
        /// The number of frames found.
        frames: u32,
    },
}

impl CameraState {
    /// Writes the state and returns its length.
    pub fn to_bytes(&self, out: &mut [u8; STATE_BYTES]) -> usize {
        let mut writer = Writer { out, at: 0 };
        match &self.knowledge {
            Knowledge::Learning(learner) => {
                writer.header(1, learner.size, learner.frames);
                for sum in learner.thumbnail.iter().flatten().chain(learner.hash.iter().flatten()) {
                    writer.put(&sum.to_le_bytes());
                }
                for sum in learner.detail.iter().flatten() {
                    writer.put(&sum.to_le_bytes());
                }
                for &votes in learner.votes.iter().flatten() {
                    writer.put(&i8::try_from(votes).unwrap_or(if votes < 0 { i8::MIN } else { i8::MAX }).to_le_bytes());
                }
                let Sums { values, squares } = &learner.relief;
                values.iter().flatten().for_each(|sum| writer.put(&sum.to_le_bytes()));
                squares.iter().flatten().for_each(|sum| writer.put(&sum.to_le_bytes()));
            }
            Knowledge::Learned(reference) => writer.reference(2, reference),
            Knowledge::Pinned(reference) => writer.reference(3, reference),
        }
        writer.at
    }

    /// Reads a state that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// One variant of [`StateError`] per cause.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader { bytes, at: 0 };
        let version = reader.byte();
        if bytes.len() < HEADER_BYTES {
            return Err(StateError::Length { expected: HEADER_BYTES, got: bytes.len() });
        }
        if version != VERSION {
            return Err(StateError::Version { got: version });
        }
        let kind = reader.byte();
        let expected = match kind {
            1 => STATE_BYTES,
            2 | 3 => LEARNED_BYTES,
            got => return Err(StateError::Kind { got }),
        };
        if bytes.len() != expected {
            return Err(StateError::Length { expected, got: bytes.len() });
        }
        let (width, height) = (u16::from_le_bytes(reader.take()), u16::from_le_bytes(reader.take()));
        let frames = u32::from_le_bytes(reader.take());
        if kind != 1 && frames != 0 {
            return Err(StateError::Sums { frames });
        }
        let size = |()| PictureSize::new(u32::from(width), u32::from(height));
        let knowledge = match kind {
            1 => {
                let size = if (width, height) == (0, 0) { None } else { Some(size(())?) };
                Knowledge::Learning(reader.learner(size, frames)?)
            }
            2 => Knowledge::Learned(reader.reference(size(())?)),
            _ => Knowledge::Pinned(reader.reference(size(())?)),
        };
        Ok(Self::from_knowledge(knowledge))
    }
}

struct Writer<'a> {
    out: &'a mut [u8; STATE_BYTES],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        for (slot, &byte) in self.out.iter_mut().skip(self.at).zip(bytes) {
            *slot = byte;
        }
        self.at += bytes.len();
    }

    fn header(&mut self, kind: u8, size: Option<PictureSize>, frames: u32) {
        self.put(&[VERSION, kind]);
        for side in size.map_or([0; 2], |size| [size.width(), size.height()]) {
            self.put(&u16::try_from(side).unwrap_or(u16::MAX).to_le_bytes());
        }
        self.put(&frames.to_le_bytes());
    }

    fn reference(&mut self, kind: u8, reference: &Reference) {
        self.header(kind, Some(reference.size), 0);
        let cells = &reference.cells;
        for mean in cells.thumbnail.iter().flatten().chain(cells.hash.iter().flatten()) {
            self.put(&mean.to_le_bytes());
        }
        for mean in cells.detail.iter().flatten() {
            self.put(&mean.to_le_bytes());
        }
        for row in &reference.codes {
            self.put(&row.brighter.to_le_bytes());
            self.put(&row.darker.to_le_bytes());
        }
        reference.usual.mean.iter().flatten().for_each(|mean| self.put(&mean.to_le_bytes()));
        reference.usual.spread.iter().flatten().for_each(|spread| self.put(&spread.to_le_bytes()));
    }
}

/// Reads beyond the end as zeros; lengths are checked before.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N]);
        self.at += N;
        bytes
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn learner(&mut self, size: Option<PictureSize>, frames: u32) -> Result<ReferenceLearner, StateError> {
        let mut learner = ReferenceLearner { size, frames, ..ReferenceLearner::new() };
        let lumas = learner.thumbnail.iter_mut().flatten().chain(learner.hash.iter_mut().flatten());
        for (sum, most) in lumas
            .map(|sum| (sum, u16::MAX.into()))
            .chain(learner.detail.iter_mut().flatten().map(|sum| (sum, u32::MAX.into())))
        {
            *sum = u64::from_le_bytes(self.take());
            let most: u64 = most;
            if *sum > most * u64::from(frames) {
                return Err(StateError::Sums { frames });
            }
        }
        for votes in learner.votes.iter_mut().flatten() {
            *votes = i8::from_le_bytes(self.take()).into();
            if votes.unsigned_abs() > frames {
                return Err(StateError::Sums { frames });
            }
        }
        let most = u64::from(i16::MAX.unsigned_abs());
        for sum in learner.relief.values.iter_mut().flatten() {
            *sum = i64::from_le_bytes(self.take());
            if sum.unsigned_abs() > most * u64::from(frames) {
                return Err(StateError::Sums { frames });
            }
        }
        for sum in learner.relief.squares.iter_mut().flatten() {
            *sum = u64::from_le_bytes(self.take());
            if *sum > most * most * u64::from(frames) {
                return Err(StateError::Sums { frames });
            }
        }
        if frames > 0 && size.is_none() {
            return Err(StateError::Sums { frames });
        }
        Ok(learner)
    }

    fn reference(&mut self, size: PictureSize) -> Reference {
        let thumbnail = [[(); THUMBNAIL.0]; THUMBNAIL.1].map(|row| row.map(|()| u16::from_le_bytes(self.take())));
        let hash = [[(); HASH.0]; HASH.1].map(|row| row.map(|()| u16::from_le_bytes(self.take())));
        let detail = [[(); TILES.0]; TILES.1].map(|row| row.map(|()| u32::from_le_bytes(self.take())));
        let mut row = || CodeRow { brighter: u64::from_le_bytes(self.take()), darker: u64::from_le_bytes(self.take()) };
        let codes = [(); FINE.1].map(|()| row());
        let mean = [[(); THUMBNAIL.0]; THUMBNAIL.1].map(|row| row.map(|()| i16::from_le_bytes(self.take())));
        let spread = [[(); THUMBNAIL.0]; THUMBNAIL.1].map(|row| row.map(|()| u16::from_le_bytes(self.take())));
        Reference::new(size, Cells { thumbnail, hash, detail }, codes, Usual { mean, spread })
    }
}
