//! Checked samples: sorted, never empty, never NaN.
//!
//! A NaN that is sorted into a sample silently moves every rank behind it, so it is refused at the door; the agent counts
//! such values in a counter of their own. Rank statistics only need an order, therefore [`Sample::ordered`] admits infinities;
//! distances on the axis need [`Sample::finite`].

use super::error::StatisticsError;

/// At least one value, in ascending order, none of them NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    sorted: Vec<f64>,
}

impl Sample {
    /// A sample for rank statistics: infinities are ordered like any other value.
    ///
    /// # Errors
    /// `Empty` and `NotANumber`, naming the argument `what`.
    pub fn ordered(what: &'static str, values: &[f64]) -> Result<Self, StatisticsError> {
        if values.is_empty() {
            return Err(StatisticsError::Empty { what });
        }
        if let Some(index) = values.iter().position(|value| value.is_nan()) {
            return Err(StatisticsError::NotANumber { what, index });
        }
        // Adding zero turns −0 into +0, which `total_cmp` would otherwise order although they are equal.
        let mut sorted: Vec<f64> = values.iter().map(|value| value + 0.0).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Ok(Self { sorted })
    }

    /// A sample for distances and moments: every value is finite.
    ///
    /// # Errors
    /// `Empty`, `NotANumber` and `Infinite`, naming the argument `what`.
    pub fn finite(what: &'static str, values: &[f64]) -> Result<Self, StatisticsError> {
        if let Some(index) = values.iter().position(|value| value.is_infinite()) {
            return Err(StatisticsError::Infinite { what, index });
        }
        Self::ordered(what, values)
    }

    /// The values in ascending order.
    #[must_use]
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// How many values there are, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a sample is never empty")]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_nan_and_infinity_are_errors_and_not_values() {
        assert_eq!(Sample::ordered("a", &[]), Err(StatisticsError::Empty { what: "a" }));
        let nan = Sample::ordered("a", &[1.0, f64::NAN]);
        assert_eq!(nan, Err(StatisticsError::NotANumber { what: "a", index: 1 }));
        let infinite = Sample::finite("a", &[f64::NEG_INFINITY]);
        assert_eq!(infinite, Err(StatisticsError::Infinite { what: "a", index: 0 }));
    }

    #[test]
    fn infinities_have_an_order_and_both_zeros_are_the_same_value() {
        let sample = Sample::ordered("a", &[0.0, f64::INFINITY, -0.0, f64::NEG_INFINITY]).unwrap();
        assert_eq!(sample.sorted(), [f64::NEG_INFINITY, 0.0, 0.0, f64::INFINITY]);
        assert!(sample.sorted()[1].is_sign_positive() && sample.sorted()[2].is_sign_positive());
    }
}
