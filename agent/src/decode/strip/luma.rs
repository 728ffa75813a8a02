//! Luma: from the coefficients of eight blocks to what a row of blocks says of them, and to the steps between pixels.

use super::inverse::{self, Blocks};
use super::lanes::{LANES, Lanes, ZERO, distance, magnitude, sum};
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
    above: [[Lanes; 8]; UNITS],
    /// The rightmost pixels of the last block in the group of units before, for each block row.
    left: [[i16; 8]; ROWS],
    /// Between the passes of the transform.
    between: Blocks,
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
            coefficients: [[ZERO; 64]; UNIT_BLOCKS],
            rows: [const { LumaRow::new() }; ROWS],
            above: [[ZERO; 8]; UNITS],
            left: [[0; 8]; ROWS],
            between: [ZERO; 64],
            steps: Steps { border: 0, borders: 0, inner: 0, inners: 0 },
        }
    }

    /// Forgets the picture before, whole or not.
    pub(super) fn reset(&mut self) {
        for coefficients in &mut self.coefficients {
            coefficients.fill(ZERO);
        }
        self.steps = Steps::default();
    }

    /// Takes the coefficients of the `group`th eight units of a row into the rows, and sets them to zero.
    #[inline(never)]
    pub(super) fn take(&mut self, group: usize, extent: Extent) {
        for down in 0..extent.down.min(ROWS) {
            if down >= extent.rows {
                self.coefficients.iter_mut().for_each(|coefficients| coefficients.fill(ZERO));
                break;
            }
            for across in 0..extent.across {
                let Some(coefficients) = self.coefficients.get_mut(down * extent.across + across) else { continue };
                summarise(coefficients, &mut self.rows[down], group, across, extent);
            }
            self.take_pixels(down, group, extent);
        }
    }

    /// Quarter-scale pixels and steps of one block row of the units.
    fn take_pixels(&mut self, down: usize, group: usize, extent: Extent) {
        let mut edges = [Edges { left: [ZERO; 8], right: [ZERO; 8] }; 2];
        for (across, edges) in edges.iter_mut().enumerate().take(extent.across) {
            let Some(coefficients) = self.coefficients.get_mut(down * extent.across + across) else { continue };
            let Some(above) = self.above.get_mut(group * extent.across + across) else { continue };
            inverse::columns(coefficients, &mut self.between);
            let mut sums = Sums { above: ZERO, inner: ZERO, quarter: [[[8; LANES]; 2]; 2] };
            measure(&self.between, above, edges, &mut sums);
            let valid = extent.valid(group, across);
            self.steps.inner += sum(&sums.inner, valid);
            if !(extent.is_first && down == 0) {
                self.steps.border += sum(&sums.above, valid);
            }
            let first = 2 * (group * LANES * extent.across + across);
            for (row, [left, right]) in self.rows[down].quarter.iter_mut().zip(&sums.quarter) {
                let pixels = row.get_mut(first..).unwrap_or_default().chunks_mut(2 * extent.across);
                for ((pixels, left), right) in pixels.zip(left).zip(right).take(valid) {
                    if let [first, second, ..] = pixels {
                        (*first, *second) = ((left >> 4).to_le_bytes()[0], (right >> 4).to_le_bytes()[0]);
                    }
                }
            }
        }
        self.count_sideways(down, group, extent, &edges);
    }

    /// Steps from block to block along a row.
    #[inline(never)]
    fn count_sideways(&mut self, down: usize, group: usize, extent: Extent, edges: &[Edges; 2]) {
        let [first, second] = edges;
        let last = if extent.across == 1 { first } else { second };
        let mut border = [ZERO; 2];
        for (y, carried) in self.left[down].iter_mut().enumerate() {
            // The neighbour to the left of a unit's first block is the last block of the unit before.
            let mut neighbours = [*carried; LANES];
            neighbours[1..].copy_from_slice(&last.right[y][..LANES - 1]);
            for lane in 0..LANES {
                border[0][lane] += distance(first.left[y][lane], neighbours[lane]);
                border[1][lane] += distance(second.left[y][lane], first.right[y][lane]);
            }
            *carried = last.right[y][LANES - 1];
        }
        if group == 0 {
            border[0][0] = 0;
        }
        for (across, border) in border.iter().enumerate().take(extent.across) {
            self.steps.border += sum(border, extent.valid(group, across));
        }
    }
}

/// The leftmost and rightmost pixels of eight blocks, from the top down.
#[derive(Clone, Copy, Debug)]
struct Edges {
    left: [Lanes; 8],
    right: [Lanes; 8],
}

/// Sums over the pixels of eight blocks; 112 steps of up to 255 fit.
struct Sums {
    /// Steps from the block above.
    above: Lanes,
    /// Steps inside.
    inner: Lanes,
    /// Pixels of each quarter, by rows.
    quarter: [[Lanes; 2]; 2],
}

/// The second pass of the transform, and everything that is asked of pixels, while they are at hand. Leaves the lowest row in `above`.
#[inline(never)]
fn measure(between: &Blocks, above: &mut [Lanes; 8], edges: &mut Edges, sums: &mut Sums) {
    for y in 0..8 {
        let quarter = &mut sums.quarter[y / 4];
        let mut downwards = ZERO;
        for lane in 0..LANES {
            let pixels = inverse::row(core::array::from_fn(|u| between[8 * y + u][lane]));
            let mut sideways = 0;
            for x in 0..7 {
                sideways += distance(pixels[x], pixels[x + 1]);
            }
            sums.inner[lane] += sideways;
            for x in 0..8 {
                downwards[lane] += distance(pixels[x], above[x][lane]);
                above[x][lane] = pixels[x];
            }
            quarter[0][lane] += pixels[0] + pixels[1] + pixels[2] + pixels[3];
            quarter[1][lane] += pixels[4] + pixels[5] + pixels[6] + pixels[7];
            edges.left[y][lane] = pixels[0];
            edges.right[y][lane] = pixels[7];
        }
        let total = if y == 0 { &mut sums.above } else { &mut sums.inner };
        for (total, lane) in total.iter_mut().zip(downwards) {
            *total += lane;
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

/// Sums of coefficients.
#[inline(never)]
fn summarise(coefficients: &Blocks, row: &mut LumaRow, group: usize, across: usize, extent: Extent) {
    let [mut low, mut middle, mut next, mut high] = [ZERO; 4];
    let mut top = ZERO;
    add_up(coefficients, 1..6, &mut low);
    add_up(coefficients, 6..21, &mut middle);
    add_up(coefficients, 21..28, &mut next);
    add_up(coefficients, 28..64, &mut top);
    for lane in 0..LANES {
        high[lane] = next[lane].saturating_add(top[lane]);
    }
    let valid = extent.valid(group, across);
    let blocks = row.blocks.iter_mut().skip(group * LANES * extent.across + across).step_by(extent.across);
    for (lane, block) in blocks.take(valid).enumerate() {
        let at = |lanes: &Lanes| lanes[lane & (LANES - 1)].cast_unsigned();
        let dc = (coefficients[0][lane & (LANES - 1)] + 1024).max(0).cast_unsigned();
        *block = Block { dc, low: at(&low), middle: at(&middle), high: at(&high), top: at(&top) };
    }
}

/// Adds the magnitudes of coefficients at these zigzag positions.
#[inline(always)]
fn add_up(coefficients: &Blocks, positions: core::ops::Range<usize>, sum: &mut Lanes) {
    for &place in &NATURAL[positions] {
        let coefficients = &coefficients[usize::from(place & 63)];
        for lane in 0..LANES {
            sum[lane] = sum[lane].saturating_add(magnitude(coefficients[lane]));
        }
    }
}
