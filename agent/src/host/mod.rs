//! The shell around the pure parts: clocks, signals, threads, files of identity, the metrics socket, the service manager.

pub mod clock;
pub mod enrol;
pub mod features;
mod guest;
mod health;
pub mod identity;
pub mod inspect;
#[cfg(feature = "inference")]
pub mod keeper;
mod learned;
pub mod log;
pub mod predictions;
pub mod reload;
pub mod replay;
pub mod run;
mod service;
mod steward;
mod web;
mod worker;
