//! How many frames are worth one independent frame, from within a stream: a ladder of block sums of the indicator `x ≤ threshold`.
//!
//! At level `l` the indicators are summed over blocks of `2^l` frames; `m` whole blocks, `S₁` the sum of their sums and `S₂` of
//! their squares, all integers, so ladders of different windows add up. `τ_l = ((S₂ − S₁²/m)/(m−1))/2^l/(p(1−p))` is how much
//! larger the variance of a block is than independent frames would make it, and `τ = max(1, τ_l over levels with m ≥ 30)`.
//!
//! **Not what decisions are made on, and not on the wire.** It was meant for a camera's first half hour, before there are windows to
//! compare with each other. But it cannot see that every stretch of time has a level of its own, which cameras have: on clean clips of
//! five cameras, a minute known and the tolerances of the catalogue in force, it rejects 32 of 736 windows at 0.001, 43 times as many as
//! it may (`tests/tests/scenes/cold_start.rs`). So a camera is not judged before
//! [`crate::baseline::MIN_WINDOWS`] windows, and agents do not spend 500 bytes a feature on it. It stays as a reference for the traps.

use crate::stats::error::StatisticsError;

/// Levels of a ladder: blocks of up to 512 frames.
pub const LEVELS: usize = 10;

/// The fewest blocks a level needs to be believed.
pub const FEWEST_BLOCKS: u64 = 30;

/// Block sums at one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rung {
    /// m, number of whole blocks.
    pub blocks: u64,
    /// `S₁`, frames below the threshold in whole blocks.
    pub sum: u64,
    /// `S₂`, sum of the squares of the block sums.
    pub squares: u64,
}

impl Rung {
    /// `τ_l` for blocks of `2^level` frames, None below two blocks or where the indicator does not vary (`p` is 0 or 1).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    pub fn tau(&self, level: usize, p: f64) -> Option<f64> {
        let variance = p * (1.0 - p);
        if self.blocks < 2 || variance <= 0.0 {
            return None;
        }
        let (m, sum) = (self.blocks as f64, self.sum as f64);
        let length = 2_f64.powi(i32::try_from(level).ok()?);
        Some((self.squares as f64 - sum * sum / m) / (m - 1.0) / length / variance)
    }
}

/// Block sums at all levels, and the blocks that are not whole yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndicatorLadder {
    frames: u64,
    pending: [u64; LEVELS],
    rungs: [Rung; LEVELS],
}

impl IndicatorLadder {
    /// A ladder of one threshold, without frames.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next frame: whether its value is at most the threshold.
    pub fn push(&mut self, below: bool) {
        self.frames = self.frames.saturating_add(1);
        for (level, (pending, rung)) in self.pending.iter_mut().zip(&mut self.rungs).enumerate() {
            *pending += u64::from(below);
            if self.frames.trailing_zeros() as usize >= level {
                rung.blocks += 1;
                rung.sum += *pending;
                rung.squares += *pending * *pending;
                *pending = 0;
            }
        }
    }

    /// Frames so far.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// The block sums, from single frames upwards.
    #[must_use]
    pub const fn rungs(&self) -> &[Rung; LEVELS] {
        &self.rungs
    }

    /// What the ladder says about the whole stream.
    ///
    /// # Errors
    /// As [`tau`].
    pub fn tau(&self) -> Result<f64, StatisticsError> {
        tau(&self.rungs)
    }
}

/// `τ` of rungs from single frames upwards: frames per independent frame, at least 1. If the indicator never changes there is no
/// variance to judge by and all frames count as a single one.
///
/// # Errors
/// `Empty` without rungs or frames.
#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
pub fn tau(rungs: &[Rung]) -> Result<f64, StatisticsError> {
    let single = rungs.first().filter(|rung| rung.blocks > 0).ok_or(StatisticsError::Empty { what: "ladder" })?;
    if single.sum == 0 || single.sum == single.blocks {
        return Ok(single.blocks as f64);
    }
    let p = single.sum as f64 / single.blocks as f64;
    let levels = rungs.iter().enumerate().filter(|(_, rung)| rung.blocks >= FEWEST_BLOCKS);
    Ok(levels.filter_map(|(level, rung)| rung.tau(level, p)).fold(1.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_repeated_eight_times_are_worth_an_eighth() {
        let mut ladder = IndicatorLadder::new();
        let mut state = 3_u64;
        for _ in 0..4000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (0..8).for_each(|_| ladder.push(state >> 63 == 1));
        }
        let tau = ladder.tau().unwrap();
        assert!((7.0..12.0).contains(&tau), "{tau}");
        assert_eq!(ladder.frames(), 32_000);
    }

    #[test]
    fn a_stream_that_never_crosses_its_threshold_is_one_value() {
        let mut ladder = IndicatorLadder::new();
        (0..500).for_each(|_| ladder.push(true));
        assert!((ladder.tau().unwrap() - 500.0).abs() < 1e-12);
        assert!(IndicatorLadder::new().tau().is_err());
    }
}
