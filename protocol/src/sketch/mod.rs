//! Mergeable integer sketches: a fixed grid of bins on a warped axis for numbers, counts by name for labels.
//!
//! Must hold: merging is addition, so any order gives identical bytes; D read off the bin edges never exceeds the exact
//! Kolmogorov-Smirnov D, so a p-value valid for the exact statistic stays valid (design notes: the two empirical distribution
//! functions are compared on a common grid that was fixed before the data were seen).
//!
//! Deliberately absent: quantile sketches (KLL, t-digest). Their merges depend on order or on coin flips.

mod axis;
mod count_min;
mod histogram;
mod label_counts;

pub use axis::Axis;
pub use count_min::CountMin;
pub use histogram::{EncodedHistogram, Histogram, HistogramError};
pub use label_counts::{EncodedLabels, LabelCount, LabelCounts, LabelsError};
