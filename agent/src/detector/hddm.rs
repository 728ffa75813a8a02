//! `HDDM_A` (Frías-Blanco and others 2015): the mean of everything against the mean up to the point where it was surely lowest (or
//! highest), by Hoeffding's inequality.

use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::{SettingError, State, require};

/// How sensitive it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HddmSettings {
    /// Probability of a false drift at one cut.
    pub drift_confidence: f64,
    /// Probability of a false warning at one cut.
    pub warning_confidence: f64,
    /// Whether a fall counts as well as a rise.
    pub two_sided: bool,
}

impl Default for HddmSettings {
    fn default() -> Self {
        Self { drift_confidence: 0.001, warning_confidence: 0.005, two_sided: false }
    }
}

/// Watches a stream of errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hddm {
    settings: HddmSettings,
    all: Mean,
    lowest: Mean,
    highest: Mean,
    state: State,
}

impl Hddm {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`SettingError`] where a confidence is not above 0 and at most 1.
    pub fn new(settings: HddmSettings) -> Result<Self, SettingError> {
        let probability = |p: f64| p > 0.0 && p <= 1.0;
        require(probability(settings.drift_confidence), "drift_confidence", "above 0 and at most 1")?;
        require(probability(settings.warning_confidence), "warning_confidence", "above 0 and at most 1")?;
        Ok(Self::fresh(settings))
    }

    fn fresh(settings: HddmSettings) -> Self {
        let none = Mean::default();
        Self { settings, all: none, lowest: none, highest: none, state: State::Stable }
    }

    /// Whether this is a state that these settings can have come to; of one read back from bytes nobody knows.
    #[must_use]
    pub fn is_sound(&self, settings: HddmSettings) -> bool {
        self.settings == settings && [self.all, self.lowest, self.highest].into_iter().all(Mean::is_sound)
    }

    /// Takes in whether the next answer was wrong.
    pub fn update(&mut self, error: bool) -> State {
        if self.state == State::Drift {
            *self = Self::fresh(self.settings);
        }
        self.all.push(f64::from(u8::from(error)));
        let bound = self.bound(self.all);
        if self.lowest.count == 0.0 || self.lowest.value + self.bound(self.lowest) >= self.all.value + bound {
            self.lowest = self.all;
        }
        if self.highest.count == 0.0 || self.highest.value - self.bound(self.highest) <= self.all.value - bound {
            self.highest = self.all;
        }
        let rise = self.judge(self.lowest, self.all.value - self.lowest.value);
        let fall = self.judge(self.highest, self.highest.value - self.all.value);
        self.state = match (rise, fall) {
            (rise, _) if !self.settings.two_sided => rise,
            (State::Drift, _) | (_, State::Drift) => State::Drift,
            (State::Warning, _) | (_, State::Warning) => State::Warning,
            _ => State::Stable,
        };
        self.state
    }

    /// Hoeffding's bound of a mean, √(ln(1/α)/2n).
    fn bound(&self, mean: Mean) -> f64 {
        libm::sqrt(1.0 / (2.0 * mean.count) * libm::log(1.0 / self.settings.drift_confidence))
    }

    fn judge(&self, cut: Mean, distance: f64) -> State {
        if distance_is_sure(cut, self.all, distance, self.settings.drift_confidence) {
            State::Drift
        } else if distance_is_sure(cut, self.all, distance, self.settings.warning_confidence) {
            State::Warning
        } else {
            State::Stable
        }
    }
}

/// Whether two means, the first over part of the second's values, lie at least √(m/2·ln(2/α)) apart, m = (n−n₀)/(n₀n).
fn distance_is_sure(cut: Mean, all: Mean, distance: f64, confidence: f64) -> bool {
    if cut.count >= all.count {
        return false;
    }
    let m = (all.count - cut.count) / cut.count * (1.0 / all.count);
    distance >= libm::sqrt(m / 2.0 * libm::log(2.0 / confidence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_drift(two_sided: bool, before: u32, after: u32) -> Option<u32> {
        let mut detector = Hddm::new(HddmSettings { two_sided, ..HddmSettings::default() }).expect("valid");
        assert!((0..1000).all(|at| detector.update(at % before == 0) != State::Drift));
        (0..1000).find(|at| detector.update(at % after == 0) == State::Drift)
    }

    #[test]
    fn a_rise_is_found_and_a_fall_only_where_both_sides_count() {
        assert!(first_drift(false, 10, 2).is_some_and(|delay| delay < 60));
        assert_eq!(first_drift(false, 2, 10), None);
        assert!(first_drift(true, 2, 10).is_some_and(|delay| delay < 100));
    }

    #[test]
    fn a_confidence_that_is_no_probability_is_refused() {
        assert!(Hddm::new(HddmSettings { drift_confidence: 0.0, ..HddmSettings::default() }).is_err());
    }
}
