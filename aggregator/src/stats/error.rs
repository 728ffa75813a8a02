//! Why a statistic cannot be computed. Shared by `stats` and `evidence`, because the causes are the same few.

use thiserror::Error;

/// Why a statistic cannot be computed from what was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum StatisticsError {
    /// There is not a single value.
    #[error("{what} is empty")]
    Empty {
        /// Which argument.
        what: &'static str,
    },
    /// A value that is not a number.
    #[error("value {index} of {what} is not a number")]
    NotANumber {
        /// Which argument.
        what: &'static str,
        /// Position of the value.
        index: usize,
    },
    /// An infinite value where a distance needs finite ones.
    #[error("value {index} of {what} is infinite")]
    Infinite {
        /// Which argument.
        what: &'static str,
        /// Position of the value.
        index: usize,
    },
    /// A negative count, weight or probability.
    #[error("value {index} of {what} is negative")]
    Negative {
        /// Which argument.
        what: &'static str,
        /// Position of the value.
        index: usize,
    },
    /// A probability above one.
    #[error("value {index} of {what} is a probability above one")]
    AboveOne {
        /// Which argument.
        what: &'static str,
        /// Position of the value.
        index: usize,
    },
    /// Two things that must have the same length have not.
    #[error("lengths differ: {left} and {right}")]
    Length {
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// Counts whose sum does not fit 63 bits.
    #[error("the counts of {what} overflow 63 bits")]
    Overflow {
        /// Which argument.
        what: &'static str,
    },
    /// A parameter outside the range it is defined for.
    #[error("{name} is {value}, outside of what it is defined for")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// What was handed in.
        value: f64,
    },
    /// Fewer observations than the estimate needs.
    #[error("{what} has {count} observations, at least {needed} are needed")]
    TooFew {
        /// Which argument.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there must be.
        needed: usize,
    },
    /// An exact computation that would take longer than anybody would wait.
    #[error("exact computation over {cells} cells, at most {limit} are allowed")]
    TooLarge {
        /// Cells asked for.
        cells: u64,
        /// Cells allowed.
        limit: u64,
    },
    /// Expected counts whose total differs from that of the observed ones.
    #[error("observed counts sum to {observed}, expected ones to {expected}")]
    Totals {
        /// Sum of the observed counts.
        observed: f64,
        /// Sum of the expected counts.
        expected: f64,
    },
}

/// Fails unless `value` is finite and inside `low..=high`.
///
/// # Errors
/// `Parameter` with the name and the value.
pub(crate) fn within(name: &'static str, value: f64, low: f64, high: f64) -> Result<f64, StatisticsError> {
    if value.is_finite() && value >= low && value <= high {
        Ok(value)
    } else {
        Err(StatisticsError::Parameter { name, value })
    }
}

/// The sum of counts.
///
/// # Errors
/// `Overflow` beyond 63 bits, `Empty` if there is nothing to count.
pub(crate) fn total<C: Copy + Into<u64>>(what: &'static str, counts: &[C]) -> Result<u64, StatisticsError> {
    let sum = counts.iter().try_fold(0_u64, |sum, &count| sum.checked_add(count.into()));
    // One bit is kept free, so that going once around a circle cannot overflow either.
    match sum.filter(|&sum| sum <= u64::MAX / 2) {
        None => Err(StatisticsError::Overflow { what }),
        Some(0) => Err(StatisticsError::Empty { what }),
        Some(sum) => Ok(sum),
    }
}
