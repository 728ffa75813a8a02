//! A spool of which any frames have rotted: what the repair offers is what it goes on offering.
//!
//! Every choice of rotten frames in a segment of four batches, and many in a spool of several starts of the agent.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftglass_agent::spool::{CameraCheckpoint, Disk, FOLDER, Opened, Reader, Settings, open_on, scan};
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::summary::{Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, Mark, Record, RecordId, parse_frame};
use driftglass_tests::memory_disk::MemoryDisk;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const STATE: &str = "/state";
const CLOCK: u64 = 1_800_000_000;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn start(disk: &Arc<MemoryDisk>) -> Opened {
    let device = DeviceId { site: name("site"), device: name("gw") };
    let settings = Settings { state_dir: PathBuf::from(STATE), device, max_bytes: 1 << 20 };
    open_on(Arc::clone(disk) as Arc<dyn Disk>, settings, CLOCK).expect("whatever has rotted, it starts")
}

/// One window and how far its camera was counted with it.
fn append(spool: &mut Opened, minute: i64) {
    let summary = Summary {
        camera: name("door"),
        model: None,
        window: Window { start: UnixMillis(minute * 60_000), length: Millis(60_000), merged: 1 },
        first_frame: None,
        last_frame: None,
        quality: Quality::default(),
        sketches: heapless::Vec::new(),
        predictions: None,
    };
    let checkpoint = CameraCheckpoint {
        camera: name("door"),
        position: minute.to_string().into_bytes(),
        closed_until: None,
        sample_due: None,
        state: None,
    };
    spool.writer.append(&[Body::Summary(summary)], vec![checkpoint]).expect("there is room");
}

/// What the uplink would send, in order, and which of it are windows rather than tombstones.
fn offered(spool: &Opened) -> (Vec<RecordId>, BTreeSet<Mark>) {
    let mut reader = Reader::new(Arc::clone(&spool.shared));
    let (mut ids, mut windows) = (Vec::new(), BTreeSet::new());
    let mut mark = Mark::default();
    while let Some(stored) = reader.next_after(mark).expect("what was repaired can be read") {
        assert!(stored.id.mark() > mark, "{:?} after {mark}", stored.id);
        mark = stored.id.mark();
        let record = Record::parse(parse_frame(stored.frame).expect("a frame")).expect("a record");
        if matches!(record.body, Body::Summary(_)) {
            windows.insert(mark);
        }
        ids.push(stored.id);
    }
    (ids, windows)
}

/// A segment: its path, its bytes, and the limits of its frames.
type Segment = (PathBuf, Vec<u8>, Vec<Range<usize>>);

fn segments(disk: &MemoryDisk) -> Vec<Segment> {
    let paths = disk.list(&Path::new(STATE).join(FOLDER)).expect("listed");
    let segments = paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "segment"));
    segments
        .map(|path| {
            let bytes = disk.read(&path, 1 << 20).expect("read");
            let frames = scan(&bytes).items.into_iter().map(|located| located.range).collect();
            (path, bytes, frames)
        })
        .collect()
}

/// Two starts on a spool whose frames rot as `is_rotten` says of each, counted through all segments; returns what was offered.
fn starts(spool: &[Segment], is_rotten: impl Fn(usize) -> bool, what: &str) -> BTreeSet<Mark> {
    let disk = Arc::new(MemoryDisk::default());
    let mut number = 0;
    for (path, bytes, frames) in spool {
        let mut bytes = bytes.clone();
        for frame in frames {
            if is_rotten(number) {
                // In the middle, so that the frame's length still leads to the next one; the scan must not rely on that either.
                bytes[frame.start + frame.len() / 2] ^= 0x10;
            }
            number += 1;
        }
        disk.put(path, bytes);
    }
    let (first, windows) = offered(&start(&disk));
    for again in 2..4 {
        assert_eq!(offered(&start(&disk)).0, first, "{what}, start {again}");
    }
    windows
}

#[test]
fn whatever_frames_of_a_segment_rot_every_later_start_offers_what_the_first_did() {
    const BATCHES: usize = 4;
    let disk = Arc::new(MemoryDisk::default());
    let mut spool = start(&disk);
    for minute in 1..=4 {
        append(&mut spool, minute);
    }
    drop(spool);
    let spool = segments(&disk);
    // A head, a snapshot, and for each batch a record and a checkpoint.
    let frames = 2 + 2 * BATCHES;
    assert_eq!(spool.iter().map(|(_, _, frames)| frames.len()).collect::<Vec<_>>(), [frames]);
    let mut kept = 0;
    for rotten in 0..1_u32 << frames {
        let is_rotten = |frame: usize| rotten >> frame & 1 == 1;
        let windows = starts(&spool, is_rotten, &format!("rotten: {rotten:010b}"));
        // Up to the last whole checkpoint; to the one before it where its own record is not whole, which is then taken for a torn batch.
        let mut checkpoints = (1..frames).step_by(2).rev().filter(|&frame| !is_rotten(frame));
        let end = match checkpoints.next() {
            Some(last) if last == 1 || !is_rotten(last - 1) => last,
            Some(_) => checkpoints.next().unwrap_or(0),
            None => 0,
        };
        let expected: Vec<u64> =
            (2..end).step_by(2).filter(|&record| !is_rotten(record)).map(|record| record as u64 / 2).collect();
        assert_eq!(windows.iter().map(|mark| mark.sequence).collect::<Vec<_>>(), expected, "rotten: {rotten:010b}");
        kept += windows.len();
    }
    assert!(kept > 500, "{kept} windows outlive the rot");
}

#[test]
fn whatever_rots_in_a_spool_of_several_starts_every_later_start_offers_what_the_first_did() {
    let disk = Arc::new(MemoryDisk::default());
    for minute in 0..4 {
        let mut spool = start(&disk);
        for batch in 1..=3 {
            append(&mut spool, minute * 3 + batch);
        }
    }
    let spool = segments(&disk);
    for seed in 0..3_000 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let share = random.random_range(0.02..0.7);
        let rotten: Vec<bool> = (0..64).map(|_| random.random_bool(share)).collect();
        starts(&spool, |frame| rotten[frame], &format!("seed {seed}"));
    }
}

#[test]
fn damage_in_several_batches_and_a_checkpoint_that_stands_there_twice_are_repaired_once() {
    let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/segment/damage-in-several-batches");
    let bytes = std::fs::read(&find).expect("read");
    let segment = (Path::new(STATE).join(FOLDER).join("000000000001.segment"), bytes, Vec::new());
    let windows = starts(&[segment], |_| false, "a find of the fuzzer");
    assert_eq!(windows.iter().map(|mark| mark.sequence).collect::<Vec<_>>(), [1]);
}
