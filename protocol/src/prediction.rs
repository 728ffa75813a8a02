//! What a summary says of a model's predictions beside the features: labels, errors, and what local detectors advise.
//!
//! It travels after the summary and only where there were predictions, so a summary without any has the bytes it always had.

use heapless::Vec;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::advisory::Advisory;
use crate::limit;
use crate::sketch::{EncodedLabels, LabelsError};
use crate::summary::Window;

/// Predictions of one camera window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predictions<'a> {
    /// Frames with a prediction.
    pub frames: u32,
    /// Frames whose first choice could be compared with the truth.
    pub judged: u32,
    /// Frames of these whose first choice was wrong.
    pub wrong: u32,
    /// Canonical encoding of the [`crate::sketch::LabelCounts`]: every label predicted, so several of a frame with several detections.
    #[serde(borrow)]
    pub labels: &'a [u8],
    /// What local detectors advise, in the order in which they said it.
    pub advisories: Vec<Advisory, { limit::ADVISORIES }>,
    /// Advice beyond that, counted only.
    pub further_advisories: u32,
}

/// Why predictions that parsed are still not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PredictionsError {
    /// More predicted frames than frames, or more judged than predicted, or more wrong than judged.
    #[error("{wrong} wrong of {judged} judged of {predicted} predicted of {frames} frames")]
    Count {
        /// Frames whose first choice was wrong.
        wrong: u32,
        /// Frames judged.
        judged: u32,
        /// Frames with a prediction.
        predicted: u32,
        /// Frames of the window.
        frames: u32,
    },
    /// The labels are malformed.
    #[error("labels: {0}")]
    Labels(#[from] LabelsError),
    /// Advice from outside the window.
    #[error("an advisory of {at} lies outside the window")]
    Time {
        /// Its time, in milliseconds since 1970.
        at: i64,
    },
}

impl Predictions<'_> {
    /// Checks everything that the types alone do not guarantee, for a window with so many frames.
    ///
    /// # Errors
    /// One variant of [`PredictionsError`] per cause.
    pub fn check(&self, window: Window, frames: u32) -> Result<(), PredictionsError> {
        let Self { frames: predicted, judged, wrong, .. } = *self;
        if predicted > frames || judged > predicted || wrong > judged {
            return Err(PredictionsError::Count { wrong, judged, predicted, frames });
        }
        EncodedLabels::parse(self.labels)?;
        match self.advisories.iter().find(|advisory| advisory.at < window.start || advisory.at >= window.end()) {
            Some(advisory) => Err(PredictionsError::Time { at: advisory.at.0 }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advisory::{Detector, Level, Stream};
    use crate::unit::{Millis, UnixMillis};

    #[test]
    fn counts_labels_and_times_are_checked() {
        let window = Window { start: UnixMillis(60_000), length: Millis(60_000), merged: 1 };
        let good = Predictions {
            frames: 3,
            judged: 2,
            wrong: 1,
            labels: &[0, 0, 1, 1, b'a', 3],
            advisories: Vec::from([Advisory::new(
                Detector::Adwin,
                Stream::Confidence,
                Level::Drift,
                UnixMillis(60_000),
            )]),
            further_advisories: 0,
        };
        assert_eq!(good.check(window, 3), Ok(()));
        let count = |wrong, judged, predicted| {
            let changed = Predictions { wrong, judged, frames: predicted, ..good.clone() };
            changed.check(window, 3) == Err(PredictionsError::Count { wrong, judged, predicted, frames: 3 })
        };
        assert!(count(0, 0, 4) && count(0, 4, 3) && count(3, 2, 3));
        let unlabelled = Predictions { labels: &[], ..good.clone() };
        assert!(matches!(unlabelled.check(window, 3), Err(PredictionsError::Labels(_))));
        let mut late = good;
        late.advisories[0].at = UnixMillis(120_000);
        assert_eq!(late.check(window, 3), Err(PredictionsError::Time { at: 120_000 }));
    }
}
