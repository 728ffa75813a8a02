//! The inference sidecar between clients and model servers of this process: with and without it nothing differs but what is learned.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests; a panic is the failure")]

mod counted;
mod grpc;
mod http;
mod observed;
mod sidecar;
mod trouble;
