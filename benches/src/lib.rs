//! What the benchmarks share: taking two or more times in turn, and the material they are taken on.
//!
//! Must hold: a figure is printed beside what it is held against, and both come from the same run, taken in turn. On a shared
//! machine the minutes differ more than the programs do; a ratio of neighbours in time is steadier than either of its sides.
//!
//! Deliberately absent: thresholds. A shared machine cannot promise a time, so nothing here fails because it was slow.

pub mod material;
pub mod turns;
