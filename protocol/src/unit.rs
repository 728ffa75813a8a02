//! Quantities that must not be mixed: fixed-point feature values and event time.
//!
//! Feature values are integers so that every machine, from a Cortex-M to a server, agrees on them bit for bit.

use serde::{Deserialize, Serialize};

/// A feature value as Q16.16 fixed point: range ±32,768, resolution 2⁻¹⁶ ≈ 1.5·10⁻⁵.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fixed(i32);

impl Fixed {
    /// Number of fractional bits.
    pub const FRACTION_BITS: u32 = 16;
    /// The value 0.
    pub const ZERO: Self = Self(0);
    /// The value 1.
    pub const ONE: Self = Self(1 << Self::FRACTION_BITS);

    /// The value whose Q16.16 representation is `raw`.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Self {
        Self(raw)
    }

    /// The Q16.16 representation.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// A whole number; values beyond ±32,767 saturate.
    #[must_use]
    pub const fn from_int(value: i32) -> Self {
        Self(value.saturating_mul(1 << Self::FRACTION_BITS))
    }

    /// `numerator / denominator`, rounded towards zero, saturating; 0 where the denominator is 0.
    #[must_use]
    pub const fn from_ratio(numerator: i64, denominator: u64) -> Self {
        if denominator == 0 {
            return Self(0);
        }
        let scaled = ((numerator as i128) << Self::FRACTION_BITS) / denominator as i128;
        Self(saturate(scaled))
    }

    /// Square root of `numerator / denominator` (both unsigned); 0 where the denominator is 0.
    #[must_use]
    pub const fn sqrt_ratio(numerator: u64, denominator: u64) -> Self {
        if denominator == 0 {
            return Self(0);
        }
        let scaled = ((numerator as u128) << (2 * Self::FRACTION_BITS)) / denominator as u128;
        Self(saturate(scaled.isqrt().cast_signed()))
    }

    /// log₂ of `numerator / denominator`, exact to one unit in the last place; a zero on either side counts as 1.
    ///
    /// Method: integer part from the leading bits, fraction by repeated squaring (Knuth, TAOCP 1, §1.2.2, exercise 25).
    #[must_use]
    pub const fn log2_ratio(numerator: u64, denominator: u64) -> Self {
        Self(log2_raw(numerator) - log2_raw(denominator))
    }

    /// The value as a float, for display and statistics; exact.
    #[must_use]
    pub const fn to_f64(self) -> f64 {
        self.0 as f64 / (1_i32 << Self::FRACTION_BITS) as f64
    }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of i32 first")]
const fn saturate(value: i128) -> i32 {
    if value > i32::MAX as i128 {
        i32::MAX
    } else if value < i32::MIN as i128 {
        i32::MIN
    } else {
        value as i32
    }
}

/// log₂ of a positive integer in Q16.16.
#[expect(clippy::cast_possible_wrap, reason = "an exponent is at most 63")]
const fn log2_raw(value: u64) -> i32 {
    if value == 0 {
        return 0;
    }
    let exponent = 63 - value.leading_zeros();
    // The mantissa in [1, 2) as Q1.31.
    let mut mantissa = if exponent >= 31 { value >> (exponent - 31) } else { value << (31 - exponent) };
    let mut result = (exponent as i32) << Fixed::FRACTION_BITS;
    let mut bit = Fixed::FRACTION_BITS;
    while bit > 0 {
        bit -= 1;
        mantissa = (mantissa * mantissa) >> 31;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            result |= 1 << bit;
        }
    }
    result
}

/// Event time: milliseconds since 1970-01-01T00:00:00Z, as the frame's source tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The start of the tumbling window of `length` that contains this instant; windows are aligned to the epoch.
    #[must_use]
    pub const fn window_start(self, length: Millis) -> Self {
        let length = if length.0 == 0 { 1 } else { length.0 as i64 };
        Self(self.0.saturating_sub(self.0.rem_euclid(length)))
    }

    /// This instant plus a duration, saturating.
    #[must_use]
    pub const fn plus(self, duration: Millis) -> Self {
        Self(self.0.saturating_add(duration.0 as i64))
    }

    /// Milliseconds from `earlier` to this instant; 0 where `earlier` is later.
    #[must_use]
    #[expect(clippy::cast_sign_loss, reason = "clamped to zero first")]
    pub const fn since(self, earlier: Self) -> u64 {
        let gap = self.0.saturating_sub(earlier.0);
        if gap < 0 { 0 } else { gap as u64 }
    }
}

/// A duration in milliseconds, up to 49 days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log2_agrees_with_floating_point_to_the_last_place() {
        for (n, d) in [(1, 1), (2, 1), (1, 2), (3, 1), (1000, 7), (u64::MAX, 3), (5, 1 << 40)] {
            let got = Fixed::log2_ratio(n, d).to_f64();
            #[expect(clippy::cast_precision_loss, reason = "a comparison within a tolerance")]
            let want = libm_log2(n as f64) - libm_log2(d as f64);
            assert!((got - want).abs() < 1.0 / 16_384.0, "log2({n}/{d}) = {got}, want {want}");
        }
        assert_eq!(Fixed::log2_ratio(0, 0), Fixed::ZERO);
    }

    fn libm_log2(x: f64) -> f64 {
        extern crate std;
        x.log2()
    }

    #[test]
    fn square_roots_and_ratios_saturate_instead_of_wrapping() {
        assert_eq!(Fixed::sqrt_ratio(9, 4).to_f64(), 1.5);
        assert_eq!(Fixed::sqrt_ratio(1, 0), Fixed::ZERO);
        assert_eq!(Fixed::from_ratio(i64::MAX, 1).raw(), i32::MAX);
        assert_eq!(Fixed::from_ratio(-1, 2).to_f64(), -0.5);
        assert_eq!(Fixed::from_int(40_000).raw(), i32::MAX);
    }

    #[test]
    fn windows_are_aligned_also_before_1970_and_at_the_ends_of_time() {
        let minute = Millis(60_000);
        assert_eq!(UnixMillis(59_999).window_start(minute), UnixMillis(0));
        assert_eq!(UnixMillis(60_000).window_start(minute), UnixMillis(60_000));
        assert_eq!(UnixMillis(-1).window_start(minute), UnixMillis(-60_000));
        assert_eq!(UnixMillis(5).window_start(Millis(0)), UnixMillis(5));
        assert_eq!(UnixMillis(i64::MIN).window_start(minute), UnixMillis(i64::MIN));
        assert_eq!(UnixMillis(3).since(UnixMillis(9)), 0);
    }
}
