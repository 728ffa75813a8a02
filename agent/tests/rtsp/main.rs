//! RTSP against a real server.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests; a panic is the failure")]

mod camera;
