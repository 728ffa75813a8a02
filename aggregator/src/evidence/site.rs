//! One window of all cameras of a site: innovations, peers, bets.
//!
//! A camera's readings become evidence only as far as they differ from its own past *and* from what its peers do at the same time
//! (an intersection-union test: the larger of the two p-values counts). Weather, dusk and a power dip move a whole site and name no
//! camera. Peers react with different strength, so a share of the common movement is forgiven, and where the peers disagree among
//! themselves more than their own past explains, the scale is widened by as much.
//!
//! Two kinds of evidence are gathered. **Single features** by the Kolmogorov-Smirnov distance (Kuiper's on a circle) on the
//! baseline's rank scale; their capital is averaged, which is valid however features depend on each other. **Joint** evidence by
//! the sum over features of squared mean readings against a chi-square distribution with as many degrees of freedom as the features
//! have independent directions; it finds faults that move several features a little. The camera's evidence is half of each.
//!
//! Fewer than [`ENOUGH_PEERS`] cameras: the own past alone decides, and a site-wide cause cannot be told from a camera's.

use serde::{Deserialize, Serialize};

use super::betting::{Capital, blocks, unstaked};
use super::normal::{chi_square_deviate, deviate};
use super::whitening::{Calibration, LENGTHS};
use crate::baseline::{Reading, THRESHOLDS};
use crate::stats::binned;

/// Cameras at a site, from which on peers take part in the decision: a mean over at least four others.
pub const ENOUGH_PEERS: usize = 5;
/// δ: share of the frames that may lie elsewhere and still count as equal.
const MARGIN: f64 = 0.05;
/// The same for the mean reading.
const LEVEL_MARGIN: f64 = 0.004;
/// Share of the peers' common movement that a camera may do more or less of.
const REACTION: f64 = 0.2;
/// How many times more than expected peers may disagree before the scale is widened.
const DISAGREEMENT: f64 = 2.5;
/// Windows until a filter has forgotten where it started; the same for all, so that the blocks of peers cover the same time.
const WARM_UP: u8 = 4;
/// Median of a chi-square with one degree of freedom.
const MEDIAN_SQUARE: f64 = 0.455;

/// One feature of one camera: what has to be remembered between windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Wire number of the feature.
    pub feature: u8,
    /// Whether its axis is a circle.
    pub circular: bool,
    /// How it is whitened and weighed.
    pub calibration: Calibration,
    /// The filter's prediction of the next reading.
    predicted: Reading,
    /// Window up to which it predicts.
    next: u32,
    /// Windows until the filter can be relied on.
    cold: u8,
    /// Sums of innovations over the current block of each length, and how many they are.
    blocks: [Block; LENGTHS.len()],
    /// Evidence of this feature.
    pub capital: Capital,
    /// Logarithm of the evidence since `began`, at least 0.
    run: f32,
    /// Window in which the present run of evidence began.
    began: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Block {
    number: u32,
    windows: u16,
    sum: Reading,
}

impl Stream {
    /// A stream that has seen nothing in this epoch. `before` is the same stream in the epoch before: its filter is warm.
    #[must_use]
    pub fn new(feature: u8, circular: bool, calibration: Calibration, before: Option<&Self>) -> Self {
        Self {
            feature,
            circular,
            calibration,
            predicted: before.map_or([0.0; THRESHOLDS], |before| before.predicted),
            next: 0,
            cold: before.map_or(WARM_UP, |before| before.cold),
            blocks: [Block::default(); LENGTHS.len()],
            capital: Capital::default(),
            run: 0.0,
            began: 0,
        }
    }

    /// The window in which the present run of evidence began, if there is one, and how strong it is, in nats.
    #[must_use]
    pub fn run(&self) -> Option<(u32, f64)> {
        (self.run > 0.0).then_some((self.began, f64::from(self.run)))
    }

    fn observe(&mut self, reading: &Reading, window: u32) {
        let Calibration { phi, gain, .. } = self.calibration;
        let missed = phi.powi(i32::try_from(window.saturating_sub(self.next)).unwrap_or(i32::MAX));
        let mut innovation = [0.0; THRESHOLDS];
        for ((slot, predicted), reading) in innovation.iter_mut().zip(&mut self.predicted).zip(reading) {
            let before = *predicted * missed;
            *slot = reading - before;
            *predicted = phi * (before + gain * *slot);
        }
        self.next = window.saturating_add(1);
        if self.cold > 0 {
            self.cold -= 1;
            return;
        }
        for (block, length) in self.blocks.iter_mut().zip(LENGTHS) {
            if block.windows == 0 || block.number != window / length {
                *block = Block { number: window / length, ..Block::default() };
            }
            block.windows += 1;
            for (sum, innovation) in block.sum.iter_mut().zip(&innovation) {
                *sum += innovation;
            }
        }
    }

    /// The finished block, if at least nine in ten of its windows came: peers are compared over the same time, and a shock that began
    /// while some of them were silent, or their filters cold, would look like a difference.
    fn finished(&self, length: usize, window: u32) -> Option<Finished> {
        let block = &self.blocks[length];
        let whole = LENGTHS[length];
        if block.number != window / whole || u32::from(block.windows) * 10 < whole * 9 || block.windows == 0 {
            return None;
        }
        let windows = f64::from(block.windows);
        let mean = block.sum.map(|sum| f64::from(sum) / windows);
        // Fewer windows are worth less.
        let scale = f64::from(whole) / windows;
        Some(Finished {
            level: mean.iter().sum::<f64>() / THRESHOLDS as f64,
            mean,
            share_variance: f64::from(self.calibration.share_variance[length]) * scale,
            level_variance: f64::from(self.calibration.level_variance[length]) * scale,
        })
    }
}

/// A block's mean innovation, with its variances.
struct Finished {
    mean: [f64; THRESHOLDS],
    level: f64,
    share_variance: f64,
    level_variance: f64,
}

/// Evidence against one camera within an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CameraEvidence {
    /// Number of the epoch, counted from 1970.
    pub epoch: i64,
    /// Windows of the epoch.
    pub horizon: u32,
    /// One stream per feature of the baseline.
    pub streams: Vec<Stream>,
    /// Independent directions among the features, at least 1.
    pub directions: f32,
    /// Evidence of all features together.
    joint: Capital,
    /// Largest evidence so far, at least 1.
    pub supremum: f64,
}

impl CameraEvidence {
    /// No evidence yet.
    #[must_use]
    pub const fn new(epoch: i64, horizon: u32, streams: Vec<Stream>, directions: f32) -> Self {
        Self { epoch, horizon, streams, directions, joint: Capital::NONE, supremum: 1.0 }
    }

    /// Evidence after `windows` windows of the epoch: half of it joint, half the mean over features.
    #[must_use]
    pub fn now(&self, windows: u32) -> f64 {
        let single =
            self.streams.iter().map(|stream| stream.capital.mean()).sum::<f64>() / self.streams.len().max(1) as f64;
        f64::midpoint(self.joint.mean(), single) + unstaked(windows, self.horizon)
    }

    /// Window in which the strongest present run of evidence began.
    #[must_use]
    pub fn onset(&self) -> Option<u32> {
        let runs = self.streams.iter().filter_map(Stream::run);
        runs.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(began, _)| began)
    }
}

/// A camera at its site, for one window.
#[derive(Debug)]
pub struct Member<'a> {
    /// Its evidence.
    pub evidence: &'a mut CameraEvidence,
    /// Its readings by feature, ascending; empty if it sent no window.
    pub readings: &'a [(u8, Reading)],
}

/// Takes in one window of a site. `window` counts from the beginning of the epoch.
pub fn observe(members: &mut [Member<'_>], window: u32) {
    let active = members.iter().filter(|member| !member.readings.is_empty()).count();
    let mut features = [false; 256];
    for member in members.iter_mut() {
        for (feature, reading) in member.readings {
            if let Some(stream) = member.evidence.streams.iter_mut().find(|stream| stream.feature == *feature) {
                stream.observe(reading, window);
            }
        }
        for stream in &member.evidence.streams {
            features[usize::from(stream.feature)] = true;
        }
    }
    for (length, windows) in LENGTHS.iter().enumerate() {
        if !(window + 1).is_multiple_of(*windows) {
            continue;
        }
        let mut sums = vec![Squares::default(); members.len()];
        for feature in (0..=u8::MAX).filter(|feature| features[usize::from(*feature)]) {
            let ended = Ended::of(members, feature, length, window);
            // Peers that are there but cannot be compared over this time: then nothing can be said of it.
            if ended.peers.is_some() || active < ENOUGH_PEERS {
                close(members, &mut sums, &ended, length, window);
            }
        }
        for (member, sum) in members.iter_mut().zip(&sums) {
            let evidence = &mut *member.evidence;
            if let Some(z) = sum.deviate(f64::from(evidence.directions)) {
                let blocks = blocks(evidence.horizon, *windows);
                evidence.joint.bet(length, window / windows, blocks, z);
            }
        }
    }
    for member in members {
        let now = member.evidence.now(window + 1);
        member.evidence.supremum = member.evidence.supremum.max(now);
    }
}

/// Squared deviates of the features of a camera, against its own past and against its peers.
#[derive(Clone, Copy, Debug, Default)]
struct Squares {
    own: f64,
    peers: f64,
    features: u32,
}

impl Squares {
    fn deviate(&self, directions: f64) -> Option<f64> {
        if self.features == 0 {
            return None;
        }
        let features = f64::from(self.features);
        let freedom = directions.clamp(1.0, features);
        Some(chi_square_deviate(self.own.min(self.peers) * freedom / features, freedom))
    }
}

/// The blocks of one feature that end with this window, and what they are together.
struct Ended {
    /// Member, stream, block.
    blocks: Vec<(usize, usize, Finished)>,
    peers: Option<Peers>,
}

impl Ended {
    fn of(members: &[Member<'_>], feature: u8, length: usize, window: u32) -> Self {
        let mut blocks = Vec::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            let place = member.evidence.streams.iter().position(|stream| stream.feature == feature);
            if let Some(place) = place
                && let Some(finished) = member.evidence.streams[place].finished(length, window)
            {
                blocks.push((index, place, finished));
            }
        }
        Self { peers: Peers::of(&blocks), blocks }
    }
}

/// Bets on the blocks of one feature that end with this window.
fn close(members: &mut [Member<'_>], sums: &mut [Squares], ended: &Ended, length: usize, window: u32) {
    let Ended { blocks: blocks_of, peers } = ended;
    for (index, place, block) in blocks_of {
        let Member { evidence, .. } = &mut members[*index];
        let stream = &mut evidence.streams[*place];
        let response = f64::from(stream.calibration.response[length]);
        // An arc has two ends, each of which may stray.
        let margin = if stream.circular { 2.0 * MARGIN } else { MARGIN } * response;

        let tail = if stream.circular { binned::kuiper_tail } else { binned::kolmogorov_smirnov_tail };
        let own = tail(distance(&block.mean, stream.circular), margin, 1.0 / block.share_variance);
        let against = peers.as_ref().map(|peers| peers.without(block));
        let p = against.as_ref().map_or(own, |others| {
            let forgiven = margin + REACTION * distance(&others.common, stream.circular);
            let size = 1.0 / (block.share_variance * others.widening);
            own.max(tail(distance(&others.residual, stream.circular), forgiven, size))
        });
        let z = deviate(p);
        let whole = LENGTHS[length];
        let of_epoch = blocks(evidence.horizon, whole);
        stream.capital.bet(length, window / whole, of_epoch, z);
        if length == 0 {
            stream.follow(z, window);
        }

        let forgiven = LEVEL_MARGIN * response;
        let square = |level: f64, forgiven: f64, variance: f64| (level.abs() - forgiven).max(0.0).powi(2) / variance;
        let own = square(block.level, forgiven, block.level_variance);
        let sum = &mut sums[*index];
        sum.features += 1;
        sum.own += own;
        sum.peers += against.map_or(own, |others| {
            square(
                others.residual_level,
                forgiven + REACTION * others.common_level.abs(),
                block.level_variance * others.widening,
            )
        });
    }
}

impl Stream {
    /// Follows the run of evidence, to say later when it began.
    #[expect(clippy::cast_possible_truncation, reason = "the hot state is kept in single precision")]
    fn follow(&mut self, z: f64, window: u32) {
        let risen = f64::from(self.run) + z.min(3.0) - 0.5;
        if risen > 0.0 {
            if self.run <= 0.0 {
                self.began = window;
            }
            self.run = risen.min(60.0) as f32;
        } else {
            self.run = 0.0;
        }
    }
}

/// Blocks of all cameras of a site.
struct Peers {
    count: f64,
    sum: [f64; THRESHOLDS],
    level: f64,
    /// By how much the variance of a residual exceeds that of the camera's own innovation.
    widening: f64,
}

/// What one camera does beside the others.
struct Others {
    common: [f64; THRESHOLDS],
    residual: [f64; THRESHOLDS],
    common_level: f64,
    residual_level: f64,
    /// By how much the residual's variance exceeds that of the camera's own innovation.
    widening: f64,
}

impl Peers {
    fn of(blocks: &[(usize, usize, Finished)]) -> Option<Self> {
        if blocks.len() < ENOUGH_PEERS {
            return None;
        }
        let (mut sum, mut level) = ([0.0; THRESHOLDS], 0.0);
        for (.., block) in blocks {
            level += block.level;
            for (slot, mean) in sum.iter_mut().zip(&block.mean) {
                *slot += mean;
            }
        }
        let count = blocks.len() as f64;
        let mut squares: Vec<f64> = blocks
            .iter()
            .map(|(.., block)| {
                let common = (level - block.level) / (count - 1.0);
                (block.level - common).powi(2) / block.level_variance
            })
            .collect();
        squares.sort_unstable_by(f64::total_cmp);
        let median = f64::midpoint(squares[(squares.len() - 1) / 2], squares[squares.len() / 2]);
        let widening = (median / MEDIAN_SQUARE - DISAGREEMENT).max(1.0);
        Some(Self { count, sum, level, widening: widening * count / (count - 1.0) })
    }

    fn without(&self, block: &Finished) -> Others {
        let others = self.count - 1.0;
        let (mut common, mut residual) = ([0.0; THRESHOLDS], [0.0; THRESHOLDS]);
        for j in 0..THRESHOLDS {
            common[j] = (self.sum[j] - block.mean[j]) / others;
            residual[j] = block.mean[j] - common[j];
        }
        let common_level = (self.level - block.level) / others;
        Others { common, residual, common_level, residual_level: block.level - common_level, widening: self.widening }
    }
}

/// Kolmogorov-Smirnov's distance on the grid, or Kuiper's on a circle.
fn distance(differences: &[f64; THRESHOLDS], circular: bool) -> f64 {
    let (low, high) = differences.iter().fold((0.0_f64, 0.0_f64), |(low, high), &d| (low.min(d), high.max(d)));
    if circular { high - low } else { high.max(-low) }
}
