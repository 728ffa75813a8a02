//! Delivery against an aggregator in the same process: nothing lost, nothing counted twice.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests; a panic is the failure")]

mod aggregator;
mod killed;
mod uplink;
