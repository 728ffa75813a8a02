//! Page-Hinkley (Page 1954, Hinkley 1970): a forgetful cumulative sum of deviations from the mean against its extremes.

use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::{NotFinite, SettingError, State, finite, require};

/// Which changes of the mean count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// A rise.
    Up,
    /// A fall.
    Down,
    /// Either.
    #[default]
    Both,
}

/// How sensitive it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageHinkleySettings {
    /// Values before anything is said.
    pub min_instances: u32,
    /// Change of the mean that is tolerated, in units of the values.
    pub delta: f64,
    /// Sum of deviations that is a drift, in units of the values.
    pub threshold: f64,
    /// What of the sum is kept at each value, 0..=1.
    pub alpha: f64,
    /// Which changes count.
    pub direction: Direction,
}

impl Default for PageHinkleySettings {
    fn default() -> Self {
        Self { min_instances: 30, delta: 0.005, threshold: 50.0, alpha: 0.9999, direction: Direction::Both }
    }
}

/// Watches a stream of numbers. It knows no warning.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageHinkley {
    settings: PageHinkleySettings,
    mean: Mean,
    rising: f64,
    lowest: f64,
    falling: f64,
    highest: f64,
    state: State,
}

impl PageHinkley {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`SettingError`] where delta or threshold is not a number, or alpha not of 0..=1.
    pub fn new(settings: PageHinkleySettings) -> Result<Self, SettingError> {
        require(settings.delta.is_finite(), "delta", "a finite number")?;
        require(settings.threshold.is_finite(), "threshold", "a finite number")?;
        require((0.0..=1.0).contains(&settings.alpha), "alpha", "0 to 1")?;
        Ok(Self::fresh(settings))
    }

    fn fresh(settings: PageHinkleySettings) -> Self {
        // The highest sum begins at -1 and not at -∞, as in river; it matters for the first values only.
        let (rising, lowest, falling, highest) = (0.0, f64::INFINITY, 0.0, -1.0);
        Self { settings, mean: Mean::default(), rising, lowest, falling, highest, state: State::Stable }
    }

    /// Whether this is a state that these settings can have come to; of one read back from bytes nobody knows.
    #[must_use]
    pub fn is_sound(&self, settings: PageHinkleySettings) -> bool {
        self.settings == settings
            && self.mean.is_sound()
            // The lowest begins at infinity.
            && ![self.rising, self.lowest, self.falling, self.highest].into_iter().any(f64::is_nan)
    }

    /// Takes in the next value.
    ///
    /// # Errors
    /// [`NotFinite`]; nothing changes then.
    pub fn update(&mut self, value: f64) -> Result<State, NotFinite> {
        let value = finite(value)?;
        if self.state == State::Drift {
            *self = Self::fresh(self.settings);
        }
        let PageHinkleySettings { delta, alpha, threshold, .. } = self.settings;
        self.mean.push(value);
        let deviation = value - self.mean.value;
        self.rising = alpha * self.rising + deviation - delta;
        self.falling = alpha * self.falling + deviation + delta;
        self.lowest = self.lowest.min(self.rising);
        self.highest = self.highest.max(self.falling);
        if self.mean.count >= f64::from(self.settings.min_instances) {
            let rise = self.rising - self.lowest > threshold;
            let fall = self.highest - self.falling > threshold;
            let found = match self.settings.direction {
                Direction::Up => rise,
                Direction::Down => fall,
                Direction::Both => rise || fall,
            };
            if found {
                self.state = State::Drift;
            }
        }
        Ok(self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_drift(direction: Direction, to: f64) -> Option<usize> {
        let settings = PageHinkleySettings { threshold: 5.0, direction, ..PageHinkleySettings::default() };
        let mut detector = PageHinkley::new(settings).expect("valid");
        assert!((0..500).all(|_| detector.update(0.5) == Ok(State::Stable)));
        (0..500).position(|_| detector.update(to) == Ok(State::Drift))
    }

    #[test]
    fn only_changes_in_the_direction_asked_for_are_found() {
        assert!(first_drift(Direction::Up, 0.9).is_some());
        assert_eq!(first_drift(Direction::Up, 0.1), None);
        assert_eq!(first_drift(Direction::Down, 0.9), None);
        assert!(first_drift(Direction::Both, 0.1).is_some());
    }

    #[test]
    fn a_value_that_is_no_number_is_refused_and_changes_nothing() {
        let mut detector = PageHinkley::new(PageHinkleySettings::default()).expect("valid");
        assert!(detector.update(f64::NAN).is_err());
        assert!(detector.update(f64::INFINITY).is_err());
        assert_eq!(detector.mean.count, 0.0);
    }
}
