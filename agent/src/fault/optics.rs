//! What stands between the scene and the sensor: focus, covers, fog, dirt.
//!
//! Lengths scale with the picture's width, 768 pixels being the reference, so that a severity means the same at any size.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "levels are clamped to 0..=255, places to the picture"
)]

use image::RgbImage;

use super::kind::Severity;
use super::light::{Light, Plane, of_level};
use super::random::Random;

const REFERENCE_WIDTH: f32 = 768.0;

fn scale(picture: &RgbImage) -> f32 {
    picture.width() as f32 / REFERENCE_WIDTH
}

pub(super) fn defocus(picture: &RgbImage, severity: Severity) -> RgbImage {
    let radius = severity.pick([0.0, 1.2, 2.5, 4.5, 7.5, 12.0]) * scale(picture);
    Light::of(picture).disk(radius).to_picture()
}

/// 1 is a thin translucent film, 5 opaque with almost no light left.
pub(super) fn covered(picture: &RgbImage, severity: Severity, run: &mut Random, frame: &mut Random) -> RgbImage {
    let tint = severity.pick([200.0, 185.0, 150.0, 90.0, 40.0, 6.0]);
    let cover = severity.pick([0.0, 0.62, 0.78, 0.9, 0.97, 1.0]);
    let noise = severity.pick([0.0, 1.0, 1.5, 2.0, 2.5, 2.5]);
    let blurred = Light::of(picture).disk(severity.pick([0.0, 5.0, 10.0, 16.0, 20.0, 20.0]) * scale(picture));
    let mut picture = blurred.to_picture();
    let cloud = Plane::cloud(run, picture.width() as usize, picture.height() as usize, 3);
    for (pixel, cloud) in picture.chunks_exact_mut(3).zip(&cloud.values) {
        for (level, warmth) in pixel.iter_mut().zip([1.03, 1.0, 0.97]) {
            let film = tint * (0.8 + 0.4 * cloud) * warmth;
            let mixed = f32::from(*level) * (1.0 - cover) + film * cover + frame.normal() * noise;
            *level = (mixed + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
    picture
}

/// Light lost to and scattered by air: x·t + air·(1-t) with t = exp(-density·depth) (Koschmieder 1924), far things being at
/// the top of the picture.
pub(super) fn fogged(picture: &RgbImage, severity: Severity, run: &mut Random) -> RgbImage {
    let density = severity.pick([0.0, 0.15, 0.35, 0.65, 1.1, 2.0]);
    let mut light = Light::of(picture).disk(severity.pick([0.0, 0.3, 0.6, 1.0, 1.6, 2.5]) * scale(picture));
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut thickness = Plane::cloud(run, width, height, 3);
    for (y, row) in thickness.values.chunks_exact_mut(width.max(1)).enumerate() {
        let depth = 1.25 - 0.9 * y as f32 / (height - 1).max(1) as f32;
        for value in row {
            *value = (-density * depth * (0.8 + 0.4 * *value)).exp();
        }
    }
    for (plane, air) in light.0.iter_mut().zip([206, 210, 214]) {
        let air = of_level(air);
        for (value, passed) in plane.values.iter_mut().zip(&thickness.values) {
            *value = *value * passed + air * (1.0 - passed);
        }
    }
    light.to_picture()
}

/// Specks and smears, out of focus, at the same place in every frame.
pub(super) fn dirty(picture: &RgbImage, severity: Severity, run: &mut Random) -> RgbImage {
    let stained = severity.pick([0.0, 0.55, 0.65, 0.75, 0.85, 0.93]);
    let mask = stains(picture.width() as usize, picture.height() as usize, severity, run);
    let mut light = Light::of(picture);
    let soft = light.disk(0.01 * picture.width() as f32);
    for ((plane, soft), stain) in light.0.iter_mut().zip(&soft.0).zip([70, 58, 44]) {
        let stain = of_level(stain);
        for ((value, soft), mask) in plane.values.iter_mut().zip(&soft.values).zip(&mask.values) {
            let share = mask * stained;
            *value = *value * (1.0 - share) + (0.25 * soft + 0.75 * stain) * share;
        }
    }
    light.to_picture()
}

/// An object close to the lens, out of focus and of little texture, hides the picture from one side.
pub(super) fn occluded(picture: &RgbImage, severity: Severity, run: &mut Random) -> RgbImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let side = run.below(4);
    let base: [f32; 3] = std::array::from_fn(|_| 30.0 + 80.0 * run.unit());
    let hidden = severity.pick([0.0, 0.12, 0.25, 0.4, 0.6, 0.85]);
    let cloud = Plane::cloud(run, width, height, 3);
    let mut picture = picture.clone();
    for (index, (pixel, cloud)) in picture.chunks_exact_mut(3).zip(&cloud.values).enumerate() {
        let (x, y) = ((index % width) as f32, (index / width) as f32);
        let (across, down) = (x / width as f32, y / height as f32);
        let (depth, along) = match side {
            0 => (across, y),
            1 => (1.0 - across, y),
            2 => (down, x),
            _ => (1.0 - down, x),
        };
        let edge = depth + 0.05 * (along / (0.13 * width as f32)).sin();
        let share = ((hidden - edge) / 0.04 + 0.5).clamp(0.0, 1.0);
        for (level, base) in pixel.iter_mut().zip(base) {
            let object = base * (0.75 + 0.5 * cloud);
            *level = (f32::from(*level) * (1.0 - share) + object * share + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
    picture
}

const MOST_SPECKS: usize = 60;

fn stains(width: usize, height: usize, severity: Severity, run: &mut Random) -> Plane {
    // Drawn for all specks before any is used, so that a higher severity adds specks to those already there.
    let specks: [[f32; 6]; MOST_SPECKS] = std::array::from_fn(|_| std::array::from_fn(|_| run.unit()));
    let count = severity.pick([0.0, 6.0, 12.0, 22.0, 36.0, 60.0]).round() as usize;
    let growth = severity.pick([1.0, 1.0, 1.1, 1.25, 1.4, 1.6]);
    let mut mask = Plane::filled(width, height, 0.0);
    for &[across, down, size, roundness, angle, density] in specks.iter().take(count) {
        let long = (0.012 + 0.05 * size * size) * width as f32 * growth;
        let short = (long * (0.5 + roundness)).max(2.0);
        ellipse(
            &mut mask,
            (across * width as f32, down * height as f32),
            (long.max(1.0), short),
            angle * std::f32::consts::PI,
            0.45 + 0.55 * density,
        );
    }
    let mut mask = mask.gaussian((0.012 * width as f32).max(1.0));
    let smear = severity.pick([0.0, 0.1, 0.2, 0.35, 0.55, 0.8]);
    for (value, cloud) in mask.values.iter_mut().zip(&Plane::cloud(run, width, height, 4).values) {
        *value = value.max(((cloud - 0.55) * 2.0).clamp(0.0, 1.0) * smear);
    }
    mask
}

/// Raises the mask to `value` inside a turned ellipse.
fn ellipse(mask: &mut Plane, centre: (f32, f32), half_axes: (f32, f32), angle: f32, value: f32) {
    let reach = half_axes.0.max(half_axes.1) + 1.0;
    let span = |middle: f32, length: usize| {
        let from = (middle - reach).max(0.0) as usize;
        from..((middle + reach).max(0.0) as usize + 1).min(length)
    };
    let (sin, cos) = angle.sin_cos();
    for y in span(centre.1, mask.height) {
        for x in span(centre.0, mask.width) {
            let (across, down) = (x as f32 - centre.0, y as f32 - centre.1);
            let along = (across * cos + down * sin) / half_axes.0;
            let aside = (down * cos - across * sin) / half_axes.1;
            if along * along + aside * aside <= 1.0 {
                let place = &mut mask.values[y * mask.width + x];
                *place = place.max(value);
            }
        }
    }
}
