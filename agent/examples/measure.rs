//! Measures the pictures named, so many times over, and prints the mean luma of the last: something to count instructions of.
//!
//! `valgrind --tool=none`-like counters see the whole process: take the difference between two numbers of rounds.
#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::fs;

use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::CameraState;
use driftglass_protocol::feature::Feature;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: u32 = arguments.next().ok_or("usage: measure ROUNDS PICTURE...")?.parse()?;
    let pictures = arguments.map(fs::read).collect::<Result<Vec<_>, _>>()?;
    let (mut decoder, mut state) = (Decoder::new(), CameraState::new());
    let mut last = None;
    for _ in 0..rounds {
        for picture in &pictures {
            last = state.observe(&decoder.measure(picture)?).get(Feature::LumaMean);
        }
    }
    println!("{last:?}");
    Ok(())
}
