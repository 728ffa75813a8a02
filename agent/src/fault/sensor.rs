//! What the sensor and its electronics make of the light: exposure, noise, colour.

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "levels are clamped to 0..=255")]

use image::RgbImage;

use super::kind::Severity;
use super::light::Light;
use super::random::Random;

/// Share of red, green and blue light in luminance (ITU-R BT.709).
const LUMINANCE: [f32; 3] = [0.2126, 0.7152, 0.0722];

/// Shot noise grows with the root of the light, read noise is there without any.
fn with_noise(light: f32, random: &mut Random, shot: f32, read: f32) -> f32 {
    light + random.normal() * (light.max(0.0) * shot * shot + read * read).sqrt()
}

pub(super) fn dark(picture: &RgbImage, severity: Severity, frame: &mut Random) -> RgbImage {
    let gain = severity.pick([1.0, 0.45, 0.22, 0.11, 0.05, 0.02]);
    let shot = severity.pick([0.0, 0.02, 0.03, 0.04, 0.045, 0.05]);
    let read = severity.pick([0.0, 0.001, 0.002, 0.003, 0.004, 0.005]);
    // Colour fades in the dark.
    let grey = severity.pick([0.0, 0.05, 0.15, 0.3, 0.5, 0.7]);
    let mut light = Light::of(picture);
    let [red, green, blue] = &mut light.0;
    for ((red, green), blue) in red.values.iter_mut().zip(&mut green.values).zip(&mut blue.values) {
        let noisy = [&*red, green, blue].map(|value| with_noise(value * gain, frame, shot, read));
        let mean = noisy.iter().sum::<f32>() / 3.0;
        [*red, *green, *blue] = noisy.map(|value| value * (1.0 - grey) + mean * grey);
    }
    light.to_picture()
}

/// More light than the sensor holds; what is too much spills over to its surroundings.
pub(super) fn overexposed(picture: &RgbImage, severity: Severity) -> RgbImage {
    let gain = severity.pick([1.0, 1.6, 2.5, 4.0, 7.0, 13.0]);
    let glare = severity.pick([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]);
    let mut light = Light::of(picture);
    for plane in &mut light.0 {
        plane.values.iter_mut().for_each(|value| *value *= gain);
        let mut bloom = plane.clone();
        bloom.values.iter_mut().for_each(|value| *value = (*value - 1.0).clamp(0.0, 3.0));
        let bloom = bloom.gaussian(0.02 * picture.width() as f32);
        for (value, bloom) in plane.values.iter_mut().zip(&bloom.values) {
            *value += glare * bloom;
        }
    }
    light.to_picture()
}

/// Gains of red, green and blue: warm, cool, green, magenta.
const CASTS: [[f32; 3]; 4] = [[1.7, 0.9, 0.45], [0.5, 0.95, 1.7], [0.7, 1.45, 0.7], [1.4, 0.6, 1.35]];

/// A wrong white balance; the luminance of the whole picture stays.
pub(super) fn colour_cast(picture: &RgbImage, severity: Severity, run: &mut Random) -> RgbImage {
    let strength = severity.pick([0.0, 0.2, 0.4, 0.65, 1.0, 1.5]);
    let gains = CASTS[run.below(CASTS.len())].map(|gain| gain.powf(strength));
    let mut light = Light::of(picture);
    let means = [0, 1, 2].map(|channel| light.0[channel].mean());
    let luminance = |gains: [f32; 3]| (0..3).map(|place| means[place] * gains[place] * LUMINANCE[place]).sum::<f32>();
    let balance = luminance([1.0; 3]) / luminance(gains).max(1e-6);
    for (plane, gain) in light.0.iter_mut().zip(gains) {
        plane.values.iter_mut().for_each(|value| *value *= gain * balance);
    }
    light.to_picture()
}

/// Night mode: a grey picture lit by the camera's own lamp in its middle; severity sets how dark the scene is otherwise.
pub(super) fn infrared(picture: &RgbImage, severity: Severity, frame: &mut Random) -> RgbImage {
    let lamp = severity.pick([0.0, 0.1, 0.3, 0.5, 0.7, 0.85]);
    let gain = severity.pick([1.0, 0.9, 0.8, 0.65, 0.5, 0.35]);
    let shot = severity.pick([0.0, 0.015, 0.025, 0.035, 0.045, 0.055]);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let spread =
        |place: usize, length: usize, reach: f32| (-((place as f32 / length as f32 - 0.5) / reach).powi(2)).exp();
    let across: Vec<f32> = (0..width).map(|x| spread(x, width, 0.42)).collect();
    let mut light = Light::of(picture);
    let [red, green, blue] = &mut light.0;
    for y in 0..height {
        let down = spread(y, height, 0.45);
        for (x, across) in across.iter().enumerate() {
            let place = y * width + x;
            // A sensor without its infrared filter answers to red most.
            let grey = 0.4 * red.values[place] + 0.35 * green.values[place] + 0.25 * blue.values[place];
            let lit = grey * ((1.0 - lamp) + lamp * across * down * 1.3) * gain;
            let value = with_noise(lit, frame, shot, 0.002);
            (red.values[place], green.values[place], blue.values[place]) = (value, value, value);
        }
    }
    light.to_picture()
}

/// Noise of one strength at every level, as an amplifier or a bad cable adds it.
pub(super) fn noise(picture: &RgbImage, severity: Severity, frame: &mut Random) -> RgbImage {
    let deviation = severity.pick([0.0, 5.0, 10.0, 18.0, 30.0, 45.0]);
    let mut picture = picture.clone();
    for level in picture.iter_mut() {
        *level = (f32::from(*level) + frame.normal() * deviation + 0.5).clamp(0.0, 255.0) as u8;
    }
    picture
}
