//! Cameras that come, go and change while the others go on.
//!
//! A camera changes between two windows: a window holds frames of one source at one rate under one model, and a crash at any moment
//! finds a checkpoint that fits the source it goes on with. A camera that goes has its window closed with what it has.
//!
//! Must hold: a frame that a live source delivered is counted, as measured or as skipped, also when its source gives way; a file of a
//! folder is counted or stays uncounted in the folder.

use std::ops::ControlFlow;

use driftglass_protocol::id::Name;
use driftglass_protocol::summary::Model;
use driftglass_protocol::unit::UnixMillis;

use super::{Camera, Pipeline, Setup, Surroundings, Timing};
use crate::prediction::Detectors;
use crate::sampler::Sampler;
use crate::source::{Candidate, Condition, FrameSource, Prepared};
use crate::telemetry::Telemetry;
use crate::window::FrameRate;

/// What changes.
#[derive(Debug)]
pub enum Change {
    /// One more camera.
    Add(Box<Setup>),
    /// Other settings of a camera, from its next window on.
    Update(Box<Update>),
    /// A camera whose source has ended: what waits is counted, and its window closes.
    Remove(Name),
    /// So many frames of a camera were left by a source that gave way.
    Skipped(Name, u32),
}

/// What a camera is from its next window on.
#[derive(Debug)]
pub struct Update {
    /// Its name, which stays.
    pub name: Name,
    /// The model watched.
    pub model: Option<Model>,
    /// Its event time.
    pub timing: Timing,
    /// Sampling rate, also the rate expected.
    pub rate: Option<FrameRate>,
    /// Most memory for the pixels of a picture that has to be decoded in full, in bytes.
    pub max_memory: u64,
    /// What watches its model.
    pub detectors: Detectors,
    /// Another source, where that changes.
    pub source: Option<Replacement>,
}

/// A source that takes the place of another.
#[derive(Debug)]
pub struct Replacement {
    /// Its frames.
    pub source: FrameSource,
    /// What has to run for it from then on.
    pub prepared: Prepared,
}

/// A source that gave way; what fetched for it can end, and the next one begin.
#[derive(Debug)]
pub struct Retired {
    /// The camera.
    pub camera: Name,
    /// The source that gave way.
    pub source: FrameSource,
    /// The one that the camera has now.
    pub next: Prepared,
}

impl Pipeline {
    /// Changes a camera, now or when its window closes; `Break` when told to stop meanwhile. What speaks of a camera that is not there
    /// is passed over.
    pub fn change(&mut self, change: Change, surroundings: &mut dyn Surroundings) -> ControlFlow<()> {
        match change {
            Change::Add(setup) => {
                let camera = Camera::new(*setup, &self.writer, &self.telemetry);
                self.cameras.push(camera);
            }
            Change::Update(update) => {
                if let Some(index) = self.index(&update.name) {
                    if let Some(camera) = self.cameras.get_mut(index) {
                        camera.supersede(update);
                    }
                    self.take_up(index);
                }
            }
            Change::Remove(name) => {
                let Some(index) = self.index(&name) else { return ControlFlow::Continue(()) };
                self.drain(index, surroundings)?;
                self.close(index, true, surroundings)?;
                self.cameras.remove(index);
            }
            Change::Skipped(name, count) => {
                let Some(index) = self.index(&name) else { return ControlFlow::Continue(()) };
                let skipped = Candidate { position: Vec::new(), taken: None, condition: Condition::Skipped(count) };
                self.count(index, &skipped, surroundings)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The sources that gave way since the last call.
    pub fn retired(&mut self) -> impl Iterator<Item = Retired> {
        self.retired.drain(..)
    }

    fn index(&self, name: &Name) -> Option<usize> {
        self.cameras.iter().position(|camera| camera.name == *name)
    }

    /// Counts what an ended live source left; files stay where they are.
    fn drain(&mut self, index: usize, surroundings: &mut dyn Surroundings) -> ControlFlow<()> {
        loop {
            let now = surroundings.now();
            let Some(FrameSource::Live(live)) = self.cameras.get_mut(index).map(|camera| &mut camera.source) else {
                return ControlFlow::Continue(());
            };
            // Ends, because nobody puts anything in any more and the waiting room is small.
            let Some(candidate) = live.poll(now) else { return ControlFlow::Continue(()) };
            self.count(index, &candidate, surroundings)?;
        }
    }

    /// Takes up what is to change for a camera, once no window of it is open; whether its source gave way.
    pub(super) fn take_up(&mut self, index: usize) -> bool {
        let Some(camera) = self.cameras.get_mut(index) else { return false };
        if camera.window.open_until().is_some() {
            return false;
        }
        let Some(update) = camera.update.take() else { return false };
        let Update { name: _, model, timing, rate, max_memory, detectors, source } = *update;
        if (&camera.model, camera.detectors) != (&model, detectors) {
            // What watched another model, or watched it differently, says nothing of this one.
            camera.predicted = None;
        }
        (camera.model, camera.timing, camera.detectors) = (model, timing, detectors);
        camera.max_memory = max_memory;
        camera.sampler = Sampler::new(rate, camera.sampler.due());
        camera.window.set_rate(rate);
        let Some(Replacement { mut source, prepared }) = source else { return false };
        source.resume(&camera.position);
        let source = std::mem::replace(&mut camera.source, source);
        self.retired.push(Retired { camera: camera.name.clone(), source, next: prepared });
        true
    }
}

impl Camera {
    /// Replaces an update that was not taken up yet; a source it would have brought never began.
    fn supersede(&mut self, mut update: Box<Update>) {
        if update.source.is_none() {
            update.source = self.update.take().and_then(|earlier| earlier.source);
        }
        self.update = Some(update);
    }

    /// Accounts for a candidate of a source that has just given way.
    pub(super) fn pass_over(&mut self, candidate: &Candidate, time: UnixMillis, telemetry: &Telemetry) {
        let name = self.name.as_str();
        match candidate.condition {
            Condition::OutOfOrder => {
                self.window.add_late(time);
                telemetry.frame_error(name, "out_of_order");
            }
            Condition::Skipped(count) => {
                self.window.add_skipped(time, count);
                telemetry.skipped(name, count);
            }
            Condition::Ready | Condition::Heard | Condition::Unusable(_) if candidate.position.is_empty() => {
                self.window.add_skipped(time, 1);
                telemetry.skipped(name, 1);
            }
            // The file is still there, and the position is before it; the truth of an earlier frame is no frame.
            Condition::Ready | Condition::Heard | Condition::Unusable(_) | Condition::Judged(_) => {}
        }
    }
}
