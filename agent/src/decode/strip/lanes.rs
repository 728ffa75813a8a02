//! Eight 16-bit numbers at a time, one for each of eight blocks, written so that compilers use vector instructions.
//!
//! Must hold: nothing overflows into an error. What a real picture holds fits; what a forged one holds wraps around.

/// Blocks side by side.
pub(super) const LANES: usize = 8;

/// One number for each of eight blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lanes(pub(super) [i16; LANES]);

impl Lanes {
    pub(super) const ZERO: Self = Self([0; LANES]);

    #[inline(always)]
    pub(super) const fn all(value: i16) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(i16, i16) -> i16) -> Self {
        let mut out = [0; LANES];
        for (out, (a, b)) in out.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            *out = f(a, b);
        }
        Self(out)
    }

    #[inline(always)]
    pub(super) fn plus(self, other: Self) -> Self {
        self.with(other, i16::wrapping_add)
    }

    #[inline(always)]
    pub(super) fn minus(self, other: Self) -> Self {
        self.with(other, i16::wrapping_sub)
    }

    /// The sum, at most the largest number.
    #[inline(always)]
    pub(super) fn plus_at_most(self, other: Self) -> Self {
        self.with(other, i16::saturating_add)
    }

    /// Times a fraction in units of 2⁻¹⁶, rounded down.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the upper half of a product of 16-bit numbers has 16 bits")]
    pub(super) fn times(self, fraction: i16) -> Self {
        Self(self.0.map(|a| ((i32::from(a) * i32::from(fraction)) >> 16) as i16))
    }

    #[inline(always)]
    pub(super) fn shifted_left(self, bits: u32) -> Self {
        Self(self.0.map(|a| a << bits))
    }

    /// Divided by a power of two, rounded down.
    #[inline(always)]
    pub(super) fn shifted_right(self, bits: u32) -> Self {
        Self(self.0.map(|a| a >> bits))
    }

    #[inline(always)]
    pub(super) fn between(self, least: i16, most: i16) -> Self {
        Self(self.0.map(|a| a.max(least).min(most)))
    }

    /// The magnitude; the smallest number becomes the largest.
    #[inline(always)]
    pub(super) fn magnitude(self) -> Self {
        Self(self.0.map(|a| a.max(0_i16.saturating_sub(a))))
    }

    /// The absolute difference of numbers from 0 to 255.
    #[inline(always)]
    pub(super) fn distance(self, other: Self) -> Self {
        self.minus(other).magnitude()
    }

    /// Every number as a byte; they must be 0 to 255.
    #[inline(always)]
    pub(super) fn bytes(self) -> [u8; LANES] {
        self.0.map(|a| a.to_le_bytes()[0])
    }

    #[inline(always)]
    pub(super) fn from_bytes(bytes: [u8; LANES]) -> Self {
        Self(bytes.map(i16::from))
    }
}
