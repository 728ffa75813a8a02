//! What can go wrong with a camera, and how badly.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A fault that can be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The lens is out of focus.
    Defocus,
    /// Something lies on the lens: from a thin film to an opaque cover.
    Covered,
    /// Too little light reaches the sensor.
    Dark,
    /// The same picture arrives again and again.
    Frozen,
    /// The camera looks elsewhere.
    Moved,
    /// The camera has turned about its line of sight.
    Turned,
    /// The lens shows a smaller part of the scene, larger.
    Zoomed,
    /// An object close to the lens hides a part of the view.
    Occluded,
    /// The sensor or its amplifier adds noise.
    Noise,
    /// Fog before the camera or on its window.
    Fogged,
    /// Specks and smears on the lens.
    Dirty,
    /// Too much light reaches the sensor.
    Overexposed,
    /// The white balance is off.
    ColourCast,
    /// The camera is stuck in its infrared night mode.
    Infrared,
    /// The encoder is set to, or has fallen to, a low quality.
    Compression,
}

/// A name that is no kind of fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown fault \"{name}\"; known are {}", known())]
pub struct UnknownKind {
    /// The name given.
    pub name: String,
}

fn known() -> String {
    Kind::ALL.map(Kind::name).join(", ")
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Defocus,
        Self::Covered,
        Self::Dark,
        Self::Frozen,
        Self::Moved,
        Self::Turned,
        Self::Zoomed,
        Self::Occluded,
        Self::Noise,
        Self::Fogged,
        Self::Dirty,
        Self::Overexposed,
        Self::ColourCast,
        Self::Infrared,
        Self::Compression,
    ];

    /// Its name in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Defocus => "defocus",
            Self::Covered => "covered",
            Self::Dark => "dark",
            Self::Frozen => "frozen",
            Self::Moved => "moved",
            Self::Turned => "turned",
            Self::Zoomed => "zoomed",
            Self::Occluded => "occluded",
            Self::Noise => "noise",
            Self::Fogged => "fogged",
            Self::Dirty => "dirty",
            Self::Overexposed => "overexposed",
            Self::ColourCast => "colour-cast",
            Self::Infrared => "infrared",
            Self::Compression => "compression",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind { name: name.to_owned() })
    }
}

/// How bad a fault is, 0..=5; fractions are allowed. At 1 a person comparing two pictures sees it, at 3 anybody does at a
/// glance, at 5 the picture is of no use.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Severity(f32);

/// Why a text or a number is no severity.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SeverityError {
    /// Outside 0..=5, or not a number at all.
    #[error("severity is {value}, but must lie in 0..=5")]
    Range {
        /// The value given.
        value: f32,
    },
    /// The text is not a number.
    #[error("severity is \"{text}\", but must be a number in 0..=5")]
    NotANumber {
        /// The text given.
        text: String,
    },
}

impl Severity {
    /// No fault at all.
    pub const NONE: Self = Self(0.0);
    /// Plain at a glance.
    pub const MARKED: Self = Self(3.0);
    /// The picture is of no use.
    pub const FULL: Self = Self(5.0);

    /// A severity from a number.
    ///
    /// # Errors
    /// The number lies outside 0..=5 or is not finite.
    pub fn new(value: f32) -> Result<Self, SeverityError> {
        if (0.0..=5.0).contains(&value) { Ok(Self(value)) } else { Err(SeverityError::Range { value }) }
    }

    /// The number, 0..=5.
    #[must_use]
    pub const fn value(self) -> f32 {
        self.0
    }

    /// Whether it is 0, so that nothing changes.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 <= 0.0
    }

    /// A parameter given at the six whole severities, straight lines between them.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a severity lies in 0..=5")]
    pub(super) fn pick(self, at: [f32; 6]) -> f32 {
        let below = (self.0 as usize).min(4);
        let share = self.0 - below as f32;
        at[below] + (at[below + 1] - at[below]) * share
    }
}

impl FromStr for Severity {
    type Err = SeverityError;

    fn from_str(text: &str) -> Result<Self, SeverityError> {
        let value = text.parse().map_err(|_| SeverityError::NotANumber { text: text.to_owned() })?;
        Self::new(value)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_kind() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "rain".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("rain") && error.contains("colour-cast"), "{error}");
    }

    #[test]
    fn severities_outside_their_range_are_refused() {
        for value in [-0.1, 5.01, f32::NAN, f32::INFINITY] {
            assert!(Severity::new(value).is_err(), "{value}");
        }
        assert_eq!("2.5".parse::<Severity>().unwrap().value(), 2.5);
        assert!(matches!("much".parse::<Severity>(), Err(SeverityError::NotANumber { .. })));
    }

    #[test]
    fn parameters_lie_on_straight_lines_between_whole_severities() {
        let at = [0.0, 1.0, 4.0, 9.0, 16.0, 25.0];
        for (severity, expected) in [(0.0, 0.0), (1.5, 2.5), (4.0, 16.0), (5.0, 25.0)] {
            assert_eq!(Severity::new(severity).unwrap().pick(at), expected);
        }
    }
}
