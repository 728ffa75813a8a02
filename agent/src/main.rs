//! The agent's program. What it does is the library's, which is built for size; this file is built for what the pixels need.

use std::process::ExitCode;

fn main() -> ExitCode {
    driftglass_agent::program::main(env!("DRIFTGLASS_BUILD"))
}
