//! How bad an alert is: by how far the camera is from normal, and for how long it has been.
//!
//! **Effect.** Of every feature the distance beyond its margin, as a share of what could lie beyond it. The three largest count
//! ½, ¼ and ¼: one feature wholly elsewhere is an effect of 0.5, three are an effect of 1. A weighted sum of ordered values grows with
//! every one of its arguments, so a further feature can never make an alert milder (the mean of those that moved could).
//!
//! **Persistence.** The time covered by windows that differed, not the time since the first: a fault that comes and goes has
//! lasted as long as it was there.
//!
//! | effect \ persistence | under an hour | an hour and more | a day and more |
//! |---|---|---|---|
//! | under 0.25 | low | low | medium |
//! | 0.25 to 0.5 | low | medium | medium |
//! | 0.5 to 0.8 | medium | medium | high |
//! | 0.8 and more | high | high | critical |
//! | 0.4 and more, nothing left to see | critical | critical | critical |
//!
//! The borders of the effect are those by which severity was set before there was persistence (0.5 and 0.8), and 0.25 is the
//! least distance at which a feature counts as moved. An hour is longer than most of what passes by itself (a delivery van, a
//! cleaning), a day is longer than everything that daylight explains.
//!
//! Must hold: severity never falls when effect or persistence grows. Deliberately absent: who is told, and when.

use driftglass_protocol::unit::Millis;

use super::{Cause, Severity};

/// Borders of the effect.
const SLIGHT: f64 = 0.25;
const NOTICEABLE: f64 = 0.5;
const STRONG: f64 = 0.8;
/// Weights of the three strongest features.
const WEIGHTS: [f64; 3] = [0.5, 0.25, 0.25];
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// How long a camera has differed from normal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Persistence {
    millis: u64,
}

impl Persistence {
    /// The time covered by this many windows of one length.
    #[must_use]
    pub fn of_windows(windows: u32, length: Millis) -> Self {
        Self { millis: u64::from(windows) * u64::from(length.0) }
    }

    /// Milliseconds of windows that differed.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }
}

/// The effect of an alert, 0..=1, from the distance and the margin of every feature compared.
#[must_use]
pub fn effect(features: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let mut strongest = [0.0_f64; 3];
    for (distance, margin) in features {
        let room = 1.0 - margin;
        let mut beyond = if room > 0.0 { ((distance - margin) / room).clamp(0.0, 1.0) } else { 0.0 };
        // A NaN is no distance.
        if beyond.is_nan() {
            beyond = 0.0;
        }
        for place in &mut strongest {
            if beyond > *place {
                std::mem::swap(place, &mut beyond);
            }
        }
    }
    strongest.iter().zip(WEIGHTS).map(|(beyond, weight)| beyond * weight).sum()
}

/// Whether a fault of this cause, at full effect, leaves nothing of use in the picture.
#[must_use]
pub const fn leaves_nothing(cause: Cause) -> bool {
    matches!(cause, Cause::Covered | Cause::Dark | Cause::Frozen)
}

/// The severity of an effect (0..=1) that has lasted for some time. `nothing_left` says that the picture is of no use any more, see
/// [`leaves_nothing`].
///
/// A frozen picture moves a single feature and no more, so where nothing is left the effect of one feature (0.5 and more) is
/// taken for the whole.
#[must_use]
pub fn severity(effect: f64, persistence: Persistence, nothing_left: bool) -> Severity {
    let lasted = persistence.millis;
    let effect = if nothing_left { (effect * 2.0).min(1.0) } else { effect };
    if effect >= STRONG {
        if nothing_left || lasted >= DAY { Severity::Critical } else { Severity::High }
    } else if effect >= NOTICEABLE {
        if lasted >= DAY { Severity::High } else { Severity::Medium }
    } else if effect >= SLIGHT {
        if lasted >= HOUR { Severity::Medium } else { Severity::Low }
    } else if lasted >= DAY {
        Severity::Medium
    } else {
        Severity::Low
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn the_table_of_the_documentation_is_what_the_code_does() {
        use Severity::{Critical, High, Low, Medium};
        let effects = [(0.0, 0.249), (0.25, 0.499), (0.5, 0.799), (0.8, 1.0)];
        let times = [(0, HOUR - 1), (HOUR, DAY - 1), (DAY, u64::MAX)];
        let table = [[Low, Low, Medium], [Low, Medium, Medium], [Medium, Medium, High], [High, High, Critical]];
        for ((from, to), row) in effects.into_iter().zip(table) {
            for ((first, last), expected) in times.into_iter().zip(row) {
                for (effect, lasted) in [(from, first), (from, last), (to, first), (to, last)] {
                    let got = severity(effect, Persistence::from_millis(lasted), false);
                    assert_eq!(got, expected, "effect {effect} for {lasted} ms");
                }
            }
        }
        assert_eq!(severity(0.45, Persistence::from_millis(MINUTE), true), Critical, "0.9 of the one feature there is");
        assert_eq!(severity(0.39, Persistence::from_millis(MINUTE), true), Medium);
    }

    #[test]
    fn one_feature_wholly_elsewhere_is_medium_and_three_are_high() {
        let now = Persistence::of_windows(5, Millis(60_000));
        let one = effect([(1.0, 0.05)]);
        let three = effect([(1.0, 0.05), (0.02, 0.05), (1.0, 0.3), (1.0, 0.05), (0.9, 0.05)]);
        assert_eq!((severity(one, now, false), severity(three, now, false)), (Severity::Medium, Severity::High));
        assert!((one - 0.5).abs() < 1e-12 && (three - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_lies_within_the_margin_and_what_is_no_number_is_no_effect() {
        for feature in [(0.05, 0.05), (0.0, 0.0), (f64::NAN, 0.1), (0.5, f64::NAN), (1.0, 1.0), (0.7, 2.0)] {
            assert!(effect([feature]) <= 0.0, "{feature:?}");
        }
        assert!(effect([]) <= 0.0);
        assert_eq!(severity(f64::NAN, Persistence::default(), false), Severity::Low);
    }

    #[test]
    fn windows_that_differed_add_up_however_far_apart_they_lie() {
        assert_eq!(Persistence::of_windows(60, Millis(60_000)), Persistence::from_millis(HOUR));
        assert_eq!(
            Persistence::of_windows(u32::MAX, Millis(u32::MAX)),
            Persistence::from_millis(u64::from(u32::MAX) * u64::from(u32::MAX))
        );
    }

    proptest! {
        #[test]
        fn severity_never_falls_when_effect_or_persistence_grows(
            effects in (0.0..=1.0_f64, 0.0..=1.0_f64), times in (0..3 * DAY, 0..3 * DAY), blind in any::<bool>(),
        ) {
            let (milder, worse) = (effects.0.min(effects.1), effects.0.max(effects.1));
            let (shorter, longer) = (times.0.min(times.1), times.0.max(times.1));
            let at = |effect, time, blind| severity(effect, Persistence::from_millis(time), blind);
            prop_assert!(at(milder, shorter, blind) <= at(worse, shorter, blind));
            prop_assert!(at(milder, shorter, blind) <= at(milder, longer, blind));
            prop_assert!(at(milder, shorter, false) <= at(milder, shorter, true));
        }

        #[test]
        fn the_effect_never_falls_when_a_distance_grows_or_a_feature_is_added(
            mut features in prop::collection::vec((0.0..=1.0_f64, 0.0..0.9_f64), 1..8),
            which in any::<prop::sample::Index>(), more in 0.0..=1.0_f64, further in (0.0..=1.0_f64, 0.0..0.9_f64),
        ) {
            let before = effect(features.iter().copied());
            let index = which.index(features.len());
            features[index].0 = (features[index].0 + more).min(1.0);
            let grown = effect(features.iter().copied());
            prop_assert!(grown >= before - 1e-12);
            features.push(further);
            let added = effect(features.iter().copied());
            prop_assert!(added >= grown - 1e-12 && added <= 1.0 + 1e-12);
        }
    }
}
