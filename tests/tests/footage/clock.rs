//! A camera that freezes while its clock, written into the picture, ticks on.

use driftglass_protocol::feature::Feature;
use image::{Rgb, RgbImage};

use crate::camera::{cameras, measure, reference, values};
use crate::separation::auc;

/// Digits of a clock: which of the seven segments are lit, from the top clockwise, the middle one last.
const SEGMENTS: [u8; 10] = [0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f];
/// Width and height of a digit, in pixels of a picture 480 wide.
const DIGIT: (u32, u32) = (8, 14);

/// Writes `seconds` as HH:MM:SS on a dark bar in the upper left corner, as cameras do.
fn stamp(picture: &mut RgbImage, seconds: u32) {
    let digits =
        [seconds / 36_000, seconds / 3600 % 10, seconds / 600 % 6, seconds / 60 % 10, seconds / 10 % 6, seconds % 10];
    let mut fill = |left: u32, top: u32, width: u32, height: u32, level: u8| {
        for y in top..(top + height).min(picture.height()) {
            for x in left..(left + width).min(picture.width()) {
                picture.put_pixel(x, y, Rgb([level; 3]));
            }
        }
    };
    fill(4, 4, 6 * (DIGIT.0 + 4) + 8, DIGIT.1 + 8, 16);
    for (place, digit) in (0_u32..).zip(digits) {
        let (left, top) = (8 + place * (DIGIT.0 + 4) + place / 2 * 2, 8);
        let (right, middle, bottom) = (left + DIGIT.0 - 2, top + DIGIT.1 / 2 - 1, top + DIGIT.1 - 2);
        let half = DIGIT.1 / 2;
        let segments = [
            (left, top, DIGIT.0, 2),
            (right, top, 2, half),
            (right, middle, 2, half + 1),
            (left, bottom, DIGIT.0, 2),
            (left, middle, 2, half + 1),
            (left, top, 2, half),
            (left, middle, DIGIT.0, 2),
        ];
        for (bit, (left, top, width, height)) in segments.into_iter().enumerate() {
            if SEGMENTS[digit as usize] >> bit & 1 == 1 {
                fill(left, top, width, height, 235);
            }
        }
    }
}

fn with_clock<'a>(pictures: impl Iterator<Item = &'a RgbImage>, from: u32) -> Vec<RgbImage> {
    let stamped = |(picture, seconds): (&RgbImage, u32)| {
        let mut picture = picture.clone();
        stamp(&mut picture, seconds);
        picture
    };
    pictures.zip(from..).map(stamped).collect()
}

#[test]
fn a_picture_frozen_under_a_ticking_clock_is_told_from_a_live_one_on_every_camera() {
    println!(
        "\nfrozen under a ticking clock: AUC of the change fraction by frame, largest change of the frozen one, least of the live one"
    );
    for camera in cameras() {
        let (normal, later) = camera.pictures();
        let live = measure(&with_clock(later.iter(), 43_190));
        let frozen = measure(&with_clock(std::iter::repeat_n(&later[0], later.len()), 43_190));
        let reference = reference(&measure(&with_clock(normal.iter(), 36_000)));
        let changes = |frames: &[_]| -> Vec<f64> {
            let values = values(&reference, frames);
            values.iter().filter_map(|frame| frame.get(Feature::ChangeFraction)).map(|change| change.to_f64()).collect()
        };
        let (live, frozen) = (changes(&live), changes(&frozen));
        let most = frozen.iter().copied().fold(0.0, f64::max);
        let least = live.iter().copied().fold(1.0, f64::min);
        let anytime = |changes: &[f64]| changes.iter().map(|&change| (None, change)).collect::<Vec<_>>();
        let separation = auc(&anytime(&live), &anytime(&frozen)).expect("frames");
        println!("{:30} {separation:.3} {most:.4} {least:.4}", camera.name);
        assert!(most > 0.0, "{}: the clock ticks", camera.name);
        assert!(separation >= 0.95, "{}: {separation}", camera.name);
    }
}
