//! Why nothing is decided before there are windows to compare with each other.
//!
//! From within a stretch of frames the indicator ladder says how many of them one independent frame is worth
//! (`driftglass_aggregator::evidence::indicator_ladder`). With it a camera could be judged from its second minute on. Here that rule is
//! applied to clean clips, where it should hardly ever speak: what it cannot see is that every stretch of time has a level of its own.

use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::CameraState;
use driftglass_aggregator::evidence::indicator_ladder::IndicatorLadder;
use driftglass_aggregator::stats::binned::Comparison;
use driftglass_protocol::feature::{CATALOGUE, Feature};
use driftglass_protocol::limit::BINS;

use crate::scene::{self, Scene};

/// Frames that the rule begins with, and of each window afterwards.
const KNOWN: usize = 60;
const WINDOW: usize = 20;
/// δ of the decision core.
const MARGIN: f64 = 0.05;
const ALPHA: f64 = 0.001;

/// Of every feature its tolerance and the bins of a clip's frames, where all frames have it and it does not lie on a circle.
fn bins(scene: &Scene) -> Vec<(u8, Vec<u8>)> {
    let (mut decoder, mut state) = (Decoder::new(), CameraState::new());
    let frames: Vec<_> = scene
        .frames
        .iter()
        .map(|path| state.observe(&decoder.measure(&std::fs::read(path).expect("reads")).expect("decodes")))
        .collect();
    let of = |feature: Feature| -> Option<Vec<u8>> {
        let axis = feature.spec().axis;
        frames.iter().map(|values| Some(axis.bin(values.get(feature)?))).collect()
    };
    let linear = CATALOGUE.iter().filter(|spec| !spec.axis.is_circular());
    linear.filter_map(|spec| Some((spec.tolerance_bins, of(spec.feature)?))).collect()
}

fn histogram(bins: &[u8]) -> [u32; BINS] {
    let mut counts = [0; BINS];
    bins.iter().for_each(|bin| counts[usize::from(*bin)] += 1);
    counts
}

/// Frames per independent frame: the most that the ladder says at the quartiles.
fn tau(bins: &[u8]) -> f64 {
    let mut sorted = bins.to_vec();
    sorted.sort_unstable();
    let of = |threshold: u8| {
        let mut ladder = IndicatorLadder::new();
        bins.iter().for_each(|bin| ladder.push(*bin <= threshold));
        ladder.tau().expect("frames")
    };
    [1, 2, 3].map(|quartile| of(sorted[sorted.len() * quartile / 4])).into_iter().fold(1.0, f64::max)
}

#[test]
fn with_the_ladder_alone_clean_clips_would_be_called_changed() {
    let (mut tested, mut rejected) = (0_u32, 0_u32);
    for scene in scene::all().iter().filter(|scene| scene.times.is_none()) {
        let (before, of_this) = (rejected, tested);
        for (tolerance, bins) in bins(scene).iter().filter(|(_, bins)| bins.len() >= KNOWN + WINDOW) {
            let (known, rest) = bins.split_at(KNOWN);
            let tau = tau(known);
            let rule = Comparison {
                window_design_effect: tau,
                baseline_design_effect: tau,
                margin: MARGIN,
                tolerance: usize::from(*tolerance),
                circular: false,
            };
            for window in rest.chunks_exact(WINDOW) {
                tested += 1;
                let outcome = rule.test(&histogram(window)[..], &histogram(known)[..]).expect("counts");
                rejected += u32::from(outcome.p <= ALPHA);
            }
        }
        eprintln!("{:>24}: {} of {} windows at {ALPHA}", scene.name, rejected - before, tested - of_this);
    }
    let share = f64::from(rejected) / f64::from(tested);
    eprintln!("{:>24}: {:.0} times as often as promised", "together", share / ALPHA);
    assert!(
        tested < 200 || share > ALPHA,
        "{rejected} of {tested}: then it may be used, and nothing has to be waited for"
    );
}
