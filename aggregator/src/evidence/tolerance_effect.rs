//! What a window is worth when differences within the tolerance do not count.
//!
//! [`super::design_effect`] measures the spread of whole distribution functions between windows. A camera whose level wanders a
//! little from window to window, all of it far within what anybody would act on, then seems to carry one value per window, and
//! no change however large would be believed. The statistic used for alerts, `D_t`, forgives shifts of up to `t` bins; so here
//! the baseline windows' own `D_t` against their sum is measured. For `n` independent values `E[D²] ≈ π²/(12·n)`
//! (Kolmogorov's distribution), which gives `n_eff = π²/(12·mean D_t²)`.
//!
//! Must hold: `M` windows support no probability below `1/(M+1)` for a single further one, however quiet they were (the rank of
//! an exchangeable window). The size is therefore capped where the tail `2·exp(−2·n·D²)` reaches that at `D = 1`:
//! `n_eff ≤ ln(2(M+1))/2`. The larger of this size and the one of [`super::design_effect`] may be used, because both are fixed
//! before the window under test is seen.

use super::design_effect::allowance;
use crate::stats::binned;
use crate::stats::error::StatisticsError;

/// Independent values one more window of this camera is worth under the tolerance; above 0.
///
/// # Errors
/// As [`binned::kolmogorov_smirnov`]; `TooFew` below 2 windows.
#[expect(clippy::cast_precision_loss, reason = "counts of windows stay far below 2⁵³")]
pub fn effective_window(
    windows: &[&[u32; 256]],
    pooled: &[u32; 256],
    tolerance: usize,
    circular: bool,
) -> Result<f64, StatisticsError> {
    let distance = if circular { binned::kuiper } else { binned::kolmogorov_smirnov };
    let mut squares = 0.0;
    for window in windows {
        squares += distance(window.as_slice(), pooled.as_slice(), tolerance)?.powi(2);
    }
    let count = windows.len() as f64;
    let mean = squares / count * allowance(windows.len())?;
    let measured = std::f64::consts::PI.powi(2) / (12.0 * mean.max(f64::MIN_POSITIVE));
    Ok(measured.min((2.0 * (count + 1.0)).ln() / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bin: usize) -> [u32; 256] {
        let mut counts = [0; 256];
        counts[bin] = 60;
        counts
    }

    fn pooled(windows: &[&[u32; 256]]) -> [u32; 256] {
        let mut sum = [0; 256];
        for window in windows {
            for (slot, count) in sum.iter_mut().zip(window.iter()) {
                *slot += count;
            }
        }
        sum
    }

    #[test]
    fn wander_within_the_tolerance_costs_nothing_but_the_cap() {
        let parts: Vec<[u32; 256]> = (0..60).map(|i| at(100 + i % 5)).collect();
        let windows: Vec<&[u32; 256]> = parts.iter().collect();
        let sum = pooled(&windows);
        let cap = (2.0_f64 * 61.0).ln() / 2.0;
        assert_eq!(effective_window(&windows, &sum, 8, false), Ok(cap));
        let strict = effective_window(&windows, &sum, 0, false).expect("windows");
        assert!(strict < 2.0, "without a tolerance the same wander costs: {strict}");
    }

    #[test]
    fn wander_beyond_the_tolerance_is_charged() {
        let parts: Vec<[u32; 256]> = (0..60).map(|i| at(20 + 25 * (i % 8))).collect();
        let windows: Vec<&[u32; 256]> = parts.iter().collect();
        let size = effective_window(&windows, &pooled(&windows), 8, false).expect("windows");
        assert!(size < 2.0, "most of the baseline lies elsewhere: {size}");
    }
}
