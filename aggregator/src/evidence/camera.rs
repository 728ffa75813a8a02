//! What there is against one camera within an epoch.
//!
//! The capital of single features is averaged, which is valid however features depend on each other. Half of the evidence is that, half
//! what all features say together, but for a quarter: that is bet on pictures repeated exactly, and on pictures like nothing before.
//!
//! Beside it stands the evidence against the camera's **own past** alone ([`CameraEvidence::against_past`]), whatever its peers do: no
//! camera is alerted for that, but where more than half of a site, of a model's cameras or of the fleet have it, the whole has changed.

use driftglass_protocol::feature::Subject;
use serde::{Deserialize, Serialize};

use super::betting::{Capital, Single, blocks, unstaked, unstaked_singly};
use super::joint::{Squares, half};
use super::run::{OUTLASTS, Run, SOON_OVER};
use super::stake::Stake;
use super::stream::Stream;
use super::whitening::LENGTHS;

/// Share of the capital that bets on repeated pictures. Little: where it wins it wins quickly.
const REPEATS: f64 = 0.05;
/// The same on pictures like nothing before.
const NOVELTY: f64 = 0.2;
/// Logarithm of the evidence of a run from which on something is the matter now.
const RUNNING: f32 = 3.0;
/// Share of a camera's evidence that the mean over its features is; see [`CameraEvidence::now`].
pub const SINGLE_FEATURES: f64 = (1.0 - REPEATS - NOVELTY) / 2.0;

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
    pub(super) passed: u32,
    /// One stream per feature of the baseline.
    pub streams: Vec<Stream>,
    /// Independent directions among the features, at least 1.
    pub directions: f32,
    /// Evidence of all features together.
    pub(super) joint: Capital,
    /// Evidence of repeated pictures.
    pub(super) repeats: Capital,
    /// Evidence of pictures like nothing before.
    novelty: Single,
    novel_run: Run,
    /// Evidence against its own past: of its picture, and of what its model says.
    past: [Past; 2],
    /// Largest evidence so far, at least 1.
    pub supremum: f64,
    /// How often it began anew.
    forgiven: u8,
    /// What it began with.
    pub(super) stake: Stake,
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
            novelty: Single::NONE,
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

    /// Evidence up to now: a quarter of it repeated pictures and pictures like nothing before, the rest half joint and half the mean over
    /// features.
    #[must_use]
    pub fn now(&self) -> f64 {
        let unstaked = (1.0 - REPEATS - NOVELTY) * unstaked(self.passed, self.horizon)
            + (REPEATS + NOVELTY) * unstaked_singly(self.passed, self.horizon);
        self.moved() + self.repeated() + self.novel() + unstaked
    }

    /// Evidence that the picture is another one.
    fn moved(&self) -> f64 {
        let single = self.streams.iter().map(Stream::evidence).sum::<f64>() / self.streams.len().max(1) as f64;
        (1.0 - REPEATS - NOVELTY) * f64::midpoint(self.joint.mean(), single)
    }

    /// Evidence that it is like nothing before.
    fn novel(&self) -> f64 {
        NOVELTY * self.novelty.staked()
    }

    /// Evidence that it is the same picture again and again.
    fn repeated(&self) -> f64 {
        REPEATS * self.repeats.staked(0)
    }

    /// Begins anew with no evidence: what was found was nothing new.
    ///
    /// Must hold: the promise. What begins anew begins at 1 and expects never to grow, but is one more chance of a false alarm; the j-th
    /// therefore counts `2^−j`, so that all of them together come to no more than the first, of which nothing is left.
    pub fn forgive(&mut self) {
        self.streams.iter_mut().for_each(Stream::forgive);
        (self.joint, self.repeats, self.novelty) = (Capital::NONE, Capital::NONE, Single::NONE);
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

    /// Bets on what all features say together of the block that ends with this window.
    pub(super) fn bet_on_all(&mut self, squares: &Squares, length: usize, window: u32) {
        let (directions, block) = (f64::from(self.directions), window / LENGTHS[length]);
        let blocks = blocks(self.horizon, LENGTHS[length]);
        if let Some(z) = squares.deviate(directions) {
            self.joint.bet(length, block, blocks, z);
        }
        for (past, z) in self.past.iter_mut().zip(squares.past(directions)) {
            let Some(z) = z else { continue };
            past.capital.bet(length, block, blocks, z);
            if length == 0 {
                past.run.follow(z, window, SOON_OVER);
            }
        }
    }

    /// Closes a window: bets on what no distance tells, and takes stock.
    pub(super) fn close(&mut self, repeats: Option<f64>, novelty: Option<f64>, window: u32) {
        // A window that came before has been bet on.
        let comes = window >= self.passed;
        let blocks = blocks(self.horizon, LENGTHS[0]);
        if let Some(z) = repeats.filter(|_| comes) {
            self.repeats.bet(0, window, blocks, z);
        }
        if let Some(log_e) = novelty.filter(|_| comes) {
            self.novelty.bet(window, blocks, log_e);
            self.novel_run.follow(log_e + 0.5, window, OUTLASTS);
        }
        self.passed = self.passed.max(window.saturating_add(1));
        self.supremum = self.supremum.max(self.now() * share(self.forgiven) * self.stake.own);
        let unstaked = unstaked(self.passed, self.horizon);
        for (past, stake) in self.past.iter_mut().zip(self.stake.past) {
            #[expect(clippy::cast_possible_truncation, reason = "the hot state is kept in single precision")]
            let now = ((past.capital.mean() + unstaked) * share(past.forgiven) * stake) as f32;
            past.supremum = past.supremum.max(now);
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
        let runs = self.streams.iter().map(|stream| stream.state.run).chain([self.novel_run]);
        runs.max_by(|a, b| a.evidence.total_cmp(&b.evidence))?.began()
    }

    /// Window in which the present run of evidence against the camera's own past began.
    #[must_use]
    pub fn onset_against_past(&self, subject: Subject) -> Option<u32> {
        half(subject).and_then(|half| self.past[half].run.began())
    }
}
