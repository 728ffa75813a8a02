//! From distances to alerts that keep a promise: how much a frame counts, how windows add up to evidence, and which devices
//! may be named without breaking the false discovery rate.
//!
//! Pure functions and small states in `f64`; time and storage stay with the caller.

pub mod betting;
pub mod budget;
pub mod calibrator;
pub mod combination;
pub mod design_effect;
pub mod detectability;
pub mod effect_size;
pub mod family_wise;
pub mod fdr;
pub mod indicator_ladder;
pub mod normal;
pub mod peer;
pub mod process;
pub mod projection;
pub mod site;
pub mod tolerance_effect;
pub mod whitening;

#[cfg(test)]
mod null_simulation;
