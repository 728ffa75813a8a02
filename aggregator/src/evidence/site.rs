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
//! have independent directions; it finds faults that move several features a little. The camera's evidence is half of each, but for a
//! tenth: that is bet on pictures repeated exactly, and on pictures like nothing before, which no distance on ranks can tell
//! (`baseline/repeats.rs`, `baseline/novelty.rs`).
//!
//! Fewer than [`ENOUGH_PEERS`] cameras: the own past alone decides, beyond wider margins; a site-wide cause cannot be told from a
//! camera's.
//!
//! Beside it every camera gathers evidence against its **own past** alone ([`CameraEvidence::against_past`]): no camera is alerted for
//! that, but where more than half of a site, of a model's cameras or of the fleet have it, the whole has changed.

use driftglass_protocol::feature::{Feature, Subject};
use serde::{Deserialize, Serialize};

use super::betting::{Capital, blocks, unstaked};
use super::normal::{chi_square_deviate, deviate};
use super::whitening::{Calibration, LENGTHS};
use crate::baseline::{Reading, Sample, THRESHOLDS};
use crate::stats::binned;

/// Cameras at a site, from which on peers take part in the decision: a mean over at least four others.
pub const ENOUGH_PEERS: usize = 5;
/// δ: share of the frames that may lie elsewhere and still count as equal.
const MARGIN: f64 = 0.05;
/// The same for the mean reading.
const LEVEL_MARGIN: f64 = 0.004;
/// How many times wider both are for a camera without peers: weather, which they would take off, must count as equal as well.
const WIDER_ALONE: f64 = 2.0;
/// Share of the peers' common movement that a camera may do more or less of.
const REACTION: f64 = 0.2;
/// Peers that disagree `1 + c/√n` times more than expected, n of them, disagree by more than chance (the median of n squared deviates strays by
/// 2.3/√n), and the scale is widened by as much as they do. Much less is asked while the whole site is moved by something: two opposite
/// shocks at once cancel in the mean of the peers, and only their disagreement tells. By simulation (1,000 cameras, 20 runs each at
/// q = 0.1): with 5 in any case 8.8 of 10 drifts among slowly wandering cameras were found; with 7, 9.15, but 3 of 40 runs with nothing but
/// shocks had a false alert.
const DISAGREEMENT: f64 = 7.0;
const DISAGREEMENT_IF_SHAKEN: f64 = 3.0;
/// Share of the capital that bets on repeated pictures. Little: where it wins it wins quickly.
const REPEATS: f64 = 0.05;
/// The same on pictures like nothing before.
const NOVELTY: f64 = 0.05;
/// Logarithm of the evidence of a run from which on something is the matter now.
const RUNNING: f32 = 3.0;
/// Most evidence of a run: so much that one outlasts a lull, where it is to be found when it began, and so little that it is over within
/// minutes, where it is to be found whether it lasts.
const OUTLASTS: f64 = 60.0;
const SOON_OVER: f64 = 8.0;
/// Share of a camera's evidence that the mean over its features is; see [`CameraEvidence::now`].
pub const SINGLE_FEATURES: f64 = (1.0 - REPEATS - NOVELTY) / 2.0;
/// Windows until a filter has forgotten where it started; the same for all, so that the blocks of peers cover the same time.
const WARM_UP: u8 = 4;
/// `√(p(1−p))` at each threshold of a grid that cuts into equal shares.
const DEVIATIONS: [f32; THRESHOLDS] =
    [0.242, 0.331, 0.390, 0.433, 0.464, 0.484, 0.496, 0.5, 0.496, 0.484, 0.464, 0.433, 0.390, 0.331, 0.242];
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
    /// Weighted sums of innovations over the current block of each length.
    blocks: [Block; LENGTHS.len()],
    /// Evidence of this feature.
    pub capital: Capital,
    run: Run,
}

/// A run of evidence, to say later when it began (Page 1954).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Run {
    /// Logarithm of the evidence since `began`, at least 0.
    evidence: f32,
    /// Window in which it began.
    began: u32,
}

impl Run {
    const NONE: Self = Self { evidence: 0.0, began: 0 };

    #[expect(clippy::cast_possible_truncation, reason = "the hot state is kept in single precision")]
    fn follow(&mut self, z: f64, window: u32, most: f64) {
        let risen = f64::from(self.evidence) + z.min(3.0) - 0.5;
        if risen <= 0.0 {
            self.evidence = 0.0;
            return;
        }
        if self.evidence <= 0.0 {
            self.began = window;
        }
        self.evidence = risen.min(most) as f32;
    }

    /// The window in which it began, if there is one.
    fn began(&self) -> Option<u32> {
        (self.evidence > 0.0).then_some(self.began)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Block {
    number: u32,
    windows: u16,
    /// Of how many usual windows.
    worth: f32,
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
            run: Run::NONE,
        }
    }

    /// Takes in a reading; one that is not later than those before is no evidence.
    ///
    /// A window of fewer frames than usual is noisier: it counts, and moves the prediction, by as much less. A prediction never goes
    /// further than the camera wanders: what lies beyond is a change, and must not be grown used to.
    fn observe(&mut self, sample: &Sample, window: u32) {
        if window < self.next {
            return;
        }
        let Calibration { phi, gain, furthest, share_variance: [usual, ..], .. } = self.calibration;
        let missed = phi.powi(i32::try_from(window - self.next).unwrap_or(i32::MAX));
        let worth = usual / (usual + sample.noise);
        let mut innovation = [0.0; THRESHOLDS];
        for (j, (slot, predicted)) in innovation.iter_mut().zip(&mut self.predicted).enumerate() {
            let before = *predicted * missed;
            *slot = sample.reading[j] - before;
            let furthest = furthest * DEVIATIONS[j];
            *predicted = (phi * (before + gain * worth * *slot)).clamp(-furthest, furthest);
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
            block.worth += worth;
            for (sum, innovation) in block.sum.iter_mut().zip(&innovation) {
                *sum += worth * innovation;
            }
        }
    }

    /// The block that ends with this window, if at least nine in ten of its windows came, this one among them: peers are compared over
    /// the same time, and a shock that began while some of them were silent, or their filters cold, would look like a difference.
    fn finished(&self, length: usize, window: u32) -> Option<Finished> {
        let block = &self.blocks[length];
        let whole = LENGTHS[length];
        let ends_now = self.next == window.saturating_add(1) && block.number == window / whole;
        if !ends_now || u32::from(block.windows) * 10 < whole * 9 || block.windows == 0 {
            return None;
        }
        let worth = f64::from(block.worth);
        let mean = block.sum.map(|sum| f64::from(sum) / worth);
        // Fewer windows, and windows of fewer frames, are worth less.
        let scale = f64::from(whole) / worth;
        Some(Finished {
            level: mean.iter().sum::<f64>() / THRESHOLDS as f64,
            mean,
            share_variance: f64::from(self.calibration.share_variance[length]) * scale,
            level_variance: f64::from(self.calibration.level_variance[length]) * scale,
            whole_level_variance: f64::from(self.calibration.level_variance[length]) * scale
                + f64::from(self.calibration.level_left_out),
        })
    }
}

/// A block's mean innovation, with its variances.
struct Finished {
    mean: [f64; THRESHOLDS],
    level: f64,
    share_variance: f64,
    level_variance: f64,
    /// The same with all of the baseline's own error.
    whole_level_variance: f64,
}

/// Evidence that a camera is not as ever, whatever its peers do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Past {
    capital: Capital,
    /// Largest so far, at least 1.
    supremum: f32,
    run: Run,
    /// How often it began anew.
    forgiven: u8,
}

impl Past {
    const NONE: Self = Self { capital: Capital::NONE, supremum: 1.0, run: Run::NONE, forgiven: 0 };

    fn forgive(&mut self) {
        *self = Self { forgiven: self.forgiven.saturating_add(1), ..Self::NONE };
    }
}

/// What evidence that began anew so often counts.
fn share(forgiven: u8) -> f64 {
    0.5_f64.powi(forgiven.into())
}

/// Evidence against one camera within an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CameraEvidence {
    /// Number of the epoch, counted from 1970.
    pub epoch: i64,
    /// Windows of the epoch.
    pub horizon: u32,
    /// Windows of the epoch that are over.
    passed: u32,
    /// One stream per feature of the baseline.
    pub streams: Vec<Stream>,
    /// Independent directions among the features, at least 1.
    pub directions: f32,
    /// Evidence of all features together.
    joint: Capital,
    /// Evidence of repeated pictures.
    repeats: Capital,
    /// Evidence of pictures like nothing before.
    novelty: Capital,
    novel_run: Run,
    /// Evidence against its own past: of its picture, and of what its model says.
    past: [Past; 2],
    /// Largest evidence so far, at least 1.
    pub supremum: f64,
    /// How often it began anew.
    forgiven: u8,
    /// What it began with.
    stake: Stake,
}

/// What the evidence of an epoch begins with: all of it, 1, or what an earlier beginning in the same epoch has left.
///
/// Must hold: the promise. Evidence that an operator ends for the sake of another baseline has had its chance of a false alarm, and what
/// begins in its place is one more. The two are one game where the second begins with what the first had come to: played on from there,
/// the capital still expects never to grow, however often and for whatever reason one begins anew. More than 1 is not taken along, so
/// that nothing is left of what spoke against the camera; after an alert the new beginning is therefore a full one. A camera whose
/// evidence had sunk begins with as little as it had: whoever begins anew every hour gains nothing by it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Stake {
    own: f64,
    /// Of the evidence against its own past: its picture, what its model says.
    past: [f64; 2],
}

impl Stake {
    /// Nothing was staked before.
    pub const WHOLE: Self = Self { own: 1.0, past: [1.0; 2] };

    /// Of the evidence against the camera, 0..=1.
    #[must_use]
    pub const fn own(&self) -> f64 {
        self.own
    }
}

impl CameraEvidence {
    /// No evidence yet.
    #[must_use]
    pub const fn new(epoch: i64, horizon: u32, streams: Vec<Stream>, directions: f32) -> Self {
        Self {
            epoch,
            horizon,
            passed: 0,
            streams,
            directions,
            joint: Capital::NONE,
            repeats: Capital::NONE,
            novelty: Capital::NONE,
            novel_run: Run::NONE,
            past: [Past::NONE; 2],
            supremum: 1.0,
            forgiven: 0,
            stake: Stake::WHOLE,
        }
    }

    /// The same with what an earlier beginning in this epoch has left.
    #[must_use]
    pub fn staking(self, stake: Stake) -> Self {
        Self { stake, ..self }
    }

    /// What another beginning in this epoch may begin with.
    #[must_use]
    pub fn left(&self) -> Stake {
        let at_most_whole = |capital: f64| capital.clamp(0.0, 1.0);
        let unstaked = unstaked(self.passed, self.horizon);
        let mut past = self.stake.past;
        for (stake, past) in past.iter_mut().zip(&self.past) {
            *stake = at_most_whole((past.capital.mean() + unstaked) * share(past.forgiven) * *stake);
        }
        Stake { own: at_most_whole(self.now() * share(self.forgiven) * self.stake.own), past }
    }

    /// Largest evidence so far that the picture, or what the model says of it, is not as ever; 1 while it is, so that what changes at
    /// different times is not added up as if it changed together. What a device says of itself is no evidence of the kind.
    #[must_use]
    pub fn against_past(&self, subject: Subject) -> f64 {
        let past = half(subject).map(|half| self.past[half]).filter(|past| past.run.evidence >= RUNNING);
        past.map_or(1.0, |past| f64::from(past.supremum))
    }

    /// Evidence up to now: a tenth of it repeated pictures and pictures like nothing before, the rest half joint and half the mean over
    /// features.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.moved() + self.repeated() + self.novel() + unstaked(self.passed, self.horizon)
    }

    /// Evidence that the picture is another one.
    fn moved(&self) -> f64 {
        let single =
            self.streams.iter().map(|stream| stream.capital.mean()).sum::<f64>() / self.streams.len().max(1) as f64;
        (1.0 - REPEATS - NOVELTY) * f64::midpoint(self.joint.mean(), single)
    }

    /// Evidence that it is like nothing before.
    fn novel(&self) -> f64 {
        NOVELTY * self.novelty.mean()
    }

    /// Evidence that it is the same picture again and again.
    fn repeated(&self) -> f64 {
        REPEATS * self.repeats.mean()
    }

    /// Begins anew with no evidence: what was found was nothing new.
    ///
    /// Must hold: the promise. What begins anew begins at 1 and expects never to grow, but is one more chance of a false alarm; the j-th
    /// therefore counts `2^−j`, so that all of them together come to no more than the first, of which nothing is left.
    pub fn forgive(&mut self) {
        for stream in &mut self.streams {
            stream.capital = Capital::NONE;
            stream.run = Run::NONE;
            stream.blocks = [Block::default(); LENGTHS.len()];
        }
        (self.joint, self.repeats, self.novelty) = (Capital::NONE, Capital::NONE, Capital::NONE);
        (self.novel_run, self.supremum) = (Run::NONE, 1.0);
        self.forgiven = self.forgiven.saturating_add(1);
        self.past.iter_mut().for_each(Past::forgive);
    }

    /// The same for the evidence against the camera's own past alone.
    pub fn forgive_past(&mut self, subject: Subject) {
        if let Some(half) = half(subject) {
            self.past[half].forgive();
        }
    }

    /// Whether the camera is frozen, rather than changed, as far as the evidence says.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.repeated() > self.moved() + self.novel()
    }

    /// Window in which the strongest present run of evidence began.
    #[must_use]
    pub fn onset(&self) -> Option<u32> {
        let runs = self.streams.iter().map(|stream| stream.run).chain([self.novel_run]);
        runs.max_by(|a, b| a.evidence.total_cmp(&b.evidence))?.began()
    }

    /// Window in which the present run of evidence against the camera's own past began.
    #[must_use]
    pub fn onset_against_past(&self, subject: Subject) -> Option<u32> {
        half(subject).and_then(|half| self.past[half].run.began())
    }
}

/// Where the evidence of a subject is kept.
const fn half(subject: Subject) -> Option<usize> {
    match subject {
        Subject::Picture => Some(0),
        Subject::Model => Some(1),
        Subject::Device => None,
    }
}

/// A camera at its site that has sent a window.
#[derive(Debug)]
pub struct Member<'a> {
    /// Its evidence.
    pub evidence: &'a mut CameraEvidence,
    /// Its readings, ascending by feature.
    pub samples: &'a [Sample],
    /// Standard normal deviate of its repeated pictures, where that can be told.
    pub repeats: Option<f32>,
    /// The same of pictures like nothing before.
    pub novelty: Option<f32>,
}

/// Takes in one window of a site. `window` counts from the beginning of the epoch; `active` is the number of cameras of the site that
/// should have sent theirs, whether they did or not: who comes too late to be compared with his peers is not judged alone.
///
/// Must hold: every block is bet on once, in whatever order and however often windows come.
pub fn observe(members: &mut [Member<'_>], window: u32, active: usize) {
    let mut features = [false; 256];
    for member in members.iter_mut() {
        for sample in member.samples {
            if let Some(stream) = member.evidence.streams.iter_mut().find(|stream| stream.feature == sample.feature) {
                stream.observe(sample, window);
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
        let present = (0..=u8::MAX).filter(|feature| features[usize::from(*feature)]);
        let mut ended: Vec<Ended> = present.map(|feature| Ended::of(members, feature, length, window)).collect();
        let shaken = ended.iter().filter_map(|ended| ended.peers.as_ref()).any(Peers::are_shaken);
        for ended in &mut ended {
            if let Some(peers) = &mut ended.peers {
                peers.widen(shaken);
            }
            // Peers that are there but cannot be compared over this time: then nothing can be said of it.
            if ended.peers.is_some() || active < ENOUGH_PEERS {
                close(members, &mut sums, ended, length, window);
            }
        }
        for (member, sum) in members.iter_mut().zip(&sums) {
            let evidence = &mut *member.evidence;
            if let Some(z) = sum.deviate(f64::from(evidence.directions)) {
                let blocks = blocks(evidence.horizon, *windows);
                evidence.joint.bet(length, window / windows, blocks, z);
            }
            for (past, z) in evidence.past.iter_mut().zip(sum.past(f64::from(evidence.directions))) {
                if let Some(z) = z {
                    past.capital.bet(length, window / windows, blocks(evidence.horizon, *windows), z);
                    if length == 0 {
                        past.run.follow(z, window, SOON_OVER);
                    }
                }
            }
        }
    }
    let news = News::of(members);
    for Member { evidence, repeats, novelty, .. } in members {
        // A window that came before has been bet on.
        let comes = window >= evidence.passed;
        let blocks = blocks(evidence.horizon, LENGTHS[0]);
        if let Some(z) = repeats.filter(|_| comes) {
            evidence.repeats.bet(0, window, blocks, f64::from(z));
        }
        if let Some(z) = novelty.filter(|_| comes).and_then(|z| news.beside_the_others(z, active)) {
            evidence.novelty.bet(0, window, blocks, z);
            evidence.novel_run.follow(z, window, OUTLASTS);
        }
        evidence.passed = evidence.passed.max(window.saturating_add(1));
        evidence.supremum = evidence.supremum.max(evidence.now() * share(evidence.forgiven) * evidence.stake.own);
        let unstaked = unstaked(evidence.passed, evidence.horizon);
        for (past, stake) in evidence.past.iter_mut().zip(evidence.stake.past) {
            #[expect(clippy::cast_possible_truncation, reason = "the hot state is kept in single precision")]
            let now = ((past.capital.mean() + unstaked) * share(past.forgiven) * stake) as f32;
            past.supremum = past.supremum.max(now);
        }
    }
}

/// How many cameras of a site show what they never showed.
struct News {
    cameras: usize,
    novel: usize,
}

impl News {
    fn of(members: &[Member<'_>]) -> Self {
        let deviates = members.iter().filter_map(|member| member.novelty);
        deviates.fold(Self { cameras: 0, novel: 0 }, |news, z| Self {
            cameras: news.cameras + 1,
            novel: news.novel + usize::from(z > 0.0),
        })
    }

    /// A camera's deviate, and no more than what the share of its peers that show something new as well leaves of it: fog and a power cut
    /// are new to a whole site. `None` where it has peers that cannot be asked.
    fn beside_the_others(&self, z: f32, active: usize) -> Option<f64> {
        if active < ENOUGH_PEERS {
            return Some(z.into());
        }
        if self.cameras < ENOUGH_PEERS {
            return None;
        }
        let novel = self.novel - usize::from(z > 0.0);
        Some(f64::from(z).min(deviate(novel as f64 / (self.cameras - 1) as f64)))
    }
}

/// Squared deviates of the features of a camera, against its own past and against its peers.
#[derive(Clone, Copy, Debug, Default)]
struct Squares {
    own: f64,
    peers: f64,
    features: u32,
    /// Of `own`, the parts of picture and model, with their number of features.
    subjects: [(f64, u32); 2],
}

impl Squares {
    /// Deviates against the own past. Of a picture's features as many are independent as the camera's move in independent directions; what
    /// a model says is one thing however it is measured.
    fn past(&self, directions: f64) -> [Option<f64>; 2] {
        let [(picture, features), (model, said)] = self.subjects;
        let deviate = |sum: f64, features: u32, freedom: f64| {
            let freedom = freedom.clamp(1.0, f64::from(features.max(1)));
            (features > 0).then(|| chi_square_deviate(sum * freedom / f64::from(features), freedom))
        };
        [deviate(picture, features, directions), deviate(model, said, 1.0)]
    }

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
        let alone = if peers.is_some() { 1.0 } else { WIDER_ALONE };
        let margin = if stream.circular { 2.0 * MARGIN } else { MARGIN } * response * alone;

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
        stream.blocks[length].windows = 0;
        stream.capital.bet(length, window / whole, of_epoch, z);
        if length == 0 {
            stream.run.follow(z, window, OUTLASTS);
        }

        let forgiven = LEVEL_MARGIN * response * alone;
        let square = |level: f64, forgiven: f64, variance: f64| (level.abs() - forgiven).max(0.0).powi(2) / variance;
        let own = square(block.level, forgiven, block.level_variance);
        let sum = &mut sums[*index];
        sum.features += 1;
        sum.own += own;
        if let Some(half) = Feature::from_number(stream.feature).and_then(|feature| half(feature.subject())) {
            let (squares, features) = &mut sum.subjects[half];
            *squares += own;
            *features += 1;
        }
        sum.peers += against.map_or(own, |others| {
            square(
                others.residual_level,
                forgiven + REACTION * others.common_level.abs(),
                block.level_variance * others.widening,
            )
        });
    }
}

/// Blocks of all cameras of a site.
struct Peers {
    count: f64,
    sum: [f64; THRESHOLDS],
    level: f64,
    /// Mean variance of their levels.
    level_variance: f64,
    /// How many times more than expected they disagree.
    disagreement: f64,
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
        // About the middle one, which a camera that has changed does not move.
        let middle = median(blocks.iter().map(|(.., block)| block.level).collect());
        let squares = blocks.iter().map(|(.., block)| (block.level - middle).powi(2) / block.whole_level_variance);
        let disagreement = median(squares.collect()) / MEDIAN_SQUARE;
        let level_variance = blocks.iter().map(|(.., block)| block.level_variance).sum::<f64>() / count;
        Some(Self { count, sum, level, level_variance, disagreement, widening: count / (count - 1.0) })
    }

    /// Whether something moves all of them: their mean is off by more than a single one usually is.
    fn are_shaken(&self) -> bool {
        (self.level / self.count).powi(2) > self.level_variance
    }

    /// Widens the scale where they disagree by more than chance.
    fn widen(&mut self, shaken: bool) {
        let chance = if shaken { DISAGREEMENT_IF_SHAKEN } else { DISAGREEMENT } / self.count.sqrt();
        if self.disagreement > 1.0 + chance {
            self.widening *= self.disagreement;
        }
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

/// The median of at least one number.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    f64::midpoint(numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2])
}

/// Kolmogorov-Smirnov's distance on the grid, or Kuiper's on a circle.
fn distance(differences: &[f64; THRESHOLDS], circular: bool) -> f64 {
    let (low, high) = differences.iter().fold((0.0_f64, 0.0_f64), |(low, high), &d| (low.min(d), high.max(d)));
    if circular { high - low } else { high.max(-low) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::whitening::{Memory, Own, Variogram};

    /// A camera with two features whose windows are independent.
    fn camera() -> CameraEvidence {
        let none = Variogram::default();
        let own = Own { shares: &none, levels: &none, windows: 1000, floor: [1.0 / 60.0; LENGTHS.len()] };
        let calibration = Calibration::new(Memory { phi: 0.0, sill: 0.0, level_sill: 0.0 }, &own);
        let mut streams: Vec<Stream> = (0..2).map(|feature| Stream::new(feature, false, calibration, None)).collect();
        for stream in &mut streams {
            stream.cold = 0;
        }
        CameraEvidence::new(0, 240, streams, 2.0)
    }

    fn samples(difference: f32) -> Vec<Sample> {
        (0..2).map(|feature| Sample { feature, noise: 0.0, reading: [difference; THRESHOLDS] }).collect()
    }

    fn judge(cameras: &mut [CameraEvidence], differences: &[f32], window: u32, active: usize) {
        let samples: Vec<Vec<Sample>> = differences.iter().map(|&difference| samples(difference)).collect();
        let mut members: Vec<Member<'_>> = cameras
            .iter_mut()
            .zip(&samples)
            .map(|(evidence, samples)| Member { evidence, samples, repeats: None, novelty: None })
            .collect();
        observe(&mut members, window, active);
    }

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
                let samples = vec![samples(0.0); cameras.len()];
                let mut members: Vec<Member<'_>> = cameras
                    .iter_mut()
                    .zip(&samples)
                    .zip(novel)
                    .map(|((evidence, samples), novel)| {
                        let novelty = Some(if *novel { 1.4 } else { 0.0 });
                        Member { evidence, samples, repeats: None, novelty }
                    })
                    .collect();
                let active = members.len();
                observe(&mut members, window, active);
            }
        };
        let (mut one, mut all, mut alone) = (vec![camera(); 5], vec![camera(); 5], vec![camera(); 1]);
        show(&mut one, &[true, false, false, false, false]);
        show(&mut all, &[true; 5]);
        show(&mut alone, &[true]);
        assert!(one[0].supremum > 1e4 && one[0].onset() == Some(0), "{} {:?}", one[0].supremum, one[0].onset());
        assert!(one[1..].iter().all(|camera| camera.supremum < 2.0));
        assert!(all.iter().all(|camera| camera.supremum < 2.0), "{}", all[0].supremum);
        assert!(alone[0].supremum > 1e4, "without peers there is nobody to ask");
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

    /// A standard normal deviate, nearly: twelve uniform numbers of a linear congruential generator (Knuth's MMIX constants).
    fn deviate(state: &mut u64) -> f32 {
        let mut uniform = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f32::from(u16::try_from(*state >> 48).expect("16 bits")) / 65_536.0
        };
        (0..12).map(|_| uniform()).sum::<f32>() - 6.0
    }

    /// On how many of 2,000 quiet days the evidence doubles, where it begins anew every so many windows.
    fn days_that_double(every: u32, stake: impl Fn(&CameraEvidence) -> Stake) -> u32 {
        let (mut state, mut count) = (11, 0);
        for _ in 0..2_000 {
            let (mut evidence, mut reached) = (camera(), false);
            for window in 0..240_u32 {
                if window > 0 && window % every == 0 {
                    evidence = camera().staking(stake(&evidence));
                }
                for (length, windows) in LENGTHS.iter().enumerate() {
                    if (window + 1).is_multiple_of(*windows) {
                        let of = blocks(evidence.horizon, *windows);
                        let mut bet = |capital: &mut Capital| {
                            capital.bet(length, window / windows, of, f64::from(deviate(&mut state)));
                        };
                        bet(&mut evidence.joint);
                        bet(&mut evidence.repeats);
                        evidence.streams.iter_mut().for_each(|stream| bet(&mut stream.capital));
                    }
                }
                evidence.passed = window + 1;
                reached |= evidence.now() * evidence.stake.own >= 2.0;
            }
            count += u32::from(reached);
        }
        count
    }

    #[test]
    fn who_begins_anew_with_what_is_left_has_fewer_chances_than_with_a_whole_stake_and_than_without_beginning_anew() {
        let once = days_that_double(240, |_| Stake::WHOLE);
        let left = days_that_double(20, CameraEvidence::left);
        let whole = days_that_double(20, |_| Stake::WHOLE);
        println!("{once} of 2,000 days; beginning anew {left}, and {whole}");
        assert!(left <= once && 3 * whole > 5 * left, "{once} {left} {whole}");
    }

    #[test]
    fn what_is_left_is_never_more_than_whole_and_weighs_what_comes_after_it() {
        let mut risen = vec![camera()];
        (0..20).for_each(|window| judge(&mut risen, &[0.5], window, 1));
        let Stake { own, past: [picture, model] } = risen[0].left();
        assert_eq!([own, picture], [1.0; 2]);
        assert!(model < 1.0, "of which nothing was said");
        let mut sunk = vec![camera()];
        (0..120).for_each(|window| judge(&mut sunk, &[0.0], window, 1));
        let stake = sunk[0].left();
        assert!(stake.own < 0.9 && stake.past[0] < 0.9, "{stake:?}");
        let (mut full, mut less) = (vec![camera()], vec![camera().staking(stake)]);
        for cameras in [&mut full, &mut less] {
            (120..160).for_each(|window| judge(cameras, &[0.4], window, 1));
        }
        assert!((less[0].supremum / full[0].supremum - stake.own).abs() < 1e-9);
        let against = |cameras: &[CameraEvidence]| cameras[0].against_past(Subject::Picture);
        assert!((against(&less) / against(&full) - stake.past[0]).abs() < 1e-6);
        assert!(less[0].left().own <= 1.0);
    }

    #[test]
    fn a_late_window_never_makes_more_capital_than_there_is() {
        let mut cameras = vec![camera()];
        for window in (100..200).step_by(7).chain([3]) {
            judge(&mut cameras, &[0.0], window, 1);
            assert!(cameras[0].now() <= 1.0 + 1e-9, "window {window}: {}", cameras[0].now());
        }
    }

    #[test]
    fn a_window_twice_as_noisy_as_usual_counts_half() {
        let usual = Sample { feature: 0, noise: 0.0, reading: [0.4; THRESHOLDS] };
        let mut stream = camera().streams.remove(0);
        stream.observe(&usual, 0);
        stream.observe(&Sample { noise: stream.calibration.share_variance[0], ..usual }, 1);
        let block = &stream.blocks[1];
        assert!((block.worth - 1.5).abs() < 1e-6 && (block.sum[7] - 0.6).abs() < 1e-6, "{block:?}");
    }
}
