//! Each fault of a camera moves the features that are there to see it, in a made-up scene behind a real JPEG encoder.
//!
//! Deliberately absent: recorded footage. How well faults separate there is a matter of statistics over many frames, and judged
//! where the statistics are.

use driftglass_protocol::feature::{Feature, FeatureValues};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::Decoder;
use crate::feature::CameraState;

const WIDE: usize = 320;
const HIGH: usize = 192;

/// Pixels of a scene: fine and coarse texture, a few objects, some colour.
type Picture = Vec<[f32; 3]>;

fn hash(x: i32, y: i32, seed: u32) -> f32 {
    let mut h = seed.wrapping_mul(0x9e37_79b9)
        ^ x.cast_unsigned().wrapping_mul(0x85eb_ca6b)
        ^ y.cast_unsigned().wrapping_mul(0xc2b2_ae35);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    f32::from(((h ^ (h >> 15)) >> 16).to_le_bytes()[0]) / 255.0
}

/// Smooth noise with a period of `cell` pixels.
#[expect(clippy::cast_possible_truncation, reason = "pixel coordinates")]
fn cloud(x: f32, y: f32, cell: f32, seed: u32) -> f32 {
    let (x, y) = (x / cell, y / cell);
    let (cx, cy) = (x.floor(), y.floor());
    let (fx, fy) = (x - cx, y - cy);
    let corner = |dx: i32, dy: i32| hash(cx as i32 + dx, cy as i32 + dy, seed);
    let top = corner(0, 0) * (1.0 - fx) + corner(1, 0) * fx;
    let bottom = corner(0, 1) * (1.0 - fx) + corner(1, 1) * fx;
    top * (1.0 - fy) + bottom * fy
}

#[expect(clippy::cast_precision_loss, reason = "pixel coordinates")]
fn scene(dx: f32) -> Picture {
    (0..WIDE * HIGH)
        .map(|i| {
            let (x, y) = ((i % WIDE) as f32 + dx, (i / WIDE) as f32);
            let texture = 50.0 * cloud(x, y, 3.0, 1) + 60.0 * cloud(x, y, 17.0, 2) + 70.0 * cloud(x, y, 60.0, 3);
            let object = if cloud(x, y, 40.0, 4) > 0.6 { 35.0 } else { 0.0 };
            [texture + 30.0 + object, texture + 35.0, texture + 20.0]
        })
        .collect()
}

fn with_noise(picture: &Picture, sigma: f32, seed: u32) -> Picture {
    let mut index = 0_i32;
    picture
        .iter()
        .map(|pixel| {
            index += 1;
            // Sums of four uniform numbers are near enough to normal; the standard deviation of one is 0.289.
            let noise = (0..4).map(|k| hash(index, k, seed) - 0.5).sum::<f32>() / (0.289 * 2.0) * sigma;
            pixel.map(|level| level + noise)
        })
        .collect()
}

#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small"
)]
fn blurred(picture: &Picture, reach: i32) -> Picture {
    let axis = |source: &Picture, step_x: i32, step_y: i32| -> Picture {
        (0..WIDE * HIGH)
            .map(|i| {
                let (x, y) = ((i % WIDE) as i32, (i / WIDE) as i32);
                let mut sum = [0.0; 3];
                for k in -reach..=reach {
                    let x = (x + k * step_x).clamp(0, WIDE as i32 - 1) as usize;
                    let y = (y + k * step_y).clamp(0, HIGH as i32 - 1) as usize;
                    for (sum, level) in sum.iter_mut().zip(source[y * WIDE + x]) {
                        *sum += level / (2 * reach + 1) as f32;
                    }
                }
                sum
            })
            .collect()
    };
    axis(&axis(picture, 1, 0), 0, 1)
}

fn mapped(picture: &Picture, f: impl Fn(usize, [f32; 3]) -> [f32; 3]) -> Picture {
    picture.iter().enumerate().map(|(i, &pixel)| f(i, pixel)).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
fn encoded(picture: &Picture, quality: u8) -> Vec<u8> {
    let rgb: Vec<u8> = picture.iter().flatten().map(|level| level.round().clamp(0.0, 255.0) as u8).collect();
    let mut bytes = Vec::new();
    let (width, height) = (u32::try_from(WIDE).expect("small"), u32::try_from(HIGH).expect("small"));
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(&rgb, width, height, ExtendedColorType::Rgb8)
        .expect("encodes");
    bytes
}

/// A camera that has learned the scene under a little sensor noise, and a last clean frame's values.
struct Camera {
    state: CameraState,
    decoder: Decoder,
    clean: FeatureValues,
}

impl Camera {
    fn new() -> Self {
        let mut camera = Self { state: CameraState::new(), decoder: Decoder::new(), clean: FeatureValues::default() };
        for seed in 0..crate::feature::REFERENCE_FRAMES + 1 {
            camera.clean = camera.see(&with_noise(&scene(0.0), 1.0, seed));
        }
        camera
    }

    fn see(&mut self, picture: &Picture) -> FeatureValues {
        self.see_bytes(&encoded(picture, 90))
    }

    fn see_bytes(&mut self, bytes: &[u8]) -> FeatureValues {
        let measured = self.decoder.measure(bytes).expect("decodes");
        self.state.observe(&measured)
    }

    /// How many bins the feature moved against the clean frame.
    fn moved(&self, values: &FeatureValues, feature: Feature) -> i32 {
        let axis = feature.spec().axis;
        let bin = |values: &FeatureValues| i32::from(axis.bin(values.get(feature).expect("measured")));
        bin(values) - bin(&self.clean)
    }

    /// The features that moved by more than the change that counts as none.
    fn changed(&self, values: &FeatureValues) -> Vec<Feature> {
        let both = values.iter().filter(|(spec, value)| value.is_some() && self.clean.get(spec.feature).is_some());
        both.map(|(spec, _)| spec.feature)
            .filter(|&feature| self.moved(values, feature).abs() > i32::from(feature.spec().tolerance_bins))
            .collect()
    }
}

#[test]
fn another_clean_frame_changes_nothing() {
    let mut camera = Camera::new();
    let values = camera.see(&with_noise(&scene(0.0), 1.0, 999));
    assert_eq!(camera.changed(&values), []);
    for feature in (0..=19).map(|number| Feature::from_number(number).expect("in the catalogue")) {
        assert!(values.get(feature).is_some(), "{feature:?}");
    }
}

#[test]
fn blur_takes_high_frequencies_and_tiles_but_leaves_brightness_and_place() {
    let mut camera = Camera::new();
    let values = camera.see(&with_noise(&blurred(&scene(0.0), 2), 1.0, 77));
    assert!(camera.moved(&values, Feature::HighFrequencyEnergy) < -12);
    assert!(camera.moved(&values, Feature::SpectralTilt) < -5);
    assert!(camera.moved(&values, Feature::TileLoss) > 100);
    assert!(camera.moved(&values, Feature::BitsPerPixel) < -6);
    let changed = camera.changed(&values);
    assert!(!changed.contains(&Feature::LumaMean) && !changed.contains(&Feature::ReferenceCorrelation), "{changed:?}");
}

#[test]
fn noise_raises_high_frequencies_tilt_and_noise_level() {
    let mut camera = Camera::new();
    let values = camera.see(&with_noise(&scene(0.0), 12.0, 77));
    for feature in [Feature::HighFrequencyEnergy, Feature::SpectralTilt, Feature::NoiseLevel, Feature::BitsPerPixel] {
        assert!(camera.moved(&values, feature) > 6, "{feature:?}");
    }
    assert!(!camera.changed(&values).contains(&Feature::LumaMean));
}

#[test]
fn darkening_shows_in_luma_and_dark_shares_but_not_in_place() {
    let mut camera = Camera::new();
    let values = camera.see(&with_noise(&mapped(&scene(0.0), |_, pixel| pixel.map(|level| level * 0.15)), 1.0, 77));
    assert!(camera.moved(&values, Feature::LumaMean) < -60);
    assert!(camera.moved(&values, Feature::DarkFraction) > 60);
    assert!(values.get(Feature::ReferenceCorrelation).expect("measured").to_f64() > 0.8);
}

#[test]
fn brightening_shows_in_luma_and_the_bright_share() {
    let mut camera = Camera::new();
    let values = camera.see(&with_noise(&mapped(&scene(0.0), |_, pixel| pixel.map(|level| level * 2.5)), 1.0, 77));
    assert!(camera.moved(&values, Feature::LumaMean) > 60);
    assert!(camera.moved(&values, Feature::BrightFraction) > 60);
}

#[test]
fn a_dark_cover_over_half_the_view_shows_in_tiles_flatness_and_place() {
    let mut camera = Camera::new();
    let covered = mapped(&scene(0.0), |i, pixel| if i % WIDE < WIDE / 2 { [8.0; 3] } else { pixel });
    let values = camera.see(&with_noise(&covered, 0.5, 77));
    assert_eq!(values.get(Feature::DarkTiles).map(|share| share.to_f64()), Some(0.5));
    assert!((0.45..=0.55).contains(&values.get(Feature::TileLoss).expect("measured").to_f64()));
    assert!(camera.moved(&values, Feature::FlatFraction) > 100);
    assert!(camera.moved(&values, Feature::ReferenceCorrelation) < -20);
}

#[test]
fn a_move_by_two_percent_of_the_width_shows_in_place_and_nowhere_else() {
    let mut camera = Camera::new();
    let values = camera.see(&with_noise(&scene(7.0), 1.0, 77));
    assert!(camera.moved(&values, Feature::ReferenceCorrelation) < -20);
    assert!(camera.moved(&values, Feature::HashDistance) > 10);
    let changed = camera.changed(&values);
    for feature in
        [Feature::LumaMean, Feature::LumaStd, Feature::HighFrequencyEnergy, Feature::CbMean, Feature::Blockiness]
    {
        assert!(!changed.contains(&feature), "{feature:?}");
    }
}

#[test]
fn a_frozen_picture_does_not_change_even_under_a_running_clock() {
    let mut camera = Camera::new();
    let picture = with_noise(&scene(0.0), 1.0, 77);
    assert!(camera.see(&picture).get(Feature::ChangeFraction).expect("measured").to_f64() > 0.3, "alive");
    assert_eq!(camera.see(&picture).get(Feature::ChangeFraction).map(|share| share.to_f64()), Some(0.0));
    let clock = mapped(&picture, |i, pixel| if i % WIDE < 24 && i / WIDE < 8 { [250.0; 3] } else { pixel });
    assert!(camera.see(&clock).get(Feature::ChangeFraction).expect("measured").to_f64() <= 4.0 / 960.0);
}

#[test]
fn coarser_compression_shows_in_its_table_its_size_and_its_blocks() {
    let mut camera = Camera::new();
    let values = camera.see_bytes(&encoded(&with_noise(&scene(0.0), 1.0, 77), 15));
    assert!(camera.moved(&values, Feature::QuantisationMean) > 30);
    assert!(camera.moved(&values, Feature::BitsPerPixel) < -12);
    assert!(camera.moved(&values, Feature::Blockiness) > 6);
    let again = image::load_from_memory(&encoded(&with_noise(&scene(0.0), 1.0, 77), 15)).expect("decodes").into_rgb8();
    let requantised: Picture = again.pixels().map(|pixel| pixel.0.map(f32::from)).collect();
    let values = camera.see(&requantised);
    assert!(!camera.changed(&values).contains(&Feature::QuantisationMean), "the table is that of the last encoder");
    assert!(camera.moved(&values, Feature::Blockiness) > 6, "the blocks are those of the first");
}

#[test]
fn a_colour_cast_moves_both_chroma_means_and_hue_and_grey_takes_colour_away() {
    let mut camera = Camera::new();
    let cast = camera.see(&with_noise(&mapped(&scene(0.0), |_, [r, g, b]| [r * 1.3, g, b * 0.6]), 1.0, 77));
    assert!(camera.moved(&cast, Feature::CbMean) < -4);
    assert!(camera.moved(&cast, Feature::CrMean) > 4);
    assert!(camera.moved(&cast, Feature::ChromaRms) > 5);
    let grey = camera.see(&with_noise(&mapped(&scene(0.0), |_, [r, g, b]| [(r + g + b) / 3.0; 3]), 1.0, 77));
    assert!(camera.moved(&grey, Feature::ChromaRms) < -5);
    assert_eq!(grey.get(Feature::Hue), None);
}
