//! The doors: arbitrary bytes in, a panic where a promise is broken.
//!
//! What every door promises: no panic, no unbounded memory or time, and what it lets in can be written and read again as the same.
//! Doors with checksums have a second bell: bytes whose lengths and checksums are mended first, so that mutations come through to
//! what is behind the checksum.
#![expect(clippy::expect_used, clippy::panic, reason = "a broken promise is a failed test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftglass_agent::decode::{Decoder, StripDecoder};
use driftglass_agent::feature::{CameraState, Measurements, STATE_BYTES};
use driftglass_agent::overhear;
use driftglass_agent::spool::{FOLDER, Item, Reader, Settings, open_on, scan};
use driftglass_aggregator::ingest::FrameSplitter;
use driftglass_protocol::id::{CameraId, DeviceId, Name};
use driftglass_protocol::identity::{Deny, Enrol, Issued, Renew, Token, certificate};
use driftglass_protocol::limit::{FRAME_BYTES, FRAME_HEADER_BYTES, HISTOGRAM_BYTES};
use driftglass_protocol::session::{Acknowledge, Hello, Refuse, Welcome};
use driftglass_protocol::sketch::{EncodedHistogram, Histogram};
use driftglass_protocol::wire::{Body, FrameError, Kind, Mark, Record, VERSION, parse_frame};

use crate::memory_disk::MemoryDisk;

/// A door: its name, which is that of its corpus and of its fuzz target, and what is behind it.
pub type Door = (&'static str, fn(&[u8]));

/// All of them.
pub const DOORS: [Door; 9] = [
    ("frame", frame),
    ("payload", payload),
    ("segment", segment),
    ("picture", picture),
    ("camera_state", camera_state),
    ("identity", identity),
    ("inference", inference),
    ("agent_configuration", agent_configuration),
    ("aggregator_configuration", aggregator_configuration),
];

/// A stream as the aggregator receives it: however it is cut into pieces, the same frames come out.
pub fn frame(bytes: &[u8]) {
    let whole = frames_of(bytes);
    for piece in [1, 7, 1500, bytes.len().max(1)] {
        // Byte by byte is for the short ones.
        if piece == 1 && bytes.len() > 4096 {
            continue;
        }
        let mut splitter = FrameSplitter::new();
        let mut found = Vec::new();
        let mut rest = bytes;
        let end = 'stream: loop {
            loop {
                match splitter.take_frame() {
                    Ok(Some(located)) => found.push((located.frame.kind, located.bytes.to_vec())),
                    Ok(None) => break,
                    Err(malformed) => break 'stream Some(malformed.error),
                }
            }
            if rest.is_empty() {
                break None;
            }
            let spare = splitter.spare();
            assert!(!spare.is_empty(), "there is always room for more");
            let count = spare.len().min(piece).min(rest.len());
            spare[..count].copy_from_slice(&rest[..count]);
            splitter.advance(count);
            rest = &rest[count..];
        };
        assert_eq!(found, whole.0, "in pieces of {piece}");
        assert_eq!(end, whole.1, "in pieces of {piece}");
    }
}

type Frames = (Vec<(Kind, Vec<u8>)>, Option<FrameError>);

/// The frames of a stream, and what is wrong with it behind them.
fn frames_of(mut bytes: &[u8]) -> Frames {
    let mut found = Vec::new();
    loop {
        match parse_frame(bytes) {
            Ok(frame) => {
                assert!((FRAME_HEADER_BYTES..=FRAME_BYTES).contains(&frame.length));
                assert_eq!(frame.payload.len(), frame.length - FRAME_HEADER_BYTES);
                found.push((frame.kind, bytes[..frame.length].to_vec()));
                bytes = &bytes[frame.length..];
            }
            Err(FrameError::Incomplete { .. }) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

/// What is in a frame whose checksum is right: the first byte is the kind, the others the payload.
pub fn payload(bytes: &[u8]) {
    let Some((&kind, payload)) = bytes.split_first() else { return };
    let bytes = framed(kind, payload);
    let Ok(frame) = parse_frame(&bytes) else { return };
    let mut out = vec![0; FRAME_BYTES];
    macro_rules! message {
        ($type:ident) => {
            if let Ok(message) = $type::parse(frame) {
                let length = message.write(&mut out).expect("what has been read can be written");
                let again = parse_frame(&out[..length]).expect("a frame");
                assert_eq!($type::parse(again).as_ref(), Ok(&message));
            }
        };
    }
    message!(Hello);
    message!(Welcome);
    message!(Acknowledge);
    message!(Refuse);
    message!(Enrol);
    message!(Renew);
    message!(Issued);
    message!(Deny);
    message!(Record);
    if let Ok(record) = Record::parse(frame) {
        assert!(record.id.first >= 1 && record.id.first <= record.id.last);
        if let Body::Summary(summary) = &record.body {
            for (_, histogram) in summary.histograms() {
                merged(histogram);
            }
            if let Some(labels) = summary.predictions.as_ref() {
                // Formatting walks over everything.
                drop(format!("{labels:?}"));
            }
        }
    }
}

/// A histogram that was let in can be merged and written, and is the same then.
fn merged(encoded: EncodedHistogram<'_>) {
    let mut histogram = Histogram::new();
    histogram.merge(encoded);
    assert_eq!(histogram.total(), encoded.iter().map(|(_, count)| u64::from(count)).sum::<u64>());
    let mut room = [0; HISTOGRAM_BYTES];
    let length = histogram.encode(&mut room);
    let again = EncodedHistogram::parse(&room[..length]).expect("what was written can be read");
    assert!(again.iter().eq(encoded.iter().filter(|&(_, count)| count > 0)));
}

/// A segment of the spool: the scan keeps order, and an agent that finds it starts, delivers what is whole, and starts again.
pub fn segment(bytes: &[u8]) {
    for (bytes, is_mended) in [(bytes.to_vec(), false), (mended(bytes), true)] {
        let found = scan(&bytes);
        let mut end = 0;
        for located in &found.items {
            assert!(located.range.start >= end && located.range.end <= bytes.len(), "{located:?}");
            end = located.range.end;
            if let Item::Record { id, .. } = located.item {
                assert!(id.first >= 1 && id.first <= id.last);
            }
        }
        assert_eq!(found.whole, end);
        for damaged in &found.damaged {
            assert!(damaged.start < damaged.end && damaged.end <= found.whole, "{damaged:?}");
        }
        recover(bytes, found.damaged.is_empty() && !is_mended);
    }
}

/// Two starts on this segment. The second offers what the first did where nothing is damaged and nothing was made whole that no agent
/// wrote. Frames that rotted where an agent wrote them are another matter, `tests/doors/rot.rs`; here they also move.
fn recover(bytes: Vec<u8>, is_whole: bool) {
    let device = DeviceId { site: name("site"), device: name("gw") };
    let state = PathBuf::from("/state");
    let disk = Arc::new(MemoryDisk::default());
    disk.put(&state.join(FOLDER).join("000000000001.segment"), bytes);
    let settings = || Settings { state_dir: state.clone(), device: device.clone(), max_bytes: 1 << 20 };
    let mut offered = Vec::new();
    for start in 0..2 {
        let disk = Arc::clone(&disk);
        let opened = open_on(disk, settings(), 1_800_000_000 + start);
        let opened = match opened {
            Ok(opened) => opened,
            // The largest epoch of all has been used; no other damage is a reason.
            Err(error) if error.to_string().contains("largest") => return,
            Err(error) => panic!("it does not start: {error}"),
        };
        let mut reader = Reader::new(Arc::clone(&opened.shared));
        let mut mark = Mark::default();
        let mut records = Vec::new();
        while let Ok(Some(stored)) = reader.next_after(mark) {
            let record = Record::parse(parse_frame(stored.frame).expect("a frame")).expect("a record");
            assert!(record.id.mark() > mark, "{:?} after {mark}", record.id);
            mark = record.id.mark();
            records.push(record.id);
        }
        if start == 0 {
            offered = records;
        } else if is_whole {
            assert_eq!(offered, records, "the second start offers what the first did");
        }
    }
}

/// An encoded picture: measured or refused, and the same the second time, whatever was measured in between.
pub fn picture(bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let values = |measured: &Measurements| CameraState::new().observe(measured);
    let first = decoder.measure(bytes).map(|measured| values(&measured)).map_err(|error| error.to_string());
    let second = decoder.measure(bytes).map(|measured| values(&measured)).map_err(|error| error.to_string());
    assert_eq!(first, second, "a decoder keeps nothing");
    // The decoder without an operating system alone: what it takes, the other takes from it.
    if let Ok(Some(measured)) = StripDecoder::new().measure(bytes) {
        assert_eq!(first, Ok(values(&measured)));
    }
}

/// The stored reference of a camera: read or refused, and written as it was read.
pub fn camera_state(bytes: &[u8]) {
    let Ok(state) = CameraState::from_bytes(bytes) else { return };
    let mut out = [0; STATE_BYTES];
    let length = state.to_bytes(&mut out);
    let again = CameraState::from_bytes(&out[..length]).expect("what was written can be read");
    let mut twice = [0; STATE_BYTES];
    let second = again.to_bytes(&mut twice);
    assert_eq!(out[..length], twice[..second]);
}

/// Tokens, names and certificates as strangers send them.
pub fn identity(bytes: &[u8]) {
    if let Some(request) = certificate::request(bytes) {
        assert!(request.signed.len() <= bytes.len() && request.public_key.len() <= request.signed.len());
    }
    if let Some(validity) = certificate::validity(bytes) {
        drop(format!("{validity:?}"));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string(), text.trim());
        assert!(!format!("{token:?}").contains(&text.trim()[4..36]), "a secret is not shown");
    }
    if let Ok(name) = Name::parse(text) {
        assert_eq!(name.as_str(), text);
        assert!(
            !text.contains(['/', '\\', '"', '\0', ' ']) && !text.starts_with('.'),
            "safe in paths, labels and addresses"
        );
    }
    if let Ok(camera) = text.parse::<CameraId>() {
        assert_eq!(camera.to_string(), text);
    }
    if let Ok(device) = DeviceId::from_spiffe(text, "driftglass.local") {
        let mut again = String::new();
        device.write_spiffe("driftglass.local", &mut again).expect("a string takes everything");
        assert_eq!(again, text);
    }
}

/// A connection through the inference proxy: however it is cut into pieces, as many inferences are told of. The first two bytes are the
/// length of what the client says, the others what it says and what the server says.
pub fn inference(bytes: &[u8]) {
    let Some((length, said)) = bytes.split_first_chunk() else { return };
    let (asked, answered) = said.split_at(usize::from(u16::from_le_bytes(*length)).min(said.len()));
    let whole = overhear(asked, answered, said.len());
    for piece in [1, 7, 1500] {
        assert_eq!(overhear(asked, answered, piece), whole, "in pieces of {piece}");
    }
}

/// A configuration of the agent: accepted, or refused with at least one fault that says where.
pub fn agent_configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let overrides = driftglass_agent::config::Overrides::default();
    if let Err(faults) = driftglass_agent::config::Config::resolve(Path::new("agent.toml"), text, &overrides) {
        assert!(faults.to_string().contains("agent.toml"), "{faults}");
    }
}

/// A configuration of the aggregator: accepted, or refused with at least one fault that says where.
pub fn aggregator_configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let overrides = driftglass_aggregator::config::Overrides::default();
    if let Err(faults) = driftglass_aggregator::config::Config::parse("aggregator.toml", text, &overrides) {
        assert!(!faults.list().is_empty() && faults.to_string().contains("aggregator.toml"), "{faults}");
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// A frame with the right length and checksum, whatever is in it.
#[must_use]
pub fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(FRAME_BYTES - FRAME_HEADER_BYTES)];
    let length = u32::try_from(FRAME_HEADER_BYTES + payload.len()).expect("at most 64 KiB");
    let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    bytes.extend(length.to_le_bytes());
    bytes.extend([VERSION, kind]);
    bytes.extend([0; 4]);
    bytes.extend(payload);
    mend(&mut bytes);
    bytes
}

/// Sets the checksum of a frame.
fn mend(frame: &mut [u8]) {
    const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    frame[4] = VERSION;
    let mut digest = CRC32C.digest();
    digest.update(&frame[4..6]);
    digest.update(&frame[FRAME_HEADER_BYTES..]);
    let checksum = digest.finalize();
    frame[6..FRAME_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// The same bytes with the right checksum wherever a length makes sense.
#[must_use]
pub fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let end = at.saturating_add(length);
        match bytes.get_mut(at..end) {
            Some(frame) if (FRAME_HEADER_BYTES..=FRAME_BYTES).contains(&length) => {
                mend(frame);
                at = end;
            }
            _ => at += 1,
        }
    }
    bytes
}
