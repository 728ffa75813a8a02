//! The reading end: the next record after a mark, exactly as stored.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftglass_protocol::limit::{FRAME_BYTES, FRAME_HEADER_BYTES};
use driftglass_protocol::wire::{FrameError, Kind, Mark, RecordId, parse_frame};
use thiserror::Error;

use super::disk::DiskFile;
use super::format::{self, SEGMENT};
use super::shared::Shared;

/// Why a committed record cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The disk refused.
    #[error("reading {path} failed: {source}")]
    Disk {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The segment could not be claimed, without which nothing of it may be sent; trying again later may succeed.
    #[error("noting that {path} is being sent failed: {source}")]
    Claim {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Committed bytes are no longer what was written; the next start repairs the segment.
    #[error("{path} is damaged at byte {offset}: {error}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        error: FrameError,
    },
}

/// A record found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Its identity.
    pub id: RecordId,
    /// The last record known when its epoch began.
    pub previous: Mark,
    /// The whole frame.
    pub frame: &'a [u8],
}

#[derive(Debug)]
struct Open {
    number: u64,
    version: u32,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    offset: u64,
}

/// Reads records in order; keeps its place, and one frame of memory.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    open: Option<Open>,
    at: Mark,
    buffer: Vec<u8>,
}

impl Reader {
    /// A reader of everything committed, now and later.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None, at: Mark { epoch: 0, sequence: 0 }, buffer: Vec::new() }
    }

    /// The first record after `mark`; `None` where nothing more is committed, or what comes next is being changed just now. The
    /// segment it stands in counts as offered from then on, durably, and keeps its numbers.
    ///
    /// # Errors
    /// One variant of [`ReadError`] per cause.
    pub fn next_after(&mut self, mark: Mark) -> Result<Option<Stored<'_>>, ReadError> {
        if mark != self.at {
            self.open = None;
            self.at = mark;
        }
        let (id, previous) = loop {
            let Some((number, version, committed)) = self.segment(mark) else { return Ok(None) };
            match self.step(number, version, committed) {
                Ok(Step::Busy) => return Ok(None),
                Ok(Step::Other) => {}
                // Case G: what was written twice is passed over the second time.
                Ok(Step::Record(id, previous)) if id.mark() > mark => break (id, previous),
                Ok(Step::Record(..)) => {}
                // Another content was put in its place, or it was acknowledged: not damage.
                Err(_) if self.version(number) != Some(version) => self.open = None,
                Err(error) => return Err(error),
            }
        };
        self.at = id.mark();
        Ok(Some(Stored { id, previous, frame: &self.buffer }))
    }

    /// The segment to read from: the open one while it has more, else the first one with records after `mark`.
    fn segment(&self, mark: Mark) -> Option<(u64, u32, u64)> {
        let index = self.shared.index();
        let same = |open: &&Open| {
            index.segments.iter().any(|segment| segment.number == open.number && segment.version == open.version)
        };
        let current = self.open.as_ref().filter(same);
        let read_to_its_end =
            |number, length| current.is_some_and(|open| open.number == number && open.offset >= length);
        let past = |number| current.is_some_and(|open| number < open.number);
        let found = index.segments.iter().find(|segment| {
            segment.last > mark && !past(segment.number) && !read_to_its_end(segment.number, segment.length)
        });
        found.map(|segment| (segment.number, segment.version, segment.length))
    }

    fn version(&self, number: u64) -> Option<u32> {
        let index = self.shared.index();
        index.segments.iter().find(|segment| segment.number == number).map(|segment| segment.version)
    }

    /// Reads the next frame of a segment.
    fn step(&mut self, number: u64, version: u32, committed: u64) -> Result<Step, ReadError> {
        let open = match &mut self.open {
            Some(open) if (open.number, open.version) == (number, version) => open,
            other => {
                let path = format::path(&self.shared.folder, number, SEGMENT);
                match self.shared.claim(number) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Step::Busy),
                    Err(source) => return Err(ReadError::Claim { path, source }),
                }
                let file =
                    self.shared.disk.open(&path).map_err(|source| ReadError::Disk { path: path.clone(), source })?;
                other.insert(Open { number, version, path, file, offset: 0 })
            }
        };
        let offset = open.offset;
        let length = read_frame(open.file.as_ref(), &open.path, offset, committed, &mut self.buffer)?;
        open.offset += length as u64;
        let damaged = |error| ReadError::Damaged { path: open.path.clone(), offset, error };
        let frame = parse_frame(&self.buffer).map_err(damaged)?;
        if frame.kind != Kind::Record {
            return Ok(Step::Other);
        }
        let ((id, previous), _) = postcard::take_from_bytes::<(RecordId, Mark)>(frame.payload)
            .map_err(|_| damaged(FrameError::Kind { kind: Kind::Record as u8 }))?;
        Ok(Step::Record(id, previous))
    }
}

/// What stood next in a segment.
enum Step {
    Busy,
    Other,
    Record(RecordId, Mark),
}

/// Reads the frame at `offset` into `buffer` and returns its length.
pub(super) fn read_frame(
    file: &dyn DiskFile,
    path: &Path,
    offset: u64,
    committed: u64,
    buffer: &mut Vec<u8>,
) -> Result<usize, ReadError> {
    let disk = |source| ReadError::Disk { path: path.to_path_buf(), source };
    let damaged = |error| ReadError::Damaged { path: path.to_path_buf(), offset, error };
    let mut header = [0; FRAME_HEADER_BYTES];
    file.read_exact_at(&mut header, offset).map_err(disk)?;
    let declared = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let length = declared as usize;
    if length > FRAME_BYTES || offset.saturating_add(u64::from(declared)) > committed {
        return Err(damaged(FrameError::TooLong { length: declared }));
    }
    if length < FRAME_HEADER_BYTES {
        return Err(damaged(FrameError::TooShort { length: declared }));
    }
    buffer.resize(length, 0);
    file.read_exact_at(buffer, offset).map_err(disk)?;
    Ok(length)
}
