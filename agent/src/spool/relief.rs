//! What the writer does about a full spool: merge what was never offered, and at the very last give up the oldest.
//!
//! Must hold: a segment that was offered to a connection is never merged; merged records are durable before they are offered; what
//! is given up leaves a tombstone in its place. Every step makes the spool smaller or marks a segment as done with, so there are
//! boundedly many.
//!
//! The finest segments are merged first, the oldest of them before others, so resolution is given up evenly.

use std::io;
use std::path::PathBuf;

use driftglass_protocol::wire::{FrameError, Mark};

use super::disk::{NotReplaced, replace};
use super::format::{self, SEGMENT};
use super::merge::{Rewritten, buried, coarser};
use super::recover::SEGMENT_BYTES_READ;
use super::shared::Segment;
use super::writer::Writer;

/// A file that was given new content, of which it is unknown what a crash would leave. Its numbers mean other windows than before, so
/// nothing of it may be sent until it is certain.
#[derive(Debug)]
pub(super) struct Unsettled {
    path: PathBuf,
    bytes: Vec<u8>,
    gone: Vec<u64>,
}

/// What a step did for the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relieved {
    /// The spool is smaller than before.
    Gained,
    /// Nothing of this kind is left to do.
    Exhausted,
    /// The disk did not take it; later it may.
    Refused,
}

impl Writer {
    /// Merges neighbouring windows in one run of segments.
    pub(super) fn relieve(&mut self) -> Relieved {
        if self.unsettled.is_some() {
            return Relieved::Refused;
        }
        while let Some(run) = self.finest_run() {
            match self.read(&run).map(|contents| coarser(&contents, after_of(&run))) {
                Ok(Some(Ok(rewritten))) if self.is_gain(&run, &rewritten) => {
                    let level = Segment::level_of(rewritten.windows, rewritten.records);
                    return self.put(&run, rewritten, level);
                }
                Ok(Some(Ok(_))) => {}
                other => complain(other, &run),
            }
            self.finish(&run);
        }
        Relieved::Exhausted
    }

    /// Gives up the oldest closed segment, together with neighbours that hold tombstones only.
    pub(super) fn bury(&mut self) -> Relieved {
        if self.unsettled.is_some() {
            return Relieved::Refused;
        }
        while let Some(run) = self.oldest_run() {
            match self.read(&run).map(|contents| buried(&contents, after_of(&run))) {
                Ok(Some(Ok(rewritten))) if self.is_gain(&run, &rewritten) => {
                    let (first, last) = (run[0].after, run[run.len() - 1].last);
                    tracing::error!(windows = rewritten.lost, after = %first, through = %last,
                        "the spool is full and nothing is left to merge: the oldest windows are given up, and a tombstone stands for them");
                    return self.put(&run, rewritten, Segment::GRAVE);
                }
                Ok(Some(Ok(_))) => {}
                other => complain(other, &run),
            }
            self.finish(&run);
            let mut index = self.shared.index();
            for segment in &mut index.segments {
                if run.iter().any(|other| other.number == segment.number) {
                    segment.level = Segment::GRAVE;
                }
            }
        }
        Relieved::Exhausted
    }

    /// To be called now and then, also while no windows close: makes certain what a failed flush left in doubt. Tries less and less often
    /// while the disk refuses.
    pub fn tend(&mut self) {
        if self.unsettled.is_none() {
            self.tended = 0;
            return;
        }
        self.tended = self.tended.saturating_add(1);
        if self.tended.is_power_of_two() || self.tended.is_multiple_of(1024) {
            self.settle();
        }
    }

    /// Tries again to make certain what a failed flush left in doubt.
    pub(super) fn settle(&mut self) {
        let Some(unsettled) = self.unsettled.take() else { return };
        let stored =
            replace(self.shared.disk.as_ref(), &unsettled.path, &unsettled.bytes).map_err(|error| error.source);
        self.conclude(stored, unsettled);
    }

    /// Opens the new content to readers once it is certain, and certain that nothing of the old one can come back: should the new one
    /// rot later, the old numbers must not take its place.
    fn conclude(&mut self, stored: io::Result<()>, unsettled: Unsettled) {
        let disk = self.shared.disk.as_ref();
        let concluded = stored.and_then(|()| {
            for &number in &unsettled.gone {
                match disk.remove(&format::path(&self.shared.folder, number, SEGMENT)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            if unsettled.gone.is_empty() { Ok(()) } else { disk.sync_folder(&self.shared.folder) }
        });
        match concluded {
            Ok(()) => {
                self.shared.index().busy = None;
                self.shared.announce();
            }
            Err(error) => {
                tracing::warn!(path = %unsettled.path.display(), %error, "a merged segment is not certain yet; nothing of it is sent");
                self.unsettled = Some(unsettled);
            }
        }
    }

    /// Closed, never offered, and still with something to merge: the finest, oldest, with neighbours of its kind as far as they fit
    /// one segment together.
    fn finest_run(&self) -> Option<Vec<Segment>> {
        let mut index = self.shared.index();
        let closed = index.segments.len().saturating_sub(1);
        let (claimed, acknowledged) = (index.claimed, index.acknowledged);
        let open = |segment: &&Segment| {
            segment.number > claimed && segment.last > acknowledged && !segment.finest && segment.level < Segment::GRAVE
        };
        let level = index.segments.iter().take(closed).filter(open).map(|segment| segment.level).min()?;
        let of_level = |segment: &&Segment| open(segment) && segment.level == level;
        let from_first = index.segments.iter().take(closed).skip_while(|segment| !of_level(segment));
        let mut bytes = 0;
        let run: Vec<Segment> = from_first
            .take_while(of_level)
            .enumerate()
            .take_while(|(place, segment)| {
                bytes += segment.length;
                *place == 0 || bytes <= self.segment_bytes
            })
            .map(|(_, segment)| *segment)
            .collect();
        index.busy = Some((run.first()?.number, run.last()?.number));
        Some(run)
    }

    /// The oldest closed segment that holds more than tombstones, with the graves before it; or graves that can become one.
    fn oldest_run(&self) -> Option<Vec<Segment>> {
        let mut index = self.shared.index();
        let closed = index.segments.len().saturating_sub(1);
        let graves = index.segments.iter().take(closed).take_while(|segment| segment.level == Segment::GRAVE).count();
        if graves == closed && index.segments.iter().take(closed).all(|segment| segment.finest) {
            return None;
        }
        let run: Vec<Segment> = index.segments.iter().take((graves + 1).min(closed)).copied().collect();
        index.busy = Some((run.first()?.number, run.last()?.number));
        Some(run)
    }

    fn read(&self, run: &[Segment]) -> io::Result<Vec<Vec<u8>>> {
        run.iter()
            .map(|segment| {
                let path = format::path(&self.shared.folder, segment.number, SEGMENT);
                let mut bytes = self.shared.disk.read(&path, SEGMENT_BYTES_READ)?;
                // What follows the committed bytes was never finished.
                bytes.truncate(usize::try_from(segment.length).unwrap_or(usize::MAX));
                Ok(bytes)
            })
            .collect()
    }

    /// A rewriting that saves nothing worth a write is none.
    fn is_gain(&self, run: &[Segment], rewritten: &Rewritten) -> bool {
        let before: u64 = run.iter().map(|segment| segment.length).sum();
        let after = rewritten.bytes.len() as u64;
        after < before - before / 16
    }

    /// Puts one segment in the place of a run.
    fn put(&mut self, run: &[Segment], rewritten: Rewritten, level: u8) -> Relieved {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Relieved::Exhausted };
        let path = format::path(&self.shared.folder, first.number, SEGMENT);
        let stored = replace(self.shared.disk.as_ref(), &path, &rewritten.bytes);
        let gone: Vec<u64> = run.iter().skip(1).map(|segment| segment.number).collect();
        if let Err(NotReplaced { source, untouched: true }) = &stored {
            tracing::warn!(path = %path.display(), error = %source, "a segment could not be made smaller");
            self.shared.index().busy = None;
            return Relieved::Refused;
        }
        {
            let mut index = self.shared.index();
            index.segments.retain(|segment| !gone.contains(&segment.number));
            if let Some(segment) = index.segments.iter_mut().find(|segment| segment.number == first.number) {
                segment.version += 1;
                segment.length = rewritten.bytes.len() as u64;
                segment.last = last.last;
                segment.windows = rewritten.windows;
                segment.level = level;
                segment.finest = false;
            }
        }
        tracing::debug!(number = first.number, level, after = %first.after, through = %last.last, ?gone, bytes = rewritten.bytes.len(), certain = stored.is_ok(), "segments rewritten");
        let rewritten_paths: Vec<PathBuf> =
            run.iter().map(|segment| format::path(&self.shared.folder, segment.number, SEGMENT)).collect();
        self.forget_doubts(&rewritten_paths);
        self.shared.note_relief(rewritten.merged, rewritten.lost);
        let stored = stored.map_err(|error| error.source);
        self.conclude(stored, Unsettled { path, bytes: rewritten.bytes, gone });
        Relieved::Gained
    }

    fn finish(&self, run: &[Segment]) {
        let mut index = self.shared.index();
        index.busy = None;
        for segment in &mut index.segments {
            segment.finest |= run.iter().any(|other| other.number == segment.number);
        }
    }
}

fn after_of(run: &[Segment]) -> Mark {
    run.first().map(|segment| segment.after).unwrap_or_default()
}

fn complain(outcome: io::Result<Option<Result<Rewritten, FrameError>>>, run: &[Segment]) {
    let first = run.first().map_or(0, |segment| segment.number);
    match outcome {
        Ok(Some(Err(error))) => tracing::error!(first, %error, "segments cannot be merged"),
        Ok(None) => tracing::error!(first, "a segment is damaged and cannot be merged; the next start repairs it"),
        Err(error) => tracing::warn!(first, %error, "a segment cannot be read and is not merged"),
        Ok(Some(Ok(_))) => {}
    }
}
