//! The ledger: every record counted once, whatever dies in between.
//!
//! Must hold: a record is judged against the mark inside the transaction that stores its effects, and the mark moves with them or
//! not at all. A record that is not accepted changes nothing but its counter. No time is read and nothing is deduplicated by time.

use std::error::Error;

use driftglass_protocol::id::{CameraId, DeviceId};
use driftglass_protocol::session::RefuseReason;
use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::summary::{Quality, Window};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, Mark, Record, parse_frame};

use crate::alert::Alert;
use crate::decision::{Change, CountedWindow, History};
use crate::store::{Batch, StoreError};

/// What the ledger asks of the decision core.
pub trait Decide {
    /// Why a kept state cannot be taken up again.
    type StateError: Error;

    /// Takes up the state of a camera and its newest baseline, as kept before.
    ///
    /// # Errors
    /// Where the bytes are not a state of this release; the camera then begins afresh.
    fn restore(
        &mut self,
        camera: CameraId,
        state: &[u8],
        baseline: Option<(u32, &[u8])>,
    ) -> Result<(), Self::StateError>;

    /// Takes up an alert that is not resolved.
    fn restore_alert(&mut self, alert: Alert);

    /// The number of the next alert.
    fn set_next_alert_id(&mut self, id: u64);

    /// Takes in a window and says what to keep. `history` holds the windows accepted before, and not yet this one.
    ///
    /// # Errors
    /// Only those of `history`.
    fn observe<H: History>(
        &mut self,
        camera: &CameraId,
        window: &CountedWindow,
        history: &H,
    ) -> Result<Vec<Change>, H::Error>;
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Counted; everything up to the mark is durable.
    Accepted(Mark),
    /// Had been counted before; everything up to the mark is durable.
    Duplicate(Mark),
    /// Not counted, and nothing changed.
    Refused {
        /// Why.
        reason: RefuseReason,
        /// The mark after which the next record is expected.
        expected_after: Mark,
    },
}

/// Something that happened, told to whoever listens once it is durable.
#[derive(Clone, Debug)]
pub enum Event {
    /// A window was counted.
    Window {
        /// Its camera.
        camera: CameraId,
        /// Its stretch of event time.
        window: Window,
        /// What became of its frames.
        quality: Quality,
    },
    /// An alert was raised or changed.
    Alert(Alert),
}

/// Judges one record and does within `batch` all that it causes. Nothing of it counts before the batch is committed.
///
/// `frame` is a whole wire frame; the device comes from the connection's certificate. Events are appended to `events`.
///
/// # Errors
/// Where the store fails; the batch must then be dropped, and the core be restored, for it may have seen the window.
pub fn enter<B: Batch, D: Decide>(
    batch: &mut B,
    core: &mut D,
    device: &DeviceId,
    frame: &[u8],
    now: UnixMillis,
    events: &mut Vec<Event>,
) -> Result<Outcome, StoreError> {
    let mark = batch.register(device, now)?;
    let refused = |reason| Ok(Outcome::Refused { reason, expected_after: mark });
    let whole = parse_frame(frame).ok().filter(|parsed| parsed.length == frame.len());
    let Some(record) = whole.and_then(|frame| Record::parse(frame).ok()) else {
        return refused(RefuseReason::Malformed);
    };
    let verdict = judge(mark, record.id, record.previous);
    if verdict != Verdict::Accept {
        batch.count_unaccepted(device, verdict, now)?;
    }
    match verdict {
        Verdict::Accept => {}
        Verdict::Duplicate => return Ok(Outcome::Duplicate(mark)),
        Verdict::Gap => return refused(RefuseReason::Gap),
        Verdict::Overlap => return refused(RefuseReason::Overlap),
    }
    match &record.body {
        Body::Summary(summary) => {
            let camera = CameraId { device: device.clone(), camera: summary.camera.clone() };
            let window = CountedWindow::from(summary);
            let changes = core.observe(&camera, &window, batch)?;
            batch.insert_window(&camera, summary, frame, now)?;
            events.push(Event::Window { camera, window: window.window, quality: window.quality });
            for change in &changes {
                batch.apply(change)?;
            }
            events.extend(changes.into_iter().filter_map(|change| match change {
                Change::Alert(alert) => Some(Event::Alert(alert)),
                Change::Camera { .. } | Change::Baseline { .. } => None,
            }));
        }
        Body::Tombstone(tombstone) => batch.insert_tombstone(device, record.id, *tombstone, now)?,
    }
    batch.set_mark(device, mark, record.id.mark(), now)?;
    Ok(Outcome::Accepted(record.id.mark()))
}
