//! What is normal for a camera, and how far a window is from it.
//!
//! A baseline is one histogram per feature over a stretch of time without a known fault, and the design effect of each: how many
//! frames one independent frame is worth, measured between windows, because frames of one scene repeat each other.
//!
//! Must hold: a baseline is taken once, has a version, and never learns from the windows that are held against it. A baseline
//! that followed its camera would grow used to every slow fault.
//!
//! Deliberately absent: a baseline per season. One covers day and night together, so its learning time must cover both; what is usual at
//! one time of the day is asked of other days when it matters (`crate::decision::season`).

mod compare;
mod cumulative;
#[cfg(test)]
mod effect_tests;
mod grid;
pub mod infrared;
mod novelty;
mod rarity;
mod reference;
mod repeats;
pub mod slot;
pub mod sun;
pub mod zone;

pub use compare::{Allowance, FeatureComparison, compare, compare_allowing};
pub use grid::{Grid, Reading, Sample, THRESHOLDS};
pub use novelty::Extremes;
pub(crate) use novelty::Surprise;
pub use reference::{Baseline, BaselineError, Beside, FeatureBaseline, MIN_WINDOWS, Tolerances};
pub use repeats::Repeats;
