//! How much memory a picture would take, from its header alone.
//!
//! A picture of a few hundred kilobytes may announce 67 million pixels and be honest about it. What a picture may cost is decided
//! before anything is decoded. A JPEG that is measured strip by strip needs none of it.
//!
//! Must hold: the answer is never less than what the pixels and, for progressive JPEG, the coefficients need. What is not understood
//! here weighs nothing: the decoder refuses it.

/// Bytes for the pixels of a picture while it is decoded.
#[must_use]
pub fn decoded_bytes(picture: &[u8]) -> u64 {
    if picture.starts_with(&[0xff, 0xd8]) { jpeg(picture) } else { png(picture).unwrap_or(0) }
}

/// The heaviest of the frame headers (ITU-T T.81 section B.2.2) before the first scan.
fn jpeg(picture: &[u8]) -> u64 {
    let (mut at, mut heaviest) = (2, 0);
    while let Some(&[0xff, kind, high, low]) = picture.get(at..at + 4) {
        match kind {
            0xda => break,
            0xff => {
                at += 1;
                continue;
            }
            // All kinds of frame; DHT, JPG and DAC lie between them.
            0xc0..=0xcf if !matches!(kind, 0xc4 | 0xc8 | 0xcc) => {
                if let Some(&[_, h1, h0, w1, w0, components]) = picture.get(at + 4..at + 10) {
                    let pixels = u64::from(u16::from_be_bytes([h1, h0])) * u64::from(u16::from_be_bytes([w1, w0]));
                    // One byte a sample, at least RGB; two more bytes where coefficients are kept until the last scan.
                    let each = if matches!(kind, 0xc0 | 0xc1) { 1 } else { 3 };
                    heaviest = heaviest.max(pixels * u64::from(components.clamp(3, 4)) * each);
                }
            }
            _ => {}
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    heaviest
}

/// Width and height of a PNG, from the IHDR chunk, which is the first (PNG third edition, section 11.2.1).
pub(super) fn png_size(picture: &[u8]) -> Option<(u32, u32)> {
    let (width, height, _) = png_header(picture)?;
    Some((width, height))
}

fn png_header(picture: &[u8]) -> Option<(u32, u32, [u8; 2])> {
    let rest = picture.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(4..)?.strip_prefix(b"IHDR")?;
    let (width, rest) = rest.split_first_chunk()?;
    let (height, rest) = rest.split_first_chunk()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*height), *rest.first_chunk()?))
}

fn png(picture: &[u8]) -> Option<u64> {
    let (width, height, [depth, colour]) = png_header(picture)?;
    let channels = match colour {
        0 => 1,
        4 => 2,
        6 => 4,
        // Palettes are expanded, with or without transparency.
        3 => 4,
        _ => 3,
    };
    let pixels = u64::from(width).saturating_mul(u64::from(height));
    let sample = if depth > 8 { 2 } else { 1 };
    // What is not 8-bit grey or RGB is converted, and both are there for a moment.
    let converted = if sample == 1 && matches!(colour, 0 | 2) { 0 } else { 3 };
    Some(pixels.saturating_mul(channels * sample + converted))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat};

    use super::*;

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), format).expect("encoded");
        bytes
    }

    #[test]
    fn the_weight_is_in_the_header() {
        let rgb = DynamicImage::new_rgb8(40, 30);
        assert_eq!(decoded_bytes(&encoded(&rgb, ImageFormat::Jpeg)), 40 * 30 * 3);
        assert_eq!(decoded_bytes(&encoded(&rgb, ImageFormat::Png)), 40 * 30 * 3);
        assert_eq!(decoded_bytes(&encoded(&DynamicImage::new_luma8(40, 30), ImageFormat::Png)), 40 * 30);
        assert_eq!(decoded_bytes(&encoded(&DynamicImage::new_rgba16(40, 30), ImageFormat::Png)), 40 * 30 * (8 + 3));
        let mut progressive = encoded(&rgb, ImageFormat::Jpeg);
        let frame = progressive.windows(2).position(|mark| mark == [0xff, 0xc0]).expect("a frame header");
        progressive[frame + 1] = 0xc2;
        assert_eq!(decoded_bytes(&progressive), 40 * 30 * 9);
    }

    #[test]
    fn what_is_no_picture_weighs_nothing_and_the_largest_number_does_not_overflow() {
        let png = encoded(&DynamicImage::new_rgb8(40, 30), ImageFormat::Png);
        let jpeg = encoded(&DynamicImage::new_rgb8(40, 30), ImageFormat::Jpeg);
        for length in 0..24 {
            assert_eq!(decoded_bytes(&png[..length]), 0);
            assert_eq!(decoded_bytes(&jpeg[..length]), 0);
        }
        assert_eq!(decoded_bytes(b"<html>"), 0);
        assert_eq!(decoded_bytes(&[0xff; 100]), 0);
        let mut huge = png;
        huge[16..24].fill(0xff);
        assert_eq!(decoded_bytes(&huge), u64::MAX);
    }
}
