//! What is refused, and that nothing panics.

use driftglass_protocol::feature::Feature;
use driftglass_protocol::unit::Fixed;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use proptest::prelude::*;

use super::*;

fn pattern(width: u32, height: u32) -> Vec<u8> {
    (0..width * height)
        .flat_map(|i| {
            let (x, y) = (i % width, i / width);
            [x * 3 + y, x * y / 16, 90 + (x / 9 + y / 7) % 2 * 80].map(|level| level.to_le_bytes()[0])
        })
        .collect()
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 80)
        .encode(&pattern(width, height), width, height, ExtendedColorType::Rgb8)
        .expect("encodes");
    bytes
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&pattern(width, height), width, height, ExtendedColorType::Rgb8)
        .expect("encodes");
    bytes
}

fn measure(bytes: &[u8]) -> Result<Measurements, DecodeError> {
    Decoder::new().measure(bytes)
}

#[test]
fn jpeg_and_png_of_one_picture_agree_and_only_the_jpeg_has_quantisation() {
    let (from_jpeg, from_png) = (measure(&jpeg(160, 120)).expect("decodes"), measure(&png(160, 120)).expect("decodes"));
    let value = |m: &Measurements, feature| m.values().get(feature).map(Fixed::to_f64);
    let (a, b) = (value(&from_jpeg, Feature::LumaMean), value(&from_png, Feature::LumaMean));
    assert!((a.expect("measured") - b.expect("measured")).abs() < 1.0);
    let quantisation = value(&from_jpeg, Feature::QuantisationMean).expect("a JPEG has a table");
    assert!((10.0..40.0).contains(&quantisation), "{quantisation}");
    assert_eq!(value(&from_png, Feature::QuantisationMean), None);
    let rgb = Decoder::new().measure_rgb(160, 120, &pattern(160, 120)).expect("measures");
    assert_eq!(value(&rgb, Feature::HighFrequencyEnergy), value(&from_png, Feature::HighFrequencyEnergy));
    assert_eq!(value(&rgb, Feature::BitsPerPixel), None);
}

#[test]
fn every_cause_of_refusal_has_its_own_error() {
    assert!(matches!(measure(&[]), Err(DecodeError::Empty)));
    assert!(matches!(measure(b"GI"), Err(DecodeError::NotAnImage { first: [b'G', b'I', 0, 0] })));
    assert!(matches!(measure(&png(7, 9)), Err(DecodeError::TooSmall { width: 7, height: 9 })));
    let mut pixels = Decoder::new();
    assert!(matches!(pixels.measure_rgb(8, 8, &[0; 191]), Err(DecodeError::PixelCount { got: 191, .. })));
}

#[test]
fn pictures_that_announce_giant_sizes_are_refused_by_their_announcement() {
    let mut bytes = jpeg(64, 64);
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("baseline");
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(measure(&bytes), Err(DecodeError::TooLarge { width: 65_535, height: 65_535 })));
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x00, 0x40, 0x20, 0x01]);
    assert!(matches!(measure(&bytes), Err(DecodeError::TooLarge { width: 8193, height: 64 })));
    // The largest size allowed, with data for 64 blocks.
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x20, 0x00, 0x20, 0x00]);
    assert!(matches!(measure(&bytes), Err(DecodeError::Truncated)));
}

#[test]
fn a_jpeg_that_lacks_its_end_is_an_error_wherever_it_was_cut() {
    let bytes = jpeg(128, 96);
    for length in 3..bytes.len() {
        assert!(matches!(measure(&bytes[..length]), Err(DecodeError::Truncated)), "{length} of {}", bytes.len());
    }
}

#[test]
fn a_jpeg_that_was_cut_and_closed_again_is_an_error() {
    let bytes = jpeg(128, 96);
    let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).expect("a scan") + 14;
    for length in scan..bytes.len() - 4 {
        let closed = [&bytes[..length], &[0xff, 0xd9]].concat();
        let result = measure(&closed);
        // A cut between the two bytes of a stuffed one turns the marker into data.
        assert!(matches!(result, Err(DecodeError::Truncated | DecodeError::Corrupt { .. })), "{length}: {result:?}");
    }
}

#[test]
fn a_png_that_lacks_its_pixels_is_an_error() {
    let bytes = png(128, 96);
    for length in 8..bytes.len() - 16 {
        assert!(measure(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
    }
}

#[test]
fn a_decoder_that_failed_still_measures_the_next_picture_alike() {
    let good = jpeg(160, 120);
    let want = *measure(&good).expect("decodes").values();
    let mut decoder = Decoder::new();
    decoder.measure(&good[..good.len() / 2]).expect_err("truncated");
    decoder.measure(&png(320, 16)).expect("decodes");
    assert_eq!(decoder.measure(&good).expect("decodes").values(), &want);
}

#[test]
fn grey_pictures_have_the_luma_of_their_levels_and_no_colour() {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode(&[77; 256], 16, 16, ExtendedColorType::L8).expect("encodes");
    let measured = measure(&bytes).expect("decodes");
    assert_eq!(measured.values().get(Feature::LumaMean), Some(Fixed::from_int(77)));
    assert_eq!(measured.values().get(Feature::ChromaRms), Some(Fixed::ZERO));
    assert_eq!(measured.values().get(Feature::Hue), None);
}

#[test]
fn sixteen_bit_and_transparent_pngs_are_measured_like_their_plain_form() {
    let plain = pattern(64, 48);
    let with_alpha: Vec<u8> = plain.as_chunks::<3>().0.iter().flat_map(|&[r, g, b]| [r, g, b, 9]).collect();
    let deep: Vec<u8> = plain.iter().flat_map(|&level| [level; 2]).collect();
    let want = Decoder::new().measure_rgb(64, 48, &plain).expect("measures");
    for (pixels, kind) in [(with_alpha, ExtendedColorType::Rgba8), (deep, ExtendedColorType::Rgb16)] {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(&pixels, 64, 48, kind).expect("encodes");
        let measured = measure(&bytes).expect("decodes");
        assert_eq!(measured.values().get(Feature::LumaStd), want.values().get(Feature::LumaStd), "{kind:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), start in 0_usize..3) {
        let prefix: &[u8] = [&[][..], &[0xff, 0xd8, 0xff], b"\x89PNG\r\n\x1a\n"][start];
        bytes.splice(0..0, prefix.iter().copied());
        if let Ok(measured) = measure(&bytes) {
            prop_assert!(measured.values().get(Feature::LumaMean).is_some());
        }
    }

    #[test]
    fn damaged_pictures_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        is_png in any::<bool>(),
    ) {
        let mut bytes = if is_png { png(72, 56) } else { jpeg(72, 56) };
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(measured) = measure(&bytes) {
            prop_assert!(measured.values().get(Feature::LumaMean).is_some());
        }
    }
}
