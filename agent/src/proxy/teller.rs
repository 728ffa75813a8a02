//! Notes on their way to the agent.
//!
//! Whoever passes inferences on never waits for the agent: a note that finds no room is left out, and how many were is told with the
//! next. While nobody listens nothing is copied, and what waits is dropped and counted when somebody does again.
//!
//! Must hold: at most [`NOTES`] wait; a note whose bodies were begun with is written as a whole.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::kept::Kept;
use super::note::{Note, framed};

/// Notes that wait at most.
const NOTES: usize = 1024;

/// Time for an answer to find room.
const ANSWER: Duration = Duration::from_secs(1);

/// Copies that go with a note.
#[derive(Debug)]
pub(super) struct Bodies {
    pub(super) request: Kept,
    pub(super) answer: Kept,
    /// Free again once they have been written.
    pub(super) place: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Told {
    note: Note,
    bodies: Option<Bodies>,
}

#[derive(Debug, Default)]
struct State {
    heard: AtomicBool,
    missed: AtomicU64,
}

/// Somebody listens until this is dropped.
struct Heard(Arc<State>);

impl Heard {
    fn by(state: &Arc<State>) -> Self {
        state.heard.store(true, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.0.heard.store(false, Ordering::Relaxed);
    }
}

/// The end that notes go in at.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    queue: mpsc::Sender<Told>,
    state: Arc<State>,
}

/// The end that they are written from.
#[derive(Debug)]
pub(super) struct Notes {
    queue: mpsc::Receiver<Told>,
    state: Arc<State>,
}

/// Both ends.
pub(super) fn notes() -> (Teller, Notes) {
    let (sender, queue) = mpsc::channel(NOTES);
    let state = Arc::<State>::default();
    (Teller { queue: sender, state: Arc::clone(&state) }, Notes { queue, state })
}

impl Teller {
    /// Whether the agent is there.
    pub(super) fn is_heard(&self) -> bool {
        self.state.heard.load(Ordering::Relaxed)
    }

    /// Tells without waiting.
    pub(super) fn tell(&self, note: Note, bodies: Option<Bodies>) {
        let passed = matches!(note, Note::Passed(_));
        if self.queue.try_send(Told { note, bodies }).is_err() && passed {
            self.state.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells what somebody waits for, as long as anybody does.
    pub(super) async fn answer(&self, note: Note) {
        if timeout(ANSWER, self.queue.send(Told { note, bodies: None })).await.is_err() {
            tracing::debug!("nobody is left who would be told");
        }
    }
}

impl Notes {
    /// Writes notes until writing fails.
    pub(super) async fn write(&mut self, to: &mut OwnedWriteHalf) -> io::Error {
        // They are about an agent that is no more.
        while let Ok(told) = self.queue.try_recv() {
            self.count(&told.note);
        }
        let _heard = Heard::by(&self.state);
        loop {
            let Some(told) = self.queue.recv().await else { return io::ErrorKind::BrokenPipe.into() };
            if let Err(error) = self.write_one(told, to).await {
                return error;
            }
        }
    }

    async fn write_one(&self, Told { note, bodies }: Told, to: &mut OwnedWriteHalf) -> io::Result<()> {
        let missed = self.state.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            to.write_all(&framed(&Note::Missed(missed))?).await?;
        }
        to.write_all(&framed(&note)?).await?;
        let Some(Bodies { request, answer, place }) = bodies else { return Ok(()) };
        for piece in request.into_pieces().chain(answer.into_pieces()) {
            to.write_all(&piece).await?;
        }
        drop(place);
        Ok(())
    }

    fn count(&self, note: &Note) {
        if matches!(note, Note::Passed(_)) {
            self.state.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
