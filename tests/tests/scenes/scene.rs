//! Folders of frames.

use std::path::{Path, PathBuf};

use driftglass_protocol::unit::UnixMillis;
use image::RgbImage;

use crate::recorded;

/// Longer side of the pictures that faults are put into.
const MOST_SIDE: u32 = 320;
/// Most frames of a clip that are looked at.
const MOST_FRAMES: usize = 200;

/// One camera.
pub(crate) struct Scene {
    pub(crate) name: String,
    /// In order of time.
    pub(crate) frames: Vec<PathBuf>,
    /// When each was taken, where the folder says so.
    pub(crate) times: Option<Vec<UnixMillis>>,
}

impl Scene {
    fn read(folder: &Path, root: &Path) -> Self {
        let frames: Vec<PathBuf> = entries(folder)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "jpg" || extension == "png"))
            .collect();
        let times = recorded::times(folder, frames.len());
        let name = folder.strip_prefix(root).unwrap_or(folder).display().to_string();
        Self { name, frames, times }
    }

    /// Its first frames.
    pub(crate) fn beginning(mut self) -> Self {
        self.frames.truncate(MOST_FRAMES);
        self
    }

    /// Its last frames; `None` where those are its first ones.
    pub(crate) fn end(mut self) -> Option<Self> {
        let before = self.frames.len().checked_sub(MOST_FRAMES).filter(|before| *before > 0)?;
        self.frames.drain(..before);
        Some(self)
    }

    /// The other way round.
    pub(crate) fn backwards(mut self) -> Self {
        self.frames.reverse();
        self
    }

    /// Its pictures, small.
    pub(crate) fn pictures(&self) -> Vec<RgbImage> {
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path).expect("reads");
            driftglass_agent::fault::shrink(driftglass_agent::fault::decode(&bytes).expect("decodes"), MOST_SIDE)
        };
        self.frames.iter().map(read).collect()
    }
}

/// All folders with a `meta.json` and without a known change of their own.
pub(crate) fn all() -> Vec<Scene> {
    let root = recorded::root();
    let mut scenes = Vec::new();
    collect(&root, &root, &mut scenes);
    assert!(!scenes.is_empty(), "no footage in {}. Set DRIFTGLASS_FOOTAGE to its folder.", root.display());
    scenes
}

fn collect(folder: &Path, root: &Path, scenes: &mut Vec<Scene>) {
    if folder.join("meta.json").exists() {
        if !folder.join("events.json").exists() {
            scenes.push(Scene::read(folder, root));
        }
        return;
    }
    for below in entries(folder) {
        if below.is_dir() {
            collect(&below, root, scenes);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}
