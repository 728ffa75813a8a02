//! One p-value for many: is there anything at all?
//!
//! Simes (1986), `min m·p_(i)/i`, under independence or positive dependence; Fisher (1925), `−2Σln p` against chi-square with 2m
//! degrees of freedom, under independence; Cauchy (Liu and Xie 2020), the mean of `cot(πp)` against the Cauchy distribution,
//! good in the tail under much dependence.
//!
//! And for more than half: [`majority`] (Benjamini and Heller 2008, partial conjunction), under any dependence.

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

/// The p-value of "at most half of these have changed": `(m − k + 1)·p_(k)` with `k` more than half of `m`, by Bonferroni over every way
/// in which fewer than `k` could have. `of` hypotheses there are, those not in `p` count as p = 1. 1 where there is none.
#[must_use]
pub fn majority(p: &mut [f64], of: usize) -> f64 {
    let of = of.max(p.len());
    let needed = of / 2 + 1;
    if p.len() < needed {
        return 1.0;
    }
    let (_, &mut middle, _) = p.select_nth_unstable_by(needed - 1, f64::total_cmp);
    (count(of - needed + 1) * middle).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_them_is_no_majority_and_one_more_is() {
        let (few, many) = ([1e-9, 1e-9, 0.5, 0.7], [1e-9, 0.5, 1e-9, 1e-9]);
        assert!(majority(&mut few.clone(), 4) > 0.99);
        assert!((majority(&mut many.clone(), 4) - 2e-9).abs() < 1e-20);
        assert!((majority(&mut many.clone(), 6) - 1.0).abs() < 1e-12, "two of six were silent");
        assert!((majority(&mut [1e-3], 1) - 1e-3).abs() < 1e-15, "one of one");
        assert!((majority(&mut [], 0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn where_nothing_changed_a_majority_is_rejected_no_more_often_than_promised_however_cameras_depend() {
        let mut random = 5_u64;
        let mut uniform = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(random >> 33).expect("31 bits")) / f64::from(1_u32 << 31)
        };
        let (mut together, mut apart) = (0, 0);
        for _ in 0..20_000 {
            let one = uniform();
            together += u32::from(majority(&mut [one; 7], 7) <= 0.1);
            // Three of seven really changed: still no majority.
            let mut p: Vec<f64> = (0..7).map(|index| if index < 3 { 0.0 } else { uniform() }).collect();
            apart += u32::from(majority(&mut p, 7) <= 0.1);
        }
        assert!(together <= 2000 && apart <= 2000 + 130, "{together} and {apart} of 20,000");
    }

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
