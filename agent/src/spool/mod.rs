//! What was counted and not yet acknowledged: durable, bounded, and never refused at start.
//!
//! A folder of segment files, each a sequence of the protocol's frames: a [`Head`], then batches. A batch is the records of windows
//! closed together followed by a [`Checkpoint`], which holds how far the cameras' sources had been read when those windows closed.
//! The checkpoint is the commit: records and positions become durable together or not at all, so that after any crash every file is
//! counted exactly once. A segment begins with a checkpoint of every camera, so the segments before it can go as soon as they are
//! acknowledged. What is on disk is byte for byte what is sent.
//!
//! Must hold: nothing is sent before its batch is flushed; a record leaves only by the aggregator's acknowledgement; the epoch is
//! durable before the first record that bears it; a descriptor whose flush failed is never written again.
//!
//! When the limit is reached the sources pause (a folder keeps its files) and nothing is dropped. Deliberately absent for now: merging
//! neighbouring windows that were never sent, to hold a longer absence of the network in the same space.
//!
//! Recovery, per start. The letters are those in code, logs and tests.
//!
//! | case | found | done |
//! |---|---|---|
//! | A | no folder, or an empty one | created; nothing to recover |
//! | B | the last segment ends after its last checkpoint: a torn or unfinished batch | cut there; those files are read again |
//! | C | the last segment's last batch lacks a record its checkpoint promises | cut before that batch, as B: an unflushed batch may lose any page |
//! | D | damage with committed batches after it | the segment is kept aside as `.damaged` and rewritten: what is whole, and a Tombstone for what is not |
//! | E | a segment without anything whole | kept aside; the gap it leaves becomes a Tombstone at its place |
//! | F | a segment of another device | kept aside; its records are not ours to deliver |
//! | G | a record twice: a batch written again after a failed flush | the second is not sent |
//! | H | a segment that cannot be read at all | left where it is, logged; its gap becomes a Tombstone in the next |
//!
//! Double counting remains possible in one case only: bytes that were flushed, sent and acknowledged, and that rot later at the very
//! end of the last segment, cannot be told from a torn batch (B, C).

mod disk;
mod epoch;
mod format;
mod merge;
mod reader;
mod rebase;
mod recover;
mod relief;
mod scan;
mod shared;
mod writer;

pub use disk::{Disk, DiskFile, Guard, SystemDisk};
pub use epoch::{EpochError, next_epoch, raise_epoch};
pub use format::{CameraCheckpoint, Checkpoint, Head};
pub use reader::{ReadError, Reader, Stored};
pub use recover::{OpenError, Opened, Settings, open, open_on};
pub use scan::{Item, Located, Scan, scan};
pub use shared::{Relief, Shared};
pub use writer::{AppendError, Writer};

/// Size at which a segment is full, in bytes; smaller where the spool itself is small.
pub const SEGMENT_BYTES: u64 = 1024 * 1024;
/// Smallest limit a spool accepts: eight segments of which one fits a snapshot of every camera.
pub const MIN_BYTES: u64 = 1024 * 1024;
/// Most segments kept aside as damaged; the oldest go first.
const DAMAGED_KEPT: usize = 4;

/// The folder of the segments within the agent's state folder.
pub const FOLDER: &str = "spool";
