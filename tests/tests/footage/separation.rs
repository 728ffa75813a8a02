//! How well one feature tells faulted frames from clean ones.

use std::cmp::Ordering;

use driftglass_aggregator::baseline::slot::DayPart;
use driftglass_protocol::feature::{CATALOGUE, Feature, FeatureValues};

/// Frames of a window: as long as the cycle of a camera that freezes now and then.
pub(crate) const WINDOW: usize = 12;

/// A value, and the part of the day it is of, where that is known.
pub(crate) type At = (Option<DayPart>, f64);

/// Probability that a faulted value exceeds a clean one, ties counting half (Mann-Whitney; Hanley, McNeil 1982); as far from one
/// half in the other direction counts alike. Only values of the same part of the day are held against each other: at night nothing looks
/// as it does at noon, and before the product raises anything it asks the same part of other days. `None` with fewer than two values on
/// a side, or none to hold against each other.
pub(crate) fn auc(clean: &[At], faulted: &[At]) -> Option<f64> {
    if clean.len() < 2 || faulted.len() < 2 {
        return None;
    }
    let (mut above, mut pairs) = (0.0, 0.0);
    for (part, fault) in faulted {
        for (_, clean) in clean.iter().filter(|(of, _)| of == part) {
            pairs += 1.0;
            above += match fault.partial_cmp(clean) {
                Some(Ordering::Greater) => 1.0,
                Some(Ordering::Equal) => 0.5,
                _ => 0.0,
            };
        }
    }
    let share: f64 = (pairs > 0.0).then(|| above / pairs)?;
    Some(share.max(1.0 - share))
}

/// A feature and its AUC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Best {
    pub(crate) feature: Feature,
    pub(crate) auc: f64,
}

/// The feature that tells best, frame by frame and by means over windows.
pub(crate) struct Separation {
    pub(crate) frames: Best,
    pub(crate) windows: Best,
}

/// Consecutive frames, and the part of the day of each.
#[derive(Clone, Copy)]
pub(crate) struct Sequence<'a> {
    pub(crate) values: &'a [FeatureValues],
    pub(crate) parts: &'a [Option<DayPart>],
}

/// Each sequence of clean frames is cut into windows by itself.
pub(crate) fn separation(clean: &[Sequence<'_>], faulted: Sequence<'_>) -> Separation {
    let best = |of: &dyn Fn(Sequence<'_>, Feature) -> Vec<At>| {
        let candidates = CATALOGUE.iter().filter_map(|spec| {
            let clean: Vec<At> = clean.iter().flat_map(|&frames| of(frames, spec.feature)).collect();
            Some(Best { feature: spec.feature, auc: auc(&clean, &of(faulted, spec.feature))? })
        });
        candidates.max_by(|a, b| a.auc.total_cmp(&b.auc)).expect("every frame has luma")
    };
    Separation { frames: best(&frames), windows: best(&windows) }
}

fn frames(frames: Sequence<'_>, feature: Feature) -> Vec<At> {
    assert_eq!(frames.values.len(), frames.parts.len());
    let values = frames.values.iter().zip(frames.parts);
    values.filter_map(|(values, &part)| Some((part, values.get(feature)?.to_f64()))).collect()
}

/// A dozen frames half an hour apart are of all parts of the day.
fn windows(all: Sequence<'_>, feature: Feature) -> Vec<At> {
    let means = all.values.chunks_exact(WINDOW).filter_map(|window| {
        let values: Vec<f64> =
            window.iter().filter_map(|values| values.get(feature)).map(|value| value.to_f64()).collect();
        #[expect(clippy::cast_precision_loss, reason = "a dozen")]
        (2 * values.len() >= WINDOW).then(|| (None, values.iter().sum::<f64>() / values.len() as f64))
    });
    means.collect()
}

#[test]
fn separation_counts_pairs_with_ties_as_halves_and_in_either_direction() {
    let auc = |clean: &[f64], faulted: &[f64]| {
        let [clean, faulted] =
            [clean, faulted].map(|values| values.iter().map(|&value| (None, value)).collect::<Vec<_>>());
        auc(&clean, &faulted)
    };
    assert_eq!(auc(&[1.0, 2.0], &[3.0, 4.0]), Some(1.0));
    assert_eq!(auc(&[3.0, 4.0], &[1.0, 2.0]), Some(1.0));
    assert_eq!(auc(&[1.0, 1.0], &[1.0, 1.0]), Some(0.5));
    assert_eq!(auc(&[1.0, 3.0], &[2.0, 4.0]), Some(0.75));
    assert_eq!(auc(&[1.0], &[2.0, 4.0]), None);
}

#[test]
fn night_is_held_against_night() {
    let (day, night) = (Some(DayPart::Block(3)), Some(DayPart::Block(0)));
    let clean = [(day, 10.0), (night, 1.0)];
    let faulted = [(day, 11.0), (night, 2.0)];
    assert_eq!(auc(&clean, &faulted), Some(1.0));
    let anytime = |values: [At; 2]| values.map(|(_, value)| (None, value));
    assert_eq!(auc(&anytime(clean), &anytime(faulted)), Some(0.75));
    assert_eq!(auc(&[(day, 1.0), (day, 2.0)], &[(night, 1.0), (night, 2.0)]), None);
}
