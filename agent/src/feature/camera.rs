//! Everything remembered of one camera, in fixed memory.

use driftglass_protocol::feature::{Feature, FeatureValues};

use super::Measurements;
use super::change::Plane;
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
        Self { knowledge, other_size: 0, previous: None }
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
        if let Some(reference) = self.reference() {
            reference.compare(frame, &mut values);
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
            }
            return;
        }
        self.other_size = 0;
        if let Knowledge::Learning(learner) = &mut self.knowledge {
            learner.learn(frame);
            if let Some(reference) = learner.reference().filter(|_| learner.frames() >= REFERENCE_FRAMES) {
                self.knowledge = Knowledge::Learned(reference);
            }
        }
    }
}
