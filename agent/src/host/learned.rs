//! Files of what detectors have learned, one a camera, so that a restart does not make them forget.
//!
//! A file is replaced in one step and not flushed: after a power cut it may be old or damaged, which its checksum tells, and detectors
//! only advise.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use driftglass_protocol::id::Name;

use crate::prediction::KEPT_BYTES;

/// The folder within the agent's state folder.
const FOLDER: &str = "detectors";

/// The folder of these files.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    folder: PathBuf,
    complained: bool,
}

impl Learned {
    /// Those of this agent; nothing is touched yet.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { folder: state_dir.join(FOLDER), complained: false }
    }

    /// What was kept of a camera. What cannot be read is logged, and is none.
    pub(super) fn read(&self, camera: &Name) -> Option<Vec<u8>> {
        let path = self.path(camera);
        let mut bytes = Vec::new();
        // One byte more than there can be, so that a longer file shows.
        let most = KEPT_BYTES as u64 + 1;
        match File::open(&path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
            Ok(_) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what detectors had learned cannot be read");
                None
            }
        }
    }

    /// Keeps it; a failure is logged once.
    pub(super) fn keep(&mut self, camera: &Name, learned: &[u8]) {
        match self.replace(camera, learned) {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::warn!(folder = %self.folder.display(), %error, "what detectors learn cannot be kept for a later start");
            }
            Err(error) => tracing::debug!(%error, "not kept"),
        }
    }

    fn replace(&self, camera: &Name, learned: &[u8]) -> io::Result<()> {
        let (path, aside) = (self.path(camera), self.folder.join(format!(".{camera}")));
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?.write_all(learned)?;
        fs::rename(&aside, path)
    }

    fn path(&self, camera: &Name) -> PathBuf {
        self.folder.join(camera.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_a_camera_is_replaced_in_one_step_and_private() {
        let state = tempfile::tempdir().expect("folder");
        let camera = Name::parse("door").expect("name");
        let mut learned = Learned::new(state.path());
        assert_eq!(learned.read(&camera), None);
        learned.keep(&camera, b"first");
        // Left by a process that died in between.
        fs::write(state.path().join("detectors/.door"), "half").expect("written");
        learned.keep(&camera, b"second");
        assert_eq!(learned.read(&camera).as_deref(), Some(&b"second"[..]));
        let mode = |path: &str| fs::metadata(state.path().join(path)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("detectors"), mode("detectors/door")), (0o700, 0o600));
        assert_eq!(fs::read_dir(state.path().join("detectors")).expect("listed").count(), 1);
        fs::write(state.path().join("detectors/door"), vec![0; 2 * KEPT_BYTES]).expect("written");
        assert_eq!(learned.read(&camera).map(|bytes| bytes.len()), Some(KEPT_BYTES + 1));
    }

    #[test]
    fn a_folder_that_cannot_be_written_stops_nothing() {
        let state = tempfile::tempdir().expect("folder");
        fs::write(state.path().join("detectors"), "a file").expect("written");
        let mut learned = Learned::new(state.path());
        learned.keep(&Name::parse("door").expect("name"), b"x");
        assert!(learned.complained);
        assert_eq!(learned.read(&Name::parse("door").expect("name")), None);
    }
}
