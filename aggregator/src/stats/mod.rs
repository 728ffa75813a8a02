//! Distances between distributions and the tails of their null distributions.
//!
//! Everything here is a pure function of its arguments in `f64`: no clock, no randomness, no I/O. Counts arrive as slices, so
//! the caller decides where they live. Bad input is an error and never a zero or a NaN that travels on.
//! Absent on purpose: decisions. What a distance means for an alert is `evidence`'s business.

pub mod binned;
pub mod chi_square;
pub mod divergence;
pub mod ecdf;
pub mod effective_sample_size;
pub mod entropy;
pub mod error;
pub mod kolmogorov;
pub mod ks;
pub mod kuiper;
pub mod sample;
pub mod smirnov;
pub mod wasserstein;

pub use error::StatisticsError;
