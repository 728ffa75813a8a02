//! The boot epoch: grows with every start and is durable before the first record that bears it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::disk::{Disk, is_full, read_patiently, replace};

const FILE: &str = "epoch";
/// The file holds one number.
const FILE_BYTES: u64 = 64;

/// Why no epoch could be made durable.
#[derive(Debug, Error)]
pub enum EpochError {
    /// The state folder does not take the file.
    #[error("the epoch could not be stored in {path}: {source}")]
    Store {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The largest epoch has been used.
    #[error("the boot epoch has reached its largest value")]
    Exhausted,
}

/// The epoch of this start: more than the stored one and than `seen`, and at least the seconds since 1970, so that a lost state
/// folder does not lead back into the past. Durable when this returns.
///
/// # Errors
/// One variant of [`EpochError`] per cause.
pub fn next_epoch(disk: &dyn Disk, state_dir: &Path, seen: u32, unix_seconds: u64) -> Result<u32, EpochError> {
    let last = stored(disk, state_dir).max(seen);
    let clock = u32::try_from(unix_seconds).unwrap_or(u32::MAX);
    let epoch = last.checked_add(1).ok_or(EpochError::Exhausted)?.max(clock);
    store(disk, state_dir, epoch)?;
    Ok(epoch)
}

/// Makes sure that the next start takes an epoch beyond `floor`, which the aggregator has counted already.
///
/// # Errors
/// [`EpochError::Store`].
pub fn raise_epoch(disk: &dyn Disk, state_dir: &Path, floor: u32) -> Result<(), EpochError> {
    if stored(disk, state_dir) < floor { store(disk, state_dir, floor) } else { Ok(()) }
}

/// A missing or unreadable file counts as none: the clock and the segments stand in for it.
fn stored(disk: &dyn Disk, state_dir: &Path) -> u32 {
    let text =
        read_patiently(disk, &state_dir.join(FILE), FILE_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn store(disk: &dyn Disk, state_dir: &Path, epoch: u32) -> Result<(), EpochError> {
    let path = state_dir.join(FILE);
    let text = format!("{epoch}\n");
    let stored = match replace(disk, &path, text.as_bytes()) {
        // A full disk takes no new file, but the same bytes in the old one: an agent that starts can empty it.
        Err(error) if is_full(&error.source) => {
            disk.edit(&path).and_then(|file| file.write_all_at(text.as_bytes(), 0).and_then(|()| file.sync()))
        }
        stored => stored.map_err(|error| error.source),
    };
    stored.map_err(|source| EpochError::Store { path, source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::disk::SystemDisk;
    use super::*;

    #[test]
    fn an_epoch_always_grows_whatever_the_clock_says() {
        let folder = tempfile::tempdir().expect("folder");
        let next = |seen, clock| next_epoch(&SystemDisk, folder.path(), seen, clock).expect("stored");
        assert_eq!(next(0, 1_700_000_000), 1_700_000_000);
        assert_eq!(next(0, 1_600_000_000), 1_700_000_001, "the clock went back");
        assert_eq!(next(1_800_000_000, 0), 1_800_000_001, "the file was lost but a segment knows better");
        raise_epoch(&SystemDisk, folder.path(), 1_900_000_000).expect("stored");
        assert_eq!(next(0, 0), 1_900_000_001);
        fs::write(folder.path().join("epoch"), "rubbish").expect("written");
        assert_eq!(next(0, 5), 5);
    }
}
