//! From moved features to the name of a fault, how bad it is, and a sentence for the operator.
//!
//! Each fault leaves a signature: which features rise, fall and stay. The rules below read it in order, the most specific first.
//! They look at directions and at sizes in units of the camera's own spread, never at absolute levels (with one exception: a
//! picture without colour), so that they carry from scene to scene. They were found on seven fixed cameras with fifteen injected
//! faults each; what they confuse is said in the README.
//!
//! Deliberately absent: statistics. Whether there is a fault at all has been decided before anybody asks for its name.

use driftglass_protocol::feature::Feature;

use crate::alert::severity::{Persistence, effect, leaves_nothing, severity};
use crate::alert::{Cause, MovedFeature, Severity};
use crate::baseline::FeatureComparison;

/// Share of a distribution that must lie outside the baseline, its tolerance and its margin for the feature to count as moved.
const MOVED: f64 = 0.25;
/// Most features an alert lists.
const LISTED: usize = 8;
/// Mean chroma below which a picture has no colour, in levels.
const GREY: f64 = 2.5;
/// Share of the frames whose colour must be gone: where the only colour was a red car, it is gone when the car is.
const COLOUR_GONE: f64 = 0.7;

/// Which way a feature moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To larger values.
    Up,
    /// To smaller values.
    Down,
    /// Either way.
    Either,
}

/// Features without which a fault cannot be told: the rules below name it only where at least one of these has moved in its way.
pub const NEEDED: [(Cause, &[(Feature, Way)]); 12] = [
    (Cause::Frozen, &[(Feature::ChangeFraction, Way::Down)]),
    (Cause::Covered, &[(Feature::LumaStd, Way::Down), (Feature::ReferenceCorrelation, Way::Down)]),
    (
        Cause::Moved,
        &[
            (Feature::ViewDisplacement, Way::Up),
            (Feature::ViewRotation, Way::Either),
            (Feature::HashDistance, Way::Up),
            (Feature::ReferenceCorrelation, Way::Down),
            (Feature::TileLoss, Way::Up),
        ],
    ),
    (Cause::Defocused, &[(Feature::HighFrequencyEnergy, Way::Down)]),
    (Cause::Dirty, &[(Feature::LastingChange, Way::Up), (Feature::HashDistance, Way::Up)]),
    (Cause::Fogged, &[(Feature::HighFrequencyEnergy, Way::Down), (Feature::TileLoss, Way::Up)]),
    (Cause::Dark, &[(Feature::LumaMean, Way::Down)]),
    (Cause::Overexposed, &[(Feature::BrightFraction, Way::Up)]),
    (Cause::ColourCast, &[(Feature::CbMean, Way::Either), (Feature::CrMean, Way::Either)]),
    (Cause::Infrared, &[(Feature::ChromaRms, Way::Down)]),
    (Cause::Noise, &[(Feature::NoiseLevel, Way::Up), (Feature::HighFrequencyEnergy, Way::Up)]),
    (Cause::Compression, &[(Feature::Blockiness, Way::Up), (Feature::QuantisationMean, Way::Up)]),
];

/// What the moved features look like.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The fault.
    pub cause: Cause,
    /// How far the camera is from normal, 0..=1: see [`crate::alert::severity`].
    pub effect: f64,
    /// How bad it is, before it has lasted.
    pub severity: Severity,
    /// What moved, strongest first.
    pub features: Vec<MovedFeature>,
    /// Why, in one sentence.
    pub explanation: String,
}

/// Names the fault.
#[must_use]
pub fn diagnose(comparisons: &[FeatureComparison]) -> Diagnosis {
    diagnose_as(Signature { comparisons }.cause(), comparisons)
}

/// Says how bad a fault is that is known already.
#[must_use]
pub fn diagnose_as(cause: Cause, comparisons: &[FeatureComparison]) -> Diagnosis {
    let effect = effect(comparisons.iter().map(|comparison| (comparison.distance, comparison.margin)));
    let mut moved: Vec<&FeatureComparison> = comparisons.iter().filter(|comparison| has_moved(comparison)).collect();
    moved.sort_by(|a, b| strength(b).total_cmp(&strength(a)));
    let explanation = if moved.is_empty() {
        String::from("no single feature stands out")
    } else {
        let listed: Vec<String> = moved.iter().take(3).map(|comparison| sentence(comparison)).collect();
        listed.join(", ")
    };
    Diagnosis {
        cause,
        effect,
        severity: severity(effect, Persistence::default(), leaves_nothing(cause)),
        features: moved
            .iter()
            .take(LISTED)
            .map(|comparison| MovedFeature {
                feature: comparison.feature.number(),
                distance: comparison.distance,
                shift: comparison.shift,
                effect: None,
            })
            .collect(),
        explanation,
    }
}

fn has_moved(comparison: &FeatureComparison) -> bool {
    comparison.distance - comparison.margin >= MOVED
}

fn strength(comparison: &FeatureComparison) -> f64 {
    comparison.distance * comparison.scaled_shift.abs().max(1.0)
}

fn sentence(comparison: &FeatureComparison) -> String {
    let direction = if comparison.shift < 0.0 { "down" } else { "up" };
    let spec = comparison.feature.spec();
    format!("{} {direction} by {:.2} {}", spec.name, comparison.shift.abs(), spec.unit)
}

struct Signature<'a> {
    comparisons: &'a [FeatureComparison],
}

impl Signature<'_> {
    fn of(&self, feature: Feature) -> Option<&FeatureComparison> {
        self.comparisons.iter().find(|comparison| comparison.feature == feature)
    }

    /// The shift of a feature in units of its spread; 0 where it stayed.
    fn shift(&self, feature: Feature) -> f64 {
        self.of(feature).filter(|comparison| has_moved(comparison)).map_or(0.0, |c| c.scaled_shift)
    }

    fn cause(&self) -> Cause {
        use Feature as F;
        let (luma, contrast, entropy) = (self.shift(F::LumaMean), self.shift(F::LumaStd), self.shift(F::LumaEntropy));
        let (dark, bright) = (self.shift(F::DarkFraction), self.shift(F::BrightFraction));
        let (detail, tilt) = (self.shift(F::HighFrequencyEnergy), self.shift(F::SpectralTilt));
        let (flat, noise, blocks) = (self.shift(F::FlatFraction), self.shift(F::NoiseLevel), self.shift(F::Blockiness));
        let (cb, cr) = (self.shift(F::CbMean), self.shift(F::CrMean));
        let (view, hash) = (self.shift(F::ReferenceCorrelation), self.shift(F::HashDistance));
        let tiles = self.shift(F::TileLoss);
        let coarser = self.shift(F::QuantisationMean);
        let displaced = self.shift(F::ViewDisplacement) > 1.0 || self.shift(F::ViewRotation).abs() > 1.0;
        // Where the view was registered and found in place, what else changed is no move; small pictures are never registered.
        let in_place = !displaced && self.of(F::ViewDisplacement).is_some();
        let lasting = self.shift(F::LastingChange);
        let passing = lasting <= 0.0 && self.of(F::LastingChange).is_some();

        let quiet = |shifts: &[f64]| shifts.iter().all(|shift| shift.abs() < 1.5);
        let colours = [self.shift(F::CbMean), self.shift(F::CrMean)];
        // A picture that stands still stands where it stood.
        if !displaced
            && self.shift(F::ChangeFraction) < -0.5
            && quiet(&[luma, contrast, detail, tilt, blocks, coarser])
            && quiet(&colours)
        {
            return Cause::Frozen;
        }
        if displaced {
            return Cause::Moved;
        }
        if bright > 3.0 && luma > 1.5 {
            return Cause::Overexposed;
        }
        let contrast_lost = contrast < -1.5 && entropy < -2.0;
        let detail_lost = detail < -1.5 || tiles > 3.0;
        let colour_lost = self
            .of(F::ChromaRms)
            .is_some_and(|c| c.mean < GREY && c.mean - c.shift > 2.0 * GREY && c.distance > COLOUR_GONE);
        if colour_lost && entropy > -2.0 && view > -7.0 {
            return Cause::Infrared;
        }
        if luma < -1.5 && entropy < -2.0 && (dark > 3.0 || noise > 1.5) && view > -3.0 {
            return Cause::Dark;
        }
        if detail_lost && luma > 1.0 && view > -7.0 && blocks < 2.0 {
            return Cause::Fogged;
        }
        let hidden = luma < -1.0 || entropy < -2.0 || flat > 3.0;
        // Of a camera that sees two things by turns all changes are small beside its spread. A lens out of focus loses detail above all.
        let all_lost = entropy < -2.0 && detail < -2.0 && 2.0 * hash.min(-view) > -detail && coarser < 1.0 && !passing;
        if (contrast_lost && detail_lost) || (view < -3.0 && hidden && !passing) || all_lost {
            return Cause::Covered;
        }
        if noise > 2.0 || (detail > 2.0 && tilt > 1.5) {
            return Cause::Noise;
        }
        if (blocks > 2.0 || coarser > 2.0) && contrast > -1.5 {
            return Cause::Compression;
        }
        if detail < -1.5 && -1.5 * detail >= hash.max(-view) {
            return Cause::Defocused;
        }
        if (cb.abs() > 1.5 || cr.abs() > 1.5) && view > -3.0 && hash < 3.0 {
            return Cause::ColourCast;
        }
        let stained = hash > 1.0 && view > -2.0 && (entropy > 1.5 || flat < -2.0);
        if stained || (in_place && lasting > 1.0) {
            return Cause::Dirty;
        }
        if view < -7.0 && !quiet(&[luma, contrast, cb, cr]) {
            return Cause::SceneChange;
        }
        if !in_place && (hash > 1.0 || view < -1.0 || tiles > 3.0) {
            return Cause::Moved;
        }
        let model = self.shift(F::Confidence).abs().max(self.shift(F::PredictionEntropy).abs());
        let picture = self
            .comparisons
            .iter()
            .any(|c| c.distance >= MOVED && !matches!(c.feature, F::Confidence | F::PredictionEntropy));
        match (model > 0.5, picture) {
            (true, false) => Cause::ModelDrift,
            (_, true) => Cause::ContentChange,
            (false, false) => Cause::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What moved, in units of the camera's own spread; everything else stayed.
    fn named(moved: &[(Feature, f64)]) -> Cause {
        diagnose(&comparisons(moved)).cause
    }

    fn comparisons(moved: &[(Feature, f64)]) -> Vec<FeatureComparison> {
        moved
            .iter()
            .map(|&(feature, scaled_shift)| FeatureComparison {
                feature,
                distance: 0.9,
                margin: 0.05,
                p: 1e-6,
                effective_size: 20.0,
                mean: 20.0 + scaled_shift,
                shift: scaled_shift,
                scaled_shift,
            })
            .collect()
    }

    #[test]
    fn each_signature_has_its_name() {
        use Feature as F;
        let cases: [(Cause, &[(Feature, f64)]); 18] = [
            (
                Cause::Covered,
                &[
                    (F::LumaStd, -1.2),
                    (F::LumaEntropy, -3.1),
                    (F::HighFrequencyEnergy, -2.8),
                    (F::Blockiness, 2.9),
                    (F::ReferenceCorrelation, -2.2),
                    (F::HashDistance, 2.9),
                ],
            ),
            (Cause::ColourCast, &[(F::ChangeFraction, -0.8), (F::CbMean, -2.9), (F::CrMean, -5.5)]),
            (Cause::Frozen, &[(F::ChangeFraction, -3.0)]),
            (Cause::Overexposed, &[(F::LumaMean, 9.0), (F::BrightFraction, 60.0), (F::LumaEntropy, -5.0)]),
            (
                Cause::Dark,
                &[(F::LumaMean, -9.0), (F::LumaEntropy, -5.0), (F::DarkFraction, 20.0), (F::NoiseLevel, 9.0)],
            ),
            (
                Cause::Fogged,
                &[(F::LumaMean, 4.0), (F::LumaStd, -6.0), (F::LumaEntropy, -3.0), (F::HighFrequencyEnergy, -6.0)],
            ),
            (
                Cause::Covered,
                &[(F::LumaMean, -4.0), (F::LumaStd, -9.0), (F::LumaEntropy, -9.0), (F::HighFrequencyEnergy, -9.0)],
            ),
            (Cause::Covered, &[(F::ReferenceCorrelation, -8.0), (F::LumaMean, -3.0), (F::HashDistance, 5.0)]),
            (Cause::Noise, &[(F::NoiseLevel, 20.0), (F::HighFrequencyEnergy, 8.0), (F::SpectralTilt, 7.0)]),
            (Cause::Compression, &[(F::Blockiness, 6.0), (F::HighFrequencyEnergy, -9.0), (F::FlatFraction, 8.0)]),
            (Cause::Defocused, &[(F::HighFrequencyEnergy, -9.0), (F::SpectralTilt, -7.0), (F::TileLoss, 9.0)]),
            (Cause::ColourCast, &[(F::CbMean, -5.0), (F::CrMean, 5.0), (F::ChromaRms, 3.0)]),
            (Cause::Moved, &[(F::ReferenceCorrelation, -8.0), (F::HashDistance, 8.0), (F::TileLoss, 4.0)]),
            (Cause::Moved, &[(F::ViewDisplacement, 9.0), (F::HighFrequencyEnergy, -4.0), (F::LumaMean, 3.0)]),
            (Cause::Moved, &[(F::ViewRotation, -9.0), (F::ReferenceCorrelation, -4.0)]),
            (Cause::Dirty, &[(F::LastingChange, 4.0), (F::ViewDisplacement, 0.0), (F::HashDistance, 3.0)]),
            (Cause::ModelDrift, &[(F::PredictionEntropy, 3.0)]),
            (Cause::Unknown, &[]),
        ];
        for (cause, moved) in cases {
            assert_eq!(named(moved), cause, "{moved:?}");
        }
    }

    /// What a fault moves besides the features it is told by.
    fn companions(cause: Cause, feature: Feature) -> Vec<(Feature, f64)> {
        use Feature as F;
        match (cause, feature) {
            (Cause::Covered, F::LumaStd) => vec![(F::LumaEntropy, -9.0), (F::HighFrequencyEnergy, -9.0)],
            (Cause::Covered, _) => vec![(F::LumaMean, -3.0)],
            (Cause::Dirty, F::LastingChange) => vec![(F::ViewDisplacement, 0.0)],
            (Cause::Dirty, _) => vec![(F::LumaEntropy, 4.0)],
            (Cause::Fogged, _) => vec![(F::LumaMean, 4.0)],
            (Cause::Dark, _) => vec![(F::LumaEntropy, -5.0), (F::DarkFraction, 20.0)],
            (Cause::Overexposed, _) => vec![(F::LumaMean, 9.0)],
            (Cause::Noise, F::HighFrequencyEnergy) => vec![(F::SpectralTilt, 3.0)],
            _ => Vec::new(),
        }
    }

    #[test]
    fn each_fault_is_told_by_every_feature_it_needs_and_without_them_it_is_not() {
        for (cause, needed) in NEEDED {
            for &(feature, way) in needed {
                let others = companions(cause, feature);
                let shift = if way == Way::Down { -18.0 } else { 18.0 };
                let moved: Vec<(Feature, f64)> = others.iter().copied().chain([(feature, shift)]).collect();
                assert_eq!(named(&moved), cause, "{moved:?}");
                assert_ne!(named(&others), cause, "{others:?}");
                if way == Way::Either {
                    assert_eq!(named(&[(feature, -18.0)]), cause, "{feature:?} the other way");
                }
            }
        }
    }

    #[test]
    fn a_picture_that_loses_its_colour_is_in_night_mode() {
        let mut moved = comparisons(&[(Feature::NoiseLevel, 9.0), (Feature::ChromaRms, -9.0)]);
        if let Some(chroma) = moved.last_mut() {
            (chroma.mean, chroma.shift) = (1.0, -12.0);
        }
        assert_eq!(diagnose(&moved).cause, Cause::Infrared);
    }

    #[test]
    fn what_lies_within_the_margin_is_not_listed_and_the_strongest_comes_first() {
        let mut moved =
            comparisons(&[(Feature::LumaStd, -4.0), (Feature::HighFrequencyEnergy, -9.0), (Feature::Hue, 2.0)]);
        if let Some(hue) = moved.last_mut() {
            hue.distance = 0.2;
        }
        let found = diagnose(&moved);
        let listed: Vec<Option<Feature>> = found.features.iter().map(MovedFeature::feature).collect();
        assert_eq!(listed, [Some(Feature::HighFrequencyEnergy), Some(Feature::LumaStd)]);
        assert!(found.explanation.starts_with("high_frequency_energy down by 9.00"), "{}", found.explanation);
    }

    #[test]
    fn severity_grows_with_distance_and_is_critical_where_nothing_is_left() {
        let at = |distance: f64, feature: Feature, shift: f64| {
            let mut moved = comparisons(&[(feature, shift)]);
            moved.iter_mut().for_each(|comparison| comparison.distance = distance);
            diagnose(&moved).severity
        };
        assert_eq!(at(0.4, Feature::NoiseLevel, 9.0), Severity::Low);
        assert_eq!(at(1.0, Feature::NoiseLevel, 9.0), Severity::Medium, "one feature of many");
        assert_eq!(at(1.0, Feature::ChangeFraction, -3.0), Severity::Critical);
    }
}
