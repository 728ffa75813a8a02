//! How different two distributions are: population stability index, Kullback-Leibler and Jensen-Shannon divergence.
//!
//! `PSI = Σ (c−r)·ln(c/r)` over proportions floored after the division and not normalised again. An effect size and never a
//! test: between two samples of the same distribution it is `(B−1)(1/n+1/m)` on average (Potgieter and others 2023), 0.19 for
//! ten bins and 100 values each. [`psi_beyond_chance`] takes that off. `KL(p‖q) = Σ p·ln(p/q)`, infinite where q is 0 and p is
//! not; `JS = ½KL(p‖m) + ½KL(q‖m)` with `m = ½(p+q)`, at most ln 2. Natural logarithms throughout.

use super::error::{StatisticsError, total, within};
use super::sample::Sample;

/// The population stability index of two histograms.
///
/// # Errors
/// `Length` if the numbers of bins differ, `Empty` or `Overflow` for a histogram without a usable total, `Parameter` unless
/// `0 < floor < 1`.
#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
pub fn psi<R, C>(reference: &[R], current: &[C], floor: f64) -> Result<f64, StatisticsError>
where
    R: Copy + Into<u64>,
    C: Copy + Into<u64>,
{
    if reference.len() != current.len() {
        return Err(StatisticsError::Length { left: reference.len(), right: current.len() });
    }
    within("floor", floor, f64::MIN_POSITIVE, 1.0)?;
    let (n, m) = (total("reference", reference)? as f64, total("current", current)? as f64);
    let terms = reference.iter().zip(current).map(|(&reference, &current)| {
        let r = (reference.into() as f64 / n).max(floor);
        let c = (current.into() as f64 / m).max(floor);
        (c - r) * (c / r).ln()
    });
    Ok(terms.sum())
}

/// The mean of PSI between two samples of the same distribution: `(B−1)(1/n + 1/m)` for `B` occupied bins and `n`, `m`
/// independent values (frames divided by their design effect).
///
/// # Errors
/// `Parameter` unless both sizes are positive.
#[expect(clippy::cast_precision_loss, reason = "a number of bins")]
pub fn psi_by_chance(occupied_bins: usize, reference: f64, current: f64) -> Result<f64, StatisticsError> {
    within("reference size", reference, f64::MIN_POSITIVE, f64::MAX)?;
    within("current size", current, f64::MIN_POSITIVE, f64::MAX)?;
    Ok(occupied_bins.saturating_sub(1) as f64 * (1.0 / reference + 1.0 / current))
}

/// PSI less [`psi_by_chance`], at least 0: the effect size to show.
///
/// # Errors
/// As [`psi_by_chance`].
pub fn psi_beyond_chance(psi: f64, occupied_bins: usize, reference: f64, current: f64) -> Result<f64, StatisticsError> {
    Ok((psi - psi_by_chance(occupied_bins, reference, current)?).max(0.0))
}

/// How many bins hold at least one value of either histogram.
#[must_use]
pub fn occupied_bins<A, B>(a: &[A], b: &[B]) -> usize
where
    A: Copy + Into<u64>,
    B: Copy + Into<u64>,
{
    a.iter().zip(b).filter(|&(&left, &right)| left.into() > 0 || right.into() > 0).count()
}

/// Edges at the quantiles `1/bins, …, (bins−1)/bins` of a reference, interpolated linearly, equal ones kept once.
///
/// # Errors
/// `Empty`, `NotANumber` and `Infinite` for a bad reference, `Parameter` if `bins` is not in 2..=1000.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions inside a sample"
)]
pub fn quantile_edges(reference: &[f64], bins: usize) -> Result<Vec<f64>, StatisticsError> {
    let parts = within("bins", bins as f64, 2.0, 1000.0)?;
    let sample = Sample::finite("reference", reference)?;
    let values = sample.sorted();
    let last = values.len() - 1;
    let mut edges: Vec<f64> = (1..bins)
        .map(|part| {
            let position = part as f64 / parts * last as f64;
            let below = (position.floor() as usize).min(last);
            let share = position - below as f64;
            let (low, high) = (values[below], values[(below + 1).min(last)]);
            // The nearer neighbour is the anchor, so that an interpolation between equal values is exact.
            if share < 0.5 { low + (high - low) * share } else { high - (high - low) * (1.0 - share) }
        })
        .collect();
    edges.dedup();
    Ok(edges)
}

/// Counts values by edges in ascending order: bin `i` holds those above edge `i−1` and up to and including edge `i`.
///
/// # Errors
/// `NotANumber` for a NaN among the values.
pub fn count_by_edges(values: &[f64], edges: &[f64]) -> Result<Vec<u64>, StatisticsError> {
    let mut counts = vec![0; edges.len() + 1];
    for (index, &value) in values.iter().enumerate() {
        if value.is_nan() {
            return Err(StatisticsError::NotANumber { what: "values", index });
        }
        counts[edges.partition_point(|&edge| edge < value)] += 1;
    }
    Ok(counts)
}

/// `KL(p‖q)` in nats, of weights that are normalised first. Infinite where q is 0 and p is not.
///
/// # Errors
/// `Length` if there are not as many of both, `Empty` if there are none or they sum to 0, `NotANumber`, `Infinite` and
/// `Negative` for bad weights.
pub fn kullback_leibler(p: &[f64], q: &[f64]) -> Result<f64, StatisticsError> {
    let (p, q) = normalised_pair(p, q)?;
    Ok(relative_entropy(&p, &q))
}

/// The Jensen-Shannon divergence in nats, 0..=ln 2, of weights that are normalised first.
///
/// # Errors
/// As [`kullback_leibler`].
pub fn jensen_shannon(p: &[f64], q: &[f64]) -> Result<f64, StatisticsError> {
    let (p, q) = normalised_pair(p, q)?;
    let middle: Vec<f64> = p.iter().zip(&q).map(|(&p, &q)| f64::midpoint(p, q)).collect();
    Ok(f64::midpoint(relative_entropy(&p, &middle), relative_entropy(&q, &middle)))
}

/// Fails unless all values are finite and none is negative.
pub(crate) fn check(what: &'static str, values: &[f64]) -> Result<(), StatisticsError> {
    if values.is_empty() {
        return Err(StatisticsError::Empty { what });
    }
    for (index, &value) in values.iter().enumerate() {
        if value.is_nan() {
            return Err(StatisticsError::NotANumber { what, index });
        }
        if value.is_infinite() {
            return Err(StatisticsError::Infinite { what, index });
        }
        if value < 0.0 {
            return Err(StatisticsError::Negative { what, index });
        }
    }
    Ok(())
}

/// Weights divided by their sum.
pub(crate) fn normalised(what: &'static str, weights: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    check(what, weights)?;
    let sum: f64 = weights.iter().sum();
    if sum <= 0.0 {
        return Err(StatisticsError::Empty { what });
    }
    within("sum of weights", sum, 0.0, f64::MAX)?;
    Ok(weights.iter().map(|weight| weight / sum).collect())
}

fn normalised_pair(p: &[f64], q: &[f64]) -> Result<(Vec<f64>, Vec<f64>), StatisticsError> {
    if p.len() != q.len() {
        return Err(StatisticsError::Length { left: p.len(), right: q.len() });
    }
    Ok((normalised("p", p)?, normalised("q", q)?))
}

fn relative_entropy(p: &[f64], q: &[f64]) -> f64 {
    let terms = p.iter().zip(q).map(|(&p, &q)| {
        if p <= 0.0 {
            0.0
        } else if q <= 0.0 {
            f64::INFINITY
        } else {
            p * (p / q).ln()
        }
    });
    terms.sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_samples_of_one_distribution_are_mostly_beyond_a_tenth_until_chance_is_taken_off() {
        // n = m = 100 over ten equal bins, from a linear congruential generator.
        let mut state = 1_u64;
        let mut draw = || {
            let mut counts = [0_u64; 10];
            for _ in 0..100 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                counts[(state >> 33) as usize % 10] += 1;
            }
            counts
        };
        let (mut raw, mut beyond, mut sum) = (0, 0, 0.0);
        for _ in 0..1000 {
            let (reference, current) = (draw(), draw());
            let value = psi(&reference, &current, 1e-4).unwrap();
            let excess = psi_beyond_chance(value, 10, 100.0, 100.0).unwrap();
            raw += i32::from(value > 0.1);
            beyond += i32::from(excess > 0.25);
            sum += value / 1000.0;
        }
        assert!(raw > 700, "{raw} of 1000");
        assert!(beyond < 50, "{beyond} of 1000");
        assert!((sum - psi_by_chance(10, 100.0, 100.0).unwrap()).abs() < 0.02, "{sum}");
    }

    #[test]
    fn a_constant_reference_has_one_edge_and_no_bin_is_dropped() {
        let edges = quantile_edges(&[5.0; 20], 10).unwrap();
        assert_eq!(edges, [5.0]);
        assert_eq!(count_by_edges(&[5.0, 5.1, 4.0], &edges).unwrap(), [2, 1]);
        assert!(psi(&[20_u64, 0], &[10_u64, 10], 1e-4).unwrap() > 4.0);
    }

    #[test]
    fn jensen_shannon_is_symmetric_bounded_and_finite_without_overlap() {
        let distance = jensen_shannon(&[1.0, 0.0], &[0.0, 3.0]).unwrap();
        assert!((distance - std::f64::consts::LN_2).abs() < 1e-15);
        assert!(kullback_leibler(&[1.0, 0.0], &[0.0, 3.0]).unwrap().is_infinite());
        assert!(kullback_leibler(&[1.0, 2.0], &[2.0, 4.0]).unwrap() < 1e-15);
    }

    #[test]
    fn weights_that_are_none_are_refused() {
        for bad in [[f64::NAN, 1.0], [-1.0, 2.0], [0.0, 0.0], [f64::INFINITY, 1.0], [f64::MAX, f64::MAX]] {
            assert!(kullback_leibler(&bad, &[1.0, 1.0]).is_err() && jensen_shannon(&[1.0, 1.0], &bad).is_err());
        }
        assert!(psi(&[1_u64, 2], &[0_u64, 0], 1e-4).is_err() && psi(&[1_u64], &[1_u64], 0.0).is_err());
        assert!(quantile_edges(&[], 10).is_err() && quantile_edges(&[1.0], 1).is_err());
        assert!(count_by_edges(&[f64::NAN], &[0.0]).is_err());
        assert_eq!(occupied_bins(&[0_u32, 1, 0], &[0_u32, 0, 2]), 2);
    }
}
