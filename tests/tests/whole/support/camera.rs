//! Cameras: the frames shipped with the demo, cropped to one view per camera, arriving in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use driftglass_agent::fault::{Injector, View, Window, decode, encode_jpeg};
use image::RgbImage;

use super::repository;

const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;
const QUALITY: u8 = 85;

/// The shipped frames in order.
pub(crate) fn scene() -> Vec<RgbImage> {
    let folder = repository().join("aggregator/driftglass/frames/campus-pedestrians");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("shipped")
        .map(|entry| entry.expect("listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jpg"))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 48, "frames in {}", folder.display());
    paths.iter().map(|path| decode(&fs::read(path).expect("read")).expect("a picture")).collect()
}

/// The part of the scene that the `number`th camera shows.
pub(crate) fn view(number: u8) -> View {
    let shift = f32::from(number % 3) * 0.18;
    let window = Window::new(shift, 0.36 - shift, 0.62, 0.62).expect("within the scene");
    View { window, mirrored: number % 2 == 1, exposure: 1.0 }
}

/// A camera's pictures of the scene.
pub(crate) fn shots(scene: &[RgbImage], view: View) -> Vec<RgbImage> {
    scene.iter().map(|picture| view.show(picture, WIDTH, HEIGHT)).collect()
}

pub(crate) fn jpeg(picture: &RgbImage) -> Vec<u8> {
    encode_jpeg(picture, QUALITY).expect("encoded")
}

/// Shipped pictures of kinds that no encoder here makes. Written by Pillow 13.
pub(crate) fn shipped(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/whole/pictures");
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Writes pictures as a folder of JPEG files.
pub(crate) fn write_folder(folder: &Path, pictures: &[RgbImage]) {
    fs::create_dir_all(folder).expect("created");
    for (number, picture) in pictures.iter().enumerate() {
        fs::write(folder.join(format!("{number:06}.jpg")), jpeg(picture)).expect("written");
    }
}

/// A camera that plays its pictures to and fro, so that there is no jump and no picture comes twice in a row.
#[derive(Debug)]
pub(crate) struct Camera {
    folder: PathBuf,
    clear: Vec<Vec<u8>>,
    faulted: Option<Vec<Vec<u8>>>,
    place: usize,
    backwards: bool,
    /// Files written so far.
    pub(crate) written: u64,
}

impl Camera {
    pub(crate) fn new(folder: PathBuf, pictures: &[RgbImage], place: usize) -> Self {
        fs::create_dir_all(&folder).expect("created");
        let clear = pictures.iter().map(jpeg).collect();
        Self { folder, clear, faulted: None, place, backwards: false, written: 0 }
    }

    /// From the next frame on its pictures come out faulted.
    pub(crate) fn break_with(&mut self, mut injector: Injector, pictures: &[RgbImage]) {
        let faulted = pictures.iter().zip(0..).map(|(picture, index)| jpeg(&injector.apply(index, picture)));
        self.faulted = Some(faulted.collect());
    }

    /// Writes the next frame; the file appears at once and complete.
    pub(crate) fn shoot(&mut self) {
        let bytes = self.faulted.as_ref().unwrap_or(&self.clear)[self.place].clone();
        self.deliver(&bytes);
        if self.place == 0 {
            self.backwards = false;
        } else if self.place + 1 == self.clear.len() {
            self.backwards = true;
        }
        self.place = if self.backwards { self.place - 1 } else { self.place + 1 };
    }

    /// Writes any bytes as the next file.
    pub(crate) fn deliver(&mut self, bytes: &[u8]) {
        let name = format!("{:08}.jpg", self.written);
        let hidden = self.folder.join(format!(".{name}"));
        fs::write(&hidden, bytes).expect("written");
        fs::rename(hidden, self.folder.join(name)).expect("renamed");
        self.written += 1;
    }

    /// Path of the next file, which the caller makes himself.
    pub(crate) fn claim(&mut self) -> PathBuf {
        let path = self.folder.join(format!("{:08}.jpg", self.written));
        self.written += 1;
        path
    }
}
