//! The summary of one camera window: the only measurement that leaves a site.
//!
//! It holds histograms, counters, names and labels. It has no field that could hold a picture, a file name or a host name, and its size is
//! bounded by [`limit::FRAME_BYTES`]. Site and device are deliberately absent: they come from the sender's certificate.

use heapless::Vec;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::feature::Feature;
use crate::id::Name;
use crate::limit;
use crate::prediction::{Predictions, PredictionsError};
use crate::sketch::{EncodedHistogram, HistogramError};
use crate::unit::{Millis, UnixMillis};

/// The stretch of event time a summary speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its first instant.
    pub start: UnixMillis,
    /// Its length; frames of `start <= time < start + length` belong to it.
    pub length: Millis,
    /// How many neighbouring windows were merged into this one; 1 is full resolution.
    pub merged: u32,
}

impl Window {
    /// The first instant after the window.
    #[must_use]
    pub const fn end(self) -> UnixMillis {
        self.start.plus(self.length)
    }
}

/// What became of the frames of a window. Nothing is dropped silently: what is not sketched is counted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    /// Frames measured and counted in the histograms.
    pub frames: u32,
    /// Frames expected from the configured rate that never came.
    pub missing: u32,
    /// Files or payloads that were not a readable picture.
    pub undecodable: u32,
    /// Frames left out by the configured sampling rate.
    pub skipped: u32,
    /// Frames whose time lay before the open window.
    pub late: u32,
}

/// The model whose predictions a summary covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Name,
}

/// The sketch of one feature in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSketch<'a> {
    /// Wire number of the feature; one that the catalogue does not know comes from a newer agent and is kept, not read.
    pub feature: u8,
    /// Frames that had no value for it.
    pub absent: u32,
    /// Canonical encoding of its [`crate::sketch::Histogram`].
    pub histogram: &'a [u8],
}

/// One camera window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary<'a> {
    /// The camera's name at its device.
    pub camera: Name,
    /// The model watched, where one is.
    pub model: Option<Model>,
    /// The window.
    pub window: Window,
    /// Time of the first frame counted, where there is one.
    pub first_frame: Option<UnixMillis>,
    /// Time of the last frame counted.
    pub last_frame: Option<UnixMillis>,
    /// What became of the frames.
    pub quality: Quality,
    /// One sketch per feature, ascending by wire number.
    #[serde(borrow)]
    pub sketches: Vec<FeatureSketch<'a>, { limit::FEATURES }>,
    /// What a model said of the frames, where one did. It follows the summary and is nothing at all where there is none; read it with
    /// [`crate::wire::Record::parse`], which knows where the record ends.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<Predictions<'a>>,
}

/// Why a summary that parsed is still not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SummaryError {
    /// The window has no length, or merges none.
    #[error("a window must have a length and merge at least itself")]
    EmptyWindow,
    /// Features out of order or twice.
    #[error("feature {feature} is out of order or listed twice")]
    Order {
        /// Its wire number.
        feature: u8,
    },
    /// A histogram is malformed.
    #[error("feature {feature}: {error}")]
    Histogram {
        /// Its wire number.
        feature: u8,
        /// What is wrong with it.
        error: HistogramError,
    },
    /// A histogram and its absences do not add up to the frames of the window.
    #[error("feature {feature} counts {counted} values and absences in {frames} frames")]
    Count {
        /// Its wire number.
        feature: u8,
        /// Values plus absences.
        counted: u64,
        /// Frames of the window.
        frames: u32,
    },
    /// What is said of predictions is not acceptable.
    #[error("predictions: {0}")]
    Predictions(#[from] PredictionsError),
}

impl<'a> Summary<'a> {
    /// Checks everything that the types alone do not guarantee.
    ///
    /// # Errors
    /// One variant of [`SummaryError`] per cause.
    pub fn check(&self) -> Result<(), SummaryError> {
        if self.window.length.0 == 0 || self.window.merged == 0 {
            return Err(SummaryError::EmptyWindow);
        }
        let mut previous = None;
        for sketch in &self.sketches {
            let feature = sketch.feature;
            if previous.is_some_and(|previous| previous >= feature) {
                return Err(SummaryError::Order { feature });
            }
            previous = Some(feature);
            let histogram = EncodedHistogram::parse(sketch.histogram)
                .map_err(|error| SummaryError::Histogram { feature, error })?;
            let counted = histogram.total() + u64::from(sketch.absent);
            if counted != u64::from(self.quality.frames) {
                return Err(SummaryError::Count { feature, counted, frames: self.quality.frames });
            }
        }
        if let Some(predictions) = &self.predictions {
            predictions.check(self.window, self.quality.frames)?;
        }
        Ok(())
    }

    /// The sketches of features this version knows, parsed.
    pub fn histograms(&self) -> impl Iterator<Item = (Feature, EncodedHistogram<'a>)> {
        self.sketches.iter().filter_map(|sketch| {
            Some((Feature::from_number(sketch.feature)?, EncodedHistogram::parse(sketch.histogram).ok()?))
        })
    }
}
