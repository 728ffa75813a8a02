//! Is the camera under infrared light? Told from its colours, window by window.
//!
//! When the filter swings away a camera delivers grey pictures. That is a regime and no drift: it has season slots of its own.
//! A window counts as infrared when nearly all its frames are without colour and as colour when nearly all have some; anything
//! in between (few coloured things in view, fog, the switch itself) leaves the regime as it was. That is the hysteresis: the two
//! borders lie a factor of two apart, so that a camera near one of them does not flicker between two pasts.

use driftglass_protocol::feature::Feature;
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::unit::Fixed;
use serde::{Deserialize, Serialize};

/// Root mean square of chroma, in levels, below which a frame has no colour: compression and sensor noise alone reach about 2.
const GREY: Fixed = Fixed::from_raw(5 << 15);
/// Chroma from which a frame certainly has colour.
const COLOUR: Fixed = Fixed::from_int(5);
/// "Nearly all" frames of a window, in percent.
const NEARLY_ALL: u64 = 90;
/// Frames with colour, or without, that make a window mixed, in percent.
const SOME: u64 = 10;
/// What one window says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The regime after this window.
    pub infrared: bool,
    /// Some frames have colour and some have not: the window belongs to neither regime and should be left out of both.
    pub mixed: bool,
}

/// The regime of one camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfraredDetector {
    infrared: bool,
}

impl InfraredDetector {
    /// Takes in the chroma ([`Feature::ChromaRms`]) of one window. A window without values changes nothing.
    pub fn observe(&mut self, chroma: &Histogram) -> Reading {
        let axis = Feature::ChromaRms.spec().axis;
        let (grey_below, colour_from) = (usize::from(axis.bin(GREY)), usize::from(axis.bin(COLOUR)));
        let counts = chroma.counts();
        let sum = |counts: &[u32]| counts.iter().map(|&count| u64::from(count)).sum::<u64>();
        let (grey, coloured, all) = (sum(&counts[..grey_below]), sum(&counts[colour_from..]), sum(counts));
        if all > 0 {
            if grey * 100 >= NEARLY_ALL * all {
                self.infrared = true;
            } else if coloured * 100 >= NEARLY_ALL * all {
                self.infrared = false;
            }
        }
        let mixed = grey * 100 >= SOME * all && coloured * 100 >= SOME * all && all > 0;
        Reading { infrared: self.infrared, mixed }
    }

    /// The regime now.
    #[must_use]
    pub const fn infrared(self) -> bool {
        self.infrared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(frames: &[(f64, u32)]) -> Histogram {
        let axis = Feature::ChromaRms.spec().axis;
        let mut histogram = Histogram::new();
        for &(level, count) in frames {
            #[expect(clippy::cast_possible_truncation, reason = "a few levels")]
            let bin = axis.bin(Fixed::from_raw((level * 65_536.0) as i32));
            (0..count).for_each(|_| histogram.add(bin));
        }
        histogram
    }

    #[test]
    fn grey_is_infrared_colour_is_not_and_between_them_nothing_changes() {
        let mut detector = InfraredDetector::default();
        // Level of chroma of a window, and the regime after it.
        for (step, (level, expected)) in [
            (12.0, false),
            (3.5, false),
            (1.2, true),
            (3.5, true),
            (4.9, true),
            (6.0, false),
            (2.6, false),
            (2.4, true),
        ]
        .into_iter()
        .enumerate()
        {
            let reading = detector.observe(&window(&[(level, 60)]));
            assert_eq!(reading, Reading { infrared: expected, mixed: false }, "step {step}, level {level}");
        }
        assert!(detector.observe(&Histogram::new()).infrared, "no values, no news");
    }

    #[test]
    fn a_level_that_trembles_about_either_border_switches_at_most_once() {
        for border in [2.5, 5.0] {
            let mut detector = InfraredDetector::default();
            let (mut switches, mut naive_switches) = (0, 0);
            let (mut last, mut naive_last) = (false, false);
            for step in 0..100 {
                let level = border + if step % 2 == 0 { 0.4 } else { -0.6 };
                let now = detector.observe(&window(&[(level, 60)])).infrared;
                let naive = level < border;
                switches += i32::from(now != last);
                naive_switches += i32::from(naive != naive_last);
                (last, naive_last) = (now, naive);
            }
            assert!(switches <= 1, "{switches} switches at {border}");
            assert!(naive_switches > 90, "one border alone would have switched {naive_switches} times");
        }
    }

    #[test]
    fn the_window_in_which_the_filter_moves_is_mixed_and_keeps_the_regime() {
        let mut detector = InfraredDetector::default();
        detector.observe(&window(&[(12.0, 60)]));
        assert_eq!(detector.observe(&window(&[(12.0, 25), (0.8, 35)])), Reading { infrared: false, mixed: true });
        assert_eq!(detector.observe(&window(&[(0.8, 60)])), Reading { infrared: true, mixed: false });
    }
}
