//! Pearson's chi-square test: of two histograms, and of one against expected counts.
//!
//! `X² = Σ (observed − expected)²/expected`; for two histograms the expected counts are the margins' product over the total,
//! bins empty in both are dropped and the degrees of freedom are the remaining bins less one. Clustered frames: divide by the
//! design effect before asking for p (Rao and Scott 1981, first order).

use statrs::function::gamma::checked_gamma_ur;

use super::error::{StatisticsError, total, within};

/// A chi-square statistic and its degrees of freedom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// X², at least 0.
    pub statistic: f64,
    /// Degrees of freedom; 0 if all mass lies in one bin, where nothing can be tested and p is 1.
    pub degrees_of_freedom: usize,
}

impl ChiSquare {
    /// `P(χ² ≥ X²/deff)`.
    ///
    /// # Errors
    /// `Parameter` if the design effect is not a positive number.
    #[expect(clippy::cast_precision_loss, reason = "a number of bins")]
    pub fn p(&self, design_effect: f64) -> Result<f64, StatisticsError> {
        let statistic = self.statistic / within("design effect", design_effect, f64::MIN_POSITIVE, f64::MAX)?;
        if self.degrees_of_freedom == 0 {
            return Ok(1.0);
        }
        survival(statistic, self.degrees_of_freedom as f64)
    }
}

/// Compares two histograms over the same bins.
///
/// # Errors
/// `Length` if the numbers of bins differ, `Empty` or `Overflow` for a histogram without a usable total.
#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
pub fn two_sample<A, B>(a: &[A], b: &[B]) -> Result<ChiSquare, StatisticsError>
where
    A: Copy + Into<u64>,
    B: Copy + Into<u64>,
{
    if a.len() != b.len() {
        return Err(StatisticsError::Length { left: a.len(), right: b.len() });
    }
    let (n, m) = (total("a", a)? as f64, total("b", b)? as f64);
    let (mut statistic, mut kept) = (0.0, 0_usize);
    for (&left, &right) in a.iter().zip(b) {
        let (left, right) = (left.into() as f64, right.into() as f64);
        let both = left + right;
        if both > 0.0 {
            kept += 1;
            let (expected_left, expected_right) = (both * n / (n + m), both * m / (n + m));
            statistic +=
                (left - expected_left).powi(2) / expected_left + (right - expected_right).powi(2) / expected_right;
        }
    }
    Ok(ChiSquare { statistic, degrees_of_freedom: kept.saturating_sub(1) })
}

/// Compares observed with expected counts of the same total.
///
/// # Errors
/// `Length` if the numbers of bins differ, `Empty` without bins, `NotANumber`, `Infinite` or `Negative` for bad counts (an
/// expected count must be above 0), `Totals` if the totals differ by more than 10⁻⁸ of them.
pub fn goodness_of_fit(observed: &[f64], expected: &[f64]) -> Result<ChiSquare, StatisticsError> {
    if observed.len() != expected.len() {
        return Err(StatisticsError::Length { left: observed.len(), right: expected.len() });
    }
    super::divergence::check("observed counts", observed)?;
    super::divergence::check("expected counts", expected)?;
    if let Some(&value) = expected.iter().find(|&&count| count <= 0.0) {
        return Err(StatisticsError::Parameter { name: "expected count", value });
    }
    let (seen, due): (f64, f64) = (observed.iter().sum(), expected.iter().sum());
    if (seen - due).abs() > 1e-8 * due {
        return Err(StatisticsError::Totals { observed: seen, expected: due });
    }
    let statistic = observed.iter().zip(expected).map(|(seen, due)| (seen - due).powi(2) / due).sum();
    Ok(ChiSquare { statistic, degrees_of_freedom: observed.len() - 1 })
}

/// `P(χ²_df ≥ x)`, the regularised upper incomplete gamma function at df/2 and x/2.
///
/// # Errors
/// `Parameter` unless `x ≥ 0` and `degrees_of_freedom > 0`.
pub fn survival(x: f64, degrees_of_freedom: f64) -> Result<f64, StatisticsError> {
    within("chi-square statistic", x, 0.0, f64::MAX)?;
    within("degrees of freedom", degrees_of_freedom, f64::MIN_POSITIVE, f64::MAX)?;
    if x <= 0.0 {
        return Ok(1.0);
    }
    checked_gamma_ur(degrees_of_freedom / 2.0, x / 2.0)
        .map(|p| p.clamp(0.0, 1.0))
        .map_err(|_| StatisticsError::Parameter { name: "chi-square statistic", value: x })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_counted_k_times_give_the_same_p_at_k_times_the_design_effect() {
        let (a, b) = ([30_u64, 12, 8], [20_u64, 25, 9]);
        let once = two_sample(&a, &b).unwrap().p(1.0).unwrap();
        let often = two_sample(&a.map(|count| count * 50), &b.map(|count| count * 50)).unwrap().p(50.0).unwrap();
        assert!((once - often).abs() < 1e-12 && once < 0.2);
    }

    #[test]
    fn one_shared_bin_cannot_be_tested_and_an_empty_histogram_is_an_error() {
        let same = two_sample(&[10_u32, 0], &[7_u32, 0]).unwrap();
        assert_eq!(same.degrees_of_freedom, 0);
        assert!((same.p(1.0).unwrap() - 1.0).abs() < 1e-15);
        assert!(two_sample(&[0_u32, 0], &[3_u32, 4]).is_err());
        assert!(same.p(0.0).is_err());
    }

    #[test]
    fn totals_that_differ_are_no_fit_at_all() {
        assert!(matches!(goodness_of_fit(&[1.0, 2.0], &[2.0, 2.0]), Err(StatisticsError::Totals { .. })));
        assert!(goodness_of_fit(&[1.0, 2.0], &[3.0, 0.0]).is_err());
        assert!(goodness_of_fit(&[], &[]).is_err());
    }
}
