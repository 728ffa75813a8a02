//! Comparing two folders of frames: the same baseline, distance and diagnosis as the service, without a service.
//!
//! The reference is cut into blocks that stand for windows, so that repetition between neighbouring frames is measured and not
//! mistaken for evidence. A batch also has no second day to learn slow changes from; so whatever the reference already did
//! between its own parts counts as normal. It is measured twice: as a share of frames, which is forgiven when drift is decided
//! upon, and as a distance along the axis, which is forgiven when the fault is named. The first is the stricter of the two (it
//! kept seven of seven clean halves of real clips silent where the second alone alarmed on one); the second leaves large moves
//! their size, by which faults are told apart.

use driftglass_protocol::feature::{CATALOGUE, Feature, FeatureValues, Spec};
use driftglass_protocol::limit::BINS;
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{Quality, Window};
use driftglass_protocol::unit::{Fixed, Millis, UnixMillis};
use statrs::distribution::{Binomial, DiscreteCDF};
use thiserror::Error;

use crate::baseline::{Allowance, Baseline, BaselineError, FeatureComparison, Tolerances, compare_allowing};
use crate::decision::CountedWindow;
use crate::diagnose::{Diagnosis, diagnose};
use crate::evidence::fdr;
use crate::stats::binned;

/// Fewest frames either side must have: below, no difference could be told from chance.
pub const MIN_FRAMES: usize = 16;
/// Blocks the reference is cut into.
const BLOCKS: usize = 16;

/// Why two batches cannot be compared.
#[derive(Debug, Error)]
pub enum BatchError {
    /// Too few frames on one side.
    #[error("{side} has {found} frames, at least {MIN_FRAMES} are needed")]
    TooFewFrames {
        /// `reference` or `current`.
        side: &'static str,
        /// Frames found.
        found: usize,
    },
    /// The reference gives no baseline.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
}

/// One feature of the report.
#[derive(Clone, Debug)]
pub struct FeatureReport {
    /// How it differs, with margin and tolerance.
    pub comparison: FeatureComparison,
    /// The plain Kolmogorov-Smirnov D (Kuiper's V on a circle), without margin and tolerance.
    pub ks: f64,
    /// Benjamini-Hochberg adjusted p-value over the features.
    pub p_adjusted: f64,
    /// Whether it drifted.
    pub drift: bool,
    /// Counts of the reference.
    pub reference: Histogram,
    /// Counts of the current frames.
    pub current: Histogram,
}

/// What a comparison of two batches found.
#[derive(Clone, Debug)]
pub struct BatchReport {
    /// Every feature that both sides have, in the order of the catalogue.
    pub features: Vec<FeatureReport>,
    /// What happened; `None` where nothing did.
    pub diagnosis: Option<Diagnosis>,
}

/// Compares two sequences of frames, each in the order they were taken. `q` is the level of the false discovery rate over features.
///
/// # Errors
/// One variant of [`BatchError`] per cause.
pub fn compare_batches(
    reference: &[FeatureValues],
    current: &[FeatureValues],
    q: f64,
) -> Result<BatchReport, BatchError> {
    for (side, frames) in [("reference", reference), ("current", current)] {
        if frames.len() < MIN_FRAMES {
            return Err(BatchError::TooFewFrames { side, found: frames.len() });
        }
    }
    let block = reference.len().div_ceil(BLOCKS);
    let blocks: Vec<CountedWindow> = reference.chunks(block).map(counted).collect();
    let baseline = Baseline::learn(&blocks, BLOCKS / 2, &Tolerances::CATALOGUE)?;
    let wander = wander(reference);
    let mut now = counted(current);
    now.window.merged = u32::try_from(current.len().div_ceil(block)).unwrap_or(u32::MAX);
    let comparisons = compare_allowing(&now, &baseline, |feature| Allowance {
        margin: wander.get(feature.index()).map_or(0.0, |wander| wander.margin),
        bins: 0,
    });

    let mut comparisons = comparisons;
    if let Some(change) = comparisons.iter_mut().find(|comparison| comparison.feature == Feature::ChangeFraction) {
        change.p = (2.0 * change.p.min(repeats(reference, current))).min(1.0);
    }
    let p: Vec<f64> = comparisons.iter().map(|comparison| comparison.p).collect();
    let adjusted = fdr::benjamini_hochberg(&p).unwrap_or_else(|_| vec![1.0; p.len()]);
    let then = counted(reference);
    let features: Vec<FeatureReport> = comparisons
        .into_iter()
        .zip(adjusted)
        .filter_map(|(comparison, p_adjusted)| {
            let feature = comparison.feature;
            let (reference, current) = (then.histogram(feature)?.clone(), now.histogram(feature)?.clone());
            let plain = if feature.spec().axis.is_circular() { binned::kuiper } else { binned::kolmogorov_smirnov };
            let ks = plain(current.counts().as_slice(), reference.counts().as_slice(), 0).ok()?;
            Some(FeatureReport { comparison, ks, p_adjusted, drift: p_adjusted <= q, reference, current })
        })
        .collect();
    let drift = features.iter().any(|feature| feature.drift);
    let diagnosis = drift.then(|| {
        diagnose(&compare_allowing(&now, &baseline, |feature| Allowance {
            margin: 0.0,
            bins: wander.get(feature.index()).map_or(0, |wander| wander.bins),
        }))
    });
    Ok(BatchReport { features, diagnosis })
}

/// Probability of so many exact repeats of the frame before, if they were as frequent as in the reference.
///
/// A sensor never gives the same picture twice, so a repeat says more than the distribution of changes can: the upper tail of the
/// binomial distribution, its share taken from the reference with one repeat added (Laplace), and frames counted by halves,
/// because a repeat is likelier after a repeat.
fn repeats(reference: &[FeatureValues], current: &[FeatureValues]) -> f64 {
    let count = |frames: &[FeatureValues]| {
        let changes = frames.iter().filter_map(|frame| frame.get(Feature::ChangeFraction));
        changes.fold((0_u64, 0_u64), |(repeats, all), change| (repeats + u64::from(change == Fixed::ZERO), all + 1))
    };
    let ((before, all_before), (now, all_now)) = (count(reference), count(current));
    if now < 2 {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    let share = (before + 1) as f64 / (all_before + 2) as f64;
    Binomial::new(share, all_now / 2).map_or(1.0, |binomial| binomial.sf(now / 2 - 1))
}

/// How far each feature moved between parts of the reference: its halves, and its first and last third. The margin is the largest
/// distance beyond the tolerance; the bins are the least widening at which no more than a quarter of one part lies outside the other.
fn wander(reference: &[FeatureValues]) -> Vec<Allowance> {
    let (half, third) = (reference.len() / 2, reference.len() / 3);
    let (first_half, second_half) = reference.split_at(half);
    let (first_third, last_third) = (&reference[..third], &reference[reference.len() - third..]);
    let pairs = [(first_half, second_half), (first_third, last_third)].map(|(a, b)| (counted(a), counted(b)));
    CATALOGUE
        .iter()
        .map(|spec| {
            let outside =
                |widening: usize| pairs.iter().map(|(a, b)| distance_between(spec, a, b, widening)).fold(0.0, f64::max);
            // The distance falls as the tolerance grows, so the least widening can be searched by halving.
            let (mut low, mut high) = (0, BINS);
            while low < high {
                let middle = usize::midpoint(low, high);
                if outside(middle) > 0.25 { low = middle + 1 } else { high = middle }
            }
            Allowance { margin: outside(0), bins: low }
        })
        .collect()
}

/// The larger of the distances there and back, with the tolerance widened; 0 where one side has no values.
fn distance_between(spec: &Spec, a: &CountedWindow, b: &CountedWindow, widening: usize) -> f64 {
    let distance = if spec.axis.is_circular() { binned::kuiper } else { binned::kolmogorov_smirnov };
    let tolerance = usize::from(spec.tolerance_bins) + widening;
    let (Some(a), Some(b)) = (a.histogram(spec.feature), b.histogram(spec.feature)) else { return 0.0 };
    let (a, b) = (a.counts().as_slice(), b.counts().as_slice());
    distance(a, b, tolerance).unwrap_or(0.0).max(distance(b, a, tolerance).unwrap_or(0.0))
}

/// Counts frames as one window; its time is the order of the frames.
fn counted(frames: &[FeatureValues]) -> CountedWindow {
    let mut histograms: Vec<(Feature, Histogram)> = Vec::new();
    for spec in &CATALOGUE {
        let mut histogram = Histogram::new();
        for value in frames.iter().filter_map(|frame| frame.get(spec.feature)) {
            histogram.add(spec.axis.bin(value));
        }
        if histogram.total() > 0 {
            histograms.push((spec.feature, histogram));
        }
    }
    let length = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    CountedWindow {
        window: Window { start: UnixMillis(0), length: Millis(length), merged: 1 },
        quality: Quality { frames: length, ..Quality::default() },
        model: None,
        histograms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` frames of a picture whose luma wanders a little around `luma` and steps by `step` from the middle on.
    fn frames(count: usize, luma: i32, step: i32) -> Vec<FeatureValues> {
        (0..count)
            .map(|frame| {
                let mut values = FeatureValues::default();
                let wander = i32::try_from(frame % 7).expect("small") - 3;
                let late = if frame * 2 >= count { step } else { 0 };
                values.set(Feature::LumaMean, Fixed::from_int(luma + wander + late));
                values.set(Feature::LumaStd, Fixed::from_int(40));
                values
            })
            .collect()
    }

    fn drifted(reference: &[FeatureValues], current: &[FeatureValues]) -> bool {
        compare_batches(reference, current, 0.05).expect("enough frames").diagnosis.is_some()
    }

    #[test]
    fn the_same_again_is_no_drift_and_another_level_is() {
        let reference = frames(80, 100, 0);
        assert!(!drifted(&reference, &frames(80, 100, 0)));
        assert!(!drifted(&reference, &frames(80, 104, 0)), "within the tolerance");
        let report = compare_batches(&reference, &frames(80, 160, 0), 0.05).expect("enough frames");
        let moved: Vec<&str> =
            report.features.iter().filter(|f| f.drift).map(|f| f.comparison.feature.name()).collect();
        assert_eq!(moved, ["luma_mean"]);
    }

    #[test]
    fn what_the_reference_does_itself_is_no_drift() {
        let wandering = frames(80, 100, 60);
        assert!(!drifted(&wandering, &frames(80, 160, 0)), "it has been there before");
    }

    #[test]
    fn repeated_pictures_are_drift_and_a_few_hiccups_are_not() {
        let with_repeats = |repeated: usize| -> Vec<FeatureValues> {
            let mut frames = frames(24, 100, 0);
            for (index, frame) in frames.iter_mut().enumerate() {
                let change = if index < repeated { 0 } else { 1 + i64::try_from(index % 5).expect("small") };
                frame.set(Feature::ChangeFraction, Fixed::from_ratio(change, 10));
            }
            frames
        };
        let live = with_repeats(0);
        assert!(!drifted(&live, &with_repeats(2)));
        let frozen = compare_batches(&live, &with_repeats(24), 0.05).expect("enough frames");
        assert_eq!(frozen.diagnosis.map(|diagnosis| diagnosis.cause), Some(crate::alert::Cause::Frozen));
        assert!(!drifted(&with_repeats(20), &with_repeats(24)), "it has always repeated pictures");
    }

    #[test]
    fn too_few_frames_are_an_error_and_name_their_side() {
        let (few, enough) = (frames(MIN_FRAMES - 1, 100, 0), frames(MIN_FRAMES, 100, 0));
        let side = |result: Result<BatchReport, BatchError>| match result {
            Err(BatchError::TooFewFrames { side, found }) => Some((side, found)),
            _ => None,
        };
        assert_eq!(side(compare_batches(&few, &enough, 0.05)), Some(("reference", 15)));
        assert_eq!(side(compare_batches(&enough, &few, 0.05)), Some(("current", 15)));
        assert!(compare_batches(&enough, &enough, 0.05).is_ok());
    }
}
