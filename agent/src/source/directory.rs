//! A watched folder: its files in order of name, each once, when it is complete.
//!
//! A file is complete when two looks at least 200 ms apart found the same size and the same time of modification; that time is
//! never compared with a clock, so a file server with another clock does no harm. Names beginning with `.` or ending in `.tmp` or
//! `.part` are ignored. The position is the last name taken: names must grow with time (zero-padded numbers, timestamps). A name
//! that appears behind the position is counted late, once, as long as it is among the newest 1024 names behind it; one that
//! appeared while the agent was not running cannot be told from a file counted earlier and is passed over. A file that is
//! overwritten under its old name is not read again.
//!
//! Must hold: memory does not depend on the number of files; nothing a folder contains stops the source; a file that does not become
//! complete holds the ones after it up for 30 s at most.
//!
//! Deliberately absent: change notification by the kernel. It does not work on network file systems and still needs the listing.

use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driftglass_protocol::unit::UnixMillis;

use super::{Candidate, Condition, Failure, Moment, Status, Unusable};

/// Files beyond this size are not read.
pub const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// Most memory that is kept for the next file, in bytes.
const KEPT: usize = 1024 * 1024;
/// Least time between the two looks that find a file complete.
pub(super) const SETTLE: Duration = Duration::from_millis(200);
/// How long a file may keep changing before it is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Least time between two listings.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A listing that took this share of the time is enough: the next waits so many times as long as the last one took.
const LOOK_SHARE: u32 = 20;
/// Names taken from one listing at most.
const LISTED: usize = 1024;
/// Names behind the position that are remembered at most.
const REMEMBERED: usize = 1024;

/// Size and time of modification: what must stay the same.
type Shape = (u64, Option<UnixMillis>);

#[derive(Debug)]
struct Waiting {
    name: Vec<u8>,
    shape: Option<Shape>,
    unchanged_since: Duration,
    first_seen: Duration,
}

/// A watched folder.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    most: u64,
    settle: Duration,
    position: Vec<u8>,
    waiting: VecDeque<Waiting>,
    late: Vec<Vec<u8>>,
    /// The newest names behind the position; `None` before the first look.
    behind: Option<BTreeSet<Vec<u8>>>,
    /// Names up to this one behind the position are no longer remembered.
    forgotten: Vec<u8>,
    next_look: Duration,
    idle_at: Option<UnixMillis>,
    status: Option<Arc<Status>>,
    buffer: Vec<u8>,
}

impl Directory {
    /// Watches `path` from behind `position` (empty: from the beginning).
    #[must_use]
    pub fn watched(path: PathBuf, position: Vec<u8>) -> Self {
        Self::new(path, position, SETTLE)
    }

    /// Reads a folder that nobody writes to, from the beginning.
    #[must_use]
    pub fn finished(path: PathBuf) -> Self {
        Self::new(path, Vec::new(), Duration::ZERO)
    }

    fn new(path: PathBuf, position: Vec<u8>, settle: Duration) -> Self {
        Self {
            path,
            most: MAX_FILE_BYTES,
            settle,
            position,
            waiting: VecDeque::new(),
            late: Vec::new(),
            behind: None,
            forgotten: Vec::new(),
            next_look: Duration::ZERO,
            idle_at: None,
            status: None,
            buffer: Vec::new(),
        }
    }

    /// Takes files of at most so many bytes for pictures, and never more than [`MAX_FILE_BYTES`].
    #[must_use]
    pub const fn limited(mut self, most: u64) -> Self {
        self.most = if most < MAX_FILE_BYTES { most } else { MAX_FILE_BYTES };
        self
    }

    /// Goes on behind a position; only before the first look.
    pub(super) fn resume(&mut self, position: &[u8]) {
        self.position = position.to_vec();
    }

    /// Tells there whether the folder can be listed.
    #[must_use]
    pub fn telling(mut self, status: Arc<Status>) -> Self {
        self.status = Some(status);
        self
    }

    /// See [`super::FrameSource::idle_at`].
    #[must_use]
    pub const fn idle_at(&self) -> Option<UnixMillis> {
        self.idle_at
    }

    /// See [`super::FrameSource::poll`].
    pub fn poll(&mut self, now: Moment) -> Option<Candidate> {
        if self.waiting.is_empty() && self.late.is_empty() && now.elapsed >= self.next_look {
            self.look(now);
        }
        if let Some(name) = self.late.pop() {
            let modified = self.shape(&name).ok().flatten().and_then(|(_, modified)| modified);
            return Some(Candidate { position: name, taken: modified, condition: Condition::OutOfOrder });
        }
        while let Some(front) = self.waiting.front() {
            let (condition, modified) = match shape(&self.path, &front.name) {
                // Gone again, or not a file: nothing to count.
                Ok(None) => {
                    self.waiting.pop_front();
                    continue;
                }
                Err(kind) => (Condition::Unusable(Unusable::Unreadable(kind)), None),
                Ok(Some(shape)) => match self.judge(shape, now.elapsed) {
                    Some(condition) => (condition, shape.1),
                    None => return None,
                },
            };
            let name = self.waiting.pop_front()?.name;
            self.position.clone_from(&name);
            self.remember(name.clone());
            return Some(Candidate { position: name, taken: modified, condition });
        }
        None
    }

    /// What the first file waiting is, given its shape now; `None` where it has to wait.
    fn judge(&mut self, shape: Shape, elapsed: Duration) -> Option<Condition> {
        let (settle, most) = (self.settle, self.most);
        let front = self.waiting.front_mut()?;
        if front.shape != Some(shape) {
            front.shape = Some(shape);
            front.unchanged_since = elapsed;
            if elapsed.saturating_sub(front.first_seen) > PATIENCE {
                return Some(Condition::Unusable(Unusable::NeverComplete));
            }
        }
        if elapsed.saturating_sub(front.unchanged_since) < settle {
            return None;
        }
        Some(match shape.0 {
            0 => Condition::Unusable(Unusable::Empty),
            length if length <= most => Condition::Ready,
            _ => Condition::Unusable(Unusable::TooLarge),
        })
    }

    /// See [`super::FrameSource::read`].
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn read(&mut self, candidate: &Candidate) -> Result<Option<&[u8]>, Unusable> {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        let unreadable = |error: std::io::Error| Unusable::Unreadable(error.kind());
        let file = match File::open(self.path.join(OsStr::from_bytes(&candidate.position))) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(unreadable)?,
        };
        file.take(self.most + 1).read_to_end(&mut self.buffer).map_err(unreadable)?;
        match self.buffer.len() as u64 {
            0 => Err(Unusable::Empty),
            length if length <= self.most => Ok(Some(&self.buffer)),
            _ => Err(Unusable::TooLarge),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a source does I/O; how long a listing takes decides when the next one may be"
    )]
    fn look(&mut self, now: Moment) {
        let started = Instant::now();
        match self.list_without_gaps() {
            Ok(names) => {
                if let Some(status) = &self.status {
                    status.listed(now);
                }
                for name in names {
                    let shape = self.shape(&name).ok().flatten();
                    self.waiting.push_back(Waiting {
                        name,
                        shape,
                        unchanged_since: now.elapsed,
                        first_seen: now.elapsed,
                    });
                }
            }
            Err(error) => {
                let failure = Failure::Folder { path: self.path.display().to_string(), error };
                match &self.status {
                    Some(status) => status.failed(&failure, now),
                    None => tracing::debug!(%failure, "a look failed"),
                }
            }
        }
        let nothing = self.waiting.is_empty() && self.late.is_empty();
        self.idle_at = nothing.then_some(now.wall);
        self.next_look = now.elapsed + LOOK_EVERY.max(started.elapsed() * LOOK_SHARE);
    }

    /// What [`Self::list`] finds, less the newest of what is being added meanwhile.
    ///
    /// A listing is no snapshot: of two files that appear while it runs it may hold the second alone, and the first would come behind
    /// the position for good. All up to the last name of one listing were there when the next began, so that one has all of them.
    fn list_without_gaps(&mut self) -> std::io::Result<Vec<Vec<u8>>> {
        let seen = self.list()?;
        let Some(last) = seen.last().filter(|_| !self.settle.is_zero()) else { return Ok(seen) };
        let mut names = self.list()?;
        names.retain(|name| name <= last);
        Ok(names)
    }

    /// The first names behind which nothing was taken yet, in order; names that appeared behind the position go to `late`.
    fn list(&mut self) -> std::io::Result<Vec<Vec<u8>>> {
        let mut ahead: BinaryHeap<Vec<u8>> = BinaryHeap::new();
        let mut first_look = BTreeSet::new();
        let mut forgotten = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            let name = name.as_bytes();
            if ignored(name) || entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if name > self.position.as_slice() {
                if ahead.len() < LISTED || ahead.peek().is_some_and(|last| name < last.as_slice()) {
                    ahead.push(name.to_vec());
                    if ahead.len() > LISTED {
                        ahead.pop();
                    }
                }
                continue;
            }
            match &mut self.behind {
                Some(behind) => {
                    if name > self.forgotten.as_slice() && self.late.len() < LISTED && !behind.contains(name) {
                        behind.insert(name.to_vec());
                        self.late.push(name.to_vec());
                    }
                }
                None => {
                    first_look.insert(name.to_vec());
                    if first_look.len() > REMEMBERED
                        && let Some(oldest) = first_look.pop_first()
                    {
                        forgotten = oldest.max(forgotten);
                    }
                }
            }
        }
        if self.behind.is_none() {
            self.behind = Some(first_look);
            self.forgotten = forgotten;
        }
        self.forget_oldest();
        Ok(ahead.into_sorted_vec())
    }

    fn remember(&mut self, name: Vec<u8>) {
        self.behind.get_or_insert_default().insert(name);
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        while let Some(behind) = self.behind.as_mut().filter(|behind| behind.len() > REMEMBERED) {
            if let Some(oldest) = behind.pop_first() {
                self.forgotten = oldest;
            }
        }
    }

    fn shape(&self, name: &[u8]) -> Result<Option<Shape>, ErrorKind> {
        shape(&self.path, name)
    }
}

fn ignored(name: &[u8]) -> bool {
    name.starts_with(b".") || name.ends_with(b".tmp") || name.ends_with(b".part")
}

/// Size and time of a file; `None` where there is none (any more).
fn shape(folder: &Path, name: &[u8]) -> Result<Option<Shape>, ErrorKind> {
    match fs::metadata(folder.join(OsStr::from_bytes(name))) {
        Ok(metadata) if metadata.is_file() => {
            Ok(Some((metadata.len(), metadata.modified().ok().and_then(unix_millis))))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.kind()),
    }
}

fn unix_millis(time: SystemTime) -> Option<UnixMillis> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).ok().map(UnixMillis),
        Err(before) => i64::try_from(before.duration().as_millis()).ok().map(|millis| UnixMillis(-millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment { wall: UnixMillis(i64::try_from(millis).expect("small")), elapsed: Duration::from_millis(millis) }
    }

    fn names(source: &mut Directory, millis: u64) -> Vec<(String, Condition)> {
        let mut found = Vec::new();
        while let Some(candidate) = source.poll(at(millis)) {
            found.push((String::from_utf8(candidate.position).expect("utf-8"), candidate.condition));
        }
        found
    }

    fn ready(names: &[&str]) -> Vec<(String, Condition)> {
        names.iter().map(|name| ((*name).to_string(), Condition::Ready)).collect()
    }

    #[test]
    fn files_that_appear_while_the_folder_is_listed_all_come_in_order() {
        // So many that a listing takes several calls of the system.
        const FILES: u32 = 4_000;
        let folder = tempfile::tempdir().expect("folder");
        let add = |number: u32| {
            let hidden = folder.path().join(format!(".{number:08}"));
            fs::write(&hidden, b"x").expect("written");
            fs::rename(hidden, folder.path().join(format!("{number:08}.jpg"))).expect("renamed");
        };
        (0..FILES).for_each(add);
        let mut source = Directory::watched(folder.path().to_path_buf(), format!("{:08}.jpg", FILES - 1).into_bytes());
        let mut found = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| (FILES..2 * FILES).for_each(add));
            for look in 1_u64..100_000 {
                found.extend(names(&mut source, look * 300));
                if found.len() >= FILES as usize {
                    break;
                }
            }
        });
        let expected = (FILES..2 * FILES).map(|number| (format!("{number:08}.jpg"), Condition::Ready));
        assert!(
            found.iter().cloned().eq(expected),
            "out of order: {:?}",
            found.iter().filter(|(_, condition)| *condition == Condition::OutOfOrder).take(5).collect::<Vec<_>>()
        );
    }

    #[test]
    fn files_come_in_order_of_name_once_and_only_when_complete() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("later");
        let mut source = Directory::watched(path.clone(), Vec::new());
        assert_eq!(names(&mut source, 0), vec![], "the folder need not exist");
        assert_eq!(source.idle_at(), Some(UnixMillis(0)));
        fs::create_dir(&path).expect("created");
        for name in ["b.jpg", "a.jpg", ".hidden", "c.jpg.tmp", "d.part"] {
            fs::write(path.join(name), name).expect("written");
        }
        fs::create_dir(path.join("aa")).expect("created");
        assert_eq!(names(&mut source, 10_000), vec![], "a first look proves nothing");
        assert_eq!(source.idle_at(), None);
        fs::write(path.join("a.jpg"), "longer than before").expect("written");
        assert_eq!(names(&mut source, 10_300), vec![], "it grew");
        assert_eq!(names(&mut source, 10_499), vec![], "too soon");
        assert_eq!(names(&mut source, 10_500), ready(&["a.jpg", "b.jpg"]));
        assert_eq!(names(&mut source, 90_000), vec![]);
        assert_eq!(source.idle_at(), Some(UnixMillis(90_000)));
    }

    #[test]
    fn a_position_is_where_it_goes_on_and_what_appears_behind_it_is_late_once() {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["1", "2", "3"] {
            fs::write(folder.path().join(name), "x").expect("written");
        }
        let mut source = Directory::watched(folder.path().to_path_buf(), b"2".to_vec());
        assert_eq!(names(&mut source, 0), vec![]);
        assert_eq!(names(&mut source, 200), ready(&["3"]));
        fs::write(folder.path().join("25"), "x").expect("written");
        assert_eq!(names(&mut source, 60_000), vec![("25".to_string(), Condition::OutOfOrder)]);
        assert_eq!(names(&mut source, 120_000), vec![]);
    }

    #[test]
    fn whatever_lies_in_the_folder_is_accounted_for_and_stops_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("1-empty"), "").expect("written");
        File::create(folder.path().join("2-giant")).and_then(|file| file.set_len(MAX_FILE_BYTES + 1)).expect("written");
        std::os::unix::fs::symlink("nowhere", folder.path().join("3-dangling")).expect("linked");
        std::os::unix::fs::symlink("4-loop", folder.path().join("4-loop")).expect("linked");
        fs::write(folder.path().join("5-good"), "x").expect("written");
        let mut source = Directory::finished(folder.path().to_path_buf());
        let found = names(&mut source, 0);
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[0].1, Condition::Unusable(Unusable::Empty));
        assert_eq!(found[1].1, Condition::Unusable(Unusable::TooLarge));
        assert!(matches!(found[2].1, Condition::Unusable(Unusable::Unreadable(_))), "{found:?}");
        assert_eq!(found[3].1, Condition::Ready);
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_and_so_is_one_that_comes() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("later");
        let name = driftglass_protocol::id::Name::parse("door").expect("a name");
        let status = Arc::new(Status::new(name, path.display().to_string()));
        let mut source = Directory::watched(path.clone(), Vec::new()).telling(Arc::clone(&status));
        assert_eq!(names(&mut source, 0), vec![]);
        assert!(matches!(status.health(), Health::Failed { reason: "folder", .. }), "{status:?}");
        fs::create_dir(&path).expect("created");
        assert_eq!(names(&mut source, 60_000), vec![]);
        assert_eq!(status.health(), Health::Delivering);
        assert_eq!(status.failures().get("folder"), Some(&1));
    }

    #[test]
    fn a_file_that_vanishes_before_it_is_read_is_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("1"), "x").expect("written");
        let mut source = Directory::finished(folder.path().to_path_buf());
        let candidate = source.poll(at(0)).expect("there");
        assert_eq!(source.read(&candidate), Ok(Some(b"x".as_slice())));
        fs::remove_file(folder.path().join("1")).expect("removed");
        assert_eq!(source.read(&candidate), Ok(None));
    }

    #[test]
    fn a_file_that_never_stops_growing_holds_the_others_up_for_a_while_only() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("2"), "x").expect("written");
        let mut source = Directory::watched(folder.path().to_path_buf(), Vec::new());
        let mut found = Vec::new();
        for step in 0..400_usize {
            fs::write(folder.path().join("1"), vec![0; step + 1]).expect("written");
            found.extend(names(&mut source, step as u64 * 100));
        }
        assert_eq!(
            found,
            [vec![("1".to_string(), Condition::Unusable(Unusable::NeverComplete))], ready(&["2"])].concat()
        );
    }

    #[test]
    fn a_folder_of_many_files_is_worked_through_in_bounded_steps() {
        let folder = tempfile::tempdir().expect("folder");
        for number in 0..2 * LISTED + 7 {
            fs::write(folder.path().join(format!("{number:06}")), "x").expect("written");
        }
        let mut source = Directory::finished(folder.path().to_path_buf());
        let (mut found, mut time) = (Vec::new(), 0);
        while source.idle_at().is_none() {
            found.extend(names(&mut source, time));
            assert!(source.waiting.len() <= LISTED);
            assert!(source.behind.as_ref().is_none_or(|behind| behind.len() <= REMEMBERED));
            time += 3_600_000;
        }
        assert_eq!(found.len(), 2 * LISTED + 7);
        assert!(found.is_sorted_by(|a, b| a.0 < b.0));
    }
}
