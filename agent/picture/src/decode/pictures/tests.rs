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
    for (first, name) in [
        (b"RIFF\x24\0\0\0WEBPVP8 ".as_slice(), "WebP"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIF"),
        (b"GIF89a", "GIF"),
        (b"MM\0*", "TIFF"),
        (b"BM\x36\0\0\0\0\0\0\0", "BMP"),
    ] {
        let refused = measure(first).expect_err("nothing decodes it");
        assert!(refused.to_string().contains(name), "{refused}");
        assert_eq!(refused.reason(), "other_format");
    }
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

/// A whole progressive JPEG of grey: one bit a block.
fn progressive_grey(side: u16) -> Vec<u8> {
    let [high, low] = side.to_be_bytes();
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
    bytes.extend([1; 64]);
    bytes.extend([0xff, 0xc2, 0, 11, 8, high, low, high, low, 1, 1, 0x11, 0]);
    // One code of one bit: no difference.
    bytes.extend([0xff, 0xc4, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0]);
    let blocks = usize::from(side).div_ceil(8).pow(2);
    bytes.extend(vec![0; blocks.div_ceil(8)]);
    bytes.extend([0xff, 0xd9]);
    bytes
}

#[test]
fn what_has_to_be_decoded_in_full_is_refused_by_its_header_where_it_takes_more_memory_than_allowed() {
    const ALLOWED: u64 = 27_000_000;
    let within = |bytes: &[u8]| {
        assert!(bytes.len() < 200_000, "small");
        let mut decoder = Decoder::new();
        let measured = decoder.measure_within(bytes, ALLOWED);
        assert!(measured.is_ok() || decoder.pixels.capacity() == 0, "nothing was allocated for it");
        measured
    };
    let side = 8192_u64 * 8192;
    let refused = within(&progressive_grey(8192)).expect_err("600 MB");
    assert!(matches!(refused, DecodeError::TooHeavy { needed, allowed: ALLOWED } if needed == side * 9), "{refused}");
    assert!(within(&progressive_grey(512)).is_ok());
    for shipped in [
        include_bytes!("../../../../../tests/tests/whole/pictures/progressive.jpg").as_slice(),
        include_bytes!("../../../../../tests/tests/whole/pictures/cmyk.jpg"),
        include_bytes!("../../../../../tests/tests/whole/pictures/colour.png"),
    ] {
        assert!(within(shipped).is_ok());
        let refused = Decoder::new().measure_within(shipped, 100);
        assert!(matches!(refused, Err(DecodeError::TooHeavy { allowed: 100, .. })), "{refused:?}");
        // Said to be larger than there is data for: never allocated for, and refused as what it is.
        let mut giant = shipped.to_vec();
        if let Some(frame) = giant.windows(2).position(|pair| pair == [0xff, 0xc0] || pair == [0xff, 0xc2]) {
            giant[frame + 5..frame + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
            assert!(matches!(within(&giant), Err(DecodeError::Truncated)));
        }
    }
    let mut large = png(64, 64);
    large[16..24].copy_from_slice(&[0, 0, 0x20, 0, 0, 0, 0x20, 0]);
    assert!(matches!(within(&large), Err(DecodeError::TooHeavy { needed, .. }) if needed == side * 3));
    large[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let refused = within(&large).expect_err("giant");
    assert!(matches!(refused, DecodeError::TooLarge { width: 0x7fff_ffff, .. }), "{refused}");
    assert_eq!(refused.reason(), "too_many_pixels");
    // A kind that is not read at all is no matter of size.
    let webp = b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0";
    let refused = within(webp).expect_err("not known");
    assert!(matches!(refused, DecodeError::OtherFormat { format: "WebP" }), "{refused}");
    assert_eq!(refused.reason(), "other_format");
}

#[test]
fn memory_for_a_large_picture_is_given_back() {
    let mut decoder = Decoder::new();
    decoder.measure(&png(160, 120)).expect("measures");
    assert_eq!(decoder.pixels.capacity(), 160 * 120 * 3, "kept for the next");
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&vec![7; 2000 * 1500 * 3], 2000, 1500, ExtendedColorType::Rgb8)
        .expect("encodes");
    decoder.measure(&bytes).expect("measures");
    assert_eq!(decoder.pixels.capacity(), 0);
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
