//! How well one feature tells faulted frames from clean ones.

use driftglass_protocol::feature::{CATALOGUE, Feature, FeatureValues};

/// Frames of a window: as long as the cycle of a camera that freezes now and then.
pub(crate) const WINDOW: usize = 12;

/// Probability that a faulted value exceeds a clean one, ties counting half (Mann-Whitney; Hanley, McNeil 1982); as far from one
/// half in the other direction counts alike. `None` with fewer than two values on a side.
pub(crate) fn auc(clean: &[f64], faulted: &[f64]) -> Option<f64> {
    if clean.len() < 2 || faulted.len() < 2 {
        return None;
    }
    let above = |fault: f64, clean: f64| {
        if fault > clean {
            1.0
        } else if fault < clean {
            0.0
        } else {
            0.5
        }
    };
    let sum: f64 = faulted.iter().map(|&fault| clean.iter().map(|&clean| above(fault, clean)).sum::<f64>()).sum();
    #[expect(clippy::cast_precision_loss, reason = "tens of frames")]
    let share = sum / (clean.len() * faulted.len()) as f64;
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

/// Each sequence of clean frames is cut into windows by itself.
pub(crate) fn separation(clean: &[&[FeatureValues]], faulted: &[FeatureValues]) -> Separation {
    let best = |of: &dyn Fn(&[FeatureValues], Feature) -> Vec<f64>| {
        let candidates = CATALOGUE.iter().filter_map(|spec| {
            let clean: Vec<f64> = clean.iter().flat_map(|frames| of(frames, spec.feature)).collect();
            Some(Best { feature: spec.feature, auc: auc(&clean, &of(faulted, spec.feature))? })
        });
        candidates.max_by(|a, b| a.auc.total_cmp(&b.auc)).expect("every frame has luma")
    };
    Separation { frames: best(&frames), windows: best(&windows) }
}

fn frames(frames: &[FeatureValues], feature: Feature) -> Vec<f64> {
    frames.iter().filter_map(|values| values.get(feature)).map(|value| value.to_f64()).collect()
}

fn windows(all: &[FeatureValues], feature: Feature) -> Vec<f64> {
    let means = all.chunks_exact(WINDOW).filter_map(|window| {
        let values = frames(window, feature);
        #[expect(clippy::cast_precision_loss, reason = "a dozen")]
        (2 * values.len() >= WINDOW).then(|| values.iter().sum::<f64>() / values.len() as f64)
    });
    means.collect()
}

#[test]
fn separation_counts_pairs_with_ties_as_halves_and_in_either_direction() {
    assert_eq!(auc(&[1.0, 2.0], &[3.0, 4.0]), Some(1.0));
    assert_eq!(auc(&[3.0, 4.0], &[1.0, 2.0]), Some(1.0));
    assert_eq!(auc(&[1.0, 1.0], &[1.0, 1.0]), Some(0.5));
    assert_eq!(auc(&[1.0, 3.0], &[2.0, 4.0]), Some(0.75));
    assert_eq!(auc(&[1.0], &[2.0, 4.0]), None);
}
