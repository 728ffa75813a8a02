//! From candidates of the sources to batches in the spool: the one way a frame goes.
//!
//! Per camera: a candidate gets its event time, closes the window that is over, and is counted in the one that is open. When a window
//! closes, its summary, the position of the last file in it, the sampler's phase and the camera's state are appended as one batch; the
//! frame that closed it is counted afterwards. A crash therefore takes the camera back to exactly where that window ended.
//!
//! Event time is a file's time of modification or a live frame's arrival, but never later than the clock: a file from the future would
//! close every window before it. Where nothing arrives any more a window closes by the clock, [`GRACE`] after its end, and only after
//! a look begun then found nothing waiting: whatever comes later is late, and a backlog is never cut into windows of one file.
//!
//! Must hold: a picture that cannot be read is counted and never stops anything; while the spool refuses, which it does only where the
//! disk does, nothing is taken.
//!
//! Deliberately absent: clocks, threads and sleeping; they are handed in.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::feature::FeatureValues;
use driftglass_protocol::id::Name;
use driftglass_protocol::limit::LABELS_BYTES;
use driftglass_protocol::summary::{Model, Summary};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::Body;

use crate::config::EventTime;
use crate::decode::Decoder;
use crate::feature::{CameraState, STATE_BYTES};
use crate::health::Health;
use crate::prediction::{Detectors, PredictionWindow, Recorded};
use crate::sampler::Sampler;
use crate::source::{Candidate, Condition, FrameSource, Moment};
use crate::spool::{AppendError, CameraCheckpoint, Writer};
use crate::telemetry::Telemetry;
use crate::window::{CameraWindow, FrameRate, Place, Scratch};

mod change;

pub use change::{Change, Replacement, Retired, Update};

/// How long after its end a window stays open for files that are on their way.
pub const GRACE: Millis = Millis(2_000);
/// Frames of one camera before the next has its turn.
const TURN: usize = 8;
/// One log line about undecodable files of a camera in this time.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What the pipeline takes from outside.
pub trait Surroundings {
    /// Wall clock and monotonic clock.
    fn now(&self) -> Moment;
    /// How the device fares, where that is wanted.
    fn health(&mut self) -> Health {
        Health::default()
    }
    /// Keeps what a camera's detectors have learned for a later process.
    fn keep(&mut self, _camera: &Name, _learned: &[u8]) {}
    /// Waits a moment because the spool refuses; `Break` when the agent is to stop.
    fn pause(&mut self) -> ControlFlow<()>;
}

/// Where event time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// A live source.
    Live(EventTime),
    /// Frames taken at a fixed rate from a known instant on.
    Recorded {
        /// Time of the first frame.
        start: UnixMillis,
        /// Their rate.
        rate: FrameRate,
    },
}

/// Where a camera of this start begins.
#[derive(Debug)]
pub struct Setup {
    /// Its name.
    pub name: Name,
    /// The model watched.
    pub model: Option<Model>,
    /// Its frames.
    pub source: FrameSource,
    /// Its event time.
    pub timing: Timing,
    /// Length of its windows.
    pub window: Millis,
    /// Sampling rate, also the rate expected.
    pub rate: Option<FrameRate>,
    /// Most memory for the pixels of a picture that has to be decoded in full, in bytes.
    pub max_memory: u64,
    /// What its model said, by file name.
    pub predictions: Recorded,
    /// What watches its model.
    pub detectors: Detectors,
    /// What they had learned before ([`Surroundings::keep`]).
    pub learned: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Camera {
    name: Name,
    model: Option<Model>,
    source: FrameSource,
    timing: Timing,
    length: Millis,
    max_memory: u64,
    sampler: Sampler,
    window: CameraWindow,
    state: CameraState,
    position: Vec<u8>,
    index: u64,
    predictions: Recorded,
    detectors: Detectors,
    /// From the first prediction on.
    predicted: Option<Box<PredictionWindow>>,
    /// The model heard first in this window, where none is configured: the window's figures are those of one model.
    heard_model: Option<Model>,
    complained: Option<Duration>,
    quiet: u64,
    /// What changes with the next window.
    update: Option<Box<Update>>,
}

/// All cameras of an agent.
#[derive(Debug)]
pub struct Pipeline {
    cameras: Vec<Camera>,
    writer: Writer,
    decoder: Decoder,
    scratch: Box<Scratch>,
    label_room: Box<[u8; LABELS_BYTES]>,
    telemetry: Arc<Telemetry>,
    retired: Vec<Retired>,
}

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// So many candidates were counted; there may be more at once.
    Worked(u32),
    /// Nothing is ready.
    Idle,
    /// Told to stop while the spool refused.
    Stopped,
}

impl Pipeline {
    /// Cameras that go on where the spool's last checkpoint left them.
    #[must_use]
    pub fn new(setups: Vec<Setup>, writer: Writer, telemetry: Arc<Telemetry>) -> Self {
        let cameras = setups.into_iter().map(|setup| Camera::new(setup, &writer, &telemetry)).collect();
        Self {
            cameras,
            writer,
            decoder: Decoder::default(),
            scratch: Box::default(),
            label_room: Box::new([0; LABELS_BYTES]),
            telemetry,
            retired: Vec::new(),
        }
    }

    /// Lets every camera count some frames, and closes windows whose time is over.
    pub fn turn(&mut self, surroundings: &mut dyn Surroundings) -> Turn {
        self.writer.tend();
        let mut counted = 0;
        for index in 0..self.cameras.len() {
            for _ in 0..TURN {
                let now = surroundings.now();
                let Some(camera) = self.cameras.get_mut(index) else { break };
                let Some(candidate) = camera.source.poll(now) else {
                    if camera.over(now.wall) && self.close(index, false, surroundings).is_break() {
                        return Turn::Stopped;
                    }
                    self.take_up(index);
                    break;
                };
                counted += 1;
                if self.count(index, &candidate, surroundings).is_break() {
                    return Turn::Stopped;
                }
            }
        }
        if counted == 0 { Turn::Idle } else { Turn::Worked(counted) }
    }

    /// Closes every window because no more frames will come.
    pub fn finish(&mut self, surroundings: &mut dyn Surroundings) -> ControlFlow<()> {
        (0..self.cameras.len()).try_for_each(|index| self.close(index, true, surroundings))
    }

    /// Whether every source has nothing left to give.
    #[must_use]
    pub fn exhausted(&self) -> bool {
        self.cameras.iter().all(|camera| camera.source.idle_at().is_some())
    }

    fn count(&mut self, index: usize, candidate: &Candidate, surroundings: &mut dyn Surroundings) -> ControlFlow<()> {
        let now = surroundings.now();
        let Some(camera) = self.cameras.get_mut(index) else { return ControlFlow::Continue(()) };
        if let Condition::Judged(wrong) = candidate.condition {
            // The truth of an earlier frame closes no window: frames of the open one may still be waiting.
            let fresh = || fresh(camera.detectors, &camera.name);
            camera.predicted.get_or_insert_with(fresh).judge(wrong, now.wall);
            return ControlFlow::Continue(());
        }
        let time = camera.event_time(candidate, now.wall);
        if camera.window.place(time) == Place::AfterOpen {
            self.close(index, false, surroundings)?;
        }
        let replaced = self.take_up(index);
        let Some(camera) = self.cameras.get_mut(index) else { return ControlFlow::Continue(()) };
        if replaced {
            camera.pass_over(candidate, time, &self.telemetry);
            return ControlFlow::Continue(());
        }
        let name = camera.name.as_str();
        match candidate.condition {
            Condition::OutOfOrder => {
                camera.window.add_late(time);
                self.telemetry.frame_error(name, "out_of_order");
                return ControlFlow::Continue(());
            }
            Condition::Unusable(reason) => {
                camera.window.add_undecodable(time);
                self.telemetry.frame_error(name, reason.name());
                camera.complain(candidate, &reason, now.elapsed);
            }
            Condition::Judged(_) => return ControlFlow::Continue(()),
            Condition::Ready | Condition::Heard if camera.window.place(time) == Place::Late => {
                camera.window.add_late(time);
                self.telemetry.frame_error(name, "late");
            }
            Condition::Skipped(count) => {
                camera.window.add_skipped(time, count);
                self.telemetry.skipped(name, count);
                return ControlFlow::Continue(());
            }
            Condition::Ready | Condition::Heard if !camera.sampler.take(time) => {
                camera.window.add_skipped(time, 1);
                self.telemetry.skipped(name, 1);
            }
            Condition::Ready | Condition::Heard => {
                let health = surroundings.health();
                let measured =
                    camera.measure(candidate, time, &health, &mut self.decoder, &self.telemetry, now.elapsed);
                if measured {
                    let seconds = surroundings.now().elapsed.saturating_sub(now.elapsed).as_secs_f64();
                    self.telemetry.frame(camera.name.as_str(), seconds);
                }
            }
        }
        // A source without a position leaves the one that a folder had, should the camera go back to it.
        if !candidate.position.is_empty() {
            camera.position.clone_from(&candidate.position);
        }
        ControlFlow::Continue(())
    }

    fn close(&mut self, index: usize, finished: bool, surroundings: &mut dyn Surroundings) -> ControlFlow<()> {
        let Some(camera) = self.cameras.get_mut(index) else { return ControlFlow::Continue(()) };
        let heard = camera.heard_model.take();
        let (window, name, model) = (&mut camera.window, &camera.name, camera.model.as_ref().or(heard.as_ref()));
        let summary = if finished {
            window.finish(name, model, &mut self.scratch)
        } else {
            window.close(name, model, &mut self.scratch)
        };
        let Some(mut summary) = summary else { return ControlFlow::Continue(()) };
        // A replay has nothing that a later start could go on from.
        let lasting = matches!(camera.timing, Timing::Live(_));
        let window = summary.window;
        if let Some(predicted) = &mut camera.predicted {
            summary.predictions = predicted.close(window, &mut self.label_room);
            if lasting
                && summary.predictions.is_some()
                && let Some(learned) = predicted.to_bytes(camera.model.as_ref())
            {
                surroundings.keep(&camera.name, &learned);
            }
        }
        let checkpoint = lasting.then(|| camera.checkpoint());
        append(&mut self.writer, &summary, checkpoint, &self.telemetry, surroundings)
    }
}

/// Appends until the spool takes it.
fn append(
    writer: &mut Writer,
    summary: &Summary<'_>,
    checkpoint: Option<CameraCheckpoint>,
    telemetry: &Telemetry,
    surroundings: &mut dyn Surroundings,
) -> ControlFlow<()> {
    let body = Body::Summary(summary.clone());
    let mut complained = false;
    loop {
        match writer.append(std::slice::from_ref(&body), checkpoint.iter().cloned().collect()) {
            Ok(()) => {
                telemetry.paused(false);
                tracing::debug!(camera = %summary.camera, start = summary.window.start.0, frames = summary.quality.frames, "window closed");
                return ControlFlow::Continue(());
            }
            Err(AppendError::Frame(error)) => {
                // Cannot happen by the limits of the protocol; going on without the window is the lesser evil, and it is said.
                tracing::error!(camera = %summary.camera, %error, "a window does not fit a record and is lost");
                return ControlFlow::Continue(());
            }
            Err(error) => {
                telemetry.paused(true);
                if !complained {
                    tracing::warn!(%error, "the sources pause until the spool takes windows again; files stay where they are");
                    complained = true;
                }
            }
        }
        surroundings.pause()?;
    }
}

impl Camera {
    fn new(setup: Setup, writer: &Writer, telemetry: &Telemetry) -> Self {
        let known = match setup.timing {
            Timing::Live(_) => writer.cameras().get(&setup.name),
            Timing::Recorded { .. } => None,
        };
        let mut source = setup.source;
        if let Some(known) = known {
            source.resume(&known.position);
        }
        let state = known.and_then(|known| known.state.as_deref()).map(CameraState::from_bytes);
        let state = match state {
            Some(Ok(state)) => state,
            Some(Err(error)) => {
                tracing::warn!(camera = %setup.name, %error, "the camera's stored reference cannot be read; it is learned anew");
                CameraState::new()
            }
            None => CameraState::new(),
        };
        let predicted = setup.learned.and_then(|learned| {
            let (model, detectors) = (setup.model.as_ref(), setup.detectors);
            match PredictionWindow::from_bytes(&learned, model, detectors, seed(&setup.name)) {
                Ok(window) => Some(Box::new(window)),
                Err(error) => {
                    tracing::warn!(camera = %setup.name, %error, "what the detectors had learned cannot be read; they begin anew");
                    telemetry.detectors_lost();
                    None
                }
            }
        });
        Self {
            sampler: Sampler::new(setup.rate, known.and_then(|known| known.sample_due)),
            window: CameraWindow::new(setup.window, setup.rate, known.and_then(|known| known.closed_until)),
            position: known.map(|known| known.position.clone()).unwrap_or_default(),
            state,
            name: setup.name,
            model: setup.model,
            source,
            timing: setup.timing,
            length: setup.window,
            max_memory: setup.max_memory,
            index: 0,
            predictions: setup.predictions,
            detectors: setup.detectors,
            predicted,
            heard_model: None,
            complained: None,
            quiet: 0,
            update: None,
        }
    }

    fn event_time(&mut self, candidate: &Candidate, wall: UnixMillis) -> UnixMillis {
        match self.timing {
            Timing::Recorded { start, rate } => {
                let offset = i64::try_from(self.index).unwrap_or(i64::MAX).saturating_mul(rate.period_micros()) / 1000;
                self.index += 1;
                UnixMillis(start.0.saturating_add(offset))
            }
            Timing::Live(source) => {
                // Windows that end well after now were closed by a clock that has been set back since.
                let horizon = wall.plus(self.length).plus(self.length);
                if self.window.closed_until().is_some_and(|until| until > horizon) {
                    tracing::warn!(camera = %self.name, "the clock was set back; windows open again from now");
                    self.window.reopen_from(wall);
                }
                match source {
                    EventTime::Arrival => wall,
                    EventTime::Modified => candidate.taken.map_or(wall, |taken| taken.min(wall)),
                }
            }
        }
    }

    /// Whether the open window is over by the clock and nothing that belongs to it can still be waiting.
    fn over(&self, wall: UnixMillis) -> bool {
        let Timing::Live(_) = self.timing else { return false };
        let (Some(end), Some(idle)) = (self.window.open_until(), self.source.idle_at()) else { return false };
        wall >= end.plus(GRACE) && idle >= end.plus(GRACE)
    }

    /// Measures and counts one picture, or what a model said of one that is not there; false where it is none.
    fn measure(
        &mut self,
        candidate: &Candidate,
        time: UnixMillis,
        health: &Health,
        decoder: &mut Decoder,
        telemetry: &Telemetry,
        elapsed: Duration,
    ) -> bool {
        let measured = match self.source.read(candidate) {
            Ok(_) if candidate.condition == Condition::Heard => Ok(None),
            Ok(Some(bytes)) => decoder.measure_within(bytes, self.max_memory).map(Some),
            Ok(None) => return false,
            Err(reason) => {
                self.window.add_undecodable(time);
                telemetry.frame_error(self.name.as_str(), reason.name());
                self.complain(candidate, &reason, elapsed);
                return false;
            }
        };
        match measured {
            Ok(measurements) => {
                let mut values = measurements.map(|picture| self.state.observe(&picture)).unwrap_or_default();
                health.set_features(&mut values);
                self.predict(candidate, &mut values, time, telemetry);
                self.window.add(&values, time);
                true
            }
            Err(error) => {
                self.window.add_undecodable(time);
                telemetry.frame_error(self.name.as_str(), error.reason());
                self.complain(candidate, &error, elapsed);
                false
            }
        }
    }

    /// Counts what a model said of a frame, be it recorded or heard.
    fn predict(&mut self, candidate: &Candidate, values: &mut FeatureValues, time: UnixMillis, telemetry: &Telemetry) {
        let fresh = || fresh(self.detectors, &self.name);
        if let Some((prediction, labels)) = self.predictions.get(&candidate.position) {
            prediction.set_features(values);
            self.predicted.get_or_insert_with(fresh).add(prediction, labels, time);
        }
        let Some(heard) = self.source.heard() else { return };
        if self.model.is_none()
            && let Some(model) = &heard.model
            && self.heard_model.get_or_insert_with(|| model.clone()) != model
        {
            telemetry.other_model(self.name.as_str());
            return;
        }
        heard.prediction.set_features(values);
        self.predicted.get_or_insert_with(fresh).add(&heard.prediction, heard.labels.iter().map(String::as_str), time);
    }

    fn checkpoint(&self) -> CameraCheckpoint {
        let mut bytes = [0; STATE_BYTES];
        let length = self.state.to_bytes(&mut bytes);
        CameraCheckpoint {
            camera: self.name.clone(),
            position: self.position.clone(),
            closed_until: self.window.closed_until(),
            sample_due: self.sampler.due(),
            state: bytes.get(..length).map(<[u8]>::to_vec),
        }
    }

    /// One line a minute at most; the others are counted in it.
    fn complain(&mut self, candidate: &Candidate, reason: &dyn std::error::Error, elapsed: Duration) {
        if self.complained.is_some_and(|last| elapsed.saturating_sub(last) < LOG_EVERY) {
            self.quiet += 1;
            return;
        }
        let file = match candidate.position.as_slice() {
            [] => "(live)".into(),
            name => String::from_utf8_lossy(name),
        };
        tracing::warn!(camera = %self.name, %file, %reason, not_shown = self.quiet, "what came is not a readable picture; it is counted undecodable");
        self.complained = Some(elapsed);
        self.quiet = 0;
    }
}

fn fresh(detectors: Detectors, camera: &Name) -> Box<PredictionWindow> {
    Box::new(PredictionWindow::new(detectors, seed(camera)))
}

/// For what detectors draw: the same in every run, and another for every camera.
fn seed(camera: &Name) -> u64 {
    camera.as_str().bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

#[cfg(test)]
mod tests;
