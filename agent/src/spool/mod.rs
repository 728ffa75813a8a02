//! What was counted and not yet acknowledged: durable, bounded, and never refused at start.
//!
//! A folder of segment files, each a sequence of the protocol's frames: a [`Head`], then batches. A batch is the records of windows
//! closed together followed by a [`Checkpoint`], which holds how far the cameras' sources had been read when those windows closed.
//! The checkpoint is the commit: records and positions become durable together or not at all, so that after any crash every file is
//! counted exactly once. A segment begins with a checkpoint of every camera, so the segments before it can go as soon as they are
//! acknowledged. What is on disk is byte for byte what is sent.
//!
//! Must hold: nothing is sent before its batch is flushed; a record leaves only by the aggregator's acknowledgement; the epoch is
//! durable before the first record that bears it; a descriptor whose flush failed is never written again; what was offered to a
//! connection keeps its numbers and its content for good.
//!
//! When the limit is reached nothing is refused: neighbouring windows that were never offered are merged, the finest first, so that
//! thirty days without a connection fit 16 MiB and lose resolution only (`merge`, `relief`). Where nothing is left to merge the
//! oldest segment is given up, and a Tombstone says so. Room for one segment of an eighth of the limit stays free for rewriting; segments
//! kept aside as damaged (at most four) come on top. Windows are merged within one start of the agent only.
//!
//! Recovery, per start. The letters are those in code, logs and tests.
//!
//! | case | found | done |
//! |---|---|---|
//! | A | no folder, or an empty one | created; nothing to recover |
//! | B | a segment ends after its last checkpoint: a torn, unfinished or failed batch | cut there; those files are read again |
//! | C | a segment's last batch lacks a record its checkpoint promises | cut before that batch, as B: an unflushed batch may lose any page. Where the batch was committed and rotted, the gap before the next segment becomes a Tombstone |
//! | D | damage with committed batches after it | the segment is kept aside as `.damaged` and rewritten: what is whole, and a Tombstone for what is not. What was repaired is whole to every later start |
//! | E | a segment without anything whole | kept aside; the gap it leaves becomes a Tombstone at its place |
//! | F | a segment of another device | kept aside; its records are not ours to deliver |
//! | G | a record twice: a batch written again after a failed flush, a segment that was merged into another and came back | the second is not sent, not counted, not merged |
//! | H | a segment that cannot be read in three attempts, or is no longer in its folder | left where it is, logged; its gap becomes a Tombstone in the next |
//! | I | bytes that may only be in the system's memory, because a flush failed before this start | the last segment is written anew, not flushed again: a flush after a failed one proves nothing. On a full disk it is flushed |
//! | J | no claim, or one that does not read | everything found counts as offered; nothing of it is merged |
//! | K | a note that the aggregator is beyond these epochs | what is certainly undelivered moves into the new epoch, what is uncertain becomes a Tombstone (`rebase`) |
//! | L | a segment begun without the batch that stands before it | the batch counts; the older positions do not take it back |
//! | M | a full disk | no segment is begun; what is in the spool is delivered, which makes room |
//! | N | a record that a later start did not know of: its batch failed, was not to be seen, and came back with a power cut | left out; its files were read again |
//!
//! Known limits. Double counting remains possible where bytes that were flushed, sent and acknowledged rot or become unreadable at the
//! very end of the last segment: they cannot be told from a torn batch (B, C), and the positions in them are gone. Where segments vanish
//! that held all traces of several starts of the agent, a Tombstone stands for the last of these starts only.

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
