//! A picture measured strip by strip has the features that it has after a full decode by the library.
//!
//! Both are held against each other on recorded footage and on pictures made up in every layout. The footage that ships with the
//! program is always looked at, and a folder with one folder of frames for each camera besides: `DRIFTGLASS_FOOTAGE` (relative paths
//! start at the project's root), by default `../shared/footage` from there, if that exists.

use std::fs;
use std::path::{Path, PathBuf};

use driftglass_protocol::feature::{CATALOGUE, Feature, FeatureValues};
use driftglass_protocol::sketch::Axis;
use proptest::prelude::*;

use super::{DecodeError, Decoder};
use crate::decode::jpeg_writer::Encoding;
use crate::feature::{CameraState, Measurements};

/// Bins by which the two ways of decoding may differ; `None` where the bin must be the same.
///
/// Most differences are those of rounding: the library goes to RGB and back, and interpolates chroma. Those above one bin count
/// steps that a bin is too fine for: 0.9 bins are one bit of the hash, 1.8 bins one of the 144 tiles, and blocks that are flat but
/// for the last half level. Hue is an angle of very little where hardly anything has a colour. A share on a square-root axis has
/// its finest bins near zero. Where the view is found it is found at the same place.
const fn tolerance(feature: Feature) -> u16 {
    match feature {
        Feature::QuantisationMean | Feature::BitsPerPixel => 0,
        Feature::ViewDisplacement | Feature::ViewRotation => 0,
        Feature::FlatFraction => 2,
        Feature::DarkTiles => 2,
        Feature::ChangeFraction => 3,
        Feature::Hue => 4,
        Feature::HashDistance => 5,
        Feature::TileLoss => 8,
        _ => 1,
    }
}

/// Share of the reference's codes by which the two may differ in what they find of it in a frame. The bound above which a view counts
/// as found cuts through this: a difference of one cell there decides whether a frame has a place at all.
const FOUND_TOLERANCE: f64 = 1.0 / 64.0;

/// Largest mean difference over the frames of a camera, in bins: what is left where chance has its say in single frames.
fn mean_tolerance(feature: Feature) -> f64 {
    match feature {
        // Rounded pixels change a few blocks of which the coefficients say that they are the same.
        Feature::ChangeFraction => 2.0,
        _ => 1.0,
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Folders with frames in them.
#[expect(clippy::disallowed_methods, reason = "the variable is how other footage is run through these tests")]
fn cameras() -> Vec<PathBuf> {
    let mut found = Vec::new();
    folders_with_frames(&root().join("aggregator/driftglass/frames"), &mut found);
    assert!(!found.is_empty(), "frames ship with the program");
    let named = std::env::var("DRIFTGLASS_FOOTAGE");
    let folder = root().join(named.as_deref().unwrap_or("../shared/footage"));
    if named.is_ok() || folder.exists() {
        let shipped = found.len();
        folders_with_frames(&folder, &mut found);
        assert!(found.len() > shipped, "no frames in {}. DRIFTGLASS_FOOTAGE names another folder.", folder.display());
    }
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}

fn is_frame(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jpg")
}

fn folders_with_frames(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = entries(folder);
    if entries.iter().any(|path| is_frame(path)) {
        found.push(folder.to_owned());
    }
    for path in entries.iter().filter(|path| path.is_dir()) {
        folders_with_frames(path, found);
    }
}

/// Both ways of decoding one picture.
#[derive(Default)]
struct Both {
    decoder: Decoder,
    strips: CameraState,
    full: CameraState,
}

impl Both {
    fn measure(&mut self, bytes: &[u8]) -> [Measurements; 2] {
        let by_strips = strips(&mut self.decoder, bytes).expect("decodes").expect("is decoded in strips");
        let in_full = self.decoder.measure_jpeg_in_full(bytes, crate::decode::MAX_MEMORY).expect("decodes");
        [by_strips, in_full]
    }

    fn observe(&mut self, [by_strips, in_full]: &[Measurements; 2]) -> [FeatureValues; 2] {
        [self.strips.observe(by_strips), self.full.observe(in_full)]
    }

    fn see(&mut self, bytes: &[u8]) -> [FeatureValues; 2] {
        let measured = self.measure(bytes);
        self.observe(&measured)
    }

    /// How much of its reference each finds in the frame; `None` while one is learned, or where it shows nothing.
    fn found(&self, [by_strips, in_full]: &[Measurements; 2]) -> [Option<f64>; 2] {
        let found = |state: &CameraState, frame| state.reference().and_then(|reference| reference.found(frame));
        [found(&self.strips, by_strips), found(&self.full, in_full)]
    }
}

fn strips(decoder: &mut Decoder, bytes: &[u8]) -> Result<Option<Measurements>, DecodeError> {
    Ok(decoder.strips.measure(bytes)?)
}

/// Bins from one value to the other; `None` where a picture does not have the feature in both.
fn bins(feature: Feature, [a, b]: &[FeatureValues; 2]) -> Option<i32> {
    let axis = feature.spec().axis;
    let bin = |values: &FeatureValues| Some(i32::from(axis.bin(values.get(feature)?)));
    let difference = bin(a)? - bin(b)?;
    Some(match axis {
        Axis::Circular { .. } => (difference + 128).rem_euclid(256) - 128,
        _ => difference,
    })
}

#[test]
fn on_recorded_footage_every_feature_agrees_in_every_frame_and_better_in_the_mean() {
    for camera in cameras() {
        let mut both = Both::default();
        let mut sums = [(0, 0_u32); CATALOGUE.len()];
        let (mut lonely, mut unplaced) = (0_u32, 0_u32);
        let frames: Vec<PathBuf> = entries(&camera).into_iter().filter(|path| is_frame(path)).collect();
        for frame in &frames {
            let measured = both.measure(&fs::read(frame).expect("readable"));
            let found = both.found(&measured);
            match found {
                [Some(a), Some(b)] => {
                    assert!((a - b).abs() <= FOUND_TOLERANCE, "{a} and {b} are found again in {}", frame.display());
                }
                [a, b] => assert_eq!(a, b, "only one has a reference to find in {}", frame.display()),
            }
            let values = both.observe(&measured);
            for spec in &CATALOGUE {
                let feature = spec.feature;
                let Some(difference) = bins(feature, &values) else {
                    let [a, b] = values.each_ref().map(|values| values.get(feature).is_some());
                    let may_differ =
                        matches!(feature, Feature::Hue | Feature::ViewDisplacement | Feature::ViewRotation);
                    assert!(a == b || may_differ, "{feature:?} in one only of {}", frame.display());
                    let lonely = if feature == Feature::Hue { &mut lonely } else { &mut unplaced };
                    *lonely += u32::from(a != b);
                    continue;
                };
                let (sum, count) = &mut sums[feature.index()];
                (*sum, *count) = (*sum + difference, *count + 1);
                let tolerance = u32::from(tolerance(feature));
                assert!(
                    difference.unsigned_abs() <= tolerance,
                    "{feature:?}: {difference} bins in {}",
                    frame.display()
                );
            }
        }
        for (spec, (sum, count)) in CATALOGUE.iter().zip(sums) {
            let mean = f64::from(sum) / f64::from(count.max(1));
            assert!(
                mean.abs() <= mean_tolerance(spec.feature),
                "{}: {mean} bins on average in {}",
                spec.name,
                camera.display()
            );
        }
        // Whether enough of a picture has a colour can be a matter of one pixel, and whether enough of the reference is found again of
        // one cell: then both figures of the view are there or not.
        assert!(
            unplaced as usize <= 2 * (frames.len() / 100),
            "{unplaced} figures in one only in {}",
            camera.display()
        );
        assert!(lonely as usize <= frames.len() / 50 + 1, "{lonely} hues in one only in {}", camera.display());
    }
}

/// Texture, an edge, and colour that changes slowly, well inside of what RGB can show.
fn sample(component: usize, x: usize, y: usize) -> u8 {
    let wave = |period: usize, at: usize| (at % period).abs_diff(period / 2) * 60 / period;
    let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(2_246_822_519) >> 13 & 15;
    let level = match component {
        0 => 60 + wave(37, x + y) + wave(90, 3 * y) + noise + usize::from(x > 60) * 50,
        1 => 104 + wave(150, x + 9),
        _ => 112 + wave(190, y + x / 2) + usize::from(y > 40) * 16,
    };
    u8::try_from(level).expect("a byte")
}

const GREY: &[(usize, usize)] = &[(1, 1)];
const FOUR_FOUR_FOUR: &[(usize, usize)] = &[(1, 1), (1, 1), (1, 1)];
const FOUR_TWO_TWO: &[(usize, usize)] = &[(2, 1), (1, 1), (1, 1)];
const FOUR_FOUR_NIL: &[(usize, usize)] = &[(1, 2), (1, 1), (1, 1)];
const FOUR_TWO_NIL: &[(usize, usize)] = &[(2, 2), (1, 1), (1, 1)];
const LAYOUTS: [&[(usize, usize)]; 7] = [
    GREY,
    FOUR_FOUR_FOUR,
    FOUR_TWO_TWO,
    FOUR_FOUR_NIL,
    FOUR_TWO_NIL,
    &[(2, 2), (2, 1), (2, 1)],
    &[(2, 2), (2, 2), (2, 2)],
];

#[test]
fn pictures_of_every_layout_size_and_restart_interval_agree() {
    for (index, layout) in LAYOUTS.into_iter().enumerate() {
        for (width, height) in [(128, 72), (257, 131), (143, 90), (136, 79), (65, 200), (8, 8), (24, 23)] {
            for (restart_interval, steps, start_of_frame) in
                [(0, (2, 6), 0xc0), (1, (16, 60), 0xc1), (5, (1, 1), 0xc0), (17, (8, 400), 0xc1)]
            {
                let encoding =
                    Encoding { restart_interval, steps, start_of_frame, ..Encoding::new(width, height, layout) };
                let bytes = encoding.write(sample);
                let mut both = Both::default();
                both.see(&bytes);
                let values = both.see(&bytes);
                for spec in &CATALOGUE {
                    let feature = spec.feature;
                    let Some(difference) = bins(feature, &values) else {
                        let present = values.each_ref().map(|values| values.get(feature).is_some());
                        assert_eq!(present[0], present[1], "{feature:?} of layout {index} at {width}x{height}");
                        continue;
                    };
                    // A single pixel of a picture of a few blocks moves its bins.
                    let few_pixels = if width * height < 1000 { 2 } else { 0 };
                    let tolerance = u32::from(tolerance(feature)) + few_pixels;
                    assert!(difference.unsigned_abs() <= tolerance, "{feature:?}: {difference} bins in {encoding:?}");
                }
            }
        }
    }
}

/// Every layout in turn.
fn layout() -> impl Strategy<Value = &'static [(usize, usize)]> {
    (0..LAYOUTS.len()).prop_map(|index| LAYOUTS[index])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_pictures_never_panic_and_the_next_picture_is_measured_alike(
        layout in layout(),
        restart_interval in 0_u16..6,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let encoding = Encoding { restart_interval, ..Encoding::new(88, 56, layout) };
        let whole = encoding.write(sample);
        let mut decoder = Decoder::new();
        let want = *strips(&mut decoder, &whole).expect("decodes").expect("taken").values();
        let mut damaged = whole.clone();
        for (at, flip) in flips {
            let at = at.index(damaged.len());
            damaged[at] ^= flip;
        }
        if let Some(cut) = cut {
            damaged.truncate(cut.index(damaged.len()));
        }
        if let Ok(Some(measured)) = strips(&mut decoder, &damaged) {
            prop_assert!(measured.values().get(Feature::LumaMean).is_some());
        }
        let again = *strips(&mut decoder, &whole).expect("decodes").expect("taken").values();
        prop_assert_eq!(again, want);
    }

    #[test]
    fn scans_of_arbitrary_bytes_never_panic(
        layout in layout(),
        restart_interval in 0_u16..3,
        steps in (1_u16..=1023).prop_flat_map(|step| (Just(step), step..=1023)),
        scan in prop::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(0xff), 1 => Just(0)], 0..6000),
    ) {
        let encoding = Encoding { restart_interval, steps, ..Encoding::new(72, 40, layout) };
        let mut bytes = encoding.write(|_, _, _| 128);
        let start = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).expect("a scan") + 8 + 2 * layout.len();
        bytes.truncate(start);
        bytes.extend(scan);
        bytes.extend([0xff, 0xd9]);
        if let Ok(Some(measured)) = strips(&mut Decoder::new(), &bytes) {
            prop_assert!(measured.values().get(Feature::LumaMean).is_some());
        }
    }
}

#[test]
fn every_prefix_is_truncated_and_so_is_every_cut_that_was_closed_again() {
    for layout in LAYOUTS {
        for restart_interval in [0, 2] {
            let encoding = Encoding { restart_interval, ..Encoding::new(48, 32, layout) };
            let bytes = encoding.write(sample);
            let mut decoder = Decoder::new();
            let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).expect("a scan") + 8 + 2 * layout.len();
            for length in 3..bytes.len() {
                let result = decoder.measure(&bytes[..length]);
                assert!(matches!(result, Err(DecodeError::Truncated)), "{length} of {}: {result:?}", bytes.len());
            }
            // The end is three bytes here; the last byte of data may be all padding.
            for length in scan..bytes.len() - 4 {
                let closed = [&bytes[..length], &[0xff, 0xd9]].concat();
                let result = strips(&mut decoder, &closed);
                // A cut between the two bytes of a stuffed one turns the marker into data.
                let is_refused = matches!(result, Err(DecodeError::Truncated | DecodeError::Corrupt { .. }));
                assert!(is_refused, "{length} of {}: {result:?}", bytes.len());
            }
        }
    }
}

#[test]
fn what_strips_do_not_take_is_decoded_in_full() {
    let mut decoder = Decoder::new();
    let usual = Encoding::new(128, 72, FOUR_TWO_NIL);
    let apart = Encoding { is_apart: true, ..usual.clone() };
    let coarse = Encoding { steps: (1, 1024), ..usual.clone() };
    let wide = Encoding::new(4104, 16, GREY);
    let narrow_chroma = Encoding::new(128, 72, &[(4, 1), (1, 1), (1, 1)]);
    let is_taken = |decoder: &mut Decoder, bytes: &[u8]| strips(decoder, bytes).expect("not refused").is_some();
    assert!(is_taken(&mut decoder, &usual.write(sample)));
    assert!(!is_taken(&mut decoder, &apart.write(sample)));
    for encoding in [coarse, wide] {
        let bytes = encoding.write(|component, x, y| sample(component, x % 900, y));
        assert!(!is_taken(&mut decoder, &bytes), "{encoding:?}");
        let measured = decoder.measure(&bytes).expect("decodes");
        assert!(measured.values().get(Feature::LumaMean).is_some(), "{encoding:?}");
    }
    assert!(!is_taken(&mut decoder, &narrow_chroma.write(sample)));
    assert!(is_taken(&mut decoder, &Encoding::new(4096, 16, GREY).write(|_, x, y| sample(0, x % 900, y))));
}

#[test]
fn a_huge_announcement_with_hardly_any_data_costs_next_to_nothing() {
    let mut bytes = Encoding::new(64, 64, FOUR_TWO_NIL).write(sample);
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x20, 0x00, 0x10, 0x00]);
    assert!(matches!(strips(&mut Decoder::new(), &bytes), Err(DecodeError::Truncated)));
}
