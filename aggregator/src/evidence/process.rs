//! Evidence over time: the e-process of one (device, feature) during one epoch.
//!
//! An epoch has `T` windows. A unit of capital is split into `T` equal parts, one for each window a change could begin in; the
//! parts that have started are multiplied by the window's e-value, the others wait as cash:
//! `A ← (A + 1/T)·e_t`, `M = A + (1 − t/T)`, `e_t = min(10¹², ½·p_t^(−½))`. If every p-value is super-uniform given the past,
//! `M` is a non-negative supermartingale with start 1 (Shin, Ramdas and Rinaldo, "E-detectors"), and by Ville's inequality
//! `1/sup M` is a p-value at any time. With `L` interleaved processes window `t` belongs to class `t mod L`, each class has its
//! own capital, and `M` is their mean, which allows neighbouring windows to depend on each other over up to `L` windows.
//!
//! What must hold: the parts sum to at most 1 in an epoch. Therefore nothing starts after window `T`, and a change of baseline
//! within an epoch must not be answered with a fresh process. A window that never arrived is simply not observed.
//! Never NaN: e-values are capped at 10¹² and capital at 10⁶⁰.
//!
//! Beside it, as a diagnosis without a promise, runs the CUSUM of `ln e_t`, floored at 0: where it last left the floor is the
//! most likely beginning of the change (the start whose product of e-values is largest).

use serde::{Deserialize, Serialize};

use super::calibrator::capped_half_power;
use crate::stats::error::{StatisticsError, within};

/// The largest e-value a single window can contribute.
pub const LARGEST_E: f64 = 1e12;

/// The largest capital of a process.
pub const LARGEST_CAPITAL: f64 = 1e60;

/// The most interleaved classes a process may have.
pub const MOST_CLASSES: u32 = 64;

/// The most windows an epoch may have: more than one a second for a day.
pub const MOST_WINDOWS: u32 = 1 << 20;

/// The running maximum of evidence, from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Supremum(f64);

impl Default for Supremum {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Supremum {
    /// A maximum reached earlier, for instance before a restart. Below 1 and NaN count as 1.
    #[must_use]
    pub const fn resume(value: f64) -> Self {
        Self(value.max(1.0).min(LARGEST_CAPITAL))
    }

    /// Takes in the evidence after one more window. A NaN is ignored.
    pub const fn observe(&mut self, evidence: f64) {
        self.0 = self.0.max(evidence).min(LARGEST_CAPITAL);
    }

    /// The maximum so far, 1..=10⁶⁰.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.0
    }

    /// `1/sup M`, a p-value that is valid at any time, above 0 and at most 1.
    #[must_use]
    pub const fn anytime_p(self) -> f64 {
        1.0 / self.0
    }
}

/// Capital and progress of one interleaved class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Class {
    invested: f64,
    seen: u32,
}

/// The e-process of one stream during one epoch. `L·16 + 48` bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct EvidenceProcess {
    windows: u32,
    observed: u32,
    classes: Vec<Class>,
    supremum: f64,
    log_evidence: f64,
    run_began: Option<u64>,
    peak_began: Option<u64>,
    peak_log_evidence: f64,
}

/// The same as it comes from storage, unchecked.
#[derive(Deserialize)]
struct Stored {
    windows: u32,
    observed: u32,
    classes: Vec<Class>,
    supremum: f64,
    log_evidence: f64,
    run_began: Option<u64>,
    peak_began: Option<u64>,
    peak_log_evidence: f64,
}

impl TryFrom<Stored> for EvidenceProcess {
    type Error = StatisticsError;

    fn try_from(stored: Stored) -> Result<Self, StatisticsError> {
        let classes = u32::try_from(stored.classes.len()).unwrap_or(u32::MAX);
        let mut process = Self::interleaved(stored.windows, classes)?;
        process.classes = stored.classes;
        for class in &mut process.classes {
            class.invested = restored("invested capital", class.invested, 0.0, LARGEST_CAPITAL)?;
        }
        let most = LARGEST_CAPITAL.ln();
        process.supremum = restored("supremum", stored.supremum, 1.0, LARGEST_CAPITAL)?;
        process.log_evidence = restored("log evidence", stored.log_evidence, 0.0, most)?;
        process.peak_log_evidence = restored("peak log evidence", stored.peak_log_evidence, 0.0, most)?;
        process.observed = stored.observed;
        process.run_began = stored.run_began;
        process.peak_began = stored.peak_began;
        Ok(process)
    }
}

/// A number within its bounds, or beyond the upper one by no more than decimal text loses on the way.
fn restored(name: &'static str, value: f64, low: f64, high: f64) -> Result<f64, StatisticsError> {
    within(name, value, low, high * (1.0 + 1e-12)).map(|value| value.min(high))
}

impl EvidenceProcess {
    /// A process for an epoch of `windows` windows, all in one class.
    ///
    /// # Errors
    /// `Parameter` if `windows` is 0 or above [`MOST_WINDOWS`].
    pub fn new(windows: u32) -> Result<Self, StatisticsError> {
        Self::interleaved(windows, 1)
    }

    /// A process of `classes` interleaved ones, for windows that depend on each other over up to that many.
    ///
    /// # Errors
    /// `Parameter` if `windows` is 0 or above [`MOST_WINDOWS`], or if `classes` is 0, above `windows` or above
    /// [`MOST_CLASSES`].
    pub fn interleaved(windows: u32, classes: u32) -> Result<Self, StatisticsError> {
        within("windows of an epoch", f64::from(windows), 1.0, f64::from(MOST_WINDOWS))?;
        within("interleaved classes", f64::from(classes), 1.0, f64::from(windows.min(MOST_CLASSES)))?;
        Ok(Self {
            windows,
            observed: 0,
            classes: (0..classes).map(|_| Class { invested: 0.0, seen: 0 }).collect(),
            supremum: 1.0,
            log_evidence: 0.0,
            run_began: None,
            peak_began: None,
            peak_log_evidence: 0.0,
        })
    }

    /// Takes in the p-value of one window and returns the evidence `M` after it. `at` is whatever the caller knows windows by
    /// (an index or a start time); it comes back from [`Self::began`]. A p-value outside 0..1 is no evidence and counts as 1.
    pub fn observe(&mut self, p: f64, at: u64) -> f64 {
        let e = capped_half_power(p, LARGEST_E);
        let count = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
        let turn = self.observed % count;
        // Class j has the windows j, j+L, j+2L, … of the T windows.
        let own = (self.windows - turn).div_ceil(count);
        if let Some(class) = self.classes.get_mut(turn as usize) {
            let started = if class.seen < own { 1.0 / f64::from(own) } else { 0.0 };
            class.invested = ((class.invested + started) * e).min(LARGEST_CAPITAL);
            class.seen = class.seen.saturating_add(1);
        }
        self.observed = self.observed.saturating_add(1);

        let risen = self.log_evidence + e.ln();
        if risen > 0.0 {
            self.run_began = self.run_began.or(Some(at));
            self.log_evidence = risen.min(LARGEST_CAPITAL.ln());
        } else {
            self.run_began = None;
            self.log_evidence = 0.0;
        }
        if self.log_evidence > self.peak_log_evidence {
            self.peak_log_evidence = self.log_evidence;
            self.peak_began = self.run_began;
        }

        let evidence = self.evidence();
        self.supremum = self.supremum.max(evidence);
        evidence
    }

    /// `M`, the evidence now: at least 0, 1 at the start of an epoch, at most 10⁶⁰.
    #[must_use]
    pub fn evidence(&self) -> f64 {
        let count = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
        let sum: f64 = (0..count)
            .zip(&self.classes)
            .map(|(turn, class)| {
                let own = (self.windows - turn).div_ceil(count);
                class.invested + f64::from(own.saturating_sub(class.seen)) / f64::from(own)
            })
            .sum();
        (sum / f64::from(count)).min(LARGEST_CAPITAL)
    }

    /// The running maximum of `M`.
    #[must_use]
    pub const fn supremum(&self) -> Supremum {
        Supremum::resume(self.supremum)
    }

    /// Windows observed in this epoch.
    #[must_use]
    pub const fn observed(&self) -> u32 {
        self.observed
    }

    /// The CUSUM of `ln e`: 0 at its floor, at most ln 10⁶⁰.
    #[must_use]
    pub const fn log_evidence(&self) -> f64 {
        self.log_evidence
    }

    /// The first window after the CUSUM was last at its floor: where the present evidence began. None while it is at the floor.
    #[must_use]
    pub const fn began(&self) -> Option<u64> {
        self.run_began
    }

    /// The same for the run in which the CUSUM was highest, so that it survives the fault's disappearance.
    #[must_use]
    pub const fn peak_began(&self) -> Option<u64> {
        self.peak_began
    }
}

/// The mean of the evidence of a device's features, itself an e-process however the features depend on each other.
///
/// Vovk and Wang (2021): the only admissible symmetric way to merge e-values. A device without features has evidence 1.
/// Feed the result to a [`Supremum`]; the mean of suprema would not be valid.
pub fn device_evidence(features: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = features.into_iter().fold((0.0, 0.0), |(sum, count), m| (sum + m, count + 1.0));
    if count > 0.0 { sum / count } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform numbers in 0..1 from a 64-bit linear congruential generator (Knuth's MMIX constants).
    struct Uniform(u64);

    impl Uniform {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
        }
    }

    #[test]
    fn certainty_followed_by_nothing_is_never_nan() {
        let mut process = EvidenceProcess::new(10).unwrap();
        for at in 0..2000 {
            let evidence = process.observe(if at < 1000 { 0.0 } else { 1.0 }, at);
            assert!(evidence.is_finite() && evidence <= LARGEST_CAPITAL);
            assert!(process.supremum().anytime_p() > 0.0);
        }
        assert!(process.evidence() < 1e-200);
        for p in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(process.observe(p, 0).is_finite());
        }
    }

    #[test]
    fn nothing_starts_after_the_last_window_of_the_epoch() {
        let mut process = EvidenceProcess::interleaved(7, 3).unwrap();
        for at in 0..70 {
            process.observe(1.0, at);
        }
        let spent = process.evidence();
        assert!(spent < 1e-6, "all capital was lost on windows without evidence: {spent}");
        process.observe(0.0, 70);
        assert!(process.evidence() <= spent * LARGEST_E);
    }

    #[test]
    fn on_a_null_day_the_evidence_is_one_in_the_mean_at_most_and_rarely_reaches_twenty() {
        let mut uniform = Uniform(7);
        let (days, mut reached, mut mean, mut mean_supremum) = (3000, 0, 0.0, 0.0);
        for _ in 0..days {
            let mut process = EvidenceProcess::new(240).unwrap();
            for at in 0..240 {
                process.observe(uniform.next(), at);
            }
            mean += process.evidence() / f64::from(days);
            mean_supremum += process.supremum().value() / f64::from(days);
            reached += i32::from(process.supremum().value() >= 20.0);
        }
        // Ville: at most 5 %; 3000 days have a standard error of 0.4 %.
        assert!(f64::from(reached) / f64::from(days) <= 0.06, "{reached}");
        assert!(mean < 1.5, "{mean}");
        assert!(mean_supremum > 1.2, "the running maximum is no e-value: {mean_supremum}");
    }

    #[test]
    fn the_beginning_is_the_first_window_after_the_floor_and_outlives_the_fault() {
        let mut process = EvidenceProcess::new(100).unwrap();
        assert_eq!(process.began(), None);
        for at in 0..40 {
            process.observe(0.9, at);
        }
        assert_eq!(process.began(), None);
        for at in 40..50 {
            process.observe(1e-4, at);
        }
        assert_eq!((process.began(), process.peak_began()), (Some(40), Some(40)));
        for at in 50..100 {
            process.observe(1.0, at);
        }
        // Ten windows of e = 50 take 57 windows of e = ½ to forget.
        assert_eq!(process.began(), Some(40));
        for at in 100..120 {
            process.observe(1.0, at);
        }
        assert_eq!((process.began(), process.peak_began()), (None, Some(40)));
    }

    #[test]
    fn a_stored_process_goes_on_as_if_nothing_had_happened_and_a_damaged_one_is_refused() {
        let mut process = EvidenceProcess::interleaved(24, 2).unwrap();
        for (p, at) in [(0.3, 0), (0.001, 1), (0.02, 2)] {
            process.observe(p, at);
        }
        let text = serde_json::to_string(&process).unwrap();
        let mut resumed: EvidenceProcess = serde_json::from_str(&text).unwrap();
        assert_eq!((resumed.observed(), resumed.began()), (3, Some(1)));
        // Decimal text may lose the last bit of a number.
        assert!((resumed.observe(0.01, 3) - process.observe(0.01, 3)).abs() < 1e-12);
        assert!((resumed.supremum().value() - process.supremum().value()).abs() < 1e-12);
        assert!(serde_json::from_str::<EvidenceProcess>(&text.replace("\"windows\":24", "\"windows\":0")).is_err());
        assert!(serde_json::from_str::<EvidenceProcess>(&text.replace("\"invested\":", "\"invested\":-")).is_err());
        let mut rich = EvidenceProcess::new(24).unwrap();
        for at in 0..24 {
            rich.observe(0.0, at);
        }
        let text = serde_json::to_string(&rich).unwrap();
        assert!(serde_json::from_str::<EvidenceProcess>(&text).unwrap().evidence() > 1e59);
    }

    #[test]
    fn epochs_without_windows_and_more_classes_than_windows_are_refused() {
        assert!(EvidenceProcess::new(0).is_err());
        assert!(EvidenceProcess::interleaved(3, 4).is_err());
        assert!(EvidenceProcess::interleaved(3, 0).is_err());
        assert!(EvidenceProcess::new(u32::MAX).is_err());
    }

    #[test]
    fn a_device_has_the_mean_evidence_of_its_features() {
        assert!((device_evidence([1.0, 5.0, 0.0]) - 2.0).abs() < 1e-15);
        assert!((device_evidence([]) - 1.0).abs() < 1e-15);
    }
}
