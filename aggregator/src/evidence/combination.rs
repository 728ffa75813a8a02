//! One p-value for many: is there anything at all?
//!
//! Simes (1986), `min m·p_(i)/i`, under independence or positive dependence; Fisher (1925), `−2Σln p` against chi-square with 2m
//! degrees of freedom, under independence; Cauchy (Liu and Xie 2020), the mean of `cot(πp)` against the Cauchy distribution,
//! good in the tail under much dependence.

use std::f64::consts::PI;

use super::fdr::{check, count, step_up};
use crate::stats::chi_square;
use crate::stats::error::StatisticsError;

/// Simes' global p-value.
///
/// # Errors
/// `Empty`, `NotANumber`, `Negative` and `AboveOne` for bad p-values.
pub fn simes(p: &[f64]) -> Result<f64, StatisticsError> {
    check(p)?;
    Ok(step_up(p, count(p.len())).into_iter().fold(1.0, f64::min))
}

/// Fisher's global p-value; 0 if any p is 0.
///
/// # Errors
/// As [`simes`].
pub fn fisher(p: &[f64]) -> Result<f64, StatisticsError> {
    check(p)?;
    let statistic = p.iter().map(|p| -2.0 * p.ln()).sum::<f64>().max(0.0);
    if statistic.is_infinite() {
        return Ok(0.0);
    }
    chi_square::survival(statistic, 2.0 * count(p.len()))
}

/// The Cauchy combination; 0 if any p is 0, otherwise 1 if any p is 1.
///
/// # Errors
/// As [`simes`].
pub fn cauchy(p: &[f64]) -> Result<f64, StatisticsError> {
    check(p)?;
    if p.iter().any(|&p| p <= 0.0) {
        return Ok(0.0);
    }
    // cot(πp), measured from the nearer end so that neither tail loses digits.
    let cotangent = |p: f64| if p < 0.5 { 1.0 / (PI * p).tan() } else { -1.0 / (PI * (1.0 - p)).tan() };
    let mean = p.iter().map(|&p| cotangent(p)).sum::<f64>() / count(p.len());
    let tail = |height: f64| (1.0 / height).atan() / PI;
    Ok(if mean > 0.0 { tail(mean) } else { 1.0 - tail(-mean) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_p_value_is_its_own_combination() {
        for p in [1e-250, 1e-9, 0.3, 0.5, 0.8, 1.0] {
            for combined in [simes(&[p]).unwrap(), fisher(&[p]).unwrap(), cauchy(&[p]).unwrap()] {
                assert!((combined / p - 1.0).abs() < 1e-9, "{p}: {combined}");
            }
        }
    }

    #[test]
    fn tiny_p_values_keep_their_digits_in_the_cauchy_combination() {
        // For small p the cotangent is 1/(πp), so four values of which one is tiny combine to four times it.
        let combined = cauchy(&[2e-14, 0.5, 0.4, 0.6]).unwrap();
        assert!((combined / 8e-14 - 1.0).abs() < 1e-12, "{combined:e}");
    }

    #[test]
    fn zero_and_one_are_no_nan() {
        for p in [vec![0.0, 1.0], vec![0.0, 0.5], vec![1.0, 1.0], vec![1.0, 0.2]] {
            for combined in [simes(&p).unwrap(), fisher(&p).unwrap(), cauchy(&p).unwrap()] {
                assert!((0.0..=1.0).contains(&combined), "{p:?}: {combined}");
            }
        }
        assert!(simes(&[]).is_err() && fisher(&[f64::NAN]).is_err() && cauchy(&[2.0]).is_err());
    }
}
