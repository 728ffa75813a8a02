//! What a local drift detector advises: which detector, on which stream, when, and how sure it is.
//!
//! Advice only: a detector sees one stream of one camera, has false alarms of its own, and no promise rests on it. Numbers are wire
//! form and are never reused; one that this version does not know comes from a newer agent and is kept, not read.

use serde::{Deserialize, Serialize};

use crate::unit::UnixMillis;

/// A drift detector. The number is its wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Detector {
    /// Drift detection method.
    Ddm = 0,
    /// Early drift detection method.
    Eddm = 1,
    /// Hoeffding's bound on moving averages.
    HddmA = 2,
    /// Adaptive windowing.
    Adwin = 3,
    /// Page-Hinkley.
    PageHinkley = 4,
    /// Kolmogorov-Smirnov windowing.
    Kswin = 5,
}

impl Detector {
    /// Every detector, in order of its wire number.
    pub const ALL: [Self; 6] = [Self::Ddm, Self::Eddm, Self::HddmA, Self::Adwin, Self::PageHinkley, Self::Kswin];

    /// The detector with this wire number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The detector with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|detector| detector.name() == name)
    }

    /// Its wire number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ddm => "ddm",
            Self::Eddm => "eddm",
            Self::HddmA => "hddm_a",
            Self::Adwin => "adwin",
            Self::PageHinkley => "page_hinkley",
            Self::Kswin => "kswin",
        }
    }
}

/// A stream of values that detectors watch. The number is its wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stream {
    /// Whether the first choice was wrong, where the truth is known.
    Error = 0,
    /// Confidence of the first choice.
    Confidence = 1,
    /// Entropy of the confidences.
    Entropy = 2,
}

impl Stream {
    /// Every stream, in order of its wire number.
    pub const ALL: [Self; 3] = [Self::Error, Self::Confidence, Self::Entropy];

    /// The stream with this wire number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its wire number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Confidence => "confidence",
            Self::Entropy => "prediction_entropy",
        }
    }
}

/// How sure a detector is. The number is its wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Perhaps a change; the first value of a run of warnings.
    Warning = 1,
    /// A change.
    Drift = 2,
}

impl Level {
    /// The level with this wire number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Warning),
            2 => Some(Self::Drift),
            _ => None,
        }
    }

    /// Its wire number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Drift => "drift",
        }
    }
}

/// One piece of advice, as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisory {
    /// Wire number of the [`Detector`].
    pub detector: u8,
    /// Wire number of the [`Stream`].
    pub stream: u8,
    /// Wire number of the [`Level`].
    pub level: u8,
    /// Event time of the frame at which it was said.
    pub at: UnixMillis,
}

impl Advisory {
    /// Advice of a detector that this version knows.
    #[must_use]
    pub const fn new(detector: Detector, stream: Stream, level: Level, at: UnixMillis) -> Self {
        Self { detector: detector as u8, stream: stream as u8, level: level as u8, at }
    }

    /// Detector, stream and level, where this version knows all three.
    #[must_use]
    pub fn known(self) -> Option<(Detector, Stream, Level)> {
        Some((
            Detector::from_number(self.detector)?,
            Stream::from_number(self.stream)?,
            Level::from_number(self.level)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_what_they_stand_for() {
        for detector in Detector::ALL {
            assert_eq!(Detector::from_number(detector.number()), Some(detector));
            assert_eq!(Detector::from_name(detector.name()), Some(detector));
        }
        for stream in Stream::ALL {
            assert_eq!(Stream::from_number(stream.number()), Some(stream));
        }
        let known = Advisory::new(Detector::Kswin, Stream::Entropy, Level::Drift, UnixMillis(7));
        assert_eq!(known.known(), Some((Detector::Kswin, Stream::Entropy, Level::Drift)));
        assert_eq!(Advisory { detector: 99, ..known }.known(), None);
        assert_eq!(Advisory { level: 0, ..known }.known(), None);
    }
}
