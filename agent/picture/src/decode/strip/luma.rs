//! Luma: from the coefficients of eight blocks to what a row of blocks says of them, and to the steps between pixels.

use super::inverse::{self, Blocks};
use super::lanes::{LANES, Lanes, ZERO, magnitude};
use super::{BLOCKS_WIDE, UNITS};
use crate::decode::zigzag::ZIGZAG;
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

/// One row or column of pixels of eight blocks: all first pixels, all second ones, and so on.
type Line = [u8; 8 * LANES];

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
    above: [Line; UNITS],
    /// The rightmost pixels of the last block in the group of units before, for each block row.
    left: [[u8; 8]; ROWS],
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
            above: [[0; 8 * LANES]; UNITS],
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
        let mut edges = [Edges { left: [0; 8 * LANES], right: [0; 8 * LANES] }; 2];
        let mut quarters = [[[[0; LANES]; 2]; 2]; 2];
        for (across, (edges, quarter)) in edges.iter_mut().zip(&mut quarters).enumerate().take(extent.across) {
            let Some(coefficients) = self.coefficients.get_mut(down * extent.across + across) else { continue };
            let Some(above) = self.above.get_mut(group * extent.across + across) else { continue };
            inverse::columns(coefficients, &mut self.between);
            let mut pixels = [[0; 8 * LANES]; 8];
            rows(&self.between, &mut pixels, edges, quarter);
            let valid = extent.valid(group, across);
            if valid < LANES {
                pixels.iter_mut().chain([&mut edges.left, &mut edges.right]).for_each(|line| keep(line, valid));
            }
            let [first, .., last] = &pixels;
            if !(extent.is_first && down == 0) {
                self.steps.border += u64::from(distance(above, first));
            }
            self.steps.inner += u64::from(inner_steps(&pixels, edges));
            *above = *last;
        }
        for (half, row) in self.rows[down].quarter.iter_mut().enumerate() {
            let means: [[[u8; LANES]; 2]; 2] = core::array::from_fn(|across| {
                quarters[across][half].map(|sums| sums.map(|sum| ((sum + 8) >> 4).to_le_bytes()[0]))
            });
            let row = row.get_mut(2 * LANES * group * extent.across..).unwrap_or_default();
            if extent.across == 1 {
                for (lane, pair) in row.as_chunks_mut::<2>().0.iter_mut().enumerate().take(LANES) {
                    *pair = core::array::from_fn(|side| means[0][side][lane & (LANES - 1)]);
                }
            } else {
                for (lane, pixels) in row.as_chunks_mut::<4>().0.iter_mut().enumerate().take(LANES) {
                    *pixels = core::array::from_fn(|place| means[place / 2][place % 2][lane & (LANES - 1)]);
                }
            }
        }
        self.count_sideways(down, group, extent, &edges);
    }

    /// Steps from block to block along a row.
    fn count_sideways(&mut self, down: usize, group: usize, extent: Extent, [first, second]: &[Edges; 2]) {
        let last = if extent.across == 1 { first } else { second };
        // The neighbour to the left of a unit's first block is the last block of the unit before.
        let mut neighbours = [0; 8 * LANES];
        neighbours[1..].copy_from_slice(&last.right[..8 * LANES - 1]);
        for (y, carried) in self.left[down].iter_mut().enumerate() {
            neighbours[LANES * y] = if group == 0 { first.left[LANES * y] } else { *carried };
            *carried = last.right[LANES * y + LANES - 1];
        }
        let valid = extent.valid(group, 0);
        if valid < LANES {
            keep(&mut neighbours, valid);
        }
        self.steps.border += u64::from(distance(&first.left, &neighbours));
        if extent.across == 2 {
            let mut neighbours = first.right;
            let valid = extent.valid(group, 1);
            if valid < LANES {
                keep(&mut neighbours, valid);
            }
            self.steps.border += u64::from(distance(&second.left, &neighbours));
        }
    }
}

/// The leftmost and rightmost pixels of eight blocks, from the top down.
#[derive(Clone, Copy, Debug)]
struct Edges {
    left: Line,
    right: Line,
}

/// The second pass of the transform. Adds up each quarter of the blocks, by row and column, on the way.
#[inline(never)]
fn rows(between: &Blocks, pixels: &mut [Line; 8], edges: &mut Edges, quarters: &mut [[Lanes; 2]; 2]) {
    for (y, (between, row)) in between.as_chunks::<8>().0.iter().zip(pixels).enumerate() {
        let quarters = &mut quarters[y / 4 % 2];
        let at = LANES * y % (8 * LANES);
        for lane in 0..LANES {
            let pixels = inverse::row(core::array::from_fn(|u| between[u][lane]));
            for (x, pixel) in pixels.into_iter().enumerate() {
                row[LANES * x + lane] = pixel.to_le_bytes()[0];
            }
            edges.left[at + lane] = pixels[0].to_le_bytes()[0];
            edges.right[at + lane] = pixels[7].to_le_bytes()[0];
            let [p0, p1, p2, p3, p4, p5, p6, p7] = pixels;
            quarters[0][lane] += p0 + p1 + p2 + p3;
            quarters[1][lane] += p4 + p5 + p6 + p7;
        }
    }
}

/// Sets pixels to zero in lanes that are not of the picture: they take no steps then.
#[cold]
fn keep(line: &mut Line, valid: usize) {
    for lanes in line.as_chunks_mut::<LANES>().0 {
        lanes.iter_mut().skip(valid).for_each(|pixel| *pixel = 0);
    }
}

/// Sum of absolute differences, in sixteens; the last few are left out where the length is no multiple of that.
#[inline(never)]
fn distance(a: &[u8], b: &[u8]) -> u32 {
    let mut sums = [0; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for lane in 0..16 {
            sums[lane] += (i32::from(a[lane]) - i32::from(b[lane])).unsigned_abs();
        }
    }
    sums.iter().sum()
}

/// Absolute steps between neighbours inside blocks.
fn inner_steps(pixels: &[Line; 8], edges: &Edges) -> u32 {
    let [.., last] = pixels;
    let pixels = pixels.as_flattened();
    // All pixels with the next one to the right are all rows but the last pixels of the last row; the step from the end of a row to
    // the beginning of the next is none.
    let (sideways, rest) = (distance(&pixels[..62 * LANES], &pixels[LANES..]), &last[6 * LANES..]);
    let end = rest[..LANES].iter().zip(&rest[LANES..]).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
    let wrapped = distance(&edges.right[..6 * LANES], &edges.left[LANES..7 * LANES]);
    let last_wrapped = edges.right[6 * LANES..7 * LANES].iter().zip(&edges.left[7 * LANES..]);
    let last_wrapped = last_wrapped.map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
    let downwards = distance(&pixels[..56 * LANES], &pixels[8 * LANES..]);
    sideways + end - wrapped - last_wrapped + downwards
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

/// Adds up the magnitudes of one lane of coefficients at these zigzag positions. Written out, for the loop over the lanes around it is
/// what becomes vector instructions; of a loop in here only some kinds of link-time optimisation make as much.
macro_rules! sum {
    ($coefficients:ident[$($position:literal)*][$lane:ident]) => {
        0_i16$(.saturating_add(magnitude($coefficients[const { NATURAL[$position] as usize }][$lane])))*
    };
}

/// Sums of coefficients.
#[inline(never)]
fn summarise(coefficients: &Blocks, row: &mut LumaRow, group: usize, across: usize, extent: Extent) {
    let [mut low, mut middle, mut high, mut top] = [ZERO; 4];
    for lane in 0..LANES {
        low[lane] = sum!(coefficients[1 2 3 4 5][lane]);
        middle[lane] = sum!(coefficients[6 7 8 9 10 11 12 13 14 15 16 17 18 19 20][lane]);
        high[lane] = sum!(coefficients[21 22 23 24 25 26 27][lane]);
        top[lane] = sum!(
            coefficients[28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63][lane]
        );
        high[lane] = high[lane].saturating_add(top[lane]);
    }
    let start = group * LANES * extent.across + across;
    let blocks = row.blocks.get_mut(start..).unwrap_or_default().iter_mut().step_by(extent.across);
    for (lane, block) in blocks.take(LANES).enumerate() {
        let at = |lanes: &Lanes| lanes[lane & (LANES - 1)].cast_unsigned();
        let dc = (coefficients[0][lane & (LANES - 1)] + 1024).max(0).cast_unsigned();
        *block = Block { dc, low: at(&low), middle: at(&middle), high: at(&high), top: at(&top) };
    }
}
