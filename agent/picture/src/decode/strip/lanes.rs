//! Eight 16-bit numbers at a time, one for each of eight blocks.
//!
//! Work on them is written as loops over the lanes, the same plain arithmetic in each, because compilers turn such loops into vector
//! instructions on any machine, and hardly any other way of writing it.
//!
//! Must hold: nothing overflows into an error. What a real picture holds fits; what a forged one holds wraps around.

/// Blocks side by side.
pub(super) const LANES: usize = 8;

/// One number for each of eight blocks.
pub(super) type Lanes = [i16; LANES];

/// Zero in every lane.
pub(super) const ZERO: Lanes = [0; LANES];

/// Times a fraction in units of 2⁻¹⁶, rounded down.
#[inline(always)]
pub(super) const fn times(number: i16, fraction: i16) -> i16 {
    ((number as i32 * fraction as i32) >> 16) as i16
}

/// The magnitude; the smallest number becomes the largest.
#[inline(always)]
pub(super) fn magnitude(number: i16) -> i16 {
    number.max(0_i16.saturating_sub(number))
}
