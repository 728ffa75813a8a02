//! Whether the picture still shows the same thing in the same place, whatever the light.
//!
//! Plain correlation of thumbnails follows the few brightest areas: a shadow moves it more than a camera turned by three degrees.
//! So each cell is first freed of its neighbourhood's brightness and divided by its neighbourhood's contrast (local contrast
//! normalisation; Jarrett et al., ICCV 2009, in its simplest form). Every part of the picture then counts alike, and a shift by
//! a third of a cell shows.

use driftglass_protocol::unit::Fixed;

use super::cells::{THUMBNAIL, Thumbnail};

const WIDE: usize = THUMBNAIL.0;
const HIGH: usize = THUMBNAIL.1;
/// The neighbourhood reaches two cells in every direction.
const REACH: usize = 2;
const NEIGHBOURS: i64 = 25;
const _: () = assert!((2 * REACH + 1) * (2 * REACH + 1) == 25, "a neighbourhood is a square around its cell");
/// Added to the contrast of a neighbourhood, so that noise in an even area is not blown up: two luma levels, in units of
/// 1/(25·256) levels.
const CONTRAST_FLOOR: i64 = 2 * NEIGHBOURS * 256;
/// Fractional bits of a normalised cell.
const CELL_BITS: u32 = 10;
/// A reference whose normalised cells have a mean square below (1/8)² shows nothing to hold a frame against.
const LEAST_SQUARE: i64 = 1 << (2 * (CELL_BITS - 3));

type Cells = [[i64; WIDE]; HIGH];

/// What a reference thumbnail shows, in the form that frames are held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Q.10.
    cells: [[i32; WIDE]; HIGH],
    /// Sum of their squares.
    square: i64,
}

impl View {
    pub(super) fn of(thumbnail: &Thumbnail) -> Self {
        let cells = normalised(thumbnail);
        let square = cells.iter().flatten().map(|cell| cell * cell).sum();
        // A cell is at most 25 times its neighbourhood's standard deviation from its mean: 15 bits.
        Self { cells: cells.map(|row| row.map(|cell| i32::try_from(cell).unwrap_or(i32::MAX))), square }
    }

    /// Zero-mean normalised cross-correlation with a frame's thumbnail after local contrast normalisation, −1..=1; `None` where the
    /// reference has no structure, 0 where only the frame has none.
    pub(super) fn correlation(&self, frame: &Thumbnail) -> Option<Fixed> {
        let count = i64::try_from(WIDE * HIGH).unwrap_or(i64::MAX);
        if self.square < LEAST_SQUARE * count {
            return None;
        }
        let (mut product, mut frame_square) = (0_i64, 0_i64);
        for (&r, &f) in self.cells.iter().flatten().zip(normalised(frame).iter().flatten()) {
            product += i64::from(r) * f;
            frame_square += f * f;
        }
        let norm = (u128::from(self.square.unsigned_abs()) * u128::from(frame_square.unsigned_abs())).isqrt();
        Some(Fixed::from_ratio(product, u64::try_from(norm).unwrap_or(u64::MAX)))
    }
}

/// Every cell less the mean of its neighbourhood, over the standard deviation there, less the mean of all; Q.10.
fn normalised(thumbnail: &Thumbnail) -> Cells {
    let cells = thumbnail.map(|row| row.map(i64::from));
    let means = neighbourhood_sums(&cells);
    let mut centred = [[0; WIDE]; HIGH];
    for ((out, cells), sums) in centred.iter_mut().zip(&cells).zip(&means) {
        for ((out, &cell), &sum) in out.iter_mut().zip(cells).zip(sums) {
            *out = NEIGHBOURS * cell - sum;
        }
    }
    let squares = neighbourhood_sums(&centred.map(|row| row.map(|cell| cell * cell)));
    let mut total = 0;
    for (row, squares) in centred.iter_mut().zip(&squares) {
        for (cell, &square) in row.iter_mut().zip(squares) {
            *cell = (*cell << CELL_BITS) / ((square / NEIGHBOURS).isqrt() + CONTRAST_FLOOR);
            total += *cell;
        }
    }
    let mean = total / i64::try_from(WIDE * HIGH).unwrap_or(i64::MAX);
    centred.map(|row| row.map(|cell| cell - mean))
}

/// Sums over the neighbourhood of every cell; cells beyond the edge repeat the edge.
fn neighbourhood_sums(cells: &Cells) -> Cells {
    let across: Cells = cells.map(|row| core::array::from_fn(|x| span(x, WIDE).map(|x| row[x]).sum::<i64>()));
    core::array::from_fn(|y| core::array::from_fn(|x| span(y, HIGH).map(|y| across[y][x]).sum::<i64>()))
}

fn span(at: usize, length: usize) -> impl Iterator<Item = usize> {
    (0..=2 * REACH).map(move |offset| (at + offset).saturating_sub(REACH).min(length - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of soft spots, moved by `dx` cells.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "within 0..=65280"
    )]
    fn spots(dx: f64, gain: f64, offset: f64) -> Thumbnail {
        core::array::from_fn(|y| {
            core::array::from_fn(|x| {
                let (x, y) = (x as f64 + dx, y as f64);
                let level = 120.0 + 40.0 * (x * 0.9).sin() * (y * 0.7).cos() + 30.0 * (x * 0.31 + y * 0.53).sin();
                ((level * gain + offset) * 256.0) as u16
            })
        })
    }

    fn value(a: &Thumbnail, b: &Thumbnail) -> f64 {
        View::of(a).correlation(b).expect("structured").to_f64()
    }

    #[test]
    fn a_picture_correlates_fully_with_itself_and_inversely_with_its_negative() {
        let picture = spots(0.0, 1.0, 0.0);
        assert!(value(&picture, &picture) > 0.999);
        assert!(value(&picture, &picture.map(|row| row.map(|cell| 65_280 - cell))) < -0.99);
    }

    #[test]
    fn light_hardly_matters_and_a_small_move_does() {
        let picture = spots(0.0, 1.0, 0.0);
        assert!(value(&picture, &spots(0.0, 0.5, 0.0)) > 0.99, "darker");
        assert!(value(&picture, &spots(0.0, 0.7, 60.0)) > 0.99, "paler");
        let half_lit: Thumbnail =
            core::array::from_fn(|y| core::array::from_fn(|x| if x < 16 { picture[y][x] } else { picture[y][x] / 2 }));
        assert!(value(&picture, &half_lit) > 0.9, "half of it in shadow");
        assert!(value(&picture, &spots(0.5, 1.0, 0.0)) < 0.95, "moved by half a cell");
        assert!(value(&picture, &spots(1.5, 1.0, 0.0)) < 0.5, "moved by one and a half");
    }

    #[test]
    fn an_even_reference_has_no_correlation_and_an_even_frame_has_none_left() {
        let (even, picture) = ([[25_600; WIDE]; HIGH], spots(0.0, 1.0, 0.0));
        assert_eq!(View::of(&even).correlation(&picture), None);
        assert_eq!(View::of(&picture).correlation(&even), Some(Fixed::ZERO));
        let mut noisy = even;
        for (index, cell) in noisy.iter_mut().flatten().enumerate() {
            *cell += if index % 3 == 0 { 40 } else { 0 };
        }
        assert_eq!(View::of(&noisy).correlation(&picture), None, "a sixth of a level is noise");
    }

    #[test]
    fn the_largest_contrast_does_not_overflow() {
        let checks: Thumbnail =
            core::array::from_fn(|y| core::array::from_fn(|x| if (x + y) % 2 == 0 { u16::MAX } else { 0 }));
        assert!(value(&checks, &checks) > 0.999);
    }
}
