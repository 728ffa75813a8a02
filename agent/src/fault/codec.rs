//! Reading and writing pictures, with bounds.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, ImageReader, Limits, RgbImage};
use thiserror::Error;

use super::view::{View, Window};

/// Longest side of a picture that is read, in pixels.
pub const MAX_SIDE: u32 = 8192;
/// Most memory the decoder may ask for: a picture of 8192 by 8192 pixels with 4 bytes each.
const MAX_DECODER_BYTES: u64 = MAX_SIDE as u64 * MAX_SIDE as u64 * 4;

/// Why bytes cannot be turned into a picture, or a picture into bytes.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The bytes are neither JPEG nor PNG, are damaged, or describe a picture that is too large.
    #[error("cannot decode picture of {bytes} bytes")]
    Decode {
        /// How many bytes there were.
        bytes: usize,
        /// What the decoder said.
        source: ImageError,
    },
    /// The encoder refuses the picture (0 or more than 65535 pixels on a side).
    #[error("cannot encode picture of {width}x{height} pixels as JPEG")]
    Encode {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What the encoder said.
        source: ImageError,
    },
}

/// The picture in JPEG or PNG bytes; grey pictures become grey RGB.
///
/// # Errors
/// The bytes are no such picture, are damaged, or a side is longer than [`MAX_SIDE`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage, CodecError> {
    let failed = |source| CodecError::Decode { bytes: bytes.len(), source };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| failed(ImageError::IoError(error)))?;
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    Ok(reader.decode().map_err(failed)?.into_rgb8())
}

/// A picture as JPEG. Quality 1..=100 on the scale of the Independent JPEG Group; what lies outside is clamped.
///
/// # Errors
/// The picture is empty or too large for JPEG.
pub fn encode_jpeg(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100))
        .encode_image(picture)
        .map_err(|source| CodecError::Encode { width: picture.width(), height: picture.height(), source })?;
    Ok(bytes)
}

/// The picture, made smaller if a side is longer than `most` pixels; its proportions stay.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "shorter than the side it came from")]
pub fn shrink(picture: RgbImage, most: u32) -> RgbImage {
    let longest = picture.width().max(picture.height());
    if longest <= most {
        return picture;
    }
    let side = |length: u32| (u64::from(length) * u64::from(most) / u64::from(longest)).max(1) as u32;
    View::plain(Window::WHOLE).show(&picture, side(picture.width()), side(picture.height()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn a_picture_survives_being_encoded() {
        let picture = RgbImage::from_fn(64, 48, |x, y| Rgb([x, y, 15].map(|part| u8::try_from(part * 4).unwrap())));
        let back = decode(&encode_jpeg(&picture, 95).unwrap()).unwrap();
        assert_eq!(back.dimensions(), (64, 48));
        let off = picture.iter().zip(back.iter()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
        assert!(off / (64 * 48 * 3) < 3, "{off}");
    }

    #[test]
    fn damaged_foreign_and_oversized_bytes_are_errors() {
        let mut png = Vec::new();
        let wide = RgbImage::new(MAX_SIDE + 1, 1);
        wide.write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
        for bytes in [&b""[..], b"no picture", &[0xff, 0xd8, 0xff, 0xe0], &png] {
            assert!(matches!(decode(bytes), Err(CodecError::Decode { .. })));
        }
        assert!(matches!(encode_jpeg(&RgbImage::new(0, 0), 80), Err(CodecError::Encode { .. })));
    }

    #[test]
    fn shrinking_keeps_proportions_and_leaves_small_pictures_alone() {
        assert_eq!(shrink(RgbImage::new(1000, 500), 200).dimensions(), (200, 100));
        assert_eq!(shrink(RgbImage::new(2, 1000), 200).dimensions(), (1, 200));
        assert_eq!(shrink(RgbImage::new(120, 90), 200).dimensions(), (120, 90));
    }
}
