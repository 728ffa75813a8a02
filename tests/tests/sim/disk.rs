//! A disk in memory that does to the spool what disks do: forgets what was not flushed, tears writes, fails, fills up, rots.
//!
//! Every file has a content as the process sees it and one that a power cut would leave, with the writes between the two. Names are
//! journalled: a power cut keeps a beginning of the renames, creations and removals that were not flushed. After a failed flush the
//! writes before it may never become durable although later flushes succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use driftglass_agent::spool::{Disk, DiskFile, Guard, Item, scan};

use crate::random::Random;

/// How often something goes wrong, per mille of the operations it can hit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) flush_fails: u64,
    pub(crate) read_fails: u64,
    pub(crate) write_fails: u64,
}

/// What went wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskFaults {
    pub(crate) flushes_failed: u64,
    pub(crate) reads_failed: u64,
    pub(crate) writes_failed: u64,
    pub(crate) no_space: u64,
    pub(crate) writes_lost: u64,
    pub(crate) writes_torn: u64,
    pub(crate) names_lost: u64,
    pub(crate) bits_flipped: u64,
    pub(crate) files_vanished: u64,
    pub(crate) dead_sectors: u64,
    /// Windows that stood in the files hit. Where all traces of a start of the agent were in them, no tombstone can know of it.
    pub(crate) windows_hit: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unflushed: Vec<Change>,
    /// Reads that failed in a row.
    failed_reads: u32,
}

#[derive(Clone, Debug)]
enum Naming {
    Put(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Naming {
    fn folder(&self) -> Option<&Path> {
        let (Self::Put(path, _) | Self::Remove(path) | Self::Rename(path, _)) = self;
        path.parent()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Put(path, content) => {
                names.insert(path.clone(), *content);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(content) = names.remove(from) {
                    names.insert(to.clone(), content);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unflushed_names: Vec<Naming>,
    contents: BTreeMap<u64, Content>,
    next: u64,
    dead: BTreeSet<PathBuf>,
    random: Random,
    rates: Rates,
    full: bool,
    hide_claims: bool,
    faults: DiskFaults,
}

/// The disk of one device.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unflushed_names: Vec::new(),
            contents: BTreeMap::new(),
            next: 0,
            dead: BTreeSet::new(),
            random: Random::new(seed),
            rates: Rates::default(),
            full: false,
            hide_claims: false,
            faults: DiskFaults::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("one thread")
    }

    pub(crate) fn faults(&self) -> DiskFaults {
        self.state().faults
    }

    pub(crate) fn set_rates(&self, rates: Rates) {
        self.state().rates = rates;
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// The mutant of the spool that does not remember what it has offered.
    pub(crate) fn hide_claims(&self) {
        self.state().hide_claims = true;
    }

    /// A copy of everything, as an image of the disk would be.
    pub(crate) fn image(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Everything is gone.
    pub(crate) fn wipe(&self) {
        let mut state = self.state();
        state.names.clear();
        state.durable_names.clear();
        state.unflushed_names.clear();
        state.contents.clear();
        state.dead.clear();
    }

    /// The power is cut: what was not flushed is there in part, or not at all.
    pub(crate) fn cut_power(&self) {
        let mut state = self.state();
        let state = &mut *state;
        let kept = state.random.index(state.unflushed_names.len() + 1);
        state.faults.names_lost += (state.unflushed_names.len() - kept) as u64;
        let mut names = std::mem::take(&mut state.durable_names);
        for naming in state.unflushed_names.drain(..).take(kept) {
            naming.apply(&mut names);
        }
        for content in state.contents.values_mut() {
            for change in std::mem::take(&mut content.unflushed) {
                match (state.random.below(4), change) {
                    (0, Change::Write(..)) => state.faults.writes_lost += 1,
                    (1, Change::Write(offset, bytes)) => {
                        state.faults.writes_torn += 1;
                        let some = state.random.index(bytes.len() + 1);
                        put(&mut content.durable, offset, &bytes[..some]);
                    }
                    (0 | 1, Change::Length(_)) => {}
                    (_, change) => change.apply(&mut content.durable),
                }
            }
            content.seen.clone_from(&content.durable);
        }
        let used: BTreeSet<u64> = names.values().copied().collect();
        state.contents.retain(|number, _| used.contains(number));
        state.durable_names.clone_from(&names);
        state.names = names;
    }

    fn closed_segment(state: &mut State) -> Option<PathBuf> {
        let segments: Vec<PathBuf> =
            state.names.keys().filter(|path| path.extension().is_some_and(|end| end == "segment")).cloned().collect();
        // The last one is being written; what rots there cannot be told from a torn write.
        let closed = segments.len().checked_sub(1)?;
        if closed == 0 {
            return None;
        }
        let path = segments[state.random.index(closed)].clone();
        tracing::info!(path = %path.display(), "a segment is hit");
        let content = &state.contents[&state.names[&path]];
        for bytes in [&content.seen, &content.durable] {
            let found = scan(bytes);
            let windows = found.items.iter().map(|located| match located.item {
                Item::Record { id, .. } => id.last - id.first + 1,
                _ => 0,
            });
            state.faults.windows_hit += windows.sum::<u64>();
        }
        Some(path)
    }

    /// One bit of a closed segment turns.
    pub(crate) fn flip_a_bit(&self) {
        let mut state = self.state();
        let Some(path) = Self::closed_segment(&mut state) else { return };
        let number = state.names[&path];
        let (at, bit) = {
            let length = state.contents[&number].durable.len();
            if length == 0 || state.contents[&number].seen.len() != length {
                return;
            }
            (state.random.index(length), state.random.below(8))
        };
        let content = state.contents.get_mut(&number).expect("named");
        content.durable[at] ^= 1 << bit;
        content.seen[at] = content.durable[at];
        state.faults.bits_flipped += 1;
    }

    /// The name of a closed segment disappears from its folder.
    pub(crate) fn lose_a_name(&self) {
        let mut state = self.state();
        let Some(path) = Self::closed_segment(&mut state) else { return };
        state.names.remove(&path);
        state.durable_names.remove(&path);
        state.faults.files_vanished += 1;
    }

    /// A closed segment can no longer be read.
    pub(crate) fn kill_a_sector(&self) {
        let mut state = self.state();
        let Some(path) = Self::closed_segment(&mut state) else { return };
        state.dead.insert(path);
        state.faults.dead_sectors += 1;
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => put(bytes, *offset, written),
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

fn failure(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl State {
    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unflushed_names.push(naming);
    }

    fn content_of(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn may_read(&mut self, path: &Path, number: u64) -> io::Result<()> {
        if self.dead.contains(path) {
            return Err(failure(EIO));
        }
        let fails = self.random.chance(self.rates.read_fails);
        let content = self.contents.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        // A disk that recovers by itself does so before the third attempt.
        if fails && content.failed_reads < 2 {
            content.failed_reads += 1;
            self.faults.reads_failed += 1;
            return Err(failure(EIO));
        }
        content.failed_reads = 0;
        Ok(())
    }

    fn may_write(&mut self) -> io::Result<()> {
        if self.full {
            self.faults.no_space += 1;
            return Err(failure(ENOSPC));
        }
        if self.random.chance(self.rates.write_fails) {
            self.faults.writes_failed += 1;
            return Err(failure(EIO));
        }
        Ok(())
    }

    fn may_flush(&mut self) -> io::Result<()> {
        if self.random.chance(self.rates.flush_fails) {
            self.faults.flushes_failed += 1;
            return Err(failure(EIO));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Held;

impl Guard for Held {}

impl Disk for SimDisk {
    fn create_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        Ok(Some(Box::new(Held)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.state().names.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }

    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        if state.hide_claims && path.ends_with("claimed") {
            return Ok(b"0 0\n".to_vec());
        }
        let number = state.content_of(path)?;
        state.may_read(path, number)?;
        let bytes = state.contents[&number].seen.clone();
        if bytes.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.may_write()?;
        let number = state.next;
        state.next += 1;
        state.contents.insert(number, Content::default());
        state.dead.remove(path);
        state.name(Naming::Put(path.to_path_buf(), number));
        drop(state);
        Ok(Box::new(SimFile { disk: self.clone(), path: path.to_path_buf(), number }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let number = self.state().content_of(path)?;
        Ok(Box::new(SimFile { disk: self.clone(), path: path.to_path_buf(), number }))
    }

    fn edit(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.content_of(from)?;
        state.dead.remove(to);
        state.name(Naming::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.content_of(path)?;
        state.name(Naming::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.may_flush()?;
        let state = &mut *state;
        let mut later = Vec::new();
        for naming in state.unflushed_names.drain(..) {
            if naming.folder() == Some(folder) {
                naming.apply(&mut state.durable_names);
            } else {
                later.push(naming);
            }
        }
        state.unflushed_names = later;
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    number: u64,
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.may_read(&self.path, self.number)?;
        let start = usize::try_from(offset).expect("small");
        let bytes = state.contents[&self.number].seen.get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let start = usize::try_from(offset).expect("small");
        let allowed = {
            let length = state.contents.get(&self.number).ok_or(io::ErrorKind::NotFound)?.seen.len();
            // Overwriting needs no room.
            if state.full && start + bytes.len() <= length { Ok(()) } else { state.may_write() }
        };
        // A write that fails may have been done in part.
        let written = if allowed.is_ok() { bytes.len() } else { state.random.index(bytes.len() + 1) };
        let content = state.contents.get_mut(&self.number).expect("there");
        put(&mut content.seen, start, &bytes[..written]);
        content.unflushed.push(Change::Write(start, bytes[..written].to_vec()));
        allowed
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let flushed = state.may_flush();
        let gives_up = flushed.is_err() && state.random.chance(500);
        let content = state.contents.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?;
        if gives_up {
            // The system calls these pages clean from now on, and never writes them.
            content.unflushed.clear();
        }
        flushed?;
        for change in std::mem::take(&mut content.unflushed) {
            change.apply(&mut content.durable);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let length = usize::try_from(length).expect("small");
        let content = state.contents.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?;
        content.seen.resize(length, 0);
        content.unflushed.push(Change::Length(length));
        Ok(())
    }
}
