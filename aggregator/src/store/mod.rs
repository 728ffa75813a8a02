//! What is kept, and the one trait through which it is kept.
//!
//! Must hold: the mark of a device moves in the same transaction as everything its record causes, and only from the value that the
//! record was judged against; what is not committed never happened.
//!
//! Deliberately absent: queries for people. The HTTP interface reads through [`embedded::Reader`], on a connection of its own, so
//! that a slow page never delays an acknowledgement.

mod configuration;
pub mod embedded;
mod registry;

use std::path::PathBuf;

use driftglass_protocol::id::{CameraId, DeviceId};
use driftglass_protocol::session::Hello;
use driftglass_protocol::session::chain::Verdict;
use driftglass_protocol::summary::Summary;
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Mark, RecordId, Tombstone};
use thiserror::Error;

pub use configuration::{Configurations, Desired, Scope};
pub use registry::{IdentityAction, Registry};

use crate::alert::Alert;
use crate::decision::{Change, History};

/// Why the store cannot do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or folder cannot be created or opened.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("{path} is in use by another aggregator")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The file is a database of some other program.
    #[error("{path} is not a driftglass database (application id {found:#010x})")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The application id found.
        found: i32,
    },
    /// The file was written by a newer release.
    #[error(
        "the database has version {found}, this release knows versions up to {known}; install the newer release again"
    )]
    Newer {
        /// Version found.
        found: usize,
        /// Newest version known.
        known: usize,
    },
    /// The engine refused, failed, or has no room left.
    #[error("{doing}: {source}")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored value is not what was written.
    #[error("{what} as stored cannot be read: {detail}")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The mark is no longer the one that the record was judged against: somebody else writes to this store.
    #[error("the mark of {device} is no longer {judged}")]
    MarkMoved {
        /// The device.
        device: Box<DeviceId>,
        /// The mark judged against.
        judged: Mark,
    },
}

/// How long the instance that owns an epoch may be silent before another one that claims it is no longer kept waiting; milliseconds.
/// Longer than an agent's longest pause between two attempts, so that a living owner is always heard in it.
pub const OWNER_SILENT_MS: u64 = 10 * 60 * 1000;

/// What the store says to a device that greets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Everything up to here is durable.
    pub mark: Mark,
    /// Whether it may go on.
    pub standing: Standing,
}

/// Who greeted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// Its epoch.
    pub epoch: u32,
    /// The random number of its process.
    pub instance: u64,
    /// When something was last heard of it.
    pub heard: UnixMillis,
}

/// Whether an instance may speak for its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    #[default]
    Welcome,
    /// Another living instance owns the epoch: one of the two is a copy, and the later one is kept out.
    Cloned,
    /// The epoch belonged to an instance that has been silent for long: a state folder was restored. It needs an epoch of its own.
    Spent,
}

impl Standing {
    /// An epoch is taken once and belongs to the process that took it: the first to greet in it. What another one numbers in it would be
    /// taken for the first one's records, so nothing of it may be counted.
    #[must_use]
    pub const fn judge(before: Option<Greeted>, hello: &Hello, now: UnixMillis) -> Self {
        match before {
            Some(owner) if owner.epoch == hello.epoch && owner.instance != hello.instance => {
                if now.since(owner.heard) < OWNER_SILENT_MS { Self::Cloned } else { Self::Spent }
            }
            _ => Self::Welcome,
        }
    }
}

/// One thing kept from before, handed out by [`Store::restore`].
#[derive(Debug)]
pub enum Saved {
    /// A camera's state and the baseline in force.
    Camera {
        /// The camera.
        camera: CameraId,
        /// Its state, as the core left it.
        state: Vec<u8>,
        /// Version and bytes of the baseline in force; none while it learns.
        baseline: Option<(u32, Vec<u8>)>,
    },
    /// An alert that is not resolved.
    Alert(Alert),
    /// The largest number given to an alert, resolved ones included; 0 where there was none. Comes once, last.
    LastAlert(u64),
}

/// A durable store with one writer.
pub trait Store {
    /// A transaction; dropped without commit, it never happened.
    type Batch<'a>: Batch
    where
        Self: 'a;

    /// Begins a transaction. There is only ever one.
    ///
    /// # Errors
    /// Where the engine cannot begin.
    fn begin(&mut self) -> Result<Self::Batch<'_>, StoreError>;

    /// Hands everything the core needs after a restart to `each`, camera by camera.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn restore(&mut self, each: &mut dyn FnMut(Saved)) -> Result<(), StoreError>;
}

/// Everything that happens within one transaction. Reads see what the same batch has written before.
pub trait Batch: History<Error = StoreError> {
    /// The mark of a device; the zero mark for one never heard of.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn mark(&self, device: &DeviceId) -> Result<Mark, StoreError>;

    /// Makes sure the device is known, and returns its mark.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    fn register(&mut self, device: &DeviceId, now: UnixMillis) -> Result<Mark, StoreError>;

    /// Notes that the device has greeted.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    fn greet(&mut self, hello: &Hello, now: UnixMillis) -> Result<Greeting, StoreError>;

    /// Notes a record of a registered device that was not accepted.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn count_unaccepted(&mut self, device: &DeviceId, verdict: Verdict, now: UnixMillis) -> Result<(), StoreError>;

    /// Keeps a window of a registered device, as the frame it came in, and adds it to the camera's totals.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn insert_window(
        &mut self,
        camera: &CameraId,
        summary: &Summary<'_>,
        frame: &[u8],
        now: UnixMillis,
    ) -> Result<(), StoreError>;

    /// Keeps the fact that windows of a registered device will never come.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn insert_tombstone(
        &mut self,
        device: &DeviceId,
        id: RecordId,
        tombstone: Tombstone,
        now: UnixMillis,
    ) -> Result<(), StoreError>;

    /// Keeps what the core decided.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn apply(&mut self, change: &Change) -> Result<(), StoreError>;

    /// An alert, open or over.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn alert(&self, id: u64) -> Result<Option<Alert>, StoreError>;

    /// Moves the mark of a registered device from `judged` to `next`.
    ///
    /// # Errors
    /// [`StoreError::MarkMoved`] where it is not at `judged`; otherwise where it cannot be written.
    fn set_mark(&mut self, device: &DeviceId, judged: Mark, next: Mark, now: UnixMillis) -> Result<(), StoreError>;

    /// Forgets the oldest windows and tombstones that start before `before`, at most `limit` of each, and returns how many.
    ///
    /// # Errors
    /// Where they cannot be deleted.
    fn forget_before(&mut self, before: UnixMillis, limit: u32) -> Result<u64, StoreError>;

    /// Makes everything durable.
    ///
    /// # Errors
    /// Where it could not be made durable; then none of it was done as far as this process is concerned. After a crash it may
    /// turn out to have been done, which the mark then says: the record is recognised when it comes again.
    fn commit(self) -> Result<(), StoreError>;
}
