//! Recovery: from whatever lies in the folder to a spool that works. The cases are those of the table in the parent module.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, Kind, Mark, Record, RecordId, Tombstone, TombstoneCause};
use thiserror::Error;

use super::epoch::{EpochError, next_epoch};
use super::format::{self, CameraCheckpoint, Checkpoint, DAMAGED, Head, SEGMENT};
use super::scan::{Item, Scan, scan};
use super::shared::{Index, Segment, Shared};
use super::writer::{AppendError, Start, Writer, push};

/// Largest file that is taken for a segment; a writer never comes near it.
const SEGMENT_BYTES_READ: u64 = 16 * 1024 * 1024;

/// Where the spool lies and what it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's state folder; it holds the epoch, and the spool as a folder of its own.
    pub state_dir: PathBuf,
    /// The device whose records these are.
    pub device: DeviceId,
    /// Limit of the segments together, in bytes.
    pub max_bytes: u64,
}

/// A spool ready for use.
#[derive(Debug)]
pub struct Opened {
    /// The writing end; also knows how far each camera is committed.
    pub writer: Writer,
    /// What both ends know.
    pub shared: Arc<Shared>,
}

/// Why there is no spool. Damage is never a reason.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder cannot be made or listed.
    #[error("the spool folder {path} cannot be used: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("the spool {path} is in use by another agent: stop it, or give this one a state_dir of its own")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// No epoch.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The first segment could not be written.
    #[error(transparent)]
    Write(#[from] AppendError),
}

/// Recovers the spool and begins a new epoch in it.
///
/// # Errors
/// One variant of [`OpenError`] per cause.
pub fn open(settings: Settings, unix_seconds: u64) -> Result<Opened, OpenError> {
    let folder = settings.state_dir.join(super::FOLDER);
    let unusable = |source| OpenError::Folder { path: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(unusable)?;
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).open(folder.join("lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: folder }),
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    let numbers = numbers(&folder, SEGMENT).map_err(unusable)?;
    let mut recovery =
        Recovery { folder: folder.clone(), device: Some(settings.device.clone()), ..Recovery::default() };
    for (index, &number) in numbers.iter().enumerate() {
        recovery.segment(number, index + 1 == numbers.len());
    }
    prune_damaged(&folder);

    let previous = recovery.chain.last.unwrap_or_default();
    let epoch = next_epoch(&settings.state_dir, recovery.epoch.max(previous.epoch), unix_seconds)?;
    let acknowledged = recovery.segments.front().map_or(previous, |segment| segment.after);
    let index = Index { segments: recovery.segments, acknowledged };
    let shared = Arc::new(Shared::new(folder, settings.max_bytes, index));
    let start = Start {
        device: settings.device,
        epoch,
        previous,
        next_number: numbers.last().map_or(1, |last| last + 1),
        cameras: recovery.cameras,
        lock,
    };
    let writer = Writer::begin(Arc::clone(&shared), start)?;
    Ok(Opened { writer, shared })
}

fn numbers(folder: &Path, extension: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        numbers.extend(format::number(&entry?.path(), extension));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn prune_damaged(folder: &Path) {
    let damaged = numbers(folder, DAMAGED).unwrap_or_default();
    for &number in damaged.iter().rev().skip(super::DAMAGED_KEPT) {
        if let Err(error) = fs::remove_file(format::path(folder, number, DAMAGED)) {
            tracing::debug!(number, %error, "a segment kept aside could not be deleted");
        }
    }
}

/// The sequence of records as far as it has been walked.
#[derive(Debug, Default)]
struct Chain {
    last: Option<Mark>,
    previous: Mark,
    time: UnixMillis,
}

impl Chain {
    /// Moves to `mark`, which is known to have existed; returns a tombstone where the way there is missing.
    fn advance(&mut self, mark: Mark, time: Option<UnixMillis>) -> Option<Record<'static>> {
        let last = self.last.replace(self.last.map_or(mark, |last| last.max(mark)))?;
        if mark <= last || mark.sequence == 0 {
            return None;
        }
        let (first, previous) = if mark.epoch == last.epoch { (last.sequence + 1, self.previous) } else { (1, last) };
        self.previous = previous;
        let to = time.unwrap_or(self.time);
        let tombstone = Tombstone { cause: TombstoneCause::Damaged, from: self.time.min(to), to };
        let id = RecordId { epoch: mark.epoch, first, last: mark.sequence };
        Some(Record { id, previous, body: Body::Tombstone(tombstone) })
    }

    /// Walks over a record; returns the tombstones that belong before it.
    fn record(&mut self, id: RecordId, previous: Mark, from: UnixMillis, to: UnixMillis) -> Vec<Record<'static>> {
        let mut tombstones = Vec::new();
        if self.last.is_none_or(|last| id.mark() > last) {
            if self.last.is_some_and(|last| last.epoch != id.epoch) {
                tombstones.extend(self.advance(previous, Some(from)));
            }
            if id.first > 1 {
                tombstones.extend(self.advance(Mark { epoch: id.epoch, sequence: id.first - 1 }, Some(from)));
            }
            self.last = Some(id.mark());
            self.previous = previous;
        }
        self.time = self.time.max(to);
        tombstones
    }
}

#[derive(Debug, Default)]
struct Recovery {
    folder: PathBuf,
    device: Option<DeviceId>,
    chain: Chain,
    epoch: u32,
    cameras: BTreeMap<Name, CameraCheckpoint>,
    segments: VecDeque<Segment>,
}

impl Recovery {
    fn segment(&mut self, number: u64, last: bool) {
        let path = format::path(&self.folder, number, SEGMENT);
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(case = "H", path = %path.display(), %error, "a spool segment cannot be read");
                return;
            }
        };
        let found = scan(&bytes);
        if let Some(owner) = foreign(&found, self.device.as_ref()) {
            tracing::error!(case = "F", path = %path.display(), %owner, "a spool segment belongs to another device");
            self.set_aside(number);
            return;
        }
        let length = if last { self.cut(&path, &bytes, &found) } else { found.whole };
        if length == 0 {
            if !bytes.is_empty() {
                tracing::warn!(case = "E", path = %path.display(), "a spool segment holds nothing whole");
            }
            self.set_aside(number);
            return;
        }
        self.take(number, &path, &bytes[..length], &found);
    }

    /// Cases B and C: where the last segment's last whole batch ends; the file is cut there and flushed, because what is about to be
    /// sent may so far exist in the system's memory only.
    fn cut(&self, path: &Path, bytes: &[u8], found: &Scan) -> usize {
        let length = committed(found);
        if length < bytes.len() {
            tracing::warn!(case = "B", path = %path.display(), cut = bytes.len() - length, "the spool ends in an unfinished batch; its files are read again");
        }
        let flush = || {
            let file = OpenOptions::new().write(true).open(path)?;
            if length < bytes.len() {
                file.set_len(length as u64)?;
            }
            file.sync_all()
        };
        if let Err(error) = flush() {
            tracing::error!(path = %path.display(), %error, "the end of the spool could not be flushed");
        }
        length
    }

    /// Takes a segment over; rewrites it where something is missing (case D).
    fn take(&mut self, number: u64, path: &Path, bytes: &[u8], found: &Scan) {
        let after = self.chain.last;
        let mut whole = Vec::with_capacity(bytes.len());
        let (mut records, mut lost) = (0, 0);
        let mut first_after = None;
        for located in &found.items {
            if located.range.end > bytes.len() {
                break;
            }
            let tombstones = match &located.item {
                Item::Head(head) => {
                    self.epoch = self.epoch.max(head.epoch);
                    first_after.get_or_insert(head.after);
                    self.chain.advance(head.after, None).into_iter().collect()
                }
                Item::Record { id, previous, from, to } => {
                    self.epoch = self.epoch.max(id.epoch);
                    records += 1;
                    self.chain.record(*id, *previous, *from, *to)
                }
                Item::Checkpoint(checkpoint) => {
                    self.remember(checkpoint);
                    self.chain.advance(checkpoint.through, None).into_iter().collect()
                }
            };
            for tombstone in &tombstones {
                records += 1;
                lost += tombstone.id.last - tombstone.id.first + 1;
                tracing::error!(case = "D", path = %path.display(), epoch = tombstone.id.epoch, first = tombstone.id.first,
                    last = tombstone.id.last, "windows are lost to damage in the spool; a tombstone stands for them");
                if let Err(error) = push(Kind::Record, tombstone, &mut whole) {
                    tracing::error!(%error, "a tombstone could not be written");
                }
            }
            if let Some(frame) = bytes.get(located.range.clone()) {
                whole.extend_from_slice(frame);
            }
        }
        let damaged = found.damaged.iter().any(|range| range.end <= bytes.len());
        let mut length = bytes.len() as u64;
        if damaged || lost > 0 {
            match self.rewrite(number, path, &whole) {
                Ok(()) => length = whole.len() as u64,
                // The reader meets the same damage and says so; the aggregator is told of the gap by the uplink.
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a damaged spool segment could not be rewritten")
                }
            }
        }
        let last = self.chain.last.unwrap_or_default();
        let after = after.or(first_after).unwrap_or_default();
        self.segments.push_back(Segment { number, length, after, last, records });
    }

    fn remember(&mut self, checkpoint: &Checkpoint) {
        for camera in &checkpoint.cameras {
            let mut camera = camera.clone();
            if camera.state.is_none() {
                camera.state = self.cameras.get(&camera.camera).and_then(|known| known.state.clone());
            }
            self.cameras.insert(camera.camera.clone(), camera);
        }
    }

    fn rewrite(&self, number: u64, path: &Path, whole: &[u8]) -> io::Result<()> {
        fs::copy(path, format::path(&self.folder, number, DAMAGED))?;
        let temporary = format::path(&self.folder, number, "tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(whole)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn set_aside(&self, number: u64) {
        let from = format::path(&self.folder, number, SEGMENT);
        if let Err(error) = fs::rename(&from, format::path(&self.folder, number, DAMAGED)) {
            tracing::error!(path = %from.display(), %error, "a spool segment could not be set aside");
        }
    }
}

fn foreign<'a>(found: &'a Scan, device: Option<&DeviceId>) -> Option<&'a DeviceId> {
    found.items.iter().find_map(|located| match &located.item {
        Item::Head(Head { device: owner, .. }) if Some(owner) != device => Some(owner),
        _ => None,
    })
}

/// End of the last batch that is certainly committed. Batches are flushed one by one, so only the very last one may be incomplete
/// without the disk being at fault.
fn committed(found: &Scan) -> usize {
    // End of the last checkpoint whose batch is whole, of the last one at all, and whether they are the same.
    let mut before = 0;
    let mut newest = (0, true);
    let mut records: Vec<(RecordId, usize)> = Vec::new();
    for located in &found.items {
        match &located.item {
            Item::Head(_) => {}
            Item::Record { id, .. } => records.push((*id, located.range.start)),
            Item::Checkpoint(checkpoint) => {
                before = newest.0;
                let batch: Vec<_> = records.iter().filter(|(id, _)| id.mark() > checkpoint.after).collect();
                let start = match (batch.first(), batch.last()) {
                    (Some((first, start)), Some((last, _)))
                        if last.mark() == checkpoint.through
                            && (first.first == 1 || first.first == checkpoint.after.sequence + 1) =>
                    {
                        Some(*start)
                    }
                    _ if checkpoint.after == checkpoint.through => Some(located.range.start),
                    _ => None,
                };
                let whole = start.is_some_and(|start| {
                    !found.damaged.iter().any(|range| range.end > start && range.end <= located.range.end)
                });
                newest = (located.range.end, whole);
                records.clear();
            }
        }
    }
    if newest.1 { newest.0 } else { before }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > SEGMENT_BYTES_READ {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes")));
    }
    fs::read(path)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
