//! The empirical distribution function: `F(x) = #{x_i ≤ x}/n`, continuous from the right, and its limit from the left.

use super::error::StatisticsError;
use super::sample::Sample;

/// The empirical distribution function of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Ecdf {
    sample: Sample,
}

impl Ecdf {
    /// Of a sample; infinities are ordered like other values.
    ///
    /// # Errors
    /// `Empty` and `NotANumber`.
    pub fn new(sample: &[f64]) -> Result<Self, StatisticsError> {
        Ok(Self { sample: Sample::ordered("sample", sample)? })
    }

    /// `#{x_i ≤ x}/n`.
    ///
    /// # Errors
    /// `NotANumber` for a NaN.
    pub fn at(&self, x: f64) -> Result<f64, StatisticsError> {
        self.share(x, |value| value <= x)
    }

    /// `#{x_i < x}/n`.
    ///
    /// # Errors
    /// `NotANumber` for a NaN.
    pub fn below(&self, x: f64) -> Result<f64, StatisticsError> {
        self.share(x, |value| value < x)
    }

    #[expect(clippy::cast_precision_loss, reason = "sample sizes")]
    fn share(&self, x: f64, counts: impl Fn(f64) -> bool) -> Result<f64, StatisticsError> {
        if x.is_nan() {
            return Err(StatisticsError::NotANumber { what: "x", index: 0 });
        }
        Ok(self.sample.sorted().partition_point(|&value| counts(value)) as f64 / self.sample.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_at_a_value_belongs_to_the_value() {
        let ecdf = Ecdf::new(&[1.0, 2.0, 2.0, 4.0]).unwrap();
        for (x, below, at) in [(0.0, 0.0, 0.0), (1.0, 0.0, 0.25), (2.0, 0.25, 0.75), (3.0, 0.75, 0.75), (9.0, 1.0, 1.0)]
        {
            assert!((ecdf.below(x).unwrap() - below).abs() < 1e-15 && (ecdf.at(x).unwrap() - at).abs() < 1e-15);
        }
        assert!(ecdf.at(f64::NAN).is_err());
    }
}
