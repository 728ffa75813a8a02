//! The pipeline's own thread: decoding never holds the uplink up, and the uplink never holds a frame up.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use driftglass_protocol::id::Name;
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::health::Probe;
use super::learned::Learned;
use crate::health::Health;
use crate::pipeline::{Change, Pipeline, Retired, Surroundings, Turn};
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

/// Commands that wait at most.
const COMMANDS: usize = 64;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// These changes, with nothing between them, and where it is given another probe of the device's health.
    Change(Vec<Change>, Option<Option<Probe>>),
    /// Wakes it, so that it sees that it is to stop.
    Stop,
}

/// Tells the thread what changes.
#[derive(Clone, Debug)]
pub(super) struct Commander(SyncSender<Command>);

impl Commander {
    /// Hands changes over; false where the thread has not taken up earlier ones for long.
    pub(super) fn change(&self, changes: Vec<Change>, probe: Option<Option<Probe>>) -> bool {
        self.0.try_send(Command::Change(changes, probe)).is_ok()
    }
}

/// The running thread.
#[derive(Debug)]
pub(super) struct Worker {
    commander: Commander,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Grows with every turn, whatever it found.
    pub(super) progress: Arc<AtomicU64>,
    /// Resolves to true when every source is exhausted and everything is in the spool, to an error when the thread died.
    pub(super) done: oneshot::Receiver<bool>,
}

impl Worker {
    /// Starts it; sources that give way go to `retired`, one for each change of a source.
    pub(super) fn start(
        pipeline: Pipeline,
        pace: Pace,
        probe: Option<Probe>,
        learned: Learned,
        retired: mpsc::UnboundedSender<Retired>,
    ) -> std::io::Result<Self> {
        let (commands, told) = sync_channel(COMMANDS);
        let (finished, done) = oneshot::channel();
        let (progress, stopping) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut inside = Inside {
            clock: Clock::default(),
            probe,
            learned,
            told,
            stopping: Arc::clone(&stopping),
            changes: Vec::new(),
            beat: Arc::clone(&progress),
        };
        let thread = Builder::new().name("pipeline".into()).spawn(move || {
            if finished.send(work(pipeline, pace, &retired, &mut inside)).is_err() {
                tracing::debug!("nobody waits for the pipeline any more");
            }
        })?;
        Ok(Self { commander: Commander(commands), stopping, thread: Some(thread), progress, done })
    }

    /// Who tells it what changes.
    pub(super) fn commander(&self) -> Commander {
        self.commander.clone()
    }

    /// Stops it after the frame it is at; open windows are left, their files are read again.
    pub(super) fn stop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // A full channel wakes it as well, and a thread that has ended needs no waking.
        if let Err(TrySendError::Full(_)) = self.commander.0.try_send(Command::Stop) {
            tracing::debug!("the pipeline has commands to come to first");
        }
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
    learned: Learned,
    told: Receiver<Command>,
    stopping: Arc<AtomicBool>,
    /// Told and not taken up yet.
    changes: Vec<Change>,
    beat: Arc<AtomicU64>,
}

impl Inside {
    /// Waits, or less where something is told; `Break` when told to stop.
    fn wait(&mut self, duration: Duration) -> ControlFlow<()> {
        self.beat.fetch_add(1, Ordering::Relaxed);
        let told = self.told.recv_timeout(duration);
        if self.stopping.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        match told {
            Ok(Command::Change(changes, probe)) => {
                self.changes.extend(changes);
                if let Some(probe) = probe {
                    self.probe = probe;
                }
                ControlFlow::Continue(())
            }
            Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
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

    fn keep(&mut self, camera: &Name, learned: &[u8]) {
        self.learned.keep(camera, learned);
    }

    fn pause(&mut self) -> ControlFlow<()> {
        self.wait(REFUSED)
    }
}

fn work(mut pipeline: Pipeline, pace: Pace, retired: &mpsc::UnboundedSender<Retired>, inside: &mut Inside) -> bool {
    loop {
        for change in std::mem::take(&mut inside.changes) {
            if pipeline.change(change, inside).is_break() {
                return false;
            }
        }
        let turn = pipeline.turn(inside);
        for source in pipeline.retired() {
            if retired.send(source).is_err() {
                tracing::debug!("nobody is left who runs sources");
            }
        }
        let rest = match (turn, pace) {
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
