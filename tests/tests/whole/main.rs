//! The product as a whole: the shipped programs, started as a service manager would start them, over real QUIC, on real frames.
//!
//! The programs are taken from beside the test executable, so they have to be built first: `cargo build --workspace --bins`. Every
//! test has a folder and ports of its own, waits for what it expects instead of for a while, and takes every process it started with
//! it, however it ends.
#[cfg(test)]
mod baselines;
#[cfg(test)]
mod comparison;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod counting;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod fallback;
#[cfg(test)]
mod folders;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod guidance;
#[cfg(test)]
mod http;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod predictions;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod supply_chain;
#[cfg(test)]
mod support;
