//! What tests of the store, the ledger and the writer share.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::{CameraId, DeviceId, Name};
use driftglass_protocol::limit::HISTOGRAM_BYTES;
use driftglass_protocol::session::Hello;
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{FeatureSketch, Model, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, Mark, Record, RecordId, Tombstone, TombstoneCause};

use super::{EmbeddedBatch, EmbeddedStore};
use crate::alert::{Alert, AlertState, Cause, HistoryEntry, Judgement, MovedFeature, Scope, Severity};
use crate::decision::{BaselineMove, Change, CountedWindow, History, How, Order, OrderError, Origin, Wish};
use crate::ledger::Decide;
use crate::store::{Saved, Store, StoreError};

/// The aggregator's clock in tests.
pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
/// Length of a window in tests.
pub(crate) const MINUTE: u32 = 60_000;

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("name")
}

pub(crate) fn device(text: &str) -> DeviceId {
    DeviceId { site: name("site"), device: name(text) }
}

pub(crate) fn camera(device: &DeviceId, text: &str) -> CameraId {
    CameraId { device: device.clone(), camera: name(text) }
}

pub(crate) fn hello(device: &DeviceId, epoch: u32, instance: u64) -> Hello {
    let clock = UnixMillis(NOW.0 - 250);
    Hello { device: device.clone(), epoch, instance, clock, version: "1.2.3".try_into().expect("fits") }
}

pub(crate) const fn id(epoch: u32, first: u64, last: u64) -> RecordId {
    RecordId { epoch, first, last }
}

/// A record of about 1.5 KB with one frame in every window that it merges; the window starts at minute `minute`.
pub(crate) fn frame(id: RecordId, previous: Mark, camera: &str, minute: i64) -> Vec<u8> {
    let merged = u32::try_from(id.last - id.first + 1).expect("few");
    let mut encoded = [0; HISTOGRAM_BYTES];
    let mut histogram = Histogram::new();
    for value in 0..60 {
        histogram.add(value * 4);
    }
    let length = histogram.encode(&mut encoded);
    let sketches = (0..12)
        .filter_map(Feature::from_number)
        .map(|feature| FeatureSketch { feature: feature.number(), absent: 0, histogram: &encoded[..length] })
        .collect();
    let summary = Summary {
        camera: name(camera),
        model: Some(Model { name: name("people"), version: name(&format!("{minute}")) }),
        window: Window { start: UnixMillis(minute * i64::from(MINUTE)), length: Millis(MINUTE * merged), merged },
        first_frame: None,
        last_frame: None,
        quality: Quality { frames: 60, missing: 1, undecodable: 2, skipped: 3, late: 4 },
        sketches,
        predictions: None,
    };
    write(&Record { id, previous, body: Body::Summary(summary) })
}

pub(crate) fn tombstone(id: RecordId, previous: Mark) -> Vec<u8> {
    let (from, to) = (UnixMillis(0), UnixMillis(9));
    let body = Body::Tombstone(Tombstone { cause: TombstoneCause::SpoolFull, from, to });
    write(&Record { id, previous, body })
}

fn write(record: &Record<'_>) -> Vec<u8> {
    let mut out = vec![0; 8192];
    let length = record.write(&mut out).expect("fits");
    out.truncate(length);
    out
}

/// A core that counts windows, checks that the store has as many, and raises an alert at every fourth.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) seen: BTreeMap<CameraId, u32>,
    pub(crate) open: Vec<Alert>,
    pub(crate) next_alert: u64,
}

impl Decide for Counting {
    type StateError = Infallible;

    fn restore(&mut self, camera: CameraId, state: &[u8], baseline: Option<(u32, &[u8])>) -> Result<(), Infallible> {
        let seen = u32::from_le_bytes(state.try_into().expect("four bytes"));
        assert_eq!(baseline, Some((seen, state)), "the newest baseline comes with the state");
        self.seen.insert(camera, seen);
        Ok(())
    }

    fn restore_alert(&mut self, alert: Alert) {
        self.open.push(alert);
    }

    fn set_next_alert_id(&mut self, id: u64) {
        self.next_alert = id;
    }

    fn judge(&mut self, id: u64, judgement: &Judgement, now: UnixMillis) -> Vec<Change> {
        let Some(alert) = self.open.iter_mut().find(|alert| alert.id == id) else { return Vec::new() };
        alert.judge(judgement, now);
        vec![Change::Alert(Box::new(alert.clone()))]
    }

    /// Only rolls back, and to any version: that is what a store is asked for.
    fn order<H: History>(
        &mut self,
        camera: &CameraId,
        order: &Order,
        now: UnixMillis,
        history: &H,
    ) -> Result<Result<Vec<Change>, OrderError>, H::Error> {
        let Wish::Rollback { to: Some(version) } = order.wish else { return Ok(Err(OrderError::NotLearning)) };
        if history.baseline(camera, version)?.is_none() {
            return Ok(Err(OrderError::UnknownVersion(version)));
        }
        let Order { author, note, .. } = order.clone();
        let (camera, version) = (camera.clone(), Some(version));
        let moved =
            BaselineMove { camera: camera.clone(), at: now, wish: "rollback", version, since: None, author, note };
        Ok(Ok(vec![Change::InForce { camera, version }, Change::Moved(Box::new(moved))]))
    }

    fn observe<H: History>(
        &mut self,
        camera: &CameraId,
        window: &CountedWindow,
        history: &H,
    ) -> Result<Vec<Change>, H::Error> {
        let seen = self.seen.entry(camera.clone()).or_default();
        let earlier = history.windows(camera, UnixMillis(i64::MIN)..UnixMillis(i64::MAX), 1_000_000)?;
        assert_eq!(earlier.len(), *seen as usize, "core and store disagree on {camera}");
        assert!(earlier.is_sorted_by_key(|window| window.window.start), "oldest first");
        *seen += 1;
        let state = seen.to_le_bytes().to_vec();
        let mut changes = vec![
            Change::Camera { camera: camera.clone(), state: state.clone() },
            Change::Baseline {
                camera: camera.clone(),
                version: *seen,
                learned_at: window.window.end(),
                baseline: state,
                origin: Origin { how: How::Learned, author: "driftglass".into(), note: String::new() },
            },
        ];
        if seen.is_multiple_of(4) {
            let alert = alert(self.next_alert.max(1), camera, AlertState::Alerting, window.window.end());
            self.next_alert = alert.id + 1;
            changes.push(Change::Alert(Box::new(alert)));
        }
        Ok(changes)
    }
}

pub(crate) fn alert(id: u64, camera: &CameraId, state: AlertState, at: UnixMillis) -> Alert {
    Alert {
        id,
        camera: camera.clone(),
        scope: Scope::Camera,
        unattributed: false,
        group: None,
        cause: Cause::ColourCast,
        severity: Severity::High,
        state,
        first_window: UnixMillis(at.0 - 1),
        raised_at: at,
        features: vec![MovedFeature { feature: 3, distance: 0.25, shift: -1.5, effect: None }],
        verdict: None,
        history: vec![HistoryEntry { at, state, author: "driftglass".into(), note: "it \"moved\"".into() }],
    }
}

/// What goes wrong from the next transaction on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault(Arc<AtomicU8>);

impl Fault {
    pub(crate) const NONE: u8 = 0;
    /// The database may not grow by a single page, as on a full disk.
    pub(crate) const FULL: u8 = 1;
    /// Everything goes well until the commit, which the engine refuses.
    pub(crate) const COMMIT: u8 = 2;

    pub(crate) fn set(&self, fault: u8) {
        self.0.store(fault, Ordering::SeqCst);
    }
}

/// The embedded store with faults of its engine.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: EmbeddedStore,
    pub(crate) fault: Fault,
}

impl Store for Faulty {
    type Batch<'a> = EmbeddedBatch<'a>;

    fn begin(&mut self) -> Result<EmbeddedBatch<'_>, StoreError> {
        let fault = self.fault.0.load(Ordering::SeqCst);
        let pages = if fault == Fault::FULL { 1 } else { 1_000_000_000 };
        let sql = format!(
            "PRAGMA max_page_count = {pages};
             CREATE TEMP TABLE IF NOT EXISTS parent (id INTEGER PRIMARY KEY);
             CREATE TEMP TABLE IF NOT EXISTS child (id REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
             DROP TRIGGER IF EXISTS temp.orphan; {}",
            if fault == Fault::COMMIT {
                "CREATE TEMP TRIGGER orphan AFTER INSERT ON main.windows BEGIN INSERT INTO child VALUES (1); END;"
            } else {
                ""
            }
        );
        self.inner.connection.execute_batch(&sql).expect("the fault can be set up");
        self.inner.begin()
    }

    fn restore(&mut self, each: &mut dyn FnMut(Saved)) -> Result<(), StoreError> {
        self.inner.restore(each)
    }
}
