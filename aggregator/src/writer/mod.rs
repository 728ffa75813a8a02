//! The one writer: a thread that owns the store and the decision core, and commits in groups.
//!
//! Must hold: an answer leaves only after the commit that contains it; after a failed commit nothing of the group is acknowledged
//! and the core is rebuilt from what is durable; the queue is bounded, and whoever submits waits (without blocking its thread) for
//! room in it.
//!
//! A thread and not a task, because SQLite blocks; one, because SQLite has one writer and the core's decisions have one order.

mod group;
#[cfg(test)]
mod tests;
mod thread;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use driftglass_protocol::id::{CameraId, DeviceId};
use driftglass_protocol::session::Hello;
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;
use thiserror::Error;
use tokio::sync::{Semaphore, broadcast, oneshot, watch};

use self::group::{Command, Queued, RegistryTask, Reply};
use self::thread::WriterThread;
#[cfg(test)]
pub(crate) use self::thread::restore;
use crate::alert::{Alert, Judgement};
use crate::decision::{Order, OrderError};
use crate::ledger::{Decide, Event, Outcome};
use crate::store::{Greeting, Registry, Store, StoreError};

/// The answer to a record in the queue: what became of it, once that is durable.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Outcome>);

impl Future for Ticket {
    type Output = Result<Outcome, WriterGone>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| WriterGone)
    }
}

/// How the writer groups and bounds its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most records in one commit.
    pub group_records: usize,
    /// Longest time that the first record of a group waits for others.
    pub group_wait: Duration,
    /// Commands waiting or being worked on, at most; each holds at most one frame.
    pub queue: usize,
    /// Events kept for a listener that lags behind, before it loses the oldest.
    pub events: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { group_records: 256, group_wait: Duration::from_millis(20), queue: 1024, events: 1024 }
    }
}

/// The writer has ended; the process is shutting down or has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the writer has ended")]
pub struct WriterGone;

/// Why the writer has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriterError {
    /// It has ended.
    #[error("the writer has ended")]
    Gone,
    /// The store cannot read or commit now; trying again later may succeed.
    #[error("the store is not available now")]
    Unavailable,
}

impl From<WriterGone> for WriterError {
    fn from(WriterGone: WriterGone) -> Self {
        Self::Gone
    }
}

/// What the writer has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Groups committed.
    pub commits: u64,
    /// Groups rolled back.
    pub failures: u64,
    /// Records accepted and durable.
    pub accepted: u64,
    /// Whether the last group that stored anything could be committed.
    pub healthy: bool,
}

/// A handle on the writer; clone it freely. The thread ends when the last handle is gone and its queue is empty.
#[derive(Clone)]
pub struct Writer {
    queue: SyncSender<Queued>,
    room: Arc<Semaphore>,
    events: broadcast::WeakSender<Event>,
    progress: watch::Receiver<Progress>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("room", &self.room.available_permits())
            .field("progress", &*self.progress.borrow())
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Restores the core and starts the thread. `fresh` makes an empty core, now and after a failed commit; `clock` is the
    /// aggregator's clock.
    ///
    /// # Errors
    /// Where the store cannot be read, or no thread can be started.
    pub fn start<S, D, F, C>(
        mut store: S,
        fresh: F,
        clock: C,
        settings: Settings,
    ) -> Result<(Self, JoinHandle<()>), StoreError>
    where
        S: Store + Send + 'static,
        for<'a> S::Batch<'a>: Registry,
        D: Decide + Send + 'static,
        F: Fn() -> D + Send + 'static,
        C: Fn() -> UnixMillis + Send + 'static,
    {
        let core = thread::restore(&mut store, &fresh)?;
        let capacity = settings.queue.max(1);
        let (queue, commands) = sync_channel(capacity);
        let (events, _) = broadcast::channel(settings.events.max(1));
        let (progress_sender, progress) = watch::channel(Progress { healthy: true, ..Progress::default() });
        let handle = Self { queue, room: Arc::new(Semaphore::new(capacity)), events: events.downgrade(), progress };
        let thread = WriterThread {
            store,
            core: Some(core),
            fresh,
            clock,
            settings,
            commands,
            events,
            progress: progress_sender,
        };
        let joined = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || thread.run())
            .map_err(|source| StoreError::Engine { doing: "starting the writer", source: Box::new(source) })?;
        Ok((handle, joined))
    }

    /// Hands in a whole wire frame from a device and waits until what became of it is durable.
    ///
    /// # Errors
    /// Where the writer has ended. A store that cannot commit is an answer:
    /// [`Outcome::Refused`] with [`RefuseReason::Unavailable`](driftglass_protocol::session::RefuseReason::Unavailable).
    pub async fn submit(&self, device: DeviceId, frame: Vec<u8>) -> Result<Outcome, WriterGone> {
        self.ask(|answer| Command::Submit { device, frame, answer: Reply::new(answer) }).await
    }

    /// The same in two steps, for a caller that hands in many: when this returns the record has its place in the queue, and
    /// records are judged in that order.
    ///
    /// # Errors
    /// Where the writer has ended.
    pub async fn enqueue(&self, device: DeviceId, frame: Vec<u8>) -> Result<Ticket, WriterGone> {
        self.send(|answer| Command::Submit { device, frame, answer: Reply::new(answer) }).await.map(Ticket)
    }

    /// The durable mark of a device; the zero mark for one never heard of.
    ///
    /// # Errors
    /// [`WriterError`], one variant per cause.
    pub async fn mark(&self, device: &DeviceId) -> Result<Mark, WriterError> {
        let device = device.clone();
        self.ask(|answer| Command::Mark { device, answer: Reply::new(answer) }).await?.ok_or(WriterError::Unavailable)
    }

    /// Registers the greeting of a device, whose identity has been compared with its certificate.
    ///
    /// # Errors
    /// [`WriterError`], one variant per cause.
    pub async fn hello(&self, hello: Hello) -> Result<Greeting, WriterError> {
        self.ask(|answer| Command::Hello { hello: Box::new(hello), answer: Reply::new(answer) })
            .await?
            .ok_or(WriterError::Unavailable)
    }

    /// Forgets all windows and tombstones that start before `before`, in small steps between which records are committed.
    /// Returns how many were forgotten. Totals, baselines and alerts stay.
    ///
    /// # Errors
    /// [`WriterError`], one variant per cause; what was forgotten until then stays forgotten.
    pub async fn forget_before(&self, before: UnixMillis) -> Result<u64, WriterError> {
        let mut forgotten = 0;
        loop {
            let step = self
                .ask(|answer| Command::Forget { before, answer: Reply::new(answer) })
                .await?
                .ok_or(WriterError::Unavailable)?;
            forgotten += step;
            if step == 0 {
                return Ok(forgotten);
            }
        }
    }

    /// Takes an operator's verdict on an alert and returns the alert as it is then; `None` where there is no such alert.
    ///
    /// # Errors
    /// [`WriterError`], one variant per cause; then nothing has happened.
    pub async fn judge(&self, alert: u64, judgement: Judgement) -> Result<Option<Alert>, WriterError> {
        let judged = self.ask(|answer| Command::Judge { alert, judgement, answer: Reply::new(answer) }).await?;
        Ok(judged.ok_or(WriterError::Unavailable)?.map(|alert| *alert))
    }

    /// Does what an operator wants of a camera's baseline; the inner error says why not, and then nothing has happened either.
    ///
    /// # Errors
    /// [`WriterError`], one variant per cause; then nothing has happened.
    pub async fn order(&self, camera: &CameraId, order: Order) -> Result<Result<(), OrderError>, WriterError> {
        let (camera, order) = (Box::new(camera.clone()), Box::new(order));
        self.ask(|answer| Command::Order { camera, order, answer: Reply::new(answer) })
            .await?
            .ok_or(WriterError::Unavailable)
    }

    /// Looks up or changes identities within a transaction; the answer leaves after its commit. `work` is given the aggregator's
    /// time.
    ///
    /// # Errors
    /// [`WriterError`], one variant per cause; then nothing has happened.
    pub async fn identities<T, F>(&self, work: F) -> Result<T, WriterError>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Registry, UnixMillis) -> Result<T, StoreError> + Send + 'static,
    {
        self.ask(|answer| Command::Identity { task: Box::new(RegistryTask::new(work, answer)) })
            .await?
            .ok_or(WriterError::Unavailable)
    }

    /// Everything that becomes durable from now on. A listener that falls too far behind is told how much it missed.
    ///
    /// # Errors
    /// Where the writer has ended.
    pub fn events(&self) -> Result<broadcast::Receiver<Event>, WriterGone> {
        self.events.upgrade().map(|events| events.subscribe()).ok_or(WriterGone)
    }

    /// What the writer has done, and whether the store is healthy; changes can be awaited.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Whether the last group that stored anything could be committed, and the writer still runs.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.progress.borrow().healthy && self.progress.has_changed().is_ok()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, WriterGone> {
        self.send(command).await?.await.map_err(|_| WriterGone)
    }

    async fn send<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<oneshot::Receiver<T>, WriterGone> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| WriterGone)?;
        let (sender, answer) = oneshot::channel();
        // There is a place for every permit, so the queue is never full here.
        self.queue.try_send(Queued { command: command(sender), _room: room }).map_err(|_| WriterGone)?;
        Ok(answer)
    }
}
