//! The spool as a whole: what goes in comes out, whatever happens to the bytes between.

use std::fs;
use std::path::Path;

use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::summary::{Quality, Summary, Window};
use driftglass_protocol::unit::Millis;
use driftglass_protocol::wire::parse_frame;

use super::super::reader::Reader;
use super::*;

const CLOCK: u64 = 1_700_000_000;

fn name(text: &str) -> Name {
    Name::parse(text).expect("name")
}

fn settings(state_dir: &Path, max_bytes: u64) -> Settings {
    let device = DeviceId { site: name("s"), device: name("d") };
    Settings { state_dir: state_dir.to_path_buf(), device, max_bytes }
}

fn opened(state_dir: &Path) -> Opened {
    open(settings(state_dir, 4 << 20), CLOCK).expect("opens")
}

fn body(minute: i64) -> Body<'static> {
    Body::Summary(Summary {
        camera: name("entrance"),
        model: None,
        window: Window { start: UnixMillis(minute * 60_000), length: Millis(60_000), merged: 1 },
        first_frame: None,
        last_frame: None,
        quality: Quality::default(),
        sketches: heapless::Vec::new(),
        predictions: None,
    })
}

fn checkpoint(position: i64, state: Option<u8>) -> CameraCheckpoint {
    CameraCheckpoint {
        camera: name("entrance"),
        position: position.to_string().into_bytes(),
        closed_until: None,
        sample_due: None,
        state: state.map(|byte| vec![byte; 40]),
    }
}

fn append(writer: &mut Writer, minute: i64) {
    writer.append(&[body(minute)], vec![checkpoint(minute, Some(1))]).expect("appended");
}

fn position(writer: &Writer) -> Option<i64> {
    let camera = writer.cameras().get(&name("entrance"))?;
    std::str::from_utf8(&camera.position).ok()?.parse().ok()
}

/// Everything the uplink would send, checked against the chain rule as an aggregator would.
fn delivered(shared: &Arc<Shared>) -> (Vec<i64>, u64) {
    let mut reader = Reader::new(Arc::clone(shared));
    let (mut minutes, mut lost) = (Vec::new(), 0);
    let mut mark = shared.acknowledged();
    let mut ledger = mark;
    while let Some(stored) = reader.next_after(mark).expect("readable") {
        let record = Record::parse(parse_frame(stored.frame).expect("frame")).expect("record");
        assert_eq!(judge(ledger, record.id, record.previous), Verdict::Accept, "{:?} after {ledger}", record.id);
        match record.body {
            Body::Summary(summary) => minutes.push(summary.window.start.0 / 60_000),
            Body::Tombstone(_) => lost += record.id.last - record.id.first + 1,
        }
        mark = stored.id.mark();
        ledger = mark;
    }
    (minutes, lost)
}

fn segments(state_dir: &Path) -> Vec<PathBuf> {
    let folder = state_dir.join(super::super::FOLDER);
    numbers(&SystemDisk, &folder, SEGMENT)
        .expect("listed")
        .into_iter()
        .map(|n| format::path(&folder, n, SEGMENT))
        .collect()
}

#[test]
fn case_a_a_missing_folder_is_an_empty_spool() {
    let folder = tempfile::tempdir().expect("folder");
    let state_dir = folder.path().join("not/yet/there");
    let mut spool = opened(&state_dir);
    assert_eq!(delivered(&spool.shared), (vec![], 0));
    append(&mut spool.writer, 1);
    assert_eq!(delivered(&spool.shared), (vec![1], 0));
    assert!(matches!(open(settings(&state_dir, 4 << 20), CLOCK), Err(OpenError::InUse { .. })));
}

#[test]
fn records_and_positions_outlive_any_number_of_starts_in_order() {
    let folder = tempfile::tempdir().expect("folder");
    for start in 0..5 {
        let mut spool = opened(folder.path());
        assert_eq!(position(&spool.writer), (start > 0).then_some(start * 2 - 1));
        append(&mut spool.writer, start * 2);
        append(&mut spool.writer, start * 2 + 1);
        assert_eq!(delivered(&spool.shared), ((0..start * 2 + 2).collect(), 0));
        let camera = spool.writer.cameras().get(&name("entrance")).expect("known");
        assert_eq!(camera.state.as_deref(), Some([1; 40].as_slice()), "an unchanged state is stored once and kept");
    }
}

#[test]
fn only_acknowledged_segments_go_and_the_positions_stay() {
    let folder = tempfile::tempdir().expect("folder");
    drop({
        let mut spool = opened(folder.path());
        append(&mut spool.writer, 1);
        spool
    });
    let mut spool = opened(folder.path());
    append(&mut spool.writer, 2);
    assert_eq!((segments(folder.path()).len(), spool.shared.pending()), (2, 2));
    let first = Mark { epoch: spool.writer.epoch() - 1, sequence: 1 };
    spool.shared.acknowledge(first);
    assert_eq!((segments(folder.path()).len(), spool.shared.pending()), (1, 1));
    assert_eq!(delivered(&spool.shared), (vec![2], 0));
    spool.shared.acknowledge(Mark { epoch: spool.writer.epoch(), sequence: 1 });
    assert_eq!((segments(folder.path()).len(), spool.shared.pending()), (1, 0));
    drop(spool);
    let spool = opened(folder.path());
    assert_eq!(position(&spool.writer), Some(2));
}

#[test]
fn cases_b_and_c_a_torn_tail_at_every_byte_goes_back_to_the_last_whole_batch() {
    let folder = tempfile::tempdir().expect("folder");
    let mut spool = opened(folder.path());
    append(&mut spool.writer, 1);
    let kept = spool.shared.bytes();
    append(&mut spool.writer, 2);
    let whole = spool.shared.bytes();
    drop(spool);
    let segment = segments(folder.path()).remove(0);
    let bytes = fs::read(&segment).expect("read");
    assert_eq!(bytes.len() as u64, whole);
    for cut in kept..=whole {
        for zeros in [0, 300] {
            let copy = tempfile::tempdir().expect("folder");
            let spool_folder = copy.path().join(super::super::FOLDER);
            fs::create_dir_all(&spool_folder).expect("created");
            let mut torn = bytes[..usize::try_from(cut).expect("small")].to_vec();
            torn.resize(torn.len() + zeros, 0);
            fs::write(spool_folder.join(segment.file_name().expect("named")), &torn).expect("written");
            let spool = opened(copy.path());
            let expected = if torn.starts_with(&bytes) { 2 } else { 1 };
            assert_eq!(position(&spool.writer), Some(expected), "cut at {cut}");
            assert_eq!(delivered(&spool.shared), ((1..=expected).collect(), 0), "cut at {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_loses_at_most_its_batch_and_is_accounted_for() {
    let folder = tempfile::tempdir().expect("folder");
    let mut spool = opened(folder.path());
    let mut ends = vec![spool.shared.bytes()];
    for minute in 1..=4 {
        append(&mut spool.writer, minute);
        ends.push(spool.shared.bytes());
    }
    drop(spool);
    let segment = segments(folder.path()).remove(0);
    let bytes = fs::read(&segment).expect("read");
    for at in (0..bytes.len()).step_by(3) {
        let copy = tempfile::tempdir().expect("folder");
        let spool_folder = copy.path().join(super::super::FOLDER);
        fs::create_dir_all(&spool_folder).expect("created");
        let mut rotten = bytes.clone();
        rotten[at] ^= 0x10;
        fs::write(spool_folder.join(segment.file_name().expect("named")), &rotten).expect("written");
        let spool = opened(copy.path());
        let (minutes, lost) = delivered(&spool.shared);
        if (at as u64) < ends[3] {
            // Case D: later batches are committed, so what is gone is gone, and is said.
            assert_eq!(position(&spool.writer), Some(4), "flipped at {at}");
            assert_eq!(minutes.len() as u64 + lost, 4, "flipped at {at}");
            assert!(minutes.len() >= 3, "flipped at {at}");
            let damaged = numbers(&SystemDisk, &spool_folder, DAMAGED).expect("listed");
            assert_eq!(damaged.len(), 1, "flipped at {at}");
        } else {
            assert_eq!((minutes, lost), (vec![1, 2, 3], 0), "flipped at {at}");
            assert_eq!(position(&spool.writer), Some(3), "its files are read again");
        }
        // What was repaired stays repaired.
        let before = delivered(&spool.shared);
        drop(spool);
        assert_eq!(delivered(&opened(copy.path()).shared), before, "flipped at {at}");
    }
}

#[test]
fn case_c_a_batch_that_lost_its_record_but_kept_its_checkpoint_is_read_again() {
    let folder = tempfile::tempdir().expect("folder");
    let mut spool = opened(folder.path());
    append(&mut spool.writer, 1);
    let kept = usize::try_from(spool.shared.bytes()).expect("small");
    append(&mut spool.writer, 2);
    drop(spool);
    let segment = segments(folder.path()).remove(0);
    let mut bytes = fs::read(&segment).expect("read");
    bytes[kept..kept + 30].fill(0);
    fs::write(&segment, &bytes).expect("written");
    let spool = opened(folder.path());
    assert_eq!((position(&spool.writer), delivered(&spool.shared)), (Some(1), (vec![1], 0)));
}

#[test]
fn cases_e_and_h_a_segment_of_rubbish_between_others_becomes_a_tombstone() {
    let folder = tempfile::tempdir().expect("folder");
    for minute in 1..=3 {
        append(&mut opened(folder.path()).writer, minute);
    }
    let middle = segments(folder.path()).remove(1);
    fs::write(&middle, vec![0x5a; 4_000]).expect("written");
    let spool = opened(folder.path());
    assert_eq!((position(&spool.writer), delivered(&spool.shared)), (Some(3), (vec![1, 3], 1)));
    drop(spool);
    let lost = segments(folder.path()).remove(1);
    fs::remove_file(&lost).expect("removed");
    fs::create_dir(&lost).expect("a folder cannot be read as a file");
    let spool = opened(folder.path());
    let (minutes, lost) = delivered(&spool.shared);
    // Of the epoch before, whose every trace was in that segment, nothing can be known.
    assert_eq!((minutes.as_slice(), lost), ([1].as_slice(), 1));
}

#[test]
fn case_f_a_segment_of_another_device_is_not_delivered_in_our_name() {
    let folder = tempfile::tempdir().expect("folder");
    append(&mut opened(folder.path()).writer, 1);
    let mut other = settings(folder.path(), 4 << 20);
    other.device.device = name("another");
    let spool = open(other, CLOCK).expect("opens");
    assert_eq!((position(&spool.writer), delivered(&spool.shared)), (None, (vec![], 0)));
}

#[test]
fn a_full_spool_gives_up_the_oldest_with_a_tombstone_and_never_refuses() {
    let folder = tempfile::tempdir().expect("folder");
    let mut spool = open(settings(folder.path(), super::super::MIN_BYTES), CLOCK).expect("opens");
    for minute in 0..400 {
        let mut camera = checkpoint(minute, None);
        camera.state = Some(minute.to_le_bytes().repeat(1_000));
        spool.writer.append(&[body(minute)], vec![camera]).expect("always takes it");
        assert!(spool.shared.bytes() <= super::super::MIN_BYTES);
    }
    let (windows, lost) = delivered(&spool.shared);
    assert!(!windows.is_empty());
    let everything = Mark { epoch: spool.writer.epoch(), sequence: 400 };
    assert_eq!(spool.shared.pending(), 400, "merged, lost or whole: all of them are accounted for");
    assert_eq!(lost, spool.shared.relief().buried.load(std::sync::atomic::Ordering::Relaxed));
    spool.shared.acknowledge(everything);
    append(&mut spool.writer, 400);
    assert_eq!(delivered(&spool.shared), (vec![400], 0));
    drop(spool);
    let spool = open(settings(folder.path(), super::super::MIN_BYTES), CLOCK).expect("opens again");
    assert_eq!(position(&spool.writer), Some(400));
}

#[test]
fn case_g_a_batch_written_again_after_a_failed_flush_is_delivered_once() {
    let folder = tempfile::tempdir().expect("folder");
    let mut spool = opened(folder.path());
    append(&mut spool.writer, 1);
    let segment = segments(folder.path()).remove(0);
    let before = fs::metadata(&segment).expect("there").len();
    append(&mut spool.writer, 2);
    drop(spool);
    // As a failed flush would leave it: the batch in the old segment and again in a new one.
    let bytes = fs::read(&segment).expect("read");
    let preamble = {
        let copy = scan(&bytes);
        copy.items.get(1).map(|located| located.range.end).expect("head and snapshot")
    };
    let mut again = bytes[..preamble].to_vec();
    again.extend_from_slice(&bytes[usize::try_from(before).expect("small")..]);
    fs::write(segment.with_file_name("000000000002.segment"), again).expect("written");
    let spool = opened(folder.path());
    assert_eq!((position(&spool.writer), delivered(&spool.shared)), (Some(2), (vec![1, 2], 0)));
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn bytes_never_stop_the_agent_from_starting(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let folder = tempfile::tempdir().expect("folder");
            let spool_folder = folder.path().join(super::super::super::FOLDER);
            fs::create_dir_all(&spool_folder).expect("created");
            fs::write(spool_folder.join("000000000007.segment"), &bytes).expect("written");
            let mut spool = opened(folder.path());
            append(&mut spool.writer, 1);
            prop_assert_eq!(delivered(&spool.shared), (vec![1], 0));
        }
    }
}
