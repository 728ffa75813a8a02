//! DDM, the drift detection method (Gama, Medas, Castillo, Rodrigues 2004): the error rate and its standard deviation against
//! their smallest sum so far.

use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::{SettingError, State, require};

/// How sensitive it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DdmSettings {
    /// Values before anything is said.
    pub warm_start: u32,
    /// Standard deviations above the minimum for a warning.
    pub warning_threshold: f64,
    /// Standard deviations above the minimum for a drift.
    pub drift_threshold: f64,
}

impl Default for DdmSettings {
    fn default() -> Self {
        Self { warm_start: 30, warning_threshold: 2.0, drift_threshold: 3.0 }
    }
}

/// Where p + s was smallest.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Minimum {
    rate: f64,
    deviation: f64,
}

/// Watches a stream of errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ddm {
    settings: DdmSettings,
    errors: Mean,
    minimum: Option<Minimum>,
    state: State,
}

impl Ddm {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`SettingError`] where a threshold is not a number.
    pub fn new(settings: DdmSettings) -> Result<Self, SettingError> {
        require(settings.warning_threshold.is_finite(), "warning_threshold", "a finite number")?;
        require(settings.drift_threshold.is_finite(), "drift_threshold", "a finite number")?;
        Ok(Self { settings, errors: Mean::default(), minimum: None, state: State::Stable })
    }

    /// Whether this is a state that these settings can have come to; of one read back from bytes nobody knows.
    #[must_use]
    pub fn is_sound(&self, settings: DdmSettings) -> bool {
        self.settings == settings
            && self.errors.is_sound()
            && self.minimum.is_none_or(|least| least.rate.is_finite() && least.deviation.is_finite())
    }

    /// Takes in whether the next answer was wrong.
    ///
    /// With p the share of errors among n answers and s = √(p(1−p)/n): a warning where p + s > pₘ + 2sₘ, a drift where it exceeds
    /// pₘ + 3sₘ, m being where p + s was smallest.
    pub fn update(&mut self, error: bool) -> State {
        if self.state == State::Drift {
            (self.errors, self.minimum) = (Mean::default(), None);
        }
        self.errors.push(f64::from(u8::from(error)));
        let rate = self.errors.value;
        let deviation = libm::sqrt(rate * (1.0 - rate) / self.errors.count);
        self.state = State::Stable;
        if self.errors.count > f64::from(self.settings.warm_start) {
            let sum = rate + deviation;
            let lowest = self.minimum.filter(|least| sum > least.rate + least.deviation);
            let least = lowest.unwrap_or(Minimum { rate, deviation });
            self.minimum = Some(least);
            if sum > least.rate + self.settings.drift_threshold * least.deviation {
                self.state = State::Drift;
            } else if sum > least.rate + self.settings.warning_threshold * least.deviation {
                self.state = State::Warning;
            }
        }
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_of_the_error_rate_is_found_and_what_follows_is_the_new_normal() {
        let mut detector = Ddm::new(DdmSettings::default()).expect("valid");
        let before =
            (0..500_u32).map(|at| detector.update(at % 20 == 0)).filter(|&state| state == State::Drift).count();
        assert_eq!(before, 0);
        let found = (0..200_u32).position(|at| detector.update(at % 2 == 0) == State::Drift);
        assert!(found.is_some_and(|delay| delay < 60), "{found:?}");
        let after = (0..500_u32).map(|at| detector.update(at % 2 == 0)).filter(|&state| state == State::Drift).count();
        assert_eq!(after, 0);
    }

    #[test]
    fn a_threshold_that_is_no_number_is_refused() {
        assert!(Ddm::new(DdmSettings { drift_threshold: f64::NAN, ..DdmSettings::default() }).is_err());
    }
}
