//! The demo's cameras: eight views cut out of one real scene, each a folder into which frames arrive.
//!
//! A demo needs several cameras and one that breaks, on pictures that are real. One scene serves: each camera shows its own
//! part of it, some mirrored, each with its own exposure, and plays it to and fro from its own place. So the cameras differ
//! as cameras do, but they are not independent witnesses; what is measured here says nothing of a fleet.
//!
//! Must hold: two frames that a camera writes in a row differ, unless its fault makes them equal, for a live camera never
//! repeats a picture; a folder never holds more than its bound; a reader never sees half a file; every view leaves
//! room in the scene, so that a camera that is pushed aside shows real pixels.
//!
//! Deliberately absent: a clock. The caller decides when the next frame is due.

mod footage;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftglass_agent::fault::{self, CodecError, Injector, Kind, View, Window};
use thiserror::Error;

pub(crate) use footage::Footage;

/// Most cameras cut out of one scene.
pub(crate) const MOST_CAMERAS: usize = 8;
/// Quality of the cameras' JPEG files.
const QUALITY: u8 = 85;
/// Widest view, in pixels.
const MOST_WIDTH: u32 = 480;
/// Digits of a file name. Only files named like this are ever removed.
const DIGITS: usize = 12;

/// Left, top and size of a view in shares of the scene, whether it is mirrored, and its exposure.
///
/// None is larger than 0.66: the widest push is 14.5/70 of a view's width, and one side then has that much room.
const VIEWS: [(f32, f32, f32, bool, f32); MOST_CAMERAS] = [
    (0.00, 0.00, 0.62, false, 1.00),
    (0.38, 0.00, 0.62, false, 0.92),
    (0.00, 0.34, 0.66, true, 1.00),
    (0.34, 0.34, 0.66, false, 1.08),
    (0.18, 0.10, 0.60, true, 0.95),
    (0.30, 0.20, 0.58, false, 1.05),
    (0.08, 0.16, 0.64, true, 1.10),
    (0.36, 0.12, 0.60, false, 0.90),
];

fn view(camera: usize) -> View {
    let (left, top, size, mirrored, exposure) = VIEWS[camera % MOST_CAMERAS];
    View { window: Window::new(left, top, size, size).unwrap_or(Window::CENTRE), mirrored, exposure }
}

/// How far the preparation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Frames of the scene that are done.
    pub(crate) done: usize,
    /// Frames of the scene in all.
    pub(crate) total: usize,
}

/// Why the cameras cannot be set up.
#[derive(Debug, Error)]
pub(crate) enum RigError {
    /// No folder, or more folders than there are views.
    #[error("{given} cameras asked for; 1 to {MOST_CAMERAS} can be cut out of one scene")]
    Cameras {
        /// How many folders were given.
        given: usize,
    },
    /// A frame of the scene cannot be read or a view of it not written.
    #[error("cannot prepare frame {frame} of the scene")]
    Frame {
        /// Which, from 0.
        frame: usize,
        /// Why.
        source: CodecError,
    },
    /// A camera's folder cannot be made or listed.
    #[error("cannot use camera folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A camera that shows the same picture all the time would rightly be reported as frozen.
    #[error("nothing changes in the part of the scene that camera {camera} shows")]
    Still {
        /// Which camera, from 0.
        camera: usize,
    },
}

/// The cameras and the scene before them.
///
/// Memory: the scene's frames and, for each camera, its frames once clear and once faulted, all as JPEG.
#[derive(Debug)]
pub(crate) struct CameraRig {
    footage: Footage,
    view_size: (u32, u32),
    keep: usize,
    cameras: Vec<Camera>,
}

#[derive(Debug)]
struct Camera {
    view: View,
    shots: Vec<Shot>,
    playback: Playback,
    fault: Option<Fault>,
    last: Option<Arc<[u8]>>,
    folder: Folder,
}

/// One frame of a camera's loop.
#[derive(Debug)]
struct Shot {
    /// Which frame of the scene it was cut from.
    frame: usize,
    clear: Arc<[u8]>,
}

#[derive(Debug)]
struct Fault {
    injector: Injector,
    /// The faulted frames made so far, one place for each shot.
    shots: Vec<Option<Arc<[u8]>>>,
    /// Frames since the fault began.
    frames: u64,
}

impl CameraRig {
    /// Sets up one camera for each folder, cuts and encodes all their frames, and makes the folders. A folder that an
    /// earlier run used is taken over: numbers go on after its last file.
    ///
    /// `keep` is the most files a folder holds. `progress` is called after each frame of the scene.
    ///
    /// # Errors
    /// See [`RigError`].
    pub(crate) fn new(
        footage: Footage,
        folders: &[PathBuf],
        keep: NonZeroUsize,
        mut progress: impl FnMut(Progress),
    ) -> Result<Self, RigError> {
        if folders.is_empty() || folders.len() > MOST_CAMERAS {
            return Err(RigError::Cameras { given: folders.len() });
        }
        let view_size = view_size(footage.size());
        let mut shots: Vec<Vec<Shot>> = folders.iter().map(|_| Vec::new()).collect();
        let total = footage.len();
        for frame in 0..total {
            let failed = |source| RigError::Frame { frame, source };
            let Some(scene) = footage.picture(frame) else { break };
            let scene = scene.map_err(failed)?;
            for (camera, shots) in shots.iter_mut().enumerate() {
                let picture = view(camera).show(&scene, view_size.0, view_size.1);
                let clear: Arc<[u8]> = fault::encode_jpeg(&picture, QUALITY).map_err(failed)?.into();
                if shots.last().is_none_or(|last| last.clear != clear) {
                    shots.push(Shot { frame, clear });
                }
            }
            progress(Progress { done: frame + 1, total });
        }
        if let Some(camera) = shots.iter().position(|shots| shots.len() < 2) {
            return Err(RigError::Still { camera });
        }
        let mut cameras = Vec::new();
        for (camera, (shots, path)) in shots.into_iter().zip(folders).enumerate() {
            let folder =
                Folder::open(path.clone()).map_err(|source| RigError::Folder { path: path.clone(), source })?;
            let start = camera * shots.len() / folders.len();
            let playback = Playback { place: start, backwards: false };
            cameras.push(Camera { view: view(camera), shots, playback, fault: None, last: None, folder });
        }
        Ok(Self { footage, view_size, keep: keep.get(), cameras })
    }

    /// Writes the camera's next frame and removes its oldest files. The file appears at once and complete.
    ///
    /// # Errors
    /// There is no such camera, or the disk refuses; the same frame is then written by the next call.
    pub(crate) fn write_next(&mut self, camera: usize) -> io::Result<()> {
        let count = self.cameras.len();
        let camera = self.cameras.get_mut(camera).ok_or_else(|| no_camera(camera, count))?;
        let bytes = camera.next_frame(&self.footage, self.view_size).map_err(io::Error::other)?;
        camera.folder.add(&bytes, self.keep)?;
        camera.playback.advance(camera.shots.len());
        if let Some(fault) = &mut camera.fault {
            fault.frames = fault.frames.wrapping_add(1);
        }
        camera.last = Some(bytes);
        Ok(())
    }

    /// From the next frame on the camera has this fault, or none. Faulted frames are made when they are first due.
    ///
    /// # Errors
    /// There is no such camera.
    pub(crate) fn set_fault(&mut self, camera: usize, injector: Option<Injector>) -> io::Result<()> {
        let count = self.cameras.len();
        let camera = self.cameras.get_mut(camera).ok_or_else(|| no_camera(camera, count))?;
        let shots = camera.shots.len();
        camera.fault = injector.map(|injector| Fault { injector, shots: vec![None; shots], frames: 0 });
        Ok(())
    }
}

fn no_camera(camera: usize, count: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("there is no camera {camera}: there are {count}, from 0"))
}

/// Two thirds of the scene, about as many pixels as the views have in it.
fn view_size((width, height): (u32, u32)) -> (u32, u32) {
    let view_width = (width * 2 / 3).clamp(1, MOST_WIDTH);
    (view_width, (height * view_width / width.max(1)).max(1))
}

impl Camera {
    /// The bytes of the frame that is due.
    fn next_frame(&mut self, footage: &Footage, size: (u32, u32)) -> Result<Arc<[u8]>, CodecError> {
        let place = self.playback.place;
        let shot = &self.shots[place];
        let Some(fault) = &mut self.fault else { return Ok(Arc::clone(&shot.clear)) };
        if fault.injector.kind() == Kind::Frozen {
            let repeats = fault::repeats_last(fault.injector.severity(), fault.frames);
            return Ok(self.last.as_ref().filter(|_| repeats).map_or_else(|| Arc::clone(&shot.clear), Arc::clone));
        }
        if let Some(made) = &fault.shots[place] {
            return Ok(Arc::clone(made));
        }
        let Some(scene) = footage.picture(shot.frame) else { return Ok(Arc::clone(&shot.clear)) };
        let aimed = View { window: fault.injector.aim(self.view.window), ..self.view };
        let picture = aimed.show(&scene?, size.0, size.1);
        // Another window and another quality are the whole of these two faults.
        let picture = match fault.injector.kind() {
            Kind::Moved | Kind::Compression => picture,
            _ => fault.injector.apply(place as u64, &picture),
        };
        let made: Arc<[u8]> = fault::encode_jpeg(&picture, fault.injector.jpeg_quality(QUALITY))?.into();
        fault.shots[place] = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// To and fro over a loop: no jump where a loop would begin anew, and neighbours always differ.
#[derive(Clone, Copy, Debug)]
struct Playback {
    place: usize,
    backwards: bool,
}

impl Playback {
    /// `length` is at least 2.
    fn advance(&mut self, length: usize) {
        if self.place == 0 {
            self.backwards = false;
        } else if self.place + 1 >= length {
            self.backwards = true;
        }
        self.place = if self.backwards { self.place - 1 } else { self.place + 1 };
    }
}

/// A camera's folder and the files in it that are ours.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    numbers: VecDeque<u64>,
    next: u64,
}

impl Folder {
    fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&path)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(number) = number_of(name) {
                numbers.push(number);
            } else if name.strip_prefix('.').and_then(number_of).is_some() {
                // Left by a run that was stopped while it wrote.
                remove(&path.join(name))?;
            }
        }
        numbers.sort_unstable();
        let next = numbers.last().map_or(0, |last| last + 1);
        Ok(Self { path, numbers: numbers.into(), next })
    }

    fn add(&mut self, bytes: &[u8], keep: usize) -> io::Result<()> {
        while self.numbers.len() >= keep
            && let Some(oldest) = self.numbers.front()
        {
            remove(&self.path.join(name_of(*oldest)))?;
            self.numbers.pop_front();
        }
        let name = name_of(self.next);
        let hidden = self.path.join(format!(".{name}"));
        fs::write(&hidden, bytes)?;
        fs::rename(&hidden, self.path.join(&name))?;
        self.numbers.push_back(self.next);
        self.next += 1;
        Ok(())
    }
}

/// Removes a file; one that somebody else has removed is just as well gone.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn name_of(number: u64) -> String {
    format!("{number:0DIGITS$}.jpg")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jpg")?;
    let ours = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    if ours { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
