//! The agent: pictures to numbers to summaries, and their delivery.
//!
//! The modules without `host` are `no_std` and do no I/O: they turn a frame into feature values and windows in fixed memory.
//! Everything that touches files, sockets or clocks stands behind the feature `host`.
#![cfg_attr(not(feature = "host"), no_std)]

#[cfg(feature = "host")]
mod command_line;
#[cfg(feature = "host")]
pub mod config;
pub mod detector;
#[cfg(feature = "host")]
pub mod fault;
pub mod health;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "host")]
mod moment;
#[cfg(feature = "host")]
pub mod pipeline;
pub mod prediction;
#[cfg(feature = "host")]
pub mod program;
#[cfg(feature = "inference")]
mod proxy;
#[cfg(feature = "host")]
pub mod pushed;
pub mod ring;
pub mod sampler;
#[cfg(feature = "host")]
mod sign;
#[cfg(feature = "host")]
pub mod source;
#[cfg(feature = "host")]
pub mod spool;
#[cfg(feature = "host")]
pub mod telemetry;
#[cfg(feature = "host")]
pub mod uplink;
pub mod window;

pub use driftglass_picture::{decode, feature, frame};
#[cfg(feature = "inference")]
pub use proxy::overhear;
