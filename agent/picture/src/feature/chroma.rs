//! Colour: the mean of both chroma planes, its strength, and the hue the picture leans to.

use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::unit::Fixed;

/// Pixels with a chroma of at most this length have no hue.
const GREY: u32 = 6;
/// The picture has a hue where at least one pixel in this many has one …
const COLOURED_ONE_IN: u64 = 64;
/// … and the mean of their chroma vectors is at least this long; else their hues cancel and the angle is left to chance.
const SHORTEST_MEAN: u64 = 2;

/// Sums of chroma over quarter-scale pixels.
#[derive(Clone, Debug, Default)]
pub(super) struct Chroma {
    pixels: u64,
    cb: i64,
    cr: i64,
    squares: u64,
    coloured: u64,
    coloured_cb: i64,
    coloured_cr: i64,
}

impl Chroma {
    pub(super) fn add(&mut self, cb: [&[u8]; 2], cr: [&[u8]; 2]) {
        for (cb, cr) in cb.into_iter().zip(cr) {
            // 32-bit sums of one row (at most 2,048 pixels) keep the loop in vector registers.
            let (mut sum_b, mut sum_r, mut squares, mut coloured, mut hue_b, mut hue_r) =
                (0_i32, 0, 0_u32, 0_u32, 0, 0);
            for (&b, &r) in cb.iter().zip(cr) {
                let (b, r) = (i32::from(b) - 128, i32::from(r) - 128);
                let length = (b * b + r * r).cast_unsigned();
                let has_hue = i32::from(length > GREY * GREY);
                sum_b += b;
                sum_r += r;
                squares += length;
                coloured += has_hue.cast_unsigned();
                hue_b += b & -has_hue;
                hue_r += r & -has_hue;
            }
            self.pixels += cb.len().min(cr.len()) as u64;
            self.cb += i64::from(sum_b);
            self.cr += i64::from(sum_r);
            self.squares += u64::from(squares);
            self.coloured += u64::from(coloured);
            self.coloured_cb += i64::from(hue_b);
            self.coloured_cr += i64::from(hue_r);
        }
    }

    pub(super) fn finish(&self, values: &mut FeatureValues) {
        if self.pixels == 0 {
            return;
        }
        values.set(Feature::CbMean, Fixed::from_ratio(self.cb, self.pixels));
        values.set(Feature::CrMean, Fixed::from_ratio(self.cr, self.pixels));
        values.set(Feature::ChromaRms, Fixed::sqrt_ratio(self.squares, self.pixels));
        if let Some(hue) = self.hue() {
            values.set(Feature::Hue, hue);
        }
    }

    /// The chroma-weighted circular mean of hue is the angle of the sum of chroma vectors (Mardia, Jupp: Directional Statistics).
    fn hue(&self) -> Option<Fixed> {
        if self.coloured * COLOURED_ONE_IN < self.pixels {
            return None;
        }
        let (b, r) = (i128::from(self.coloured_cb), i128::from(self.coloured_cr));
        let shortest = i128::from(self.coloured * SHORTEST_MEAN);
        (b * b + r * r >= shortest * shortest && self.coloured > 0).then(|| angle(self.coloured_cb, self.coloured_cr))
    }
}

/// The direction of (x, y) in degrees, 0..360, counter-clockwise from the x axis; 0 for the null vector.
///
/// CORDIC in vectoring mode (Volder 1959): 18 turns by ±arctan 2⁻ⁱ, right to 0.001 degrees.
fn angle(x: i64, y: i64) -> Fixed {
    // arctan 2⁻ⁱ in degrees, Q16.16.
    const TURNS: [i32; 18] = [
        2_949_120, 1_740_967, 919_879, 466_945, 234_379, 117_304, 58_666, 29_335, 14_668, 7_334, 3_667, 1_833, 917,
        458, 229, 115, 57, 29,
    ];
    let largest = x.unsigned_abs().max(y.unsigned_abs());
    if largest == 0 {
        return Fixed::ZERO;
    }
    // Leading bit to position 40: enough fraction for the shifts, and room for the gain of 1.65.
    let shift = 40 - i64::from(largest.ilog2());
    let scale = |v: i64| if shift >= 0 { v << shift } else { v >> -shift };
    let (mut x, mut y) = (scale(x), scale(y));
    let mut turned = 0_i32;
    if x < 0 {
        (x, y) = (-x, -y);
        turned = 180 << Fixed::FRACTION_BITS;
    }
    for (i, turn) in TURNS.into_iter().enumerate() {
        if y >= 0 {
            (x, y) = (x + (y >> i), y - (x >> i));
            turned += turn;
        } else {
            (x, y) = (x - (y >> i), y + (x >> i));
            turned -= turn;
        }
    }
    Fixed::from_raw(turned.rem_euclid(360 << Fixed::FRACTION_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cb: [&[u8]; 2], cr: [&[u8]; 2]) -> FeatureValues {
        let mut chroma = Chroma::default();
        chroma.add(cb, cr);
        let mut values = FeatureValues::default();
        chroma.finish(&mut values);
        values
    }

    fn value(values: &FeatureValues, feature: Feature) -> f64 {
        values.get(feature).expect("measured").to_f64()
    }

    #[test]
    fn grey_has_no_chroma_and_no_hue() {
        let values = of([&[128; 4], &[128; 4]], [&[128; 4], &[128; 4]]);
        assert_eq!(value(&values, Feature::CbMean), 0.0);
        assert_eq!(value(&values, Feature::ChromaRms), 0.0);
        assert_eq!(values.get(Feature::Hue), None);
    }

    #[test]
    fn one_colour_has_its_angle_as_hue() {
        let values = of([&[128 + 30; 4], &[128 + 30; 4]], [&[128 - 40; 4], &[128 - 40; 4]]);
        assert_eq!(value(&values, Feature::CbMean), 30.0);
        assert_eq!(value(&values, Feature::CrMean), -40.0);
        assert_eq!(value(&values, Feature::ChromaRms), 50.0);
        let want = (-40.0_f64).atan2(30.0).to_degrees() + 360.0;
        assert!((value(&values, Feature::Hue) - want).abs() < 0.001);
    }

    #[test]
    fn opposite_colours_cancel_and_leave_no_hue() {
        let values = of([&[168; 4], &[88; 4]], [&[128; 4], &[128; 4]]);
        assert_eq!(value(&values, Feature::ChromaRms), 40.0);
        assert_eq!(values.get(Feature::Hue), None);
    }

    #[test]
    fn faint_colour_of_six_levels_counts_as_grey() {
        assert_eq!(of([&[134; 4], &[134; 4]], [&[128; 4], &[128; 4]]).get(Feature::Hue), None);
        assert_eq!(
            of([&[135; 4], &[135; 4]], [&[128; 4], &[128; 4]])
                .get(Feature::Hue)
                .map(Fixed::raw)
                .map(|raw| raw.abs() < 200),
            Some(true)
        );
    }

    #[test]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "test values are small")]
    fn angles_agree_with_floating_point_all_around() {
        for degree in 0..720 {
            for length in [9.0, 1000.0, 3.0e12] {
                let (sin, cos) = (f64::from(degree) / 2.0).to_radians().sin_cos();
                let (x, y) = ((cos * length) as i64, (sin * length) as i64);
                let want = (y as f64).atan2(x as f64).to_degrees().rem_euclid(360.0);
                let got = angle(x, y).to_f64();
                let gap = (got - want).abs();
                assert!(gap.min(360.0 - gap) < 0.002, "({x}, {y}): {got}, want {want}");
            }
        }
        assert_eq!(angle(0, 0), Fixed::ZERO);
    }
}
