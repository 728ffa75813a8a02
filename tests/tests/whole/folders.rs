//! What may lie in a watched folder: anything.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use driftglass_agent::source::MAX_FILE_BYTES;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::support::authority::Authority;
use crate::support::camera::{Camera, jpeg, scene, shipped, shots, view};
use crate::support::process::lasting_port;
use crate::support::service::{Agent, Aggregator, Counts};
use crate::support::{PATIENCE, until};

/// The same picture, claiming to have 65,535 pixels a side.
fn giant(jpeg: &[u8]) -> Vec<u8> {
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).expect("a baseline JPEG");
    let mut bytes = jpeg.to_vec();
    // Marker, length, precision; then height and width.
    bytes[frame + 5..frame + 9].fill(0xff);
    bytes
}

#[test]
fn the_folder_may_hold_anything() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let pictures = shots(&scene(), view(0));
    let frames = root.join("frames");
    let mut camera = Camera::new(frames.clone(), &pictures, 0);
    let good = jpeg(&pictures[7]);
    let mut after_header = good.clone();
    after_header[20..].fill(0xa5);
    let bad: [&[u8]; 9] = [
        b"",
        b"\xff",
        &good[..good.len() / 2],
        &good[..good.len() - 2],
        &after_header,
        &giant(&good),
        b"<html><body>404 Not Found</body></html>",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x0f\xff\xff\0\x0f\xff\xff\x08\x02\0\0\0",
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
    ];
    let mut expected = Counts::default();
    for bytes in bad {
        camera.shoot();
        camera.deliver(bytes);
        camera.shoot();
        expected.frames += 2;
        expected.undecodable += 1;
    }
    let huge = camera.claim();
    File::create(huge).and_then(|file| file.set_len(MAX_FILE_BYTES + 1)).expect("a sparse file");
    expected.undecodable += 1;
    // What is no file, or says that it is not finished, is not looked at.
    fs::create_dir(frames.join("00000003.jpg.d")).expect("created");
    for name in [".hidden.jpg", "00000002.jpg.tmp", "00000004.part"] {
        fs::write(frames.join(name), "unfinished").expect("written");
    }
    camera.shoot();
    expected.frames += 1;
    // It has no time of its own and counts as of now; so it comes last.
    let ring = camera.claim();
    symlink(&ring, &ring).expect("linked");
    expected.undecodable += 1;

    let aggregator = Aggregator::start(root, &authority, 0);
    let identity = authority.device("west", "gw");
    let mut agent = Agent::start(root, &authority, &identity, aggregator.quic, "west", &frames, lasting_port());
    let counted = |expected: Counts| {
        until(&format!("{expected:?}"), PATIENCE, || {
            let counts = aggregator.counts("west/gw/door");
            assert!(counts.total() <= expected.total(), "{counts:?}");
            (counts.total() == expected.total()).then(|| assert_eq!(counts, expected))
        });
    };
    counted(expected);
    // And it goes on.
    for _ in 0..10 {
        camera.shoot();
    }
    expected.frames += 10;
    counted(expected);

    agent.process.assert_running();
    assert_eq!(agent.page("/healthz").as_deref(), Some("ok\n"));
    assert_eq!(agent.metric("driftglass_agent_frames_total", "door"), expected.frames);
    assert_eq!(agent.metric("driftglass_agent_frame_errors_total", "door"), expected.undecodable);
    assert_eq!(agent.metric("driftglass_agent_uplink_connected", ""), 1);
    agent.process.terminate();
}

/// Pixels, or a colour profile, for 100 MB and more in a few hundred kilobytes at most.
fn bombs() -> Vec<Vec<u8>> {
    // A whole progressive JPEG of grey with one bit for each of its blocks.
    let mut progressive = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
    progressive.extend([1; 64]);
    progressive.extend([0xff, 0xc2, 0, 11, 8, 0x20, 0, 0x20, 0, 1, 1, 0x11, 0]);
    progressive.extend([0xff, 0xc4, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    progressive.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0]);
    progressive.extend(vec![0; 1024 * 1024 / 8]);
    progressive.extend([0xff, 0xd9]);
    let mut pixels = Vec::new();
    let plain = vec![200; 8192 * 8192];
    PngEncoder::new(&mut pixels).write_image(&plain, 8192, 8192, ExtendedColorType::L8).expect("encoded");
    let mut profile = Vec::new();
    let mut encoder = PngEncoder::new(&mut profile);
    encoder.set_icc_profile(vec![0; 100 << 20]).expect("PNG knows profiles");
    encoder.write_image(&plain[..64 * 64], 64, 64, ExtendedColorType::L8).expect("encoded");
    // Kinds of which there is no whole bomb here, that say they have more pixels than they have.
    let announcing = |name: &str| {
        let mut bytes = shipped(name);
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0] || pair == [0xff, 0xc2]);
        let frame = frame.expect("a frame header");
        bytes[frame + 5..frame + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
        bytes
    };
    let webp = b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0".to_vec();
    let bombs = vec![progressive, pixels, profile, announcing("progressive.jpg"), announcing("cmyk.jpg"), webp];
    assert!(bombs.iter().all(|bomb| bomb.len() < 1 << 20));
    bombs
}

#[test]
fn pictures_that_would_fill_the_memory_are_refused_by_what_they_announce() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let frames = root.join("frames");
    let mut camera = Camera::new(frames.clone(), &shots(&scene(), view(0)), 0);
    camera.shoot();
    for bomb in bombs() {
        camera.deliver(&bomb);
    }
    camera.shoot();
    let aggregator = Aggregator::start(root, &authority, 0);
    let identity = authority.device("quarry", "gw");
    let mut agent = Agent::start(root, &authority, &identity, aggregator.quic, "quarry", &frames, lasting_port());
    // The profile is skipped or the picture with it; the others are refused.
    let counts = until("all of them to be counted", PATIENCE, || {
        let counts = aggregator.counts("quarry/gw/door");
        (counts.total() == camera.written).then_some(counts)
    });
    assert!(counts.frames >= 2 && counts.undecodable >= 5, "{counts:?}");
    let label = "camera=\"door\",reason=\"too_many_pixels\"";
    assert_eq!(agent.metric("driftglass_agent_frame_errors_total", label), 2);
    let log = agent.process.log();
    assert!(log.contains("bytes to decode, more than the 27000000 allowed"), "{log}");
    let highest = agent.process.highest_memory();
    assert!(highest < 48 << 20, "{highest} bytes at most while pictures for hundreds of megabytes lay there");
    agent.process.terminate();
}
