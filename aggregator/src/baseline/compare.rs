//! Holding a window against a baseline, feature by feature.
//!
//! The distance is Kolmogorov-Smirnov's (Kuiper's on a circle) with two allowances for differences nobody would act on: a
//! horizontal one in bins, from the catalogue, and a vertical one, δ, which is at least the baseline's own uncertainty
//! (Dvoretzky-Kiefer-Wolfowitz). Both only shrink the distance, so the p-value stays valid for the hypothesis "no more than that".

use driftglass_protocol::feature::{Feature, Spec};
use driftglass_protocol::sketch::Histogram;

use super::reference::{Baseline, FeatureBaseline, zero_apart};
use crate::decision::CountedWindow;
use crate::stats::binned::{self, Comparison};

/// δ: share of the frames that may lie elsewhere and still count as equal.
const MARGIN: f64 = 0.05;
/// Probability that a baseline strays by more than the margin it is given.
const MARGIN_BETA: f64 = 0.05;

/// How one feature of a window differs from the baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureComparison {
    /// The feature.
    pub feature: Feature,
    /// Share of the distribution that lies outside the baseline and its tolerance, 0..1.
    pub distance: f64,
    /// Part of the distance that is forgiven before it counts as evidence.
    pub margin: f64,
    /// Probability of such a distance, or a larger one, where nothing changed.
    pub p: f64,
    /// Independent values the comparison is worth.
    pub effective_size: f64,
    /// Mean of the window, in the feature's unit.
    pub mean: f64,
    /// Mean of the window minus mean of the baseline, in the feature's unit; on a circle the shorter way round.
    pub shift: f64,
    /// The shift in units of the baseline's standard deviation, or of the tolerance where that is larger.
    pub scaled_shift: f64,
}

/// Compares every feature that both have.
#[must_use]
pub fn compare(window: &CountedWindow, baseline: &Baseline) -> Vec<FeatureComparison> {
    compare_allowing(window, baseline, |_| Allowance::default())
}

/// What a feature may stray beyond the usual margin and tolerance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Allowance {
    /// Added to δ, a share of the frames.
    pub margin: f64,
    /// Added to the tolerance, in bins.
    pub bins: usize,
}

/// The same, where some features may stray further.
pub fn compare_allowing(
    window: &CountedWindow,
    baseline: &Baseline,
    extra: impl Fn(Feature) -> Allowance,
) -> Vec<FeatureComparison> {
    baseline
        .features()
        .iter()
        .filter_map(|normal| {
            let feature = normal.feature()?;
            let current = window.histogram(feature)?;
            compare_feature(feature, current, normal, window.window.merged, extra(feature))
        })
        .collect()
}

fn compare_feature(
    feature: Feature,
    current: &Histogram,
    baseline: &FeatureBaseline,
    merged: u32,
    extra: Allowance,
) -> Option<FeatureComparison> {
    let (normal, effect) = (baseline.histogram(), baseline.design_effect());
    let spec = feature.spec();
    let circular = spec.axis.is_circular();
    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    let (frames, effective_baseline) = (current.total() as f64, normal.total() as f64 / effect.for_pooled());
    let margin = if circular { binned::circular_baseline_margin } else { binned::baseline_margin };
    let margin = margin(effective_baseline, MARGIN_BETA).ok()?.max(MARGIN) + extra.margin;
    let test = Comparison {
        window_design_effect: effect.for_window_of(frames / f64::from(merged.max(1))),
        baseline_design_effect: effect.for_pooled(),
        margin: margin.min(1.0),
        tolerance: usize::from(baseline.tolerance()) + extra.bins,
        circular,
    };
    let outcome = if zero_apart(feature) {
        test.test_on_grid(&set_apart(current, test.tolerance), &set_apart(&normal, test.tolerance))
    } else {
        test.test_on_grid(current.counts().as_slice(), normal.counts().as_slice())
    }
    .ok()?;
    let (now, then) = (moments(spec, current), moments(spec, &normal));
    let shift = if circular { shorter_way(now.mean - then.mean) } else { now.mean - then.mean };
    let tolerance = spec.axis.edge(usize::from(baseline.tolerance())) - spec.axis.edge(0);
    Some(FeatureComparison {
        feature,
        distance: outcome.distance,
        margin: test.margin,
        p: outcome.p,
        effective_size: outcome.effective_size,
        mean: now.mean,
        shift,
        scaled_shift: shift / then.deviation.max(tolerance),
    })
}

/// The counts with bin 0 moved out of the tolerance's reach.
fn set_apart(histogram: &Histogram, tolerance: usize) -> Vec<u32> {
    let [zero, others @ ..] = histogram.counts();
    let mut counts = vec![0; tolerance + 1];
    counts[0] = *zero;
    counts.extend_from_slice(others);
    counts
}

struct Moments {
    mean: f64,
    deviation: f64,
}

/// Mean and standard deviation off the middles of the bins; on a circle the mean direction and 360°·√(−2 ln R)/2π (Mardia & Jupp 2000, §2.3).
fn moments(spec: &Spec, histogram: &Histogram) -> Moments {
    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    let total = histogram.total().max(1) as f64;
    let weighted = |value: &dyn Fn(f64) -> f64| -> f64 {
        let sum: f64 = histogram
            .counts()
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bin, &count)| f64::from(count) * value(spec.axis.midpoint(bin)))
            .sum();
        sum / total
    };
    if spec.axis.is_circular() {
        let turn = spec.axis.edge(driftglass_protocol::limit::BINS);
        let radians = std::f64::consts::TAU / turn;
        let (sine, cosine) = (weighted(&|x| (x * radians).sin()), weighted(&|x| (x * radians).cos()));
        let length = sine.hypot(cosine).clamp(f64::MIN_POSITIVE, 1.0);
        Moments {
            mean: (sine.atan2(cosine) / radians).rem_euclid(turn),
            deviation: (-2.0 * length.ln()).max(0.0).sqrt() / radians,
        }
    } else {
        let mean = weighted(&|x| x);
        Moments { mean, deviation: weighted(&|x| (x - mean).powi(2)).sqrt() }
    }
}

fn shorter_way(degrees: f64) -> f64 {
    (degrees + 180.0).rem_euclid(360.0) - 180.0
}
