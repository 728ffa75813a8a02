//! What the spool needs of a disk, and the system's disk behind it.
//!
//! The spool is the only user, so the trait is as small as its needs. It exists so that the same recovery, merging and claims run
//! over a disk that tears writes, forgets what was not flushed, fills up and rots, as often as a seed says.
//!
//! Must hold for every implementation: what was written is durable after [`DiskFile::sync`] returned `Ok`, and a new, renamed or
//! removed name after [`Disk::sync_folder`] did; before that either state may be found after a crash. After a failed flush nothing is
//! known of the bytes since the last good one, and flushing again proves nothing.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A disk, as far as the spool is concerned.
pub trait Disk: Debug + Send + Sync {
    /// Makes a folder and those above it; one that exists is fine.
    ///
    /// # Errors
    /// What the system said.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Holds the file for this process until the guard is dropped or the process ends; `None` where another one holds it.
    ///
    /// # Errors
    /// What the system said.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>>;

    /// The files of a folder, in any order.
    ///
    /// # Errors
    /// What the system said.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// A whole file of at most `most` bytes.
    ///
    /// # Errors
    /// What the system said; [`io::ErrorKind::FileTooLarge`] for a longer one.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>>;

    /// A new, empty file to write to.
    ///
    /// # Errors
    /// What the system said; [`io::ErrorKind::AlreadyExists`] where there is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// An existing file, to read from.
    ///
    /// # Errors
    /// What the system said.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// An existing file, to write to.
    ///
    /// # Errors
    /// What the system said.
    fn edit(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in one step; one that bore it is gone.
    ///
    /// # Errors
    /// What the system said.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system said.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the system said.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Fills the buffer from an offset.
    ///
    /// # Errors
    /// What the system said.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of it at an offset.
    ///
    /// # Errors
    /// What the system said; some of it may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// What the system said; the file must then not be written again.
    fn sync(&self) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// What the system said.
    fn set_len(&self, length: u64) -> io::Result<()>;
}

/// Something held until it is dropped.
pub trait Guard: Debug + Send + Sync {}

impl Guard for File {}

/// The disk of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(source),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let length = fs::metadata(path)?.len();
        if length > most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes")));
        }
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn edit(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

impl DiskFile for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }
}

/// Whether there was no room: on the disk, under a quota, or under a limit on the size of files. All of them end when room is made.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// A disk that recovers by itself does so within a few attempts.
const READ_ATTEMPTS: usize = 3;

/// Reads a file on which more depends than on an attempt.
pub(super) fn read_patiently(disk: &dyn Disk, path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut read = disk.read(path, most);
    for _ in 1..READ_ATTEMPTS {
        match read {
            Err(error) if error.kind() != io::ErrorKind::NotFound => read = disk.read(path, most),
            done => return done,
        }
    }
    read
}

/// Why a file was not replaced.
#[derive(Debug)]
pub(super) struct NotReplaced {
    /// What the system said.
    pub(super) source: io::Error,
    /// The old content is certainly still there; otherwise either may be found after a crash.
    pub(super) untouched: bool,
}

/// Gives `path` new content in one step: written aside, flushed, renamed, and the name flushed.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), NotReplaced> {
    let aside = path.with_extension("tmp");
    let prepare = || {
        match disk.remove(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(&aside)?;
        file.write_all_at(bytes, 0)?;
        file.sync()
    };
    prepare().map_err(|source| {
        // What was prepared takes place that a full disk does not have.
        drop(disk.remove(&aside));
        NotReplaced { source, untouched: true }
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    disk.rename(&aside, path)
        .and_then(|()| disk.sync_folder(folder))
        .map_err(|source| NotReplaced { source, untouched: false })
}
