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

use crate::alert::{Alert, Judgement};
use crate::decision::{Change, CountedWindow, History, Order, OrderError};
use crate::store::{Batch, StoreError};

/// What the ledger asks of the decision core.
pub trait Decide {
    /// Why a kept state cannot be taken up again.
    type StateError: Error;

    /// Takes up the state of a camera and the baseline in force, as kept before.
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

    /// Takes an operator's verdict on an alert and says what to keep; nothing where it does not have that alert any more.
    fn judge(&mut self, alert: u64, judgement: &Judgement, now: UnixMillis) -> Vec<Change>;

    /// Does what an operator wants of a camera's baseline and says what to keep; or why not, and then nothing has changed. `history`
    /// holds every window accepted.
    ///
    /// # Errors
    /// Only those of `history`.
    fn order<H: History>(
        &mut self,
        camera: &CameraId,
        order: &Order,
        now: UnixMillis,
        history: &H,
    ) -> Result<Result<Vec<Change>, OrderError>, H::Error>;

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
#[expect(clippy::large_enum_variant, reason = "nearly every one is a window; boxed, each would cost an allocation")]
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
    Alert(Box<Alert>),
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
                Change::Camera { .. } | Change::Baseline { .. } | Change::InForce { .. } | Change::Moved(_) => None,
            }));
        }
        Body::Tombstone(tombstone) => batch.insert_tombstone(device, record.id, *tombstone, now)?,
    }
    batch.set_mark(device, mark, record.id.mark(), now)?;
    Ok(Outcome::Accepted(record.id.mark()))
}

/// Takes an operator's verdict on an alert, open or over; `None` where there is no such alert.
///
/// # Errors
/// As [`enter`].
pub fn judge_alert<B: Batch, D: Decide>(
    batch: &mut B,
    core: &mut D,
    id: u64,
    judgement: &Judgement,
    now: UnixMillis,
    events: &mut Vec<Event>,
) -> Result<Option<Alert>, StoreError> {
    let mut changes = core.judge(id, judgement, now);
    if changes.is_empty() {
        let Some(mut alert) = batch.alert(id)? else { return Ok(None) };
        alert.judge(judgement, now);
        changes.push(Change::Alert(Box::new(alert)));
    }
    let mut judged = None;
    for change in changes {
        batch.apply(&change)?;
        if let Change::Alert(alert) = change {
            events.push(Event::Alert(alert.clone()));
            judged = Some(*alert);
        }
    }
    Ok(judged)
}

/// Does what an operator wants of a camera's baseline; or says why not.
///
/// # Errors
/// As [`enter`].
pub fn obey<B: Batch, D: Decide>(
    batch: &mut B,
    core: &mut D,
    camera: &CameraId,
    order: &Order,
    now: UnixMillis,
    events: &mut Vec<Event>,
) -> Result<Result<(), OrderError>, StoreError> {
    let changes = match core.order(camera, order, now, batch)? {
        Ok(changes) => changes,
        Err(refused) => return Ok(Err(refused)),
    };
    for change in changes {
        batch.apply(&change)?;
        if let Change::Alert(alert) = change {
            events.push(Event::Alert(alert));
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use driftglass_protocol::unit::UnixMillis;
    use driftglass_protocol::wire::RecordId;
    use proptest::prelude::*;

    use super::*;
    use crate::store::Store;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::embedded::fixture::{Counting, NOW, camera, device, frame, id, tombstone};

    const NOTHING: Mark = Mark { epoch: 0, sequence: 0 };

    fn open(folder: &tempfile::TempDir) -> EmbeddedStore {
        EmbeddedStore::open(folder.path()).expect("opens")
    }

    #[test]
    fn what_is_not_the_next_record_is_refused_with_what_is_expected_and_changes_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = open(&folder);
        let reader = store.reader();
        let mut core = Counting::default();
        let gateway = device("gw");
        let mut deliver = |frame: &[u8]| {
            let mut batch = store.begin().expect("begins");
            let mut events = Vec::new();
            let outcome = enter(&mut batch, &mut core, &gateway, frame, NOW, &mut events).expect("enters");
            batch.commit().expect("commits");
            (outcome, events.len())
        };
        let at = |epoch, sequence| Mark { epoch, sequence };
        let refused = |reason, expected_after| (Outcome::Refused { reason, expected_after }, 0);
        let record = |id: RecordId| frame(id, NOTHING, "door", 1);

        assert_eq!(deliver(&record(id(5, 2, 2))), refused(RefuseReason::Gap, NOTHING));
        assert_eq!(deliver(&record(id(5, 1, 2))), (Outcome::Accepted(at(5, 2)), 1));
        assert_eq!(deliver(&record(id(5, 1, 2))), (Outcome::Duplicate(at(5, 2)), 0));
        assert_eq!(deliver(&record(id(5, 4, 4))), refused(RefuseReason::Gap, at(5, 2)));
        assert_eq!(deliver(&record(id(5, 2, 3))), refused(RefuseReason::Overlap, at(5, 2)));
        let beyond = frame(id(6, 1, 1), at(5, 3), "door", 1);
        assert_eq!(deliver(&beyond), refused(RefuseReason::Gap, at(5, 2)));
        assert_eq!(deliver(&tombstone(id(5, 3, 7), NOTHING)), (Outcome::Accepted(at(5, 7)), 0));

        let mut long = record(id(5, 8, 8));
        long.push(0);
        let mut broken = record(id(5, 8, 8));
        broken[20] ^= 1;
        for bytes in [&long[..], &broken, &long[..9], b""] {
            assert_eq!(deliver(bytes), refused(RefuseReason::Malformed, at(5, 7)));
        }

        let seen = reader.device(&gateway).expect("reads").expect("known");
        assert_eq!(seen.mark, at(5, 7));
        assert_eq!((seen.accepted, seen.duplicates, seen.gaps, seen.overlaps, seen.lost), (2, 1, 3, 1, 5));
        let door = reader.camera(&camera(&gateway, "door")).expect("reads").expect("known");
        assert_eq!((door.windows_total, core.seen.values().sum()), (2, 1));
    }

    /// What a device does next. Records are drawn by their position relative to the mark, so that most are near misses.
    #[derive(Clone, Debug)]
    enum Step {
        Deliver { device: usize, camera: usize, newer: bool, back: u64, ahead: u64, merged: u64, lost: bool },
        Commit,
        Crash,
    }

    fn step() -> impl Strategy<Value = Step> {
        let deliver = (0..2_usize, 0..2_usize, prop::bool::weighted(0.1), 0..4_u64, 0..2_u64, 1..4_u64).prop_map(
            |(device, camera, newer, back, ahead, merged)| Step::Deliver {
                device,
                camera,
                newer,
                back: back.saturating_sub(1),
                ahead,
                merged,
                lost: back == 3,
            },
        );
        prop_oneof![12 => deliver, 2 => Just(Step::Commit), 1 => Just(Step::Crash)]
    }

    /// What should have been counted: for each device the accepted records, in order.
    type Model = [Vec<(RecordId, usize, bool)>; 2];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn every_record_counts_once_under_duplicates_reordering_and_crashes(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let folder = tempfile::tempdir().expect("folder");
            let (devices, cameras) = ([device("a"), device("b")], ["door", "gate"]);
            let (mut durable, mut open_model) = (Model::default(), Model::default());
            let mut steps = steps.into_iter().peekable();
            while steps.peek().is_some() {
                let mut store = open(&folder);
                let mut core = crate::writer::restore(&mut store, &Counting::default).expect("restores");
                let mut crashed = false;
                while !crashed && steps.peek().is_some() {
                    let mut batch = store.begin().expect("begins");
                    let mut committed = false;
                    for step in steps.by_ref() {
                        let Step::Deliver { device, camera, newer, back, ahead, merged, lost } = step else {
                            committed = matches!(step, Step::Commit);
                            break;
                        };
                        let mark = open_model[device].last().map_or(NOTHING, |(id, ..)| id.mark());
                        let epoch = mark.epoch + u32::from(newer || mark == NOTHING);
                        let base = if epoch == mark.epoch { mark.sequence } else { 0 };
                        let first = (base + 1 + ahead).saturating_sub(back).max(1);
                        let record = id(epoch, first, first + merged - 1);
                        let previous = if epoch > mark.epoch { mark } else { NOTHING };
                        let bytes = if lost {
                            tombstone(record, previous)
                        } else {
                            let minute = i64::try_from(first).expect("small");
                            frame(record, previous, cameras[camera], minute)
                        };
                        let outcome =
                            enter(&mut batch, &mut core, &devices[device], &bytes, NOW, &mut Vec::new()).expect("enters");
                        let known = record.mark() <= mark;
                        let next = if epoch == mark.epoch { first == mark.sequence + 1 } else { first == 1 };
                        prop_assert_eq!(matches!(outcome, Outcome::Accepted(_)), !known && next, "{:?}", outcome);
                        prop_assert_eq!(matches!(outcome, Outcome::Duplicate(_)), known, "{:?}", outcome);
                        if matches!(outcome, Outcome::Accepted(_)) {
                            open_model[device].push((record, camera, lost));
                        }
                    }
                    if committed {
                        batch.commit().expect("commits");
                        durable = open_model.clone();
                    } else {
                        drop(batch);
                        open_model = durable.clone();
                        crashed = true;
                    }
                }
            }
            let reader = open(&folder).reader();
            for (device, records) in devices.iter().zip(&durable) {
                let seen = reader.device(device).expect("reads");
                let mark = records.last().map_or(NOTHING, |(id, ..)| id.mark());
                prop_assert_eq!(seen.as_ref().map_or(NOTHING, |seen| seen.mark), mark);
                prop_assert_eq!(seen.map_or(0, |seen| seen.accepted), records.len() as u64);
                let mut expected = BTreeMap::<usize, Vec<(i64, u32)>>::new();
                for (record, camera, lost) in records {
                    if !lost {
                        let merged = u32::try_from(record.last - record.first + 1).expect("small");
                        let minute = i64::try_from(record.first).expect("small");
                        expected.entry(*camera).or_default().push((minute, merged));
                    }
                }
                for (number, name) in cameras.iter().enumerate() {
                    let windows = reader.windows(&camera(device, name), UnixMillis(i64::MIN), 1000).expect("reads");
                    let mut stored: Vec<(i64, u32)> =
                        windows.iter().map(|w| (w.window.start.0 / 60_000, w.window.merged)).collect();
                    let mut expected = expected.remove(&number).unwrap_or_default();
                    stored.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(stored, expected);
                }
            }
        }
    }
}
