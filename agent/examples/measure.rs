//! Measures pictures again and again: something to count instructions of, which unlike time are the same on a busy machine.
//!
//! ```text
//! cargo build --release -p driftglass-agent --example measure
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/measure 1 frame.jpg
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/measure 4 frame.jpg
//! ```
//!
//! A third of the difference between the two is one picture, of a camera that has learned what it usually sees: the first picture.
//!
//! `-` for a number has it wait for numbers on its standard input and answer each when that many rounds are over, so that others may take
//! turns with it (`benches/pictures.py`).
#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::{fs, io};

use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::{CameraState, ReferenceLearner};
use driftglass_protocol::feature::Feature;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().ok_or("usage: measure ROUNDS|- PICTURE...")?;
    let pictures = arguments.map(fs::read).collect::<Result<Vec<_>, _>>()?;
    let (mut decoder, mut learner) = (Decoder::new(), ReferenceLearner::new());
    learner.learn(&decoder.measure(pictures.first().ok_or("no picture")?)?);
    let mut state = CameraState::with_reference(learner.reference().ok_or("too small a picture")?);
    let mut run = |rounds: u32| -> Result<(), Box<dyn Error>> {
        let mut last = None;
        for _ in 0..rounds {
            for picture in &pictures {
                last = state.observe(&decoder.measure(picture)?).get(Feature::LumaMean);
            }
        }
        println!("{last:?}");
        Ok(())
    };
    if rounds != "-" {
        return run(rounds.parse()?);
    }
    for line in io::stdin().lines() {
        run(line?.trim().parse()?)?;
    }
    Ok(())
}
