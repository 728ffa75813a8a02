//! What a camera usually sees, and how far a frame is from it.

use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::unit::Fixed;

use super::Measurements;
use super::cells::{Cells, Detail, FINE, HASH, HashGrid, THUMBNAIL, TILES};
use super::correlation::View;
use super::luma::ratio;
use super::registration::{Codes, Votes, elected, register, vote};
use super::relief::{Sums, Usual, relief};
use crate::frame::PictureSize;

/// A tile has lost its detail where less than this many percent of the reference's is left.
const DETAIL_LEFT_PERCENT: u64 = 35;
/// Tiles of the reference with less detail than this (Q28.4, eight levels a block) say nothing: they hold sky, walls or noise.
const LEAST_DETAIL: u32 = 8 << 4;
/// With fewer telling tiles than this there is no tile loss to speak of.
const LEAST_TILES: u64 = 8;

/// The mean of a camera's frames, and what most of them agree on; fixed once learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub(super) size: PictureSize,
    pub(super) cells: Cells,
    pub(super) codes: Codes,
    pub(super) usual: Usual,
    /// Follows from the cells.
    view: View,
}

impl Reference {
    pub(super) fn new(size: PictureSize, cells: Cells, codes: Codes, usual: Usual) -> Self {
        let view = View::of(&cells.thumbnail);
        Self { size, cells, codes, usual, view }
    }

    /// The cells of a frame that can be held against the reference.
    pub(super) fn comparable<'a>(&self, frame: &'a Measurements) -> Option<&'a Cells> {
        frame.cells.as_ref().filter(|_| frame.size == self.size)
    }

    /// Size of the pictures it was learned from; others are not compared.
    #[must_use]
    pub const fn size(&self) -> PictureSize {
        self.size
    }

    /// Adds reference correlation, hash distance, tile loss, displacement and rotation of the view to `values`, where the frame has them.
    pub fn compare(&self, frame: &Measurements, values: &mut FeatureValues) {
        let Some(cells) = self.comparable(frame) else { return };
        if let Some(correlation) = self.view.correlation(&cells.thumbnail) {
            values.set(Feature::ReferenceCorrelation, correlation);
        }
        values.set(Feature::HashDistance, hash_distance(&self.cells.hash, &cells.hash));
        if let Some(loss) = tile_loss(&self.cells.detail, &cells.detail) {
            values.set(Feature::TileLoss, loss);
        }
        if let Some(codes) = &frame.codes {
            register(&self.codes, codes, self.size, values);
        }
    }

    /// The share of what it shows that is found again in a frame, by which it is decided whether the view has a place.
    #[cfg(test)]
    pub(crate) fn found(&self, frame: &Measurements) -> Option<f64> {
        super::registration::found(&self.codes, frame.codes.as_ref().filter(|_| frame.size == self.size)?, self.size)
    }
}

/// Learns a [`Reference`] as the mean over any number of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceLearner {
    pub(super) size: Option<PictureSize>,
    pub(super) frames: u32,
    pub(super) thumbnail: [[u64; THUMBNAIL.0]; THUMBNAIL.1],
    pub(super) hash: [[u64; HASH.0]; HASH.1],
    pub(super) detail: [[u64; TILES.0]; TILES.1],
    pub(super) votes: Votes,
    pub(super) relief: Sums,
}

impl Default for ReferenceLearner {
    fn default() -> Self {
        Self::new()
    }
}

impl ReferenceLearner {
    /// A learner that has seen nothing. The first frame sets the size of all.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            size: None,
            frames: 0,
            thumbnail: [[0; THUMBNAIL.0]; THUMBNAIL.1],
            hash: [[0; HASH.0]; HASH.1],
            detail: [[0; TILES.0]; TILES.1],
            votes: [[0; FINE.0]; FINE.1],
            relief: Sums::new(),
        }
    }

    /// Takes a frame into the mean. Returns whether it could be used: frames of another size than the first, and frames below
    /// 128x72 pixels, cannot.
    pub fn learn(&mut self, frame: &Measurements) -> bool {
        let size = *self.size.get_or_insert(frame.size);
        let Some(cells) = frame.cells.as_ref().filter(|_| frame.size == size && self.frames < u32::MAX) else {
            return false;
        };
        self.frames += 1;
        add(&mut self.thumbnail, &cells.thumbnail);
        add(&mut self.hash, &cells.hash);
        add(&mut self.detail, &cells.detail);
        self.relief.add(&relief(&cells.thumbnail));
        if let Some(codes) = &frame.codes {
            vote(&mut self.votes, codes);
        }
        true
    }

    /// Frames taken into the mean.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.frames
    }

    /// The reference so far; `None` before the first frame.
    #[must_use]
    pub fn reference(&self) -> Option<Reference> {
        let size = self.size.filter(|_| self.frames > 0)?;
        let frames = u64::from(self.frames);
        let cells = Cells {
            thumbnail: mean(&self.thumbnail, frames),
            hash: mean(&self.hash, frames),
            detail: mean(&self.detail, frames),
        };
        let usual = Usual::of(&self.relief, self.frames);
        Some(Reference::new(size, cells, elected(&self.votes, self.frames), usual))
    }
}

fn add<N: Copy + Into<u64>, const W: usize, const H: usize>(sums: &mut [[u64; W]; H], frame: &[[N; W]; H]) {
    for (sum, &value) in sums.iter_mut().flatten().zip(frame.iter().flatten()) {
        *sum += value.into();
    }
}

fn mean<N: Copy + Default + TryFrom<u64>, const W: usize, const H: usize>(
    sums: &[[u64; W]; H],
    frames: u64,
) -> [[N; W]; H] {
    sums.map(|row| row.map(|sum| N::try_from(sum / frames.max(1)).unwrap_or_default()))
}

/// Bits of the difference hash (is a cell darker than its right neighbour?) that differ.
fn hash_distance(reference: &HashGrid, frame: &HashGrid) -> Fixed {
    let mut differing = 0;
    for (reference, frame) in reference.iter().zip(frame) {
        for (r, f) in reference.windows(2).zip(frame.windows(2)) {
            differing += i32::from((r[0] < r[1]) != (f[0] < f[1]));
        }
    }
    Fixed::from_int(differing)
}

/// Share of telling tiles whose detail is mostly gone.
fn tile_loss(reference: &Detail, frame: &Detail) -> Option<Fixed> {
    let (mut telling, mut lost) = (0_u64, 0_u64);
    for (&reference, &frame) in reference.iter().flatten().zip(frame.iter().flatten()) {
        if reference >= LEAST_DETAIL {
            telling += 1;
            lost += u64::from(u64::from(frame) * 100 < u64::from(reference) * DETAIL_LEFT_PERCENT);
        }
    }
    (telling >= LEAST_TILES).then(|| ratio(lost, telling))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::Measurer;
    use crate::frame::{Block, BlockRow, FrameFacts};

    extern crate std;
    use std::vec::Vec;

    /// 128x72 pixels: every tile is one block, every thumbnail cell one quarter-scale pixel.
    fn frame(luma: impl Fn(usize, usize) -> u8, detail: impl Fn(usize, usize) -> u16) -> Measurements {
        let size = PictureSize::new(128, 72).expect("valid");
        let mut measurer = Measurer::new(size);
        for y in 0..9 {
            let rows: [Vec<u8>; 2] = [2 * y, 2 * y + 1].map(|y| (0..32).map(|x| luma(x, y)).collect());
            let rows: [&[u8]; 2] = [&rows[0], &rows[1]];
            let blocks: Vec<Block> = (0..16).map(|x| Block { middle: detail(x, y), ..Block::default() }).collect();
            let row = BlockRow::new(rows, [&[128; 32]; 2], [&[128; 32]; 2], &blocks).expect("lengths agree");
            measurer.add(&row).expect("fits");
        }
        measurer.finish(&FrameFacts::default()).expect("complete")
    }

    fn ramp(x: usize, _: usize) -> u8 {
        u8::try_from(4 * x).expect("below 128")
    }

    fn values(reference: &Reference, frame: &Measurements) -> FeatureValues {
        let mut values = FeatureValues::default();
        reference.compare(frame, &mut values);
        values
    }

    fn learned(frames: &[Measurements]) -> Reference {
        let mut learner = ReferenceLearner::new();
        for frame in frames {
            assert!(learner.learn(frame));
        }
        learner.reference().expect("learned")
    }

    #[test]
    fn a_frame_is_at_no_distance_from_itself_and_all_bits_flip_in_a_mirror() {
        let reference = learned(&[frame(ramp, |_, _| 100)]);
        let same = values(&reference, &frame(ramp, |_, _| 100));
        assert_eq!(same.get(Feature::HashDistance), Some(Fixed::ZERO));
        assert_eq!(same.get(Feature::TileLoss), Some(Fixed::ZERO));
        let mirrored = values(&reference, &frame(|x, y| ramp(31 - x, y), |_, _| 100));
        assert_eq!(mirrored.get(Feature::HashDistance), Some(Fixed::from_int(256)));
    }

    #[test]
    fn tiles_below_35_percent_of_their_detail_are_lost_and_even_tiles_do_not_count() {
        // Rows 0 to 7 have detail, row 8 has none; in the frame, rows 0 and 1 fall to 34 and 35 percent.
        let reference = learned(&[frame(ramp, |_, y| if y < 8 { 100 } else { 7 })]);
        let frame = frame(ramp, |_, y| match y {
            0 => 34,
            1 => 35,
            8 => 0,
            _ => 100,
        });
        assert_eq!(values(&reference, &frame).get(Feature::TileLoss).map(Fixed::to_f64), Some(0.125));
    }

    #[test]
    fn a_scene_without_detail_has_no_tile_loss() {
        let even = frame(ramp, |_, _| 7);
        assert_eq!(values(&learned(core::slice::from_ref(&even)), &even).get(Feature::TileLoss), None);
    }

    #[test]
    fn the_reference_is_the_mean_of_its_frames_and_other_sizes_are_left_out() {
        let (dark, bright) = (frame(|_, _| 20, |_, _| 10), frame(|_, _| 30, |_, _| 30));
        let reference = learned(&[dark.clone(), bright]);
        assert_eq!(reference.cells.thumbnail, [[25 << 8; 32]; 18]);
        assert_eq!(reference.cells.detail, [[20 << 4; 16]; 9]);
        let mut learner = ReferenceLearner::new();
        assert_eq!(learner.reference(), None);
        learner.learn(&dark);
        let mut other = dark;
        other.size = PictureSize::new(136, 72).expect("valid");
        assert!(!learner.learn(&other));
        assert_eq!(learner.frames(), 1);
        assert_eq!(values(&reference, &other), FeatureValues::default());
    }
}
