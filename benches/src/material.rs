//! Frames that ship with the program, and records as an agent would write them.

use std::path::Path;
use std::{fs, io};

use driftglass_protocol::feature::{CATALOGUE, Feature};
use driftglass_protocol::id::Name;
use driftglass_protocol::limit::{FRAME_BYTES, HISTOGRAM_BYTES};
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{FeatureSketch, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, FrameError, Mark, Record, RecordId};

/// Features of a synthetic record.
pub const FEATURES: usize = 20;
/// Frames of a window: one a second for a minute.
pub const FRAMES: u32 = 60;
/// Length of a window.
pub const MINUTE: Millis = Millis(60_000);
/// Bins over which the values of a feature are spread, in the shape of a triangle; 60 gives records of about 1.5 KB.
const SPREAD: u64 = 60;
/// An arbitrary minute of the year 2025.
const FIRST_MINUTE: i64 = 29_200_000;

/// The JPEG frames that ship with the operator's tool, in order.
///
/// # Errors
/// Where the folder or a file cannot be read.
pub fn shipped_frames() -> io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../aggregator/driftglass/frames/campus-pedestrians");
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    paths.sort();
    paths.into_iter().map(fs::read).collect()
}

/// Numbers that are the same in every run.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// A sequence of its own for every `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one, uniform over all 64 bits (SplitMix64; Steele, Lea and Flood, 2014).
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A bin about the middle of the axis: the mean of two uniform numbers.
    pub fn bin(&mut self) -> u8 {
        let offset = self.draw() % SPREAD + self.draw() % SPREAD;
        u8::try_from(offset / 2 + 100).unwrap_or(u8::MAX)
    }
}

/// Windows of one camera that does not drift: every window is drawn anew from the same distribution.
#[derive(Debug)]
pub struct Camera {
    name: Name,
    numbers: Numbers,
    sequence: u64,
}

impl Camera {
    /// A camera with a sequence of numbers of its own.
    #[must_use]
    pub const fn new(name: Name, seed: u64) -> Self {
        Self { name, numbers: Numbers::new(seed), sequence: 0 }
    }

    /// Its next record, as the wire frame of epoch 1 that follows the one before.
    ///
    /// # Errors
    /// Never in practice: the largest record fits.
    pub fn next_record(&mut self) -> Result<Vec<u8>, FrameError> {
        let mut rooms = [[0; HISTOGRAM_BYTES]; FEATURES];
        let features: Vec<Feature> = CATALOGUE.iter().map(|spec| spec.feature).take(FEATURES).collect();
        let mut sketches = heapless::Vec::new();
        for (feature, room) in features.into_iter().zip(&mut rooms) {
            let mut histogram = Histogram::new();
            for _ in 0..FRAMES {
                histogram.add(self.numbers.bin());
            }
            let length = histogram.encode(room);
            let sketch = FeatureSketch { feature: feature.number(), absent: 0, histogram: &room[..length] };
            sketches.push(sketch).map_err(|_| FrameError::Overflow)?;
        }
        self.sequence += 1;
        let minute = FIRST_MINUTE.saturating_add_unsigned(self.sequence);
        let start = UnixMillis(minute.saturating_mul(i64::from(MINUTE.0)));
        let summary = Summary {
            camera: self.name.clone(),
            model: None,
            window: Window { start, length: MINUTE, merged: 1 },
            first_frame: Some(start),
            last_frame: Some(start.plus(Millis(MINUTE.0 - 1000))),
            quality: Quality { frames: FRAMES, ..Quality::default() },
            sketches,
            predictions: None,
        };
        let id = RecordId { epoch: 1, first: self.sequence, last: self.sequence };
        let record = Record { id, previous: Mark::default(), body: Body::Summary(summary) };
        let mut out = vec![0; FRAME_BYTES];
        let length = record.write(&mut out)?;
        out.truncate(length);
        out.shrink_to_fit();
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::wire::parse_frame;

    use super::*;

    #[test]
    fn the_shipped_frames_are_there() {
        let frames = shipped_frames().expect("the folder is part of the sources");
        assert!(frames.len() >= 32, "fewer than a reference is learned from: {}", frames.len());
        assert!(frames.iter().all(|frame| frame.starts_with(&[0xff, 0xd8])));
    }

    #[test]
    fn records_follow_each_other_pass_the_check_and_have_about_1500_bytes() {
        let mut camera = Camera::new(Name::parse("door").expect("name"), 7);
        let mut sum = 0;
        for sequence in 1..=50 {
            let bytes = camera.next_record().expect("fits");
            sum += bytes.len();
            let record = Record::parse(parse_frame(&bytes).expect("a frame")).expect("a record");
            assert_eq!(record.id, RecordId { epoch: 1, first: sequence, last: sequence });
            let Body::Summary(summary) = record.body else { panic!("a summary") };
            assert_eq!((summary.sketches.len(), summary.quality.frames), (FEATURES, FRAMES));
        }
        assert!((1_450..=1_550).contains(&(sum / 50)), "{} bytes on average", sum / 50);
    }
}
