//! The thread that takes apart what has passed.
//!
//! Must hold: a panic costs one exchange; the thread ends with the one who hands exchanges over.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;
use tokio::sync::OwnedSemaphorePermit;

use super::figures::Outcome;
use super::kept::Kept;
use super::reading::{Exchange, Reading, Spoken};
use super::watch::{Camera, lock};
use super::{PLACES, Unread};
use crate::config::InferenceConfig;
use crate::source::jpeg_stream::Piece;
use crate::source::status::Failure;

/// How an exchange is taken apart.
pub(super) type Read = fn(&Exchange, &InferenceConfig) -> Result<Reading, Unread>;

/// An exchange that has passed.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) camera: usize,
    pub(super) spoken: Spoken,
    /// When the request came.
    pub(super) taken: UnixMillis,
    pub(super) compressed: bool,
    pub(super) latency: Option<Duration>,
    pub(super) request: Kept,
    pub(super) answer: Kept,
    pub(super) outcome: Outcome,
    /// Free again once this is done with.
    pub(super) place: OwnedSemaphorePermit,
}

/// Begins; the thread ends when the sender is dropped.
pub(super) fn start(cameras: Vec<Camera>, read: Read) -> io::Result<SyncSender<Finished>> {
    let (queue, finished) = sync_channel(PLACES);
    Builder::new().name("inference-seen".into()).spawn(move || observe(&cameras, read, &finished))?;
    Ok(queue)
}

fn observe(cameras: &[Camera], read: Read, queue: &Receiver<Finished>) {
    while let Ok(finished) = queue.recv() {
        let Some(camera) = cameras.get(finished.camera) else { continue };
        let outcome = catch_unwind(AssertUnwindSafe(|| take_in(camera, read, finished)));
        if let Err(reason) = outcome.unwrap_or(Err(Unread::Panicked)) {
            camera.figures.unobserved(reason);
            if !matches!(reason, Unread::OtherModel) {
                camera.feed.failed(&Failure::Unread(reason.to_string()));
            }
        }
    }
}

fn take_in(camera: &Camera, read: Read, finished: Finished) -> Result<(), Unread> {
    let Finished { spoken, taken, compressed, latency, mut request, mut answer, outcome, place, .. } = finished;
    if compressed {
        return Err(Unread::Compressed);
    }
    let request = request.take()?;
    let answer = if outcome == Outcome::Ok { Some(answer.take()?) } else { None };
    let reading = read(&Exchange { spoken, request, answer, latency }, &camera.config)?;
    if let [frame] = reading.frames.as_slice()
        && let Some(label) = frame.heard.as_ref().and_then(|heard| heard.labels.first())
    {
        lock(&camera.remembered).add(&reading.id, label);
    }
    for frame in reading.frames {
        camera.feed.put_heard(frame.picture.map(Piece::Picture), frame.heard.map(Box::new), taken);
    }
    (0..reading.further).for_each(|_| camera.feed.skip());
    drop(place);
    Ok(())
}
