//! Where the camera looks now, held against its reference: how far the view is displaced, and by how much it is turned.
//!
//! Correlation with the reference says that the view differs, not why, and in a busy scene passers-by move it as much as a camera
//! turned by three degrees does. This finds the one move of the whole picture that explains it best. Every cell of a 64x36 grid is
//! coded as brighter, darker or as bright as its neighbourhood (a census of cells rather than pixels; Zabih, Woodfill, ECCV 1994),
//! which neither light nor contrast changes. Each of 48 tiles counts how many codes agree less how many contradict at every
//! displacement within reach, and a move of the picture scores what the tiles have where it puts them. What passes by changes
//! the score of a few tiles and the best move not at all; tiles with edges in one direction only still vote along the other.
//!
//! Must hold: fixed work and memory; the picture counts as unmoved unless another place explains clearly more.
//!
//! Turns below some two degrees may count as none where a scene has only coarse structure.
//!
//! Deliberately absent: moves beyond the reach of 9 % of the width and 11 % of the height, measured where a tile ends up. They
//! leave nothing that agrees, and the other features that compare say so.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "numbers of cells and tiles are small, and a place is checked before it becomes an index"
)]

use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::unit::Fixed;

use super::cells::{FINE, FineGrid};
use crate::frame::PictureSize;

const WIDE: usize = FINE.0;
const HIGH: usize = FINE.1;
/// The neighbourhood of a cell reaches two cells in every direction.
const REACH: usize = 2;
const NEIGHBOURS: i32 = 25;
/// A cell that differs from its neighbourhood by less than one level, or by less than half of what cells of this picture differ
/// by on average, is as bright as it.
const LEAST_DIFFERENCE: i32 = NEIGHBOURS * 256;

/// Tiles, across and down, and their size in cells.
const TILES: (usize, usize) = (8, 6);
const TILE: (usize, usize) = (WIDE / TILES.0, HIGH / TILES.1);
const _: () = assert!(TILE.0 == 8 && TILE.1 * TILES.1 == HIGH, "a byte of a row of codes is a row of a tile");
/// Farthest displacement that is looked at, in cells.
const FAR: (usize, usize) = (6, 4);
const ACROSS: usize = 2 * FAR.0 + 1;
const DOWN: usize = 2 * FAR.1 + 1;

/// Fractional bits of displacements and turns.
const BITS: u32 = 8;
const ONE: i32 = 1 << BITS;
/// The centres of the outermost tiles lie this many cells from the centre of the picture, across; turns and zooms are stepped by
/// what they move them.
const EDGE: i32 = ((TILES.0 as i32 - 1) * TILE.0 as i32) / 2;
/// A move must explain so much more of the reference's codes than no move, in 64ths, to be believed.
const CLEARLY: i32 = 2;
/// With fewer of the reference's codes found again at the best place, in 64ths, there is no telling where the camera looks.
const FOUND: i32 = 10;
/// A reference with fewer codes than this shows nothing to hold a frame against.
const LEAST_CODES: i32 = (WIDE * HIGH / 16) as i32;

/// One bit a cell, from the left in the lowest bit: brighter than its neighbourhood, and darker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CodeRow {
    pub(super) brighter: u64,
    pub(super) darker: u64,
}

/// The codes of all cells.
pub(super) type Codes = [CodeRow; HIGH];

/// How often each cell was brighter less how often it was darker.
pub(super) type Votes = [[i32; WIDE]; HIGH];

/// Codes a picture.
pub(super) fn codes(grid: &FineGrid) -> Codes {
    let mut differences = [[0_i32; WIDE]; HIGH];
    let mut sums = [[0_i32; WIDE]; HIGH];
    // Sums of five across, then of five down; cells beyond the edge repeat the edge.
    for (sums, row) in sums.iter_mut().zip(grid) {
        let mut padded = [0_i32; WIDE + 2 * REACH];
        for (index, slot) in padded.iter_mut().enumerate() {
            *slot = i32::from(row[index.saturating_sub(REACH).min(WIDE - 1)]);
        }
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = padded[index..=index + 2 * REACH].iter().sum();
        }
    }
    let mut total = 0_i64;
    for (y, (differences, row)) in differences.iter_mut().zip(grid).enumerate() {
        let mut around = [0_i32; WIDE];
        for offset in 0..=2 * REACH {
            let other = &sums[(y + offset).saturating_sub(REACH).min(HIGH - 1)];
            around.iter_mut().zip(other).for_each(|(around, sum)| *around += sum);
        }
        let mut row_total = 0_i32;
        for ((difference, &cell), around) in differences.iter_mut().zip(row).zip(around) {
            *difference = NEIGHBOURS * i32::from(cell) - around;
            row_total += difference.abs() >> 4;
        }
        total += i64::from(row_total);
    }
    let half_mean = i32::try_from(total * 8 / (WIDE * HIGH) as i64).unwrap_or(i32::MAX);
    let threshold = LEAST_DIFFERENCE.max(half_mean);
    differences.map(|row| {
        let mut codes = CodeRow::default();
        for (x, difference) in row.into_iter().enumerate() {
            codes.brighter |= u64::from(difference > threshold) << x;
            codes.darker |= u64::from(difference < -threshold) << x;
        }
        codes
    })
}

/// Adds a picture's codes to the votes.
pub(super) fn vote(votes: &mut Votes, codes: &Codes) {
    for (votes, codes) in votes.iter_mut().zip(codes) {
        for (x, vote) in votes.iter_mut().enumerate() {
            *vote += i32::from((codes.brighter >> x) & 1 == 1) - i32::from((codes.darker >> x) & 1 == 1);
        }
    }
}

/// The codes that at least half of the frames agree on; what passed by has none.
pub(super) fn elected(votes: &Votes, frames: u32) -> Codes {
    let frames = i64::from(frames);
    core::array::from_fn(|y| {
        let mut codes = CodeRow::default();
        for (x, &votes) in votes[y].iter().enumerate() {
            codes.brighter |= u64::from(2 * i64::from(votes) >= frames) << x;
            codes.darker |= u64::from(-2 * i64::from(votes) >= frames) << x;
        }
        codes
    })
}

/// Agreeing less contradicting codes of one tile, by displacement.
type Surface = [[i16; ACROSS]; DOWN];
type Surfaces = [[Surface; TILES.0]; TILES.1];

/// Ones in each byte.
const fn ones(bits: u64) -> u64 {
    let pairs = bits - ((bits >> 1) & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + ((pairs >> 2) & 0x3333_3333_3333_3333);
    (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f
}

fn surfaces(reference: &Codes, frame: &Codes) -> Surfaces {
    let mut surfaces = [[[[0; ACROSS]; DOWN]; TILES.0]; TILES.1];
    for across in 0..ACROSS {
        // The frame, moved so that what lies `across - FAR.0` to the right comes to lie over the reference; empty beyond the edge.
        let mut moved = [CodeRow::default(); HIGH + 2 * FAR.1];
        for (moved, row) in moved[FAR.1..].iter_mut().zip(frame) {
            let shifted = |bits: u64| if across < FAR.0 { bits << (FAR.0 - across) } else { bits >> (across - FAR.0) };
            *moved = CodeRow { brighter: shifted(row.brighter), darker: shifted(row.darker) };
        }
        for down in 0..DOWN {
            let tile_rows = reference.as_chunks::<{ TILE.1 }>().0.iter().zip(moved[down..].as_chunks::<{ TILE.1 }>().0);
            for (surfaces, (reference, frame)) in surfaces.iter_mut().zip(tile_rows) {
                // At most 8 of each in a row of a tile, and six rows: a byte holds the sums.
                let (mut agree, mut contradict) = (0_u64, 0_u64);
                for (r, f) in reference.iter().zip(frame) {
                    agree += ones((r.brighter & f.brighter) | (r.darker & f.darker));
                    contradict += ones((r.brighter & f.darker) | (r.darker & f.brighter));
                }
                let (agree, contradict) = (agree.to_le_bytes(), contradict.to_le_bytes());
                for ((surface, agree), contradict) in surfaces.iter_mut().zip(agree).zip(contradict) {
                    surface[down][across] = i16::from(agree) - i16::from(contradict);
                }
            }
        }
    }
    surfaces
}

/// A move of the whole picture: where its centre went, in cells across (Q8); a turn and a growth, as what they move a cell at
/// the edge (Q8 cells).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Move {
    right: i32,
    down: i32,
    turn: i32,
    growth: i32,
}

impl Move {
    const fn plus(self, right: i32, down: i32, turn: i32, growth: i32) -> Self {
        Self { right: self.right + right, down: self.down + down, turn: self.turn + turn, growth: self.growth + growth }
    }
}

/// Height of a cell over its width.
#[derive(Clone, Copy, Debug)]
struct Aspect {
    /// Q8.
    ratio: i32,
}

impl Aspect {
    fn new(size: PictureSize) -> Self {
        let ratio = u64::from(size.height()) * (WIDE << BITS) as u64 / (u64::from(size.width()) * HIGH as u64);
        Self { ratio: i32::try_from(ratio).unwrap_or(ONE).clamp(ONE / 8, 8 * ONE) }
    }

    /// Cells down as cells across.
    const fn across(self, down: i32) -> i32 {
        (down * self.ratio) >> BITS
    }

    /// Cells across as cells down.
    const fn down(self, across: i32) -> i32 {
        (across << BITS) / self.ratio
    }
}

/// Centre of a tile from the centre of the picture, in cells.
const fn centre(tile: usize, tiles: usize, size: usize) -> i32 {
    (2 * tile as i32 + 1 - tiles as i32) * size as i32 / 2
}

/// By how far a move displaces the centre of each tile, handed to `each` with the tile: cells across and cells down, Q8.
fn displacements(place: Move, aspect: Aspect, mut each: impl FnMut(usize, usize, i32, i32)) {
    let (down, turn_down) = (aspect.down(place.down), aspect.down(place.turn));
    let turn_across = aspect.across(place.turn);
    for y in 0..TILES.1 {
        let below = centre(y, TILES.1, TILE.1);
        let (row_right, row_down) = (place.right - turn_across * below / EDGE, down + place.growth * below / EDGE);
        for x in 0..TILES.0 {
            let beside = centre(x, TILES.0, TILE.0);
            each(x, y, row_right + place.growth * beside / EDGE, row_down + turn_down * beside / EDGE);
        }
    }
}

/// What the tiles score at the nearest whole cells.
fn rough_score(surfaces: &Surfaces, place: Move, aspect: Aspect) -> i32 {
    let mut score = 0;
    displacements(place, aspect, |x, y, right, down| {
        let (column, row) = (((right + ONE / 2) >> BITS) + FAR.0 as i32, ((down + ONE / 2) >> BITS) + FAR.1 as i32);
        if (0..ACROSS as i32).contains(&column) && (0..DOWN as i32).contains(&row) {
            score += i32::from(surfaces[y][x][row as usize][column as usize]);
        }
    });
    score << BITS
}

/// What the tiles score, on straight lines between whole cells; Q8.
fn fine_score(surfaces: &Surfaces, place: Move, aspect: Aspect) -> i32 {
    let mut score = 0;
    displacements(place, aspect, |x, y, right, down| {
        let (column, row) = ((right >> BITS) + FAR.0 as i32, (down >> BITS) + FAR.1 as i32);
        let (right, down) = (right & (ONE - 1), down & (ONE - 1));
        let at = |row: i32, column: i32| {
            let inside = (0..ACROSS as i32).contains(&column) && (0..DOWN as i32).contains(&row);
            if inside { i32::from(surfaces[y][x][row as usize][column as usize]) } else { 0 }
        };
        let upper = at(row, column) * (ONE - right) + at(row, column + 1) * right;
        let lower = at(row + 1, column) * (ONE - right) + at(row + 1, column + 1) * right;
        score += (upper * (ONE - down) + lower * down) >> BITS;
    });
    score
}

/// Climbs from `start`: turn and growth up to `steps` of `step` either way, then one step aside.
fn climb(start: (i32, Move), step: i32, steps: i32, score: impl Fn(Move) -> i32) -> (i32, Move) {
    let mut best = start;
    let consider = |place: Move, best: &mut (i32, Move)| {
        let found = score(place);
        if found > best.0 {
            *best = (found, place);
        }
    };
    let from = best.1;
    for turn in -steps..=steps {
        for growth in -steps..=steps {
            consider(from.plus(0, 0, turn * step, growth * step), &mut best);
        }
    }
    let (from, aside) = (best.1, step.min(ONE));
    for right in -1..=1 {
        for down in -1..=1 {
            consider(from.plus(right * aside, down * aside, 0, 0), &mut best);
        }
    }
    best
}

/// The move that explains a frame best.
#[derive(Clone, Copy, Debug)]
struct Registered {
    place: Move,
    /// Codes that agree there less those that contradict, Q8.
    score: i32,
    /// What would be scored if every code were found again, Q8.
    most: i32,
}

impl Registered {
    /// Whether enough was found again to say where the camera looks.
    const fn is_found(self) -> bool {
        self.score >= self.most / 64 * FOUND
    }
}

/// `None` where the reference shows nothing.
fn registered(reference: &Codes, frame: &Codes, aspect: Aspect) -> Option<Registered> {
    let all: u32 = reference.iter().map(|row| (row.brighter | row.darker).count_ones()).sum();
    let all = i32::try_from(all).unwrap_or(i32::MAX);
    if all < LEAST_CODES {
        return None;
    }
    let most = all << BITS;
    let surfaces = surfaces(reference, frame);
    let stay = fine_score(&surfaces, Move::default(), aspect);
    let mut best = (stay, Move::default());
    let (unmoved, shifted) = (best, shifted(&surfaces, aspect));
    for start in [unmoved, shifted].into_iter().take(if shifted.1 == unmoved.1 { 1 } else { 2 }) {
        let mut found = start;
        for _ in 0..2 {
            let before = found;
            found = climb(found, 2 * ONE, 3, |place| rough_score(&surfaces, place, aspect));
            if found == before {
                break;
            }
        }
        found.0 = fine_score(&surfaces, found.1, aspect);
        if found.0 > best.0 {
            best = found;
        }
    }
    for step in [ONE, ONE / 2, ONE / 4] {
        best = climb(best, step, 1, |place| fine_score(&surfaces, place, aspect));
    }
    if best.0 - stay < most / 64 * CLEARLY {
        best = (stay, Move::default());
    }
    Some(Registered { place: best.1, score: best.0, most })
}

/// Adds how far the view is displaced, turned and zoomed; nothing where the frame does not show what the reference shows.
pub(super) fn register(reference: &Codes, frame: &Codes, size: PictureSize, values: &mut FeatureValues) {
    let aspect = Aspect::new(size);
    let Some(registered) = registered(reference, frame, aspect).filter(|registered| registered.is_found()) else {
        return;
    };
    let (place, mut squares) = (registered.place, 0_u64);
    displacements(place, aspect, |_, _, right, down| {
        let down = i64::from(aspect.across(down));
        squares += (i64::from(right) * i64::from(right) + down * down).unsigned_abs();
    });
    // √(squares/48) in cells Q8, over 64 cells, in percent.
    let parts = ((TILES.0 * TILES.1) as u64) * ((WIDE as u64) << BITS).pow(2);
    values.set(Feature::ViewDisplacement, Fixed::sqrt_ratio(squares * 10_000, parts));
    // A turn by `turn` cells at the edge, `EDGE` cells from the centre, in degrees: 180/π = 57.29578.
    let edge = u64::from((EDGE << BITS).unsigned_abs());
    values.set(Feature::ViewRotation, Fixed::from_ratio(i64::from(place.turn) * 5_729_578, 100_000 * edge));
}

/// The share of the reference's codes that is found again at the best place; `None` where the reference shows nothing.
#[cfg(test)]
pub(super) fn found(reference: &Codes, frame: &Codes, size: PictureSize) -> Option<f64> {
    let registered = registered(reference, frame, Aspect::new(size))?;
    Some(f64::from(registered.score) / f64::from(registered.most))
}

/// The shift of the whole picture at which most codes agree.
fn shifted(surfaces: &Surfaces, aspect: Aspect) -> (i32, Move) {
    let mut best = (i32::MIN, Move::default());
    for row in 0..DOWN {
        for column in 0..ACROSS {
            let score = surfaces.iter().flatten().map(|surface| i32::from(surface[row][column])).sum::<i32>() << BITS;
            if score > best.0 {
                let (right, down) = (column as i32 - FAR.0 as i32, row as i32 - FAR.1 as i32);
                let place = Move { right: right << BITS, down: aspect.across(down << BITS), turn: 0, growth: 0 };
                best = (score, place);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    /// A scene of overlapping soft spots, at any place.
    fn scene(x: f64, y: f64) -> f64 {
        let spot = |index: u32| {
            let place = |step: f64| (f64::from(index) * step).fract();
            let (across, down) = (place(0.618_034) * 80.0 - 8.0, place(0.414_214) * 48.0 - 6.0);
            let level = if index.is_multiple_of(2) { 60.0 } else { -50.0 };
            level * (-((x - across).powi(2) + (y - down).powi(2)) / 6.0).exp()
        };
        120.0 + (0..90).map(spot).sum::<f64>()
    }

    /// Wide enough for cells as high as they are wide.
    fn size() -> PictureSize {
        PictureSize::new(1024, 576).expect("valid")
    }

    /// The scene, moved by cells, turned by degrees clockwise and magnified.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "levels")]
    fn picture(right: f64, down: f64, degrees: f64, zoom: f64) -> FineGrid {
        let (sin, cos) = degrees.to_radians().sin_cos();
        core::array::from_fn(|y| {
            core::array::from_fn(|x| {
                let (x, y) = (x as f64 - 31.5 - right, y as f64 - 17.5 - down);
                let (x, y) = ((x * cos + y * sin) / zoom, (y * cos - x * sin) / zoom);
                (scene(x + 31.5, y + 17.5).clamp(0.0, 255.0) * 256.0) as u16
            })
        })
    }

    fn measured(reference: &FineGrid, frame: &FineGrid) -> (Option<f64>, Option<f64>) {
        let mut values = FeatureValues::default();
        register(&codes(reference), &codes(frame), size(), &mut values);
        let value = |feature| values.get(feature).map(Fixed::to_f64);
        (value(Feature::ViewDisplacement), value(Feature::ViewRotation))
    }

    #[test]
    fn the_same_view_is_not_displaced_whatever_the_light() {
        let there = picture(0.0, 0.0, 0.0, 1.0);
        for (gain, offset) in [(2, 0), (2, 120 << 8), (3, 20 << 8)] {
            let lit = there.map(|row| row.map(|cell| cell / gain + offset));
            assert_eq!(measured(&there, &lit), (Some(0.0), Some(0.0)), "{gain} {offset}");
        }
    }

    #[test]
    fn a_shift_is_measured_in_percent_of_the_width() {
        let there = picture(0.0, 0.0, 0.0, 1.0);
        for (right, down) in [(1.0, 0.0), (-3.0, 2.0), (0.0, -4.0), (5.0, 1.0)] {
            let (displaced, turned) = measured(&there, &picture(right, down, 0.0, 1.0));
            let wanted = right.hypot(down) / 64.0 * 100.0;
            assert!(displaced.is_some_and(|got| (got - wanted).abs() < 0.6), "{displaced:?}, want {wanted}");
            assert!(turned.is_some_and(|got| got.abs() < 0.6), "{turned:?}");
        }
    }

    #[test]
    fn a_turn_is_measured_in_degrees_and_clockwise_is_positive() {
        let there = picture(0.0, 0.0, 0.0, 1.0);
        for degrees in [-8.0, -5.0, -3.5, 3.5, 5.0, 8.0] {
            let (displaced, turned) = measured(&there, &picture(0.0, 0.0, degrees, 1.0));
            assert!(turned.is_some_and(|got| (got - degrees).abs() < 0.8), "{turned:?}, want {degrees}");
            assert!(displaced.is_some_and(|got| got > 0.3), "{displaced:?}");
        }
    }

    #[test]
    fn a_zoom_displaces_the_view_without_turning_it() {
        let there = picture(0.0, 0.0, 0.0, 1.0);
        for zoom in [0.9, 1.08, 1.18] {
            let (displaced, turned) = measured(&there, &picture(0.0, 0.0, 0.0, zoom));
            assert!(displaced.is_some_and(|got| got > 100.0 * (zoom - 1.0).abs() / 5.0), "{zoom}: {displaced:?}");
            assert!(turned.is_some_and(|got| got.abs() < 1.5), "{zoom}: {turned:?}");
        }
    }

    #[test]
    fn what_passes_by_does_not_displace_the_view() {
        let there = picture(0.0, 0.0, 0.0, 1.0);
        let elsewhere = picture(4.0, 0.0, 0.0, 1.0);
        for left in [0, 20, 40] {
            // A third of the picture is filled by something that moves.
            let mut busy = there;
            for (row, passing) in busy.iter_mut().zip(&elsewhere) {
                row[left..left + 20].copy_from_slice(&passing[left..left + 20]);
            }
            assert_eq!(measured(&there, &busy).0, Some(0.0), "{left}");
        }
    }

    #[test]
    fn pictures_without_structure_have_no_measure() {
        let (there, even) = (picture(0.0, 0.0, 0.0, 1.0), [[25_600; WIDE]; HIGH]);
        assert_eq!(measured(&even, &there), (None, None));
        assert_eq!(measured(&there, &even), (None, None));
    }

    #[test]
    fn codes_are_elected_by_at_least_half_of_the_frames() {
        let (there, other) = (codes(&picture(0.0, 0.0, 0.0, 1.0)), codes(&picture(3.0, 1.0, 0.0, 1.0)));
        let mut votes: Votes = [[0; WIDE]; HIGH];
        for frame in 0..10 {
            vote(&mut votes, if frame < 2 { &other } else { &there });
        }
        let elected = elected(&votes, 10);
        // Eight of ten less the two that contradict is still a majority.
        let differing: u32 = elected
            .iter()
            .zip(&there)
            .map(|(a, b)| ((a.brighter ^ b.brighter) | (a.darker ^ b.darker)).count_ones())
            .sum();
        assert_eq!(differing, 0);
    }

    #[test]
    fn the_fullest_tiles_and_widest_moves_stay_in_range() {
        let full = [CodeRow { brighter: u64::MAX, darker: 0 }; HIGH];
        let both = [CodeRow { brighter: u64::MAX, darker: u64::MAX }; HIGH];
        for (width, height) in [(8, 8192), (8192, 8), (1024, 576)] {
            let size = PictureSize::new(width, height).expect("valid");
            for (reference, frame) in [(&full, &full), (&full, &both), (&both, &both), (&both, &full)] {
                let mut values = FeatureValues::default();
                register(reference, frame, size, &mut values);
                let displaced = values.get(Feature::ViewDisplacement).map(Fixed::to_f64);
                assert!(displaced.is_none_or(|percent| percent < 60.0), "{displaced:?}");
            }
        }
    }

    #[test]
    fn ones_of_each_byte_are_counted() {
        for bits in [0_u64, u64::MAX, 0x0123_4567_89ab_cdef, 0x8000_0000_0000_0001] {
            let expected: Vec<u8> =
                bits.to_le_bytes().iter().map(|byte| u8::try_from(byte.count_ones()).expect("8")).collect();
            assert_eq!(ones(bits).to_le_bytes().to_vec(), expected);
        }
    }
}
