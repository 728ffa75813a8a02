//! What a camera usually sees, and how far a frame is from it.

use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::unit::Fixed;

use super::Measurements;
use super::cells::{Cells, Detail, HASH, HashGrid, THUMBNAIL, TILES, Thumbnail};
use super::luma::ratio;
use crate::frame::PictureSize;

/// A tile has lost its detail where less than this many percent of the reference's is left.
const DETAIL_LEFT_PERCENT: u64 = 35;
/// Tiles of the reference with less detail than this (Q28.4, eight levels a block) say nothing: they hold sky, walls or noise.
const LEAST_DETAIL: u32 = 8 << 4;
/// With fewer telling tiles than this there is no tile loss to speak of.
const LEAST_TILES: u64 = 8;

/// The mean of a camera's frames, fixed once learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub(super) size: PictureSize,
    pub(super) cells: Cells,
}

impl Reference {
    /// Size of the pictures it was learned from; others are not compared.
    #[must_use]
    pub const fn size(&self) -> PictureSize {
        self.size
    }

    /// Adds reference correlation, hash distance and tile loss to `values`, where the frame has them.
    pub fn compare(&self, frame: &Measurements, values: &mut FeatureValues) {
        let Some(cells) = frame.cells.as_ref().filter(|_| frame.size == self.size) else { return };
        if let Some(correlation) = correlation(&self.cells.thumbnail, &cells.thumbnail) {
            values.set(Feature::ReferenceCorrelation, correlation);
        }
        values.set(Feature::HashDistance, hash_distance(&self.cells.hash, &cells.hash));
        if let Some(loss) = tile_loss(&self.cells.detail, &cells.detail) {
            values.set(Feature::TileLoss, loss);
        }
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
        Some(Reference { size, cells })
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

/// Zero-mean normalised cross-correlation; `None` where the reference has no structure, 0 where only the frame has none.
fn correlation(reference: &Thumbnail, frame: &Thumbnail) -> Option<Fixed> {
    const CELLS: i64 = 32 * 18;
    let total = |cells: &Thumbnail| cells.iter().flatten().map(|&cell| i64::from(cell)).sum::<i64>();
    let (reference_total, frame_total) = (total(reference), total(frame));
    let (mut product, mut reference_square, mut frame_square) = (0_i64, 0_i64, 0_i64);
    for (&r, &f) in reference.iter().flatten().zip(frame.iter().flatten()) {
        let (r, f) = (i64::from(r) - reference_total / CELLS, i64::from(f) - frame_total / CELLS);
        product += r * f;
        reference_square += r * r;
        frame_square += f * f;
    }
    normalised(product, reference_square, frame_square)
}

/// `product / √(reference · frame)`.
fn normalised(product: i64, reference: i64, frame: i64) -> Option<Fixed> {
    if reference == 0 {
        return None;
    }
    let norm = (u128::from(reference.unsigned_abs()) * u128::from(frame.unsigned_abs())).isqrt();
    Some(Fixed::from_ratio(product, u64::try_from(norm).unwrap_or(u64::MAX)))
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
