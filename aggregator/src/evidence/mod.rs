//! From distances to alerts that keep a promise: how much a frame counts, how windows add up to evidence, and which devices
//! may be named without breaking the false discovery rate.
//!
//! Pure functions and small states in `f64`; time and storage stay with the caller.

pub mod betting;
pub mod budget;
pub mod calibrator;
pub mod camera;
pub mod combination;
pub mod design_effect;
pub mod detectability;
pub mod difference_in_differences;
pub mod effect_size;
pub mod family_wise;
pub mod fdr;
pub mod indicator_ladder;
mod joint;
pub mod normal;
pub mod peers;
pub mod process;
pub mod projection;
mod run;
pub mod site;
pub mod stake;
pub mod stream;
pub mod tolerance_effect;
pub mod whitening;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod null_simulation;
