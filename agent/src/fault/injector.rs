//! One fault of one camera, applied frame by frame.

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small tables of small numbers")]

use image::RgbImage;

use super::codec;
use super::kind::{Kind, Severity};
use super::random::Random;
use super::view::{self, View, Window};
use super::{optics, sensor};

/// A frozen camera that is not frozen for good repeats some of every twelve frames.
pub const FREEZE_CYCLE: u64 = 12;

/// Whether a frozen camera repeats its last picture in the `frame`th frame (from 0) after the freeze began: always at
/// severity 5, in 3 of every [`FREEZE_CYCLE`] frames at severity 1.
#[must_use]
pub fn repeats_last(severity: Severity, frame: u64) -> bool {
    frame % FREEZE_CYCLE < severity.pick([0.0, 3.0, 6.0, 9.0, 11.0, 12.0]).round() as u64
}

/// A fault and what it must remember.
///
/// All kinds but [`Kind::Frozen`] are pure: the same index and picture give the same result, in any order.
#[derive(Clone, Debug)]
pub struct Injector {
    kind: Kind,
    severity: Severity,
    seed: u64,
    /// Frames since the first, which a frozen camera shows live: it has to have something to repeat.
    frozen_frames: u64,
    last_live: Option<RgbImage>,
}

impl Injector {
    /// A fault. The seed decides what differs between two cameras with the same fault: where dirt sits, which way a camera
    /// moved, which cast its colours take.
    #[must_use]
    pub const fn new(kind: Kind, severity: Severity, seed: u64) -> Self {
        Self { kind, severity, seed, frozen_frames: 0, last_live: None }
    }

    /// The kind of fault.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// The seed given.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// What the camera shows without the fault, to compare with: the picture, and for the kinds that move the view its middle 70 %
    /// ([`Window::CENTRE`]) drawn at the size of the picture.
    #[must_use]
    pub fn clear_view(&self, picture: &RgbImage) -> RgbImage {
        match self.kind {
            Kind::Moved | Kind::Turned | Kind::Zoomed => {
                View::plain(Window::CENTRE).show(picture, picture.width(), picture.height())
            }
            _ => picture.clone(),
        }
    }

    /// Where a camera looks that has this fault and looked at `window` before. Differs for [`Kind::Moved`] only.
    ///
    /// For callers that have the whole scene and cut views from it themselves; they leave [`Self::apply`] out.
    #[must_use]
    pub fn aim(&self, window: Window) -> Window {
        match self.kind {
            Kind::Moved => window.moved(self.severity, self.seed),
            _ => window,
        }
    }

    /// The JPEG quality of a camera that has this fault and encodes at `usual` otherwise. Differs for
    /// [`Kind::Compression`] only.
    ///
    /// For callers that encode the picture anyway; they leave [`Self::apply`] out, so that it is encoded once.
    #[must_use]
    pub fn jpeg_quality(&self, usual: u8) -> u8 {
        if self.kind != Kind::Compression || self.severity.is_none() {
            return usual;
        }
        let low = self.severity.pick([90.0, 30.0, 18.0, 10.0, 6.0, 2.0]).round() as u8;
        low.min(usual)
    }

    /// The picture as a camera with this fault would give it; of the same size. `index` numbers the frames of the camera and
    /// gives each its own noise.
    pub fn apply(&mut self, index: u64, picture: &RgbImage) -> RgbImage {
        let (severity, seed) = (self.severity, self.seed);
        if severity.is_none() || picture.is_empty() {
            return self.clear_view(picture);
        }
        let run = &mut Random::of_run(seed);
        let frame = &mut Random::of_frame(seed, index);
        match self.kind {
            Kind::Defocus => optics::defocus(picture, severity),
            Kind::Covered => optics::covered(picture, severity, run, frame),
            Kind::Fogged => optics::fogged(picture, severity, run),
            Kind::Dirty => optics::dirty(picture, severity, run),
            Kind::Dark => sensor::dark(picture, severity, frame),
            Kind::Overexposed => sensor::overexposed(picture, severity),
            Kind::ColourCast => sensor::colour_cast(picture, severity, run),
            Kind::Infrared => sensor::infrared(picture, severity, frame),
            Kind::Noise => sensor::noise(picture, severity, frame),
            Kind::Moved => View::plain(self.aim(Window::CENTRE)).show(picture, picture.width(), picture.height()),
            Kind::Turned => view::turned(picture, run.sign() * severity.pick([0.0, 0.6, 1.8, 3.5, 6.0, 10.0]), 1.0),
            Kind::Zoomed => view::turned(picture, 0.0, severity.pick([1.0, 1.03, 1.08, 1.18, 1.4, 1.8])),
            Kind::Occluded => optics::occluded(picture, severity, run),
            Kind::Compression => self.recompress(picture),
            Kind::Frozen => self.freeze(picture),
        }
    }

    fn recompress(&self, picture: &RgbImage) -> RgbImage {
        let encoded = codec::encode_jpeg(picture, self.jpeg_quality(100));
        // A picture beyond what JPEG can hold never came out of a camera that sends JPEG; it stays as it is.
        encoded.and_then(|bytes| codec::decode(&bytes)).unwrap_or_else(|_| picture.clone())
    }

    fn freeze(&mut self, picture: &RgbImage) -> RgbImage {
        if let Some(last) = &self.last_live {
            let frame = self.frozen_frames;
            self.frozen_frames = frame.wrapping_add(1);
            if repeats_last(self.severity, frame) {
                return last.clone();
            }
        }
        self.last_live = Some(picture.clone());
        picture.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of the footage shipped with the demo, 320x240.
    fn frame(number: u32) -> RgbImage {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../aggregator/driftglass/frames/campus-pedestrians");
        let picture = codec::decode(&std::fs::read(format!("{folder}/{number:06}.jpg")).unwrap()).unwrap();
        codec::shrink(picture, 320)
    }

    fn faulted(kind: Kind, severity: f32, picture: &RgbImage) -> RgbImage {
        Injector::new(kind, Severity::new(severity).unwrap(), 7).apply(0, picture)
    }

    fn mean(picture: &RgbImage) -> f64 {
        picture.iter().map(|level| f64::from(*level)).sum::<f64>() / picture.len() as f64
    }

    fn channel_means(picture: &RgbImage) -> [f64; 3] {
        [0, 1, 2].map(|channel| {
            picture.iter().skip(channel).step_by(3).map(|level| f64::from(*level)).sum::<f64>()
                / (picture.len() / 3) as f64
        })
    }

    fn luma(picture: &RgbImage) -> Vec<f64> {
        let level =
            |pixel: &[u8]| 0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2]);
        picture.chunks_exact(3).map(level).collect()
    }

    fn deviation(picture: &RgbImage) -> f64 {
        let luma = luma(picture);
        let mean = luma.iter().sum::<f64>() / luma.len() as f64;
        (luma.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / luma.len() as f64).sqrt()
    }

    /// Mean squared step between horizontal neighbours.
    fn gradient_energy(picture: &RgbImage) -> f64 {
        let luma = luma(picture);
        luma.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>() / luma.len() as f64
    }

    /// Mean distance of each pixel's channels from grey.
    fn colourfulness(picture: &RgbImage) -> f64 {
        let spread = |pixel: &[u8]| f64::from(pixel.iter().max().unwrap() - pixel.iter().min().unwrap());
        picture.chunks_exact(3).map(spread).sum::<f64>() / (picture.len() / 3) as f64
    }

    fn difference(left: &RgbImage, right: &RgbImage) -> f64 {
        left.iter().zip(right.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / left.len() as f64
    }

    fn rises(values: &[f64]) -> bool {
        values.windows(2).all(|pair| pair[0] < pair[1])
    }

    fn falls(values: &[f64]) -> bool {
        values.windows(2).all(|pair| pair[0] > pair[1])
    }

    fn over_severities(kind: Kind, severities: &[f32], measure: impl Fn(&RgbImage) -> f64) -> Vec<f64> {
        let picture = frame(20);
        severities.iter().map(|severity| measure(&faulted(kind, *severity, &picture))).collect()
    }

    #[test]
    fn severity_0_is_the_clear_view_and_any_other_changes_it() {
        let picture = frame(20);
        for kind in Kind::ALL {
            let clear = Injector::new(kind, Severity::NONE, 7).clear_view(&picture);
            assert_eq!(faulted(kind, 0.0, &picture), clear, "{kind}");
            assert_eq!(clear.dimensions(), picture.dimensions());
            if !matches!(kind, Kind::Moved | Kind::Turned | Kind::Zoomed) {
                assert_eq!(clear, picture, "{kind}");
            }
            // A frozen camera shows its first frame live. A film over the lens and a darker cover change different things.
            let changes = over_severities(kind, &[0.0, 1.0, 3.0, 5.0], |shown| difference(shown, &clear));
            match kind {
                Kind::Frozen => {}
                Kind::Covered => assert!(changes[1..].iter().all(|change| *change > 20.0), "{changes:?}"),
                _ => assert!(rises(&changes), "{kind}: {changes:?}"),
            }
        }
    }

    #[test]
    fn equal_seed_index_and_picture_give_equal_bytes_whatever_came_before() {
        let picture = frame(20);
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Frozen) {
            let mut used = Injector::new(kind, Severity::MARKED, 7);
            for index in 0..3 {
                used.apply(index, &picture);
            }
            let fresh = Injector::new(kind, Severity::MARKED, 7).apply(9, &picture);
            assert_eq!(used.apply(9, &picture), fresh, "{kind}");
        }
    }

    #[test]
    fn noisy_kinds_give_every_frame_noise_of_its_own() {
        let picture = frame(20);
        for kind in [Kind::Noise, Kind::Dark, Kind::Infrared, Kind::Covered] {
            let mut injector = Injector::new(kind, Severity::MARKED, 7);
            assert_ne!(injector.apply(0, &picture), injector.apply(1, &picture), "{kind}");
        }
    }

    #[test]
    fn seeds_decide_where_dirt_sits_where_a_camera_looks_and_which_cast_it_has() {
        let picture = frame(20);
        for kind in [Kind::Dirty, Kind::Moved, Kind::ColourCast, Kind::Covered, Kind::Fogged] {
            let mut seen: Vec<RgbImage> =
                (0..8).map(|seed| Injector::new(kind, Severity::MARKED, seed).apply(0, &picture)).collect();
            seen.sort_by(|left, right| left.as_raw().cmp(right.as_raw()));
            seen.dedup();
            assert!(seen.len() >= 2, "{kind}");
        }
    }

    #[test]
    fn defocus_lowers_gradients_and_keeps_the_brightness() {
        let gradients = over_severities(Kind::Defocus, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], gradient_energy);
        assert!(falls(&gradients) && gradients[3] < 0.4 * gradients[0], "{gradients:?}");
        let means = over_severities(Kind::Defocus, &[0.0, 3.0], mean);
        assert!((means[0] - means[1]).abs() < 4.0, "{means:?}");
    }

    #[test]
    fn a_cover_takes_contrast_and_an_opaque_one_the_light() {
        let contrast = over_severities(Kind::Covered, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], deviation);
        assert!(falls(&contrast) && contrast[2] < 0.5 * contrast[0], "{contrast:?}");
        assert!(over_severities(Kind::Covered, &[5.0], mean)[0] < 10.0);
    }

    #[test]
    fn dark_lowers_the_mean_and_fades_colour() {
        let means = over_severities(Kind::Dark, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], mean);
        // 11 % of the light is 37 % of the level.
        assert!(falls(&means) && (means[3] / means[0] - 0.37).abs() < 0.05, "{means:?}");
        assert!(falls(&over_severities(Kind::Dark, &[0.0, 3.0, 5.0], colourfulness)));
    }

    #[test]
    fn overexposure_raises_the_mean_and_clips() {
        let means = over_severities(Kind::Overexposed, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], mean);
        assert!(rises(&means), "{means:?}");
        let clipped = over_severities(Kind::Overexposed, &[0.0, 3.0], |picture| {
            picture.iter().filter(|level| **level == 255).count() as f64 / picture.len() as f64
        });
        assert!(clipped[1] > clipped[0] + 0.2, "{clipped:?}");
    }

    #[test]
    fn noise_has_the_deviation_of_its_severity() {
        let grey = RgbImage::from_pixel(320, 240, image::Rgb([128; 3]));
        for (severity, expected) in [(1.0, 5.0), (2.0, 10.0), (3.0, 18.0)] {
            let noisy = faulted(Kind::Noise, severity, &grey);
            let squares: f64 = noisy.iter().map(|level| (f64::from(*level) - 128.0).powi(2)).sum();
            let measured = (squares / noisy.len() as f64).sqrt();
            assert!((measured / expected - 1.0).abs() < 0.03, "{severity}: {measured}");
        }
    }

    #[test]
    fn fog_takes_contrast_and_colour_and_whitens() {
        for measure in [deviation, colourfulness] {
            let values = over_severities(Kind::Fogged, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], measure);
            assert!(falls(&values), "{values:?}");
        }
        let means = over_severities(Kind::Fogged, &[0.0, 3.0], mean);
        assert!(means[1] > means[0] + 10.0, "{means:?}");
    }

    #[test]
    fn dirt_darkens_parts_and_leaves_others_as_they_are() {
        let picture = frame(20);
        let shown = faulted(Kind::Dirty, 3.0, &picture);
        let changes: Vec<f64> =
            luma(&picture).iter().zip(luma(&shown)).map(|(before, after)| (before - after).abs()).collect();
        let share = |test: &dyn Fn(f64) -> bool| {
            changes.iter().filter(|change| test(**change)).count() as f64 / changes.len() as f64
        };
        let (much, none) = (share(&|change| change > 20.0), share(&|change| change < 2.0));
        assert!(much > 0.05 && none > 0.2, "changed much {much}, not at all {none}");
        let other = frame(30);
        let spots = |clear: &RgbImage| -> Vec<bool> {
            let shown = faulted(Kind::Dirty, 3.0, clear);
            luma(clear).iter().zip(luma(&shown)).map(|(before, after)| (before - after).abs() > 20.0).collect()
        };
        let same = spots(&picture).iter().zip(spots(&other)).filter(|(left, right)| **left == *right).count();
        assert!(same as f64 > 0.9 * changes.len() as f64, "dirt stays where it is");
    }

    #[test]
    fn a_colour_cast_shifts_channels_apart_and_keeps_the_luminance() {
        let picture = frame(20);
        let before = channel_means(&picture);
        for seed in 0..8 {
            let shown = Injector::new(Kind::ColourCast, Severity::MARKED, seed).apply(0, &picture);
            let shifts: Vec<f64> = channel_means(&shown).iter().zip(before).map(|(after, was)| after - was).collect();
            let spread =
                shifts.iter().copied().fold(f64::MIN, f64::max) - shifts.iter().copied().fold(f64::MAX, f64::min);
            assert!(spread > 15.0, "seed {seed}: {shifts:?}");
            let brightness = (mean(&shown) - mean(&picture)).abs();
            assert!(brightness < 20.0, "seed {seed}: {brightness}");
        }
    }

    #[test]
    fn infrared_is_grey_and_bright_in_the_middle() {
        let even = RgbImage::from_pixel(320, 240, image::Rgb([180, 140, 90]));
        let shown = faulted(Kind::Infrared, 3.0, &even);
        assert!(shown.pixels().all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
        let part = |x: u32, y: u32| {
            (0..256_u32).map(|place| f64::from(shown.get_pixel(x + place % 16, y + place / 16)[0])).sum::<f64>() / 256.0
        };
        assert!(part(152, 112) > part(0, 0) + 20.0, "{} against {}", part(152, 112), part(0, 0));
    }

    #[test]
    fn a_moved_camera_shows_pixels_of_the_same_picture_at_another_place() {
        let picture = frame(20);
        let mut injector = Injector::new(Kind::Moved, Severity::FULL, 7);
        let clear = injector.clear_view(&picture);
        let moved = injector.apply(0, &picture);
        // The displacement, found by trying all: at the right one the two agree but for interpolation.
        let (left, right) = (luma(&clear), luma(&moved));
        let mismatch = |across: i32, down: i32| {
            let mut sum = 0.0;
            for y in 80..160_i32 {
                for x in 100..220_i32 {
                    let here = left[(y * 320 + x) as usize];
                    sum += (here - right[((y + down) * 320 + x + across) as usize]).abs();
                }
            }
            sum / (80.0 * 120.0)
        };
        let shifts = (-75..=75).flat_map(|across| (-40..=40).map(move |down| (across, down)));
        let (best, across, down) = shifts
            .map(|(across, down)| (mismatch(across, down), across, down))
            .min_by(|left, right| left.0.total_cmp(&right.0))
            .unwrap();
        // 14.5 % of the scene's width at a magnification of 1/0.7, and 60 % of that vertically.
        assert!(across.abs().abs_diff(66) <= 1 && down.abs().abs_diff(30) <= 1, "{across},{down}");
        assert!(best < 5.0 && mismatch(0, 0) > 4.0 * best, "{best} against {}", mismatch(0, 0));
    }

    #[test]
    fn a_frozen_camera_repeats_bytes_for_as_long_as_its_severity_says() {
        let frames: Vec<RgbImage> = (0..26).map(frame).collect();
        let shown = |severity: f32| -> Vec<RgbImage> {
            let mut injector = Injector::new(Kind::Frozen, Severity::new(severity).unwrap(), 7);
            frames.iter().zip(0..).map(|(picture, index)| injector.apply(index, picture)).collect()
        };
        let repeats = |shown: &[RgbImage]| shown.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert_eq!(repeats(&shown(0.0)), 0);
        assert!(shown(5.0).iter().all(|picture| *picture == frames[0]));
        let half = shown(2.0);
        assert_eq!(repeats(&half), 6 + 6 + 1, "of the 25 frames after the first: 6 in each cycle of 12");
        assert_eq!(half[6], frames[0]);
        assert_eq!(half[7], frames[7], "live frames are those of their time");
    }

    #[test]
    fn compression_makes_block_borders_visible() {
        let blockiness = |picture: &RgbImage| {
            let luma = luma(picture);
            let step = |border: bool| {
                let places = (1..320).filter(|x| (x % 8 == 0) == border);
                let steps: Vec<f64> = places
                    .flat_map(|x| (0..240).map(move |y| (x, y)))
                    .map(|(x, y)| (luma[y * 320 + x] - luma[y * 320 + x - 1]).abs())
                    .collect();
                steps.iter().sum::<f64>() / steps.len() as f64
            };
            step(true) / step(false)
        };
        let values = over_severities(Kind::Compression, &[0.0, 1.0, 3.0, 5.0], blockiness);
        assert!(rises(&values) && values[2] > 1.3, "{values:?}");
        let injector = Injector::new(Kind::Compression, Severity::MARKED, 7);
        assert_eq!(injector.jpeg_quality(85), 10);
        assert_eq!(Injector::new(Kind::Dark, Severity::MARKED, 7).jpeg_quality(85), 85);
    }

    #[test]
    fn pictures_of_any_size_survive_every_fault() {
        for (width, height) in [(0, 0), (1, 1), (3, 200), (200, 2), (9, 9)] {
            let picture = RgbImage::from_pixel(width, height, image::Rgb([90, 120, 40]));
            for kind in Kind::ALL {
                for severity in [0.0, 0.4, 5.0] {
                    assert_eq!(faulted(kind, severity, &picture).dimensions(), (width, height), "{kind}");
                }
            }
        }
    }
}
