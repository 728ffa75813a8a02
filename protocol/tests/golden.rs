//! The bytes of every version ever shipped keep decoding, and today's encoder still writes them.
//!
//! A file here changes only together with the version of the format. To add one for a new message, print what the encoder writes
//! (the failing test shows it) and commit it.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests; a panic is the failure")]

use driftglass_protocol::advisory::{Advisory, Detector, Level, Stream};
use driftglass_protocol::configuration::{
    ConfigurationId, ConfigurationOutcome, ConfigurationReport, DesiredConfiguration,
};
use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::identity::{Deny, DenyReason, Enrol, Issued, Renew, Secret};
use driftglass_protocol::limit::{HISTOGRAM_BYTES, LABELS_BYTES};
use driftglass_protocol::prediction::Predictions;
use driftglass_protocol::session::{Acknowledge, Hello, Refuse, RefuseReason, Welcome};
use driftglass_protocol::sketch::{Histogram, LabelCounts};
use driftglass_protocol::summary::{FeatureSketch, Model, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{
    Body, Frame, Mark, Record, RecordError, RecordId, Tombstone, TombstoneCause, parse_frame,
};

fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/vectors/v1/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect()
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("name")
}

fn check(golden_name: &str, written: &[u8]) {
    let stored = golden(golden_name);
    assert_eq!(hex(&stored), hex(written), "{golden_name}: today's encoder writes other bytes");
    assert!(parse_frame(&stored).is_ok(), "{golden_name}: no longer a frame");
}

#[test]
fn a_summary_record() {
    let mut luma = Histogram::new();
    for bin in [100, 100, 101, 255] {
        luma.add(bin);
    }
    let mut hue = Histogram::new();
    hue.add(7);
    let (mut luma_bytes, mut hue_bytes) = ([0; HISTOGRAM_BYTES], [0; HISTOGRAM_BYTES]);
    let luma_length = luma.encode(&mut luma_bytes);
    let hue_length = hue.encode(&mut hue_bytes);
    let record = Record {
        id: RecordId { epoch: 1_700_000_000, first: 41, last: 42 },
        previous: Mark { epoch: 1_699_000_000, sequence: 7 },
        body: Body::Summary(Summary {
            camera: name("entrance"),
            model: Some(Model { name: name("people-detector"), version: name("3.2.0") }),
            window: Window { start: UnixMillis(1_700_000_040_000), length: Millis(60_000), merged: 2 },
            first_frame: Some(UnixMillis(1_700_000_040_100)),
            last_frame: Some(UnixMillis(1_700_000_099_900)),
            quality: Quality { frames: 4, missing: 1, undecodable: 2, skipped: 3, late: 5 },
            sketches: [
                FeatureSketch { feature: Feature::LumaMean.number(), absent: 0, histogram: &luma_bytes[..luma_length] },
                FeatureSketch { feature: Feature::Hue.number(), absent: 3, histogram: &hue_bytes[..hue_length] },
            ]
            .into_iter()
            .collect(),
            predictions: None,
        }),
    };
    let mut out = [0; 1024];
    let length = record.write(&mut out).expect("fits");
    check("record-summary", &out[..length]);
    let stored = golden("record-summary");
    assert_eq!(Record::parse(parse_frame(&stored).expect("frame")), Ok(record));
}

#[test]
fn summary_records_with_predictions() {
    let mut few = LabelCounts::new();
    ["person", "car", "person", "Fußgänger", "a\tb"].into_iter().for_each(|label| few.add(label));
    let mut many = LabelCounts::new();
    (0..70).for_each(|label| many.add(&format!("{label:02}")));
    let start = UnixMillis(1_700_000_040_000);
    for (golden_name, labels) in [("record-predictions", few), ("record-predictions-many-labels", many)] {
        let mut bytes = [0; LABELS_BYTES];
        let length = labels.encode(&mut bytes);
        let advisory = Advisory::new(Detector::HddmA, Stream::Error, Level::Drift, start.plus(Millis(500)));
        let record = Record {
            id: RecordId { epoch: 1_700_000_000, first: 43, last: 43 },
            previous: Mark::default(),
            body: Body::Summary(Summary {
                camera: name("entrance"),
                model: None,
                window: Window { start, length: Millis(60_000), merged: 1 },
                first_frame: Some(start),
                last_frame: Some(start.plus(Millis(59_000))),
                quality: Quality { frames: 60, ..Quality::default() },
                sketches: heapless::Vec::new(),
                predictions: Some(Predictions {
                    frames: 59,
                    judged: 40,
                    wrong: 3,
                    labels: &bytes[..length],
                    advisories: [advisory].into_iter().collect(),
                    further_advisories: 2,
                }),
            }),
        };
        let mut out = [0; 4096];
        let length = record.write(&mut out).expect("fits");
        check(golden_name, &out[..length]);
        let stored = golden(golden_name);
        assert_eq!(Record::parse(parse_frame(&stored).expect("frame")), Ok(record));
    }
}

#[test]
fn what_follows_a_record_is_predictions_or_nothing() {
    let stored = golden("record-summary");
    let frame = parse_frame(&stored).expect("frame");
    for (tail, error) in [
        (&[0][..], RecordError::Trailing { extra: 1 }),
        (&[1], RecordError::Payload),
        (&[1, 0, 0, 0, 0, 0, 0, 9], RecordError::Trailing { extra: 1 }),
    ] {
        let payload = [frame.payload, tail].concat();
        assert_eq!(Record::parse(Frame { payload: &payload, ..frame }), Err(error), "{tail:?}");
    }
    let tombstone = golden("record-tombstone");
    let frame = parse_frame(&tombstone).expect("frame");
    let payload = [frame.payload, &[1, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(Record::parse(Frame { payload: &payload, ..frame }), Err(RecordError::Trailing { extra: 7 }));
}

#[test]
fn a_tombstone_record() {
    let record = Record {
        id: RecordId { epoch: 3, first: 1, last: 500 },
        previous: Mark::default(),
        body: Body::Tombstone(Tombstone {
            cause: TombstoneCause::Damaged,
            from: UnixMillis(-1),
            to: UnixMillis(1_700_000_000_000),
        }),
    };
    let mut out = [0; 128];
    let length = record.write(&mut out).expect("fits");
    check("record-tombstone", &out[..length]);
    let stored = golden("record-tombstone");
    assert_eq!(Record::parse(parse_frame(&stored).expect("frame")), Ok(record));
}

#[test]
fn a_tombstone_of_the_newest_cause() {
    let record = Record {
        id: RecordId { epoch: 3, first: 7, last: 9 },
        previous: Mark { epoch: 2, sequence: 1 },
        body: Body::Tombstone(Tombstone {
            cause: TombstoneCause::Forgotten,
            from: UnixMillis(0),
            to: UnixMillis(60_000),
        }),
    };
    let mut out = [0; 128];
    let length = record.write(&mut out).expect("fits");
    check("record-tombstone-forgotten", &out[..length]);
}

#[test]
fn the_session_messages() {
    let mut out = [0; 512];
    let hello = Hello {
        device: DeviceId { site: name("store-12"), device: name("gw-01") },
        epoch: 1_700_000_000,
        instance: 0x0123_4567_89ab_cdef,
        clock: UnixMillis(1_700_000_000_123),
        version: "0.1.0".try_into().expect("fits"),
    };
    let length = hello.write(&mut out).expect("fits");
    check("hello", &out[..length]);
    assert_eq!(Hello::parse(parse_frame(&golden("hello")).expect("frame")), Ok(hello));

    let mark = Mark { epoch: 1_700_000_000, sequence: 300 };
    let welcome = Welcome { mark, clock: UnixMillis(1_700_000_000_456), in_flight: 64 };
    let length = welcome.write(&mut out).expect("fits");
    check("welcome", &out[..length]);
    assert_eq!(Welcome::parse(parse_frame(&golden("welcome")).expect("frame")), Ok(welcome));

    let acknowledge = Acknowledge { mark };
    let length = acknowledge.write(&mut out).expect("fits");
    check("acknowledge", &out[..length]);
    assert_eq!(Acknowledge::parse(parse_frame(&golden("acknowledge")).expect("frame")), Ok(acknowledge));

    let refuse = Refuse { reason: RefuseReason::Gap, expected_after: mark, retry_after_s: 30 };
    let length = refuse.write(&mut out).expect("fits");
    check("refuse", &out[..length]);
    assert_eq!(Refuse::parse(parse_frame(&golden("refuse")).expect("frame")), Ok(refuse));
}

#[test]
fn the_messages_of_an_enrolment() {
    let mut out = [0; 256];
    let enrol = Enrol {
        device: DeviceId { site: name("store-12"), device: name("gw-01") },
        secret: Secret([0xa5; 16]),
        request: &[0x30, 0x01, 0x02],
    };
    let length = enrol.write(&mut out).expect("fits");
    check("enrol", &out[..length]);
    assert_eq!(Enrol::parse(parse_frame(&golden("enrol")).expect("frame")), Ok(enrol));

    let renew = Renew { request: &[0x30, 0x01, 0x02] };
    let length = renew.write(&mut out).expect("fits");
    check("renew", &out[..length]);
    assert_eq!(Renew::parse(parse_frame(&golden("renew")).expect("frame")), Ok(renew));

    let issued = Issued {
        certificate: &[1, 2, 3],
        authorities: [[4, 5].as_slice(), [6].as_slice()].into_iter().collect(),
        clock: UnixMillis(1_700_000_000_456),
    };
    let length = issued.write(&mut out).expect("fits");
    check("issued", &out[..length]);
    assert_eq!(Issued::parse(parse_frame(&golden("issued")).expect("frame")), Ok(issued));

    // The reason is a number on the wire; the last one stands for all before it.
    let deny = Deny { reason: DenyReason::Unavailable };
    let length = deny.write(&mut out).expect("fits");
    check("deny", &out[..length]);
    assert_eq!(Deny::parse(parse_frame(&golden("deny")).expect("frame")), Ok(deny));

    let refuse = Refuse { reason: RefuseReason::Expired, expected_after: Mark::default(), retry_after_s: 0 };
    let length = refuse.write(&mut out).expect("fits");
    check("refuse-expired", &out[..length]);
    assert_eq!(Refuse::parse(parse_frame(&golden("refuse-expired")).expect("frame")), Ok(refuse));
}

#[test]
fn configuration_messages() {
    let id = |version, first: u8| {
        let mut digest = [0; 32];
        for (byte, value) in digest.iter_mut().zip(first..) {
            *byte = value;
        }
        ConfigurationId { version, digest }
    };
    let mut out = [0; 256];
    for (golden_name, text) in
        [("desired-configuration", Some("[window]\nlength = \"2m\"\n")), ("desired-configuration-known", None)]
    {
        let desired = DesiredConfiguration { id: id(300, 1), text };
        let length = desired.write(&mut out).expect("fits");
        check(golden_name, &out[..length]);
        let stored = golden(golden_name);
        assert_eq!(DesiredConfiguration::parse(parse_frame(&stored).expect("frame")), Ok(desired));
    }
    for (number, outcome) in ConfigurationOutcome::ALL.into_iter().enumerate() {
        let golden_name = format!("configuration-report-{}", outcome.name());
        let detail = if outcome == ConfigurationOutcome::Refused { "no such camera" } else { "" };
        let report =
            ConfigurationReport { in_effect: id(299, 1), offered: id(300, 2), outcome, restart: number == 1, detail };
        let length = report.write(&mut out).expect("fits");
        check(&golden_name, &out[..length]);
        let stored = golden(&golden_name);
        assert_eq!(ConfigurationReport::parse(parse_frame(&stored).expect("frame")), Ok(report));
    }
}
