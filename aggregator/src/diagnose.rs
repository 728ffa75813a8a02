//! From moved features to the name of a fault, how bad it is, and a sentence for the operator.
use crate::alert::{Cause, MovedFeature, Severity};
use crate::baseline::FeatureComparison;

/// What the moved features look like.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The fault.
    pub cause: Cause,
    /// How bad it is.
    pub severity: Severity,
    /// What moved, strongest first.
    pub features: Vec<MovedFeature>,
    /// Why, in one sentence.
    pub explanation: String,
}

/// Names the fault.
#[must_use]
pub fn diagnose(comparisons: &[FeatureComparison]) -> Diagnosis {
    let _ = comparisons;
    Diagnosis { cause: Cause::Unknown, severity: Severity::Low, features: Vec::new(), explanation: String::new() }
}
