//! A note to the next start: the aggregator is beyond this epoch, and these records have to move into the new one.
//!
//! An agent whose state folder was lost or restored while its clock was behind numbers its windows in an epoch that the aggregator
//! has left. Every one of them would be taken for a repetition and acknowledged unseen. So the next start, whose epoch is beyond the
//! aggregator's, numbers them anew: those that are certainly undelivered. Those that are certainly counted stay as they are and are
//! acknowledged as repetitions. Those in between (sent and never acknowledged, or left by an earlier life that may have a copy) become
//! a tombstone: they are never counted twice, and that they may be lost is said.

use std::io;
use std::path::Path;

use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{
    Body, FrameError, Kind, Mark, Record, RecordId, Tombstone, TombstoneCause, parse_frame,
};

use super::disk::{Disk, read_patiently, replace};
use super::epoch::EpochError;
use super::format::{Checkpoint, Head};
use super::scan::{Item, scan};
use super::writer::push;

const FILE: &str = "rebase";

/// What to move; applies to records of epochs from `begin` up to the floor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rebase {
    /// Records of earlier epochs keep their numbers.
    pub(super) begin: u32,
    /// Where the aggregator is, or another owner of the epoch may be.
    pub(super) floor: Mark,
    /// Up to here everything has been counted.
    pub(super) counted: Mark,
    /// Up to here records may have been sent.
    pub(super) sent: Mark,
}

/// What to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It keeps its number.
    Stay,
    /// A tombstone stands for it in the new epoch.
    Uncertain,
    /// It moves into the new epoch.
    Move,
}

impl Rebase {
    pub(super) fn fate(&self, mark: Mark) -> Fate {
        if !(self.begin..=self.floor.epoch).contains(&mark.epoch) || mark <= self.counted {
            Fate::Stay
        } else if mark <= self.sent {
            Fate::Uncertain
        } else {
            Fate::Move
        }
    }

    pub(super) fn store(&self, disk: &dyn Disk, state_dir: &Path) -> Result<(), EpochError> {
        let path = state_dir.join(FILE);
        let numbers: Vec<String> = [self.floor, self.counted, self.sent]
            .iter()
            .flat_map(|mark| [u64::from(mark.epoch), mark.sequence])
            .chain([u64::from(self.begin)])
            .map(|number| number.to_string())
            .collect();
        let line = numbers.join(" ");
        // Twice, so that a flipped bit shows.
        replace(disk, &path, format!("{line}\n{line}\n").as_bytes())
            .map_err(|error| EpochError::Store { path: path.clone(), source: error.source })
    }

    /// The note of an earlier start; `None` where there is none or nothing can be made of it.
    pub(super) fn load(disk: &dyn Disk, state_dir: &Path) -> Option<Self> {
        let text = String::from_utf8(read_patiently(disk, &state_dir.join(FILE), 1024).ok()?).ok()?;
        let mut lines = text.lines();
        let (first, second) = (lines.next()?, lines.next()?);
        if first != second {
            tracing::error!("the note of what to number anew is damaged: windows of an earlier epoch may go unseen");
            return None;
        }
        let numbers: Vec<u64> = first.split(' ').map_while(|number| number.parse().ok()).collect();
        let [a, b, c, d, e, f, begin] = numbers.try_into().ok()?;
        let mark = |epoch, sequence| Some(Mark { epoch: u32::try_from(epoch).ok()?, sequence });
        let begin = u32::try_from(begin).ok()?;
        Some(Self { begin, floor: mark(a, b)?, counted: mark(c, d)?, sent: mark(e, f)? })
    }

    /// The note has been followed.
    pub(super) fn forget(disk: &dyn Disk, state_dir: &Path) {
        match disk.remove(&state_dir.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // Followed twice it changes nothing: what moved is beyond the floor.
                tracing::debug!(%error, "the note of what was numbered anew stays");
            }
            _ => {}
        }
    }
}

/// Numbers being given.
#[derive(Debug)]
pub(super) struct Renumbering {
    pub(super) epoch: u32,
    pub(super) previous: Mark,
    /// The last number given.
    pub(super) sequence: u64,
    pub(super) moved: u64,
    pub(super) uncertain: u64,
    /// The last record of the segment.
    pub(super) last: Mark,
}

impl Renumbering {
    /// A segment with new numbers, which begin after `before`; `None` where all of it stays.
    pub(super) fn segment(
        &mut self,
        bytes: &[u8],
        rebase: &Rebase,
        before: Mark,
    ) -> Result<Option<Vec<u8>>, FrameError> {
        let found = scan(bytes);
        let moves = |item: &Item| matches!(item, Item::Record { id, .. } if rebase.fate(id.mark()) != Fate::Stay);
        if !found.items.iter().any(|located| moves(&located.item)) {
            return Ok(None);
        }
        let mut out = Vec::new();
        let mut cameras = Vec::new();
        let mut after = before;
        let mut uncertain: Option<(u64, UnixMillis, UnixMillis)> = None;
        let mut seen = Mark::default();
        for located in found.items {
            let frame = bytes.get(located.range).unwrap_or_default();
            match located.item {
                Item::Head(head) => {
                    after = if rebase.fate(Mark { sequence: head.after.sequence + 1, ..head.after }) == Fate::Stay {
                        head.after
                    } else {
                        before
                    };
                    push(Kind::Segment, &Head { epoch: self.epoch, after, previous: self.previous, ..head }, &mut out)?;
                }
                Item::Record { id, .. } if id.mark() <= seen => {}
                Item::Record { id, from, to, .. } => {
                    seen = id.mark();
                    let windows = id.last - id.first + 1;
                    match rebase.fate(id.mark()) {
                        Fate::Stay => {
                            out.extend_from_slice(frame);
                            self.last = id.mark();
                        }
                        Fate::Uncertain => {
                            self.uncertain += windows;
                            let (count, first, last) = uncertain.unwrap_or((0, from, to));
                            uncertain = Some((count + windows, first.min(from), last.max(to)));
                        }
                        Fate::Move => {
                            self.bury(uncertain.take(), &mut out)?;
                            self.moved += windows;
                            if let Some(record) = parse_frame(frame).ok().and_then(|frame| Record::parse(frame).ok()) {
                                let id = self.next(windows);
                                push(Kind::Record, &Record { id, previous: self.previous, ..record }, &mut out)?;
                            }
                        }
                    }
                }
                Item::Checkpoint(checkpoint) => cameras.extend(checkpoint.cameras),
            }
        }
        self.bury(uncertain, &mut out)?;
        push(Kind::Checkpoint, &Checkpoint { after, through: self.last, cameras: Vec::new() }, &mut out)?;
        for camera in cameras {
            let position = Checkpoint { after: self.last, through: self.last, cameras: vec![camera] };
            push(Kind::Checkpoint, &position, &mut out)?;
        }
        Ok(Some(out))
    }

    const fn next(&mut self, windows: u64) -> RecordId {
        let first = self.sequence + 1;
        self.sequence += windows;
        self.last = Mark { epoch: self.epoch, sequence: self.sequence };
        RecordId { epoch: self.epoch, first, last: self.sequence }
    }

    fn bury(&mut self, uncertain: Option<(u64, UnixMillis, UnixMillis)>, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let Some((windows, from, to)) = uncertain else { return Ok(()) };
        let id = self.next(windows);
        let body = Body::Tombstone(Tombstone { cause: TombstoneCause::Forgotten, from, to });
        push(Kind::Record, &Record { id, previous: self.previous, body }, out)
    }
}
