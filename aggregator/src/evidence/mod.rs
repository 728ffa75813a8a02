//! From distances to alerts that keep a promise: how much a frame counts, how windows add up to evidence, and which devices
//! may be named without breaking the false discovery rate.
//!
//! Pure functions and small states in `f64`; time and storage stay with the caller.

pub mod calibrator;
pub mod design_effect;
pub mod fdr;
pub mod process;
