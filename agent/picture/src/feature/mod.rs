//! From one decoded picture to feature values.
//!
//! [`Measurer`] takes a picture row by row and yields [`Measurements`]: the features that need nothing else, and what is needed
//! to compare the picture with others of its camera. [`CameraState`] holds the camera's reference and its previous frame, and adds
//! the features that compare. [`ReferenceLearner`] and [`Reference`] do the same for a batch, where the reference is learned from
//! any number of frames and others are held against it without changing it.
//!
//! Must hold: fixed memory, whatever the picture; integers only, so every machine agrees to the last bit; the same rows give the
//! same values no matter what decoded them.
//!
//! Deliberately absent: confidence and prediction entropy (they come from the model), decoding.

mod camera;
mod cells;
mod change;
mod chroma;
mod correlation;
mod lasting;
mod luma;
mod reference;
mod registration;
mod relief;
mod spectrum;
mod state_bytes;

use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::unit::Fixed;

pub use camera::{CameraState, REFERENCE_FRAMES, RESTART_FRAMES};
pub use reference::{Reference, ReferenceLearner};
pub use state_bytes::{STATE_BYTES, StateError};

use crate::frame::{BlockRow, FrameError, FrameFacts, PictureSize};
use cells::{CellSums, Cells};
use change::Plane;
use chroma::Chroma;
use luma::{Luma, ratio};
use registration::Codes;
use spectrum::Spectrum;

/// Added to a mean luma step before its logarithm, as one part in this many: 0.1.
const STEP_FLOOR_PARTS: u64 = 10;

/// What was measured of one picture; about 37 KiB.
#[derive(Clone, Debug)]
pub struct Measurements {
    size: PictureSize,
    values: FeatureValues,
    cells: Option<Cells>,
    codes: Option<Codes>,
    plane: Plane,
}

impl Measurements {
    /// Size of the picture.
    #[must_use]
    pub const fn size(&self) -> PictureSize {
        self.size
    }

    /// The features that need no other picture; those that compare are absent until [`CameraState::observe`] adds them.
    #[must_use]
    pub const fn values(&self) -> &FeatureValues {
        &self.values
    }
}

/// Measures one picture, a row of blocks at a time.
#[derive(Clone, Debug)]
pub struct Measurer {
    size: PictureSize,
    rows: u32,
    luma: Luma,
    chroma: Chroma,
    spectrum: Spectrum,
    cells: Option<CellSums>,
    plane: Plane,
}

impl Measurer {
    /// Starts a picture.
    #[must_use]
    pub fn new(size: PictureSize) -> Self {
        Self {
            size,
            rows: 0,
            luma: Luma::new(),
            chroma: Chroma::default(),
            spectrum: Spectrum::new(),
            cells: CellSums::new(size),
            plane: Plane::new(size),
        }
    }

    /// Adds the next row of blocks, from the top down.
    ///
    /// # Errors
    /// [`FrameError::RowLength`] or [`FrameError::RowCount`] where the row does not belong to a picture of this size.
    pub fn add(&mut self, row: &BlockRow<'_>) -> Result<(), FrameError> {
        let expected = self.size.blocks_wide() as usize;
        if row.blocks().len() != expected {
            return Err(FrameError::RowLength { expected, got: row.blocks().len() });
        }
        if self.rows >= self.size.blocks_high() {
            return Err(FrameError::RowCount { expected: self.size.blocks_high(), got: self.rows + 1 });
        }
        self.rows += 1;
        self.luma.add(row.luma());
        self.chroma.add(row.cb(), row.cr());
        self.spectrum.add(row.blocks());
        self.plane.add(row);
        if let Some(cells) = &mut self.cells {
            cells.add(row);
        }
        Ok(())
    }

    /// Ends the picture.
    ///
    /// # Errors
    /// [`FrameError::RowCount`] where rows are missing: half a picture has no features.
    pub fn finish(self, facts: &FrameFacts) -> Result<Measurements, FrameError> {
        if self.rows != self.size.blocks_high() {
            return Err(FrameError::RowCount { expected: self.size.blocks_high(), got: self.rows });
        }
        let mut values = FeatureValues::default();
        self.luma.finish(&mut values);
        self.chroma.finish(&mut values);
        self.spectrum.finish(&mut values);
        if let Some(cells) = &self.cells {
            let (dark, of) = cells.dark_tiles();
            values.set(Feature::DarkTiles, ratio(dark, of));
        }
        self.set_facts(facts, &mut values);
        let cells = self.cells.as_ref().map(CellSums::finish);
        let codes = self.cells.as_ref().and_then(CellSums::codes);
        Ok(Measurements { size: self.size, values, cells, codes, plane: self.plane })
    }

    fn set_facts(&self, facts: &FrameFacts, values: &mut FeatureValues) {
        if let Some(sum) = facts.quantisation_sum {
            values.set(Feature::QuantisationMean, ratio(u64::from(sum), 64));
        }
        if let Some(bytes) = facts.encoded_bytes {
            let pixels = u64::from(self.size.width()) * u64::from(self.size.height());
            values.set(Feature::BitsPerPixel, Fixed::log2_ratio(u64::from(bytes) * 8, pixels));
        }
        if let Some(steps) = facts.steps.filter(|steps| steps.borders > 0 && steps.inners > 0) {
            // log₂ of (border/borders + 0.1) / (inner/inners + 0.1); counts stay below 2²⁷ and sums below 2³⁵.
            let across = Fixed::log2_ratio(STEP_FLOOR_PARTS * steps.border + steps.borders, steps.borders);
            let inside = Fixed::log2_ratio(STEP_FLOOR_PARTS * steps.inner + steps.inners, steps.inners);
            values.set(Feature::Blockiness, Fixed::from_raw(across.raw() - inside.raw()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Block, Steps};

    fn grey(size: PictureSize, facts: &FrameFacts) -> Result<Measurements, FrameError> {
        let mut measurer = Measurer::new(size);
        let (luma, chroma) = ([90; 2], [128; 2]);
        let blocks = [Block { dc: 720, ..Block::default() }];
        let row = BlockRow::new([&luma; 2], [&chroma; 2], [&chroma; 2], &blocks)?;
        for _ in 0..size.blocks_high() {
            measurer.add(&row)?;
        }
        measurer.finish(facts)
    }

    #[test]
    fn facts_become_features_and_absent_facts_absent_features() {
        let size = PictureSize::new(8, 16).expect("valid");
        let steps = Steps { border: 39, borders: 10, inner: 9, inners: 10 };
        let facts = FrameFacts { encoded_bytes: Some(32), quantisation_sum: Some(96), steps: Some(steps) };
        let measured = grey(size, &facts).expect("complete");
        let value = |feature| measured.values().get(feature).map(Fixed::to_f64);
        assert_eq!(value(Feature::BitsPerPixel), Some(1.0));
        assert_eq!(value(Feature::QuantisationMean), Some(1.5));
        assert_eq!(value(Feature::Blockiness), Some(2.0));
        assert_eq!(value(Feature::LumaMean), Some(90.0));
        let bare = grey(size, &FrameFacts::default()).expect("complete");
        for feature in [Feature::BitsPerPixel, Feature::QuantisationMean, Feature::Blockiness, Feature::DarkTiles] {
            assert_eq!(bare.values().get(feature), None);
        }
    }

    #[test]
    fn half_a_picture_has_no_features_and_neither_has_one_and_a_half() {
        let size = PictureSize::new(8, 16).expect("valid");
        let measurer = Measurer::new(size);
        assert_eq!(measurer.finish(&FrameFacts::default()).err(), Some(FrameError::RowCount { expected: 2, got: 0 }));
        let mut measurer = Measurer::new(size);
        let pixels = [0; 2];
        let row = BlockRow::new(
            [&pixels; 2],
            [&pixels; 2],
            [&pixels; 2],
            &[Block { dc: 0, low: 0, middle: 0, high: 0, top: 0 }],
        )
        .expect("valid");
        measurer.add(&row).expect("first");
        measurer.add(&row).expect("second");
        assert_eq!(measurer.add(&row), Err(FrameError::RowCount { expected: 2, got: 3 }));
        let wide = Measurer::new(PictureSize::new(16, 8).expect("valid")).add(&row);
        assert_eq!(wide, Err(FrameError::RowLength { expected: 2, got: 1 }));
    }
}
