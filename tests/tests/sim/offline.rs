//! The spool alone, on a disk that says no: thirty days without a connection, a disk without room, flushes that fail.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use driftglass_agent::spool::{AppendError, CameraCheckpoint, Opened, Reader, Settings, Shared, open_on};
use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::DeviceId;
use driftglass_protocol::limit::HISTOGRAM_BYTES;
use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{FeatureSketch, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, Mark, Record, parse_frame};

use crate::disk::{Rates, SimDisk};
use crate::random::Random;
use crate::world::name;

const BEGIN: u64 = 1_700_000_000;
const MINUTE: u32 = 60_000;
/// Frames of a window.
const FRAMES: u32 = 60;

fn open(disk: &SimDisk, max_bytes: u64, seconds: u64) -> Opened {
    let device = DeviceId { site: name("s"), device: name("d") };
    let settings = Settings { state_dir: PathBuf::from("/state"), device, max_bytes };
    open_on(Arc::new(disk.clone()), settings, seconds).expect("opens")
}

/// Twelve features, each spread over as many bins as a lively scene has: a window of about 1.5 KB.
fn encodings(random: &mut Random) -> Vec<(u8, Vec<u8>)> {
    let features = (0..12).filter_map(Feature::from_number);
    let one = |feature: Feature| {
        let mut histogram = Histogram::new();
        let centre = 40 + random.below(160);
        for _ in 0..FRAMES {
            histogram.add(u8::try_from((centre + random.below(30) + random.below(30)).min(255)).expect("a bin"));
        }
        let mut encoded = [0; HISTOGRAM_BYTES];
        let length = histogram.encode(&mut encoded);
        (feature.number(), encoded[..length].to_vec())
    };
    features.map(one).collect()
}

/// The next window of a camera.
fn append(opened: &mut Opened, camera: &str, minute: u32, random: &mut Random) -> Result<(), AppendError> {
    append_encoded(opened, camera, minute, &encodings(random))
}

fn append_encoded(
    opened: &mut Opened,
    camera: &str,
    minute: u32,
    encodings: &[(u8, Vec<u8>)],
) -> Result<(), AppendError> {
    let sketches =
        encodings.iter().map(|(feature, histogram)| FeatureSketch { feature: *feature, absent: 0, histogram });
    let summary = Summary {
        camera: name(camera),
        model: None,
        window: Window { start: UnixMillis(i64::from(minute) * i64::from(MINUTE)), length: Millis(MINUTE), merged: 1 },
        first_frame: None,
        last_frame: None,
        quality: Quality { frames: FRAMES, late: 1, ..Quality::default() },
        sketches: sketches.collect(),
        predictions: None,
    };
    let checkpoint = CameraCheckpoint {
        camera: name(camera),
        position: format!("{minute:08}").into_bytes(),
        closed_until: None,
        sample_due: None,
        state: None,
    };
    opened.writer.append(&[Body::Summary(summary)], vec![checkpoint])
}

/// What an aggregator that knows nothing would get.
#[derive(Debug, Default)]
struct Delivered {
    /// Windows of each camera, in order.
    windows: BTreeMap<String, Vec<Window>>,
    frames: u64,
    values: u64,
    lost: u64,
}

fn delivered(shared: &Arc<Shared>) -> Delivered {
    let mut reader = Reader::new(Arc::clone(shared));
    let mut delivered = Delivered::default();
    let mut mark = Mark::default();
    while let Some(stored) = reader.next_after(mark).expect("readable") {
        let record = Record::parse(parse_frame(stored.frame).expect("frame")).expect("record");
        assert_eq!(judge(mark, record.id, record.previous), Verdict::Accept, "{:?} after {mark}", record.id);
        match &record.body {
            Body::Summary(summary) => {
                assert_eq!(u64::from(summary.window.merged), record.id.last - record.id.first + 1);
                assert_eq!(summary.quality.late, summary.window.merged, "every counter adds up");
                delivered.windows.entry(summary.camera.as_str().to_owned()).or_default().push(summary.window);
                delivered.frames += u64::from(summary.quality.frames);
                let values =
                    summary.histograms().flat_map(|(_, histogram)| histogram.iter().map(|(_, count)| u64::from(count)));
                delivered.values += values.sum::<u64>();
            }
            Body::Tombstone(_) => delivered.lost += record.id.last - record.id.first + 1,
        }
        mark = record.id.mark();
    }
    delivered
}

#[test]
fn thirty_days_without_a_connection_fit_sixteen_mebibytes_and_lose_nothing_but_resolution() {
    const LIMIT: u64 = 16 << 20;
    let cameras = ["door", "gate"];
    let disk = SimDisk::new(1);
    let mut random = Random::new(30);
    let scenes: Vec<_> = (0..200).map(|_| encodings(&mut random)).collect();
    let minutes = 30 * 24 * 60;
    let mut opened = open(&disk, LIMIT, BEGIN);
    let mut most = 0;
    for minute in 0..minutes {
        if minute % (24 * 60) == 12 * 60 {
            // Restarted every noon.
            drop(opened);
            opened = open(&disk, LIMIT, BEGIN + u64::from(minute) * 60);
        }
        for camera in cameras {
            let scene = &scenes[random.index(scenes.len())];
            append_encoded(&mut opened, camera, minute, scene).expect("a full spool never refuses");
        }
        most = most.max(opened.shared.bytes());
    }
    assert!(most <= LIMIT, "{most}");
    let all = u64::from(minutes) * cameras.len() as u64;
    assert_eq!(opened.shared.pending(), all);
    let delivered = delivered(&opened.shared);
    assert_eq!((delivered.lost, delivered.frames, delivered.values), (0, all * 60, all * 60 * 12));
    let mut coarsest = 0;
    for camera in cameras {
        let mut next = UnixMillis(0);
        for window in &delivered.windows[camera] {
            assert_eq!(window.start, next, "{camera}: no gap and no overlap");
            next = window.end();
            coarsest = coarsest.max(window.merged);
        }
        assert_eq!(next, UnixMillis(i64::from(minutes) * i64::from(MINUTE)), "{camera}");
    }
    let records: usize = delivered.windows.values().map(Vec::len).sum();
    eprintln!(
        "{all} windows in {records} records of {} bytes together; the coarsest merges {coarsest}",
        opened.shared.bytes()
    );
    assert!(coarsest <= 64, "{coarsest} minutes in one window");
}

#[test]
fn where_nothing_can_be_merged_any_more_the_oldest_goes_and_a_tombstone_says_so() {
    let disk = SimDisk::new(2);
    let mut random = Random::new(2);
    let mut opened = open(&disk, 64 << 10, BEGIN);
    for minute in 0..3_000 {
        // Every window is an hour from the next: no window may claim the time between.
        append(&mut opened, "door", minute * 60, &mut random).expect("never refuses");
        assert!(opened.shared.bytes() <= 64 << 10);
    }
    let buried = opened.shared.relief().buried.load(Ordering::Relaxed);
    let before = delivered(&opened.shared);
    assert_eq!(before.lost, buried);
    assert_eq!(before.lost + before.windows["door"].len() as u64, 3_000);
    assert_eq!(
        before.windows["door"].last().expect("some").start,
        UnixMillis(2_999 * 60 * i64::from(MINUTE)),
        "the newest stay"
    );
    drop(opened);
    let after = delivered(&open(&disk, 64 << 10, BEGIN + 1).shared);
    assert_eq!((after.lost, &after.windows), (before.lost, &before.windows), "and it stays said");
}

#[test]
fn what_was_offered_to_a_connection_is_never_merged_not_even_after_a_restart() {
    let disk = SimDisk::new(3);
    let mut random = Random::new(3);
    let mut opened = open(&disk, 64 << 10, BEGIN);
    for minute in 0..30 {
        append(&mut opened, "door", minute, &mut random).expect("takes it");
    }
    let mut reader = Reader::new(Arc::clone(&opened.shared));
    let offered = reader.next_after(Mark::default()).expect("readable").expect("there").id;
    drop(opened);
    let mut opened = open(&disk, 64 << 10, BEGIN + 1);
    let mut minute = 30;
    while opened.shared.relief().merged.load(Ordering::Relaxed) < 10 {
        append(&mut opened, "door", minute, &mut random).expect("takes it");
        minute += 1;
    }
    let mut reader = Reader::new(Arc::clone(&opened.shared));
    assert_eq!(reader.next_after(Mark::default()).expect("readable").expect("there").id, offered);
}

#[test]
fn a_batch_whose_flush_failed_is_not_offered_and_counts_once_whatever_the_disk_kept_of_it() {
    let mut failed = 0;
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let mut random = Random::new(seed);
        let mut opened = open(&disk, 256 << 10, BEGIN);
        append(&mut opened, "door", 0, &mut random).expect("takes it");
        disk.set_rates(Rates { flush_fails: 500, read_fails: 0, write_fails: 100 });
        let mut next = 1;
        for _ in 0..4 {
            match append(&mut opened, "door", next, &mut random) {
                Ok(()) => next += 1,
                Err(error) => {
                    assert!(matches!(error, AppendError::Disk { .. }), "{error}");
                    failed += 1;
                }
            }
            assert_eq!(opened.shared.pending(), u64::from(next), "what failed is not there");
        }
        disk.set_rates(Rates::default());
        assert_eq!(delivered(&opened.shared).windows["door"].len(), next as usize);
        drop(opened);
        disk.cut_power();
        let mut opened = open(&disk, 256 << 10, BEGIN + 60);
        // The source goes on where the spool says it was.
        let position = opened.writer.cameras().get(&name("door")).expect("known").position.clone();
        let known: u32 = std::str::from_utf8(&position).expect("ours").parse().expect("ours");
        assert!(known + 1 >= next, "what was acknowledged to the pipeline is there: {known} of {next}");
        for minute in known + 1..8 {
            append(&mut opened, "door", minute, &mut random).expect("takes it");
        }
        let minutes: Vec<i64> =
            delivered(&opened.shared).windows["door"].iter().map(|w| w.start.0 / i64::from(MINUTE)).collect();
        assert_eq!(minutes, (0..8).collect::<Vec<_>>(), "seed {seed}");
    }
    assert!(failed > 300, "{failed}");
}

#[test]
fn a_full_disk_keeps_nobody_from_starting_and_what_is_delivered_makes_room() {
    let disk = SimDisk::new(5);
    let mut random = Random::new(5);
    let mut opened = open(&disk, 256 << 10, BEGIN);
    for minute in 0..60 {
        append(&mut opened, "door", minute, &mut random).expect("takes it");
    }
    disk.set_full(true);
    let full = append(&mut opened, "door", 60, &mut random).expect_err("there is no room");
    assert!(
        matches!(&full, AppendError::Disk { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{full}"
    );
    drop(opened);
    disk.cut_power();
    let first = open(&disk, 256 << 10, BEGIN + 60);
    let epoch = first.writer.epoch();
    drop(first);
    let mut opened = open(&disk, 256 << 10, BEGIN + 60);
    assert!(opened.writer.epoch() > epoch, "an epoch is durable also on a full disk");
    assert_eq!(delivered(&opened.shared).windows["door"].len(), 60, "all of it can be sent");
    assert!(append(&mut opened, "door", 60, &mut random).is_err());
    opened.shared.acknowledge(opened.writer.previous());
    disk.set_full(false);
    append(&mut opened, "door", 60, &mut random).expect("there is room again");
    assert_eq!(opened.shared.pending(), 1);
    assert!(disk.faults().no_space > 5, "{:?}", disk.faults());
}
