//! What the features show on real footage: every fault at severity 3, on every camera of a folder.
//!
//! The folder is `DRIFTGLASS_FOOTAGE` (relative paths start at the project's root), by default `../shared/footage` from there; below
//! it lies one folder of frames for each camera, perhaps one level deeper. Cameras with fewer than 40 frames are left out, and
//! said to be. A missing folder is a failure, never a skip.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test program: a surprise must end it")]
#![expect(clippy::print_stdout, reason = "the tables are what these tests are read for")]

mod camera;
mod clock;
mod faults;
#[path = "../recorded.rs"]
mod recorded;
mod separation;
