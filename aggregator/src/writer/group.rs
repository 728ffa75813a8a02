//! Commands, their answers, and how they are gathered into one commit.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};

use driftglass_protocol::id::{CameraId, DeviceId};
use driftglass_protocol::session::Hello;
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Settings;
use crate::alert::{Alert, Judgement};
use crate::decision::{Order, OrderError};
use crate::ledger::Outcome;
use crate::store::{Greeting, Registry, StoreError};

/// In how many pieces the wait for a group is cut; see [`gather`].
const SLICES: u32 = 64;

/// An answer that is known before the commit and leaves after it.
#[derive(Debug)]
pub(super) struct Reply<T> {
    sender: oneshot::Sender<T>,
    value: Option<T>,
}

impl<T> Reply<T> {
    pub(super) const fn new(sender: oneshot::Sender<T>) -> Self {
        Self { sender, value: None }
    }

    /// Sets the answer that leaves if the commit succeeds.
    pub(super) fn set(&mut self, value: T) {
        self.value = Some(value);
    }

    /// Sends the answer set, after the commit. A caller that went away has no need of it.
    pub(super) fn send(self) {
        if let Some(value) = self.value {
            drop(self.sender.send(value));
        }
    }

    /// Sends another answer instead, after a failure.
    pub(super) fn send_instead(self, value: T) {
        drop(self.sender.send(value));
    }
}

/// Work on the registry of identities; what it is, and what it answers, only its author knows.
pub(super) trait Task: fmt::Debug + Send {
    /// Does it, within the transaction.
    fn run(&mut self, registry: &mut dyn Registry, now: UnixMillis) -> Result<(), StoreError>;
    /// Answers after the commit.
    fn answer(self: Box<Self>);
    /// Says that nothing happened.
    fn fail(self: Box<Self>);
}

pub(super) struct RegistryTask<T, F> {
    work: Option<F>,
    answer: Reply<Option<T>>,
}

impl<T, F> RegistryTask<T, F> {
    pub(super) const fn new(work: F, answer: oneshot::Sender<Option<T>>) -> Self {
        Self { work: Some(work), answer: Reply::new(answer) }
    }
}

impl<T, F> fmt::Debug for RegistryTask<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryTask").finish_non_exhaustive()
    }
}

impl<T, F> Task for RegistryTask<T, F>
where
    T: Send,
    F: FnOnce(&mut dyn Registry, UnixMillis) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, registry: &mut dyn Registry, now: UnixMillis) -> Result<(), StoreError> {
        if let Some(work) = self.work.take() {
            self.answer.set(Some(work(registry, now)?));
        }
        Ok(())
    }

    fn answer(self: Box<Self>) {
        self.answer.send();
    }

    fn fail(self: Box<Self>) {
        self.answer.send_instead(None);
    }
}

/// What the writer can be asked.
#[derive(Debug)]
pub(super) enum Command {
    /// Judge a record.
    Submit { device: DeviceId, frame: Vec<u8>, answer: Reply<Outcome> },
    /// Read a mark.
    Mark { device: DeviceId, answer: Reply<Option<Mark>> },
    /// Note a greeting.
    Hello { hello: Box<Hello>, answer: Reply<Option<Greeting>> },
    /// Forget a few of the oldest windows.
    Forget { before: UnixMillis, answer: Reply<Option<u64>> },
    /// Take an operator's verdict on an alert; the inner `None` says that there is no such alert.
    Judge { alert: u64, judgement: Judgement, answer: Reply<Option<Option<Box<Alert>>>> },
    /// Do what an operator wants of a camera's baseline.
    Order { camera: Box<CameraId>, order: Box<Order>, answer: Reply<Option<Result<(), OrderError>>> },
    /// Look up or change identities.
    Identity { task: Box<dyn Task> },
}

impl Command {
    /// Answers after the commit.
    pub(super) fn answer(self) {
        match self {
            Self::Submit { answer, .. } => answer.send(),
            Self::Mark { answer, .. } => answer.send(),
            Self::Hello { answer, .. } => answer.send(),
            Self::Forget { answer, .. } => answer.send(),
            Self::Judge { answer, .. } => answer.send(),
            Self::Order { answer, .. } => answer.send(),
            Self::Identity { task } => task.answer(),
        }
    }
}

/// A command with its place in the queue, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) command: Command,
    pub(super) _room: OwnedSemaphorePermit,
}

/// Waits for a first command and gathers those that follow closely; `None` when no handle is left.
///
/// A group is closed when it is full, when nothing has come for one slice of the wait, or when all slices are used up. Each wait
/// uses up a whole slice however soon it ends, so the first command waits for `group_wait` at most, without any clock being read:
/// the deadline is the queue's own `recv_timeout`. That is in order here because the deadline only decides how many records share
/// one commit. It reaches neither a decision nor anything stored, so replay and simulation are not affected by it.
pub(super) fn gather(commands: &Receiver<Queued>, settings: &Settings) -> Option<Vec<Queued>> {
    let mut group = vec![commands.recv().ok()?];
    let slice = settings.group_wait / SLICES;
    let mut slices = SLICES;
    while group.len() < settings.group_records {
        match commands.try_recv() {
            Ok(command) => group.push(command),
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) if slices == 0 => break,
            Err(TryRecvError::Empty) => {
                slices -= 1;
                match commands.recv_timeout(slice) {
                    Ok(command) => group.push(command),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
        }
    }
    Some(group)
}
