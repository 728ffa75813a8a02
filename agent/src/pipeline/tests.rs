//! Frames to batches, with crashes between: every file counted once.

use std::fs;
use std::path::Path;

use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::DeviceId;
use driftglass_protocol::sketch::EncodedLabels;
use driftglass_protocol::summary::Quality;
use driftglass_protocol::wire::{Mark, Record, parse_frame};

use super::*;
use crate::prediction::{Prediction, fixed_share};
use crate::source::Directory;
use crate::spool::{self, Reader, Settings, Shared};
use crate::uplink::Counters;

const MINUTE: Millis = Millis(60_000);

struct Clockwork {
    now: Moment,
    kept: Option<Vec<u8>>,
}

impl Surroundings for Clockwork {
    fn now(&self) -> Moment {
        self.now
    }
    fn health(&mut self) -> Health {
        Health { memory: Some(fixed_share(0.5)), ..Health::default() }
    }
    fn keep(&mut self, camera: &Name, learned: &[u8]) {
        assert_eq!(camera.as_str(), "c");
        self.kept = Some(learned.to_vec());
    }
    fn pause(&mut self) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

impl Clockwork {
    fn at(millis: i64) -> Self {
        let elapsed = Duration::from_millis(u64::try_from(millis).expect("positive"));
        Self { now: Moment { wall: UnixMillis(millis), elapsed }, kept: None }
    }

    fn advance(&mut self, millis: u32) {
        self.now.wall = self.now.wall.plus(Millis(millis));
        self.now.elapsed += Duration::from_millis(u64::from(millis));
    }
}

fn picture(seed: u8) -> Vec<u8> {
    let image =
        image::GrayImage::from_fn(64, 48, |x, y| image::Luma([(x * 3 + y * 5).to_le_bytes()[0].wrapping_add(seed)]));
    let mut bytes = Vec::new();
    image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).expect("encoded");
    bytes
}

/// Writes a file that was last changed at `millis`.
fn put(folder: &Path, name: &str, bytes: &[u8], millis: u64) {
    fs::write(folder.join(name), bytes).expect("written");
    let time = std::time::UNIX_EPOCH + Duration::from_millis(millis);
    fs::File::options().write(true).open(folder.join(name)).and_then(|file| file.set_modified(time)).expect("set");
}

fn start(folder: &Path, rate: Option<FrameRate>) -> (Pipeline, Arc<Shared>) {
    start_with(folder, rate, Recorded::default())
}

fn start_with(folder: &Path, rate: Option<FrameRate>, predictions: Recorded) -> (Pipeline, Arc<Shared>) {
    let name = |text| Name::parse(text).expect("name");
    let device = DeviceId { site: name("s"), device: name("d") };
    let opened =
        spool::open(Settings { state_dir: folder.join("state"), device, max_bytes: 4 << 20 }, 5).expect("opens");
    let position = opened.writer.cameras().get(&name("c")).map(|known| known.position.clone()).unwrap_or_default();
    let telemetry =
        Arc::new(Telemetry::new(Arc::clone(&opened.shared), Arc::new(Counters::default())).expect("figures"));
    let setup = Setup { rate, predictions, ..watching(Directory::watched(folder.join("frames"), position)) };
    (Pipeline::new(vec![setup], opened.writer, telemetry), opened.shared)
}

fn watching(frames: Directory) -> Setup {
    Setup {
        name: Name::parse("c").expect("name"),
        model: None,
        source: FrameSource::Directory(frames),
        timing: Timing::Live(EventTime::Modified),
        window: MINUTE,
        rate: None,
        max_memory: 100_000,
        predictions: Recorded::default(),
        detectors: Detectors::default(),
        learned: None,
    }
}

/// Turns until nothing happens for a second.
fn settle(pipeline: &mut Pipeline, clockwork: &mut Clockwork) {
    let mut idle = 0;
    while idle < 10 {
        idle = if pipeline.turn(clockwork) == Turn::Idle { idle + 1 } else { 0 };
        clockwork.advance(100);
    }
}

/// Window start and quality of everything in the spool.
fn windows(shared: &Arc<Shared>) -> Vec<(i64, Quality)> {
    let mut reader = Reader::new(Arc::clone(shared));
    let (mut found, mut mark) = (Vec::new(), Mark::default());
    while let Some(stored) = reader.next_after(mark).expect("readable") {
        mark = stored.id.mark();
        let record = Record::parse(parse_frame(stored.frame).expect("frame")).expect("record");
        if let Body::Summary(summary) = record.body {
            found.push((summary.window.start.0, summary.quality));
        }
    }
    found
}

const fn quality(frames: u32, undecodable: u32, skipped: u32, late: u32) -> Quality {
    Quality { frames, missing: 0, undecodable, skipped, late }
}

#[test]
fn a_folder_becomes_windows_and_rubbish_in_it_is_counted_not_feared() {
    let folder = tempfile::tempdir().expect("folder");
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).expect("created");
    put(&frames, "01.jpg", &picture(1), 60_000);
    put(&frames, "02.jpg", &picture(2), 61_000);
    put(&frames, "03.jpg", &picture(3)[..200], 62_000);
    put(&frames, "04.jpg", b"", 63_000);
    put(&frames, "05.txt", b"not a picture", 64_000);
    put(&frames, "06.jpg", &picture(6), 120_000);
    put(&frames, "07.jpg", &picture(7), 100_000);
    put(&frames, "08.jpg", &picture(8), 121_000);
    let (mut pipeline, shared) = start(folder.path(), None);
    let mut clockwork = Clockwork::at(130_000);
    settle(&mut pipeline, &mut clockwork);
    assert_eq!(windows(&shared), [(60_000, quality(2, 3, 0, 0))]);
    clockwork.advance(60_000);
    settle(&mut pipeline, &mut clockwork);
    assert_eq!(
        windows(&shared),
        [(60_000, quality(2, 3, 0, 0)), (120_000, quality(2, 0, 0, 1))],
        "closed by the clock"
    );
}

#[test]
fn a_window_closes_by_the_clock_only_when_nothing_is_waiting() {
    let folder = tempfile::tempdir().expect("folder");
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).expect("created");
    for number in 0..40 {
        put(&frames, &format!("{number:03}.jpg"), &picture(number), 60_000 + u64::from(number));
    }
    let (mut pipeline, shared) = start(folder.path(), None);
    // A backlog, days old.
    let mut clockwork = Clockwork::at(900_000_000);
    settle(&mut pipeline, &mut clockwork);
    assert_eq!(windows(&shared), [(60_000, quality(40, 0, 0, 0))]);
}

#[test]
fn killed_at_any_moment_every_file_is_counted_exactly_once() {
    for kill_every in [1_usize, 2, 3, 5, 7] {
        let folder = tempfile::tempdir().expect("folder");
        let frames = folder.path().join("frames");
        fs::create_dir(&frames).expect("created");
        for number in 0_u8..60 {
            let bytes = if number % 9 == 4 { b"broken".to_vec() } else { picture(number) };
            put(&frames, &format!("{number:03}.jpg"), &bytes, 60_000 + u64::from(number) * 7_000);
        }
        let rate = FrameRate::from_millihertz(100);
        let mut clockwork = Clockwork::at(10_000_000);
        for _ in 0..200 {
            let (mut pipeline, _) = start(folder.path(), rate);
            for _ in 0..kill_every + 2 {
                assert_ne!(pipeline.turn(&mut clockwork), Turn::Stopped);
                clockwork.advance(150);
            }
            // Dropped without any farewell: what was not appended is gone.
        }
        let (mut pipeline, shared) = start(folder.path(), rate);
        settle(&mut pipeline, &mut clockwork);
        settle(&mut pipeline, &mut clockwork);
        let found = windows(&shared);
        let sum = |part: fn(&Quality) -> u32| found.iter().map(|(_, quality)| part(quality)).sum::<u32>();
        let all = sum(|q| q.frames) + sum(|q| q.skipped) + sum(|q| q.undecodable);
        assert_eq!(all, 60, "kill every {kill_every}: {found:?}");
        assert!(sum(|q| q.undecodable) > 2, "broken ones that are not left out are noticed: {found:?}");
        assert!(sum(|q| q.skipped) > 5, "the sampler left some out: {found:?}");
        assert!(found.is_sorted_by(|a, b| a.0 < b.0), "kill every {kill_every}: {found:?}");
        // And as many in each window as an agent that was never killed counts.
        let undisturbed = tempfile::tempdir().expect("folder");
        fs::rename(&frames, undisturbed.path().join("frames")).expect("moved");
        let (mut pipeline, shared) = start(undisturbed.path(), rate);
        settle(&mut pipeline, &mut Clockwork::at(20_000_000));
        assert_eq!(found, windows(&shared), "kill every {kill_every}");
    }
}

#[test]
fn a_file_from_the_future_does_not_make_the_present_late() {
    let folder = tempfile::tempdir().expect("folder");
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).expect("created");
    put(&frames, "1.jpg", &picture(1), 4_000_000_000_000);
    put(&frames, "2.jpg", &picture(2), 121_000);
    let (mut pipeline, shared) = start(folder.path(), None);
    let mut clockwork = Clockwork::at(121_000);
    settle(&mut pipeline, &mut clockwork);
    clockwork.advance(70_000);
    settle(&mut pipeline, &mut clockwork);
    assert_eq!(windows(&shared), [(120_000, quality(2, 0, 0, 0))]);
}

#[test]
fn predictions_of_counted_frames_travel_with_their_window() {
    let folder = tempfile::tempdir().expect("folder");
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).expect("created");
    let mut predictions = Recorded::default();
    let sure = Prediction { confidence: fixed_share(0.9), wrong: Some(false), ..Prediction::default() };
    let unsure = Prediction { confidence: fixed_share(0.3), wrong: Some(true), ..Prediction::default() };
    for (frame, prediction, label) in [("1.jpg", sure, "person"), ("1.jpg", unsure, "car"), ("3.jpg", unsure, "person")]
    {
        predictions.add(frame.as_bytes(), prediction, Some(label));
    }
    predictions.add(b"broken.jpg", sure, Some("dog"));
    for (at, name) in ["1.jpg", "2.jpg", "3.jpg", "broken.jpg"].into_iter().enumerate() {
        let bytes = if name == "broken.jpg" { vec![0; 100] } else { picture(1) };
        put(&frames, name, &bytes, 60_000 + 1000 * at as u64);
    }
    let (mut pipeline, shared) = start_with(folder.path(), None, predictions);
    let mut clockwork = Clockwork::at(64_000);
    settle(&mut pipeline, &mut clockwork);
    clockwork.advance(70_000);
    settle(&mut pipeline, &mut clockwork);
    let mut reader = Reader::new(shared);
    let stored = reader.next_after(Mark::default()).expect("readable").expect("a record");
    let Body::Summary(summary) = Record::parse(parse_frame(stored.frame).expect("frame")).expect("record").body else {
        panic!("a summary");
    };
    assert_eq!(summary.quality, quality(3, 1, 0, 0));
    let said = summary.predictions.as_ref().expect("predictions");
    assert_eq!((said.frames, said.judged, said.wrong), (2, 2, 1));
    let labels = EncodedLabels::parse(said.labels).expect("labels");
    assert!(labels.names().eq([("car", 1), ("person", 2)]));
    let absent = |feature: Feature| {
        summary.sketches.iter().find(|sketch| sketch.feature == feature.number()).map(|sketch| sketch.absent)
    };
    assert_eq!(absent(Feature::Confidence), Some(1));
    assert_eq!((absent(Feature::DeviceMemory), absent(Feature::DeviceDisk)), (Some(0), None));

    // What the detectors learned is there for a later start, and of no use where it is damaged.
    let mut learned = clockwork.kept.expect("kept when the window closed");
    let lost = |learned: Vec<u8>| {
        let state = tempfile::tempdir().expect("folder");
        let device = DeviceId { site: Name::parse("s").expect("name"), device: Name::parse("d").expect("name") };
        let settings = Settings { state_dir: state.path().to_path_buf(), device, max_bytes: 4 << 20 };
        let opened = spool::open(settings, 5).expect("opens");
        let telemetry = Telemetry::new(Arc::clone(&opened.shared), Arc::default()).expect("figures");
        let frames = Directory::watched(frames.clone(), Vec::new());
        let setup = Setup { learned: Some(learned), ..watching(frames) };
        let camera = Camera::new(setup, &opened.writer, &telemetry);
        let text = String::from_utf8(telemetry.render().expect("rendered")).expect("text");
        let lost = text.contains("driftglass_agent_detector_states_lost_total 1");
        assert_eq!(camera.predicted.is_none(), lost);
        lost
    };
    assert!(!lost(learned.clone()));
    learned[20] ^= 1;
    assert!(lost(learned));
}

/// Another folder, and another rate, for the camera.
fn moved(to: &Path, rate: Option<FrameRate>) -> Change {
    let setup = watching(Directory::watched(to.to_path_buf(), Vec::new()));
    let outside = crate::source::Running::new(crate::host::clock::now, rand::random::<u64>).outside();
    let source = crate::config::SourceConfig {
        kind: crate::config::SourceKind::Directory { path: to.to_path_buf(), time: EventTime::Modified },
        rate,
        timeout: Duration::from_secs(1),
        max_frame: 1 << 20,
        max_pixels: 10_000,
    };
    let (source, prepared) = crate::source::prepare(&setup.name, &source, &outside);
    Change::Update(Box::new(Update {
        name: setup.name,
        model: Some(Model { name: Name::parse("m").expect("name"), version: Name::parse("2").expect("name") }),
        timing: setup.timing,
        rate,
        max_memory: setup.max_memory,
        detectors: setup.detectors,
        source: Some(Replacement { source, prepared }),
    }))
}

#[test]
fn a_source_gives_way_between_two_windows_and_no_file_is_lost_or_counted_twice() {
    for more_in_the_old in [false, true] {
        let folder = tempfile::tempdir().expect("folder");
        let (frames, other) = (folder.path().join("frames"), folder.path().join("other"));
        fs::create_dir(&frames).expect("created");
        fs::create_dir(&other).expect("created");
        for number in 0..3_u8 {
            put(&frames, &format!("{number}.jpg"), &picture(number), 60_000 + u64::from(number) * 1000);
        }
        let (mut pipeline, shared) = start(folder.path(), None);
        let mut clockwork = Clockwork::at(64_000);
        settle(&mut pipeline, &mut clockwork);
        let rate = FrameRate::from_millihertz(1_000);
        assert!(pipeline.change(moved(&other, rate), &mut clockwork).is_continue());
        assert_eq!(pipeline.retired().count(), 0, "a window is open");
        // Still of the old source, and of the window that is open.
        put(&frames, "3.jpg", &picture(3), 66_000);
        if more_in_the_old {
            // It closes the window, and stays where it is.
            put(&frames, "4.jpg", &picture(4), 120_000);
        }
        for number in 5..9_u8 {
            put(&other, &format!("{number}.jpg"), &picture(number), 120_000 + u64::from(number) * 500);
        }
        clockwork.advance(60_000);
        settle(&mut pipeline, &mut clockwork);
        let retired: Vec<Name> = pipeline.retired().map(|retired| retired.camera).collect();
        assert_eq!(retired.len(), 1);
        clockwork.advance(60_000);
        settle(&mut pipeline, &mut clockwork);
        let found = windows(&shared);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], (60_000, quality(4, 0, 0, 0)), "{found:?}");
        // Four pictures half a second apart, at a rate of one a second.
        let (start, quality) = found[1];
        assert_eq!((start, quality.frames, quality.skipped), (120_000, 2, 2), "{found:?}");
        assert!(quality.missing > 50, "it is the new rate that is expected: {found:?}");
    }
}

#[test]
fn a_camera_that_goes_leaves_what_it_had_and_comes_back_where_it_was() {
    let folder = tempfile::tempdir().expect("folder");
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).expect("created");
    put(&frames, "1.jpg", &picture(1), 60_000);
    put(&frames, "2.jpg", &picture(2), 61_000);
    let (mut pipeline, shared) = start(folder.path(), None);
    let mut clockwork = Clockwork::at(62_000);
    settle(&mut pipeline, &mut clockwork);
    let name = Name::parse("c").expect("name");
    assert!(pipeline.change(Change::Remove(name.clone()), &mut clockwork).is_continue());
    assert_eq!(windows(&shared), [(60_000, quality(2, 0, 0, 0))]);
    put(&frames, "3.jpg", &picture(3), 130_000);
    clockwork.advance(120_000);
    settle(&mut pipeline, &mut clockwork);
    assert_eq!(windows(&shared).len(), 1, "nobody watches");
    // What speaks of a camera that went does no harm.
    assert!(pipeline.change(Change::Remove(name.clone()), &mut clockwork).is_continue());
    assert!(pipeline.change(Change::Skipped(name, 3), &mut clockwork).is_continue());
    let again = watching(Directory::watched(frames, Vec::new()));
    assert!(pipeline.change(Change::Add(Box::new(again)), &mut clockwork).is_continue());
    settle(&mut pipeline, &mut clockwork);
    clockwork.advance(60_000);
    settle(&mut pipeline, &mut clockwork);
    assert_eq!(windows(&shared), [(60_000, quality(2, 0, 0, 0)), (120_000, quality(1, 0, 0, 0))]);
}

#[test]
fn frames_that_a_source_left_behind_count_as_skipped() {
    let folder = tempfile::tempdir().expect("folder");
    fs::create_dir(folder.path().join("frames")).expect("created");
    let (mut pipeline, shared) = start(folder.path(), None);
    let mut clockwork = Clockwork::at(70_000);
    let name = Name::parse("c").expect("name");
    assert!(pipeline.change(Change::Skipped(name.clone(), 3), &mut clockwork).is_continue());
    assert!(pipeline.change(Change::Remove(name), &mut clockwork).is_continue());
    assert_eq!(windows(&shared), [(60_000, quality(0, 0, 3, 0))]);
}
