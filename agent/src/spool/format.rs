//! The frames that exist on disk only: the head of a segment and the checkpoint that commits a batch.

use std::path::{Path, PathBuf};

use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;
use serde::{Deserialize, Serialize};

/// The first frame of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The device whose records these are.
    pub device: DeviceId,
    /// The epoch of every record in the segment, except tombstones for earlier ones.
    pub epoch: u32,
    /// The last record written before this segment.
    pub after: Mark,
    /// The last record known when the epoch began.
    pub previous: Mark,
}

/// How far one camera had been counted when a window of it closed. Everything here belongs to the same instant of its sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CameraCheckpoint {
    /// The camera.
    pub camera: Name,
    /// Where its source goes on, in the source's own terms; for a folder the last file name counted.
    pub position: Vec<u8>,
    /// The end of its last window.
    pub closed_until: Option<UnixMillis>,
    /// When the sampler is due to take the next frame, in microseconds of event time.
    pub sample_due: Option<i64>,
    /// The encoded `CameraState`; `None` where it did not change since the checkpoint before.
    pub state: Option<Vec<u8>>,
}

/// Commits the batch before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The last record before the batch.
    pub after: Mark,
    /// The last record of the batch, or `after` where it has none; a scan that did not see it lost something.
    pub through: Mark,
    /// The cameras that moved.
    pub cameras: Vec<CameraCheckpoint>,
}

/// Extension of a segment.
pub(super) const SEGMENT: &str = "segment";
/// Extension of a segment kept aside.
pub(super) const DAMAGED: &str = "damaged";

/// Name of the file that holds the number of the last segment of which something may have been sent.
pub(super) const CLAIMED: &str = "claimed";

pub(super) fn path(folder: &Path, number: u64, extension: &str) -> PathBuf {
    folder.join(format!("{number:012}.{extension}"))
}

/// The number of a file of ours with this extension.
pub(super) fn number(path: &Path, extension: &str) -> Option<u64> {
    if path.extension()? != extension {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}
