//! A run of evidence, to say later when a change began (Page 1954), and whether it lasts.
//!
//! No test: whoever looks for where something began has been told already that it did.

use serde::{Deserialize, Serialize};

/// Most evidence of a run: so much that one outlasts a lull, where it is to be found when it began, and so little that it is over within
/// minutes, where it is to be found whether it lasts.
pub(super) const OUTLASTS: f64 = 60.0;
pub(super) const SOON_OVER: f64 = 8.0;

/// A run of evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    /// Logarithm of the evidence since it began, at least 0.
    pub(super) evidence: f32,
    /// Window in which it began.
    began: u32,
}

impl Run {
    pub(super) const NONE: Self = Self { evidence: 0.0, began: 0 };

    #[expect(clippy::cast_possible_truncation, reason = "the hot state is kept in single precision")]
    pub(super) fn follow(&mut self, z: f64, window: u32, most: f64) {
        let risen = f64::from(self.evidence) + z.min(3.0) - 0.5;
        if risen <= 0.0 {
            self.evidence = 0.0;
            return;
        }
        if self.evidence <= 0.0 {
            self.began = window;
        }
        self.evidence = risen.min(most) as f32;
    }

    /// The window in which it began, if there is one.
    pub(super) fn began(&self) -> Option<u32> {
        (self.evidence > 0.0).then_some(self.began)
    }
}
