//! Recovery: from whatever lies in the folder to a spool that works. The cases are those of the table in the parent module.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, Kind, Mark, Record, RecordId, Tombstone, TombstoneCause};
use thiserror::Error;

use super::disk::{Disk, DiskFile, SystemDisk, is_full, read_patiently, replace};
use super::epoch::{EpochError, next_epoch};
use super::format::{self, CameraCheckpoint, Checkpoint, DAMAGED, Head, SEGMENT};
use super::reader::read_frame;
use super::rebase::{Rebase, Renumbering};
use super::scan::{Item, Scan, scan};
use super::shared::{Beginning, Index, Segment, Shared, store_claim, stored_claim};
use super::writer::{AppendError, Start, Writer, push};

/// Largest file that is taken for a segment; a writer never comes near it.
pub(super) const SEGMENT_BYTES_READ: u64 = 16 * 1024 * 1024;

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

/// Recovers the spool on the system's disk and begins a new epoch in it.
///
/// # Errors
/// One variant of [`OpenError`] per cause.
pub fn open(settings: Settings, unix_seconds: u64) -> Result<Opened, OpenError> {
    open_on(Arc::new(SystemDisk), settings, unix_seconds)
}

/// The same on any disk.
///
/// # Errors
/// One variant of [`OpenError`] per cause.
pub fn open_on(disk: Arc<dyn Disk>, settings: Settings, unix_seconds: u64) -> Result<Opened, OpenError> {
    let folder = settings.state_dir.join(super::FOLDER);
    let unusable = |source| OpenError::Folder { path: folder.clone(), source };
    disk.create_folder(&folder).map_err(unusable)?;
    let Some(lock) = disk.lock(&folder.join("lock")).map_err(unusable)? else {
        return Err(OpenError::InUse { path: folder });
    };
    let numbers = numbers(disk.as_ref(), &folder, SEGMENT).map_err(unusable)?;
    let mut recovery = Recovery::new(Arc::clone(&disk), folder.clone(), settings.device.clone());
    recovery.beginnings = Beginnings::read(disk.as_ref(), &folder, &numbers);
    for (index, &number) in numbers.iter().enumerate() {
        recovery.segment(number, index + 1 == numbers.len())?;
    }
    prune_damaged(disk.as_ref(), &folder);

    let last_number = numbers.last().copied().unwrap_or(0);
    let stored_claim = stored_claim(disk.as_ref(), &folder);
    // Where nothing is known of what was sent, everything may have been.
    let claimed = stored_claim.unwrap_or(last_number);
    if stored_claim.is_none()
        && let Err(error) = store_claim(disk.as_ref(), &folder, claimed)
    {
        tracing::warn!(%error, "the claim could not be stored; what is in the spool now will not be merged");
    }

    let previous = recovery.chain.last.unwrap_or_default();
    let rebase = Rebase::load(disk.as_ref(), &settings.state_dir);
    let seen = recovery.epoch.max(previous.epoch).max(rebase.map_or(0, |rebase| rebase.floor.epoch));
    let epoch = next_epoch(disk.as_ref(), &settings.state_dir, seen, unix_seconds)?;
    for segment in &recovery.segments {
        tracing::debug!(number = segment.number, after = %segment.after, last = %segment.last, length = segment.length, "segment found");
    }
    let mut sequence = 0;
    if let Some(rebase) = rebase {
        sequence = recovery.renumber(&rebase, epoch, previous).map_err(unusable)?;
        Rebase::forget(disk.as_ref(), &settings.state_dir);
    }
    let acknowledged = recovery.segments.front().map_or(previous, |segment| segment.after);
    let fresh = claimed == 0 && acknowledged == Mark::default();
    let index = Index { segments: recovery.segments, acknowledged, claimed, claim_stored: claimed, ..Index::default() };
    let shared = Arc::new(Shared::new(
        disk,
        settings.state_dir,
        settings.max_bytes,
        Beginning { epoch, previous, fresh },
        index,
    ));
    let start = Start {
        device: settings.device,
        epoch,
        previous,
        sequence,
        next_number: last_number.max(claimed) + 1,
        cameras: recovery.cameras,
        lock,
    };
    let writer = Writer::begin(Arc::clone(&shared), start)?;
    Ok(Opened { writer, shared })
}

fn numbers(disk: &dyn Disk, folder: &Path, extension: &str) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = disk.list(folder)?.iter().filter_map(|path| format::number(path, extension)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn prune_damaged(disk: &dyn Disk, folder: &Path) {
    let damaged = numbers(disk, folder, DAMAGED).unwrap_or_default();
    for &number in damaged.iter().rev().skip(super::DAMAGED_KEPT) {
        if let Err(error) = disk.remove(&format::path(folder, number, DAMAGED)) {
            tracing::debug!(number, %error, "a segment kept aside could not be deleted");
        }
    }
}

/// What each start of the agent knew when it began, as the heads of its segments say.
///
/// A batch whose flush failed may be invisible to the next start, which reads its files again, and be there after a power cut. What a
/// later start did not know of must not come back (case N).
#[derive(Debug, Default)]
struct Beginnings {
    /// By epoch; with each the earliest mark that it or any later one knew as the last.
    known: Vec<(u32, Mark)>,
}

impl Beginnings {
    fn read(disk: &dyn Disk, folder: &Path, numbers: &[u64]) -> Self {
        let heads = numbers.iter().filter_map(|&number| {
            let path = format::path(folder, number, SEGMENT);
            let file = disk.open(&path).ok()?;
            let mut frame = Vec::new();
            read_frame(file.as_ref(), &path, 0, u64::MAX, &mut frame).ok()?;
            match scan(&frame).items.pop()?.item {
                Item::Head(head) => Some((head.epoch, head.previous)),
                _ => None,
            }
        });
        let mut known: Vec<(u32, Mark)> = heads.collect();
        known.sort_unstable_by_key(|&(epoch, _)| epoch);
        let mut least = Mark { epoch: u32::MAX, sequence: u64::MAX };
        for (_, mark) in known.iter_mut().rev() {
            least = least.min(*mark);
            *mark = least;
        }
        Self { known }
    }

    /// Whether a later start began without knowing of this record.
    fn disown(&self, mark: Mark) -> bool {
        let later = self.known.partition_point(|&(epoch, _)| epoch <= mark.epoch);
        self.known.get(later).is_some_and(|&(_, known)| known < mark)
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

#[derive(Debug)]
struct Recovery {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    device: DeviceId,
    beginnings: Beginnings,
    chain: Chain,
    epoch: u32,
    cameras: BTreeMap<Name, CameraCheckpoint>,
    segments: VecDeque<Segment>,
}

impl Recovery {
    fn new(disk: Arc<dyn Disk>, folder: PathBuf, device: DeviceId) -> Self {
        let (chain, cameras, segments) = (Chain::default(), BTreeMap::new(), VecDeque::new());
        Self { disk, folder, device, beginnings: Beginnings::default(), chain, epoch: 0, cameras, segments }
    }

    fn segment(&mut self, number: u64, last: bool) -> Result<(), OpenError> {
        let path = format::path(&self.folder, number, SEGMENT);
        let bytes = match read_patiently(self.disk.as_ref(), &path, SEGMENT_BYTES_READ) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(case = "H", path = %path.display(), %error, "a spool segment cannot be read");
                return Ok(());
            }
        };
        let found = scan(&bytes);
        if let Some(owner) = foreign(&found, &self.device) {
            tracing::error!(case = "F", path = %path.display(), %owner, "a spool segment belongs to another device");
            self.set_aside(number);
            return Ok(());
        }
        // Every segment may end in a batch that failed; one that was committed and rotted leaves a gap before the next segment.
        let disowned = found.items.iter().find(|located| match &located.item {
            Item::Record { id, .. } => self.beginnings.disown(id.mark()),
            _ => false,
        });
        if disowned.is_some() {
            tracing::warn!(case = "N", path = %path.display(), "a batch that failed came back after its files were read again; it is left out");
        }
        let length = committed(&found).min(disowned.map_or(usize::MAX, |located| located.range.start));
        if length == 0 {
            if !bytes.is_empty() {
                tracing::warn!(case = "E", path = %path.display(), "a spool segment holds nothing whole");
            }
            self.set_aside(number);
            return Ok(());
        }
        if last {
            self.cut(&path, &bytes, length)?;
        }
        self.take(number, &path, &bytes[..length], &found)
    }

    /// Cases B, C and I: the last segment is written anew up to the end of its last whole batch. What is about to be sent may so far
    /// exist in the system's memory only, and where a flush has failed before, another one proves nothing; new bytes do.
    fn cut(&self, path: &Path, bytes: &[u8], length: usize) -> Result<(), OpenError> {
        if length < bytes.len() {
            tracing::warn!(case = "B", path = %path.display(), cut = bytes.len() - length, "the spool ends in an unfinished batch; its files are read again");
        }
        let written = match replace(self.disk.as_ref(), path, &bytes[..length]) {
            // No room for a copy: the file itself is cut and flushed, which is as good unless a flush failed before.
            Err(error) if error.untouched && is_full(&error.source) => {
                let cut = |file: Box<dyn DiskFile>| {
                    if length < bytes.len() {
                        file.set_len(length as u64)?;
                    }
                    file.sync()
                };
                self.disk.edit(path).and_then(cut)
            }
            written => written.map_err(|error| error.source),
        };
        written.map_err(|source| OpenError::Folder { path: path.to_path_buf(), source })
    }

    /// Takes a segment over; rewrites it where something is missing (case D).
    fn take(&mut self, number: u64, path: &Path, bytes: &[u8], found: &Scan) -> Result<(), OpenError> {
        let after = self.chain.last;
        let mut whole = Vec::with_capacity(bytes.len());
        let (mut windows, mut lost, mut records) = (0, 0, 0);
        let mut graves = true;
        let mut head_epoch = 0;
        let (mut present, mut unwritten) = (Mark::default(), 0);
        let mut first_after = None;
        for located in &found.items {
            if located.range.end > bytes.len() {
                break;
            }
            let tombstones = match &located.item {
                Item::Head(head) => {
                    head_epoch = head.epoch;
                    self.epoch = self.epoch.max(head.epoch);
                    first_after.get_or_insert(head.after);
                    self.chain.advance(head.after, None).into_iter().collect()
                }
                Item::Record { id, previous, from, to, grave } => {
                    self.epoch = self.epoch.max(id.epoch);
                    // A tombstone may stand before the head, for what was lost before it.
                    first_after.get_or_insert(before(*id, *previous));
                    records += 1;
                    present = present.max(id.mark());
                    graves &= *grave;
                    // Case G: what stands there twice is sent once.
                    if self.chain.last.is_none_or(|last| id.mark() > last) {
                        windows += id.last - id.first + 1;
                    }
                    self.chain.record(*id, *previous, *from, *to)
                }
                Item::Checkpoint(checkpoint) => {
                    // A batch whose flush failed may be found all the same, with a segment after it that was begun without it.
                    let last = self.chain.last.unwrap_or_default();
                    if head_epoch != last.epoch || checkpoint.through >= last {
                        self.remember(checkpoint);
                    }
                    self.chain.advance(checkpoint.through, None).into_iter().collect()
                }
            };
            for tombstone in &tombstones {
                windows += tombstone.id.last - tombstone.id.first + 1;
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
                    tracing::error!(path = %path.display(), %error, "a damaged spool segment could not be rewritten");
                    // A full disk may be emptied by delivering; any other may be better at the next attempt.
                    if !is_full(&error) {
                        return Err(OpenError::Folder { path: path.to_path_buf(), source: error });
                    }
                    // Without its tombstone the segment ends where its records do; the uplink says what is missing before the next one.
                    unwritten = lost;
                }
            }
        }
        let after = after.or(first_after).unwrap_or_default();
        let last = if unwritten == 0 { self.chain.last.unwrap_or_default() } else { present.max(after) };
        let windows = windows - unwritten;
        let level = if graves && records > 0 { Segment::GRAVE } else { Segment::level_of(windows, records) };
        self.segments.push_back(Segment { number, version: 0, length, after, last, windows, level, finest: false });
        Ok(())
    }

    /// Gives the records that an aggregator beyond their epoch has not counted numbers of the new epoch, segment by segment and each in
    /// one step, so that it goes on where it stopped if it is interrupted. Returns the last number given.
    fn renumber(&mut self, rebase: &Rebase, epoch: u32, previous: Mark) -> io::Result<u64> {
        let mut sequence = 0;
        let (mut moved, mut uncertain) = (0, 0);
        for segment in &mut self.segments {
            let path = format::path(&self.folder, segment.number, SEGMENT);
            let bytes = self.disk.read(&path, SEGMENT_BYTES_READ)?;
            let bytes = bytes.get(..usize::try_from(segment.length).unwrap_or(usize::MAX)).unwrap_or(&bytes);
            let before = if sequence == 0 { previous } else { Mark { epoch, sequence } };
            let mut renumbering =
                Renumbering { epoch, previous, sequence, moved: 0, uncertain: 0, last: segment.after };
            let Some(whole) = renumbering.segment(bytes, rebase, before).map_err(io::Error::other)? else { continue };
            replace(self.disk.as_ref(), &path, &whole).map_err(|error| error.source)?;
            segment.length = whole.len() as u64;
            segment.last = renumbering.last;
            (sequence, moved, uncertain) =
                (renumbering.sequence, moved + renumbering.moved, uncertain + renumbering.uncertain);
        }
        // Segments know their limits by their neighbours.
        let mut after = self.segments.front().map_or(previous, |segment| segment.after);
        for segment in &mut self.segments {
            segment.after = after;
            segment.last = segment.last.max(after);
            after = segment.last;
        }
        tracing::warn!(case = "K", floor = %rebase.floor, epoch, moved, uncertain,
            "the aggregator was beyond the epoch of these windows: those not counted are sent again as new, the uncertain ones are given up");
        Ok(sequence)
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
        let damaged = self.disk.read(path, SEGMENT_BYTES_READ)?;
        // The copy is for people; without it the repair still stands.
        if let Err(error) = replace(self.disk.as_ref(), &format::path(&self.folder, number, DAMAGED), &damaged) {
            tracing::warn!(path = %path.display(), error = %error.source, "a damaged segment could not be kept aside");
        }
        replace(self.disk.as_ref(), path, whole).map_err(|error| error.source)
    }

    fn set_aside(&self, number: u64) {
        let from = format::path(&self.folder, number, SEGMENT);
        if let Err(error) = self.disk.rename(&from, &format::path(&self.folder, number, DAMAGED)) {
            tracing::error!(path = %from.display(), %error, "a spool segment could not be set aside");
        }
    }
}

fn foreign<'a>(found: &'a Scan, device: &DeviceId) -> Option<&'a DeviceId> {
    found.items.iter().find_map(|located| match &located.item {
        Item::Head(Head { device: owner, .. }) if owner != device => Some(owner),
        _ => None,
    })
}

/// The last record before this one.
const fn before(id: RecordId, previous: Mark) -> Mark {
    if id.first == 1 { previous } else { Mark { epoch: id.epoch, sequence: id.first - 1 } }
}

/// Whether nothing is missing between `after` and a record that ends beyond it. A tombstone of an earlier repair may begin before it:
/// it stands for all that was lost there, whatever batches that was in.
fn continues(id: RecordId, after: Mark) -> bool {
    id.first == 1 || (id.epoch == after.epoch && id.first - 1 <= after.sequence)
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
                        if last.mark() == checkpoint.through && continues(*first, checkpoint.after) =>
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
