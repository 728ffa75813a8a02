//! From an encoded picture to its features.
//!
//! A package of its own because it is what runs for every pixel: it is built for speed, the agent around it for size.
//!
//! Must hold: fixed memory and integers only; what is read from outside never panics. Without the feature `full` there is neither an
//! operating system nor an allocator.
//!
//! Deliberately absent: where pictures come from, windows, anything that knows the time.
#![cfg_attr(not(feature = "full"), no_std)]

pub mod decode;
pub mod feature;
pub mod frame;
