//! The aggregator: counts every summary once, learns what is normal, and raises alerts with a promise.
//!
//! Must hold: the ledger mark and everything derived from a record are committed in one transaction; decisions are pure functions
//! of what was committed, so a restart decides as if nothing had happened.

pub mod access;
pub mod alert;
pub mod api;
pub mod backup;
pub mod baseline;
pub mod batch;
pub mod config;
pub mod configurator;
pub mod decision;
pub mod diagnose;
pub mod evidence;
pub mod foresight;
pub mod host;
pub mod identity;
pub mod ingest;
pub mod ledger;
pub mod metrics;
pub mod operators;
mod packed;
pub mod registrar;
pub mod stats;
pub mod store;
pub mod writer;
