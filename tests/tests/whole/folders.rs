//! What may lie in a watched folder: anything.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use driftglass_agent::source::MAX_FILE_BYTES;

use crate::support::authority::Authority;
use crate::support::camera::{Camera, jpeg, scene, shots, view};
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
