//! Everything remembered of one camera, in fixed memory.

use driftglass_protocol::feature::{Feature, FeatureValues};

use super::Measurements;
use super::change::Plane;
use super::lasting::Lasting;
use super::reference::{Reference, ReferenceLearner};

/// Frames the reference is the mean of.
pub const REFERENCE_FRAMES: u32 = 32;
/// Consecutive frames of another size after which the reference starts anew at that size.
pub const RESTART_FRAMES: u8 = 8;

const _: () = assert!(size_of::<CameraState>() <= 64 * 1024, "the memory one camera may take");

/// The camera's reference and its previous frame.
///
/// The reference is the mean over the first [`REFERENCE_FRAMES`] frames and stays as it is from then on; features that compare
/// with it are absent before. When the camera's picture size changes, its frames have no such features; once
/// [`RESTART_FRAMES`] frames in a row had the new size, it is taken for permanent and the reference is learned anew, beginning
/// with the next frame. A stray frame of another size therefore does not cost a camera its reference.
#[derive(Clone, Debug)]
pub struct CameraState {
    pub(super) knowledge: Knowledge,
    pub(super) other_size: u8,
    previous: Option<Plane>,
    lasting: Lasting,
}

/// How far the reference is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "no allocator, and the state is as large as its largest variant anyway")]
pub(super) enum Knowledge {
    Learning(ReferenceLearner),
    Learned(Reference),
    /// Handed in, and never replaced.
    Pinned(Reference),
}

impl Default for CameraState {
    fn default() -> Self {
        Self::new()
    }
}

impl CameraState {
    /// A camera of which nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self::from_knowledge(Knowledge::Learning(ReferenceLearner::new()))
    }

    /// A camera to be held against this reference, which nothing will change; frames of another size are not compared.
    #[must_use]
    pub const fn with_reference(reference: Reference) -> Self {
        Self::from_knowledge(Knowledge::Pinned(reference))
    }

    pub(super) const fn from_knowledge(knowledge: Knowledge) -> Self {
        Self { knowledge, other_size: 0, previous: None, lasting: Lasting::new() }
    }

    /// The reference; `None` while it is being learned.
    #[must_use]
    pub const fn reference(&self) -> Option<&Reference> {
        match &self.knowledge {
            Knowledge::Learning(_) => None,
            Knowledge::Learned(reference) | Knowledge::Pinned(reference) => Some(reference),
        }
    }

    /// All feature values of the camera's next frame, and remembers the frame.
    pub fn observe(&mut self, frame: &Measurements) -> FeatureValues {
        let mut values = frame.values;
        if let Some(change) = self.previous.as_ref().and_then(|previous| frame.plane.change_since(previous)) {
            values.set(Feature::ChangeFraction, change);
        }
        match &mut self.previous {
            Some(previous) => previous.clone_from(&frame.plane),
            none => *none = Some(frame.plane.clone()),
        }
        if let Knowledge::Learned(reference) | Knowledge::Pinned(reference) = &self.knowledge {
            reference.compare(frame, &mut values);
            if let Some(cells) = reference.comparable(frame)
                && let Some(changed) = self.lasting.observe(&cells.thumbnail, &reference.usual)
            {
                values.set(Feature::LastingChange, changed);
            }
        }
        self.remember(frame);
        values
    }

    fn remember(&mut self, frame: &Measurements) {
        let size = match &self.knowledge {
            Knowledge::Learning(learner) => learner.size,
            Knowledge::Learned(reference) => Some(reference.size),
            Knowledge::Pinned(_) => return,
        };
        if size.is_some_and(|size| size != frame.size) {
            self.other_size = self.other_size.saturating_add(1);
            if self.other_size >= RESTART_FRAMES {
                self.other_size = 0;
                self.knowledge = Knowledge::Learning(ReferenceLearner::new());
                self.lasting = Lasting::new();
            }
            return;
        }
        self.other_size = 0;
        if let Knowledge::Learning(learner) = &mut self.knowledge {
            learner.learn(frame);
            if learner.frames() >= REFERENCE_FRAMES
                && let Some(reference) = learner.reference()
            {
                self.knowledge = Knowledge::Learned(reference);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{Measurer, STATE_BYTES, StateError};
    use crate::frame::{Block, BlockRow, FrameFacts, PictureSize};

    extern crate std;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn frame(width: u32, level: u8) -> Measurements {
        let size = PictureSize::new(width, 72).expect("valid");
        let wide = size.blocks_wide() as usize;
        let mut measurer = Measurer::new(size);
        for y in 0..9_u8 {
            let pixels: Vec<u8> =
                (0..2 * wide).map(|x| level + 40 * u8::from((x / 3 + usize::from(y)) % 2 == 0)).collect();
            let chroma = std::vec![128; 2 * wide];
            let blocks = std::vec![Block { dc: 8 * u16::from(level), middle: 50, ..Block::default() }; wide];
            let row = BlockRow::new([&pixels; 2], [&chroma; 2], [&chroma; 2], &blocks).expect("lengths agree");
            measurer.add(&row).expect("fits");
        }
        measurer.finish(&FrameFacts::default()).expect("complete")
    }

    const COMPARING: [Feature; 3] = [Feature::ReferenceCorrelation, Feature::HashDistance, Feature::TileLoss];
    const LEARNED_BYTES: usize = 10 + 2 * (576 + 272) + 4 * 144 + 16 * 36 + 4 * 576;

    fn learned() -> CameraState {
        let mut state = CameraState::new();
        for _ in 0..REFERENCE_FRAMES {
            state.observe(&frame(128, 60));
        }
        state
    }

    fn bytes(state: &CameraState) -> Vec<u8> {
        let mut out = [0; STATE_BYTES];
        let length = state.to_bytes(&mut out);
        out[..length].to_vec()
    }

    #[test]
    fn features_that_compare_begin_once_the_reference_is_complete_and_it_stays() {
        let mut state = CameraState::new();
        for _ in 0..REFERENCE_FRAMES {
            assert!(state.reference().is_none());
            let values = state.observe(&frame(128, 60));
            assert!(COMPARING.iter().all(|&feature| values.get(feature).is_none()));
        }
        let before = state.reference().expect("complete").clone();
        for level in 0..100 {
            let values = state.observe(&frame(128, level));
            assert!(COMPARING.iter().all(|&feature| values.get(feature).is_some()));
        }
        assert_eq!(state.reference(), Some(&before));
    }

    #[test]
    fn the_first_frame_has_no_change_a_frozen_one_none_and_one_of_another_size_no_measure() {
        let mut state = CameraState::new();
        let mut change =
            |width, level| state.observe(&frame(width, level)).get(Feature::ChangeFraction).map(|v| v.to_f64());
        assert_eq!(change(128, 60), None);
        assert_eq!(change(128, 60), Some(0.0));
        assert_eq!(change(128, 61), Some(1.0));
        assert_eq!(change(136, 61), None);
        assert_eq!(change(136, 61), Some(0.0));
    }

    #[test]
    fn a_stray_frame_of_another_size_keeps_the_reference_and_a_lasting_change_restarts_it() {
        let mut state = learned();
        for _ in 1..RESTART_FRAMES {
            let values = state.observe(&frame(136, 60));
            assert!(COMPARING.iter().all(|&feature| values.get(feature).is_none()));
        }
        state.observe(&frame(128, 60));
        assert!(state.reference().is_some(), "the stray frames are forgotten");
        for _ in 0..RESTART_FRAMES {
            state.observe(&frame(136, 60));
        }
        assert!(state.reference().is_none(), "the new size is here to stay");
        for _ in 0..REFERENCE_FRAMES {
            state.observe(&frame(136, 60));
        }
        assert_eq!(state.reference().map(|reference| reference.size().width()), Some(136));
    }

    #[test]
    fn a_reference_that_was_handed_in_is_never_replaced() {
        let reference = learned().reference().expect("complete").clone();
        let mut state = CameraState::with_reference(reference.clone());
        assert!(state.observe(&frame(128, 90)).get(Feature::HashDistance).is_some());
        for _ in 0..3 * REFERENCE_FRAMES {
            state.observe(&frame(136, 60));
        }
        assert_eq!(state.reference(), Some(&reference));
    }

    #[test]
    fn a_state_survives_its_bytes_at_every_stage() {
        let mut state = CameraState::new();
        for _ in 0..REFERENCE_FRAMES + 3 {
            let read = CameraState::from_bytes(&bytes(&state)).expect("own bytes");
            assert_eq!(read.knowledge, state.knowledge);
            state.observe(&frame(128, 60));
        }
        let pinned = CameraState::with_reference(state.reference().expect("complete").clone());
        assert_eq!(CameraState::from_bytes(&bytes(&pinned)).expect("own bytes").knowledge, pinned.knowledge);
    }

    #[test]
    fn every_way_a_state_can_be_wrong_has_its_own_error() {
        let good = bytes(&learned());
        let altered = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            CameraState::from_bytes(&bytes).map(|_| ())
        };
        assert_eq!(altered(0, 9), Err(StateError::Version { got: 9 }));
        assert_eq!(altered(1, 7), Err(StateError::Kind { got: 7 }));
        assert!(matches!(altered(3, 255), Err(StateError::Size(_))));
        let short = CameraState::from_bytes(&good[..good.len() - 1]).map(|_| ());
        assert_eq!(short, Err(StateError::Length { expected: good.len(), got: good.len() - 1 }));
        assert_eq!(CameraState::from_bytes(&[]).map(|_| ()), Err(StateError::Length { expected: 10, got: 0 }));
        let mut learning = CameraState::new();
        learning.observe(&frame(128, 60));
        let mut bytes = bytes(&learning);
        bytes[17] = 1;
        assert_eq!(CameraState::from_bytes(&bytes).map(|_| ()), Err(StateError::Sums { frames: 1 }));
        bytes[17] = 0;
        assert!(CameraState::from_bytes(&bytes).is_ok());
        // The most significant bytes of the last sum of a relief, and of the last of squares.
        for (at, byte) in [(STATE_BYTES - 8 * 576 - 1, 0x40), (STATE_BYTES - 1, 1)] {
            bytes[at] ^= byte;
            assert_eq!(CameraState::from_bytes(&bytes).map(|_| ()), Err(StateError::Sums { frames: 1 }));
            bytes[at] ^= byte;
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_what_is_read_is_written_alike(
            header in prop::array::uniform10(0_u8..6),
            fill in any::<u8>(),
            length in prop::sample::select(std::vec![0, 9, 10, LEARNED_BYTES, STATE_BYTES]),
        ) {
            let mut input = std::vec![fill; length];
            for (slot, byte) in input.iter_mut().zip(header) {
                *slot = byte;
            }
            if let Ok(mut state) = CameraState::from_bytes(&input) {
                prop_assert_eq!(bytes(&state), input);
                state.observe(&frame(128, 60));
            }
        }
    }
}
