//! The pipeline's own thread: decoding never holds the uplink up, and the uplink never holds a frame up.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::clock::Clock;
use super::health::Probe;
use crate::health::Health;
use crate::pipeline::{Pipeline, Surroundings, Turn};
use crate::source::Moment;

/// Wait between two turns that found nothing.
const IDLE: Duration = Duration::from_millis(50);
/// Wait before the spool is asked again.
const REFUSED: Duration = Duration::from_millis(500);

/// How fast recorded frames go through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// As they come.
    Live,
    /// Recorded: this long for each frame, and an end.
    Recorded(Duration),
}

/// The running thread.
#[derive(Debug)]
pub(super) struct Worker {
    /// Dropped to stop it.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Grows with every turn, whatever it found.
    pub(super) progress: Arc<AtomicU64>,
    /// Resolves to true when every source is exhausted and everything is in the spool, to an error when the thread died.
    pub(super) done: oneshot::Receiver<bool>,
}

impl Worker {
    pub(super) fn start(pipeline: Pipeline, pace: Pace, probe: Option<Probe>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let (finished, done) = oneshot::channel();
        let progress = Arc::new(AtomicU64::new(0));
        let beat = Arc::clone(&progress);
        let thread = Builder::new().name("pipeline".into()).spawn(move || {
            let finished_all = work(pipeline, pace, &mut Inside { clock: Clock::default(), probe, stopped, beat });
            if finished.send(finished_all).is_err() {
                tracing::debug!("nobody waits for the pipeline any more");
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), progress, done })
    }

    /// Stops it after the frame it is at; open windows are left, their files are read again.
    pub(super) fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the pipeline ended in a panic");
        }
    }
}

struct Inside {
    clock: Clock,
    probe: Option<Probe>,
    stopped: Receiver<()>,
    beat: Arc<AtomicU64>,
}

impl Inside {
    /// Waits; `Break` when told to stop.
    fn wait(&self, duration: Duration) -> ControlFlow<()> {
        self.beat.fetch_add(1, Ordering::Relaxed);
        match self.stopped.recv_timeout(duration) {
            Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

impl Surroundings for Inside {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn health(&mut self) -> Health {
        let elapsed = self.clock.now().elapsed;
        self.probe.as_mut().map(|probe| probe.at(elapsed)).unwrap_or_default()
    }

    fn pause(&mut self) -> ControlFlow<()> {
        self.wait(REFUSED)
    }
}

fn work(mut pipeline: Pipeline, pace: Pace, inside: &mut Inside) -> bool {
    loop {
        let rest = match (pipeline.turn(inside), pace) {
            (Turn::Stopped, _) => return false,
            (Turn::Worked(_), Pace::Live) => Duration::ZERO,
            (Turn::Worked(count), Pace::Recorded(each)) => each.saturating_mul(count),
            (Turn::Idle, Pace::Recorded(_)) if pipeline.exhausted() => return pipeline.finish(inside).is_continue(),
            (Turn::Idle, _) => IDLE,
        };
        if inside.wait(rest).is_break() {
            return false;
        }
    }
}
