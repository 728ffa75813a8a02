//! How much brighter each part of the picture is than what surrounds it, and how much that usually varies.
//!
//! What lies on the lens dims its part of the picture by about the same factor whatever the light. So cells are compared by the
//! logarithm of their luma, less the mean of their neighbourhood: brighter or dimmer light as a whole, and all that changes evenly
//! over a few cells, drop out. How much a cell varies by itself (shadows, passers-by, lamps at night) is learned with its mean, and
//! says how much a deviation means.
//!
//! Must hold: integers and fixed work, on stored bytes whatever they say. Deliberately absent: following the camera. What is usual is
//! learned with the reference and stays; by day and night a camera that learned for seconds is far from it at every hour, and the centre
//! knows the hours.

use super::cells::{THUMBNAIL, Thumbnail};

const WIDE: usize = THUMBNAIL.0;
const HIGH: usize = THUMBNAIL.1;
/// The neighbourhood of a cell reaches two cells in every direction.
const REACH: usize = 2;
const NEIGHBOURS: i32 = 25;
/// A doubling of luma.
#[cfg(test)]
const OCTAVE: i32 = 1 << 10;
/// Added to the luma (Q8.8): four levels, below which a sensor tells nothing.
const FLOOR: u32 = 4 << 8;
/// The least spread, three hundredths in luma: three levels of a grey cell.
const LEAST_SPREAD: u64 = 45;
/// A spread, as deviations are counted.
pub(super) const SPREAD: i32 = 1 << 12;
/// The farthest deviation, of one and a half spreads: what passes by is far away for a moment, and must not outweigh what stays.
pub(super) const FAR: i16 = 6144;

/// A logarithm of luma less that of its neighbourhood, in 1024ths of an octave: ±6.1 octaves at most.
pub(super) type Relief = [[i16; WIDE]; HIGH];

/// The relief of a thumbnail.
#[expect(clippy::cast_possible_truncation, reason = "two values within 0..=6.1 octaves differ by less than i16 holds")]
pub(super) fn relief(thumbnail: &Thumbnail) -> Relief {
    let logarithms = thumbnail.map(|row| row.map(logarithm));
    // Sums of five across, then of five down; cells beyond the edge repeat the edge.
    let mut across = [[0; WIDE]; HIGH];
    for (sums, row) in across.iter_mut().zip(&logarithms) {
        for (x, sum) in sums.iter_mut().enumerate() {
            *sum = (x..=x + 2 * REACH).map(|x| row[x.saturating_sub(REACH).min(WIDE - 1)]).sum();
        }
    }
    let mut relief = [[0; WIDE]; HIGH];
    for (y, (row, logarithms)) in relief.iter_mut().zip(&logarithms).enumerate() {
        for (x, (cell, logarithm)) in row.iter_mut().zip(logarithms).enumerate() {
            let around: i32 = (y..=y + 2 * REACH).map(|y| across[y.saturating_sub(REACH).min(HIGH - 1)][x]).sum();
            *cell = (logarithm - around / NEIGHBOURS) as i16;
        }
    }
    relief
}

/// log2 of a luma above the floor, in 1024ths, within 9 of them: `log2(1 + x)` is taken as `x + 0.3466 x (1 - x)`.
#[expect(clippy::cast_possible_wrap, reason = "at most 6.1 octaves")]
const fn logarithm(luma: u16) -> i32 {
    let value = luma as u32 + FLOOR;
    let octave = value.ilog2();
    let x = (value << (16 - octave)) - (1 << 16);
    let bow = (((x * (65_536 - x)) >> 16) * 22_713) >> 16;
    (((octave - FLOOR.ilog2()) << 10) + ((x + bow) >> 6)) as i32
}

/// The sums a relief is learned from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) values: [[i64; WIDE]; HIGH],
    pub(super) squares: [[u64; WIDE]; HIGH],
}

impl Sums {
    pub(super) const fn new() -> Self {
        Self { values: [[0; WIDE]; HIGH], squares: [[0; WIDE]; HIGH] }
    }

    pub(super) fn add(&mut self, relief: &Relief) {
        let sums = self.values.iter_mut().flatten().zip(self.squares.iter_mut().flatten());
        for ((sum, squares), &value) in sums.zip(relief.iter().flatten()) {
            *sum += i64::from(value);
            *squares += u64::from(value.unsigned_abs()).pow(2);
        }
    }
}

/// What each cell usually is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usual {
    pub(super) mean: Relief,
    /// Its standard deviation, and half of that of all cells on average: a cell that was quiet by chance is not one that never varies.
    pub(super) spread: [[u16; WIDE]; HIGH],
}

impl Usual {
    /// Of that many frames.
    pub(super) fn of(sums: &Sums, frames: u32) -> Self {
        let frames = u64::from(frames.max(1));
        let mut mean = [[0; WIDE]; HIGH];
        let mut deviation = [[0_u64; WIDE]; HIGH];
        let cells = mean.iter_mut().flatten().zip(deviation.iter_mut().flatten());
        let sums = sums.values.iter().flatten().zip(sums.squares.iter().flatten());
        for ((mean, deviation), (&sum, &squares)) in cells.zip(sums) {
            let middle = sum / i64::try_from(frames).unwrap_or(i64::MAX);
            *mean = i16::try_from(middle).unwrap_or(if middle < 0 { i16::MIN } else { i16::MAX });
            *deviation = (squares / frames).saturating_sub(middle.unsigned_abs().saturating_pow(2)).isqrt();
        }
        let everywhere = deviation.iter().flatten().sum::<u64>() / (2 * (WIDE * HIGH) as u64);
        let spread = deviation
            .map(|row| row.map(|deviation| u16::try_from(deviation + everywhere + LEAST_SPREAD).unwrap_or(u16::MAX)));
        Self { mean, spread }
    }

    /// How far each cell is from its mean, in [`SPREAD`]ths of its spread, at most [`FAR`] either way, row by row.
    pub(super) fn deviations(&self, relief: &Relief) -> impl Iterator<Item = i16> {
        let usual = self.mean.iter().flatten().zip(self.spread.iter().flatten());
        relief.iter().flatten().zip(usual).map(|(&now, (&mean, &spread))| {
            let away = (i32::from(now) - i32::from(mean)) * SPREAD / i32::from(spread).max(1);
            i16::try_from(away.clamp(-i32::from(FAR), i32::from(FAR))).unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    fn picture(luma: impl Fn(usize, usize) -> f64) -> Thumbnail {
        let mut thumbnail = [[0; WIDE]; HIGH];
        for (y, row) in thumbnail.iter_mut().enumerate() {
            for (x, cell) in row.iter_mut().enumerate() {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "luma below 256, Q8.8")]
                let luma = (luma(x, y) * 256.0).round() as u16;
                *cell = luma;
            }
        }
        thumbnail
    }

    #[test]
    fn the_logarithm_is_within_nine_of_the_true_one_and_never_falls() {
        let mut last = 0;
        for luma in 0..=u16::MAX {
            let got = logarithm(luma);
            let exact = (f64::from(u32::from(luma) + FLOOR) / f64::from(FLOOR)).log2() * f64::from(OCTAVE);
            assert!((f64::from(got) - exact).abs() <= 9.0, "{luma}: {got}, exactly {exact}");
            assert!(got >= last, "{luma}");
            last = got;
        }
    }

    #[test]
    fn a_stain_of_half_the_light_is_an_octave_whatever_the_light_and_what_is_even_is_nothing() {
        assert_eq!(relief(&picture(|_, _| 100.0)), [[0; WIDE]; HIGH]);
        for light in [60.0, 240.0] {
            let relief = relief(&picture(|x, y| if (x, y) == (10, 9) { light / 2.0 - 2.0 } else { light }));
            // Its own share of the neighbourhood is a 25th.
            let expected = -OCTAVE * 24 / 25;
            assert!((i32::from(relief[9][10]) - expected).abs() <= 20, "{}", relief[9][10]);
            assert!((i32::from(relief[9][12]) - OCTAVE / 25).abs() <= 20 && relief[9][13] == 0);
        }
    }

    #[test]
    fn edges_and_extremes_stay_within_the_range() {
        let relief = relief(&picture(|x, _| if x < 16 { 0.0 } else { 255.99 }));
        assert!(relief.iter().flatten().all(|cell| i32::from(cell.unsigned_abs()) < 7 * OCTAVE));
        assert_eq!((relief[0][0], relief[17][31]), (0, 0));
    }

    #[test]
    fn a_cell_that_varies_must_vary_more_to_be_far() {
        let (mut sums, quiet) = (Sums::new(), [[0_i16; WIDE]; HIGH]);
        for frame in 0..32 {
            let mut relief = quiet;
            relief[3][4] = if frame % 2 == 0 { 600 } else { -600 };
            sums.add(&relief);
        }
        let usual = Usual::of(&sums, 32);
        assert_eq!((usual.mean[3][4], usual.spread[3][4], usual.spread[0][0]), (0, 645, 45));
        let mut relief = quiet;
        (relief[3][4], relief[0][0]) = (60, 60);
        let deviations: std::vec::Vec<i16> = usual.deviations(&relief).collect();
        assert_eq!((deviations[3 * WIDE + 4], deviations[0], deviations[1]), (381, 5461, 0));
        relief[0][0] = i16::MIN;
        assert_eq!(usual.deviations(&relief).next(), Some(-FAR));
    }
}
