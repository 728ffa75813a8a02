//! EDDM, the early drift detection method (Baena-García and others 2006): the distance between errors, which shrinks early in a
//! gradual drift. Many false alarms; never on unless asked for.

use serde::{Deserialize, Serialize};

use super::mean::Variance;
use super::{SettingError, State, require};

/// How sensitive it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EddmSettings {
    /// Values, and errors, before anything is said.
    pub warm_start: u32,
    /// Below this share of the largest distance: a warning.
    pub alpha: f64,
    /// Below this share of the largest distance: a drift.
    pub beta: f64,
}

impl Default for EddmSettings {
    fn default() -> Self {
        Self { warm_start: 30, alpha: 0.95, beta: 0.9 }
    }
}

/// Watches a stream of errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Eddm {
    settings: EddmSettings,
    distances: Variance,
    count: u64,
    errors: u64,
    last_error: u64,
    largest: Option<f64>,
    state: State,
}

impl Eddm {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`SettingError`] where not 0 < beta ≤ alpha ≤ 1.
    pub fn new(settings: EddmSettings) -> Result<Self, SettingError> {
        let EddmSettings { alpha, beta, .. } = settings;
        require(alpha > 0.0 && alpha <= 1.0, "alpha", "above 0 and at most 1")?;
        require(beta > 0.0 && beta <= alpha, "beta", "above 0 and at most alpha")?;
        Ok(Self::fresh(settings))
    }

    fn fresh(settings: EddmSettings) -> Self {
        let distances = Variance::default();
        Self { settings, distances, count: 0, errors: 0, last_error: 0, largest: None, state: State::Stable }
    }

    /// Whether this is a state that these settings can have come to; of one read back from bytes nobody knows.
    #[must_use]
    pub fn is_sound(&self, settings: EddmSettings) -> bool {
        self.settings == settings
            && self.distances.is_sound()
            && self.count < 1 << 53
            && self.last_error <= self.count
            && self.errors <= self.count
            && self.largest.is_none_or(f64::is_finite)
    }

    /// Takes in whether the next answer was wrong. Only an error can change what it says: until the next one a warning stays.
    ///
    /// With p the mean distance between errors and s its standard deviation (n − 1): the share (p + 2s) / max(p + 2s) below alpha
    /// is a warning, below beta a drift.
    #[expect(clippy::cast_precision_loss, reason = "a stream of 2⁵³ answers takes longer than the hardware lasts")]
    pub fn update(&mut self, error: bool) -> State {
        if self.state == State::Drift {
            *self = Self::fresh(self.settings);
        }
        self.count += 1;
        if !error {
            return self.state;
        }
        self.errors += 1;
        self.distances.push((self.count - self.last_error) as f64);
        self.last_error = self.count;
        let warm = u64::from(self.settings.warm_start);
        if self.count > warm {
            let reach = self.distances.mean.value + 2.0 * libm::sqrt(self.distances.value());
            match self.largest {
                Some(largest) if reach <= largest => {
                    if self.errors > warm {
                        self.state = self.judge(reach / largest);
                    }
                }
                _ => self.largest = Some(reach),
            }
        }
        self.state
    }

    fn judge(&self, level: f64) -> State {
        if level < self.settings.beta {
            State::Drift
        } else if level < self.settings.alpha {
            State::Warning
        } else {
            State::Stable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_come_closer_together_are_found() {
        let mut detector = Eddm::new(EddmSettings::default()).expect("valid");
        assert!((0..2000_u32).all(|at| detector.update(at % 20 == 19) != State::Drift));
        assert!((0..2000_u32).any(|at| detector.update(at % 4 == 3) == State::Drift));
    }

    #[test]
    fn levels_in_the_wrong_order_are_refused() {
        assert!(Eddm::new(EddmSettings { alpha: 0.8, ..EddmSettings::default() }).is_err());
        assert!(Eddm::new(EddmSettings { alpha: f64::NAN, ..EddmSettings::default() }).is_err());
    }
}
