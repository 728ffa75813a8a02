//! All features of a camera together: squared mean readings, summed, against a chi-square distribution.
//!
//! Finds faults that move several features a little. Features depend on each other, so the distribution has as many degrees of freedom
//! as they have independent directions (`crate::baseline`), and the sum is scaled down to that number.

use driftglass_protocol::feature::{Feature, Subject};

use super::normal::chi_square_deviate;

/// Squared deviates of the features of a camera, against its own past and against its peers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Squares {
    own: f64,
    peers: f64,
    features: u32,
    /// Of `own`, the parts of picture and model, with their number of features.
    subjects: [(f64, u32); 2],
}

/// Where what is known of a subject's own past is kept.
pub(super) const fn half(subject: Subject) -> Option<usize> {
    match subject {
        Subject::Picture => Some(0),
        Subject::Model => Some(1),
        Subject::Device => None,
    }
}

impl Squares {
    /// Adds a feature, by its wire number.
    pub(super) fn add(&mut self, feature: u8, own: f64, peers: f64) {
        self.features += 1;
        self.own += own;
        self.peers += peers;
        if let Some(half) = Feature::from_number(feature).and_then(|feature| half(feature.subject())) {
            let (squares, features) = &mut self.subjects[half];
            *squares += own;
            *features += 1;
        }
    }

    /// Deviates against the own past. Of a picture's features as many are independent as the camera's move in independent directions; what
    /// a model says is one thing however it is measured.
    pub(super) fn past(&self, directions: f64) -> [Option<f64>; 2] {
        let [(picture, features), (model, said)] = self.subjects;
        [deviate(picture, features, directions), deviate(model, said, 1.0)]
    }

    /// Deviate of what differs from both, the own past and the peers.
    pub(super) fn deviate(&self, directions: f64) -> Option<f64> {
        deviate(self.own.min(self.peers), self.features, directions)
    }
}

fn deviate(sum: f64, features: u32, directions: f64) -> Option<f64> {
    let freedom = directions.clamp(1.0, f64::from(features.max(1)));
    (features > 0).then(|| chi_square_deviate(sum * freedom / f64::from(features), freedom))
}
