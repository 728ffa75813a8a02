//! What the writer (pipeline thread) and the reader (uplink) both know: which segments there are, how far they are committed, and
//! which of them were ever offered to a connection.
//!
//! The lock is held for a few assignments, never across a read, a write or a flush.
//!
//! The claim: before anything of a segment is sent, its number is made durable as claimed. What is claimed keeps its numbers for
//! good; only what is not may be merged, after any number of restarts. It is one small file, written once a segment; losing it costs
//! resolution and nothing else, because everything then counts as claimed.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driftglass_protocol::wire::Mark;
use tokio::sync::Notify;

use super::disk::{Disk, replace};
use super::epoch::{EpochError, raise_epoch};
use super::format::{self, CLAIMED, SEGMENT};
use super::rebase::Rebase;

/// One segment as far as it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Grows when the file gets other content.
    pub(super) version: u32,
    /// Committed bytes; what follows in the file is not ours to read.
    pub(super) length: u64,
    /// The last record written before it.
    pub(super) after: Mark,
    /// The last record in it, or `after`.
    pub(super) last: Mark,
    /// Windows its records stand for.
    pub(super) windows: u64,
    /// How coarse it is: the logarithm of windows per record; [`Segment::GRAVE`] where only tombstones are left.
    pub(super) level: u8,
    /// Cannot be merged any further.
    pub(super) finest: bool,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) segments: VecDeque<Segment>,
    pub(super) acknowledged: Mark,
    /// An aggregator has told this process how far it has counted.
    pub(super) welcomed: bool,
    /// The highest mark handed to a connection by this process.
    pub(super) sent: Mark,
    /// Number of the last segment of which something may have been sent, in this start or an earlier one.
    pub(super) claimed: u64,
    /// The same as far as it is durable.
    pub(super) claim_stored: u64,
    /// Segments, first and last number, that get other content just now, or whose content is in doubt: not to be read.
    pub(super) busy: Option<(u64, u64)>,
}

impl Index {
    pub(super) fn is_busy(&self, number: u64) -> bool {
        self.busy.is_some_and(|(first, last)| (first..=last).contains(&number))
    }
}

/// What became of windows for want of space; grows only.
#[derive(Debug, Default)]
pub struct Relief {
    /// Records that went into others.
    pub merged: AtomicU64,
    /// Windows given up, for which a tombstone stands.
    pub buried: AtomicU64,
}

/// The common knowledge; shared behind an `Arc`.
#[derive(Debug)]
pub struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) state_dir: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) max_bytes: u64,
    beginning: Beginning,
    relief: Relief,
    index: Mutex<Index>,
    appended: Notify,
}

/// How this start began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    /// Its epoch.
    pub(super) epoch: u32,
    /// The last record known then.
    pub(super) previous: Mark,
    /// Nothing was ever acknowledged to this spool, nor offered: it began empty, and all that is in it is undelivered.
    pub(super) fresh: bool,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        state_dir: PathBuf,
        max_bytes: u64,
        beginning: Beginning,
        index: Index,
    ) -> Self {
        let folder = state_dir.join(super::FOLDER);
        let (relief, index, appended) = (Relief::default(), Mutex::new(index), Notify::new());
        Self { disk, state_dir, folder, max_bytes, beginning, relief, index, appended }
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

    /// What was merged and given up for want of space.
    #[must_use]
    pub const fn relief(&self) -> &Relief {
        &self.relief
    }

    pub(super) fn note_relief(&self, merged: u64, buried: u64) {
        self.relief.merged.fetch_add(merged, Ordering::Relaxed);
        self.relief.buried.fetch_add(buried, Ordering::Relaxed);
    }

    /// Windows that are committed and not acknowledged.
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

    /// The last record that is committed here, acknowledged or not.
    #[must_use]
    pub fn appended_up_to(&self) -> Mark {
        self.index().segments.back().map(|segment| segment.last).unwrap_or_default()
    }

    /// The aggregator says at the beginning of a session that it has everything up to `mark`.
    pub fn welcome(&self, mark: Mark) {
        self.index().welcomed = true;
        self.acknowledge(mark);
    }

    /// The aggregator has everything up to `mark`: segments that hold nothing else are deleted, oldest first. Only the uplink calls
    /// this, with what an aggregator said.
    pub fn acknowledge(&self, mark: Mark) {
        loop {
            let gone = {
                let mut index = self.index();
                index.acknowledged = index.acknowledged.max(mark);
                let busy = index.segments.front().is_some_and(|front| index.is_busy(front.number));
                // The last segment is the one being written, and holds every camera's position.
                match index.segments.front() {
                    Some(front) if index.segments.len() > 1 && front.last <= index.acknowledged && !busy => {
                        index.segments.pop_front()
                    }
                    _ => None,
                }
            };
            let Some(segment) = gone else { return };
            let path = format::path(&self.folder, segment.number, SEGMENT);
            if let Err(error) = self.disk.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "an acknowledged segment could not be deleted; it is sent again at the next start");
            }
        }
    }

    /// Claims a segment before the first record of it is sent; false while its content is being changed.
    pub(super) fn claim(&self, number: u64) -> io::Result<bool> {
        let stored = {
            let mut index = self.index();
            if index.is_busy(number) {
                return Ok(false);
            }
            index.claimed = index.claimed.max(number);
            index.claim_stored
        };
        if stored < number {
            store_claim(self.disk.as_ref(), &self.folder, number)?;
            tracing::debug!(number, "segment claimed");
            self.index().claim_stored = number;
        }
        Ok(true)
    }

    /// A record was handed to a connection.
    pub(crate) fn note_sent(&self, mark: Mark) {
        let mut index = self.index();
        index.sent = index.sent.max(mark);
    }

    /// The aggregator has counted an epoch beyond this start's: the next start takes one beyond it, and moves what is certainly
    /// undelivered into its own epoch, where it is not taken for a repetition.
    ///
    /// # Errors
    /// [`EpochError::Store`]; the aggregator will then say the same again.
    pub fn fall_behind(&self, floor: Mark) -> Result<(), EpochError> {
        let Beginning { epoch, previous, fresh } = self.beginning;
        let rebase = {
            let index = self.index();
            // What this process sent in vain stands between what is known to have arrived and what is known not to have.
            let (counted, sent) = match (index.welcomed, fresh) {
                (true, _) => (index.acknowledged, index.sent.max(index.acknowledged)),
                (false, true) => (Mark::default(), Mark::default()),
                // It began with the remains of an earlier life, which may have been delivered by another copy of it.
                (false, false) => {
                    let claimed = index.segments.iter().filter(|segment| segment.number <= index.claimed);
                    let counted = claimed.map(|segment| segment.last).max().unwrap_or_default();
                    (counted.min(previous), previous)
                }
            };
            if floor.epoch < epoch {
                // The epoch is another's, who has not been counted in it either; earlier ones go their way.
                Rebase { begin: epoch, floor: Mark { epoch, sequence: 0 }, counted: Mark::default(), sent: index.sent }
            } else {
                Rebase { begin: 0, floor, counted, sent }
            }
        };
        rebase.store(self.disk.as_ref(), &self.state_dir)?;
        raise_epoch(self.disk.as_ref(), &self.state_dir, rebase.floor.epoch)
    }
}

impl Segment {
    /// The level of a segment that holds tombstones only.
    pub(super) const GRAVE: u8 = u8::MAX;

    pub(super) fn level_of(windows: u64, records: u64) -> u8 {
        windows
            .checked_div(records)
            .and_then(u64::checked_ilog2)
            .and_then(|level| u8::try_from(level).ok())
            .unwrap_or(0)
    }

    fn pending(&self, acknowledged: Mark) -> u64 {
        if self.last <= acknowledged {
            0
        } else if self.last.epoch == acknowledged.epoch {
            self.windows.min(self.last.sequence.saturating_sub(acknowledged.sequence))
        } else {
            self.windows
        }
    }
}

/// The number twice, so that a flipped bit shows. `None` where nothing can be made of it.
pub(super) fn stored_claim(disk: &dyn Disk, folder: &Path) -> Option<u64> {
    let bytes = disk.read(&folder.join(CLAIMED), 64).ok()?;
    let mut numbers = std::str::from_utf8(&bytes).ok()?.split_ascii_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(second)), None) if first == second => Some(first),
        _ => None,
    }
}

pub(super) fn store_claim(disk: &dyn Disk, folder: &Path, number: u64) -> io::Result<()> {
    let path = folder.join(CLAIMED);
    let text = format!("{number:020} {number:020}\n");
    // In place, which needs no room on a full disk: a torn write is seen, and costs resolution only.
    let in_place = disk.edit(&path).and_then(|file| file.write_all_at(text.as_bytes(), 0).and_then(|()| file.sync()));
    match in_place {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "the claim is written anew");
            replace(disk, &path, text.as_bytes()).map_err(|error| error.source)
        }
    }
}
