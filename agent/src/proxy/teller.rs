//! Notes on their way to the agent.
//!
//! Whoever passes inferences on never waits for the agent: a note that finds no room is left out, and how many were is told with the
//! next. An inference that was only counted wakes nobody: such notes are gathered for [`GATHER`]. While nobody listens nothing is
//! copied, and what waits is dropped and counted when somebody does again.
//!
//! Must hold: at most [`NOTES`] of each kind wait; a note whose bodies were begun with is written as a whole.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};

use super::kept::Kept;
use super::note::{Note, Passed, framed};

/// Notes that wait at most.
const NOTES: usize = 1024;

/// How long inferences that were only counted are gathered.
const GATHER: Duration = Duration::from_millis(50);
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

/// A note with the bodies of request and answer.
pub(super) type Overheard = (Note, Vec<u8>, Vec<u8>);

#[derive(Debug)]
struct Told {
    note: Note,
    bodies: Option<Bodies>,
}

#[derive(Debug, Default)]
struct State {
    heard: AtomicBool,
    missed: AtomicU64,
    gathered: Mutex<Vec<Passed>>,
    /// Says that the first was gathered.
    gathering: Notify,
}

impl State {
    fn gathered(&self) -> MutexGuard<'_, Vec<Passed>> {
        // Each change is whole before the lock is let go.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn miss(&self, inferences: usize) {
        self.missed.fetch_add(u64::try_from(inferences).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
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

    /// Somebody listens from now on.
    pub(super) fn hear(&self) {
        self.state.heard.store(true, Ordering::Relaxed);
    }

    /// Tells of an inference, without waiting.
    pub(super) fn passed(&self, passed: Passed, bodies: Option<Bodies>) {
        if bodies.is_some() {
            if self.queue.try_send(Told { note: Note::Passed(passed), bodies }).is_err() {
                self.state.miss(1);
            }
            return;
        }
        let mut gathered = self.state.gathered();
        if gathered.len() >= NOTES {
            self.state.miss(1);
            return;
        }
        gathered.push(passed);
        if gathered.len() == 1 {
            self.state.gathering.notify_one();
        }
    }

    /// An inference has passed of which nothing can be told.
    pub(super) fn miss(&self) {
        self.state.miss(1);
    }

    /// Tells of something else, without waiting; it is left out where there is no room.
    pub(super) fn mention(&self, note: Note) {
        if self.queue.try_send(Told { note, bodies: None }).is_err() {
            tracing::trace!("the agent is slow");
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
    /// What waits to be told: notes with their bodies, and how many were left out. For those who listen here instead of at the agent.
    pub(super) fn take(&mut self) -> (Vec<Overheard>, u64) {
        let gathered = std::mem::take(&mut *self.state.gathered());
        let mut taken: Vec<_> =
            gathered.into_iter().map(|passed| (Note::Passed(passed), Vec::new(), Vec::new())).collect();
        while let Ok(Told { note, bodies }) = self.queue.try_recv() {
            let (request, answer) = bodies.map_or_else(Default::default, |bodies| {
                (bodies.request.whole().to_vec(), bodies.answer.whole().to_vec())
            });
            taken.push((note, request, answer));
        }
        (taken, self.state.missed.swap(0, Ordering::Relaxed))
    }

    /// Writes notes until writing fails.
    pub(super) async fn write(&mut self, to: &mut OwnedWriteHalf) -> io::Error {
        // They are about an agent that is no more.
        while let Ok(told) = self.queue.try_recv() {
            self.state.miss(usize::from(matches!(told.note, Note::Passed(_))));
        }
        self.state.miss(std::mem::take(&mut *self.state.gathered()).len());
        let _heard = Heard::by(&self.state);
        let flush = sleep(GATHER);
        tokio::pin!(flush);
        let mut gathering = false;
        loop {
            let written = tokio::select! {
                told = self.queue.recv() => match told {
                    Some(told) => self.write_one(told, to).await,
                    // The proxies have ended; when the agent has, too, is for others to see.
                    None => std::future::pending().await,
                },
                () = self.state.gathering.notified(), if !gathering => {
                    gathering = true;
                    flush.set(sleep(GATHER));
                    Ok(())
                }
                () = &mut flush, if gathering => {
                    gathering = false;
                    self.write_gathered(to).await
                }
            };
            if let Err(error) = written {
                return error;
            }
        }
    }

    async fn write_gathered(&self, to: &mut OwnedWriteHalf) -> io::Result<()> {
        let gathered = std::mem::take(&mut *self.state.gathered());
        let mut bytes = self.missed()?;
        for passed in gathered {
            bytes.extend(framed(&Note::Passed(passed))?);
        }
        to.write_all(&bytes).await
    }

    async fn write_one(&self, Told { note, bodies }: Told, to: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut bytes = self.missed()?;
        bytes.extend(framed(&note)?);
        to.write_all(&bytes).await?;
        let Some(Bodies { request, answer, place }) = bodies else { return Ok(()) };
        to.write_all(request.whole()).await?;
        to.write_all(answer.whole()).await?;
        drop(place);
        Ok(())
    }

    /// How many were left out, where any were.
    fn missed(&self) -> io::Result<Vec<u8>> {
        match self.state.missed.swap(0, Ordering::Relaxed) {
            0 => Ok(Vec::new()),
            missed => framed(&Note::Missed(missed)),
        }
    }
}
