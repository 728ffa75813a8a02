//! Inverse 8x8 DCT of eight blocks at once: coefficients to pixels.
//!
//! Method: the scaled 8-point transform with five products of Arai, Agui and Nakajima (Trans. IEICE E71, 1988), in 16-bit numbers
//! with five fractional bits. Its scale factors are multiplied in beforehand.
//!
//! Must hold: pixels are within one level of the exact transform, and most of them equal.

use super::lanes::Lanes;

/// Fractional bits between the passes.
pub(super) const FRACTION_BITS: u32 = 5;

/// Dequantised coefficients or pixels of eight blocks, row by row.
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

/// Pixels, 0..=255, of dequantised coefficients within ±2,047.
#[inline(always)]
pub(super) fn pixels(coefficients: &Blocks) -> Blocks {
    let mut between = [Lanes::ZERO; 64];
    for u in 0..8 {
        let column = core::array::from_fn(|v| coefficients[8 * v + u].shifted_left(4).times(SCALES[v][u]));
        for (y, value) in transformed(column).into_iter().enumerate() {
            between[8 * y + u] = value;
        }
    }
    let mut pixels = [Lanes::ZERO; 64];
    for y in 0..8 {
        let mut row: [Lanes; 8] = core::array::from_fn(|u| between[8 * y + u]);
        // Level shift and rounding ride on the DC term, which goes into every pixel of the row once.
        row[0] = row[0].plus(Lanes::all((128 << FRACTION_BITS) + (1 << (FRACTION_BITS - 1))));
        for (x, value) in transformed(row).into_iter().enumerate() {
            pixels[8 * y + x] = value.shifted_right(FRACTION_BITS).between(0, 255);
        }
    }
    pixels
}

/// One pass.
#[inline(always)]
fn transformed([i0, i1, i2, i3, i4, i5, i6, i7]: [Lanes; 8]) -> [Lanes; 8] {
    // Fractions of 2¹⁶: √2 − 1; 2·cos(π/8) − 2; √2·... as in the paper, each less a whole number that is added apart.
    const ROOT_2: i16 = 27_146; // 1.414213562 = 1 + …
    const C2_TWICE: i16 = -9_977; // 1.847759065 = 2 + …
    const C2_LESS_C6: i16 = 5_400; // 1.082392200 = 1 + …
    const C2_PLUS_C6: i16 = -25_354; // 2.613125930 = 3 + …
    let (sum, difference) = (i0.plus(i4), i0.minus(i4));
    let (inner, other) = (i2.plus(i6), i2.minus(i6));
    let other = other.plus(other.times(ROOT_2)).minus(inner);
    let (e0, e3) = (sum.plus(inner), sum.minus(inner));
    let (e1, e2) = (difference.plus(other), difference.minus(other));

    let (z13, z10) = (i5.plus(i3), i5.minus(i3));
    let (z11, z12) = (i1.plus(i7), i1.minus(i7));
    let o7 = z11.plus(z13);
    let cross = z11.minus(z13);
    let cross = cross.plus(cross.times(ROOT_2));
    let both = z10.plus(z12);
    let both = both.plus(both).plus(both.times(C2_TWICE));
    let upper = z12.plus(z12.times(C2_LESS_C6)).minus(both);
    let lower = both.minus(z10.plus(z10).plus(z10).plus(z10.times(C2_PLUS_C6)));
    let o6 = lower.minus(o7);
    let o5 = cross.minus(o6);
    let o4 = upper.plus(o5);
    [e0.plus(o7), e1.plus(o6), e2.plus(o5), e3.minus(o4), e3.plus(o4), e2.minus(o5), e1.minus(o6), e0.minus(o7)]
}
