//! One window of all cameras of a site: innovations, peers, bets.
//!
//! A camera's readings become evidence only as far as they differ from its own past *and* from what its peers do at the same time
//! (an intersection-union test: the larger of the two p-values counts). Weather, dusk and a power dip move a whole site and name no
//! camera ([`super::peers`]).
//!
//! Two kinds of evidence are gathered ([`super::camera`]). **Single features** by the Kolmogorov-Smirnov distance (Kuiper's on a circle)
//! on the baseline's rank scale. **Joint** evidence by the sum over features of squared mean readings (`joint.rs`); it finds faults
//! that move several features a little.
//!
//! Fewer than [`ENOUGH_PEERS`] cameras: the own past alone decides, beyond wider margins; a site-wide cause cannot be told from a
//! camera's.

use driftglass_protocol::feature::{COUNT, Feature};

use super::betting;
use super::camera::CameraEvidence;
use super::joint::Squares;
use super::normal::deviate;
use super::peers::{ENOUGH_PEERS, Novelties, Peers};
use super::run::OUTLASTS;
use super::stream::{Finished, Stream};
use super::whitening::LENGTHS;

use crate::baseline::{Extremes, Sample, Surprise, THRESHOLDS};
use crate::stats::binned;

/// δ: share of the frames that may lie elsewhere and still count as equal.
const MARGIN: f64 = 0.05;
/// The same for the mean reading.
const LEVEL_MARGIN: f64 = 0.004;
/// Share of the baseline between neighbouring thresholds.
const STEP: f64 = 1.0 / (THRESHOLDS as f64 + 1.0);
/// How many times wider both are for a camera without peers: weather, which they would take off, must count as equal as well.
const WIDER_ALONE: f64 = 2.0;
/// Share of the peers' common movement that a camera may do more or less of.
const REACTION: f64 = 0.2;

/// A camera at its site that has sent a window.
#[derive(Debug)]
pub struct Member<'a> {
    /// Its evidence.
    pub evidence: &'a mut CameraEvidence,
    /// Its readings, ascending by feature.
    pub samples: &'a [Sample],
    /// Standard normal deviate of its repeated pictures, where that can be told.
    pub repeats: Option<f32>,
    /// What its excursions are held against, where that can be told.
    pub extremes: Option<Extremes>,
}

impl Member<'_> {
    /// What the window says that is like nothing before. A feature that wanders for longer than the camera is known to remember comes to
    /// places where it never was, and stays.
    fn surprise(&self) -> Option<Surprise> {
        let extremes = self.extremes?;
        let excursions = self.samples.iter().filter(|sample| sample.excursion > 0.0).filter_map(|sample| {
            let stream = self.evidence.streams.iter().find(|stream| stream.feature() == sample.feature)?;
            (stream.calibration.memory <= extremes.memory()).then_some(sample.excursion)
        });
        Some(extremes.surprise(excursions.fold(0.0, f32::max)))
    }
}

/// Takes in one window of a site. `window` counts from the beginning of the epoch; `active` is the number of cameras of the site that
/// should have sent theirs, whether they did or not: who comes too late to be compared with his peers is not judged alone.
///
/// Must hold: every block is bet on once, in whatever order and however often windows come.
pub fn observe(members: &mut [Member<'_>], window: u32, active: usize) {
    let singles = singles(members, window);
    for (length, windows) in LENGTHS.iter().enumerate() {
        if !(window + 1).is_multiple_of(*windows) {
            continue;
        }
        let longer = (length > 0).then(|| longer(members, &singles, length, window));
        let ended = longer.as_ref().unwrap_or(&singles);
        let mut peers: Vec<Option<Peers>> = ended.iter().map(|blocks| Peers::of(blocks)).collect();
        let shaken = peers.iter().flatten().any(Peers::are_shaken);
        let mut squares = vec![Squares::default(); members.len()];
        for (blocks, peers) in ended.iter().zip(&mut peers) {
            if let Some(peers) = peers {
                peers.widen(shaken);
            }
            // Peers that are there but cannot be compared over this time: then nothing can be said of it.
            if peers.is_some() || active < ENOUGH_PEERS {
                bet(members, blocks, peers.as_ref(), &mut squares, length, window);
            }
        }
        for (member, squares) in members.iter_mut().zip(&squares) {
            member.evidence.bet_on_all(squares, length, window);
        }
    }
    let surprises: Vec<Option<Surprise>> = members.iter().map(Member::surprise).collect();
    let novelties = Novelties::of(surprises.iter().flatten().copied());
    for (Member { evidence, repeats, .. }, surprise) in members.iter_mut().zip(surprises) {
        let novelty = surprise.and_then(|surprise| novelties.beside_the_others(surprise, active));
        evidence.close(repeats.map(f64::from), novelty, window);
    }
}

/// Blocks of one feature that end with a window: member, the place of its stream, block; ascending.
type Ended = Vec<(usize, usize, Finished)>;

/// What the window says that was not predicted, feature by feature: each is a block of one window.
fn singles(members: &mut [Member<'_>], window: u32) -> Vec<Ended> {
    let all = members.len();
    let mut singles: Vec<Ended> = std::iter::repeat_with(Ended::new).take(COUNT).collect();
    for (number, member) in members.iter_mut().enumerate() {
        // Both ascend by feature, samples and streams.
        let mut streams = member.evidence.streams.iter_mut().enumerate().peekable();
        for sample in member.samples {
            while streams.next_if(|(_, stream)| stream.feature() < sample.feature).is_some() {}
            let Some((place, stream)) = streams.next_if(|(_, stream)| stream.feature() == sample.feature) else {
                continue;
            };
            let ended = Feature::from_number(sample.feature).and_then(|feature| singles.get_mut(feature.index()));
            let Some((ended, innovation)) = ended.zip(stream.observe(sample, window)) else { continue };
            if ended.is_empty() {
                ended.reserve_exact(all);
            }
            ended.push((number, place, stream.single(&innovation)));
        }
    }
    singles
}

/// Longer blocks that end with this window. A block that does has an innovation of it.
fn longer(members: &mut [Member<'_>], singles: &[Ended], length: usize, window: u32) -> Vec<Ended> {
    let mut finish = |&(member, place, _): &(usize, usize, Finished)| {
        let stream: &mut Stream = &mut members[member].evidence.streams[place];
        stream.finish(length, window).map(|block| (member, place, block))
    };
    singles.iter().map(|singles| singles.iter().filter_map(&mut finish).collect()).collect()
}

/// Bets on the blocks of one feature, and notes their squares by member.
fn bet(
    members: &mut [Member<'_>],
    blocks: &Ended,
    peers: Option<&Peers>,
    squares: &mut [Squares],
    length: usize,
    window: u32,
) {
    for (index, place, block) in blocks {
        let Member { evidence, .. } = &mut members[*index];
        let stream = &mut evidence.streams[*place];
        let circular = stream.is_circular();
        let response = f64::from(stream.calibration.response[length]);
        // An arc has two ends, each of which may stray.
        let alone = if peers.is_some() { 1.0 } else { WIDER_ALONE };
        let margin = if circular { 2.0 * MARGIN } else { MARGIN } * response * alone;

        let own = tail(distance(&block.mean, circular), margin, 1.0 / block.share_variance, circular);
        // What is no more than usual by itself is no more than usual beside the others.
        let p = peers.filter(|_| own < 1.0).map_or(own, |peers| {
            let others = peers.without(block);
            let forgiven = margin + REACTION * distance(&others.common, circular);
            let size = 1.0 / (block.share_variance * peers.widening());
            own.max(tail(distance(&others.residual, circular), forgiven, size, circular))
        });
        let z = deviate(p);
        let whole = LENGTHS[length];
        stream.state.capital.bet(length, window / whole, betting::blocks(evidence.horizon, whole), z);
        if length == 0 {
            stream.state.run.follow(z, window, OUTLASTS);
        }

        let forgiven = LEVEL_MARGIN * response * alone;
        let square = |level: f64, forgiven: f64, variance: f64| (level.abs() - forgiven).max(0.0).powi(2) / variance;
        let own = square(block.level, forgiven, block.level_variance);
        let beside = peers.map_or(own, |peers| {
            let (common, residual) = peers.level_without(block);
            square(residual, forgiven + REACTION * common.abs(), block.level_variance * peers.widening())
        });
        squares[*index].add(stream.feature(), own, beside);
    }
}

/// The tail of the distance beyond a margin.
fn tail(distance: f64, margin: f64, effective_size: f64, circular: bool) -> f64 {
    if circular {
        binned::kuiper_tail(distance, margin, effective_size)
    } else {
        binned::even_grid_tail(distance, margin, effective_size, STEP)
    }
}

/// Kolmogorov-Smirnov's distance on the grid, or Kuiper's on a circle.
fn distance(differences: &[f64; THRESHOLDS], circular: bool) -> f64 {
    // Comparisons, for `f64::max` looks for what is not a number first.
    let (mut low, mut high) = (0.0, 0.0);
    for &difference in differences {
        low = if difference < low { difference } else { low };
        high = if difference > high { difference } else { high };
    }
    if circular {
        high - low
    } else if high > -low {
        high
    } else {
        -low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::fixture::{camera, judge, samples};
    use driftglass_protocol::feature::Subject;

    #[test]
    fn a_window_that_comes_again_changes_nothing() {
        let mut cameras = vec![camera()];
        for window in 0..7 {
            judge(&mut cameras, &[0.4], window, 1);
        }
        let once = cameras.clone();
        for window in [6, 6, 3, 0, 5] {
            judge(&mut cameras, &[0.9], window, 1);
        }
        assert_eq!(cameras, once);
    }

    #[test]
    fn evidence_against_one_among_five_is_its_own_and_what_all_five_do_is_nobody_s() {
        let (mut one, mut all) = (vec![camera(); 5], vec![camera(); 5]);
        for window in 0..20 {
            judge(&mut one, &[0.5, 0.0, 0.0, 0.0, 0.0], window, 5);
            judge(&mut all, &[0.5; 5], window, 5);
        }
        assert!(one[0].supremum > 1e6, "{}", one[0].supremum);
        assert!(one[1..].iter().all(|camera| camera.supremum < 2.0), "{:?}", one[1].supremum);
        assert!(all.iter().all(|camera| camera.supremum < 2.0), "{}", all[0].supremum);
        assert!(all.iter().all(|camera| camera.against_past(Subject::Picture) > 1e6), "but against their past");
        assert!(one[1..].iter().all(|camera| camera.against_past(Subject::Picture) < 2.0));
        assert!((all[0].against_past(Subject::Model) - 1.0).abs() < 1e-6, "there is no model");
    }

    #[test]
    fn what_is_new_to_one_camera_is_its_own_and_what_is_new_to_the_whole_site_is_not() {
        let show = |cameras: &mut [CameraEvidence], novel: &[bool]| {
            for window in 0..40 {
                let mut samples = vec![samples(0.0); cameras.len()];
                for (samples, novel) in samples.iter_mut().zip(novel) {
                    samples[1].excursion = if *novel { 3.0 } else { 0.0 };
                }
                let mut members: Vec<Member<'_>> = cameras
                    .iter_mut()
                    .zip(&samples)
                    .map(|(evidence, samples)| Member {
                        evidence,
                        samples,
                        repeats: None,
                        extremes: Some(Extremes::ANY),
                    })
                    .collect();
                let active = members.len();
                observe(&mut members, window, active);
            }
        };
        let (mut one, mut all, mut alone) = (vec![camera(); 5], vec![camera(); 5], vec![camera(); 1]);
        let mut wandering = alone.clone();
        wandering[0].streams[1].calibration.memory = 2.0 * Extremes::ANY.memory();
        show(&mut one, &[true, false, false, false, false]);
        show(&mut all, &[true; 5]);
        show(&mut alone, &[true]);
        show(&mut wandering, &[true]);
        assert!(one[0].supremum > 1e4 && one[0].onset() == Some(0), "{} {:?}", one[0].supremum, one[0].onset());
        assert!(one[1..].iter().all(|camera| camera.supremum < 2.0));
        assert!(all.iter().all(|camera| camera.supremum < 2.0), "{}", all[0].supremum);
        assert!(alone[0].supremum > 1e4, "without peers there is nobody to ask");
        assert!(wandering[0].supremum < 2.0, "it goes where it never was, and stays");
    }

    #[test]
    fn a_few_of_many_are_not_judged_without_the_others_and_a_few_that_are_all_there_is_are() {
        let (mut of_many, mut alone) = (vec![camera(); 3], vec![camera(); 3]);
        for window in 0..20 {
            judge(&mut of_many, &[0.5; 3], window, 9);
            judge(&mut alone, &[0.5; 3], window, 3);
        }
        assert!(of_many.iter().all(|camera| camera.supremum <= 1.0 + 1e-9));
        assert!(alone.iter().all(|camera| camera.supremum > 1e6));
    }

    #[test]
    fn a_late_window_never_makes_more_capital_than_there_is() {
        let mut cameras = vec![camera()];
        for window in (100..200).step_by(7).chain([3]) {
            judge(&mut cameras, &[0.0], window, 1);
            assert!(cameras[0].now() <= 1.0 + 1e-9, "window {window}: {}", cameras[0].now());
        }
    }
}
