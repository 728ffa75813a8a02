//! Forward 8x8 DCT of luma, quantised and dequantised as the JPEG it came from, and summed by zigzag group.
//!
//! Why quantise again: a decoded picture is rounded to whole levels, which spreads a little noise over all 64 coefficients. On
//! the grid of the original table the exact integers that the JPEG carried come back, so that a block means the same whether its
//! coefficients were read from the entropy-coded data or computed from pixels. Where there is no table, steps of 1 serve.
//!
//! Method: the 8-point DCT of Loeffler, Ligtenberg and Moschytz (ICASSP 1989), eight columns side by side so that it vectorises,
//! with 16-bit values between the passes and 32-bit sums inside them.

use super::jpeg_header::Table;
use crate::frame::Block;

/// Position in the zigzag sequence of each coefficient, row by row (ITU-T T.81, figure 5).
const ZIGZAG: [[u8; 8]; 8] = [
    [0, 1, 5, 6, 14, 15, 27, 28],
    [2, 4, 7, 13, 16, 26, 29, 42],
    [3, 8, 12, 17, 25, 30, 41, 43],
    [9, 11, 18, 24, 31, 40, 44, 53],
    [10, 19, 23, 32, 39, 45, 52, 54],
    [20, 22, 33, 38, 46, 51, 55, 60],
    [21, 34, 37, 47, 50, 56, 59, 61],
    [35, 36, 48, 49, 57, 58, 62, 63],
];

/// A coefficient is eight times its value until it is quantised.
const FRACTION_BITS: u32 = 3;

type Lane = [i16; 8];
type Wide = [i32; 8];

/// Steps, half steps and reciprocals of one quantisation table, transposed like the coefficients.
#[derive(Clone, Debug)]
pub(super) struct Quantiser {
    step: [[u16; 8]; 8],
    half: [[u16; 8]; 8],
    reciprocal: [[u16; 8]; 8],
}

impl Quantiser {
    /// `None` stands for steps of 1.
    pub(super) fn new(table: Option<&Table>) -> Self {
        let mut quantiser = Self { step: [[1; 8]; 8], half: [[0; 8]; 8], reciprocal: [[0; 8]; 8] };
        for (v, row) in ZIGZAG.iter().enumerate() {
            for (u, &position) in row.iter().enumerate() {
                // No coefficient of an 8-bit picture reaches 2048, so that larger steps change nothing.
                let step = table.map_or(1, |table| table[usize::from(position)].clamp(1, 2048));
                let scaled = u32::from(step) << FRACTION_BITS;
                quantiser.step[u][v] = step;
                quantiser.half[u][v] = u16::try_from(scaled / 2).unwrap_or(u16::MAX);
                quantiser.reciprocal[u][v] = u16::try_from(65_536_u32.div_ceil(scaled)).unwrap_or(u16::MAX);
            }
        }
        quantiser
    }

    /// The block of luma whose eight rows are given.
    pub(super) fn block(&self, pixels: &[[u8; 8]; 8]) -> Block {
        let coefficients = forward(pixels);
        let mut magnitudes = [[0_u16; 8]; 8];
        for (u, row) in magnitudes.iter_mut().enumerate() {
            for (v, magnitude) in row.iter_mut().enumerate() {
                let scaled = coefficients[u][v].unsigned_abs() + self.half[u][v];
                let level = (u32::from(scaled) * u32::from(self.reciprocal[u][v])) >> 16;
                let level = level as u16;
                *magnitude = level.wrapping_mul(self.step[u][v]);
            }
        }
        let dc = if coefficients[0][0] < 0 { -i32::from(magnitudes[0][0]) } else { i32::from(magnitudes[0][0]) };
        let low = magnitudes[0][1] + magnitudes[1][0] + magnitudes[2][0] + magnitudes[1][1] + magnitudes[0][2];
        let all = sum(&magnitudes, &[[u16::MAX; 8]; 8]) - magnitudes[0][0];
        let high = sum(&magnitudes, &HIGH);
        Block {
            dc: u16::try_from(dc + 1024).unwrap_or(0),
            low,
            middle: all - low - high,
            high,
            top: sum(&magnitudes, &TOP),
        }
    }
}

/// Masks of the zigzag positions from 21 and from 28 on, transposed.
const HIGH: [[u16; 8]; 8] = mask(21);
const TOP: [[u16; 8]; 8] = mask(28);

const fn mask(from: u8) -> [[u16; 8]; 8] {
    let mut mask = [[0; 8]; 8];
    let mut v = 0;
    while v < 8 {
        let mut u = 0;
        while u < 8 {
            if ZIGZAG[v][u] >= from {
                mask[u][v] = u16::MAX;
            }
            u += 1;
        }
        v += 1;
    }
    mask
}

/// Fits 16 bits: absolute coefficients add up to at most √64 times their root sum of squares, 8·1024 (Cauchy, Parseval), and
/// rounding to a step at most doubles each.
fn sum(magnitudes: &[[u16; 8]; 8], mask: &[[u16; 8]; 8]) -> u16 {
    let mut columns = [0_u16; 8];
    for (row, mask) in magnitudes.iter().zip(mask) {
        for (column, (&magnitude, &mask)) in columns.iter_mut().zip(row.iter().zip(mask)) {
            *column = column.wrapping_add(magnitude & mask);
        }
    }
    columns.into_iter().fold(0, u16::wrapping_add)
}

/// Coefficients in the normalisation of ITU-T T.81 times 2³, transposed: `[horizontal][vertical]`.
fn forward(pixels: &[[u8; 8]; 8]) -> [Lane; 8] {
    let centred = pixels.map(|row| row.map(|pixel| i16::from(pixel) - 128));
    // √8 times the coefficient after one pass, with 4 more bits; rounded to 3 so that the next butterflies fit 16 bits.
    let vertical = pass::<10>(&centred);
    // Another √8 makes 2³, which is the fraction asked for once the 3 bits are gone.
    pass::<16>(&transpose(&vertical))
}

fn transpose(rows: &[Lane; 8]) -> [Lane; 8] {
    let mut columns = [[0; 8]; 8];
    for (y, row) in rows.iter().enumerate() {
        for (x, &value) in row.iter().enumerate() {
            columns[x][y] = value;
        }
    }
    columns
}

fn lanes(f: impl Fn(usize) -> i16) -> Lane {
    core::array::from_fn(f)
}

fn plus(a: &Lane, b: &Lane) -> Lane {
    lanes(|i| a[i].wrapping_add(b[i]))
}

fn minus(a: &Lane, b: &Lane) -> Lane {
    lanes(|i| a[i].wrapping_sub(b[i]))
}

/// `a·ka + b·kb` in 32 bits.
fn products(a: &Lane, ka: i16, b: &Lane, kb: i16) -> Wide {
    core::array::from_fn(|i| i32::from(a[i]) * i32::from(ka) + i32::from(b[i]) * i32::from(kb))
}

#[expect(clippy::cast_possible_truncation, reason = "a coefficient of 8-bit pixels fits, see `forward`")]
fn rounded<const SHIFT: u32>(sum: &Wide) -> Lane {
    lanes(|i| ((sum[i] + (1 << (SHIFT - 1))) >> SHIFT) as i16)
}

fn both(a: &Wide, b: &Wide) -> Wide {
    core::array::from_fn(|i| a[i] + b[i])
}

/// √8 times the one-dimensional DCT down the columns, times 2¹³ and shifted right by `SHIFT`.
fn pass<const SHIFT: u32>(rows: &[Lane; 8]) -> [Lane; 8] {
    // √2·cos(kπ/16)·2¹³.
    const ONE: i16 = 8192;
    const C1: i16 = 11_363;
    const C2: i16 = 10_703;
    const C3: i16 = 9633;
    const C5: i16 = 6436;
    const C6: i16 = 4433;
    const C7: i16 = 2260;
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    let (s0, s1, s2, s3) = (plus(r0, r7), plus(r1, r6), plus(r2, r5), plus(r3, r4));
    let (d0, d1, d2, d3) = (minus(r0, r7), minus(r1, r6), minus(r2, r5), minus(r3, r4));
    let (e0, e1) = (plus(&s0, &s3), plus(&s1, &s2));
    let (f0, f1) = (minus(&s0, &s3), minus(&s1, &s2));
    [
        rounded::<SHIFT>(&products(&e0, ONE, &e1, ONE)),
        rounded::<SHIFT>(&both(&products(&d0, C1, &d1, C3), &products(&d2, C5, &d3, C7))),
        rounded::<SHIFT>(&products(&f0, C2, &f1, C6)),
        rounded::<SHIFT>(&both(&products(&d0, C3, &d1, -C7), &products(&d2, -C1, &d3, -C5))),
        rounded::<SHIFT>(&products(&e0, ONE, &e1, -ONE)),
        rounded::<SHIFT>(&both(&products(&d0, C5, &d1, -C1), &products(&d2, C7, &d3, C3))),
        rounded::<SHIFT>(&products(&f0, C6, &f1, -C2)),
        rounded::<SHIFT>(&both(&products(&d0, C7, &d1, -C5), &products(&d2, C3, &d3, -C1))),
    ]
}
