//! Learning a baseline, and its stored form.

use driftglass_protocol::feature::{COUNT, Feature};
use driftglass_protocol::limit::HISTOGRAM_BYTES;
use driftglass_protocol::sketch::{EncodedHistogram, Histogram};
use driftglass_protocol::unit::UnixMillis;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::decision::CountedWindow;
use crate::evidence::design_effect::DesignEffect;
use crate::evidence::tolerance_effect;
use crate::stats::error::StatisticsError;

/// Fewest windows a design effect can be estimated from without a penalty (design notes, §3: M ≥ 30).
pub const MIN_WINDOWS: usize = 30;

/// What is normal for one feature of one camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureBaseline {
    /// Wire number of the feature.
    feature: u8,
    /// Frames per independent frame, at least 1, in windows of `mean_size` frames.
    design_effect: f64,
    /// Mean number of frames of the windows it was measured on.
    mean_size: f64,
    /// Windows it was measured on.
    windows: u32,
    /// Canonical encoding of the histogram.
    histogram: Vec<u8>,
}

impl FeatureBaseline {
    /// The feature, where the catalogue knows it.
    #[must_use]
    pub fn feature(&self) -> Option<Feature> {
        Feature::from_number(self.feature)
    }

    /// How many frames one independent frame is worth.
    #[must_use]
    pub const fn design_effect(&self) -> DesignEffect {
        DesignEffect {
            value: self.design_effect,
            windows: self.windows as usize,
            mean_size: self.mean_size,
            frozen: false,
        }
    }

    /// The counts.
    #[must_use]
    pub fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::new();
        if let Ok(encoded) = EncodedHistogram::parse(&self.histogram) {
            histogram.merge(encoded);
        }
        histogram
    }
}

/// What is normal for one camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Windows it was taken from.
    windows: u32,
    /// Start of the first of them.
    from: UnixMillis,
    /// End of the last of them.
    to: UnixMillis,
    /// One entry per feature that had values, ascending by wire number.
    features: Vec<FeatureBaseline>,
}

/// Why there is no baseline.
#[derive(Debug, Error)]
pub enum BaselineError {
    /// Too few windows with frames.
    #[error("a baseline needs at least {needed} windows with frames, there are {found}")]
    TooFewWindows {
        /// Windows found.
        found: usize,
        /// Windows needed.
        needed: usize,
    },
    /// The stored form does not decode.
    #[error("a stored baseline does not decode: {0}")]
    Stored(#[from] postcard::Error),
}

impl Baseline {
    /// Takes a baseline from windows; those without frames are left out.
    ///
    /// # Errors
    /// [`BaselineError::TooFewWindows`] below `min_windows`.
    pub fn learn(windows: &[CountedWindow], min_windows: usize) -> Result<Self, BaselineError> {
        let windows: Vec<&CountedWindow> = windows.iter().filter(|window| window.quality.frames > 0).collect();
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else {
            return Err(BaselineError::TooFewWindows { found: 0, needed: min_windows });
        };
        if windows.len() < min_windows {
            return Err(BaselineError::TooFewWindows { found: windows.len(), needed: min_windows });
        }

        let mut measured: Vec<(Feature, Histogram, DesignEffect)> = Vec::with_capacity(COUNT);
        for feature in (0..=u8::MAX).map_while(Feature::from_number) {
            let parts: Vec<&[u32; 256]> = windows
                .iter()
                .filter_map(|window| window.histogram(feature).map(Histogram::counts))
                .filter(|counts| counts.iter().any(|&count| count > 0))
                .collect();
            let mut pooled = Histogram::new();
            for window in &windows {
                if let Some(histogram) = window.histogram(feature) {
                    pooled.merge_dense(histogram);
                }
            }
            // A feature seen in a few windows only has no baseline: what it does normally is not known. Half of them will do, at a
            // price the design effect charges, because a camera's reference picture takes its first frames to learn.
            if parts.len() >= min_windows / 2
                && let Ok(effect) = effect(feature, &parts, &pooled)
            {
                measured.push((feature, pooled, effect));
            }
        }
        let features = measured
            .into_iter()
            .map(|(feature, pooled, effect)| {
                let mut bytes = [0; HISTOGRAM_BYTES];
                let length = pooled.encode(&mut bytes);
                FeatureBaseline {
                    feature: feature.number(),
                    design_effect: effect.value,
                    mean_size: effect.mean_size,
                    windows: u32::try_from(effect.windows).unwrap_or(u32::MAX),
                    histogram: bytes.get(..length).unwrap_or_default().to_vec(),
                }
            })
            .collect();
        Ok(Self {
            windows: u32::try_from(windows.len()).unwrap_or(u32::MAX),
            from: first.window.start,
            to: last.window.end(),
            features,
        })
    }

    /// Windows it was taken from.
    #[must_use]
    pub const fn windows(&self) -> u32 {
        self.windows
    }

    /// The stretch of event time it was taken from.
    #[must_use]
    pub const fn span(&self) -> (UnixMillis, UnixMillis) {
        (self.from, self.to)
    }

    /// Its features, ascending by wire number.
    #[must_use]
    pub fn features(&self) -> &[FeatureBaseline] {
        &self.features
    }

    /// What is normal for one feature.
    #[must_use]
    pub fn feature(&self, feature: Feature) -> Option<&FeatureBaseline> {
        self.features.iter().find(|baseline| baseline.feature == feature.number())
    }

    /// The form it is stored in.
    ///
    /// # Errors
    /// Never in practice: only where memory for the bytes cannot be had.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BaselineError> {
        Ok(postcard::to_stdvec(self)?)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`BaselineError::Stored`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BaselineError> {
        Ok(postcard::from_bytes(bytes)?)
    }
}

/// Frames per independent frame: the smaller of what whole distributions and what distances beyond the tolerance say.
fn effect(feature: Feature, windows: &[&[u32; 256]], pooled: &Histogram) -> Result<DesignEffect, StatisticsError> {
    let mut effect = DesignEffect::from_histograms(windows)?;
    let spec = feature.spec();
    let tolerance = usize::from(spec.tolerance_bins);
    let worth = tolerance_effect::effective_window(windows, pooled.counts(), tolerance, spec.axis.is_circular())?;
    let strict = if effect.frozen { effect.mean_size } else { effect.value };
    effect.value = strict.min(effect.mean_size / worth).max(1.0);
    effect.frozen = false;
    Ok(effect)
}
