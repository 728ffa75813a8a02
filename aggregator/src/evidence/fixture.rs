//! Cameras for tests of the evidence.

use super::camera::CameraEvidence;
use super::site::{Member, observe};
use super::stream::Stream;
use super::whitening::{Calibration, LENGTHS, Memory, Own, Variogram};
use crate::baseline::{Sample, THRESHOLDS};

/// A camera with two features whose windows are independent.
pub(super) fn camera() -> CameraEvidence {
    let none = Variogram::default();
    let own = Own { shares: &none, levels: &none, windows: 1000, floor: [1.0 / 60.0; LENGTHS.len()] };
    let calibration = Calibration::new(Memory { phi: 0.0, sill: 0.0, level_sill: 0.0, windows: 1.0 }, &own);
    let streams = (0..2).map(|feature| Stream::new(feature, false, calibration, None).warm()).collect();
    CameraEvidence::new(0, 240, streams, 2.0)
}

pub(super) fn samples(difference: f32) -> Vec<Sample> {
    (0..2).map(|feature| Sample { feature, noise: 0.0, reading: [difference; THRESHOLDS], excursion: 0.0 }).collect()
}

pub(super) fn judge(cameras: &mut [CameraEvidence], differences: &[f32], window: u32, active: usize) {
    let samples: Vec<Vec<Sample>> = differences.iter().map(|&difference| samples(difference)).collect();
    let mut members: Vec<Member<'_>> = cameras
        .iter_mut()
        .zip(&samples)
        .map(|(evidence, samples)| Member { evidence, samples, repeats: None, extremes: None })
        .collect();
    observe(&mut members, window, active);
}
