//! Which hypotheses may be rejected so that the expected share of false ones among them stays at most q.
//!
//! Benjamini and Hochberg (1995) under independence or positive dependence; Benjamini and Yekutieli (2001) under any; Storey
//! (2002) with λ = ½ and the finite-sample +1; the two-stage procedure of Benjamini and Hochberg (2000); e-BH (Wang and Ramdas
//! 2022) on e-values, under any dependence. Adjusted p-values have the running minimum from the right and the cap at 1, so
//! "adjusted ≤ q" is the procedure's own decision.
//!
//! For alerts use [`benjamini_hochberg_of`]: the family is counted when the epoch starts, so that devices falling silent never
//! lower the bar for the others.

use crate::stats::error::{StatisticsError, within};

/// Which hypotheses are rejected, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejections {
    /// How many.
    pub count: usize,
    /// One entry for each hypothesis, in the order they were handed in.
    pub rejected: Vec<bool>,
}

/// Checked p-values: at least one, each in 0..=1.
///
/// # Errors
/// `Empty`, `NotANumber`, `Negative` and `AboveOne`.
pub(crate) fn check(p: &[f64]) -> Result<(), StatisticsError> {
    let what = "p-values";
    if p.is_empty() {
        return Err(StatisticsError::Empty { what });
    }
    for (index, &value) in p.iter().enumerate() {
        if value.is_nan() {
            return Err(StatisticsError::NotANumber { what, index });
        }
        if value < 0.0 {
            return Err(StatisticsError::Negative { what, index });
        }
        if value > 1.0 {
            return Err(StatisticsError::AboveOne { what, index });
        }
    }
    Ok(())
}

/// The positions of the values in ascending order, ties in the order they came.
pub(crate) fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&left, &right| values[left].total_cmp(&values[right]));
    order
}

/// Adjusted p-values `min_{j ≥ i} min(1, factor·p_(j)/j)`, in the order of the input.
pub(crate) fn step_up(p: &[f64], factor: f64) -> Vec<f64> {
    let mut adjusted = vec![1.0; p.len()];
    let mut smallest = 1.0_f64;
    for (rank, &index) in ascending(p).iter().enumerate().rev() {
        smallest = smallest.min(p[index] * factor / count(rank + 1));
        adjusted[index] = smallest;
    }
    adjusted
}

/// Benjamini-Hochberg adjusted p-values.
///
/// # Errors
/// `Empty`, `NotANumber`, `Negative` and `AboveOne` for bad p-values.
pub fn benjamini_hochberg(p: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    check(p)?;
    Ok(step_up(p, count(p.len())))
}

/// Benjamini-Hochberg at level `q` in a family of `family` hypotheses of which only those in `p` have been heard from.
/// The others count as p = 1.
///
/// # Errors
/// As [`benjamini_hochberg`] except that `p` may be empty; `Parameter` if `family` is smaller than `p` or `q` outside 0..=1.
pub fn benjamini_hochberg_of(family: usize, p: &[f64], q: f64) -> Result<Rejections, StatisticsError> {
    within("q", q, 0.0, 1.0)?;
    if family < p.len() {
        return Err(StatisticsError::Parameter { name: "family", value: count(family) });
    }
    if p.is_empty() {
        return Ok(Rejections { count: 0, rejected: Vec::new() });
    }
    check(p)?;
    Ok(reject(p, |rank, value| value <= count(rank) * q / count(family)))
}

/// Benjamini-Yekutieli adjusted p-values: Benjamini-Hochberg times `1 + ½ + … + 1/m`.
///
/// # Errors
/// As [`benjamini_hochberg`].
pub fn benjamini_yekutieli(p: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    check(p)?;
    let harmonic: f64 = (1..=p.len()).map(|k| 1.0 / count(k)).sum();
    Ok(step_up(p, count(p.len()) * harmonic))
}

/// Storey's estimate of the share of true null hypotheses, `min(1, (#{p > ½} + 1)/(m/2))`.
///
/// # Errors
/// As [`benjamini_hochberg`].
pub fn storey_null_share(p: &[f64]) -> Result<f64, StatisticsError> {
    check(p)?;
    let above = p.iter().filter(|&&value| value > 0.5).count();
    Ok((count(above + 1) / (count(p.len()) * 0.5)).min(1.0))
}

/// Storey's q-values: [`storey_null_share`] times the Benjamini-Hochberg adjusted p-values. A gauge, not an alert rule: the
/// estimated share is unstable when all devices are shaken together.
///
/// # Errors
/// As [`benjamini_hochberg`].
pub fn storey(p: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    let share = storey_null_share(p)?;
    Ok(step_up(p, share * count(p.len())))
}

/// The two-stage procedure: Benjamini-Hochberg at `q`, then again at `q·m/m₀` where `m₀` are those the first left standing.
///
/// # Errors
/// As [`benjamini_hochberg`]; `Parameter` if `q` is outside 0..=1.
pub fn two_stage(p: &[f64], q: f64) -> Result<Rejections, StatisticsError> {
    let first = benjamini_hochberg_of(p.len(), p, q)?;
    check(p)?;
    if first.count == 0 || first.count == p.len() {
        return Ok(first);
    }
    let level = q * count(p.len()) / count(p.len() - first.count);
    Ok(reject(p, |rank, value| value <= count(rank) * level / count(p.len())))
}

/// e-BH: rejects the `k` largest e-values with the largest `k` such that `k·e_(k) ≥ K/q`, in a family of `family` hypotheses.
///
/// # Errors
/// `Empty` without e-values, `NotANumber` and `Negative` for bad ones, `Parameter` if `family` is smaller than their number or
/// `q` outside 0..=1.
pub fn e_benjamini_hochberg(family: usize, e: &[f64], q: f64) -> Result<Rejections, StatisticsError> {
    let what = "e-values";
    within("q", q, 0.0, 1.0)?;
    if e.is_empty() {
        return Err(StatisticsError::Empty { what });
    }
    if family < e.len() {
        return Err(StatisticsError::Parameter { name: "family", value: count(family) });
    }
    if let Some(index) = e.iter().position(|value| value.is_nan()) {
        return Err(StatisticsError::NotANumber { what, index });
    }
    if let Some(index) = e.iter().position(|&value| value < 0.0) {
        return Err(StatisticsError::Negative { what, index });
    }
    let reversed: Vec<f64> = e.iter().map(|value| -value).collect();
    Ok(reject(&reversed, |rank, value| -value * count(rank) >= count(family) / q))
}

/// Rejects the first `k` in ascending order with the largest `k` whose value passes.
fn reject(values: &[f64], passes: impl Fn(usize, f64) -> bool) -> Rejections {
    let order = ascending(values);
    let last = (1..=order.len()).rev().find(|&rank| passes(rank, values[order[rank - 1]])).unwrap_or(0);
    let mut rejected = vec![false; values.len()];
    for &index in &order[..last] {
        rejected[index] = true;
    }
    Rejections { count: last, rejected }
}

#[expect(clippy::cast_precision_loss, reason = "a number of hypotheses, far below 2⁵³")]
pub(crate) const fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn adjusted_p_values_keep_the_order_and_stay_between_p_and_one(p in prop::collection::vec(0.0..=1.0_f64, 1..60)) {
            for adjusted in [benjamini_hochberg(&p).unwrap(), benjamini_yekutieli(&p).unwrap()] {
                for (left, &p_left) in p.iter().enumerate() {
                    prop_assert!(adjusted[left] >= p_left * (1.0 - 1e-12) && adjusted[left] <= 1.0);
                    for (right, &p_right) in p.iter().enumerate() {
                        prop_assert!(p_left > p_right || adjusted[left] <= adjusted[right]);
                    }
                }
            }
        }

        #[test]
        fn devices_falling_silent_never_lower_the_bar(
            p in prop::collection::vec(0.0..=0.2_f64, 1..60),
            silent in prop::collection::vec(any::<bool>(), 60),
        ) {
            let family = p.len();
            let heard: Vec<f64> = p.iter().zip(&silent).filter(|&(_, &gone)| !gone).map(|(&value, _)| value).collect();
            let all = benjamini_hochberg_of(family, &p, 0.1).unwrap();
            let some = benjamini_hochberg_of(family, &heard, 0.1).unwrap();
            let mut kept = p.iter().zip(&silent).zip(&all.rejected).filter(|((_, gone), _)| !**gone).map(|(_, &r)| r);
            for &rejected in &some.rejected {
                prop_assert!(kept.next().unwrap() || !rejected);
            }
        }
    }

    #[test]
    fn nine_silent_devices_in_ten_would_have_let_the_tenth_through_without_a_fixed_family() {
        let heard = [0.008; 10];
        assert_eq!(benjamini_hochberg_of(100, &heard, 0.05).unwrap().count, 0);
        assert_eq!(benjamini_hochberg_of(10, &heard, 0.05).unwrap().count, 10);
    }

    #[test]
    fn a_descending_input_is_rejected_as_a_whole_by_the_running_minimum() {
        let rejections = benjamini_hochberg_of(5, &[0.04, 0.03, 0.02, 0.01, 0.05], 0.05).unwrap();
        assert_eq!(rejections.count, 5);
    }

    #[test]
    fn one_large_e_value_needs_the_whole_family_and_infinity_is_enough() {
        assert_eq!(e_benjamini_hochberg(2, &[39.9, 0.0], 0.05).unwrap().count, 0);
        assert_eq!(e_benjamini_hochberg(2, &[40.1, 0.0], 0.05).unwrap().rejected, [true, false]);
        assert_eq!(e_benjamini_hochberg(2, &[f64::INFINITY, 0.0], 0.05).unwrap().count, 1);
        assert_eq!(e_benjamini_hochberg(2, &[1e9, 0.0], 0.0).unwrap().count, 0);
    }

    #[test]
    fn bad_p_values_are_named() {
        assert_eq!(benjamini_hochberg(&[]), Err(StatisticsError::Empty { what: "p-values" }));
        let nan = benjamini_hochberg(&[0.1, f64::NAN]);
        assert_eq!(nan, Err(StatisticsError::NotANumber { what: "p-values", index: 1 }));
        assert_eq!(storey(&[1.5]), Err(StatisticsError::AboveOne { what: "p-values", index: 0 }));
        assert_eq!(storey(&[-0.5]), Err(StatisticsError::Negative { what: "p-values", index: 0 }));
        assert!(benjamini_hochberg_of(1, &[0.1, 0.2], 0.1).is_err());
        assert_eq!(benjamini_hochberg_of(7, &[], 0.1).unwrap().count, 0);
        assert!(e_benjamini_hochberg(1, &[f64::NAN], 0.1).is_err() && e_benjamini_hochberg(1, &[], 0.1).is_err());
    }
}
