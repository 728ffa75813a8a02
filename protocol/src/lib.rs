//! What leaves a site, and how it travels.
//!
//! This crate is the whole of what an agent and an aggregator have in common: the catalogue of features, the sketches they are
//! counted in, the summary of one camera window, the record that carries it on disk and on the wire, and the two session state
//! machines that deliver records once. It performs no I/O, reads no clock and needs no allocator (`no_std`).
//!
//! Must hold: a picture cannot be expressed in these types; merging sketches is integer addition, so any order gives the same
//! bytes; every value read from outside is checked once, here, and is a checked type afterwards.
//!
//! Deliberately absent: what the numbers mean (the aggregator), where they come from (the agent), API types (the aggregator).
#![no_std]

pub mod advisory;
pub mod configuration;
pub mod feature;
pub mod id;
pub mod identity;
pub mod limit;
pub mod prediction;
pub mod projection;
pub mod session;
pub mod sketch;
pub mod summary;
pub mod unit;
pub mod wire;
