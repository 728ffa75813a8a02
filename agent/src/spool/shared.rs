//! What the writer (pipeline thread) and the reader (uplink) both know: which segments there are and how far they are committed.
//!
//! The lock is held for a few assignments, never across a read, a write or a flush.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use driftglass_protocol::wire::Mark;
use tokio::sync::Notify;

use super::format::{self, SEGMENT};

/// One segment as far as it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Committed bytes; what follows in the file is not ours to read.
    pub(super) length: u64,
    /// The last record written before it.
    pub(super) after: Mark,
    /// The last record in it, or `after`.
    pub(super) last: Mark,
    /// Records in it.
    pub(super) records: u64,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) segments: VecDeque<Segment>,
    pub(super) acknowledged: Mark,
}

/// The common knowledge; shared behind an `Arc`.
#[derive(Debug)]
pub struct Shared {
    pub(super) folder: PathBuf,
    pub(super) max_bytes: u64,
    index: Mutex<Index>,
    appended: Notify,
}

impl Shared {
    pub(super) fn new(folder: PathBuf, max_bytes: u64, index: Index) -> Self {
        Self { folder, max_bytes, index: Mutex::new(index), appended: Notify::new() }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // Every change under the lock is complete in itself, so a thread that died holding it left nothing half done.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something was appended since the last wait.
    pub async fn appended(&self) {
        self.appended.notified().await;
    }

    pub(super) fn announce(&self) {
        self.appended.notify_one();
    }

    /// Committed bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.index().segments.iter().map(|segment| segment.length).sum()
    }

    /// The limit in bytes.
    #[must_use]
    pub const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Records that are committed and not acknowledged.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let index = self.index();
        let acknowledged = index.acknowledged;
        index.segments.iter().map(|segment| segment.pending(acknowledged)).sum()
    }

    /// Everything known to be durable at the centre.
    #[must_use]
    pub fn acknowledged(&self) -> Mark {
        self.index().acknowledged
    }

    /// The aggregator has everything up to `mark`: segments that hold nothing else are deleted, oldest first. Only the uplink calls
    /// this, with what an aggregator said.
    pub fn acknowledge(&self, mark: Mark) {
        loop {
            let gone = {
                let mut index = self.index();
                index.acknowledged = index.acknowledged.max(mark);
                // The last segment is the one being written, and holds every camera's position.
                match index.segments.front() {
                    Some(front) if index.segments.len() > 1 && front.last <= index.acknowledged => {
                        index.segments.pop_front()
                    }
                    _ => None,
                }
            };
            let Some(segment) = gone else { return };
            let path = format::path(&self.folder, segment.number, SEGMENT);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an acknowledged segment could not be deleted; it is sent again at the next start");
            }
        }
    }
}

impl Segment {
    fn pending(&self, acknowledged: Mark) -> u64 {
        if self.last <= acknowledged {
            0
        } else if self.last.epoch == acknowledged.epoch {
            self.records.min(self.last.sequence.saturating_sub(acknowledged.sequence))
        } else {
            self.records
        }
    }
}
