//! The writing end: batches in, each durable when `append` returns.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::wire::{Body, FrameError, Kind, Mark, Record, RecordId, write_frame};
use serde::Serialize;
use thiserror::Error;

use super::format::{self, CameraCheckpoint, Checkpoint, Head, SEGMENT};
use super::shared::{Segment, Shared};

/// Why a batch is not in the spool. It is not half in it: the same batch may be appended again.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The limit is reached and nothing acknowledged is left to delete.
    #[error("the spool is full: {used} of {limit} bytes, and {needed} more are needed")]
    Full {
        /// Committed bytes.
        used: u64,
        /// The limit.
        limit: u64,
        /// What the batch needs.
        needed: u64,
    },
    /// The disk refused.
    #[error("writing {path} failed: {source}")]
    Disk {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record or checkpoint beyond what a frame holds.
    #[error("the batch does not fit its frames: {0}")]
    Frame(#[from] FrameError),
}

/// The only writer of a spool.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    device: DeviceId,
    epoch: u32,
    previous: Mark,
    sequence: u64,
    segment_bytes: u64,
    next_number: u64,
    /// `None` after a failed write or flush: what the descriptor holds is unknown, and it is never used again.
    current: Option<Current>,
    cameras: BTreeMap<Name, CameraCheckpoint>,
    /// Held so that no second agent uses the same folder; released by the system with the process.
    _lock: File,
}

#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    length: u64,
    /// Length of head and snapshot, which do not count towards the segment's size.
    preamble: u64,
}

/// What recovery hands over to the writer.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) device: DeviceId,
    pub(super) epoch: u32,
    pub(super) previous: Mark,
    pub(super) next_number: u64,
    pub(super) cameras: BTreeMap<Name, CameraCheckpoint>,
    pub(super) lock: File,
}

impl Writer {
    /// Begins the epoch with a segment of its own.
    pub(super) fn begin(shared: Arc<Shared>, start: Start) -> Result<Self, AppendError> {
        let segment_bytes = (shared.max_bytes / 8).min(super::SEGMENT_BYTES);
        let mut writer = Self {
            shared,
            device: start.device,
            epoch: start.epoch,
            previous: start.previous,
            sequence: 0,
            segment_bytes,
            next_number: start.next_number,
            current: None,
            cameras: start.cameras,
            _lock: start.lock,
        };
        let preamble = writer.preamble()?;
        writer.rotate(&preamble)?;
        Ok(writer)
    }

    /// The epoch of the records written.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How far each camera is committed.
    #[must_use]
    pub const fn cameras(&self) -> &BTreeMap<Name, CameraCheckpoint> {
        &self.cameras
    }

    /// Appends a batch: the records of windows closed together and how far their cameras are counted with them. Durable when this
    /// returns, and only then offered to the uplink.
    ///
    /// # Errors
    /// One variant of [`AppendError`] per cause.
    pub fn append(&mut self, bodies: &[Body<'_>], mut cameras: Vec<CameraCheckpoint>) -> Result<(), AppendError> {
        for camera in &mut cameras {
            let known = self.cameras.get(&camera.camera).and_then(|known| known.state.as_ref());
            if camera.state.as_ref() == known {
                camera.state = None;
            }
        }
        let mut sequence = self.sequence;
        let mut batch = Vec::new();
        for body in bodies {
            sequence += 1;
            let id = RecordId { epoch: self.epoch, first: sequence, last: sequence };
            push(Kind::Record, &Record { id, previous: self.previous, body: body.clone() }, &mut batch)?;
        }
        let checkpoint = Checkpoint { after: self.mark_at(self.sequence), through: self.mark_at(sequence), cameras };
        push(Kind::Checkpoint, &checkpoint, &mut batch)?;

        self.make_room(batch.len() as u64)?;
        self.write(&batch)?;

        let records = sequence - self.sequence;
        self.sequence = sequence;
        for camera in checkpoint.cameras {
            self.remember(camera);
        }
        {
            let mut index = self.shared.index();
            if let Some(segment) = index.segments.back_mut() {
                segment.length += batch.len() as u64;
                segment.records += records;
                segment.last = checkpoint.through;
            }
        }
        self.shared.announce();
        Ok(())
    }

    fn remember(&mut self, mut camera: CameraCheckpoint) {
        if camera.state.is_none() {
            camera.state = self.cameras.get(&camera.camera).and_then(|known| known.state.clone());
        }
        self.cameras.insert(camera.camera.clone(), camera);
    }

    const fn mark_at(&self, sequence: u64) -> Mark {
        if sequence == 0 { self.previous } else { Mark { epoch: self.epoch, sequence } }
    }

    /// Makes sure that a descriptor is open and that the limit holds with `batch` more bytes.
    fn make_room(&mut self, batch: u64) -> Result<(), AppendError> {
        let worn = self.current.as_ref().is_none_or(|current| current.length - current.preamble >= self.segment_bytes);
        let limit = self.shared.max_bytes;
        let used = self.shared.bytes();
        // A segment that is acknowledged throughout can make place for a new one.
        let spent = self.sequence > 0 && self.shared.acknowledged() >= self.mark_at(self.sequence);
        if worn || (spent && used + batch > limit) {
            let preamble = self.preamble()?;
            let needed = preamble.len() as u64 + batch;
            if !spent && used + needed > limit {
                return Err(AppendError::Full { used, limit, needed });
            }
            self.rotate(&preamble)?;
            return Ok(());
        }
        if used + batch > limit {
            return Err(AppendError::Full { used, limit, needed: batch });
        }
        Ok(())
    }

    /// Head and a checkpoint of every camera.
    fn preamble(&self) -> Result<Vec<u8>, AppendError> {
        let after = self.mark_at(self.sequence);
        let head = Head { device: self.device.clone(), epoch: self.epoch, after, previous: self.previous };
        let mut bytes = Vec::new();
        push(Kind::Segment, &head, &mut bytes)?;
        for camera in self.cameras.values() {
            push(Kind::Checkpoint, &Checkpoint { after, through: after, cameras: vec![camera.clone()] }, &mut bytes)?;
        }
        if self.cameras.is_empty() {
            push(Kind::Checkpoint, &Checkpoint { after, through: after, cameras: Vec::new() }, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn rotate(&mut self, preamble: &[u8]) -> Result<(), AppendError> {
        self.current = None;
        let number = self.next_number;
        self.next_number += 1;
        let path = format::path(&self.shared.folder, number, SEGMENT);
        let create = || {
            let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.write_all_at(preamble, 0)?;
            file.sync_all()?;
            File::open(&self.shared.folder)?.sync_all()?;
            Ok(file)
        };
        let file = create().map_err(|source| {
            // Without it a full disk would collect the remains of every attempt.
            if let Err(error) = fs::remove_file(&path) {
                tracing::debug!(path = %path.display(), %error, "no unfinished segment to remove");
            }
            AppendError::Disk { path: path.clone(), source }
        })?;
        let length = preamble.len() as u64;
        self.current = Some(Current { file, path, length, preamble: length });
        let after = self.mark_at(self.sequence);
        self.shared.index().segments.push_back(Segment { number, length, after, last: after, records: 0 });
        let acknowledged = self.shared.acknowledged();
        self.shared.acknowledge(acknowledged);
        Ok(())
    }

    fn write(&mut self, batch: &[u8]) -> Result<(), AppendError> {
        let Some(mut current) = self.current.take() else {
            let source = io::Error::other("no segment is open");
            return Err(AppendError::Disk { path: self.shared.folder.clone(), source });
        };
        let written = current.file.write_all_at(batch, current.length).and_then(|()| current.file.sync_data());
        match written {
            Ok(()) => {
                current.length += batch.len() as u64;
                self.current = Some(current);
                Ok(())
            }
            Err(source) => {
                // Best effort only: recovery cuts the same place.
                if let Err(error) = current.file.set_len(current.length) {
                    tracing::debug!(path = %current.path.display(), %error, "the unfinished batch stays until the next start");
                }
                Err(AppendError::Disk { path: current.path, source })
            }
        }
    }
}

pub(super) fn push(kind: Kind, payload: &impl Serialize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.resize(start + FRAME_BYTES, 0);
    let length = write_frame(kind, payload, &mut out[start..])?;
    out.truncate(start + length);
    Ok(())
}
