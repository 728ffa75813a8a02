//! One encoded picture to feature values, beside the plain decode of the same bytes, which this path contains.
#![expect(clippy::expect_used, reason = "a bench that cannot read its frames is over")]

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use driftglass_agent::decode::Decoder;
use driftglass_agent::fault;
use driftglass_agent::feature::CameraState;
use driftglass_benches::beside;
use image::imageops::FilterType;

fn shipped() -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../aggregator/driftglass/frames/campus-pedestrians/000020.jpg");
    std::fs::read(path).expect("a shipped frame")
}

fn full_hd(frame: &[u8]) -> Vec<u8> {
    let small = fault::decode(frame).expect("a shipped frame");
    let large = image::imageops::resize(&small, 1920, 1080, FilterType::CatmullRom);
    fault::encode_jpeg(&large, 90).expect("encodes")
}

fn features(c: &mut Criterion) {
    let small = shipped();
    let mut group = c.benchmark_group("frame_to_features");
    group.sample_size(20);
    for (name, bytes) in [("480x360", small.clone()), ("1920x1080", full_hd(&small))] {
        let (mut decoder, mut camera) = (Decoder::new(), CameraState::new());
        group.bench_with_input(BenchmarkId::from_parameter(name), &bytes, |b, bytes| {
            b.iter(|| camera.observe(&decoder.measure(bytes).expect("a picture")));
        });
        beside(
            &format!("{name}, {} kB, features", bytes.len() / 1000),
            30,
            || {
                black_box(camera.observe(&decoder.measure(&bytes).expect("a picture")));
            },
            "decode alone",
            || {
                black_box(image::load_from_memory(&bytes).expect("a picture"));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, features);
criterion_main!(benches);
