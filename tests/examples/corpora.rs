//! Writes the seed corpora of the doors anew, from what the product itself writes: `cargo run -p driftglass-tests --example corpora`.
//!
//! The keys and certificates among them are made for this and are good for nothing.
#![expect(clippy::expect_used, reason = "a tool for developers; one that cannot work stops and says why")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftglass_agent::decode::Decoder;
use driftglass_agent::fault::{decode, encode_jpeg};
use driftglass_agent::feature::{CameraState, STATE_BYTES};
use driftglass_agent::spool::{CameraCheckpoint, Disk, FOLDER, Settings, open_on};
use driftglass_protocol::advisory::{Advisory, Detector, Level, Stream};
use driftglass_protocol::feature::CATALOGUE;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::identity::{Deny, DenyReason, Enrol, Issued, Renew, Secret, Token};
use driftglass_protocol::limit::{FRAME_BYTES, FRAME_HEADER_BYTES, HISTOGRAM_BYTES, LABELS_BYTES};
use driftglass_protocol::prediction::Predictions;
use driftglass_protocol::session::{Acknowledge, Hello, Refuse, RefuseReason, Welcome};
use driftglass_protocol::sketch::{Histogram, LabelCounts};
use driftglass_protocol::summary::{FeatureSketch, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, FrameError, Mark, Record, RecordId, Tombstone, TombstoneCause};
use driftglass_tests::memory_disk::MemoryDisk;
use image::imageops::FilterType;

const START: UnixMillis = UnixMillis(1_800_000_000_000);
const FRAMES: u32 = 12;

fn main() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pictures = pictures(tests);
    let state = camera_state(&pictures[0].1);
    let frames = frames();
    let put = |door: &str, name: &str, bytes: &[u8]| {
        let folder = tests.join("fuzz/corpus").join(door);
        fs::create_dir_all(&folder).expect("created");
        fs::write(folder.join(name), bytes).expect("written");
    };
    for (name, frame) in &frames {
        put("frame", name, frame);
        put("payload", name, &[&frame[5..6], &frame[FRAME_HEADER_BYTES..]].concat());
    }
    let stream: Vec<u8> = frames.iter().flat_map(|(_, frame)| frame.iter().copied()).collect();
    put("frame", "stream", &stream);
    put("frame", "stream-cut-short", &stream[..stream.len() - 7]);
    put("segment", "three-batches", &segment(&state));
    put("segment", "records-only", &stream);
    for (name, bytes) in &pictures {
        put("picture", name, bytes);
    }
    put("camera_state", "learned", &state);
    put("camera_state", "fresh", &written_state(&CameraState::new()));
    let (request, certificate) = certificates();
    put("identity", "request", &request);
    put("identity", "certificate", &certificate);
    let token = Token { secret: Secret([0x5a; 16]), fingerprint: [0xa5; 32] };
    put("identity", "token", token.to_string().as_bytes());
    put("identity", "camera", b"store-12/gw-01/entrance");
    put("identity", "spiffe", b"spiffe://driftglass.local/site/store-12/device/gw-01");
    for service in ["agent", "aggregator"] {
        let text = fs::read_to_string(tests.join(format!("../deploy/config/{service}.toml"))).expect("read");
        // With every setting in force.
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => setting,
            _ => line,
        });
        let all: String = lines.filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
        let door = format!("{service}_configuration");
        put(&door, "example", text.as_bytes());
        put(&door, "everything", all.as_bytes());
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn device() -> DeviceId {
    DeviceId { site: name("site"), device: name("gw") }
}

fn written(write: impl FnOnce(&mut [u8]) -> Result<usize, FrameError>) -> Vec<u8> {
    let mut out = vec![0; FRAME_BYTES];
    let length = write(&mut out).expect("fits");
    out.truncate(length);
    out
}

fn histogram(seed: u8) -> Vec<u8> {
    let mut histogram = Histogram::new();
    for frame in 0..u8::try_from(FRAMES).expect("few") {
        histogram.add(seed.wrapping_mul(17).wrapping_add(frame / 2));
    }
    let mut room = [0; HISTOGRAM_BYTES];
    let length = histogram.encode(&mut room);
    room[..length].to_vec()
}

/// Hands a summary of so many features to `use_it`.
fn with_summary<T>(features: usize, predicted: bool, use_it: impl FnOnce(&Summary<'_>) -> T) -> T {
    let histograms: Vec<Vec<u8>> = (0..features).map(|seed| histogram(u8::try_from(seed).expect("few"))).collect();
    let sketches = CATALOGUE.iter().zip(&histograms);
    let sketches =
        sketches.map(|(spec, histogram)| FeatureSketch { feature: spec.feature.number(), absent: 0, histogram });
    let mut labels = LabelCounts::new();
    for label in ["person", "person", "trolley"] {
        labels.add(label);
    }
    let mut room = [0; LABELS_BYTES];
    let length = labels.encode(&mut room);
    let advisory = Advisory::new(Detector::Adwin, Stream::Confidence, Level::Drift, START);
    let predictions = Predictions {
        frames: 2,
        judged: 2,
        wrong: 1,
        labels: &room[..length],
        advisories: std::iter::once(advisory).collect(),
        further_advisories: 0,
    };
    use_it(&Summary {
        camera: name("door"),
        model: None,
        window: Window { start: START, length: Millis(60_000), merged: 1 },
        first_frame: Some(START),
        last_frame: Some(START.plus(Millis(59_000))),
        quality: Quality { frames: FRAMES, late: 1, ..Quality::default() },
        sketches: sketches.collect(),
        predictions: predicted.then_some(predictions),
    })
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mark = Mark { epoch: 7, sequence: 41 };
    let version = "1.2.3".try_into().expect("short");
    let hello = Hello { device: device(), epoch: 7, instance: 99, clock: START, version };
    let record = |body: Body<'_>| {
        let record = Record { id: RecordId { epoch: 7, first: 42, last: 43 }, previous: mark, body };
        written(|out| record.write(out))
    };
    let summary =
        |features, predicted| with_summary(features, predicted, |summary| record(Body::Summary(summary.clone())));
    let refuse = Refuse { reason: RefuseReason::Gap, expected_after: mark, retry_after_s: 5 };
    let (request, certificate) = certificates();
    let enrol = Enrol { device: device(), secret: Secret([0x5a; 16]), request: &request };
    let issued = Issued {
        certificate: &certificate,
        authorities: std::iter::once(certificate.as_slice()).collect(),
        clock: START,
    };
    let tombstone = Tombstone { cause: TombstoneCause::Damaged, from: START, to: START.plus(Millis(9)) };
    vec![
        ("hello", written(|out| hello.write(out))),
        ("summary", summary(20, false)),
        ("summary-with-predictions", summary(2, true)),
        ("tombstone", record(Body::Tombstone(tombstone))),
        ("welcome", written(|out| Welcome { mark, clock: START, in_flight: 64 }.write(out))),
        ("acknowledge", written(|out| Acknowledge { mark }.write(out))),
        ("refuse", written(|out| refuse.write(out))),
        ("enrol", written(|out| enrol.write(out))),
        ("renew", written(|out| Renew { request: &request }.write(out))),
        ("issued", written(|out| issued.write(out))),
        ("deny", written(|out| Deny { reason: DenyReason::TokenUsed }.write(out))),
    ]
}

/// What an agent leaves on its disk: a head, a snapshot, three batches of two cameras.
fn segment(state: &[u8]) -> Vec<u8> {
    let disk = Arc::new(MemoryDisk::default());
    let settings = Settings { state_dir: PathBuf::from("/state"), device: device(), max_bytes: 1 << 20 };
    let mut opened = open_on(Arc::clone(&disk) as Arc<dyn Disk>, settings, 1_800_000_000).expect("opens");
    for batch in 0..3 {
        let checkpoints = ["door", "gate"].map(|camera| CameraCheckpoint {
            camera: name(camera),
            position: format!("{batch:08}.jpg").into_bytes(),
            closed_until: Some(START.plus(Millis(60_000))),
            sample_due: None,
            state: (batch == 0 && camera == "door").then(|| state.to_vec()),
        });
        with_summary(3, batch == 1, |summary| {
            opened.writer.append(&[Body::Summary(summary.clone())], checkpoints.into()).expect("there is room");
        });
    }
    drop(opened);
    let folder = Path::new("/state").join(FOLDER);
    let segments = disk.list(&folder).expect("listed");
    let segment = segments.iter().find(|path| path.extension().is_some_and(|extension| extension == "segment"));
    disk.read(segment.expect("one"), 1 << 20).expect("read")
}

/// Small ones of every kind; the first is the usual.
fn pictures(tests: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let shipped = tests.join("../aggregator/driftglass/frames/campus-pedestrians/000000.jpg");
    let scene = decode(&fs::read(shipped).expect("read")).expect("a picture");
    let small = image::imageops::resize(&scene, 72, 56, FilterType::Triangle);
    let mut grey = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut grey, 60);
    image::imageops::grayscale(&small).write_with_encoder(encoder).expect("encoded");
    let mut png = Vec::new();
    small.write_with_encoder(image::codecs::png::PngEncoder::new(&mut png)).expect("encoded");
    let kept = |name: &str| fs::read(tests.join("tests/whole/pictures").join(name)).expect("read");
    vec![
        ("baseline.jpg", encode_jpeg(&small, 70).expect("encoded")),
        ("coarse.jpg", encode_jpeg(&small, 5).expect("encoded")),
        ("grey.jpg", grey),
        ("progressive.jpg", kept("progressive.jpg")),
        ("cmyk.jpg", kept("cmyk.jpg")),
        ("one-pixel.jpg", kept("one-pixel.jpg")),
        ("colour.png", kept("colour.png")),
        ("small.png", png),
    ]
}

fn camera_state(picture: &[u8]) -> Vec<u8> {
    let measured = Decoder::new().measure(picture).expect("a picture");
    let mut state = CameraState::new();
    for _ in 0..40 {
        state.observe(&measured);
    }
    written_state(&state)
}

fn written_state(state: &CameraState) -> Vec<u8> {
    let mut out = [0; STATE_BYTES];
    let length = state.to_bytes(&mut out);
    out[..length].to_vec()
}

/// A request for a certificate, and a certificate.
fn certificates() -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::default();
    let request = params.serialize_request(&key).expect("signed").der().to_vec();
    let uri = "spiffe://driftglass.local/site/site/device/gw".try_into().expect("ASCII");
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    (request, params.self_signed(&key).expect("signed").der().to_vec())
}
