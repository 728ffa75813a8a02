//! Inverse 8x8 DCT of eight blocks at once: coefficients to pixels.
//!
//! Method: the scaled 8-point transform with five products of Arai, Agui and Nakajima (Trans. IEICE E71, 1988), in 16-bit numbers
//! with five fractional bits. Its scale factors are multiplied in beforehand.
//!
//! Must hold: of a picture, pixels are within two levels of the exact transform and most are the nearest to it.

use super::lanes::{LANES, Lanes, times};

/// Fractional bits between the passes.
const FRACTION_BITS: u32 = 5;
/// Added to the DC term of a row, which goes into each of its pixels once: the level shift, and a half to round by.
const SHIFT_AND_HALF: i16 = (128 << FRACTION_BITS) + (1 << (FRACTION_BITS - 1));

/// Dequantised coefficients of eight blocks, row by row.
pub(super) type Blocks = [Lanes; 64];

/// 2¹⁴ times the scale factors of rows and columns: 1, then √2·cos(kπ/16); as products, so that coefficients times 2⁴ times these
/// over 2¹⁶ are eighths of what the transform wants, with five fractional bits.
const SCALES: [[i16; 8]; 8] = [
    [16_384, 22_725, 21_407, 19_266, 16_384, 12_873, 8_867, 4_520],
    [22_725, 31_521, 29_692, 26_722, 22_725, 17_855, 12_299, 6_270],
    [21_407, 29_692, 27_969, 25_172, 21_407, 16_819, 11_585, 5_906],
    [19_266, 26_722, 25_172, 22_654, 19_266, 15_137, 10_426, 5_315],
    [16_384, 22_725, 21_407, 19_266, 16_384, 12_873, 8_867, 4_520],
    [12_873, 17_855, 16_819, 15_137, 12_873, 10_114, 6_967, 3_552],
    [8_867, 12_299, 11_585, 10_426, 8_867, 6_967, 4_799, 2_446],
    [4_520, 6_270, 5_906, 5_315, 4_520, 3_552, 2_446, 1_247],
];

/// The scale factors, once for each lane, so that they are multiplied by straight from memory.
static LANE_SCALES: [[Lanes; 8]; 8] = lane_scales();

const fn lane_scales() -> [[Lanes; 8]; 8] {
    let mut scales = [[[0; LANES]; 8]; 8];
    let mut at = 0;
    while at < 64 {
        scales[at / 8][at % 8] = [SCALES[at / 8][at % 8]; LANES];
        at += 1;
    }
    scales
}

/// The first pass, down the columns, of dequantised coefficients within ±2,047, which are set to zero for the next blocks.
#[inline(never)]
pub(super) fn columns(coefficients: &mut Blocks, between: &mut Blocks) {
    for u in 0..8 {
        for lane in 0..LANES {
            let column = core::array::from_fn(|v| {
                let coefficient = core::mem::take(&mut coefficients[8 * v + u][lane]);
                times(coefficient << 4, LANE_SCALES[v][u][lane])
            });
            for (y, value) in transformed(column).into_iter().enumerate() {
                between[8 * y + u][lane] = value;
            }
        }
    }
}

/// The second pass, along one row: pixels, 0..=255.
#[inline(always)]
pub(super) fn row(mut between: [i16; 8]) -> [i16; 8] {
    between[0] = between[0].wrapping_add(SHIFT_AND_HALF);
    transformed(between).map(|value| (value >> FRACTION_BITS).clamp(0, 255))
}

/// One pass.
#[inline(always)]
fn transformed([i0, i1, i2, i3, i4, i5, i6, i7]: [i16; 8]) -> [i16; 8] {
    // Fractions of 2¹⁶: √2 − 1; 2·cos(π/8) − 2; √2·... as in the paper, each less a whole number that is added apart.
    const ROOT_2: i16 = 27_146; // 1.414213562 = 1 + …
    const C2_TWICE: i16 = -9_977; // 1.847759065 = 2 + …
    const C2_LESS_C6: i16 = 5_400; // 1.082392200 = 1 + …
    const C2_PLUS_C6: i16 = -25_354; // 2.613125930 = 3 + …
    let plus = i16::wrapping_add;
    let minus = i16::wrapping_sub;
    let (sum, difference) = (plus(i0, i4), minus(i0, i4));
    let (inner, other) = (plus(i2, i6), minus(i2, i6));
    let other = minus(plus(other, times(other, ROOT_2)), inner);
    let (e0, e3) = (plus(sum, inner), minus(sum, inner));
    let (e1, e2) = (plus(difference, other), minus(difference, other));

    let (z13, z10) = (plus(i5, i3), minus(i5, i3));
    let (z11, z12) = (plus(i1, i7), minus(i1, i7));
    let o7 = plus(z11, z13);
    let cross = minus(z11, z13);
    let cross = plus(cross, times(cross, ROOT_2));
    let both = plus(z10, z12);
    let both = plus(plus(both, both), times(both, C2_TWICE));
    let upper = minus(plus(z12, times(z12, C2_LESS_C6)), both);
    let lower = minus(both, plus(plus(z10, z10), plus(z10, times(z10, C2_PLUS_C6))));
    let o6 = minus(lower, o7);
    let o5 = minus(cross, o6);
    let o4 = plus(upper, o5);
    [plus(e0, o7), plus(e1, o6), plus(e2, o5), minus(e3, o4), plus(e3, o4), minus(e2, o5), minus(e1, o6), minus(e0, o7)]
}

#[cfg(test)]
mod tests {
    use super::super::lanes::ZERO;
    use super::*;
    use crate::decode::jpeg_writer::basis;

    fn random(seed: u64) -> impl FnMut() -> i32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i32::from((state >> 48).to_le_bytes()[0])
        }
    }

    /// The definition in ITU-T T.81, A.3.3.
    fn exact(coefficients: &[i16; 64]) -> [f64; 64] {
        let basis = basis();
        let mut pixels = [0.0; 64];
        for (at, pixel) in pixels.iter_mut().enumerate() {
            let sum: f64 =
                (0..64).map(|k| f64::from(coefficients[k]) * basis[k / 8][at / 8] * basis[k % 8][at % 8]).sum();
            *pixel = (sum + 128.0).clamp(0.0, 255.0);
        }
        pixels
    }

    #[test]
    fn pixels_are_within_two_levels_of_the_definition_and_mostly_the_nearest() {
        let mut next = random(5);
        let (mut all, mut nearest, mut error_sum) = (0_u32, 0_u32, 0.0);
        for round in 0..200 {
            let blocks: [[i16; 64]; LANES] = core::array::from_fn(|_| {
                // Steep spectra as of real pictures, up to edges as large as they come.
                let scale = [4, 30, 300, 900][round % 4];
                core::array::from_fn(|k| {
                    let falls = 1 + (k / 8 + k % 8) * (k / 8 + k % 8) / 2;
                    i16::try_from((next() - 128) * scale / 128 / i32::try_from(falls).expect("small")).expect("fits")
                })
            });
            let mut coefficients = [ZERO; 64];
            for (lane, block) in blocks.iter().enumerate() {
                for (lanes, &coefficient) in coefficients.iter_mut().zip(block) {
                    lanes[lane] = coefficient;
                }
            }
            let mut between = [ZERO; 64];
            columns(&mut coefficients, &mut between);
            assert_eq!(coefficients, [ZERO; 64], "set to zero for the next blocks");
            for (lane, block) in blocks.iter().enumerate() {
                let exact = exact(block);
                for y in 0..8 {
                    let row = row(core::array::from_fn(|u| between[8 * y + u][lane]));
                    for (x, got) in row.into_iter().enumerate() {
                        let error = f64::from(got) - exact[8 * y + x];
                        assert!(error.abs() < 2.0, "{got}, not {} at {x}, {y} of {block:?}", exact[8 * y + x]);
                        all += 1;
                        nearest += u32::from(error.abs() <= 0.5);
                        error_sum += error;
                    }
                }
            }
        }
        assert!(nearest * 10 > all * 8, "{nearest} of {all}");
        assert!((error_sum / f64::from(all)).abs() < 0.05, "{error_sum} in {all}");
    }
}
