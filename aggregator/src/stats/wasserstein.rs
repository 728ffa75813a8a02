//! How far mass has to move: Wasserstein's first distance and the energy distance, in the units of the axis.
//!
//! `W₁ = ∫|F_a − F_b|dx`, energy `√(2·∫(F_a − F_b)²dx)` (Székely and Rizzo 2013, the root of the squared form). On a circle
//! `W₁ = min_c ∫|F_a − F_b − c|dx` with the median as the best `c` (Rabin, Delon and Gousseau 2011).
//! Effect sizes for people, not tests.

use super::error::{StatisticsError, total};
use super::sample::Sample;

/// Two distances between the same two distributions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transport {
    /// Wasserstein's first distance: mean distance moved, in units of the axis.
    pub wasserstein: f64,
    /// Energy distance, in the root of units of the axis.
    pub energy: f64,
}

/// The distances between two samples.
///
/// # Errors
/// `Empty`, `NotANumber` and `Infinite` for bad samples.
#[expect(clippy::cast_precision_loss, reason = "sample sizes")]
pub fn samples(a: &[f64], b: &[f64]) -> Result<Transport, StatisticsError> {
    let (first, second) = (Sample::finite("a", a)?, Sample::finite("b", b)?);
    let (n, m) = (first.len() as f64, second.len() as f64);
    let all: Vec<f64> = first.sorted().iter().chain(second.sorted()).copied().collect();
    let pooled = Sample::finite("a", &all)?;
    let (mut wasserstein, mut square) = (0.0, 0.0);
    for pair in pooled.sorted().windows(2) {
        let [from, to] = [pair[0], pair[1]];
        let share = |sample: &Sample| sample.sorted().partition_point(|&value| value <= from) as f64;
        if to > from {
            let difference = share(&first) / n - share(&second) / m;
            wasserstein += difference.abs() * (to - from);
            square += difference * difference * (to - from);
        }
    }
    Ok(Transport { wasserstein, energy: (2.0 * square).sqrt() })
}

/// The distances between two histograms whose counts stand at `centres`, in ascending order.
///
/// # Errors
/// `Length` if lengths differ, `Empty` or `Overflow` for a histogram without a usable total, `NotANumber`, `Infinite` and
/// `Parameter` for centres that are not finite and ascending.
pub fn histograms<A, B>(centres: &[f64], a: &[A], b: &[B]) -> Result<Transport, StatisticsError>
where
    A: Copy + Into<u64>,
    B: Copy + Into<u64>,
{
    if centres.len() != a.len() {
        return Err(StatisticsError::Length { left: centres.len(), right: a.len() });
    }
    let ordered = Sample::finite("centres", centres)?;
    if let Some((_, &value)) = ordered.sorted().iter().zip(centres).find(|(sorted, given)| sorted != given) {
        return Err(StatisticsError::Parameter { name: "bin centre", value });
    }
    let differences = cumulative_differences(a, b)?;
    let (mut wasserstein, mut square) = (0.0, 0.0);
    for (pair, difference) in centres.windows(2).zip(&differences) {
        let width = pair[1] - pair[0];
        wasserstein += difference.abs() * width;
        square += difference * difference * width;
    }
    Ok(Transport { wasserstein, energy: (2.0 * square).sqrt() })
}

/// Wasserstein's first distance between two histograms around a circle of `period`, in its units, at most half of it.
///
/// # Errors
/// `Length` if the numbers of bins differ, `Empty` or `Overflow` for a histogram without a usable total.
#[expect(clippy::cast_precision_loss, reason = "a number of bins")]
pub fn circular<A, B>(period: f64, a: &[A], b: &[B]) -> Result<f64, StatisticsError>
where
    A: Copy + Into<u64>,
    B: Copy + Into<u64>,
{
    let differences = cumulative_differences(a, b)?;
    let mut sorted = differences.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let moved: f64 = differences.iter().map(|difference| (difference - median).abs()).sum();
    Ok(moved * period / differences.len() as f64)
}

/// `F_a − F_b` at the upper edge of every bin.
#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
fn cumulative_differences<A, B>(a: &[A], b: &[B]) -> Result<Vec<f64>, StatisticsError>
where
    A: Copy + Into<u64>,
    B: Copy + Into<u64>,
{
    if a.len() != b.len() {
        return Err(StatisticsError::Length { left: a.len(), right: b.len() });
    }
    let (n, m) = (total("a", a)? as f64, total("b", b)? as f64);
    let (mut left, mut right) = (0_u64, 0_u64);
    let pairs = a.iter().zip(b);
    Ok(pairs
        .map(|(&from_a, &from_b)| {
            left += from_a.into();
            right += from_b.into();
            left as f64 / n - right as f64 / m
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_unequal_size_are_not_zipped() {
        // One value against five: the mean of the absolute differences.
        let transport = samples(&[1.5], &[3.4, 1.8, 1.9, 1.9, 0.3]).unwrap();
        assert!((transport.wasserstein - 0.84).abs() < 1e-12);
    }

    #[test]
    fn a_shift_moves_everything_by_itself() {
        let centres: Vec<f64> = (0..8).map(f64::from).collect();
        let transport = histograms(&centres, &[0_u32, 5, 9, 1, 0, 0, 0, 0], &[0_u32, 0, 0, 0, 5, 9, 1, 0]).unwrap();
        assert!((transport.wasserstein - 3.0).abs() < 1e-12);
    }

    #[test]
    fn around_a_circle_the_short_way_counts_wherever_it_is_cut() {
        let (mut a, mut b) = ([3_u32, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [9_u32, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        for _ in 0..12 {
            let moved = circular(360.0, &a, &b).unwrap();
            assert!((moved - 30.0).abs() < 1e-9, "{moved}");
            a.rotate_left(1);
            b.rotate_left(1);
        }
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(samples(&[], &[1.0]).is_err() && samples(&[f64::INFINITY], &[1.0]).is_err());
        assert!(histograms(&[1.0, 0.0], &[1_u32, 1], &[1_u32, 1]).is_err());
        assert!(histograms(&[1.0], &[1_u32, 1], &[1_u32, 1]).is_err());
        assert!(circular(360.0, &[0_u32], &[1_u32]).is_err());
    }
}
