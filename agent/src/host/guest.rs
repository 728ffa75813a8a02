//! Last in line on somebody else's device: others get the processor first, and memory when there is none left.
//!
//! The process does this itself, and not its service manager, because the one that passes inferences on must not be last in line
//! ([`super::keeper`]). Who wants it further back still says so to the manager.

use std::{fs, io};

use rustix::process::{getpriority_process, setpriority_process};

/// Niceness at least, of -20 (first) to 19 (last).
const NICE: i32 = 10;
/// Willingness to be killed where memory runs out at least, of -1000 (never) to 1000 (first); `proc_pid_oom_score_adj(5)`.
const EXPENDABLE: i32 = 500;
const ADJUSTMENT: &str = "/proc/self/oom_score_adj";

/// Goes to the end of the line, before any thread is begun. Where the system refuses it stays where it is.
pub(super) fn step_back() {
    if let Err(error) = wait_for_others() {
        tracing::debug!(%error, "the processor is not left to others first");
    }
    if let Err(error) = give_way() {
        tracing::debug!(%error, "memory is not left to others first");
    }
}

fn wait_for_others() -> io::Result<()> {
    if getpriority_process(None)? < NICE {
        setpriority_process(None, NICE)?;
    }
    Ok(())
}

fn give_way() -> io::Result<()> {
    let now: i32 = fs::read_to_string(ADJUSTMENT)?.trim().parse().map_err(io::Error::other)?;
    if now < EXPENDABLE { fs::write(ADJUSTMENT, EXPENDABLE.to_string()) } else { Ok(()) }
}
