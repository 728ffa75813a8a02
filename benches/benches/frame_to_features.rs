//! A JPEG to all its features, beside nothing but a full decode of the same bytes by a library.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and one that cannot run stops and says why"
)]

use std::io::Cursor;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode};
use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::{CameraState, REFERENCE_FRAMES};
use driftglass_benches::material::{Numbers, shipped_frames};
use driftglass_benches::turns::{Turns, time};
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::imageops::FilterType;
use image::{ImageDecoder, ImageFormat};

/// Frames of the larger size; each takes a moment to make.
const LARGE_FRAMES: usize = 8;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20)
        .configure_from_args();
    let small = shipped_frames().expect("the frames ship with the sources");
    let large: Vec<Vec<u8>> = small.iter().step_by(small.len() / LARGE_FRAMES).map(|frame| enlarge(frame)).collect();
    let mut lines = Vec::new();
    for (size, frames) in [("480x360", small), ("1920x1080", large)] {
        lines.extend(bench(&mut criterion, size, &frames));
    }
    criterion.final_summary();
    for line in lines {
        println!("{line}");
    }
}

/// Grain put on enlarged frames, in levels either way: what enlarging smooths away, and what makes the files as long as a camera's.
const GRAIN: u8 = 4;

/// The middle of a frame at four times its size, with grain. The encoder keeps chroma at full resolution, which cameras do not.
fn enlarge(frame: &[u8]) -> Vec<u8> {
    let picture = image::load_from_memory_with_format(frame, ImageFormat::Jpeg).expect("a JPEG");
    let mut picture = picture.crop_imm(0, 45, 480, 270).resize_exact(1920, 1080, FilterType::CatmullRom).into_rgb8();
    let mut numbers = Numbers::new(1);
    for pixel in picture.pixels_mut() {
        let up = u8::try_from(numbers.draw() % (2 * u64::from(GRAIN) + 1)).expect("small");
        pixel.0 = pixel.0.map(|level| level.saturating_add(up).saturating_sub(GRAIN));
    }
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&picture).expect("encodes");
    bytes
}

fn bench(criterion: &mut Criterion, size: &str, frames: &[Vec<u8>]) -> Option<String> {
    let mut turns = Turns::new(1, &["features", "decoding alone"]);
    let mut group = criterion.benchmark_group("frame_to_features");
    group.sampling_mode(SamplingMode::Flat);
    let mut camera = None;
    group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
        // Made once: criterion calls this closure anew for every sample.
        let Camera { decoder, state, pixels } = camera.get_or_insert_with(|| Camera::in_service(frames));
        bencher.iter_custom(|iterations| {
            let mut ours = frames.iter().cycle();
            let mut theirs = frames.iter().cycle();
            let mut features = |runs| {
                time(runs, || {
                    let frame = ours.next().expect("endless");
                    state.observe(&decoder.measure(frame).expect("measures"))
                })
            };
            let mut decoding = |runs| time(runs, || decode(theirs.next().expect("endless"), pixels));
            turns.run(iterations, &mut [&mut features, &mut decoding])
        });
    });
    group.finish();
    let seconds = turns.seconds(0)?;
    let kilobytes = frames.iter().map(Vec::len).sum::<usize>() / frames.len() / 1000;
    Some(format!("{size}, {kilobytes} KB: {turns}; {:.0} frames/s on one core", 1.0 / seconds))
}

/// What an agent keeps of a camera, and a buffer for the library on its own.
struct Camera {
    decoder: Decoder,
    state: CameraState,
    pixels: Vec<u8>,
}

impl Camera {
    /// Beyond its first frames a camera is also compared with its reference.
    fn in_service(frames: &[Vec<u8>]) -> Self {
        let (mut decoder, mut state) = (Decoder::new(), CameraState::new());
        for frame in frames.iter().cycle().take(REFERENCE_FRAMES as usize) {
            state.observe(&decoder.measure(frame).expect("measures"));
        }
        assert!(state.reference().is_some(), "the reference is complete");
        Self { decoder, state, pixels: Vec::new() }
    }
}

/// What the library does on its own, into a buffer that is kept.
fn decode(frame: &[u8], pixels: &mut Vec<u8>) {
    let decoder = JpegDecoder::new(Cursor::new(frame)).expect("a JPEG");
    pixels.resize(usize::try_from(decoder.total_bytes()).expect("fits"), 0);
    decoder.read_image(pixels).expect("decodes");
}
