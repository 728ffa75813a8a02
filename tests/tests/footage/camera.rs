//! Cameras: folders of frames, cut into a first half, which is normal, and a second half, which is clean or has a fault.

use std::fs;
use std::path::{Path, PathBuf};

use driftglass_agent::decode::Decoder;
use driftglass_agent::fault::{Injector, Kind, Severity, decode, encode_jpeg, shrink};
use driftglass_agent::feature::{CameraState, Measurements, Reference, ReferenceLearner};
use driftglass_aggregator::baseline::slot::{DayPart, Place};
use driftglass_protocol::feature::FeatureValues;
use image::RgbImage;

use crate::recorded;

/// Frames the reference is learned from.
pub(crate) const REFERENCE: usize = 32;
/// Most frames taken of a half, spread over it.
const HALF: usize = 48;
/// A camera with fewer frames than this is left out.
const FEWEST: usize = 40;
/// Longest side: a fifth of the pixels, and of the time, of most cameras.
const SIDE: u32 = 320;
const QUALITY: u8 = 90;

/// One camera's frames.
pub(crate) struct Camera {
    pub(crate) name: String,
    normal: Vec<Taken>,
    later: Vec<Taken>,
}

/// A picture, and the part of the day it is of, where the folder says when each was taken.
#[derive(Clone)]
struct Taken {
    path: PathBuf,
    part: Option<DayPart>,
}

/// The cameras of the footage, in order of their names.
pub(crate) fn cameras() -> Vec<Camera> {
    let folder = recorded::root();
    let mut cameras = Vec::new();
    collect(&folder, 2, &mut cameras);
    cameras.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cameras.is_empty(), "no frames in {}. DRIFTGLASS_FOOTAGE names another folder.", folder.display());
    cameras
}

fn collect(folder: &Path, depth: u32, cameras: &mut Vec<Camera>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut frames = Vec::new();
    for entry in entries {
        let path = entry.expect("listed").path();
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, cameras);
        } else if path.extension().is_some_and(|extension| extension == "jpg") {
            frames.push(path);
        }
    }
    if frames.is_empty() {
        return;
    }
    let name = folder.file_name().expect("named").to_string_lossy().into_owned();
    if frames.len() < FEWEST {
        println!("{name} has {} frames and is left out; {FEWEST} are needed", frames.len());
        return;
    }
    frames.sort();
    let times = recorded::times(folder, frames.len());
    let part = |index: usize| Place::nowhere().slot(*times.as_ref()?.get(index)?, false).day_part();
    let frames = frames.into_iter().enumerate().map(|(index, path)| Taken { path, part: part(index) });
    let mut frames: Vec<Taken> = frames.collect();
    let later = frames.split_off(frames.len() / 2);
    cameras.push(Camera { name, normal: spread(frames), later: spread(later) });
}

fn spread(frames: Vec<Taken>) -> Vec<Taken> {
    let count = frames.len();
    let kept = count.min(HALF);
    (0..kept).map(|index| frames[index * count / kept].clone()).collect()
}

fn pictures(frames: &[Taken]) -> Vec<RgbImage> {
    let read = |frame: &Taken| shrink(decode(&fs::read(&frame.path).expect("read")).expect("a picture"), SIDE);
    frames.iter().map(read).collect()
}

/// What was measured of a camera that may have one kind of fault.
pub(crate) struct Measured<'a> {
    pub(crate) kind: Kind,
    /// The first half, without the fault.
    pub(crate) normal: &'a [Measurements],
    /// The second half, without it.
    pub(crate) clean: &'a [Measurements],
    /// The second half, with it.
    pub(crate) faulted: Vec<Measurements>,
}

pub(crate) fn measure(pictures: &[RgbImage]) -> Vec<Measurements> {
    let mut decoder = Decoder::new();
    let measured = |picture| decoder.measure(&encode_jpeg(picture, QUALITY).expect("encoded")).expect("measured");
    pictures.iter().map(measured).collect()
}

impl Camera {
    /// The part of the day of each frame of the first and of the second half.
    pub(crate) fn parts(&self) -> [Vec<Option<DayPart>>; 2] {
        [&self.normal, &self.later].map(|frames| frames.iter().map(|frame| frame.part).collect())
    }

    /// The first and the second half as pictures.
    pub(crate) fn pictures(&self) -> (Vec<RgbImage>, Vec<RgbImage>) {
        (pictures(&self.normal), pictures(&self.later))
    }

    /// Measures the camera with every kind of fault, and hands each to `each` in turn.
    pub(crate) fn with_every_fault(&self, severity: Severity, mut each: impl FnMut(Measured<'_>)) {
        let (normal, later) = self.pictures();
        // Which way things go differs from camera to camera.
        let seed = self.name.bytes().map(u64::from).sum();
        // Kinds that move the view show a part of the picture also without the fault.
        let mut clear: Vec<(RgbImage, Vec<Measurements>, Vec<Measurements>)> = Vec::new();
        for kind in Kind::ALL {
            let mut injector = Injector::new(kind, severity, seed);
            let first = injector.clear_view(&normal[0]);
            let known = clear.iter().position(|(picture, ..)| *picture == first);
            let known = known.unwrap_or_else(|| {
                let views = |pictures: &[RgbImage]| -> Vec<RgbImage> {
                    pictures.iter().map(|picture| injector.clear_view(picture)).collect()
                };
                clear.push((first, measure(&views(&normal)), measure(&views(&later))));
                clear.len() - 1
            });
            let faulted: Vec<RgbImage> =
                later.iter().zip(0..).map(|(picture, index)| injector.apply(index, picture)).collect();
            let (_, normal, clean) = &clear[known];
            each(Measured { kind, normal, clean, faulted: measure(&faulted) });
        }
    }
}

/// The reference that these frames give.
pub(crate) fn reference(frames: &[Measurements]) -> Reference {
    let mut learner = ReferenceLearner::new();
    for frame in frames {
        learner.learn(frame);
    }
    learner.reference().expect("frames")
}

/// The values of consecutive frames, held against a reference.
pub(crate) fn values(reference: &Reference, frames: &[Measurements]) -> Vec<FeatureValues> {
    let mut state = CameraState::with_reference(reference.clone());
    frames.iter().map(|frame| state.observe(frame)).collect()
}
