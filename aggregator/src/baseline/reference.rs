//! Learning a baseline, and its stored form.

use driftglass_protocol::feature::{CATALOGUE, COUNT, Feature};
use driftglass_protocol::limit::{BINS, HISTOGRAM_BYTES};
use driftglass_protocol::sketch::{EncodedHistogram, Histogram};
use driftglass_protocol::unit::{Millis, UnixMillis};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::cumulative::Cumulative;
use super::grid::{Grid, Reading, Sample, THRESHOLDS};
use super::novelty::{Extremes, Novelty};
use super::repeats::Repeats;
use crate::decision::CountedWindow;
use crate::evidence::design_effect::DesignEffect;
use crate::evidence::effect_size::{self, EffectSizes};
use crate::evidence::tolerance_effect;
use crate::evidence::whitening::{LENGTHS, Own, Variogram};
use crate::stats::error::StatisticsError;

/// Fewest windows a design effect can be estimated from without a penalty (design notes, §3: M ≥ 30).
pub const MIN_WINDOWS: usize = 30;

/// Shifts that nobody would act on, in bins, for each feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerances([u8; COUNT]);

impl Tolerances {
    /// Those of the catalogue.
    pub const CATALOGUE: Self = {
        let mut bins = [0; COUNT];
        let mut number = 0;
        while number < COUNT {
            bins[number] = CATALOGUE[number].tolerance_bins;
            number += 1;
        }
        Self(bins)
    };
    /// None: any shift is a change. What a simulation wants whose null hypothesis is exact.
    pub const NONE: Self = Self([0; COUNT]);

    /// That of one feature.
    #[must_use]
    pub const fn of(&self, feature: Feature) -> u8 {
        self.0[feature.index()]
    }
}

/// A window beside its baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside {
    /// How it differs, feature by feature, ascending by wire number.
    pub samples: Vec<Sample>,
    /// How far beyond the usual number its repeated pictures are, as a standard normal deviate; `None` where that cannot be told.
    pub repeats: Option<f32>,
    /// What its excursions are held against; `None` where that cannot be told.
    pub extremes: Option<Extremes>,
}

/// What is normal for one feature of one camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureBaseline {
    /// Wire number of the feature.
    feature: u8,
    /// Frames per independent frame, at least 1, in windows of `mean_size` frames.
    design_effect: f64,
    /// The same for whole distributions, where no tolerance forgives what lies beside: at least as large.
    whole_effect: f64,
    /// Mean number of frames of the windows it was measured on.
    mean_size: f64,
    /// Windows it was measured on.
    windows: u32,
    /// Shift in bins that counts as none.
    tolerance: u8,
    /// Canonical encoding of the histogram.
    histogram: Vec<u8>,
    /// Where its ranks lie.
    grid: Grid,
    /// How its windows' readings differ with the time between them.
    shares: Variogram,
    /// The same for the means of the readings.
    levels: Variogram,
}

impl FeatureBaseline {
    /// The feature, where the catalogue knows it.
    #[must_use]
    pub fn feature(&self) -> Option<Feature> {
        Feature::from_number(self.feature)
    }

    /// Shift in bins that counts as none.
    #[must_use]
    pub const fn tolerance(&self) -> u8 {
        self.tolerance
    }

    /// How a window differs from it on the scale of its ranks; `None` for a window without counts.
    #[must_use]
    pub fn read(&self, window: &Histogram) -> Option<Sample> {
        self.read_cumulative(&Cumulative::of(window.counts()))
    }

    fn read_cumulative(&self, window: &Cumulative) -> Option<Sample> {
        let reading = self.grid.read(window, self.tolerance, zero_apart(self.feature()?))?;
        let (frames, usual) = (window.total() as f64, self.mean_size.max(1.0));
        // With a correlation ρ between the frames of a window, the mean of n of them has the variance ρ + (1−ρ)/n.
        let correlation = ((self.design_effect - 1.0) / (usual - 1.0).max(1.0)).clamp(0.0, 1.0);
        #[expect(clippy::cast_possible_truncation, reason = "a variance needs no more than single precision")]
        let noise = ((1.0 - correlation) * (1.0 / frames - 1.0 / usual).max(0.0)) as f32;
        Some(Sample { feature: self.feature, noise, reading, excursion: 0.0 })
    }

    /// Variograms of its windows' readings and of their means.
    #[must_use]
    pub const fn variograms(&self) -> (&Variogram, &Variogram) {
        (&self.shares, &self.levels)
    }

    /// What its own windows say of how they vary.
    ///
    /// A reading is never worth more than the frames of its window. Under a tolerance windows can look all alike; `M` of them still
    /// support no probability below `1/(M+1)` for one more (the rank of an exchangeable window), so that a block is worth at most
    /// `ln(2(M/L+1))/2` independent values, unless the design effect of whole distributions says more.
    #[must_use]
    pub fn own(&self) -> Own<'_> {
        let frames = self.mean_size.max(1.0);
        let mut floor = [1.0; LENGTHS.len()];
        for (slot, length) in floor.iter_mut().zip(LENGTHS.map(f64::from)) {
            let worth = if self.tolerance == 0 {
                frames * length
            } else {
                let blocks = f64::from(self.windows) / length;
                ((2.0 * (blocks + 1.0)).ln() / 2.0).max(frames / self.design_effect)
            };
            *slot = 1.0 / worth;
        }
        Own { shares: &self.shares, levels: &self.levels, windows: self.windows, floor }
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

    /// How large the difference of a window is that merges so many; `None` for one without counts. For people, never for a decision.
    ///
    /// Every shift counts here, also one within the tolerance; so chance is what whole distributions do from window to window.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    pub fn effect_sizes(&self, window: &Histogram, merged: u32) -> Option<EffectSizes> {
        let (normal, frames) = (self.histogram(), window.total() as f64);
        let whole = DesignEffect { value: self.whole_effect, ..self.design_effect() };
        let size = frames / whole.for_window_of(frames / f64::from(merged.max(1)));
        let axis = self.feature()?.spec().axis;
        effect_size::measure(axis, window.counts(), size, normal.counts(), normal.total() as f64 / whole.for_pooled())
            .ok()
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
    /// Usual time from the start of one of them to the next: the median.
    cadence: Millis,
    /// One entry per feature that had values, ascending by wire number.
    features: Vec<FeatureBaseline>,
    /// In how many independent directions the features move.
    directions: f32,
    /// How often a picture repeats the one before.
    repeats: Option<Repeats>,
    /// How often it is like nothing before.
    novelty: Option<Novelty>,
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
    pub fn learn(
        windows: &[CountedWindow],
        min_windows: usize,
        tolerances: &Tolerances,
    ) -> Result<Self, BaselineError> {
        let windows: Vec<&CountedWindow> = windows.iter().filter(|window| window.quality.frames > 0).collect();
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else {
            return Err(BaselineError::TooFewWindows { found: 0, needed: min_windows });
        };
        if windows.len() < min_windows {
            return Err(BaselineError::TooFewWindows { found: windows.len(), needed: min_windows });
        }

        let mut features = Vec::with_capacity(COUNT);
        let mut levels = Vec::with_capacity(COUNT);
        for feature in (0..=u8::MAX).map_while(Feature::from_number) {
            let parts: Vec<Option<&[u32; 256]>> = windows
                .iter()
                .map(|window| window.histogram(feature).filter(|part| part.total() > 0).map(Histogram::counts))
                .collect();
            let seen = parts.iter().flatten().count();
            // A feature seen in a few windows only has no baseline: what it does normally is not known. Half of them will do, at a
            // price the design effect charges, because a camera's reference picture takes its first frames to learn.
            if seen >= min_windows / 2
                && let Some((baseline, level)) = FeatureBaseline::learn(feature, &parts, tolerances.of(feature))
            {
                features.push(baseline);
                levels.push(level);
            }
        }
        let tolerated: Vec<(Feature, u8)> =
            features.iter().filter_map(|normal| Some((normal.feature()?, normal.tolerance))).collect();
        Ok(Self {
            novelty: Novelty::learn(&windows, &tolerated),
            windows: u32::try_from(windows.len()).unwrap_or(u32::MAX),
            from: first.window.start,
            to: last.window.end(),
            cadence: cadence(&windows),
            features,
            directions: directions(&levels),
            repeats: Repeats::learn(&windows),
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

    /// Usual time from the start of one window to the next, at least 1 ms. More than the windows' length for a camera that sends a
    /// picture now and then.
    #[must_use]
    pub const fn cadence(&self) -> Millis {
        self.cadence
    }

    /// Its features, ascending by wire number.
    #[must_use]
    pub fn features(&self) -> &[FeatureBaseline] {
        &self.features
    }

    /// In how many independent directions its features move from window to window, at least 1.
    #[must_use]
    pub const fn directions(&self) -> f32 {
        self.directions
    }

    /// How a window differs.
    #[must_use]
    pub fn read(&self, window: &CountedWindow) -> Beside {
        let mut samples = Vec::with_capacity(self.features.len());
        // One for all features: it is a kilobyte.
        let mut cumulative = Cumulative::new();
        let mut place = 0;
        for normal in &self.features {
            let Some((feature, histogram)) = normal.feature().and_then(|feature| window.find(feature, place)) else {
                continue;
            };
            place = feature + 1;
            cumulative.fill(histogram.counts());
            let Some(mut sample) = normal.read_cumulative(&cumulative) else { continue };
            if let Some(novelty) = &self.novelty {
                sample.excursion = novelty.excursion(normal.feature, &cumulative);
            }
            samples.push(sample);
        }
        Beside {
            samples,
            repeats: self.repeats.as_ref().and_then(|repeats| repeats.deviate(window)),
            extremes: self.novelty.as_ref().and_then(|novelty| novelty.extremes(window.quality.frames)),
        }
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

impl FeatureBaseline {
    /// From the windows that have the feature, and its mean reading in each window, for the directions.
    fn learn(feature: Feature, parts: &[Option<&[u32; 256]>], tolerance: u8) -> Option<(Self, Vec<Option<f64>>)> {
        let present: Vec<&[u32; 256]> = parts.iter().flatten().copied().collect();
        let mut pooled = [0_u32; 256];
        for part in &present {
            for (slot, &count) in pooled.iter_mut().zip(*part) {
                *slot = slot.saturating_add(count);
            }
        }
        let (effect, whole_effect) = effect(feature, &present, &pooled, tolerance).ok()?;
        let grid = Grid::of(&pooled)?;
        let readings: Vec<Reading> = present
            .iter()
            .filter_map(|part| grid.read(&Cumulative::of(part), tolerance, zero_apart(feature)))
            .collect();
        let means: Vec<f64> = readings.iter().map(mean).collect();
        let strict =
            parts.iter().map(|part| Some(mean(&grid.read(&Cumulative::of(part.as_ref()?), 0, false)?))).collect();
        let baseline = Self {
            feature: feature.number(),
            design_effect: effect.value,
            whole_effect,
            mean_size: effect.mean_size,
            windows: u32::try_from(effect.windows).unwrap_or(u32::MAX),
            tolerance,
            histogram: encoded(&pooled),
            shares: Variogram::of_readings(&readings, grid.shares()),
            levels: Variogram::of_levels(&means),
            grid,
        };
        Some((baseline, strict))
    }
}

fn encoded(counts: &[u32; BINS]) -> Vec<u8> {
    let mut histogram = Histogram::new();
    histogram.set(counts);
    let mut bytes = [0; HISTOGRAM_BYTES];
    let length = histogram.encode(&mut bytes);
    bytes.get(..length).unwrap_or_default().to_vec()
}

/// Whether bin 0 of a feature is no small value but another fact: nothing at all changed, the picture is the one before.
pub(super) const fn zero_apart(feature: Feature) -> bool {
    matches!(feature, Feature::ChangeFraction)
}

/// The median time between the starts of neighbouring windows.
fn cadence(windows: &[&CountedWindow]) -> Millis {
    let mut steps: Vec<u64> =
        windows.windows(2).map(|pair| pair[1].window.start.since(pair[0].window.start).max(1)).collect();
    steps.sort_unstable();
    Millis(steps.get(steps.len() / 2).map_or(1, |&step| u32::try_from(step).unwrap_or(u32::MAX)))
}

fn mean(reading: &Reading) -> f64 {
    reading.iter().map(|&difference| f64::from(difference)).sum::<f64>() / THRESHOLDS as f64
}

/// `F²/Σρ²` over all pairs of `F` features, with the correlations `ρ` of their steps from window to window: `F` for features that
/// move independently, 1 where all move as one. A feature that never moved says nothing and counts as moving with every other.
fn directions(levels: &[Vec<Option<f64>>]) -> f32 {
    let steps: Vec<Vec<f64>> = levels
        .iter()
        .map(|levels| {
            let steps: Vec<f64> =
                levels.windows(2).map(|pair| pair[1].zip(pair[0]).map_or(0.0, |(b, a)| b - a)).collect();
            let length = steps.iter().map(|step| step * step).sum::<f64>().sqrt();
            if length > 1e-9 { steps.iter().map(|step| step / length).collect() } else { Vec::new() }
        })
        .collect();
    let mut squares = 0.0;
    for a in &steps {
        for b in &steps {
            let correlation: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            squares += if a.is_empty() || b.is_empty() { 1.0 } else { correlation * correlation };
        }
    }
    let count = steps.len() as f64;
    #[expect(clippy::cast_possible_truncation, reason = "a number of directions needs no more than single precision")]
    let directions = (count * count / squares.max(1.0)).max(1.0) as f32;
    directions
}

/// Frames per independent frame: the smaller of what whole distributions and what distances beyond the tolerance say; and the first alone.
fn effect(
    feature: Feature,
    windows: &[&[u32; 256]],
    pooled: &[u32; 256],
    tolerance: u8,
) -> Result<(DesignEffect, f64), StatisticsError> {
    let mut effect = DesignEffect::from_histograms(windows)?;
    let circular = feature.spec().axis.is_circular();
    let worth = tolerance_effect::effective_window(windows, pooled, usize::from(tolerance), circular)?;
    let strict = if effect.frozen { effect.mean_size } else { effect.value };
    effect.value = strict.min(effect.mean_size / worth).max(1.0);
    effect.frozen = false;
    Ok((effect, strict.max(1.0)))
}
