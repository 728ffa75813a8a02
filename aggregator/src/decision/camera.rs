//! One camera: learning, then watched; its evidence within an epoch; its alert.

use driftglass_protocol::feature::Feature;
use driftglass_protocol::unit::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::baseline::{Baseline, FeatureComparison};
use crate::evidence::process::{EvidenceProcess, MOST_WINDOWS, Supremum, device_evidence};

/// Evidence gathered in one epoch. Reset at its end: the promise is made epoch by epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// Number of the epoch, counted from 1970.
    pub(super) epoch: i64,
    /// One process per feature that was compared in this epoch, with the feature's wire number.
    processes: Vec<(u8, EvidenceProcess)>,
    /// Largest mean over features so far.
    supremum: f64,
}

impl Evidence {
    pub(super) const fn new(epoch: i64) -> Self {
        Self { epoch, processes: Vec::new(), supremum: 1.0 }
    }

    /// Takes in one window that began at `start`. `horizon` is the number of windows in an epoch.
    pub(super) fn observe(&mut self, comparisons: &[FeatureComparison], start: UnixMillis, horizon: u32) {
        for comparison in comparisons {
            let number = comparison.feature.number();
            if !self.processes.iter().any(|(feature, _)| *feature == number)
                && let Ok(process) = EvidenceProcess::new(horizon.clamp(1, MOST_WINDOWS))
            {
                self.processes.push((number, process));
            }
            if let Some((_, process)) = self.processes.iter_mut().find(|(feature, _)| *feature == number) {
                process.observe(comparison.p, start.0.cast_unsigned());
            }
        }
        let mut supremum = self.supremum();
        supremum.observe(device_evidence(self.processes.iter().map(|(_, process)| process.evidence())));
        self.supremum = supremum.value();
    }

    /// Largest mean over features so far; its inverse is an anytime-valid p-value (Ville's inequality).
    pub(super) const fn supremum(&self) -> Supremum {
        Supremum::resume(self.supremum)
    }

    /// Start of the first window in which the feature with the strongest evidence differed.
    pub(super) fn onset(&self) -> Option<UnixMillis> {
        self.processes
            .iter()
            .max_by(|(_, a), (_, b)| a.evidence().total_cmp(&b.evidence()))
            .and_then(|(_, process)| process.began().or(process.peak_began()))
            .map(|start| UnixMillis(start.cast_signed()))
    }
}

/// What of an alert decides whether it is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OpenAlert {
    pub(super) id: u64,
    /// Features that moved, with their distance when the alert was raised.
    pub(super) features: Vec<(u8, f64)>,
    /// Windows in a row that were as before (positive) or changed (negative).
    pub(super) streak: i32,
    pub(super) resolved: bool,
}

impl OpenAlert {
    /// Counts a window as quiet or loud and returns the length of the run: positive for quiet, negative for loud.
    pub(super) fn observe(&mut self, comparisons: &[FeatureComparison]) -> i32 {
        let (mut now, mut then) = (0.0, 0.0);
        for &(number, distance) in &self.features {
            let current = comparisons.iter().find(|c| Some(c.feature) == Feature::from_number(number));
            now += current.map_or(distance, |c| c.distance);
            then += distance;
        }
        let quiet = now < 0.25 * then;
        self.streak = match (quiet, self.streak) {
            (true, streak) if streak > 0 => streak.saturating_add(1),
            (true, _) => 1,
            (false, streak) if streak < 0 => streak.saturating_sub(1),
            (false, _) => -1,
        };
        self.streak
    }
}

/// Where a camera stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CameraState {
    /// Start of the first window that may go into the baseline.
    pub(super) learning_since: UnixMillis,
    /// Windows with frames seen since.
    pub(super) learning_windows: u32,
    /// Version of the baseline in force; 0 while learning.
    pub(super) baseline_version: u32,
    /// Start of the newest window seen.
    pub(super) newest: UnixMillis,
    /// Evidence of the current epoch.
    pub(super) evidence: Evidence,
    /// The alert of this camera, if one was raised and its epoch is not over.
    pub(super) alert: Option<OpenAlert>,
}

/// A camera in memory: its state and the baseline it is held against.
#[derive(Debug)]
pub(super) struct Camera {
    pub(super) state: CameraState,
    pub(super) baseline: Option<Baseline>,
}

impl Camera {
    pub(super) const fn new(since: UnixMillis) -> Self {
        Self {
            state: CameraState {
                learning_since: since,
                learning_windows: 0,
                baseline_version: 0,
                newest: since,
                evidence: Evidence::new(i64::MIN),
                alert: None,
            },
            baseline: None,
        }
    }
}
