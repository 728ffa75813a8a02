//! Recorded frames, sent as if taken then: the same window, spool and uplink as the service, with event time computed.
//!
//! A replay has no position: what was sent of an interrupted one stays sent, and starting it again counts those frames again.

use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;
use std::time::Duration;

use driftglass_protocol::id::Name;
use driftglass_protocol::unit::UnixMillis;

use super::run::{Job, RunError, open, work};
use super::worker::Pace;
use crate::config::Config;
use crate::decode::MAX_MEMORY;
use crate::pipeline::{Setup, Timing};
use crate::prediction::Recorded;
use crate::source::{Directory, FrameSource};
use crate::spool::Shared;
use crate::window::FrameRate;

/// What to replay.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The folder.
    pub frames: PathBuf,
    /// The camera they count for.
    pub camera: Name,
    /// Time of the first.
    pub start: UnixMillis,
    /// Frames per second of event time.
    pub rate: FrameRate,
    /// Times real time; `None` is as fast as possible.
    pub speed: Option<f64>,
    /// What a model said of them.
    pub predictions: Option<Recorded>,
}

/// Sends everything and returns when all of it is acknowledged.
///
/// # Errors
/// One variant of [`RunError`] per cause.
pub fn replay(config: &Config, replay: Replay) -> Result<(), RunError> {
    let open = open(config)?;
    let period = Duration::from_micros(u64::try_from(replay.rate.period_micros()).unwrap_or(0));
    let each = match replay.speed {
        Some(speed) if speed > 0.0 => period.div_f64(speed),
        _ => Duration::ZERO,
    };
    let model =
        config.cameras().iter().find(|camera| camera.name == replay.camera).and_then(|camera| camera.model.clone());
    let setup = Setup {
        name: replay.camera,
        model,
        source: FrameSource::Directory(Directory::finished(replay.frames)),
        timing: Timing::Recorded { start: replay.start, rate: replay.rate },
        window: config.window(),
        // Every recorded frame counts, so a rate to thin to would only leave some out.
        rate: None,
        max_memory: MAX_MEMORY,
        predictions: replay.predictions.unwrap_or_default(),
        detectors: config.detectors(),
        learned: None,
    };
    let shown = stderr().is_terminal();
    let progress: Option<fn(&Shared)> = if shown { Some(show) } else { None };
    let pace = Pace::Recorded(each);
    let job = Job { cameras: vec![setup], pace, service: None, progress };
    let ended = work(config, open, job);
    if shown {
        write("\n");
    }
    ended
}

fn show(shared: &Shared) {
    write(&format!(
        "\r{} windows wait for acknowledgement (acknowledged up to {})  ",
        shared.pending(),
        shared.acknowledged()
    ));
}

fn write(text: &str) {
    if let Err(error) = stderr().write_all(text.as_bytes()) {
        tracing::debug!(%error, "progress cannot be shown");
    }
}
