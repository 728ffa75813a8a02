//! The scene in front of the demo's cameras: real frames, shipped or the user's own.
//!
//! Must hold: at most [`MOST_FRAMES`] frames, none with a side above [`MOST_SIDE`], kept encoded, so that memory is bounded
//! whatever folder is named. A file that cannot be read is an error that names it, never a silent gap.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use driftglass_agent::fault::{self, CodecError};
use image::RgbImage;
use rust_embed::RustEmbed;
use thiserror::Error;

/// Most frames taken from a folder: the first ones in order of their names.
pub(crate) const MOST_FRAMES: usize = 240;
/// Longest side of a kept frame, in pixels; larger ones are scaled down.
pub(crate) const MOST_SIDE: u32 = 720;
/// Shortest side of a frame, in pixels: views cut from less have nothing to measure.
pub(crate) const LEAST_SIDE: u32 = 96;
/// Longest file that is read, in bytes.
const MOST_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Quality of frames that had to be scaled: high, for their views are encoded once more.
const KEPT_QUALITY: u8 = 95;

/// The frames in the binary, with their licences.
#[derive(RustEmbed)]
#[folder = "frames/campus-pedestrians"]
struct Shipped;

/// Consecutive frames of one fixed camera.
#[derive(Debug)]
pub(crate) struct Footage {
    frames: Vec<Cow<'static, [u8]>>,
    size: (u32, u32),
}

/// Why footage cannot be used.
#[derive(Debug, Error)]
pub(crate) enum FootageError {
    /// The folder cannot be listed.
    #[error("cannot list the frames in {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read frame {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than any frame needs to be.
    #[error("frame {} is longer than {MOST_FILE_BYTES} bytes", path.display())]
    FileTooLong {
        /// The file.
        path: PathBuf,
    },
    /// A file is no picture.
    #[error("frame {} is not a usable JPEG or PNG picture", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CodecError,
    },
    /// A picture is too small to cut views from.
    #[error("frame {} is {width}x{height} pixels; each side must have at least {LEAST_SIDE}", path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A loop needs two frames to differ.
    #[error("{} holds {found} JPEG or PNG pictures; at least 2 are needed", path.display())]
    TooFew {
        /// The folder.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },
}

impl Footage {
    /// The 48 frames in the binary.
    ///
    /// # Errors
    /// None is expected; a binary built with damaged frames says which.
    pub(crate) fn shipped() -> Result<Self, FootageError> {
        let names: BTreeSet<_> = Shipped::iter().filter(|name| is_picture(Path::new(name.as_ref()))).collect();
        let mut footage = Self { frames: Vec::new(), size: (0, 0) };
        for name in names {
            if let Some(file) = Shipped::get(&name) {
                footage.push(Path::new(name.as_ref()), file.data)?;
            }
        }
        footage.checked(Path::new("this program"))
    }

    /// The JPEG and PNG files of a folder in order of their names, hidden ones and subfolders left out.
    ///
    /// # Errors
    /// See [`FootageError`]; the message names the file.
    pub(crate) fn from_folder(folder: &Path) -> Result<Self, FootageError> {
        let unlisted = |source| FootageError::Folder { path: folder.to_owned(), source };
        let mut paths = BTreeSet::new();
        for entry in fs::read_dir(folder).map_err(unlisted)? {
            let path = entry.map_err(unlisted)?.path();
            if is_picture(&path) && path.is_file() {
                paths.insert(path);
                if paths.len() > MOST_FRAMES {
                    paths.pop_last();
                }
            }
        }
        let mut footage = Self { frames: Vec::new(), size: (0, 0) };
        for path in paths {
            let bytes = read(&path)?;
            footage.push(&path, Cow::Owned(bytes))?;
        }
        footage.checked(folder)
    }

    fn push(&mut self, path: &Path, bytes: Cow<'static, [u8]>) -> Result<(), FootageError> {
        let unusable = |source| FootageError::Picture { path: path.to_owned(), source };
        let picture = fault::decode(&bytes).map_err(unusable)?;
        let given = picture.dimensions();
        let picture = fault::shrink(picture, MOST_SIDE);
        let (width, height) = picture.dimensions();
        if width < LEAST_SIDE || height < LEAST_SIDE {
            return Err(FootageError::TooSmall { path: path.to_owned(), width, height });
        }
        let kept = if given == (width, height) {
            bytes
        } else {
            Cow::Owned(fault::encode_jpeg(&picture, KEPT_QUALITY).map_err(unusable)?)
        };
        if self.frames.is_empty() {
            self.size = (width, height);
        }
        self.frames.push(kept);
        Ok(())
    }

    fn checked(self, path: &Path) -> Result<Self, FootageError> {
        let found = self.frames.len();
        if found < 2 { Err(FootageError::TooFew { path: path.to_owned(), found }) } else { Ok(self) }
    }

    /// How many frames there are, 2..=[`MOST_FRAMES`].
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Width and height of the first frame, in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        self.size
    }

    /// One frame; `None` beyond the last.
    pub(crate) fn picture(&self, frame: usize) -> Option<Result<RgbImage, CodecError>> {
        self.frames.get(frame).map(|bytes| fault::decode(bytes))
    }

    #[cfg(test)]
    pub(super) fn first(mut self, count: usize) -> Self {
        self.frames.truncate(count);
        self
    }
}

fn is_picture(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let known = ["jpg", "jpeg", "png"];
    !hidden && path.extension().is_some_and(|end| known.iter().any(|known| end.eq_ignore_ascii_case(known)))
}

fn read(path: &Path) -> Result<Vec<u8>, FootageError> {
    let failed = |source| FootageError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MOST_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_FILE_BYTES {
        return Err(FootageError::FileTooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, picture: &RgbImage) {
        fs::write(folder.join(name), fault::encode_jpeg(picture, 85).unwrap()).unwrap();
    }

    #[test]
    fn the_shipped_footage_is_48_frames_with_their_licences_under_2_mb() {
        let footage = Footage::shipped().unwrap();
        assert_eq!((footage.len(), footage.size()), (48, (480, 360)));
        assert!(footage.frames.iter().map(|frame| frame.len()).sum::<usize>() < 2_000_000);
        for name in ["README.md", "LICENSE-Apache-2.0", "LICENSE-BSD-3-Clause"] {
            assert!(Shipped::get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_folder_is_read_in_order_of_names_without_hidden_and_other_files() {
        let folder = tempfile::tempdir().unwrap();
        for (name, level) in [("b.JPG", 90), ("a.jpeg", 40), (".c.jpg", 10)] {
            write(folder.path(), name, &RgbImage::from_pixel(160, 120, image::Rgb([level; 3])));
        }
        RgbImage::from_pixel(200, 120, image::Rgb([200; 3])).save(folder.path().join("c.png")).unwrap();
        fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
        fs::create_dir(folder.path().join("d.jpg")).unwrap();
        let footage = Footage::from_folder(folder.path()).unwrap();
        assert_eq!(footage.size(), (160, 120));
        let levels: Vec<u8> =
            (0..footage.len()).map(|frame| footage.picture(frame).unwrap().unwrap().get_pixel(9, 9)[0]).collect();
        assert_eq!(levels, [40, 90, 200]);
        assert!(footage.picture(3).is_none());
    }

    #[test]
    fn large_frames_are_scaled_down_and_only_the_first_240_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let small = fault::encode_jpeg(&RgbImage::new(96, 96), 50).unwrap();
        for frame in 0..250 {
            fs::write(folder.path().join(format!("{frame:03}.jpg")), &small).unwrap();
        }
        write(folder.path(), "000.jpg", &RgbImage::new(1440, 1000));
        let footage = Footage::from_folder(folder.path()).unwrap();
        assert_eq!((footage.len(), footage.size()), (MOST_FRAMES, (720, 500)));
    }

    #[test]
    fn folders_and_files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Footage::from_folder(folder.path()).unwrap_err();
        assert!(matches!(load(), FootageError::TooFew { found: 0, .. }));
        write(folder.path(), "0.jpg", &RgbImage::new(120, 120));
        assert!(matches!(load(), FootageError::TooFew { found: 1, .. }));
        write(folder.path(), "1.jpg", &RgbImage::new(120, 40));
        assert!(matches!(load(), FootageError::TooSmall { height: 40, .. }));
        fs::write(folder.path().join("1.jpg"), "no picture").unwrap();
        let error = load();
        assert!(matches!(error, FootageError::Picture { .. }) && error.to_string().contains("1.jpg"), "{error}");
        let missing = Footage::from_folder(&folder.path().join("missing")).unwrap_err();
        assert!(matches!(missing, FootageError::Folder { .. }));
    }
}
