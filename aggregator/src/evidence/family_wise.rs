//! Adjusted p-values that keep the probability of any false rejection: Bonferroni, Holm, Hochberg and Hommel.
//!
//! Holm (1979) holds under any dependence; Hochberg (1988) and Hommel (1988, computed after Wright 1992) need independence or
//! positive dependence. "Adjusted ≤ α" is the procedure's own decision.

use super::fdr::{ascending, check, count};
use crate::stats::error::StatisticsError;

/// The most hypotheses Hommel's procedure is computed for: its cost grows with their square.
pub const MOST_HOMMEL: usize = 10_000;

/// `min(1, m·p)`.
///
/// # Errors
/// `Empty`, `NotANumber`, `Negative` and `AboveOne` for bad p-values.
pub fn bonferroni(p: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    check(p)?;
    let total = count(p.len());
    Ok(p.iter().map(|value| (value * total).min(1.0)).collect())
}

/// `max_{j ≤ i} min(1, (m−j+1)·p_(j))`.
///
/// # Errors
/// As [`bonferroni`].
pub fn holm(p: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    check(p)?;
    let mut adjusted = vec![1.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, &index) in ascending(p).iter().enumerate() {
        largest = largest.max((p[index] * count(p.len() - rank)).min(1.0));
        adjusted[index] = largest;
    }
    Ok(adjusted)
}

/// `min_{j ≥ i} min(1, (m−j+1)·p_(j))`.
///
/// # Errors
/// As [`bonferroni`].
pub fn hochberg(p: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    check(p)?;
    let mut adjusted = vec![1.0; p.len()];
    let mut smallest = 1.0_f64;
    for (rank, &index) in ascending(p).iter().enumerate().rev() {
        smallest = smallest.min(p[index] * count(p.len() - rank));
        adjusted[index] = smallest;
    }
    Ok(adjusted)
}

/// Hommel's adjusted p-values: closed testing with Simes' test.
///
/// # Errors
/// As [`bonferroni`], and `TooLarge` for more than [`MOST_HOMMEL`].
pub fn hommel(p: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    check(p)?;
    let total = p.len();
    if total > MOST_HOMMEL {
        let square = |number: usize| (number as u64).saturating_mul(number as u64);
        return Err(StatisticsError::TooLarge { cells: square(total), limit: square(MOST_HOMMEL) });
    }
    let order = ascending(p);
    let sorted: Vec<f64> = order.iter().map(|&index| p[index]).collect();
    let mut adjusted = sorted.clone();
    for m in (2..=total).rev() {
        let (small, large) = sorted.split_at(total - m);
        let simes = large.iter().enumerate().map(|(rank, p)| count(m) * p / count(rank + 1)).fold(1.0, f64::min);
        for (value, p) in adjusted.iter_mut().zip(small) {
            *value = value.max(simes.min(count(m) * p));
        }
        for value in &mut adjusted[total - m..] {
            *value = value.max(simes);
        }
    }
    let mut result = vec![1.0; total];
    for (&index, &value) in order.iter().zip(&adjusted) {
        result[index] = value;
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_procedure_is_at_least_as_powerful_as_the_one_before(p in prop::collection::vec(0.0..=1.0_f64, 1..40)) {
            let chain = [bonferroni(&p).unwrap(), holm(&p).unwrap(), hochberg(&p).unwrap(), hommel(&p).unwrap()];
            for pair in chain.windows(2) {
                for (weaker, stronger) in pair[0].iter().zip(&pair[1]) {
                    prop_assert!(*stronger <= weaker * (1.0 + 1e-12));
                }
            }
            for (adjusted, p) in chain[3].iter().zip(&p) {
                prop_assert!(*adjusted >= p * (1.0 - 1e-12) && *adjusted <= 1.0);
            }
        }
    }

    #[test]
    fn bad_p_values_are_refused() {
        for bad in [vec![], vec![f64::NAN], vec![-0.1], vec![1.1]] {
            assert!(bonferroni(&bad).is_err() && holm(&bad).is_err());
            assert!(hochberg(&bad).is_err() && hommel(&bad).is_err());
        }
        assert!(matches!(hommel(&vec![0.5; MOST_HOMMEL + 1]), Err(StatisticsError::TooLarge { .. })));
    }
}
