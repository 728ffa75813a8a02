//! Counts every summary once, compares cameras with what is normal, and raises alerts with a promise.

pub mod evidence;
pub mod stats;
