//! What changed since the previous frame, block by block: a frozen picture repeats to the last bit.
//!
//! Compared with a hash or a checksum of the whole frame this stays near zero also where the camera writes a running clock into
//! an otherwise frozen picture. A frozen picture that is encoded anew with other quantisation tables is not recognised.

use driftglass_protocol::unit::Fixed;

use super::luma::ratio;
use crate::frame::{BlockRow, PictureSize};

/// Most blocks kept. Above this (1080p has 32,400) only every n-th block of every n-th row is kept.
const KEPT: u32 = 32_768;

/// One byte for each kept block: its DC coefficient folded, so that steps down to an eighth of a luma level count.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Plane {
    size: PictureSize,
    stride: usize,
    rows: usize,
    length: usize,
    folded: [u8; KEPT as usize],
}

impl core::fmt::Debug for Plane {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Plane({:?}, {} blocks)", self.size, self.length)
    }
}

impl Plane {
    pub(super) const fn new(size: PictureSize) -> Self {
        let mut stride = 1;
        while size.blocks_wide().div_ceil(stride) * size.blocks_high().div_ceil(stride) > KEPT {
            stride += 1;
        }
        Self { size, stride: stride as usize, rows: 0, length: 0, folded: [0; KEPT as usize] }
    }

    pub(super) fn add(&mut self, row: &BlockRow<'_>) {
        if self.rows.is_multiple_of(self.stride) {
            let blocks = row.blocks().iter().step_by(self.stride);
            for (slot, block) in self.folded.iter_mut().skip(self.length).zip(blocks) {
                let [low, high] = block.dc.to_le_bytes();
                // The high bits are spread so that a step of 32 levels does not fold to the same byte.
                *slot = low ^ high.wrapping_mul(0x9d);
                self.length += 1;
            }
        }
        self.rows += 1;
    }

    /// Share of blocks that differ; `None` for pictures of different size.
    pub(super) fn change_since(&self, previous: &Self) -> Option<Fixed> {
        if self.size != previous.size || self.length != previous.length || self.length == 0 {
            return None;
        }
        let kept = self.folded.iter().zip(&previous.folded).take(self.length);
        let changed = kept.map(|(now, then)| u32::from(now != then)).sum::<u32>();
        Some(ratio(u64::from(changed), self.length as u64))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::frame::Block;

    fn plane(width: u32, height: u32, dc: impl Fn(u32, u32) -> u16) -> Plane {
        let size = PictureSize::new(width, height).expect("valid");
        let mut plane = Plane::new(size);
        let pixels = vec![0; 2 * size.blocks_wide() as usize];
        let two: [&[u8]; 2] = [&pixels, &pixels];
        for y in 0..size.blocks_high() {
            let blocks: Vec<Block> =
                (0..size.blocks_wide()).map(|x| Block { dc: dc(x, y), ..Block::default() }).collect();
            plane.add(&BlockRow::new(two, two, two, &blocks).expect("lengths agree"));
        }
        plane
    }

    #[test]
    fn a_repeated_picture_has_not_changed_and_one_block_of_four_is_a_quarter() {
        let before = plane(16, 16, |x, y| u16::try_from(x * 7 + y).expect("small"));
        assert_eq!(before.change_since(&before.clone()), Some(Fixed::ZERO));
        let after = plane(16, 16, |x, y| u16::try_from(x * 7 + y + u32::from(x + y == 0)).expect("small"));
        assert_eq!(after.change_since(&before).map(Fixed::to_f64), Some(0.25));
    }

    #[test]
    fn no_step_between_two_levels_folds_to_the_same_byte_more_often_than_chance() {
        let fold = |dc: u16| plane(8, 8, |_, _| dc).folded[0];
        for step in [1, 8, 16, 128, 256, 512, 1024] {
            let same = (0..2040_u16 - step).filter(|&dc| fold(dc) == fold(dc + step)).count();
            assert!(same <= 64, "step {step}: {same}");
        }
    }

    #[test]
    fn a_picture_of_another_size_cannot_be_compared() {
        assert_eq!(plane(16, 8, |_, _| 0).change_since(&plane(8, 16, |_, _| 0)), None);
    }

    #[test]
    fn the_largest_picture_fits_by_keeping_fewer_blocks() {
        let (before, after) = (plane(8192, 8192, |_, _| 5), plane(8192, 8192, |_, _| 6));
        assert!(before.length <= KEPT as usize && before.length > KEPT as usize / 2);
        assert_eq!(after.change_since(&before), Some(Fixed::ONE));
    }
}
