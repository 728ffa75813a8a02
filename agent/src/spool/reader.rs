//! The reading end: the next record after a mark, exactly as stored.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftglass_protocol::limit::{FRAME_BYTES, FRAME_HEADER_BYTES};
use driftglass_protocol::wire::{FrameError, Kind, Mark, RecordId, parse_frame};
use thiserror::Error;

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

/// Reads records in order; keeps its place, and one frame of memory.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    open: Option<(u64, PathBuf, File)>,
    offset: u64,
    at: Mark,
    buffer: Vec<u8>,
}

impl Reader {
    /// A reader of everything committed, now and later.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None, offset: 0, at: Mark { epoch: 0, sequence: 0 }, buffer: Vec::new() }
    }

    /// The first record after `mark`; `None` where nothing more is committed.
    ///
    /// # Errors
    /// One variant of [`ReadError`] per cause.
    pub fn next_after(&mut self, mark: Mark) -> Result<Option<Stored<'_>>, ReadError> {
        if mark != self.at {
            self.open = None;
            self.at = mark;
        }
        loop {
            let Some((number, committed)) = self.segment(mark) else { return Ok(None) };
            self.open(number)?;
            let Some((_, path, file)) = &self.open else { return Ok(None) };
            if self.offset >= committed {
                return Ok(None);
            }
            let offset = self.offset;
            let length = read_frame(file, path, offset, committed, &mut self.buffer)?;
            self.offset += length as u64;
            let damaged = |error| ReadError::Damaged { path: path.clone(), offset, error };
            let frame = parse_frame(&self.buffer).map_err(damaged)?;
            if frame.kind != Kind::Record {
                continue;
            }
            let ((id, previous), _) = postcard::take_from_bytes::<(RecordId, Mark)>(frame.payload)
                .map_err(|_| damaged(FrameError::Kind { kind: Kind::Record as u8 }))?;
            // Case G: what was written twice is passed over the second time.
            if id.mark() > mark {
                self.at = id.mark();
                return Ok(Some(Stored { id, previous, frame: &self.buffer }));
            }
        }
    }

    /// The segment to read from: the open one while it has more, else the next one with records after `mark`.
    fn segment(&self, mark: Mark) -> Option<(u64, u64)> {
        let index = self.shared.index();
        let current = self.open.as_ref().map(|&(number, ..)| number);
        if let Some(number) = current
            && let Some(segment) = index.segments.iter().find(|segment| segment.number == number)
            && (self.offset < segment.length || index.segments.back() == Some(segment))
        {
            return Some((number, segment.length));
        }
        index
            .segments
            .iter()
            .find(|segment| current.is_none_or(|number| segment.number > number) && segment.last > mark)
            .map(|segment| (segment.number, segment.length))
    }

    /// Makes sure that the segment is open; begins it where it was not.
    fn open(&mut self, number: u64) -> Result<(), ReadError> {
        if self.open.as_ref().is_some_and(|&(open, ..)| open == number) {
            return Ok(());
        }
        let path = format::path(&self.shared.folder, number, SEGMENT);
        let file = File::open(&path).map_err(|source| ReadError::Disk { path: path.clone(), source })?;
        self.offset = 0;
        self.open = Some((number, path, file));
        Ok(())
    }
}

/// Reads the frame at `offset` into `buffer` and returns its length.
fn read_frame(file: &File, path: &Path, offset: u64, committed: u64, buffer: &mut Vec<u8>) -> Result<usize, ReadError> {
    let disk = |source| ReadError::Disk { path: path.to_path_buf(), source };
    let damaged = |error| ReadError::Damaged { path: path.to_path_buf(), offset, error };
    let mut header = [0; FRAME_HEADER_BYTES];
    file.read_exact_at(&mut header, offset).map_err(disk)?;
    let declared = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let length = declared as usize;
    if length > FRAME_BYTES || offset + u64::from(declared) > committed {
        return Err(damaged(FrameError::TooLong { length: declared }));
    }
    if length < FRAME_HEADER_BYTES {
        return Err(damaged(FrameError::TooShort { length: declared }));
    }
    buffer.resize(length, 0);
    file.read_exact_at(buffer, offset).map_err(disk)?;
    Ok(length)
}
