//! A folder of frames, measured.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::{CameraState, Measurements, Reference, ReferenceLearner};
use driftglass_protocol::feature::FeatureValues;
use thiserror::Error;

/// Most frames read from one folder; beyond, frames are taken at even distances.
const FRAMES_MAX: usize = 5_000;
/// Largest file read.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Why a folder cannot be read at all.
#[derive(Debug, Error)]
pub(crate) enum FolderError {
    /// It cannot be listed.
    #[error("cannot read {path}: {error}")]
    List {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It has no picture.
    #[error("{path} holds no picture (jpg, jpeg, png)")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// Every readable frame of a folder in order, and every unreadable one with its reason.
pub(crate) struct Measured {
    frames: Vec<Measurements>,
    /// Files left out.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
}

impl Measured {
    /// Reads and measures all pictures, showing progress on a terminal.
    ///
    /// # Errors
    /// One variant of [`FolderError`] per cause.
    pub(crate) fn read(folder: &Path) -> Result<Self, FolderError> {
        let list = |error| FolderError::List { path: folder.to_owned(), error };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(list)? {
            let path = entry.map_err(list)?.path();
            let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
            if extension.is_some_and(|extension| extension == "jpg" || extension == "jpeg" || extension == "png") {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(FolderError::Empty { path: folder.to_owned() });
        }
        paths.sort();
        let step = paths.len().div_ceil(FRAMES_MAX);
        let chosen: Vec<PathBuf> = paths.into_iter().step_by(step).collect();

        let mut decoder = Decoder::new();
        let mut measured = Self { frames: Vec::with_capacity(chosen.len()), unreadable: Vec::new() };
        let terminal = io::stderr().is_terminal();
        for (index, path) in chosen.iter().enumerate() {
            match bytes(path).and_then(|bytes| decoder.measure(&bytes).map_err(|error| error.to_string())) {
                Ok(frame) => measured.frames.push(frame),
                Err(error) => measured.unreadable.push((path.clone(), error)),
            }
            if terminal && (index % 10 == 0 || index + 1 == chosen.len()) {
                drop(write!(io::stderr(), "\r{}: {}/{} frames", folder.display(), index + 1, chosen.len()));
            }
        }
        if terminal {
            drop(writeln!(io::stderr()));
        }
        Ok(measured)
    }

    /// The reference picture of this folder.
    pub(crate) fn learn(&self) -> Option<Reference> {
        let mut learner = ReferenceLearner::new();
        for frame in &self.frames {
            learner.learn(frame);
        }
        learner.reference()
    }

    /// The values of every frame, in order, held against a reference picture.
    pub(crate) fn values(&self, reference: Option<&Reference>) -> Vec<FeatureValues> {
        let mut state =
            reference.map_or_else(CameraState::new, |reference| CameraState::with_reference(reference.clone()));
        self.frames.iter().map(|frame| state.observe(frame)).collect()
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("{length} bytes, at most {FILE_BYTES_MAX} are read"));
    }
    fs::read(path).map_err(|error| error.to_string())
}
