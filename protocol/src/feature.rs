//! The catalogue: every feature, its name, unit, range, axis and the change that counts as none.
//!
//! This is the only place that defines a feature. A wire number is never reused for another meaning; a feature that changes
//! meaning gets a new one.

use crate::sketch::Axis;
use crate::unit::Fixed;

/// A feature of a frame, of what a model said about it, or of the device at the time. The number is its wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Feature {
    /// Mean luma (ITU-T T.871 Y).
    LumaMean = 0,
    /// Standard deviation of luma.
    LumaStd = 1,
    /// Shannon entropy of the 256-level luma histogram.
    LumaEntropy = 2,
    /// Share of pixels with luma below 32.
    DarkFraction = 3,
    /// Share of pixels with luma of 240 and more.
    BrightFraction = 4,
    /// log₂ of the mean absolute DCT coefficient at zigzag positions 21..63 of 8x8 luma blocks: sharpness at full resolution.
    HighFrequencyEnergy = 5,
    /// log₂ of the high-frequency energy over that of zigzag positions 1..5: blur lowers it, noise raises it.
    SpectralTilt = 6,
    /// Share of luma blocks whose coefficients 1..5 sum to less than 8.
    FlatFraction = 7,
    /// log₂ of the median over blocks of the mean absolute coefficient at positions 28..63: noise between the edges.
    NoiseLevel = 8,
    /// log₂ of the luma step across 8x8 block borders over the step inside blocks: compression.
    Blockiness = 9,
    /// Mean blue-difference chroma.
    CbMean = 10,
    /// Mean red-difference chroma.
    CrMean = 11,
    /// Root mean square of chroma, √(mean(Cb²+Cr²)).
    ChromaRms = 12,
    /// Mean of the JPEG luma quantisation table; absent for other formats.
    QuantisationMean = 13,
    /// log₂ of encoded bits per pixel.
    BitsPerPixel = 14,
    /// Cross-correlation of a 32x18 luma thumbnail, after local contrast normalisation, with the camera's reference thumbnail.
    ReferenceCorrelation = 15,
    /// Differing bits of a 256-bit difference hash against the reference.
    HashDistance = 16,
    /// Share of 16x9 tiles whose detail fell below 35 % of the reference's.
    TileLoss = 17,
    /// Share of 16x9 tiles that are dark and without texture.
    DarkTiles = 18,
    /// Share of 8x8 blocks whose mean changed since the previous frame; 0 is a frozen picture.
    ChangeFraction = 19,
    /// Angle of the summed (Cb, Cr) vectors of coloured pixels; absent where few pixels have a colour or their angles cancel.
    Hue = 20,
    /// Confidence of the model's first choice.
    Confidence = 21,
    /// Entropy of the model's confidences, normalised to 0..1.
    PredictionEntropy = 22,
    /// Confidence of the model's first choice minus that of its second.
    PredictionMargin = 23,
    /// log₂ of the milliseconds the model took.
    PredictionLatency = 24,
    /// Share of the device's processor time in use.
    DeviceProcessor = 25,
    /// Share of the device's memory in use.
    DeviceMemory = 26,
    /// Share of the disk with the agent's state in use.
    DeviceDisk = 27,
    /// Temperature of the device's hottest zone.
    DeviceTemperature = 28,
    /// log₂ of the bytes a second that the device received and sent.
    DeviceNetwork = 29,
    /// How far the device's clock is ahead of the aggregator's.
    ClockOffset = 30,
    /// How far the picture's parts lie from where the reference has them (root mean square), in percent of its width.
    ViewDisplacement = 31,
    /// By how much the camera is turned about its line of sight, against the reference; clockwise turns of the picture are positive.
    ViewRotation = 32,
    /// How far the cells of a 32x18 grid have been from what they usually are beside their neighbourhood, for longer than it takes to
    /// pass by: 0 is as ever, 1 is every cell by one and a half of its spread or more.
    LastingChange = 33,
}

/// What a feature is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The picture.
    Picture,
    /// What a model says of it.
    Model,
    /// The device, at the time of the frame: the same for all its cameras.
    Device,
}

/// What the catalogue says of one feature.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The feature.
    pub feature: Feature,
    /// Its name in every interface.
    pub name: &'static str,
    /// Unit, for people.
    pub unit: &'static str,
    /// The grid it is counted on.
    pub axis: Axis,
    /// Practical equivalence: a shift of at most this many bins is not a change anybody would act on.
    pub tolerance_bins: u8,
}

const fn spec(feature: Feature, name: &'static str, unit: &'static str, axis: Axis, tolerance_bins: u8) -> Spec {
    Spec { feature, name, unit, axis, tolerance_bins }
}

/// Number of features in the catalogue.
pub const COUNT: usize = 34;

/// Every feature, in order of its wire number.
pub const CATALOGUE: [Spec; COUNT] = [
    spec(Feature::LumaMean, "luma_mean", "level", Axis::linear(0, 256), 8),
    spec(Feature::LumaStd, "luma_std", "level", Axis::linear(0, 128), 8),
    spec(Feature::LumaEntropy, "luma_entropy", "bit", Axis::linear(0, 8), 8),
    spec(Feature::DarkFraction, "dark_fraction", "share", Axis::SquareRoot, 16),
    spec(Feature::BrightFraction, "bright_fraction", "share", Axis::SquareRoot, 16),
    spec(Feature::HighFrequencyEnergy, "high_frequency_energy", "log2 level", Axis::linear(-5, 8), 6),
    spec(Feature::SpectralTilt, "spectral_tilt", "log2 ratio", Axis::linear(-12, 4), 5),
    spec(Feature::FlatFraction, "flat_fraction", "share", Axis::linear(0, 1), 13),
    spec(Feature::NoiseLevel, "noise_level", "log2 level", Axis::linear(-8, 8), 6),
    spec(Feature::Blockiness, "blockiness", "log2 ratio", Axis::linear(-4, 4), 6),
    spec(Feature::CbMean, "cb_mean", "level", Axis::linear(-64, 64), 4),
    spec(Feature::CrMean, "cr_mean", "level", Axis::linear(-64, 64), 4),
    spec(Feature::ChromaRms, "chroma_rms", "level", Axis::linear(0, 128), 5),
    spec(Feature::QuantisationMean, "quantisation_mean", "level", Axis::linear(0, 256), 2),
    spec(Feature::BitsPerPixel, "bits_per_pixel", "log2 bit/px", Axis::linear(-6, 6), 6),
    spec(Feature::ReferenceCorrelation, "reference_correlation", "correlation", Axis::linear(-1, 1), 6),
    spec(Feature::HashDistance, "hash_distance", "bit", Axis::linear(0, 256), 10),
    spec(Feature::TileLoss, "tile_loss", "share", Axis::linear(0, 1), 13),
    spec(Feature::DarkTiles, "dark_tiles", "share", Axis::linear(0, 1), 8),
    spec(Feature::ChangeFraction, "change_fraction", "share", Axis::SquareRoot, 8),
    spec(Feature::Hue, "hue", "degree", Axis::Circular { period: Fixed::from_int(360) }, 12),
    spec(Feature::Confidence, "confidence", "probability", Axis::linear(0, 1), 6),
    spec(Feature::PredictionEntropy, "prediction_entropy", "share", Axis::linear(0, 1), 6),
    spec(Feature::PredictionMargin, "prediction_margin", "probability", Axis::linear(0, 1), 6),
    spec(Feature::PredictionLatency, "prediction_latency", "log2 ms", Axis::linear(-4, 12), 8),
    spec(Feature::DeviceProcessor, "device_processor", "share", Axis::linear(0, 1), 26),
    spec(Feature::DeviceMemory, "device_memory", "share", Axis::linear(0, 1), 13),
    spec(Feature::DeviceDisk, "device_disk", "share", Axis::linear(0, 1), 13),
    spec(Feature::DeviceTemperature, "device_temperature", "celsius", Axis::linear(-40, 120), 8),
    spec(Feature::DeviceNetwork, "device_network", "log2 byte/s", Axis::linear(0, 32), 16),
    spec(Feature::ClockOffset, "clock_offset", "second", Axis::linear(-32, 32), 4),
    spec(Feature::ViewDisplacement, "view_displacement", "percent", Axis::linear(0, 32), 6),
    spec(Feature::ViewRotation, "view_rotation", "degree", Axis::linear(-16, 16), 4),
    spec(Feature::LastingChange, "lasting_change", "share", Axis::linear(0, 1), 15),
];

const _: () = {
    let mut number = 0;
    while number < COUNT {
        assert!(CATALOGUE[number].feature as usize == number, "the catalogue is ordered by wire number");
        number += 1;
    }
    assert!(COUNT <= crate::limit::FEATURES, "every feature fits one summary");
};

impl Feature {
    /// The feature with this wire number; `None` for one that a newer agent may know.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        CATALOGUE.get(usize::from(number)).map(|spec| spec.feature)
    }

    /// The feature with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        CATALOGUE.iter().find(|spec| spec.name == name).map(|spec| spec.feature)
    }

    /// Its wire number, which is also its index in [`CATALOGUE`].
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its index in [`CATALOGUE`] and in arrays with one place per feature.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What the catalogue says of it.
    #[must_use]
    pub const fn spec(self) -> &'static Spec {
        &CATALOGUE[self as usize]
    }

    /// What it is measured on.
    #[must_use]
    pub const fn subject(self) -> Subject {
        match self {
            Self::Confidence | Self::PredictionEntropy | Self::PredictionMargin | Self::PredictionLatency => {
                Subject::Model
            }
            Self::DeviceProcessor
            | Self::DeviceMemory
            | Self::DeviceDisk
            | Self::DeviceTemperature
            | Self::DeviceNetwork
            | Self::ClockOffset => Subject::Device,
            _ => Subject::Picture,
        }
    }

    /// Its name in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.spec().name
    }
}

/// One value per feature; `None` where a frame has none (a PNG has no quantisation table, a grey picture no hue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureValues([Option<Fixed>; COUNT]);

impl Default for FeatureValues {
    fn default() -> Self {
        Self([None; COUNT])
    }
}

impl FeatureValues {
    /// Sets one value.
    pub const fn set(&mut self, feature: Feature, value: Fixed) {
        self.0[feature.index()] = Some(value);
    }

    /// One value, where the frame has it.
    #[must_use]
    pub const fn get(&self, feature: Feature) -> Option<Fixed> {
        self.0[feature.index()]
    }

    /// Every feature of the catalogue with its value, in wire order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Spec, Option<Fixed>)> {
        CATALOGUE.iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_feature() {
        for spec in &CATALOGUE {
            assert_eq!(Feature::from_name(spec.name), Some(spec.feature));
            assert_eq!(Feature::from_number(spec.feature.number()), Some(spec.feature));
        }
        assert_eq!(Feature::from_number(200), None);
        assert_eq!(Feature::from_name("weather"), None);
    }
}
