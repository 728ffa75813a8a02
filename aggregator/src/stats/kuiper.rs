//! Kuiper's two-sample test on raw samples of angles: `V = D⁺ + D⁻`, which does not depend on where the circle is cut.
//!
//! Tail: `2·Σ_{j≥1} (4j²λ²−1)·exp(−2j²λ²)` at `λ = (√n_e + 0.155 + 0.24/√n_e)·V` (Kuiper 1960; Stephens 1965).

use super::error::StatisticsError;
use super::sample::Sample;

/// Kuiper's distance between two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kuiper {
    /// `V = D⁺ + D⁻`, 0..=1.
    pub distance: f64,
    /// `n_e = nm/(n+m)`.
    pub effective_size: f64,
}

impl Kuiper {
    /// Compares two samples on a common cut of the circle; which one does not matter.
    ///
    /// # Errors
    /// `Empty`, `NotANumber` and `Infinite` for bad samples.
    #[expect(clippy::cast_precision_loss, reason = "sample sizes")]
    pub fn new(a: &[f64], b: &[f64]) -> Result<Self, StatisticsError> {
        let (first, second) = (Sample::finite("a", a)?, Sample::finite("b", b)?);
        let (n, m) = (first.len() as f64, second.len() as f64);
        let (mut above, mut below) = (0.0_f64, 0.0_f64);
        for &value in first.sorted().iter().chain(second.sorted()) {
            let share = |sample: &Sample| sample.sorted().partition_point(|&other| other <= value) as f64;
            let difference = share(&first) / n - share(&second) / m;
            above = above.max(difference);
            below = below.max(-difference);
        }
        Ok(Self { distance: above + below, effective_size: n * m / (n + m) })
    }

    /// The tail with Stephens' correction.
    #[must_use]
    pub fn stephens_p(&self) -> f64 {
        let root = self.effective_size.sqrt();
        survival((root + 0.155 + 0.24 / root) * self.distance)
    }
}

/// `2·Σ_{j≥1} (4j²λ²−1)·exp(−2j²λ²)`, 1 below λ = 0.4, where it differs from 1 by less than 10⁻⁶.
#[must_use]
pub fn survival(lambda: f64) -> f64 {
    if lambda < 0.4 {
        return 1.0;
    }
    let mut sum = 0.0;
    for j in (1..=12).rev() {
        let square = f64::from(j * j) * lambda * lambda;
        sum += 2.0 * (4.0 * square - 1.0) * (-2.0 * square).exp();
    }
    sum.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_the_circle_changes_nothing() {
        let (a, b) = ([0.1, 0.3, 1.2, 5.9, 6.1], [0.2, 2.0, 3.0, 4.0, 5.0, 6.2]);
        let before = Kuiper::new(&a, &b).unwrap().distance;
        for turn in 1..60 {
            let turned = |sample: &[f64]| -> Vec<f64> {
                sample.iter().map(|angle| (angle + f64::from(turn) * 0.1) % std::f64::consts::TAU).collect()
            };
            assert!((Kuiper::new(&turned(&a), &turned(&b)).unwrap().distance - before).abs() < 1e-12);
        }
    }

    #[test]
    fn the_tail_falls_from_one_to_zero() {
        let mut last = 1.0;
        for step in 0..1000 {
            let p = survival(f64::from(step) * 0.01);
            assert!(p <= last + 1e-12);
            last = p;
        }
        assert!(last < 1e-80);
        assert!(Kuiper::new(&[f64::NAN], &[1.0]).is_err());
    }
}
