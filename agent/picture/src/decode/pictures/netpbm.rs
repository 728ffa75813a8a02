//! Netpbm's binary forms with eight bits a sample: how pixels that were never encoded travel within the agent.
//!
//! Deliberately absent: comments, text forms, sixteen bits, and what follows the first picture.

use super::{Layout, Raw};

/// The picture, where it begins like one; whether its pixels are complete is for the caller to see.
pub(super) fn parse(bytes: &[u8]) -> Option<Raw<'_>> {
    let layout = match bytes.get(..2)? {
        b"P5" => Layout::Grey,
        b"P6" => Layout::Rgb,
        _ => return None,
    };
    let (width, rest) = number(bytes.get(2..)?)?;
    let (height, rest) = number(rest)?;
    let (most, rest) = number(rest)?;
    // One character of white space, and then whatever the pixels are.
    (most == 255).then_some(Raw { width, height, layout, pixels: rest.get(1..)? })
}

/// White space, then a number, then more.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|&start| start > 0)?;
    let digits = bytes.get(start..)?;
    let length = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = digits.split_at_checked(length)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{DecodeError, Decoder};
    use crate::feature::CameraState;

    #[test]
    fn raw_pixels_measure_like_the_same_pixels_handed_over() {
        let rgb: Vec<u8> = (0..64 * 48 * 3_u32).map(|at| (at * 7 % 251).to_le_bytes()[0]).collect();
        let mut decoder = Decoder::new();
        let mut file = b"P6\n64 48\n255\n".to_vec();
        file.extend(&rgb);
        let mut measured = |file: &[u8]| CameraState::new().observe(&decoder.measure(file).expect("measured"));
        let handed =
            |rgb: &[u8]| CameraState::new().observe(&Decoder::new().measure_rgb(64, 48, rgb).expect("measured"));
        assert_eq!(measured(&file), handed(&rgb));
        let grey: Vec<u8> = rgb.iter().step_by(3).copied().collect();
        let tripled: Vec<u8> = grey.iter().flat_map(|&level| [level; 3]).collect();
        let file = [b"P5 64 48 255 ".as_slice(), &grey].concat();
        assert_eq!(measured(&file), handed(&tripled));
    }

    #[test]
    fn a_file_cut_short_or_malformed_is_refused() {
        let mut decoder = Decoder::new();
        let refused = decoder.measure(b"P5 64 48 255 abc").expect_err("short");
        assert!(matches!(refused, DecodeError::PixelCount { width: 64, height: 48, got: 3 }), "{refused}");
        let refused = decoder.measure(b"P6 99999 99999 255 ").expect_err("large");
        assert!(matches!(refused, DecodeError::TooLarge { .. }), "{refused}");
        for other in [&b"P"[..], b"P6", b"P6 1", b"P6 1 1 255", b"P6 1 1 65535 ", b"P6 -1 1 255 ", b"P664 48 255 "] {
            assert!(parse(other).is_none());
            assert!(decoder.measure(other).is_err());
        }
    }
}
