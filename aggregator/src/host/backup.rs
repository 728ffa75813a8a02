//! Making a backup, whether the service runs or not.
//!
//! The database is copied as of one moment (SQLite's own `VACUUM INTO`, on a connection of its own), so the writer goes on meanwhile.
//! The keys are read after it: what the database refers to is older than they are.
//!
//! Must hold: a backup appears complete or not at all (another name, fsync, rename); nobody but its owner can read it, nor what is
//! on the way to it; an existing file is replaced only where that was asked for; where there is no room nothing is begun, for the
//! database of the running service may be on the same disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;
use thiserror::Error;

use super::access::AccessError;
use crate::backup::{ACCESS_TOKENS, DATABASE, FILE_BYTES, FormatError, KEY_FOLDERS, Manifest, Writer, is_name};
use crate::store::StoreError;
use crate::store::embedded::snapshot;

/// How often progress is shown while the database is copied.
const LOOK: Duration = Duration::from_millis(200);
/// How often the keys are read again because the authority was rotated meanwhile.
const READINGS: usize = 3;

/// Whether private keys are part of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// They are, with their certificates: the backup alone brings the fleet back.
    With,
    /// Neither they nor certificates are.
    Without,
}

/// Whether what is there may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

/// Told what is being done, how many bytes of it are done, and of how many.
pub type Progress<'a> = &'a mut dyn FnMut(&'static str, u64, u64);

/// Why there is no backup, or nothing was restored.
#[derive(Debug, Error)]
pub enum BackupError {
    /// A file or folder cannot be used; the disk may be full.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is in the way.
    #[error("{path} exists; --force replaces it")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Somebody is writing the same backup.
    #[error("{path} is being written by another process")]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// The disk has too little room for it.
    #[error("{path}: {needed} bytes have to be free there while the backup is made, and {free} are")]
    Room {
        /// The folder where it was to go.
        path: PathBuf,
        /// Bytes that it takes at most.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// There is nothing to back up.
    #[error("{path} does not exist: no aggregator has run with this data folder")]
    Nothing {
        /// The database.
        path: PathBuf,
    },
    /// The target of a restore is in use, or holds something.
    #[error("{path} holds a fleet already; --force moves it aside and restores the backup in its place")]
    Occupied {
        /// The data folder.
        path: PathBuf,
    },
    /// The keys changed all the time.
    #[error("{path}: the authority changes all the time; try again")]
    Unsteady {
        /// The data folder.
        path: PathBuf,
    },
    /// What is to be part of a backup has a name or size that nothing of ours has.
    #[error("{path}: what is this? Names of up to three parts and 1 MiB are what belongs there: move it away")]
    Stray {
        /// The file.
        path: PathBuf,
    },
    /// The backup's content.
    #[error("{path}: {source}")]
    Format {
        /// The backup.
        path: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
    /// The database of the backup was written by a newer release.
    #[error(
        "{path} was made by release {release}, whose database has version {found}; this release knows versions up to {known}"
    )]
    Newer {
        /// The backup.
        path: PathBuf,
        /// The release that made it.
        release: String,
        /// Version found.
        found: usize,
        /// Newest version known.
        known: usize,
    },
    /// The list of access tokens.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) fn file_error(path: &Path) -> impl Fn(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path: path.clone(), source }
}

/// Backs a data folder up into `file` and returns what the backup says of itself.
///
/// # Errors
/// One variant of [`BackupError`] per cause; then there is no new file, and one that was there is as before.
pub fn back_up(
    data_dir: &Path,
    file: &Path,
    keys: Keys,
    overwrite: Overwrite,
    now: UnixMillis,
    progress: Progress<'_>,
) -> Result<Manifest, BackupError> {
    let database = data_dir.join(DATABASE);
    if !database.is_file() {
        return Err(BackupError::Nothing { path: database });
    }
    may_write(file, overwrite)?;
    let size = snapshot::size(&database)?;
    has_room(file, size)?;
    let (partial, partial_file) = Temporary::create(beside(file, "partial")?)?;
    let copy = Temporary(beside(file, "database")?);
    copy.remove()?;
    copy_database(&database, size, &copy.0, progress)?;
    progress("checking the copy", 0, 0);
    let schema = snapshot::check(&copy.0)?;

    let format = |source| BackupError::Format { path: partial.0.clone(), source };
    let manifest =
        Manifest { created_at_ms: now.0, release: env!("CARGO_PKG_VERSION").into(), schema, keys: keys == Keys::With };
    let mut writer = Writer::new(BufWriter::new(partial_file), &manifest).map_err(format)?;
    let mut content = File::open(&copy.0).map_err(file_error(&copy.0))?;
    let length = content.metadata().map_err(file_error(&copy.0))?.len();
    writer
        .file(DATABASE, length, &mut content, &mut |done| progress("writing the backup", done, length))
        .map_err(format)?;
    if let Some(list) = read_small(&data_dir.join(ACCESS_TOKENS))? {
        writer.file(ACCESS_TOKENS, list.len() as u64, &mut list.as_slice(), &mut |_| {}).map_err(format)?;
    }
    if keys == Keys::With {
        for (name, content) in read_keys(data_dir)? {
            writer.file(&name, content.len() as u64, &mut content.as_slice(), &mut |_| {}).map_err(format)?;
        }
    }
    let finished = writer.finish().map_err(format)?;
    let finished = finished.into_inner().map_err(|error| file_error(&partial.0)(error.into_error()))?;
    finished.sync_all().map_err(file_error(&partial.0))?;
    may_write(file, overwrite)?;
    fs::rename(&partial.0, file).map_err(file_error(file))?;
    sync_folder(folder_of(file))?;
    Ok(manifest)
}

fn may_write(file: &Path, overwrite: Overwrite) -> Result<(), BackupError> {
    if overwrite == Overwrite::Refused && file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists { path: file.to_owned() });
    }
    Ok(())
}

/// Whether the copy of a database of so many bytes fits beside the backup of it. What else is in a backup is small.
fn has_room(file: &Path, size: u64) -> Result<(), BackupError> {
    let folder = folder_of(file);
    let found = rustix::fs::statvfs(folder).map_err(|error| file_error(folder)(error.into()))?;
    let (free, needed) = (found.f_bavail.saturating_mul(found.f_frsize), size.saturating_mul(2));
    if free < needed {
        return Err(BackupError::Room { path: folder.to_owned(), needed, free });
    }
    Ok(())
}

/// `.NAME.SUFFIX` in the folder of `file`, which is where there is room and where a rename is atomic.
fn beside(file: &Path, suffix: &str) -> Result<PathBuf, BackupError> {
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| BackupError::File {
        path: file.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"),
    })?;
    Ok(file.with_file_name(format!(".{name}.{suffix}")))
}

/// A file that is gone, whatever happens, when this is dropped.
struct Temporary(PathBuf);

impl Temporary {
    /// Creates it, and locks it against whoever would do the same.
    fn create(path: PathBuf) -> Result<(Self, File), BackupError> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(file_error(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BackupError::Busy { path }),
            Err(TryLockError::Error(source)) => return Err(BackupError::File { path, source }),
        }
        file.set_len(0).map_err(file_error(&path))?;
        Ok((Self(path), file))
    }

    fn remove(&self) -> Result<(), BackupError> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(&self.0)(error)),
            _ => Ok(()),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is left of it is taken up by the next backup of the same name.
        drop(self.remove());
    }
}

/// Copies the database while another thread looks how far it has got.
fn copy_database(database: &Path, total: u64, to: &Path, progress: Progress<'_>) -> Result<(), BackupError> {
    std::thread::scope(|scope| {
        let (done, finished) = channel::<()>();
        let copying = scope.spawn(move || {
            let copied = snapshot::copy(database, to);
            drop(done);
            copied
        });
        while finished.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let length = fs::metadata(to).map_or(0, |metadata| metadata.len());
            progress("copying the database", length.min(total), total);
        }
        let copied = copying.join().unwrap_or_else(|_| {
            Err(StoreError::Engine { doing: "copying the database", source: "the thread ended unexpectedly".into() })
        });
        copied.map_err(BackupError::from)
    })
}

/// Every file below the folders of keys, by name, as of one moment.
fn read_keys(data_dir: &Path) -> Result<Vec<(String, Vec<u8>)>, BackupError> {
    let mut before = list_keys(data_dir)?;
    for _ in 0..READINGS {
        let mut files = Vec::new();
        let mut vanished = false;
        for name in &before {
            let path = data_dir.join(name);
            match read_small(&path)? {
                Some(content) => files.push((name.clone(), content)),
                None => vanished = true,
            }
        }
        let after = list_keys(data_dir)?;
        if after == before && !vanished {
            return Ok(files);
        }
        before = after;
    }
    Err(BackupError::Unsteady { path: data_dir.to_owned() })
}

/// A file that is not the database; `None` where there is none.
fn read_small(path: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    match fs::read(path) {
        Ok(content) if content.len() as u64 <= FILE_BYTES => Ok(Some(content)),
        Ok(_) => Err(BackupError::Stray { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path)(error)),
    }
}

fn list_keys(data_dir: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = Vec::new();
    let mut folders: Vec<String> = KEY_FOLDERS.iter().map(|&folder| folder.to_owned()).collect();
    while let Some(folder) = folders.pop() {
        let path = data_dir.join(&folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(file_error(&path)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(file_error(&path))?;
            let stray = || BackupError::Stray { path: entry.path() };
            let name = format!("{folder}/{}", entry.file_name().to_str().ok_or_else(stray)?);
            let kind = entry.file_type().map_err(file_error(&entry.path()))?;
            // An authority that is being made, or was not finished.
            if name.starts_with("authority/unfinished") || name.ends_with(".tmp") {
                continue;
            }
            if !is_name(&name) {
                return Err(stray());
            }
            if kind.is_dir() { folders.push(name) } else { names.push(name) }
        }
    }
    names.sort();
    Ok(names)
}

/// The folder that a file is in, or is to be in.
fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error(folder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::backup::Reader;
    use crate::store::embedded::EmbeddedStore;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn fleet() -> (tempfile::TempDir, EmbeddedStore) {
        let folder = tempfile::tempdir().expect("folder");
        let store = EmbeddedStore::open(folder.path()).expect("opens");
        fs::create_dir_all(folder.path().join("authority/1")).expect("made");
        fs::create_dir_all(folder.path().join("authority/unfinished")).expect("made");
        for name in ["authority/server-key.pem", "authority/1/key.pem", "authority/unfinished/key.pem"] {
            fs::write(folder.path().join(name), name).expect("written");
        }
        (folder, store)
    }

    const LIST: &str = "a list of tokens";

    fn make(folder: &Path, file: &Path, keys: Keys, overwrite: Overwrite) -> Result<Manifest, BackupError> {
        back_up(folder, file, keys, overwrite, NOW, &mut |_, _, _| {})
    }

    fn names(file: &Path) -> Vec<String> {
        let (mut reader, _) = Reader::open(File::open(file).expect("there")).expect("a backup");
        let mut names = Vec::new();
        while let Some(entry) = reader.next_file().expect("reads") {
            reader.copy(&mut io::sink(), &mut |_| {}).expect("reads");
            names.push(entry.name);
        }
        reader.finish().expect("whole");
        names
    }

    #[test]
    fn a_backup_of_a_running_store_is_private_whole_and_leaves_nothing_else_behind() {
        let ((data, _running), target) = (fleet(), tempfile::tempdir().expect("folder"));
        let file = target.path().join("fleet.backup");
        fs::write(data.path().join(ACCESS_TOKENS), LIST).expect("written");
        let manifest = make(data.path(), &file, Keys::With, Overwrite::Refused).expect("backed up");
        assert!(manifest.keys && manifest.created_at_ms == NOW.0 && manifest.schema > 0);
        assert_eq!(names(&file), [DATABASE, ACCESS_TOKENS, "authority/1/key.pem", "authority/server-key.pem"]);
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(target.path()).expect("listed").count(), 1);

        let before = fs::read(&file).expect("read");
        let refused = make(data.path(), &file, Keys::Without, Overwrite::Refused);
        assert!(matches!(refused, Err(BackupError::Exists { .. })), "{refused:?}");
        assert_eq!(fs::read(&file).expect("read"), before);
        make(data.path(), &file, Keys::Without, Overwrite::Allowed).expect("replaced");
        assert_eq!(names(&file), [DATABASE, ACCESS_TOKENS]);
    }

    #[test]
    fn what_cannot_be_backed_up_is_said_and_leaves_no_file() {
        let ((data, _running), target) = (fleet(), tempfile::tempdir().expect("folder"));
        let file = target.path().join("fleet.backup");
        let nothing = make(target.path(), &file, Keys::With, Overwrite::Refused);
        assert!(matches!(nothing, Err(BackupError::Nothing { .. })), "{nothing:?}");
        let nowhere = make(data.path(), &target.path().join("missing/fleet.backup"), Keys::With, Overwrite::Refused);
        assert!(matches!(nowhere, Err(BackupError::File { .. })), "{nowhere:?}");

        let (held, _lock) = Temporary::create(beside(&file, "partial").expect("a name")).expect("created");
        let busy = make(data.path(), &file, Keys::With, Overwrite::Refused);
        assert!(matches!(busy, Err(BackupError::Busy { .. })), "{busy:?}");
        drop(held);
        let room = has_room(&file, u64::MAX / 4);
        assert!(matches!(room, Err(BackupError::Room { free, .. }) if free > 0), "{room:?}");

        fs::write(data.path().join("authority/1/a b"), b"").expect("written");
        let stray = make(data.path(), &file, Keys::With, Overwrite::Refused);
        assert!(matches!(stray, Err(BackupError::Stray { .. })), "{stray:?}");
        assert_eq!(fs::read_dir(target.path()).expect("listed").count(), 0);
    }
}
