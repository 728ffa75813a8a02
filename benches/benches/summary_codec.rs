//! A window to the bytes of its record and back, beside the checksum alone and a copy of the same bytes.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and one that cannot run stops and says why"
)]

use std::hint::black_box;
use std::time::Duration;

use crc::{CRC_32_ISCSI, Crc};
use criterion::{Criterion, Throughput};
use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::{CameraState, REFERENCE_FRAMES};
use driftglass_agent::window::{CameraWindow, Scratch};
use driftglass_benches::material::{FRAMES, MINUTE, shipped_frames};
use driftglass_benches::turns::{Turns, time};
use driftglass_protocol::feature::{CATALOGUE, FeatureValues};
use driftglass_protocol::id::Name;
use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::sketch::Axis;
use driftglass_protocol::unit::{Fixed, UnixMillis};
use driftglass_protocol::wire::{Body, Mark, Record, RecordId, parse_frame};

/// Most bytes that a record is to have.
const GOAL_BYTES: usize = 1_500;
/// Features of the windows measured, the same as in the goal.
const FEATURES: usize = 20;
const BLOCK: u64 = 256;
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    let mut lines = Vec::new();
    for (what, frames) in [("real", real()), ("spread", spread())] {
        let mut agent = Agent::new(frames);
        let mut record = [0; FRAME_BYTES];
        agent.fill();
        let length = agent.encode(&mut record);
        let bytes = &record[..length];
        check(bytes);
        lines.push(format!(
            "{what}: {length} bytes for {FEATURES} features of {FRAMES} frames; goal {GOAL_BYTES}, ratio {:.2}",
            bytes_ratio(length)
        ));
        lines.extend(bench(&mut criterion, what, &mut agent, bytes));
    }
    criterion.final_summary();
    for line in lines {
        println!("{line}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn bytes_ratio(length: usize) -> f64 {
    length as f64 / GOAL_BYTES as f64
}

/// An agent's window with what it is filled with.
struct Agent {
    frames: Vec<FeatureValues>,
    camera: Name,
    window: CameraWindow,
    scratch: Box<Scratch>,
    minute: i64,
}

impl Agent {
    fn new(frames: Vec<FeatureValues>) -> Self {
        let camera = Name::parse("entrance").expect("a name");
        Self { frames, camera, window: CameraWindow::new(MINUTE, None, None), scratch: Box::default(), minute: 0 }
    }

    /// Counts the frames of the next window.
    fn fill(&mut self) {
        self.minute += 1;
        let start = self.minute * i64::from(MINUTE.0);
        for (second, values) in (0..).zip(&self.frames) {
            self.window.add(values, UnixMillis(start + 1000 * second));
        }
    }

    /// Closes the window and writes its record.
    fn encode(&mut self, out: &mut [u8]) -> usize {
        let summary = self.window.close(&self.camera, None, &mut self.scratch).expect("open");
        // Numbers of an agent that has run for a day.
        let id = RecordId { epoch: 3, first: 1440, last: 1440 };
        let previous = Mark { epoch: 2, sequence: 5000 };
        Record { id, previous, body: Body::Summary(summary) }.write(out).expect("fits")
    }
}

/// Sixty frames of a camera in service: the shipped ones, from the beginning again when they are used up.
fn real() -> Vec<FeatureValues> {
    let frames = shipped_frames().expect("the frames ship with the sources");
    let (mut decoder, mut state) = (Decoder::new(), CameraState::new());
    let mut observed = frames
        .iter()
        .cycle()
        .map(|frame| state.observe(&decoder.measure(frame).expect("measures")))
        .skip(REFERENCE_FRAMES as usize);
    (0..FRAMES).map(|_| first_features(&observed.next().expect("endless"))).collect()
}

/// Every frame in a bin of its own, for every feature: no sixty frames make a longer record.
fn spread() -> Vec<FeatureValues> {
    let bin = |frame: u32| i64::from(4 * frame + 2);
    let value = |axis: Axis, frame: u32| match axis {
        Axis::Linear { min, max } => {
            let span = i64::from(max.raw()) - i64::from(min.raw());
            Fixed::from_raw(min.raw() + i32::try_from(span * bin(frame) / 256).expect("within the axis"))
        }
        Axis::SquareRoot => Fixed::from_raw(i32::try_from(bin(frame) * bin(frame)).expect("at most 65,536")),
        Axis::Circular { period } => Fixed::from_ratio(i64::from(period.raw()) * bin(frame), 256 << 16),
    };
    let frame = |frame| {
        let mut values = FeatureValues::default();
        for spec in CATALOGUE.iter().take(FEATURES) {
            values.set(spec.feature, value(spec.axis, frame));
        }
        values
    };
    (0..FRAMES).map(frame).collect()
}

/// The same values for as many features as the goal speaks of.
fn first_features(all: &FeatureValues) -> FeatureValues {
    let mut values = FeatureValues::default();
    for (spec, value) in all.iter().take(FEATURES) {
        values.set(spec.feature, value.expect("a colour JPEG of a camera in service has every feature"));
    }
    values
}

fn check(bytes: &[u8]) {
    let record = decode(bytes);
    let Body::Summary(summary) = record.body else { unreachable!("a summary was written") };
    assert_eq!((summary.sketches.len(), summary.quality.frames), (FEATURES, FRAMES));
}

fn decode(bytes: &[u8]) -> Record<'_> {
    Record::parse(parse_frame(bytes).expect("a frame")).expect("a record")
}

fn bench(criterion: &mut Criterion, what: &str, agent: &mut Agent, bytes: &[u8]) -> Vec<String> {
    let limits = ["CRC-32C alone", "copying alone"];
    let mut encoding = Turns::new(BLOCK, &["encoding", limits[0], limits[1]]);
    let mut decoding = Turns::new(BLOCK, &["decoding and checking", limits[0], limits[1]]);
    let mut group = criterion.benchmark_group("summary_codec");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut out = vec![0; FRAME_BYTES];
    let mut copy = vec![0; bytes.len()];
    let mut checksum = |runs| time(runs, || CRC32C.checksum(black_box(bytes)));
    let mut copying = |runs| time(runs, || copy.copy_from_slice(black_box(bytes)));
    group.bench_function(format!("encode/{what}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut encode = |runs| {
                // Only closing and writing is timed; counting the frames is not.
                (0..runs)
                    .map(|_| {
                        agent.fill();
                        time(1, || agent.encode(black_box(&mut out)))
                    })
                    .sum()
            };
            encoding.run(iterations, &mut [&mut encode, &mut checksum, &mut copying])
        });
    });
    group.bench_function(format!("decode/{what}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut decode = |runs| time(runs, || decode(black_box(bytes)).id);
            decoding.run(iterations, &mut [&mut decode, &mut checksum, &mut copying])
        });
    });
    group.finish();
    [encoding, decoding]
        .into_iter()
        .filter(|turns| turns.blocks() > 0)
        .map(|turns| format!("{what}: {turns}"))
        .collect()
}
