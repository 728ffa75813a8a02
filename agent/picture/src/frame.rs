//! What the feature kernel needs to know of a picture: one row of 8x8 luma blocks at a time, and a few facts about the whole.
//!
//! A streaming JPEG decoder has no more than this at hand, and needs no more: the coefficients it reads anyway, and four pixels
//! per block. Whatever else decodes pictures computes the same numbers, so that a feature means the same everywhere.
//!
//! Must hold: only whole blocks count. Up to seven pixels at the right and lower edge are left out, because what a JPEG carries
//! there is the encoder's invention. Coefficients are the dequantised integers of ITU-T T.81.
//!
//! Deliberately absent: the pixels at full resolution, and colours other than those of ITU-T T.871.

use thiserror::Error;

/// Pixels along one side of a block.
pub const BLOCK: u32 = 8;
/// Longest side of a picture, in pixels; every sum in the kernel is dimensioned for it.
pub const MAX_SIDE: u32 = 8192;

/// Why a picture cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A side is shorter than one block.
    #[error("a picture of {width}x{height} pixels is smaller than one block of {BLOCK}x{BLOCK}")]
    TooSmall {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A side is longer than [`MAX_SIDE`].
    #[error("a picture of {width}x{height} pixels exceeds {MAX_SIDE} pixels a side")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A row of blocks whose parts do not belong together, or not to this picture.
    #[error("a row of blocks has {got} where {expected} belong")]
    RowLength {
        /// What the picture's width asks for.
        expected: usize,
        /// What was handed in.
        got: usize,
    },
    /// More or fewer rows of blocks than the picture has.
    #[error("{got} rows of blocks, where the picture has {expected}")]
    RowCount {
        /// What the picture's height asks for.
        expected: u32,
        /// What was handed in.
        got: u32,
    },
}

/// The checked size of a picture: at least one block, at most [`MAX_SIDE`] a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSize {
    width: u32,
    height: u32,
}

impl PictureSize {
    /// Checks a size in pixels.
    ///
    /// # Errors
    /// [`FrameError::TooSmall`] or [`FrameError::TooLarge`].
    pub const fn new(width: u32, height: u32) -> Result<Self, FrameError> {
        if width < BLOCK || height < BLOCK {
            return Err(FrameError::TooSmall { width, height });
        }
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(FrameError::TooLarge { width, height });
        }
        Ok(Self { width, height })
    }

    /// Width in pixels, 8..=8192.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width
    }

    /// Height in pixels, 8..=8192.
    #[must_use]
    pub const fn height(self) -> u32 {
        self.height
    }

    /// Whole blocks in a row, 1..=1024.
    #[must_use]
    pub const fn blocks_wide(self) -> u32 {
        self.width / BLOCK
    }

    /// Whole rows of blocks, 1..=1024.
    #[must_use]
    pub const fn blocks_high(self) -> u32 {
        self.height / BLOCK
    }

    /// All whole blocks, at most 2²⁰.
    #[must_use]
    pub const fn blocks(self) -> u64 {
        self.blocks_wide() as u64 * self.blocks_high() as u64
    }
}

/// One 8x8 luma block, as its DCT coefficients in the normalisation of ITU-T T.81, dequantised and rounded to integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The DC coefficient without the level shift: eight times the mean luma, 0..=2040.
    pub dc: u16,
    /// Sum of absolute coefficients at zigzag positions 1..=5.
    pub low: u16,
    /// The same at 6..=20.
    pub middle: u16,
    /// The same at 21..=63.
    pub high: u16,
    /// The same at 28..=63, a part of `high`.
    pub top: u16,
}

/// One row of blocks, with its picture at a quarter of the scale: two rows of two pixels a block, each the mean of 4x4 pixels.
#[derive(Clone, Copy, Debug)]
pub struct BlockRow<'a> {
    luma: [&'a [u8]; 2],
    cb: [&'a [u8]; 2],
    cr: [&'a [u8]; 2],
    blocks: &'a [Block],
}

impl<'a> BlockRow<'a> {
    /// Puts a row together. `luma`, `cb` and `cr` (chroma offset by 128, as in ITU-T T.871) hold two rows of quarter-scale pixels.
    ///
    /// # Errors
    /// [`FrameError::RowLength`] where one of them does not have two pixels a block.
    pub fn new(
        luma: [&'a [u8]; 2],
        cb: [&'a [u8]; 2],
        cr: [&'a [u8]; 2],
        blocks: &'a [Block],
    ) -> Result<Self, FrameError> {
        let expected = 2 * blocks.len();
        for pixels in [luma, cb, cr].into_iter().flatten() {
            if pixels.len() != expected {
                return Err(FrameError::RowLength { expected, got: pixels.len() });
            }
        }
        Ok(Self { luma, cb, cr, blocks })
    }

    /// Two rows of quarter-scale luma.
    #[must_use]
    pub const fn luma(&self) -> [&'a [u8]; 2] {
        self.luma
    }

    /// Two rows of quarter-scale blue-difference chroma, offset by 128.
    #[must_use]
    pub const fn cb(&self) -> [&'a [u8]; 2] {
        self.cb
    }

    /// Two rows of quarter-scale red-difference chroma, offset by 128.
    #[must_use]
    pub const fn cr(&self) -> [&'a [u8]; 2] {
        self.cr
    }

    /// The blocks, from left to right.
    #[must_use]
    pub const fn blocks(&self) -> &'a [Block] {
        self.blocks
    }
}

/// Absolute luma steps between neighbouring pixels, separately across block borders and inside blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Sum of steps across a border.
    pub border: u64,
    /// How many.
    pub borders: u64,
    /// Sum of steps inside blocks.
    pub inner: u64,
    /// How many.
    pub inners: u64,
}

/// What is known of a frame besides its pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameFacts {
    /// Length of the encoded picture in bytes; `None` where there was no encoding.
    pub encoded_bytes: Option<u32>,
    /// Sum of the 64 entries of the JPEG luma quantisation table; `None` for other formats.
    pub quantisation_sum: Option<u32>,
    /// Steps at full resolution; `None` where only coefficients were decoded.
    pub steps: Option<Steps>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_outside_one_block_to_the_longest_side_are_refused_with_their_numbers() {
        assert_eq!(PictureSize::new(7, 100), Err(FrameError::TooSmall { width: 7, height: 100 }));
        assert_eq!(PictureSize::new(8, 8193), Err(FrameError::TooLarge { width: 8, height: 8193 }));
        let size = PictureSize::new(1927, 1080).expect("valid");
        assert_eq!((size.blocks_wide(), size.blocks_high(), size.blocks()), (240, 135, 32_400));
    }

    #[test]
    fn a_row_whose_parts_differ_in_length_is_refused() {
        let (two, three) = ([0; 2], [0; 3]);
        let blocks = [Block::default()];
        let row = BlockRow::new([&two, &two], [&two, &three], [&two, &two], &blocks);
        assert_eq!(row.err(), Some(FrameError::RowLength { expected: 2, got: 3 }));
    }
}
