//! What a model says of frames: from its numbers to features, label counts and the advice of detectors.
//!
//! Must hold: fixed memory, no clock, nothing allocates; a frame whose prediction is not known has none of it.
//!
//! Deliberately absent: where predictions come from (files, model servers), and detectors that look at more than one stream.

#[cfg(feature = "host")]
mod kept;
#[cfg(feature = "host")]
mod recorded;
mod scores;
mod thinning;
mod watch;
mod window;

use driftglass_protocol::feature::{Feature, FeatureValues};
#[cfg(feature = "host")]
use driftglass_protocol::summary::Model;
use driftglass_protocol::unit::Fixed;

#[cfg(feature = "host")]
pub use kept::{KEPT_BYTES, KeptError};
#[cfg(feature = "host")]
pub use recorded::Recorded;
pub use scores::{Activation, Choice, classes, detections};
pub use thinning::Thinning;
pub use watch::{Detectors, Saved, StreamWatch};
pub use window::PredictionWindow;

/// The numbers a model gave for one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// Confidence of the first choice, 0..=1; for several detections of the most confident one.
    pub confidence: Fixed,
    /// Confidence of the second choice, 0..=1, where the model gives more than one.
    pub second_confidence: Option<Fixed>,
    /// Entropy of all confidences, normalised to 0..=1, where the model gives them all.
    pub entropy: Option<Fixed>,
    /// How long the model took, in milliseconds.
    pub latency: Option<Fixed>,
    /// Whether the first choice was wrong, where the truth is known.
    pub wrong: Option<bool>,
}

impl Prediction {
    /// Entropy of the confidences, 0..=1. Where only the first is known, that of the choice between the first class and the rest, in
    /// bits: −p·log₂p − (1−p)·log₂(1−p).
    #[must_use]
    pub fn entropy(&self) -> Fixed {
        self.entropy.unwrap_or_else(|| {
            let p = self.confidence.to_f64();
            let part = |p: f64| if p > 0.0 { -p * libm::log2(p) } else { 0.0 };
            fixed_share(part(p) + part(1.0 - p))
        })
    }

    /// Adds what it knows to the features of its frame.
    pub fn set_features(&self, values: &mut FeatureValues) {
        values.set(Feature::Confidence, self.confidence);
        values.set(Feature::PredictionEntropy, self.entropy());
        if let Some(second) = self.second_confidence {
            let margin = self.confidence.raw().saturating_sub(second.raw());
            values.set(Feature::PredictionMargin, Fixed::from_raw(margin.max(0)));
        }
        if let Some(raw) = self.latency.and_then(|latency| u64::try_from(latency.raw()).ok()).filter(|&raw| raw > 0) {
            values.set(Feature::PredictionLatency, Fixed::log2_ratio(raw, 1 << Fixed::FRACTION_BITS));
        }
    }
}

/// What a model was heard to say of one frame.
#[cfg(feature = "host")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Its numbers.
    pub prediction: Prediction,
    /// What it saw: of classes the first choice, of detections each.
    pub labels: Vec<String>,
    /// Which model it was, where it says so.
    pub model: Option<Model>,
}

/// A number of 0..=1 as fixed point, rounded to the nearest; what lies beyond is clamped.
#[must_use]
pub fn fixed_share(share: f64) -> Fixed {
    fixed(share.clamp(0.0, 1.0))
}

/// A number as fixed point, rounded to the nearest; what is beyond ±32,768 is clamped, and what is no number becomes 0.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "a float beyond the integer's range becomes its end, and NaN 0")]
pub fn fixed(value: f64) -> Fixed {
    Fixed::from_raw(libm::round(value * f64::from(Fixed::ONE.raw())) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_becomes_confidence_entropy_margin_and_latency() {
        let of = |prediction: Prediction, feature| {
            let mut values = FeatureValues::default();
            prediction.set_features(&mut values);
            values.get(feature).map(Fixed::to_f64)
        };
        let half = Prediction { confidence: fixed_share(0.5), ..Prediction::default() };
        assert_eq!(of(half, Feature::PredictionEntropy), Some(1.0));
        assert_eq!(of(half, Feature::PredictionMargin), None);
        assert_eq!(of(half, Feature::PredictionLatency), None);
        let sure = Prediction {
            confidence: Fixed::ONE,
            second_confidence: Some(fixed_share(0.25)),
            latency: Some(Fixed::from_int(8)),
            ..half
        };
        assert_eq!(of(sure, Feature::Confidence), Some(1.0));
        assert_eq!(of(sure, Feature::PredictionEntropy), Some(0.0));
        assert_eq!(of(sure, Feature::PredictionMargin), Some(0.75));
        assert_eq!(of(sure, Feature::PredictionLatency), Some(3.0));
        let full = Prediction { entropy: Some(fixed_share(0.125)), latency: Some(Fixed::ZERO), ..sure };
        assert_eq!(of(full, Feature::PredictionEntropy), Some(0.125));
        assert_eq!(of(full, Feature::PredictionLatency), None, "no time at all is no measurement");
    }

    #[test]
    fn numbers_are_rounded_and_clamped() {
        assert_eq!(fixed(f64::NAN), Fixed::ZERO);
        assert_eq!(fixed(1e9).raw(), i32::MAX);
        assert_eq!(fixed(-0.5).to_f64(), -0.5);
        assert_eq!(fixed_share(1.5), Fixed::ONE);
    }
}
