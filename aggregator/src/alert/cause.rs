//! The faults that have a name, and what to do about each.

use serde::{Deserialize, Serialize};

/// The likely cause of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The same picture again and again.
    Frozen,
    /// Something is in front of the lens.
    Covered,
    /// The camera looks elsewhere.
    Moved,
    /// Out of focus.
    Defocused,
    /// Dirt or drops on the lens.
    Dirty,
    /// Fog, haze or condensation.
    Fogged,
    /// Too little light.
    Dark,
    /// Too much light.
    Overexposed,
    /// The colours are off.
    ColourCast,
    /// Night mode: grey under infrared light.
    Infrared,
    /// Sensor noise or gain.
    Noise,
    /// The encoder throws away more than before.
    Compression,
    /// Another scene altogether.
    SceneChange,
    /// The same scene with other contents.
    ContentChange,
    /// The model answers differently to the same pictures.
    ModelDrift,
    /// The mix of labels changed.
    LabelShift,
    /// The device itself is unwell.
    Device,
    /// Nothing arrives any more.
    Offline,
    /// It changed, and matches no signature.
    Unknown,
}

impl Cause {
    /// Every cause, in the order of the documentation.
    pub const ALL: [Self; 19] = [
        Self::Frozen,
        Self::Covered,
        Self::Moved,
        Self::Defocused,
        Self::Dirty,
        Self::Fogged,
        Self::Dark,
        Self::Overexposed,
        Self::ColourCast,
        Self::Infrared,
        Self::Noise,
        Self::Compression,
        Self::SceneChange,
        Self::ContentChange,
        Self::ModelDrift,
        Self::LabelShift,
        Self::Device,
        Self::Offline,
        Self::Unknown,
    ];

    /// Its name in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Covered => "covered",
            Self::Moved => "moved",
            Self::Defocused => "defocused",
            Self::Dirty => "dirty",
            Self::Fogged => "fogged",
            Self::Dark => "dark",
            Self::Overexposed => "overexposed",
            Self::ColourCast => "colour-cast",
            Self::Infrared => "infrared",
            Self::Noise => "noise",
            Self::Compression => "compression",
            Self::SceneChange => "scene-change",
            Self::ContentChange => "content-change",
            Self::ModelDrift => "model-drift",
            Self::LabelShift => "label-shift",
            Self::Device => "device",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }

    /// What an operator should do first.
    #[must_use]
    pub const fn recommended_action(self) -> &'static str {
        match self {
            Self::Frozen => "Restart the camera or its encoder; what it shows is not live.",
            Self::Covered => "Go and look: something stands or hangs in front of the lens.",
            Self::Moved => "Aim the camera as before, or accept the new view as normal.",
            Self::Defocused => "Refocus the lens; check the day/night focus setting.",
            Self::Dirty => "Clean the lens or the dome.",
            Self::Fogged => "Check for condensation in the housing; outdoors, wait for the weather.",
            Self::Dark => "Check the lighting and the exposure settings.",
            Self::Overexposed => "Check for a light shining into the lens and the exposure settings.",
            Self::ColourCast => "Check the white balance and the lighting.",
            Self::Infrared => "Check the infrared filter: the camera is in night mode.",
            Self::Noise => "Check gain, lighting and cabling; the sensor may be failing.",
            Self::Compression => "Check bit rate and quality settings of the encoder.",
            Self::SceneChange => "Check that this is the right camera; accept the new view as normal if it is.",
            Self::ContentChange => "Look at what is in view; accept it as normal if it will stay.",
            Self::ModelDrift => "Compare with the previous model version; consider a rollback.",
            Self::LabelShift => "Check whether the world or the model changed; consider retraining.",
            Self::Device => "Check the device: load, memory, disk, temperature, network.",
            Self::Offline => "Check power and network at the site.",
            Self::Unknown => "Look at the camera and at the features listed.",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_serialized_form() {
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_string(&cause).ok(), Some(format!("\"{}\"", cause.name())));
        }
    }
}
