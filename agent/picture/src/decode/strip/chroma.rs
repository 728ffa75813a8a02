//! Chroma: from coefficients straight to pixels at a quarter of luma's scale.
//!
//! A quarter-scale pixel is the mean of 4x4 luma pixels, hence of 4, 2 or 1 chroma samples either way. Means of neighbouring samples
//! are a shorter cosine transform of the same coefficients: the mean of two samples of frequency u is cos(uπ/16) times a sample of
//! the four-point transform, in which frequencies above four fold back onto those below. So each coefficient is added to its place
//! in a grid of 4 or 2 a side, with a weight that has the quantisation step in it, and the rest is a very small transform.

use super::lanes::{LANES, times};
use super::luma::NATURAL;
use super::plan::Part;
use super::{BLOCKS_WIDE, LUMA_ROWS};
use crate::decode::jpeg_header::Table;

/// Fractional bits of what coefficients add up to.
const FRACTION_BITS: u32 = 5;
/// Fractional bits of weights.
const WEIGHT_BITS: u32 = 8;
/// Most pixels of a block, either way.
const SIDE: usize = 4;
/// Most blocks of one component in a unit.
const UNIT_BLOCKS: usize = 4;

/// For each frequency: its place in the shorter transform, and 2¹⁴ times its weight, where pixels are means of two samples.
const TWO: [(usize, i64); 8] =
    [(0, 5_793), (1, 8_035), (2, 5_352), (3, 6_811), (0, 0), (3, -4_551), (2, -2_217), (1, -1_598)];
/// The same where they are means of four: places 0 and 1.
const FOUR: [(usize, i64); 8] = [(0, 5_793), (1, 5_249), (0, 0), (1, -1_843), (0, 0), (1, 1_232), (0, 0), (1, -1_044)];

/// Where a coefficient goes in the first lane, and with what weight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    place: u16,
    weight: i32,
}

/// One number for each place in a row of the grid and each of eight blocks.
type GridRow = [i16; SIDE * LANES];
/// The sums of eight blocks.
type Grid = [GridRow; SIDE];

/// From a lane's first sum to its last.
const LANE_REACH: usize = (SIDE * SIDE - 1) * LANES + 1;

const EMPTY: Grid = [[0; SIDE * LANES]; SIDE];

/// One chroma component of a row of units.
#[derive(Debug)]
pub(super) struct Chroma {
    /// By zigzag position.
    shares: [Share; 64],
    /// The quantised DC coefficient beyond which every pixel is as far from grey as can be.
    largest_dc: i32,
    grids: [Grid; UNIT_BLOCKS],
    across: usize,
    down: usize,
    /// Pixels of a block either way, 2 or 4.
    wide: usize,
    high: usize,
    pub(super) rows: [[u8; 2 * BLOCKS_WIDE]; 2 * LUMA_ROWS],
}

impl Chroma {
    pub(super) const fn new() -> Self {
        Self {
            shares: [Share { place: 0, weight: 0 }; 64],
            largest_dc: 0,
            grids: [EMPTY; UNIT_BLOCKS],
            across: 1,
            down: 1,
            wide: SIDE,
            high: SIDE,
            rows: [[128; 2 * BLOCKS_WIDE]; 2 * LUMA_ROWS],
        }
    }

    /// Sets sampling and quantisation, beside those of luma.
    pub(super) fn set(&mut self, part: &Part, luma: &Part) {
        (self.across, self.down) = (part.across, part.down);
        self.wide = 2 * luma.across / part.across;
        self.high = 2 * luma.down / part.down;
        self.shares = shares(&part.steps, self.wide, self.high);
        self.largest_dc = 2047_i32.div_euclid(i32::from(part.steps[0].max(1))).max(1);
        self.grids = [EMPTY; UNIT_BLOCKS];
    }

    /// Every pixel without colour.
    pub(super) fn set_grey(&mut self) {
        for row in &mut self.rows {
            row.fill(128);
        }
    }

    /// Blocks in a unit.
    pub(super) const fn blocks(&self) -> usize {
        self.across * self.down
    }

    /// Largest magnitude of a quantised DC coefficient that is worth telling from larger ones.
    pub(super) const fn largest_dc(&self) -> i32 {
        self.largest_dc
    }

    /// Takes coefficients of one block: called with zigzag position and quantised value.
    #[inline(always)]
    pub(super) fn store(&mut self, block: usize, lane: usize) -> impl FnMut(usize, i32) {
        let (shares, grid) = (&self.shares, self.grids[block & (UNIT_BLOCKS - 1)].as_flattened_mut());
        // Every eighth number from here on is this lane's.
        let lane = lane & (LANES - 1);
        let grid = &mut grid[lane..lane + LANE_REACH];
        move |position, value| {
            let share = shares[position & 63];
            let added = value.wrapping_mul(share.weight).wrapping_add(1 << (WEIGHT_BITS - 1)) >> WEIGHT_BITS;
            let sum = &mut grid[usize::from(share.place) & (LANE_REACH - 1)];
            #[expect(clippy::cast_possible_truncation, reason = "what does not fit is no picture's and may wrap")]
            {
                *sum = sum.wrapping_add(added as i16);
            }
        }
    }

    /// Turns the sums of the `group`th eight units into pixels of the rows, and sets them to zero.
    pub(super) fn take(&mut self, group: usize) {
        for down in 0..self.down {
            for across in 0..self.across {
                let block = (group, across, down);
                match (self.wide, self.high) {
                    (2, 2) => self.take_blocks::<2, 2>(block),
                    (4, 2) => self.take_blocks::<4, 2>(block),
                    (2, 4) => self.take_blocks::<2, 4>(block),
                    _ => self.take_blocks::<4, 4>(block),
                }
            }
        }
    }

    fn take_blocks<const WIDE: usize, const HIGH: usize>(&mut self, (group, across, down): (usize, usize, usize)) {
        let Some(grid) = self.grids.get_mut(down * self.across + across) else { return };
        let columns = turned(&transformed::<HIGH>(grid));
        *grid = EMPTY;
        let pixels = transformed::<WIDE>(&columns);
        let start = (group * LANES * self.across + across) * WIDE;
        for (y, row) in self.rows.iter_mut().skip(down * HIGH).enumerate().take(HIGH) {
            let mut interleaved = [[0; WIDE]; LANES];
            for (lane, block) in interleaved.iter_mut().enumerate() {
                for (pixel, column) in block.iter_mut().zip(&pixels) {
                    *pixel = level(column[(LANES * y + lane) & (SIDE * LANES - 1)]);
                }
            }
            let row = row.get_mut(start..).unwrap_or_default();
            for (out, block) in row.chunks_mut(WIDE * self.across).zip(&interleaved) {
                if let Some(out) = out.first_chunk_mut::<WIDE>() {
                    *out = *block;
                }
            }
        }
    }
}

fn shares(steps: &Table, wide: usize, high: usize) -> [Share; 64] {
    let folds = |pixels: usize| if pixels == 2 { &FOUR } else { &TWO };
    let mut shares = [Share::default(); 64];
    for (share, (&natural, &step)) in shares.iter_mut().zip(NATURAL.iter().zip(steps)) {
        let (column, row) = (usize::from(natural & 7), usize::from(natural >> 3));
        let ((x, across), (y, down)) = (folds(wide)[column], folds(high)[row]);
        // 28 bits of the two weights; the two fractions stay.
        let weight = (across * down * i64::from(step)) >> (28 - FRACTION_BITS - WEIGHT_BITS);
        share.weight = i32::try_from(weight).unwrap_or(0);
        share.place = u16::try_from((SIDE * y + x) * LANES).unwrap_or(0);
    }
    shares
}

/// Numbers by column and row instead of row and column.
fn turned(grid: &Grid) -> Grid {
    let mut turned = EMPTY;
    for (y, row) in grid.iter().enumerate() {
        for (turned, lanes) in turned.iter_mut().zip(row.as_chunks::<LANES>().0) {
            turned[LANES * y..LANES * (y + 1)].copy_from_slice(lanes);
        }
    }
    turned
}

/// Four or two points of the shorter transform, down every column.
#[inline(never)]
fn transformed<const POINTS: usize>(grid: &Grid) -> Grid {
    // Fractions of 2¹⁶: cos(π/8) less one, cos(3π/8).
    const C1: i16 = -4_989;
    const C3: i16 = 25_080;
    let plus = i16::wrapping_add;
    let minus = i16::wrapping_sub;
    let mut out = EMPTY;
    for at in 0..SIDE * LANES {
        let [g0, g1, g2, g3] = [grid[0][at], grid[1][at], grid[2][at], grid[3][at]];
        if POINTS == 2 {
            (out[0][at], out[1][at]) = (plus(g0, g1), minus(g0, g1));
            continue;
        }
        let (outer, inner) = (plus(g0, g2), minus(g0, g2));
        let far = plus(plus(g1, times(g1, C1)), times(g3, C3));
        let near = minus(times(g1, C3), plus(g3, times(g3, C1)));
        out[0][at] = plus(outer, far);
        out[1][at] = plus(inner, near);
        out[2][at] = minus(inner, near);
        out[3][at] = minus(outer, far);
    }
    out
}

/// A pixel.
#[inline(always)]
fn level(sum: i16) -> u8 {
    let shift_and_half = (128 << FRACTION_BITS) + (1 << (FRACTION_BITS - 1));
    (sum.wrapping_add(shift_and_half) >> FRACTION_BITS).clamp(0, 255).to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::jpeg_writer::basis;
    use crate::decode::zigzag::ZIGZAG;

    #[test]
    fn pixels_are_the_means_of_the_samples_they_stand_for_in_every_sampling() {
        let mut state = 3_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i32::from((state >> 48).to_le_bytes()[0]) - 128
        };
        let basis = basis();
        for (across, down) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
            let steps: Table = core::array::from_fn(|k| 2 + u16::try_from(k).expect("small") / 4);
            let luma = Part { across, down, steps: [1; 64] };
            let mut chroma = Chroma::new();
            chroma.set(&Part { across: 1, down: 1, steps }, &luma);
            let mut levels = [[[0_i32; 8]; 8]; LANES];
            for (lane, levels) in levels.iter_mut().enumerate() {
                let mut store = chroma.store(0, lane);
                for (v, u) in (0..8).flat_map(|v| (0..8).map(move |u| (v, u))) {
                    levels[v][u] = next() / [2, 3, 6, 12, 20, 40, 60, 80][(u + v).min(7)];
                    store(usize::from(ZIGZAG[v][u]), levels[v][u]);
                }
            }
            chroma.take(0);
            let (wide, high) = (2 * across, 2 * down);
            for (lane, levels) in levels.iter().enumerate() {
                for (y, x) in (0..high).flat_map(|y| (0..wide).map(move |x| (y, x))) {
                    let mean = |frequency: usize, pixel: usize, pixels: usize| {
                        let samples = 8 / pixels;
                        let sum: f64 = basis[frequency][pixel * samples..(pixel + 1) * samples].iter().sum();
                        sum / f64::from(u8::try_from(samples).expect("small"))
                    };
                    let mut want = 128.0;
                    for (v, u) in (0..8).flat_map(|v| (0..8).map(move |u| (v, u))) {
                        let step = f64::from(steps[usize::from(ZIGZAG[v][u])]);
                        want += f64::from(levels[v][u]) * step * mean(u, x, wide) * mean(v, y, high);
                    }
                    let got = f64::from(chroma.rows[y][lane * wide + x]);
                    assert!(
                        (got - want.clamp(0.0, 255.0)).abs() < 0.8,
                        "{got}, not {want}, at {x}, {y} of {wide}x{high}"
                    );
                }
            }
        }
    }
}
