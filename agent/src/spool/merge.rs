//! Two windows of a camera as one: the price of holding a longer absence of the network in the same space.
//!
//! Pure: segments in, one coarser segment out. Histograms add up exactly, so nothing is lost but the resolution in time, and the
//! record says how many windows it merges.
//!
//! Records of several cameras alternate in the sequence, so neighbours of one camera are rarely neighbours in it. Within a block of
//! records the numbers are therefore dealt anew: the block keeps its first and its last number, and every record spans as many as it
//! merges. That is only allowed where nobody has seen the old numbers, which is why a segment that was offered to a connection is
//! never merged ([`super::Shared`] keeps the claim).

use std::collections::BTreeMap;

use driftglass_protocol::id::Name;
use driftglass_protocol::limit::{FEATURES, HISTOGRAM_BYTES, LABELS_BYTES};
use driftglass_protocol::prediction::Predictions;
use driftglass_protocol::sketch::{EncodedHistogram, EncodedLabels, Histogram, LabelCounts};
use driftglass_protocol::summary::{FeatureSketch, Quality, Summary, Window};
use driftglass_protocol::unit::Millis;
use driftglass_protocol::wire::{
    Body, FrameError, Kind, Mark, Record, RecordId, Tombstone, TombstoneCause, parse_frame,
};

use super::format::{CameraCheckpoint, Checkpoint, Head};
use super::scan::{Item, scan};
use super::writer::push;

/// Records among which neighbours of one camera are looked for; bounds the memory.
const BLOCK: usize = 256;
/// Tombstones of different starts kept in one segment; beyond, the oldest are let go and only the log tells of them.
const GRAVES: usize = 1024;

/// A run of neighbouring segments as one.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    pub(super) bytes: Vec<u8>,
    /// Windows that its records stand for, lost ones included.
    pub(super) windows: u64,
    /// Windows newly lost.
    pub(super) lost: u64,
    /// Records that went into others.
    pub(super) merged: u64,
    /// Records.
    pub(super) records: u64,
}

/// What a run of segments holds.
struct Run<'a> {
    head: Head,
    records: Vec<Record<'a>>,
    cameras: BTreeMap<Name, CameraCheckpoint>,
    last: Mark,
}

/// Merges pairs of neighbouring windows of the records after `after`; `None` where a segment is not what it should be, which recovery repairs.
pub(super) fn coarser(segments: &[Vec<u8>], after: Mark) -> Option<Result<Rewritten, FrameError>> {
    let run = read(segments, after)?;
    let mut out = Rewritten::default();
    let written = rewrite(&run, &mut out, deal);
    Some(written.map(|()| out))
}

/// Puts tombstones in the place of everything after `after`.
pub(super) fn buried(segments: &[Vec<u8>], after: Mark) -> Option<Result<Rewritten, FrameError>> {
    let mut run = read(segments, after)?;
    let mut graves: Vec<Record<'_>> = Vec::new();
    let mut out = Rewritten::default();
    for record in run.records.drain(..) {
        let (cause, from, to) = match &record.body {
            Body::Summary(summary) => {
                out.lost += record.id.last - record.id.first + 1;
                (TombstoneCause::SpoolFull, summary.window.start, summary.window.end())
            }
            Body::Tombstone(tombstone) => (tombstone.cause, tombstone.from, tombstone.to),
        };
        match graves.last_mut() {
            Some(Record { id, body: Body::Tombstone(grave), .. })
                if id.epoch == record.id.epoch && id.last + 1 == record.id.first =>
            {
                id.last = record.id.last;
                grave.cause = if grave.cause == cause { cause } else { TombstoneCause::SpoolFull };
                grave.from = grave.from.min(from);
                grave.to = grave.to.max(to);
            }
            _ => {
                let body = Body::Tombstone(Tombstone { cause, from, to });
                graves.push(Record { body, ..record });
            }
        }
    }
    if graves.len() > GRAVES {
        let gone = graves.len() - GRAVES;
        tracing::error!(
            gone,
            "too many starts without a connection: windows lost in the oldest are no longer accounted for"
        );
        graves.drain(..gone);
    }
    run.records = graves;
    let written = rewrite(&run, &mut out, |block, out| {
        for record in block {
            out.windows += record.id.last - record.id.first + 1;
            out.records += 1;
            push(Kind::Record, record, &mut out.bytes)?;
        }
        Ok(())
    });
    Some(written.map(|()| out))
}

/// A segment that was merged away and came back stands behind the one that holds its records; they are not taken again.
fn read(segments: &[Vec<u8>], after: Mark) -> Option<Run<'_>> {
    let mut head = None;
    let mut records: Vec<Record<'_>> = Vec::new();
    let mut cameras = BTreeMap::new();
    let mut last = after;
    for bytes in segments {
        let found = scan(bytes);
        if !found.damaged.is_empty() || found.whole < bytes.len() {
            return None;
        }
        for located in found.items {
            match located.item {
                Item::Head(found) => {
                    head.get_or_insert(Head { after, ..found });
                }
                Item::Record { id, .. } => {
                    // Case G: what stands there twice counts once.
                    if id.mark() > last {
                        let frame = parse_frame(bytes.get(located.range)?).ok()?;
                        records.push(Record::parse(frame).ok()?);
                        last = id.mark();
                    }
                }
                Item::Checkpoint(checkpoint) => {
                    for camera in checkpoint.cameras {
                        // The state is large and stands in every later segment; without any of them it is learned anew.
                        cameras.insert(camera.camera.clone(), CameraCheckpoint { state: None, ..camera });
                    }
                }
            }
        }
    }
    Some(Run { head: head?, records, cameras, last })
}

/// Head, records as `write` wants them, and the checkpoint that commits them all.
fn rewrite(
    run: &Run<'_>,
    out: &mut Rewritten,
    mut write: impl FnMut(&[Record<'_>], &mut Rewritten) -> Result<(), FrameError>,
) -> Result<(), FrameError> {
    push(Kind::Segment, &run.head, &mut out.bytes)?;
    let connected = |a: &Record<'_>, b: &Record<'_>| a.id.epoch == b.id.epoch && a.id.last + 1 == b.id.first;
    for unbroken in run.records.chunk_by(connected) {
        for block in unbroken.chunks(BLOCK) {
            write(block, out)?;
        }
    }
    let commit = Checkpoint { after: run.head.after, through: run.last, cameras: Vec::new() };
    push(Kind::Checkpoint, &commit, &mut out.bytes)?;
    for camera in run.cameras.values() {
        let position = Checkpoint { after: run.last, through: run.last, cameras: vec![camera.clone()] };
        push(Kind::Checkpoint, &position, &mut out.bytes)?;
    }
    Ok(())
}

/// Pairs neighbours of a block and deals its numbers anew.
fn deal(block: &[Record<'_>], out: &mut Rewritten) -> Result<(), FrameError> {
    let mut pairs: Vec<(&Record<'_>, Option<&Record<'_>>)> = Vec::new();
    // Those that still look for a neighbour.
    let mut single: Vec<usize> = Vec::new();
    for record in block {
        let same = |&index: &usize| pairs.get(index).is_some_and(|(first, _)| same_subject(first, record));
        let found = single.iter().position(same);
        if let Some(place) = found {
            let index = single.swap_remove(place);
            if let Some((first, second)) = pairs.get_mut(index)
                && mergeable(&first.body, &record.body)
            {
                *second = Some(record);
                continue;
            }
        }
        single.push(pairs.len());
        pairs.push((record, None));
    }
    let mut next = block.first().map_or(1, |record| record.id.first);
    for (first, second) in pairs {
        let width = |record: &Record<'_>| record.id.last - record.id.first + 1;
        let windows = width(first) + second.map_or(0, width);
        let id = RecordId { epoch: first.id.epoch, first: next, last: next + windows - 1 };
        next += windows;
        out.windows += windows;
        out.records += 1;
        match second {
            None => push(Kind::Record, &Record { id, ..first.clone() }, &mut out.bytes)?,
            Some(second) => {
                out.merged += 1;
                push_pair(id, first, second, &mut out.bytes)?;
            }
        }
    }
    Ok(())
}

/// Whether two records speak of the same thing: the camera and its model, or the cause of a loss.
fn same_subject(a: &Record<'_>, b: &Record<'_>) -> bool {
    match (&a.body, &b.body) {
        (Body::Summary(a), Body::Summary(b)) => a.camera == b.camera && a.model == b.model,
        (Body::Tombstone(a), Body::Tombstone(b)) => a.cause == b.cause,
        _ => false,
    }
}

/// Whether the second may go into the first: later, not much later, and within what a record can hold.
fn mergeable(a: &Body<'_>, b: &Body<'_>) -> bool {
    let (Body::Summary(a), Body::Summary(b)) = (a, b) else { return true };
    let in_order = b.window.start >= a.window.end();
    // A pause longer than both windows together is not covered by a window that would claim to.
    let near = b.window.start.since(a.window.end()) <= u64::from(a.window.length.0) + u64::from(b.window.length.0);
    let length = u32::try_from(b.window.end().since(a.window.start)).is_ok();
    let frames = a.quality.frames.checked_add(b.quality.frames).is_some();
    let windows = a.window.merged.checked_add(b.window.merged).is_some();
    in_order && near && length && frames && windows && features(a, b).count() <= FEATURES
}

/// The features of either, ascending.
fn features<'s>(a: &'s Summary<'_>, b: &'s Summary<'_>) -> impl Iterator<Item = u8> + use<'s> {
    let has = |summary: &Summary<'_>, feature| summary.sketches.iter().any(|sketch| sketch.feature == feature);
    (0..=u8::MAX).filter(move |&feature| has(a, feature) || has(b, feature))
}

fn push_pair(id: RecordId, first: &Record<'_>, second: &Record<'_>, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let previous = first.previous;
    match (&first.body, &second.body) {
        (Body::Summary(a), Body::Summary(b)) => {
            let mut arena = Vec::new();
            let parts: Vec<_> = features(a, b).map(|feature| (feature, sum(a, b, feature, &mut arena))).collect();
            let sketches = parts.iter().map(|(feature, (absent, range))| FeatureSketch {
                feature: *feature,
                absent: *absent,
                histogram: arena.get(range.clone()).unwrap_or_default(),
            });
            let mut labels = Vec::new();
            let predictions = predictions(a.predictions.as_ref(), b.predictions.as_ref(), &mut labels);
            let summary = Summary {
                camera: a.camera.clone(),
                model: a.model.clone(),
                window: Window {
                    start: a.window.start,
                    length: Millis(u32::try_from(b.window.end().since(a.window.start)).unwrap_or(u32::MAX)),
                    merged: a.window.merged.saturating_add(b.window.merged),
                },
                first_frame: a.first_frame.or(b.first_frame),
                last_frame: b.last_frame.or(a.last_frame),
                quality: add(a.quality, b.quality),
                sketches: sketches.collect(),
                predictions,
            };
            push(Kind::Record, &Record { id, previous, body: Body::Summary(summary) }, out)
        }
        (Body::Tombstone(a), Body::Tombstone(b)) => {
            let tombstone = Tombstone { cause: a.cause, from: a.from.min(b.from), to: a.to.max(b.to) };
            push(Kind::Record, &Record { id, previous, body: Body::Tombstone(tombstone) }, out)
        }
        // Never paired.
        _ => Ok(()),
    }
}

/// Adds one feature of two summaries; returns its absences and where its encoding stands in the arena.
fn sum(a: &Summary<'_>, b: &Summary<'_>, feature: u8, arena: &mut Vec<u8>) -> (u32, std::ops::Range<usize>) {
    let mut histogram = Histogram::new();
    let mut absent = 0_u32;
    for summary in [a, b] {
        match summary.sketches.iter().find(|sketch| sketch.feature == feature) {
            Some(sketch) => {
                absent = absent.saturating_add(sketch.absent);
                if let Ok(encoded) = EncodedHistogram::parse(sketch.histogram) {
                    histogram.merge(encoded);
                }
            }
            // A window without the feature has no value for any of its frames.
            None => absent = absent.saturating_add(summary.quality.frames),
        }
    }
    let mut encoded = [0; HISTOGRAM_BYTES];
    let length = histogram.encode(&mut encoded);
    let start = arena.len();
    arena.extend_from_slice(encoded.get(..length).unwrap_or_default());
    (absent, start..arena.len())
}

/// Adds what two windows say of a model; `labels` takes the encoding of the summed labels.
fn predictions<'a>(
    a: Option<&Predictions<'a>>,
    b: Option<&Predictions<'a>>,
    labels: &'a mut Vec<u8>,
) -> Option<Predictions<'a>> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (one, other) => return one.or(other).cloned(),
    };
    let mut counts = Box::<LabelCounts>::default();
    for one in [a, b] {
        if let Ok(encoded) = EncodedLabels::parse(one.labels) {
            counts.merge(encoded);
        }
    }
    let mut encoded = [0; LABELS_BYTES];
    let length = counts.encode(&mut encoded);
    labels.extend_from_slice(encoded.get(..length).unwrap_or_default());
    let mut sum = Predictions {
        frames: a.frames.saturating_add(b.frames),
        judged: a.judged.saturating_add(b.judged),
        wrong: a.wrong.saturating_add(b.wrong),
        labels,
        advisories: a.advisories.clone(),
        further_advisories: a.further_advisories.saturating_add(b.further_advisories),
    };
    for &advisory in &b.advisories {
        if sum.advisories.push(advisory).is_err() {
            sum.further_advisories = sum.further_advisories.saturating_add(1);
        }
    }
    Some(sum)
}

const fn add(a: Quality, b: Quality) -> Quality {
    Quality {
        frames: a.frames.saturating_add(b.frames),
        missing: a.missing.saturating_add(b.missing),
        undecodable: a.undecodable.saturating_add(b.undecodable),
        skipped: a.skipped.saturating_add(b.skipped),
        late: a.late.saturating_add(b.late),
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::advisory::{Advisory, Detector, Level, Stream};
    use driftglass_protocol::limit::ADVISORIES;
    use driftglass_protocol::unit::UnixMillis;

    use super::*;

    #[test]
    fn what_two_windows_say_of_a_model_adds_up_and_advice_beyond_the_room_is_counted() {
        let encoded = |labels: &[&str]| {
            let mut counts = Box::<LabelCounts>::default();
            labels.iter().for_each(|label| counts.add(label));
            let mut bytes = [0; LABELS_BYTES];
            let length = counts.encode(&mut bytes);
            bytes[..length].to_vec()
        };
        let (first, second) = (encoded(&["cat", "dog"]), encoded(&["dog", "dog"]));
        let advice = Advisory::new(Detector::Adwin, Stream::Confidence, Level::Drift, UnixMillis(1));
        let said = |labels, advisories: usize| Predictions {
            frames: 2,
            judged: 1,
            wrong: 1,
            labels,
            advisories: std::iter::repeat_n(advice, advisories).collect(),
            further_advisories: 0,
        };
        let mut labels = Vec::new();
        let (a, b) = (said(&first, ADVISORIES - 1), said(&second, 3));
        let sum = predictions(Some(&a), Some(&b), &mut labels).expect("both say something");
        assert_eq!((sum.frames, sum.judged, sum.wrong, sum.further_advisories), (4, 2, 2, 2));
        assert_eq!(sum.advisories.len(), ADVISORIES);
        let names: Vec<(&str, u32)> = EncodedLabels::parse(sum.labels).expect("labels").names().collect();
        assert_eq!(names, [("cat", 1), ("dog", 3)]);
        assert_eq!(predictions(None, Some(&b), &mut Vec::new()), Some(b));
    }
}
