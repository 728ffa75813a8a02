//! The decision core: windows in, changes out.
//!
//! It learns what is normal for each camera, gathers evidence against it, controls the false discovery rate over all cameras and
//! names the fault. It performs no I/O: earlier windows are read through [`History`], and everything to be kept is returned as a
//! [`Change`], which the caller stores in the same transaction as the window itself.

mod alerts;
mod attribution;
mod camera;
mod core;
#[cfg(test)]
pub(crate) mod fixture;
mod group;
mod learning;
pub mod season;
mod settings;
mod site;
mod target;
#[cfg(test)]
mod tests;

pub use self::camera::Standing;
pub use self::core::{Core, StateError};
pub(crate) use self::group::SHARES;
pub use self::learning::{BaselineMove, How, Order, OrderError, Origin, Wish};
pub use self::settings::{Dependence, Settings};
pub use self::target::Target;

use std::ops::Range;

use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::CameraId;
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{Model, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};

use crate::alert::Alert;

/// The end of a stretch of time that has none.
const FOR_EVER: UnixMillis = UnixMillis(i64::MAX);

/// A window as the core reads it: counts per feature.
#[derive(Clone, Debug)]
pub struct CountedWindow {
    /// The stretch of event time.
    pub window: Window,
    /// What became of its frames.
    pub quality: Quality,
    /// The model that watched, where one did.
    pub model: Option<Model>,
    /// One histogram for each feature that had values.
    pub histograms: Vec<(Feature, Histogram)>,
}

impl CountedWindow {
    /// The counts of one feature, where it had values.
    #[must_use]
    pub fn histogram(&self, feature: Feature) -> Option<&Histogram> {
        self.histograms.iter().find(|(other, _)| *other == feature).map(|(_, histogram)| histogram)
    }

    /// The same with its place; `near` is where it lies if the features come in the order of the catalogue and none is missing.
    pub(crate) fn find(&self, feature: Feature, near: usize) -> Option<(usize, &Histogram)> {
        let is_it = |place: &usize| self.histograms.get(*place).is_some_and(|(other, _)| *other == feature);
        let place = Some(near).filter(is_it).or_else(|| (0..self.histograms.len()).find(is_it))?;
        self.histograms.get(place).map(|(_, histogram)| (place, histogram))
    }

    /// All windows as one; `None` where there is none.
    #[must_use]
    pub fn sum(windows: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut windows = windows.into_iter();
        let mut sum = windows.next()?;
        windows.for_each(|window| sum.merge(&window));
        Some(sum)
    }

    /// Adds another window: counts add up, the stretch of time covers both.
    pub fn merge(&mut self, other: &Self) {
        let (start, end) = (self.window.start.min(other.window.start), self.window.end().max(other.window.end()));
        self.window = Window {
            start,
            length: Millis(u32::try_from(end.since(start)).unwrap_or(u32::MAX)),
            merged: self.window.merged.saturating_add(other.window.merged),
        };
        let (mine, theirs) = (&mut self.quality, other.quality);
        mine.frames = mine.frames.saturating_add(theirs.frames);
        mine.missing = mine.missing.saturating_add(theirs.missing);
        mine.undecodable = mine.undecodable.saturating_add(theirs.undecodable);
        mine.skipped = mine.skipped.saturating_add(theirs.skipped);
        mine.late = mine.late.saturating_add(theirs.late);
        for (feature, histogram) in &other.histograms {
            match self.histograms.iter_mut().find(|(mine, _)| mine == feature) {
                Some((_, mine)) => mine.merge_dense(histogram),
                None => self.histograms.push((*feature, histogram.clone())),
            }
        }
    }
}

impl From<&Summary<'_>> for CountedWindow {
    fn from(summary: &Summary<'_>) -> Self {
        let histograms = summary
            .histograms()
            .map(|(feature, encoded)| {
                let mut histogram = Histogram::new();
                histogram.merge(encoded);
                (feature, histogram)
            })
            .collect();
        Self { window: summary.window, quality: summary.quality, model: summary.model.clone(), histograms }
    }
}

/// Earlier windows of a camera, from the store, without the one being observed; and its earlier baselines, where they are kept too.
pub trait History {
    /// Why they could not be read.
    type Error;

    /// The newest `limit` windows of a camera that start within `span`, oldest first.
    ///
    /// # Errors
    /// Whatever the store reports.
    fn windows(
        &self,
        camera: &CameraId,
        span: Range<UnixMillis>,
        limit: usize,
    ) -> Result<Vec<CountedWindow>, Self::Error>;

    /// Versions of a camera's baseline that are kept, ascending; none where only windows are.
    ///
    /// # Errors
    /// Whatever the store reports.
    fn versions(&self, camera: &CameraId) -> Result<Vec<u32>, Self::Error> {
        let _ = camera;
        Ok(Vec::new())
    }

    /// A version of a camera's baseline, as it was kept; `None` where it is not.
    ///
    /// # Errors
    /// Whatever the store reports.
    fn baseline(&self, camera: &CameraId, version: u32) -> Result<Option<Vec<u8>>, Self::Error> {
        let _ = (camera, version);
        Ok(None)
    }
}

/// Something to keep, in the transaction of the window that caused it.
#[derive(Clone, Debug)]
pub enum Change {
    /// The state of a camera, replacing the one kept before.
    Camera {
        /// The camera.
        camera: CameraId,
        /// Its state, opaque to the store.
        state: Vec<u8>,
    },
    /// A new version of a camera's baseline, in force from now on.
    Baseline {
        /// The camera.
        camera: CameraId,
        /// Its version, from 1.
        version: u32,
        /// When it was taken, in event time.
        learned_at: UnixMillis,
        /// The baseline, opaque to the store.
        baseline: Vec<u8>,
        /// How it came to be.
        origin: Origin,
    },
    /// Another version of a camera's baseline is in force.
    InForce {
        /// The camera.
        camera: CameraId,
        /// The version; `None` while it learns.
        version: Option<u32>,
    },
    /// What an operator did to a baseline.
    Moved(Box<BaselineMove>),
    /// An alert, new or changed; replaces the one kept under its id.
    Alert(Box<Alert>),
}
