//! Random projections of a frame's features to one number, which is then sketched like any feature.
//!
//! Each feature's own histogram cannot show that two features which used to go together no longer do. A projection
//! `Σ sᵢzᵢ/√k` of the standardised features with signs `sᵢ` of −1, 0 and 1 can: its spread depends on how they go together. The
//! signs are Achlioptas's sparse ones (2003: 0 with probability ⅔, else ±1), so that a change in a few features is not drowned in
//! all the others, and `k` is the number of signs that are not 0.
//!
//! It lives here and not at the aggregator because the aggregator has no frames: what reaches it is one histogram per feature,
//! from which how they go together is gone. It therefore runs where the frames are, on the agent, in integers and without an
//! allocator; the aggregator uses the same signs for vectors of window means, where that is all there is.
//!
//! Must hold: the same seed gives the same signs on every machine and for ever, and a feature's sign does not depend on how many
//! others the catalogue has; a feature that never varies takes no part (its standardised value is undefined); the angle between
//! two hues is taken the short way round, so where the circle is cut does not matter.

use crate::feature::{CATALOGUE, COUNT, Feature, FeatureValues};
use crate::sketch::Axis;
use crate::unit::Fixed;

/// The axis a projection is counted on: standard deviations, if the features were independent.
pub const AXIS: Axis = Axis::linear(-8, 8);
/// Largest standardised value of one feature; beyond it a value is as strange as it gets.
const LARGEST_DEVIATION: i64 = 8 << Fixed::FRACTION_BITS;
/// Seeds tried for one with a sign that is not 0. All 23 are 0 for one seed in ten thousand.
const ATTEMPTS: u32 = 16;

/// What is normal for every feature of one camera: the value that counts as 0 and the one that counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    centre: [Fixed; COUNT],
    scale: [Fixed; COUNT],
}

impl Default for Standard {
    fn default() -> Self {
        Self::new()
    }
}

impl Standard {
    /// A standard under which no feature takes part.
    #[must_use]
    pub const fn new() -> Self {
        Self { centre: [Fixed::ZERO; COUNT], scale: [Fixed::ZERO; COUNT] }
    }

    /// Lets a feature take part with this mean and standard deviation; with a deviation of 0 or less it does not.
    pub const fn set(&mut self, feature: Feature, centre: Fixed, scale: Fixed) {
        self.centre[feature.index()] = centre;
        self.scale[feature.index()] = scale;
    }

    /// Whether a feature takes part.
    #[must_use]
    pub const fn has(&self, feature: Feature) -> bool {
        self.scale[feature.index()].raw() > 0
    }

    /// `(value − centre)/scale` in Q16.16, −8..=8; None for a feature that takes no part.
    fn deviation(&self, index: usize, value: Fixed) -> Option<i64> {
        let (centre, scale) = (self.centre.get(index)?.raw(), self.scale.get(index)?.raw());
        if scale <= 0 {
            return None;
        }
        let mut distance = i64::from(value.raw()) - i64::from(centre);
        if let Axis::Circular { period } = CATALOGUE.get(index)?.axis {
            let period = i64::from(period.raw());
            distance = distance.rem_euclid(period);
            if distance * 2 > period {
                distance -= period;
            }
        }
        let standardised = (distance << Fixed::FRACTION_BITS) / i64::from(scale);
        Some(standardised.clamp(-LARGEST_DEVIATION, LARGEST_DEVIATION))
    }
}

/// One direction in the space of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    signs: [i8; COUNT],
}

impl Projection {
    /// The sparse direction of a seed: a third of the features take part.
    #[must_use]
    pub const fn sparse(seed: u64) -> Self {
        let (mut attempt, mut current) = (0, seed);
        while attempt < ATTEMPTS {
            let mut signs = [0; COUNT];
            let (mut index, mut taken) = (0, false);
            while index < COUNT {
                // The upper 64 bits of a product with 6 are a number in 0..6, each as likely as the others.
                signs[index] = match (random(current, index) as u128 * 6) >> 64 {
                    0 => 1,
                    1 => -1,
                    _ => 0,
                };
                taken = taken || signs[index] != 0;
                index += 1;
            }
            if taken {
                return Self { signs };
            }
            current = random(current, COUNT);
            attempt += 1;
        }
        Self::dense(seed)
    }

    /// The dense direction of a seed: every feature takes part.
    #[must_use]
    pub const fn dense(seed: u64) -> Self {
        let mut signs = [0; COUNT];
        let mut index = 0;
        while index < COUNT {
            signs[index] = if random(seed, index) >> 63 == 0 { 1 } else { -1 };
            index += 1;
        }
        Self { signs }
    }

    /// The sign of a feature: −1, 0 or 1.
    #[must_use]
    pub const fn sign(&self, feature: Feature) -> i8 {
        self.signs[feature.index()]
    }

    /// The features of this direction that a standard lets take part.
    fn taking_part<'a>(&'a self, standard: &'a Standard) -> impl Iterator<Item = (usize, i8)> + 'a {
        self.signs
            .iter()
            .enumerate()
            .filter(|(index, sign)| **sign != 0 && standard.scale[*index].raw() > 0)
            .map(|(index, sign)| (index, *sign))
    }

    /// The projection of one frame. A feature that the frame does not have counts as 0. None where not a single one that takes
    /// part is there.
    #[must_use]
    pub fn of(&self, values: &FeatureValues, standard: &Standard) -> Option<Fixed> {
        let (mut sum, mut count, mut present) = (0_i64, 0_u64, 0_u32);
        for (index, sign) in self.taking_part(standard) {
            count += 1;
            let value = CATALOGUE.get(index).and_then(|spec| values.get(spec.feature));
            if let Some(deviation) = value.and_then(|value| standard.deviation(index, value)) {
                sum += i64::from(sign) * deviation;
                present += 1;
            }
        }
        if present == 0 {
            return None;
        }
        // At most 23·8 before and √23·8 after the division by √k: both fit.
        let scaled = (sum * i64::from(Fixed::sqrt_ratio(1, count).raw())) >> Fixed::FRACTION_BITS;
        i32::try_from(scaled).ok().map(Fixed::from_raw)
    }
}

/// The `index`-th number of Steele, Lea and Flood's (2014) SplitMix64 with this seed.
const fn random(seed: u64, index: usize) -> u64 {
    let mut z = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    extern crate std;
    use std::vec::Vec;

    /// Every feature has mean 1 and deviation 2.
    fn standard() -> Standard {
        let mut standard = Standard::new();
        for spec in &CATALOGUE {
            standard.set(spec.feature, Fixed::ONE, Fixed::from_int(2));
        }
        standard
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // The first numbers of the reference implementation with the seed 1234567.
        let first: Vec<u64> = (0..3).map(|index| random(1_234_567, index)).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_signs_of_a_seed_are_the_same_for_ever() {
        let signs: Vec<i8> = CATALOGUE.iter().take(16).map(|spec| Projection::sparse(1).sign(spec.feature)).collect();
        assert_eq!(signs, SIGNS_OF_SEED_1);
    }

    const SIGNS_OF_SEED_1: [i8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, -1];

    #[test]
    fn a_third_of_the_signs_are_there_and_half_of_those_negative() {
        let all: Vec<i8> =
            (0..2000).flat_map(|seed| CATALOGUE.map(|spec| Projection::sparse(seed).sign(spec.feature))).collect();
        let share = |wanted: i8| {
            let count = u32::try_from(all.iter().filter(|&&sign| sign == wanted).count()).expect("46,000");
            f64::from(count) / 46_000.0
        };
        assert!((share(1) - 1.0 / 6.0).abs() < 0.01 && (share(-1) - 1.0 / 6.0).abs() < 0.01);
        assert!((0..2000).all(|seed| CATALOGUE.iter().any(|spec| Projection::sparse(seed).sign(spec.feature) != 0)));
        assert!(CATALOGUE.iter().all(|spec| Projection::dense(5).sign(spec.feature) != 0));
    }

    #[test]
    fn trap_30_a_feature_that_never_varies_takes_no_part() {
        let (projection, mut values) = (Projection::dense(3), FeatureValues::default());
        for spec in &CATALOGUE {
            values.set(spec.feature, Fixed::from_int(100));
        }
        let mut standard = Standard::new();
        assert_eq!(projection.of(&values, &standard), None, "nothing takes part");
        standard.set(Feature::LumaMean, Fixed::from_int(98), Fixed::ONE);
        standard.set(Feature::LumaStd, Fixed::ZERO, Fixed::ZERO);
        assert!(standard.has(Feature::LumaMean) && !standard.has(Feature::LumaStd));
        let sign = i32::from(projection.sign(Feature::LumaMean));
        assert_eq!(
            projection.of(&values, &standard),
            Some(Fixed::from_int(2 * sign)),
            "one feature, two deviations up"
        );
    }

    #[test]
    fn trap_9_a_feature_the_frame_does_not_have_counts_as_normal_and_a_frame_without_any_has_no_projection() {
        let (projection, standard) = (Projection::dense(3), standard());
        let mut values = FeatureValues::default();
        assert_eq!(projection.of(&values, &standard), None);
        values.set(Feature::LumaMean, Fixed::ONE);
        assert_eq!(projection.of(&values, &standard), Some(Fixed::ZERO));
    }

    #[test]
    fn trap_12_hue_goes_the_short_way_round() {
        let projection = Projection::dense(3);
        let mut standard = Standard::new();
        standard.set(Feature::Hue, Fixed::from_int(355), Fixed::from_int(10));
        let at = |hue: i32| {
            let mut values = FeatureValues::default();
            values.set(Feature::Hue, Fixed::from_int(hue));
            projection.of(&values, &standard).map(|value| value.to_f64() * f64::from(projection.sign(Feature::Hue)))
        };
        assert_eq!((at(5), at(345), at(355)), (Some(1.0), Some(-1.0), Some(0.0)));
        assert_eq!(at(5 + 360), at(5), "the mutant, a plain difference, has −35 and 1");
    }

    proptest! {
        #[test]
        fn no_value_overflows_or_leaves_the_range(
            raw in prop::collection::vec(any::<i32>(), COUNT), centre in any::<i32>(), scale in any::<i32>(), seed in any::<u64>(),
        ) {
            let (mut values, mut standard) = (FeatureValues::default(), Standard::new());
            for (spec, &raw) in CATALOGUE.iter().zip(&raw) {
                values.set(spec.feature, Fixed::from_raw(raw));
                standard.set(spec.feature, Fixed::from_raw(centre), Fixed::from_raw(scale));
            }
            for projection in [Projection::sparse(seed), Projection::dense(seed)] {
                if let Some(value) = projection.of(&values, &standard) {
                    prop_assert!(scale > 0 && value.to_f64().abs() <= 8.0 * 23.0_f64.sqrt() + 0.01);
                }
            }
        }
    }
}
