//! Brightness: mean, spread, entropy and both ends, all from one histogram of quarter-scale luma.

use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::unit::Fixed;

/// Luma below this level is dark.
const DARK_BELOW: usize = 32;
/// Luma from this level on is bright.
const BRIGHT_FROM: usize = 240;

/// Counts of the 256 luma levels. Two tables, so that runs of equal pixels do not wait for each other's increment.
#[derive(Clone, Debug)]
pub(super) struct Luma {
    counts: [[u32; 256]; 2],
}

impl Luma {
    pub(super) const fn new() -> Self {
        Self { counts: [[0; 256]; 2] }
    }

    pub(super) fn add(&mut self, rows: [&[u8]; 2]) {
        let [even, odd] = &mut self.counts;
        for row in rows {
            let (pairs, rest) = row.as_chunks::<2>();
            for &[a, b] in pairs {
                even[usize::from(a)] += 1;
                odd[usize::from(b)] += 1;
            }
            for &a in rest {
                even[usize::from(a)] += 1;
            }
        }
    }

    pub(super) fn finish(&self, values: &mut FeatureValues) {
        let counts = |level: usize| u64::from(self.counts[0][level]) + u64::from(self.counts[1][level]);
        let (mut total, mut sum, mut squares) = (0_u64, 0_u64, 0_u64);
        for level in 0..256 {
            let (count, value) = (counts(level), level as u64);
            total += count;
            sum += count * value;
            squares += count * value * value;
        }
        if total == 0 {
            return;
        }
        values.set(Feature::LumaMean, ratio(sum, total));
        // n·Σx² − (Σx)² over n²: below 2⁶¹ for 2²² pixels.
        values.set(Feature::LumaStd, Fixed::sqrt_ratio(total * squares - sum * sum, total * total));
        values.set(Feature::LumaEntropy, entropy((0..256).map(counts), total));
        values.set(Feature::DarkFraction, ratio((0..DARK_BELOW).map(counts).sum(), total));
        values.set(Feature::BrightFraction, ratio((BRIGHT_FROM..256).map(counts).sum(), total));
    }
}

/// Shannon entropy in bits: log₂ n − Σ cᵢ·log₂ cᵢ / n.
fn entropy(counts: impl Iterator<Item = u64>, total: u64) -> Fixed {
    let weighted: i64 = counts
        .map(|count| {
            i64::from(Fixed::log2_ratio(count, 1).raw()).saturating_mul(i64::try_from(count).unwrap_or(i64::MAX))
        })
        .fold(0, i64::saturating_add);
    let mean = weighted / i64::try_from(total).unwrap_or(i64::MAX).max(1);
    let entropy = i64::from(Fixed::log2_ratio(total, 1).raw()) - mean;
    Fixed::from_raw(i32::try_from(entropy.max(0)).unwrap_or(i32::MAX))
}

pub(super) fn ratio(numerator: u64, denominator: u64) -> Fixed {
    Fixed::from_ratio(i64::try_from(numerator).unwrap_or(i64::MAX), denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: [&[u8]; 2]) -> impl Fn(Feature) -> f64 + use<> {
        let mut luma = Luma::new();
        luma.add(rows);
        let mut values = FeatureValues::default();
        luma.finish(&mut values);
        move |feature| values.get(feature).expect("measured").to_f64()
    }

    #[test]
    fn one_grey_has_no_spread_and_no_entropy() {
        let value = of([&[100; 6], &[100; 6]]);
        assert_eq!(value(Feature::LumaMean), 100.0);
        assert_eq!(value(Feature::LumaStd), 0.0);
        assert_eq!(value(Feature::LumaEntropy), 0.0);
        assert_eq!(value(Feature::DarkFraction), 0.0);
    }

    #[test]
    fn half_black_and_half_white_has_one_bit_and_the_largest_spread() {
        let value = of([&[0; 5], &[255; 5]]);
        assert_eq!(value(Feature::LumaMean), 127.5);
        assert_eq!(value(Feature::LumaStd), 127.5);
        assert_eq!(value(Feature::LumaEntropy), 1.0);
        assert_eq!(value(Feature::DarkFraction), 0.5);
        assert_eq!(value(Feature::BrightFraction), 0.5);
    }

    #[test]
    fn dark_ends_at_32_and_bright_begins_at_240() {
        let value = of([&[31, 32], &[239, 240]]);
        assert_eq!(value(Feature::DarkFraction), 0.25);
        assert_eq!(value(Feature::BrightFraction), 0.25);
        assert_eq!(value(Feature::LumaEntropy), 2.0);
    }

    #[test]
    fn the_largest_picture_of_one_white_does_not_overflow() {
        let mut luma = Luma::new();
        luma.counts[0][255] = 1 << 22;
        let mut values = FeatureValues::default();
        luma.finish(&mut values);
        assert_eq!(values.get(Feature::LumaMean), Some(Fixed::from_int(255)));
        assert_eq!(values.get(Feature::LumaStd), Some(Fixed::ZERO));
    }
}
