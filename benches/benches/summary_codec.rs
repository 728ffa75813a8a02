//! A camera-minute as a record: encoded, then decoded and checked; beside the goal of 1.5 kB and the checksum alone.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::CameraState;
use driftglass_agent::window::{CameraWindow, Scratch};
use driftglass_benches::beside;
use driftglass_protocol::id::Name;
use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, Mark, Record, RecordId, parse_frame};

/// The window of 60 real frames (the shipped ones, some twice).
fn minute() -> CameraWindow {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../aggregator/driftglass/frames/campus-pedestrians");
    let (mut decoder, mut camera) = (Decoder::new(), CameraState::new());
    let mut window = CameraWindow::new(Millis(60_000), None, None);
    for frame in 0..92_i64 {
        let bytes = std::fs::read(folder.join(format!("{:06}.jpg", frame % 48))).expect("a shipped frame");
        let values = camera.observe(&decoder.measure(&bytes).expect("a picture"));
        // The first 32 teach the camera's reference and are not counted.
        if frame >= 32 {
            window.add(&values, UnixMillis((frame - 32) * 1000));
        }
    }
    window
}

fn codec(c: &mut Criterion) {
    let name = Name::parse("entrance").expect("a name");
    let mut scratch = Scratch::default();
    let summary = minute().finish(&name, None, &mut scratch).expect("a window");
    let record = Record {
        id: RecordId { epoch: 1, first: 1, last: 1 },
        previous: Mark::default(),
        body: Body::Summary(summary),
    };
    let mut out = vec![0; FRAME_BYTES];
    let length = record.write(&mut out).expect("fits");
    let bytes = out.get(..length).expect("written").to_vec();
    println!(
        "one camera-minute, 60 frames: {length} bytes; goal 1500; ratio {:.2}",
        f64::from(u32::try_from(length).unwrap_or(0)) / 1500.0
    );

    let mut group = c.benchmark_group("summary_codec");
    group.sample_size(30);
    group.bench_function("encode", |b| b.iter(|| record.write(&mut out)));
    group.bench_function("decode and check", |b| {
        b.iter(|| Record::parse(parse_frame(&bytes).expect("a frame")).map(|record| record.id));
    });
    group.finish();
    beside(
        "decode and check",
        2000,
        || {
            black_box(Record::parse(parse_frame(&bytes).expect("a frame")).expect("a record"));
        },
        "framing and checksum alone",
        || {
            black_box(parse_frame(black_box(&bytes)).expect("a frame"));
        },
    );
}

criterion_group!(benches, codec);
criterion_main!(benches);
