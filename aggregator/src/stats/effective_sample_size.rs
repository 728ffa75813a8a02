//! How many independent values a series is worth: by its lag-1 correlation, and by blocking.
//!
//! `r₁ = Σ_{t≥2}(x_t−x̄)(x_{t−1}−x̄)/Σ(x_t−x̄)²`, `n_eff = n(1−r₁)/(1+r₁)` with `r₁` clamped to 0..1. Right for an AR(1) series
//! only: on a slow signal with sensor noise, which is what a camera sees, it is far too optimistic. For display and comparison;
//! tests use the design effect between windows. Blocking (Flyvbjerg and Petersen 1989): means of neighbouring pairs, over and
//! over; once blocks are longer than the memory, the squared error of the mean `s²/blocks` stops growing.

use super::error::StatisticsError;
use super::sample::Sample;

/// The fewest blocks a level of the blocking may have.
const FEWEST_BLOCKS: usize = 4;

/// One level of the blocking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Values a block, a power of two.
    pub block: usize,
    /// Number of whole blocks, at least 4.
    pub blocks: usize,
    /// Variance of the block means, with blocks − 1 in the denominator.
    pub variance: f64,
    /// Squared standard error of the mean of the series.
    pub squared_error: f64,
}

/// Memory of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Mean of the series.
    pub mean: f64,
    /// Variance of the series, with n in the denominator.
    pub variance: f64,
    /// Lag-1 correlation; None for a constant series, where it is undefined.
    pub lag_one: Option<f64>,
    /// Independent values by the lag-1 rule; 1 for a constant series.
    pub effective_size: f64,
    /// Blocking, from single values upwards; empty for a constant series.
    pub levels: Vec<Level>,
}

/// Measures the memory of a series in the order of time.
///
/// # Errors
/// `Empty`, `NotANumber` and `Infinite` for a bad series.
pub fn measure(series: &[f64]) -> Result<Memory, StatisticsError> {
    let constant = {
        let sample = Sample::finite("series", series)?;
        sample.sorted().first() == sample.sorted().last()
    };
    let n = size(series.len());
    let mean = series.iter().sum::<f64>() / n;
    if constant {
        return Ok(Memory { mean, variance: 0.0, lag_one: None, effective_size: 1.0, levels: Vec::new() });
    }
    let squares: f64 = series.iter().map(|x| (x - mean).powi(2)).sum();
    let products: f64 = series.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    let lag_one = products / squares;
    let clamped = lag_one.clamp(0.0, 1.0);
    let effective_size = (n * (1.0 - clamped) / (1.0 + clamped)).max(1.0);
    let mut levels = Vec::new();
    let (mut means, mut block) = (series.to_vec(), 1);
    while means.len() >= FEWEST_BLOCKS {
        let count = size(means.len());
        let centre = means.iter().sum::<f64>() / count;
        let variance = means.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / (count - 1.0);
        levels.push(Level { block, blocks: means.len(), variance, squared_error: variance / count });
        means = means.chunks_exact(2).map(|pair| f64::midpoint(pair[0], pair[1])).collect();
        block *= 2;
    }
    Ok(Memory { mean, variance: squares / n, lag_one: Some(lag_one), effective_size, levels })
}

#[expect(clippy::cast_precision_loss, reason = "the length of a series")]
const fn size(length: usize) -> f64 {
    length as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_one_believes_a_slow_signal_under_noise_and_blocking_does_not() {
        let mut state = 5_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX) - 0.5
        };
        let mut slow = 0.0;
        let series: Vec<f64> = (0..8192)
            .map(|_| {
                slow = 0.99 * slow + 0.14 * noise();
                slow + noise()
            })
            .collect();
        let memory = measure(&series).unwrap();
        let worst = memory.levels.iter().map(|level| level.squared_error).fold(0.0, f64::max);
        let by_blocks = memory.variance / worst;
        assert!(memory.effective_size > 5.0 * by_blocks, "{} {by_blocks}", memory.effective_size);
    }

    #[test]
    fn a_constant_series_is_one_value() {
        let memory = measure(&[3.0; 20]).unwrap();
        assert!((memory.effective_size - 1.0).abs() < 1e-15 && memory.lag_one.is_none() && memory.levels.is_empty());
        assert!(measure(&[]).is_err() && measure(&[f64::NAN]).is_err());
    }
}
