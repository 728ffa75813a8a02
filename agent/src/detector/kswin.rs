//! KSWIN (Raab, Heusinger, Schleif 2020): the newest values against as many drawn from the older ones of a sliding window, by the
//! exact two-sample Kolmogorov-Smirnov test.
//!
//! Which older values are drawn is handed in ([`Draw`]), because it is chance and because other implementations draw from their
//! language's own generator.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{NotFinite, SettingError, State, finite, require};
use crate::ring::Ring;

/// Smallest distance that counts, whatever its probability.
const LEAST_DISTANCE: f64 = 0.1;

/// How sensitive it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KswinSettings {
    /// Probability of a false drift at one value.
    pub alpha: f64,
    /// Values in the window.
    pub window_size: usize,
    /// Values compared: the newest, and as many of the older ones.
    pub stat_size: usize,
}

impl Default for KswinSettings {
    fn default() -> Self {
        Self { alpha: 0.005, window_size: 100, stat_size: 30 }
    }
}

/// Draws positions without replacement.
pub trait Draw {
    /// The detector begins anew after a drift: a generator goes back to its seed.
    fn restart(&mut self);
    /// Fills `positions` with different numbers below `population`. What lies beyond is taken modulo `population`.
    fn draw(&mut self, population: usize, positions: &mut [usize]);
}

/// Watches a stream of numbers through a window of at most `N`. It knows no warning.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kswin<const N: usize> {
    settings: KswinSettings,
    window: Ring<N>,
    p: Option<f64>,
    state: State,
}

impl<const N: usize> Kswin<N> {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`SettingError`] where alpha is no probability, the window is larger than `N`, or its older part smaller than what is drawn
    /// from it.
    pub fn new(settings: KswinSettings) -> Result<Self, SettingError> {
        require((0.0..=1.0).contains(&settings.alpha), "alpha", "0 to 1")?;
        require(settings.window_size <= N, "window_size", "at most the room there is")?;
        let older = settings.window_size.saturating_sub(settings.stat_size);
        require((1..=older).contains(&settings.stat_size), "stat_size", "1 to half the window")?;
        Ok(Self { settings, window: Ring::new(settings.window_size), p: None, state: State::Stable })
    }

    /// Probability of the last comparison under no change; `None` while the window is not full.
    #[must_use]
    pub const fn p(&self) -> Option<f64> {
        self.p
    }

    /// Whether this is a state that these settings can have come to; of one read back from bytes nobody knows.
    #[must_use]
    pub fn is_sound(&self, settings: KswinSettings) -> bool {
        self.settings == settings
            && self.window.limit() == settings.window_size
            && self.window.len() <= settings.window_size
            && self.window.iter().all(f64::is_finite)
    }

    /// Takes in the next value.
    ///
    /// # Errors
    /// [`NotFinite`]; nothing changes then.
    pub fn update(&mut self, value: f64, draw: &mut impl Draw) -> Result<State, NotFinite> {
        let value = finite(value)?;
        if self.state == State::Drift {
            self.window.clear();
            self.state = State::Stable;
            draw.restart();
        }
        self.window.push(value);
        self.p = None;
        if self.window.is_full() {
            let size = self.settings.stat_size;
            let older = self.settings.window_size - size;
            let mut positions = [0; N];
            let positions = positions.get_mut(..size).unwrap_or_default();
            draw.draw(older, positions);
            let drawn = positions.iter().filter_map(|&position| self.window.get(position % older));
            let mut drawn: Vec<f64, N> = drawn.collect();
            let mut newest: Vec<f64, N> = self.window.iter().skip(older).collect();
            drawn.sort_unstable_by(f64::total_cmp);
            newest.sort_unstable_by(f64::total_cmp);
            let steps = largest_step(&drawn, &newest);
            let p = equal_sizes_p(size, steps);
            self.p = Some(p);
            let distance = steps as f64 / size as f64;
            if p <= self.settings.alpha && distance > LEAST_DISTANCE {
                self.state = State::Drift;
            }
        }
        Ok(self.state)
    }
}

/// n·D of two sorted samples of n values each.
fn largest_step(a: &[f64], b: &[f64]) -> usize {
    let (mut i, mut j, mut largest) = (0, 0, 0_usize);
    while let (Some(&x), Some(&y)) = (a.get(i), b.get(j)) {
        // Equal values of both samples are passed together: within ties neither distribution function has a step of its own.
        let value = x.min(y);
        i += a.get(i..).map_or(0, |rest| rest.partition_point(|&other| other <= value));
        j += b.get(j..).map_or(0, |rest| rest.partition_point(|&other| other <= value));
        largest = largest.max(i.abs_diff(j));
    }
    largest
}

/// P(n·D ≥ steps) for two samples of n independent values of one continuous distribution.
///
/// Gnedenko and Korolyuk (1951): 2·Σₖ (−1)ᵏ⁺¹ C(2n, n−k·h)/C(2n, n), summed from the smallest term as nested products of ratios.
fn equal_sizes_p(n: usize, steps: usize) -> f64 {
    if steps == 0 {
        return 1.0;
    }
    let mut sum = 0.0;
    for turn in (0..=n / steps).rev() {
        let base = turn * steps;
        let mut ratio = 1.0;
        for j in 0..steps {
            ratio *= n.saturating_sub(base + j) as f64 / (n + base + j + 1) as f64;
        }
        sum = ratio * (1.0 - sum);
    }
    (2.0 * sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first positions, always.
    struct First;

    impl Draw for First {
        fn restart(&mut self) {}
        fn draw(&mut self, _: usize, positions: &mut [usize]) {
            for (position, place) in (0..).zip(positions) {
                *place = position;
            }
        }
    }

    #[test]
    fn the_exact_probabilities_of_small_samples_are_those_counted_by_hand() {
        // Of the C(4,2) = 6 orders of two and two values, two have D = 1 and four D ≥ 1/2 … all six.
        assert!((equal_sizes_p(2, 2) - 2.0 / 6.0).abs() < 1e-15);
        assert!((equal_sizes_p(2, 1) - 1.0).abs() < 1e-15);
        // C(6,3) = 20: D = 1 in two.
        assert!((equal_sizes_p(3, 3) - 0.1).abs() < 1e-15);
        assert_eq!(equal_sizes_p(3, 0), 1.0);
    }

    #[test]
    fn ties_are_passed_together() {
        assert_eq!(largest_step(&[1.0, 2.0, 2.0], &[1.0, 1.0, 2.0]), 1);
        assert_eq!(largest_step(&[3.0; 4], &[3.0; 4]), 0);
        assert_eq!(largest_step(&[1.0, 1.0], &[2.0, 2.0]), 2);
    }

    #[test]
    fn another_distribution_is_found_and_then_the_window_fills_anew() {
        let mut detector = Kswin::<128>::new(KswinSettings::default()).expect("valid");
        for at in 0..150_u32 {
            let state = detector.update(f64::from(at % 10), &mut First).expect("finite");
            assert_eq!(state, State::Stable);
        }
        let found = (0..100_u32).position(|at| detector.update(f64::from(at % 10 + 8), &mut First) == Ok(State::Drift));
        assert!(found.is_some_and(|delay| delay < 30), "{found:?}");
        detector.update(0.0, &mut First).expect("finite");
        assert_eq!((detector.p(), detector.window.len()), (None, 1));
    }

    #[test]
    fn settings_and_values_that_make_no_sense_are_refused() {
        let of =
            |window_size, stat_size| Kswin::<128>::new(KswinSettings { alpha: 0.1, window_size, stat_size }).is_err();
        assert!(of(129, 30) && of(50, 30) && of(50, 0) && !of(60, 30));
        let mut detector = Kswin::<128>::new(KswinSettings::default()).expect("valid");
        assert!(detector.update(f64::NAN, &mut First).is_err());
        assert!(detector.window.is_empty());
    }
}
