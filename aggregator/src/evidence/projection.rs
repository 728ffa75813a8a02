//! Joint drift at the centre: what agents project with, and what can be projected here.
//!
//! The projection itself is [`driftglass_protocol::projection`], run by the agent on every frame; see there why. The centre hands
//! each agent a [`Standard`] taken from the camera's baseline and gets one histogram per direction back, compared like any
//! feature. For agents that do not project yet, and for the drift of a whole camera over many windows, the same directions are
//! taken here of the vector of standardised mean shifts of each window: one value a window, sketched on the same axis. That sees
//! features which move together by less than each one's tolerance; it cannot see how they go together within a window.
//!
//! Compare projections by Kuiper's V and not by D: what goes together differently changes the spread, on both sides of the middle, and V
//! adds the two. The power is modest all the same: six of sixteen features that share nine tenths of their variance and then
//! none of it give a V of 0.17 in the best of the directions and 0.14 in the next.
//!
//! Must hold: the directions are fixed by [`SEED`] before any data are seen, so the tests on them are hypotheses like others,
//! [`DIRECTIONS`] more per camera. A baseline's standard is part of its version: with another standard the projections are
//! another feature.

use std::sync::LazyLock;

use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::projection::{Projection, Standard};
use driftglass_protocol::sketch::{Axis, Histogram};
use driftglass_protocol::unit::Fixed;

/// Seed of the first direction; the next ones count up. The first seed with which every two features of a picture meet in some
/// direction; one pair in seven does not on average.
pub const SEED: u64 = 39_555;
/// How many directions are watched. With a third of the signs there, two given features meet in one direction of nine.
pub const DIRECTIONS: usize = 16;

static FAMILY: LazyLock<[Projection; DIRECTIONS]> =
    LazyLock::new(|| std::array::from_fn(|direction| Projection::sparse(SEED.wrapping_add(direction as u64))));

/// The directions watched, the same for every camera of every fleet.
#[must_use]
pub fn directions() -> &'static [Projection; DIRECTIONS] {
    &FAMILY
}

/// The standard of a camera, from its baseline's histograms: mean and standard deviation off the middles of the bins. A feature
/// whose values all lie in one bin takes no part; its deviation is not known, only that it is less than a bin.
#[must_use]
pub fn standard<'a>(baseline: impl IntoIterator<Item = (Feature, &'a Histogram)>) -> Standard {
    let mut standard = Standard::new();
    for (feature, histogram) in baseline {
        let occupied = histogram.counts().iter().filter(|&&count| count > 0).count();
        if occupied < 2 {
            continue;
        }
        let (mean, deviation) = moments(feature.spec().axis, histogram);
        if let (Some(mean), Some(deviation)) = (fixed(mean), fixed(deviation)) {
            standard.set(feature, mean, deviation);
        }
    }
    standard
}

/// The projection of one window's mean shifts, each in units of its baseline's standard deviation, along one direction. None where
/// no feature of the direction is among them.
#[must_use]
pub fn of_shifts(direction: &Projection, shifts: impl IntoIterator<Item = (Feature, f64)>) -> Option<Fixed> {
    let (mut values, mut unit) = (FeatureValues::default(), Standard::new());
    for (feature, shift) in shifts {
        if let Some(shift) = fixed(shift) {
            values.set(feature, shift);
            unit.set(feature, Fixed::ZERO, Fixed::ONE);
        }
    }
    direction.of(&values, &unit)
}

/// Mean and standard deviation; around a circle the mean direction and √(−2 ln R) (Mardia & Jupp 2000, §2.3.1).
#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
fn moments(axis: Axis, histogram: &Histogram) -> (f64, f64) {
    let total = histogram.total().max(1) as f64;
    let average = |value: &dyn Fn(f64) -> f64| -> f64 {
        let bins = histogram.counts().iter().enumerate();
        bins.map(|(bin, &count)| f64::from(count) * value(axis.midpoint(bin))).sum::<f64>() / total
    };
    if axis.is_circular() {
        let turn = axis.edge(driftglass_protocol::limit::BINS);
        let radians = std::f64::consts::TAU / turn;
        let (sine, cosine) = (average(&|x| (x * radians).sin()), average(&|x| (x * radians).cos()));
        let length = sine.hypot(cosine).clamp(f64::MIN_POSITIVE, 1.0);
        ((sine.atan2(cosine) / radians).rem_euclid(turn), (-2.0 * length.ln()).max(0.0).sqrt() / radians)
    } else {
        let mean = average(&|x| x);
        (mean, average(&|x| (x - mean).powi(2)).sqrt())
    }
}

/// A number as Q16.16, saturating; None for a NaN.
#[expect(clippy::cast_possible_truncation, reason = "saturates, as it should")]
fn fixed(value: f64) -> Option<Fixed> {
    (!value.is_nan()).then(|| Fixed::from_raw((value * 65_536.0).round() as i32))
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::feature::CATALOGUE;
    use driftglass_protocol::projection::AXIS;

    use super::*;
    use crate::stats::binned::{kolmogorov_smirnov, kuiper};
    use driftglass_protocol::feature::Subject;

    /// Uniform and normal numbers from a 64-bit linear congruential generator (Knuth's MMIX constants).
    struct Random(u64);

    impl Random {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
        }

        fn normal(&mut self) -> f64 {
            (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
        }
    }

    /// Features that brightness drives in every camera.
    const DRIVEN: [Feature; 6] = [
        Feature::LumaMean,
        Feature::LumaEntropy,
        Feature::DarkFraction,
        Feature::BrightFraction,
        Feature::NoiseLevel,
        Feature::BitsPerPixel,
    ];

    /// Sixteen features around their own centres; the driven ones share nine tenths of their variance, or nothing.
    fn frames(random: &mut Random, count: usize, together: bool) -> Vec<FeatureValues> {
        (0..count)
            .map(|_| {
                let mut values = FeatureValues::default();
                let light = random.normal();
                for spec in CATALOGUE.iter().take(16) {
                    let own = random.normal();
                    let shared = together && DRIVEN.contains(&spec.feature);
                    let z = if shared { 0.9_f64.sqrt() * light + 0.1_f64.sqrt() * own } else { own };
                    let (low, high) = (spec.axis.edge(0), spec.axis.edge(256));
                    values.set(spec.feature, fixed(f64::midpoint(low, high) + z * (high - low) / 20.0).unwrap());
                }
                values
            })
            .collect()
    }

    fn sketch(frames: &[FeatureValues], value: impl Fn(&FeatureValues) -> Option<Fixed>, axis: Axis) -> Histogram {
        let mut histogram = Histogram::new();
        frames.iter().filter_map(value).for_each(|value| histogram.add(axis.bin(value)));
        histogram
    }

    #[test]
    fn features_that_no_longer_go_together_are_seen_in_a_projection_and_in_no_feature_of_its_own() {
        let mut random = Random(2);
        let (before, after) = (frames(&mut random, 4000, true), frames(&mut random, 4000, false));
        let own: Vec<(Feature, Histogram)> = CATALOGUE
            .iter()
            .take(16)
            .map(|spec| (spec.feature, sketch(&before, |frame| frame.get(spec.feature), spec.axis)))
            .collect();
        let standard = standard(own.iter().map(|(feature, histogram)| (*feature, histogram)));
        for (feature, histogram) in &own {
            let now = sketch(&after, |frame| frame.get(*feature), feature.spec().axis);
            let distance = kuiper(now.counts(), histogram.counts(), 0).unwrap();
            assert!(distance < 0.06, "{} alone sees nothing: {distance}", feature.name());
        }
        let mut seen: Vec<f64> = Vec::new();
        for direction in directions() {
            let [then, now] = [&before, &after].map(|frames| sketch(frames, |f| direction.of(f, &standard), AXIS));
            let distance = kuiper(now.counts(), then.counts(), 0).unwrap();
            let meeting = DRIVEN.iter().filter(|&&feature| direction.sign(feature) != 0).count();
            if meeting > 1 {
                let one_sided = kolmogorov_smirnov(now.counts(), then.counts(), 0).unwrap();
                assert!(
                    one_sided < 0.7 * distance,
                    "the spread changes on both sides, D sees one: {one_sided} {distance}"
                );
            } else {
                assert!(distance < 0.06, "with {meeting} of them there is nothing to see: {distance}");
            }
            seen.push(distance);
        }
        seen.sort_by(f64::total_cmp);
        let (second, best) = (seen[DIRECTIONS - 2], seen[DIRECTIONS - 1]);
        assert!(best > 0.15 && second > 0.1, "{seen:?}");
    }

    #[test]
    fn every_two_features_of_a_picture_meet_in_some_direction() {
        let mut apart = Vec::new();
        let pictures = || CATALOGUE.iter().filter(|spec| spec.feature.subject() == Subject::Picture);
        for (index, first) in pictures().enumerate() {
            for second in pictures().skip(index + 1) {
                let meets = |d: &Projection| d.sign(first.feature) != 0 && d.sign(second.feature) != 0;
                if !directions().iter().any(meets) {
                    apart.push((first.name, second.name));
                }
            }
        }
        assert!(apart.is_empty(), "{apart:?}");
    }

    #[test]
    fn small_shifts_that_go_along_a_direction_add_up() {
        let direction = &directions()[0];
        let along: Vec<(Feature, f64)> =
            CATALOGUE.iter().map(|spec| (spec.feature, 0.5 * f64::from(direction.sign(spec.feature)))).collect();
        let features = f64::from(u32::try_from(along.iter().filter(|(_, shift)| shift.abs() > 0.0).count()).unwrap());
        let seen = of_shifts(direction, along).expect("features of the direction").to_f64();
        assert!((seen - 0.5 * features.sqrt()).abs() < 0.01, "{seen} of {features} features");
        assert_eq!(of_shifts(direction, []), None);
        assert_eq!(of_shifts(direction, [(Feature::LumaMean, f64::NAN)]), None);
    }

    #[test]
    fn trap_22_the_order_of_the_windows_does_not_change_a_byte_of_the_sketch() {
        let direction = &directions()[1];
        let mut random = Random(4);
        let windows: Vec<Vec<(Feature, f64)>> =
            (0..300).map(|_| CATALOGUE.iter().map(|spec| (spec.feature, random.normal())).collect()).collect();
        let fold = |order: &mut dyn Iterator<Item = &Vec<(Feature, f64)>>| {
            let mut histogram = Histogram::new();
            order
                .filter_map(|shifts| of_shifts(direction, shifts.iter().copied()))
                .for_each(|value| histogram.add(AXIS.bin(value)));
            histogram
        };
        assert_eq!(fold(&mut windows.iter()), fold(&mut windows.iter().rev()));
    }

    #[test]
    fn trap_30_a_feature_that_stood_still_in_the_baseline_takes_no_part_and_hue_is_measured_around_its_circle() {
        let (mut still, mut hue, mut luma) = (Histogram::new(), Histogram::new(), Histogram::new());
        (0..50).for_each(|_| still.add(7));
        for bin in [250, 252, 254, 0, 2, 4] {
            hue.add(bin);
        }
        (100..140).for_each(|bin| luma.add(bin));
        let standard = standard([(Feature::ChangeFraction, &still), (Feature::Hue, &hue), (Feature::LumaMean, &luma)]);
        assert!(
            !standard.has(Feature::ChangeFraction) && standard.has(Feature::Hue) && standard.has(Feature::LumaMean)
        );
        // The deviation of these hues is about 5 degrees; on a line it would be 170.
        let (centre, deviation) = moments(Feature::Hue.spec().axis, &hue);
        assert!(deviation < 6.0 && !(5.0..=355.0).contains(&centre), "{centre} ± {deviation}");
    }
}
