//! The warped axis: which of the 256 bins a feature value belongs to.

use crate::limit::BINS;
use crate::unit::Fixed;

/// A monotone map from feature values to bins. Values beyond an end are counted in that end's bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Equal steps from `min` to `max`.
    Linear {
        /// Lower edge of bin 0.
        min: Fixed,
        /// Upper edge of bin 255.
        max: Fixed,
    },
    /// Equal steps of √x on 0..1: fine near zero, where the mass of a fraction lies.
    SquareRoot,
    /// Equal steps around a circle of `period`; bin 255 neighbours bin 0.
    Circular {
        /// Length of one turn; values are taken modulo it.
        period: Fixed,
    },
}

impl Axis {
    /// A linear axis between two whole numbers.
    #[must_use]
    pub const fn linear(min: i32, max: i32) -> Self {
        Self::Linear { min: Fixed::from_int(min), max: Fixed::from_int(max) }
    }

    /// The bin of a value, 0..=255.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "256 bins, and clamped to 0..=255"
    )]
    pub const fn bin(self, value: Fixed) -> u8 {
        let bins = BINS as i64;
        let raw = value.raw() as i64;
        let bin = match self {
            Self::Linear { min, max } => {
                let (min, max) = (min.raw() as i64, max.raw() as i64);
                ((raw - min) * bins).div_euclid(max - min)
            }
            Self::SquareRoot => {
                // √(raw/2¹⁶)·2⁸ = √raw, so the bin is the integer root itself.
                if raw <= 0 { 0 } else { raw.isqrt() }
            }
            Self::Circular { period } => {
                let period = period.raw() as i64;
                (raw.rem_euclid(period) * bins) / period
            }
        };
        if bin < 0 {
            0
        } else if bin >= bins {
            (bins - 1) as u8
        } else {
            bin as u8
        }
    }

    /// The feature value at the lower edge of `bin` (0..=256), for display and quantiles.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    pub fn edge(self, bin: usize) -> f64 {
        let share = bin.min(BINS) as f64 / BINS as f64;
        match self {
            Self::Linear { min, max } => min.to_f64() + share * (max.to_f64() - min.to_f64()),
            Self::SquareRoot => share * share,
            Self::Circular { period } => share * period.to_f64(),
        }
    }

    /// The value that stands for everything counted in `bin`: the middle of its edges.
    #[must_use]
    pub fn midpoint(self, bin: usize) -> f64 {
        f64::midpoint(self.edge(bin), self.edge(bin + 1))
    }

    /// Whether the two ends of the axis meet.
    #[must_use]
    pub const fn is_circular(self) -> bool {
        matches!(self, Self::Circular { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::cast_possible_truncation, reason = "midpoints lie within the range of the axis")]
    fn every_edge_falls_into_the_bin_it_opens() {
        for axis in [
            Axis::linear(0, 255),
            Axis::linear(-12, 4),
            Axis::SquareRoot,
            Axis::Circular { period: Fixed::from_int(360) },
        ] {
            for bin in 0..BINS {
                let inside = Fixed::from_raw((axis.midpoint(bin) * 65_536.0) as i32);
                assert_eq!(usize::from(axis.bin(inside)), bin, "{axis:?}");
            }
        }
    }

    #[test]
    fn values_beyond_the_ends_are_counted_at_the_ends() {
        let axis = Axis::linear(0, 255);
        assert_eq!(axis.bin(Fixed::from_int(-5)), 0);
        assert_eq!(axis.bin(Fixed::from_int(9_999)), 255);
        assert_eq!(Axis::SquareRoot.bin(Fixed::from_raw(i32::MIN)), 0);
        assert_eq!(Axis::SquareRoot.bin(Fixed::from_raw(i32::MAX)), 255);
        let hue = Axis::Circular { period: Fixed::from_int(360) };
        assert_eq!(hue.bin(Fixed::from_int(361)), hue.bin(Fixed::from_int(1)));
        assert_eq!(hue.bin(Fixed::from_int(-1)), 255);
    }
}
