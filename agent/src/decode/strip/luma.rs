//! Luma: from the coefficients of eight blocks to what a row of blocks says of them, and to the steps between pixels.

use super::inverse::{self, Blocks};
use super::lanes::{LANES, Lanes};
use super::{BLOCKS_WIDE, UNITS};
use crate::decode::dct::ZIGZAG;
use crate::frame::{Block, Steps};

/// Most block rows in a row of units.
pub(super) const ROWS: usize = 2;
/// Most blocks of a unit.
const UNIT_BLOCKS: usize = 4;

/// A position in the zigzag sequence to the position in the block, row by row.
pub(super) const NATURAL: [u8; 64] = natural();

const fn natural() -> [u8; 64] {
    let mut order = [0; 64];
    let mut at = 0;
    while at < 64 {
        #[expect(clippy::cast_possible_truncation, reason = "below 64")]
        {
            order[ZIGZAG[at / 8][at % 8] as usize] = at as u8;
        }
        at += 1;
    }
    order
}

/// One block row at quarter scale, and its blocks.
#[derive(Debug)]
pub(super) struct LumaRow {
    pub(super) quarter: [[u8; 2 * BLOCKS_WIDE]; 2],
    pub(super) blocks: [Block; BLOCKS_WIDE],
}

impl LumaRow {
    const fn new() -> Self {
        let block = Block { dc: 0, low: 0, middle: 0, high: 0, top: 0 };
        Self { quarter: [[0; 2 * BLOCKS_WIDE]; 2], blocks: [block; BLOCKS_WIDE] }
    }
}

/// The luma of one row of units.
#[derive(Debug)]
pub(super) struct Luma {
    /// Coefficients of eight units; each of up to four blocks of a unit has its own, by row.
    pub(super) coefficients: [Blocks; UNIT_BLOCKS],
    pub(super) rows: [LumaRow; ROWS],
    /// The lowest pixels of the block row above, column by column of the block.
    above: [[[u8; LANES]; 8]; UNITS],
    /// The rightmost pixels of the last block in the group of units before, for each block row.
    left: [[i16; 8]; ROWS],
    pub(super) steps: Steps,
}

/// Which blocks of a row of units belong to the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Blocks in a unit, across and down.
    pub(super) across: usize,
    pub(super) down: usize,
    /// Whole blocks in a row of the picture, and block rows that are left of it.
    pub(super) wide: usize,
    pub(super) rows: usize,
    /// Whether nothing is above.
    pub(super) is_first: bool,
}

impl Luma {
    pub(super) const fn new() -> Self {
        Self {
            coefficients: [[Lanes::ZERO; 64]; UNIT_BLOCKS],
            rows: [const { LumaRow::new() }; ROWS],
            above: [[[0; LANES]; 8]; UNITS],
            left: [[0; 8]; ROWS],
            steps: Steps { border: 0, borders: 0, inner: 0, inners: 0 },
        }
    }

    /// Forgets the picture before, whole or not.
    pub(super) fn reset(&mut self) {
        for coefficients in &mut self.coefficients {
            coefficients.fill(Lanes::ZERO);
        }
        self.steps = Steps::default();
    }

    /// Takes the coefficients of the `group`th eight units of a row into the rows, and sets them to zero.
    pub(super) fn take(&mut self, group: usize, extent: Extent) {
        for down in 0..extent.down.min(ROWS) {
            let is_kept = down < extent.rows;
            for across in 0..extent.across {
                let Some(coefficients) = self.coefficients.get_mut(down * extent.across + across) else { continue };
                if is_kept {
                    summarise(coefficients, &mut self.rows[down], group, across, extent);
                }
            }
            if is_kept {
                self.take_pixels(down, group, extent);
            }
        }
        for coefficients in self.coefficients.iter_mut().take(extent.across * extent.down) {
            coefficients.fill(Lanes::ZERO);
        }
    }

    /// Quarter-scale pixels and steps of one block row of the units.
    fn take_pixels(&mut self, down: usize, group: usize, extent: Extent) {
        let carried = self.left[down];
        let mut right = [[Lanes::ZERO; 8]; 2];
        let mut left = [[Lanes::ZERO; 8]; 2];
        for across in 0..extent.across.min(2) {
            let Some(coefficients) = self.coefficients.get(down * extent.across + across) else { continue };
            let valid = extent.valid(group, across);
            let pixels = inverse::pixels(coefficients);
            self.steps.inner += sum(inner_steps(&pixels), valid);
            for y in 0..8 {
                left[across][y] = pixels[8 * y];
                right[across][y] = pixels[8 * y + 7];
            }
            let Some(above) = self.above.get_mut(group * extent.across + across) else { continue };
            let mut border = Lanes::ZERO;
            for (x, above) in above.iter_mut().enumerate() {
                border = border.plus(Lanes::from_bytes(*above).distance(pixels[x]));
                *above = pixels[56 + x].bytes();
            }
            if !(extent.is_first && down == 0) {
                self.steps.border += sum(border, valid);
            }
            quarter(&pixels, &mut self.rows[down].quarter, group, across, extent);
        }
        let last = extent.across.min(2) - 1;
        let mut border = [Lanes::ZERO; 2];
        for y in 0..8 {
            // The neighbour to the left of a unit's first block is the last block of the unit before.
            let mut neighbours = [carried[y]; LANES];
            neighbours[1..].copy_from_slice(&right[last][y].0[..LANES - 1]);
            border[0] = border[0].plus(left[0][y].distance(Lanes(neighbours)));
            border[1] = border[1].plus(left[1][y].distance(right[0][y]));
            self.left[down][y] = right[last][y].0[LANES - 1];
        }
        if group == 0 {
            border[0].0[0] = 0;
        }
        for (across, &border) in border.iter().enumerate().take(extent.across) {
            self.steps.border += sum(border, extent.valid(group, across));
        }
    }
}

impl Extent {
    /// How many units of a group have this block inside the picture.
    fn valid(self, group: usize, across: usize) -> usize {
        let first = group * LANES * self.across + across;
        self.wide.saturating_sub(first).div_ceil(self.across).min(LANES)
    }

    /// The number of steps that are taken in the block rows of the picture there are here.
    pub(super) fn count(self, steps: &mut Steps) {
        let (wide, rows) = (self.wide as u64, self.rows.min(self.down) as u64);
        steps.borders += rows * 8 * wide.saturating_sub(1);
        steps.borders += (rows - u64::from(self.is_first && rows > 0)) * 8 * wide;
        steps.inners += rows * 112 * wide;
    }
}

fn sum(lanes: Lanes, valid: usize) -> u64 {
    lanes.0.iter().take(valid).map(|&lane| u64::from(lane.cast_unsigned())).sum()
}

/// Sums of coefficients.
#[inline(always)]
fn summarise(coefficients: &Blocks, row: &mut LumaRow, group: usize, across: usize, extent: Extent) {
    let group_sum = |from: usize, to: usize| {
        let mut sum = Lanes::ZERO;
        for &place in &NATURAL[from..=to] {
            sum = sum.plus_at_most(coefficients[usize::from(place)].magnitude());
        }
        sum
    };
    let (low, middle, next, top) = (group_sum(1, 5), group_sum(6, 20), group_sum(21, 27), group_sum(28, 63));
    let high = next.plus_at_most(top);
    let dc = coefficients[0].plus(Lanes::all(1024)).between(0, i16::MAX);
    let valid = extent.valid(group, across);
    let blocks = row.blocks.iter_mut().skip(group * LANES * extent.across + across).step_by(extent.across);
    for (lane, block) in blocks.take(valid).enumerate() {
        let at = |lanes: &Lanes| lanes.0[lane & (LANES - 1)].cast_unsigned();
        *block = Block { dc: at(&dc), low: at(&low), middle: at(&middle), high: at(&high), top: at(&top) };
    }
}

/// Sums of absolute steps between neighbours inside each block; 112 steps of up to 255 fit.
#[inline(always)]
fn inner_steps(pixels: &Blocks) -> Lanes {
    let mut sum = Lanes::ZERO;
    for y in 0..8 {
        for x in 0..7 {
            sum = sum.plus(pixels[8 * y + x].distance(pixels[8 * y + x + 1]));
        }
    }
    for at in 0..56 {
        sum = sum.plus(pixels[at].distance(pixels[at + 8]));
    }
    sum
}

/// Means of 4x4 pixels.
#[inline(always)]
fn quarter(pixels: &Blocks, rows: &mut [[u8; 2 * BLOCKS_WIDE]; 2], group: usize, across: usize, extent: Extent) {
    let valid = extent.valid(group, across);
    let first = 2 * (group * LANES * extent.across + across);
    for (half, row) in rows.iter_mut().enumerate() {
        let mean = |left: usize| {
            let mut sum = Lanes::all(8);
            for y in 4 * half..4 * half + 4 {
                for x in left..left + 4 {
                    sum = sum.plus(pixels[8 * y + x]);
                }
            }
            sum.shifted_right(4).bytes()
        };
        let means = [mean(0), mean(4)];
        for lane in 0..valid {
            let at = first + 2 * lane * extent.across;
            let Some([left, right]) = row.get_mut(at..at + 2) else { break };
            (*left, *right) = (means[0][lane & (LANES - 1)], means[1][lane & (LANES - 1)]);
        }
    }
}
