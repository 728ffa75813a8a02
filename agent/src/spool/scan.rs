//! The scanner: which frames of a segment are whole, and which bytes are not.
//!
//! Pure: bytes in, places out. After damage it looks for the next whole frame byte by byte; the checksum makes a false find
//! improbable (2⁻³²), and a frame must parse as what it says it is on top.

use std::ops::Range;

use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, Frame, Kind, Mark, Record, RecordId, parse_frame};
use serde::de::DeserializeOwned;

use super::format::{Checkpoint, Head};

/// What a whole frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The head of the segment.
    Head(Head),
    /// A record: its place in the chain and the event time it speaks of.
    Record {
        /// Its identity.
        id: RecordId,
        /// The last record known when its epoch began.
        previous: Mark,
        /// First instant it speaks of.
        from: UnixMillis,
        /// Last instant it speaks of.
        to: UnixMillis,
        /// It is a tombstone.
        grave: bool,
    },
    /// The commit of the batch before it.
    Checkpoint(Checkpoint),
}

/// A whole frame and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What it is.
    pub item: Item,
    /// Its bytes.
    pub range: Range<usize>,
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Whole frames in order.
    pub items: Vec<Located>,
    /// Damaged stretches with whole frames after them.
    pub damaged: Vec<Range<usize>>,
    /// End of the last whole frame; what follows is a torn tail.
    pub whole: usize,
}

/// Reads a segment.
#[must_use]
pub fn scan(bytes: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        let found = (at..bytes.len()).find_map(|start| {
            let (item, length) = item_at(bytes.get(start..)?)?;
            Some(Located { item, range: start..start + length })
        });
        let Some(located) = found else { break };
        if located.range.start > at {
            scan.damaged.push(at..located.range.start);
        }
        at = located.range.end;
        scan.whole = at;
        scan.items.push(located);
    }
    scan
}

fn item_at(bytes: &[u8]) -> Option<(Item, usize)> {
    let frame = parse_frame(bytes).ok()?;
    let item = match frame.kind {
        Kind::Record => {
            let record = Record::parse(frame).ok()?;
            let (from, to, grave) = match &record.body {
                Body::Summary(summary) => (summary.window.start, summary.window.end(), false),
                Body::Tombstone(tombstone) => (tombstone.from, tombstone.to, true),
            };
            Item::Record { id: record.id, previous: record.previous, from, to, grave }
        }
        Kind::Checkpoint => Item::Checkpoint(payload(frame)?),
        Kind::Segment => Item::Head(payload(frame)?),
        _ => return None,
    };
    Some((item, frame.length))
}

fn payload<T: DeserializeOwned>(frame: Frame<'_>) -> Option<T> {
    match postcard::take_from_bytes(frame.payload) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
