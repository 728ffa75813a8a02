//! The writing end: batches in, each durable when `append` returns.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::wire::{Body, FrameError, Kind, Mark, Record, RecordId, write_frame};
use serde::Serialize;
use thiserror::Error;

use super::disk::{DiskFile, Guard, is_full, replace};
use super::format::{self, CameraCheckpoint, Checkpoint, Head, SEGMENT};
use super::recover::SEGMENT_BYTES_READ;
use super::relief::{Relieved, Unsettled};
use super::shared::{Segment, Shared};

/// Why a batch is not in the spool. It is not half in it: the same batch may be appended again.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The limit is reached, and nothing is left to delete, to merge or to give up.
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
    pub(super) shared: Arc<Shared>,
    device: DeviceId,
    epoch: u32,
    previous: Mark,
    sequence: u64,
    pub(super) segment_bytes: u64,
    next_number: u64,
    /// A merged segment of which it is unknown whether it will outlive a crash.
    pub(super) unsettled: Option<Unsettled>,
    /// How often it was asked to make that certain.
    pub(super) tended: u32,
    /// Batches that may or may not have reached segments whose write or flush failed.
    doubts: Vec<Doubt>,
    /// `None` after a failed write or flush: what the descriptor holds is unknown, and it is never used again.
    current: Option<Current>,
    cameras: BTreeMap<Name, CameraCheckpoint>,
    /// Held so that no second agent uses the same folder; released by the system with the process.
    _lock: Box<dyn Guard>,
}

#[derive(Debug)]
struct Current {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    length: u64,
    /// Length of head and snapshot, which do not count towards the segment's size.
    preamble: u64,
}

/// A batch at the end of a segment that nobody was told of, and that a crash may leave there all the same.
#[derive(Debug)]
struct Doubt {
    path: PathBuf,
    /// Committed bytes before it.
    length: u64,
    batch: Vec<u8>,
}

/// What recovery hands over to the writer.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) device: DeviceId,
    pub(super) epoch: u32,
    pub(super) previous: Mark,
    /// The last record of the epoch that stands in the spool already.
    pub(super) sequence: u64,
    pub(super) next_number: u64,
    pub(super) cameras: BTreeMap<Name, CameraCheckpoint>,
    pub(super) lock: Box<dyn Guard>,
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
            sequence: start.sequence,
            segment_bytes,
            next_number: start.next_number,
            unsettled: None,
            tended: 0,
            doubts: Vec::new(),
            current: None,
            cameras: start.cameras,
            _lock: start.lock,
        };
        let preamble = writer.preamble()?;
        match writer.rotate(&preamble) {
            // The agent runs all the same: what it delivers makes room, and the first window begins the segment.
            Err(AppendError::Disk { source, .. }) if is_full(&source) => {
                tracing::error!("the disk is full: no window can be kept until there is room");
            }
            begun => begun?,
        }
        Ok(writer)
    }

    /// The epoch of the records written.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The last record known when the epoch began.
    #[must_use]
    pub const fn previous(&self) -> Mark {
        self.previous
    }

    /// The last record written.
    #[must_use]
    pub const fn last(&self) -> Mark {
        self.mark_at(self.sequence)
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

        self.settle();
        self.dispel_doubts(&batch)?;
        match self.store(&batch) {
            // The disk is full though the spool is not: merging may free what the batch needs.
            Err(AppendError::Disk { source, .. }) if is_full(&source) && self.relieve() == Relieved::Gained => {
                self.store(&batch)?;
            }
            stored => stored?,
        }

        self.doubts.clear();
        let records = sequence - self.sequence;
        self.sequence = sequence;
        for camera in checkpoint.cameras {
            self.remember(camera);
        }
        {
            let mut index = self.shared.index();
            if let Some(segment) = index.segments.back_mut() {
                segment.length += batch.len() as u64;
                segment.windows += records;
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

    pub(super) const fn mark_at(&self, sequence: u64) -> Mark {
        if sequence == 0 { self.previous } else { Mark { epoch: self.epoch, sequence } }
    }

    /// These files have other content now, which ends where it should.
    pub(super) fn forget_doubts(&mut self, paths: &[PathBuf]) {
        self.doubts.retain(|doubt| !paths.contains(&doubt.path));
    }

    /// What failed before and may be found after a crash bears the numbers of this batch. Where it is the same batch, it does not matter
    /// which of the two is found; another one has to make sure first that there is only itself.
    fn dispel_doubts(&mut self, batch: &[u8]) -> Result<(), AppendError> {
        while let Some(doubt) = self.doubts.last().filter(|doubt| doubt.batch != batch) {
            let disk = |source| AppendError::Disk { path: doubt.path.clone(), source };
            match self.shared.disk.read(&doubt.path, SEGMENT_BYTES_READ) {
                Ok(mut bytes) => {
                    bytes.truncate(usize::try_from(doubt.length).unwrap_or(usize::MAX));
                    replace(self.shared.disk.as_ref(), &doubt.path, &bytes).map_err(|error| disk(error.source))?;
                }
                // Acknowledged and deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(disk(error)),
            }
            self.doubts.pop();
        }
        Ok(())
    }

    fn store(&mut self, batch: &[u8]) -> Result<(), AppendError> {
        self.make_room(batch.len() as u64)?;
        self.write(batch)
    }

    /// Makes sure that a descriptor is open and that the limit holds with `batch` more bytes: by merging what was never sent, and where
    /// nothing is left to merge by giving up the oldest.
    fn make_room(&mut self, batch: u64) -> Result<(), AppendError> {
        // Room for one segment stays free, so that another can be written anew beside the old one.
        let limit = self.shared.max_bytes.saturating_sub(self.segment_bytes);
        loop {
            let worn =
                self.current.as_ref().is_none_or(|current| current.length - current.preamble >= self.segment_bytes);
            let used = self.shared.bytes();
            // A segment that is acknowledged throughout can make place for a new one.
            let spent = self.sequence > 0 && self.shared.acknowledged() >= self.mark_at(self.sequence);
            let renew = worn || (spent && used + batch > limit);
            let preamble = if renew { self.preamble()? } else { Vec::new() };
            let needed = preamble.len() as u64 + batch;
            // The last segment goes as soon as there is another.
            let kept = if renew && spent { 0 } else { used };
            if kept + needed <= limit {
                return if renew { self.rotate(&preamble) } else { Ok(()) };
            }
            // Each step makes the spool smaller or marks a segment as done with. What could be merged is not given up because the
            // disk refuses just now.
            let step = match self.relieve() {
                Relieved::Exhausted => self.bury(),
                other => other,
            };
            if step != Relieved::Gained {
                return Err(AppendError::Full { used, limit, needed });
            }
        }
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
            let file = self.shared.disk.create(&path)?;
            file.write_all_at(preamble, 0)?;
            file.sync()?;
            self.shared.disk.sync_folder(&self.shared.folder)?;
            Ok(file)
        };
        let file = create().map_err(|source| {
            // Without it a full disk would collect the remains of every attempt.
            if let Err(error) = self.shared.disk.remove(&path) {
                tracing::debug!(path = %path.display(), %error, "no unfinished segment to remove");
            }
            AppendError::Disk { path: path.clone(), source }
        })?;
        let length = preamble.len() as u64;
        self.current = Some(Current { file, path, length, preamble: length });
        let after = self.mark_at(self.sequence);
        let segment = Segment { number, version: 0, length, after, last: after, windows: 0, level: 0, finest: false };
        self.shared.index().segments.push_back(segment);
        let acknowledged = self.shared.acknowledged();
        self.shared.acknowledge(acknowledged);
        Ok(())
    }

    fn write(&mut self, batch: &[u8]) -> Result<(), AppendError> {
        let Some(mut current) = self.current.take() else {
            let source = io::Error::other("no segment is open");
            return Err(AppendError::Disk { path: self.shared.folder.clone(), source });
        };
        let written = current.file.write_all_at(batch, current.length).and_then(|()| current.file.sync());
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
                let Current { path, length, .. } = current;
                self.doubts.push(Doubt { path: path.clone(), length, batch: batch.to_vec() });
                Err(AppendError::Disk { path, source })
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
