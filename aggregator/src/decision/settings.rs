//! What an operator may set of the decision.

use driftglass_protocol::unit::Millis;

use crate::baseline::Tolerances;
use crate::evidence::budget::AlarmBudget;
use crate::evidence::calibrator::square_root_adjuster;
use crate::evidence::fdr::{self, Rejections};
use crate::stats::error::StatisticsError;

/// Under which dependence between cameras the promise holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dependence {
    /// Independence or positive dependence (Benjamini and Yekutieli 2001), which is what is left once peers are taken off.
    #[default]
    Positive,
    /// Any: e-BH on adjusted evidence (Wang and Ramdas 2022). Twice the evidence is needed, on a logarithmic scale.
    Arbitrary,
}

impl Dependence {
    /// Which of the largest evidences of an epoch are discoveries.
    pub(super) fn discoveries(self, family: usize, suprema: &[f64], q: f64) -> Result<Rejections, StatisticsError> {
        match self {
            Self::Positive => {
                let p: Vec<f64> = suprema.iter().map(|supremum| 1.0 / supremum).collect();
                fdr::benjamini_hochberg_of(family, &p, q)
            }
            Self::Arbitrary => {
                // A running maximum is no e-value; adjusted it is one.
                let adjusted: Vec<f64> = suprema.iter().map(|&supremum| square_root_adjuster(supremum)).collect();
                fdr::e_benjamini_hochberg(family, &adjusted, q)
            }
        }
    }
}

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Expected share of false alerts among those of an epoch, above 0 and at most 0.5.
    pub q: f64,
    /// How the evidence of cameras may depend on each other.
    pub dependence: Dependence,
    /// False alerts allowed per site and month; where given, q is what keeps it, and at most the above.
    pub budget: Option<AlarmBudget>,
    /// Length of an epoch.
    pub epoch: Millis,
    /// How long a camera is watched before it has a baseline; never fewer than [`crate::baseline::MIN_WINDOWS`] windows.
    pub learning: Millis,
    /// Shifts that count as none.
    pub tolerances: Tolerances,
}
