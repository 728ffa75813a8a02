//! A transactional store in memory: what the ledger needs, and what the oracle reads.

use std::collections::BTreeMap;
use std::ops::Range;

use driftglass_aggregator::alert::{Alert, Judgement};
use driftglass_aggregator::decision::{Change, CountedWindow, History, Order, OrderError};
use driftglass_aggregator::ledger::Decide;
use driftglass_aggregator::store::{Batch, Greeted, Greeting, Saved, Standing, Store, StoreError};
use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::{CameraId, DeviceId, Name};
use driftglass_protocol::session::Hello;
use driftglass_protocol::session::chain::Verdict;
use driftglass_protocol::summary::Summary;
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Mark, RecordId, Tombstone, TombstoneCause};

/// What is durable about a device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) mark: Mark,
    pub(crate) greeted: Option<Greeted>,
    pub(crate) duplicates: u64,
    pub(crate) gaps: u64,
    pub(crate) overlaps: u64,
    pub(crate) clones: u64,
    /// Windows that tombstones stand for, by cause: the spool was full, damaged, forgotten.
    pub(crate) lost: [u64; 3],
    /// How often each window of each camera was counted.
    pub(crate) counted: BTreeMap<Name, BTreeMap<u8, u32>>,
    /// Windows that arrived merged with others.
    pub(crate) merged: u64,
}

/// All devices.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    pub(crate) rows: BTreeMap<DeviceId, Row>,
    /// The next commit fails.
    pub(crate) commit_fails: bool,
}

/// A transaction: rows as they were, to go back to.
#[derive(Debug)]
pub(crate) struct MemoryBatch<'a> {
    store: &'a mut MemoryStore,
    before: BTreeMap<DeviceId, Option<Row>>,
    committed: bool,
}

impl Drop for MemoryBatch<'_> {
    fn drop(&mut self) {
        if !self.committed {
            tracing::debug!("rolled back");
            for (device, row) in std::mem::take(&mut self.before) {
                match row {
                    Some(row) => self.store.rows.insert(device, row),
                    None => self.store.rows.remove(&device),
                };
            }
        }
    }
}

impl MemoryBatch<'_> {
    fn row(&mut self, device: &DeviceId) -> &mut Row {
        if !self.before.contains_key(device) {
            self.before.insert(device.clone(), self.store.rows.get(device).cloned());
        }
        self.store.rows.entry(device.clone()).or_default()
    }

    /// What only a mutant does: moves the mark without comparing.
    pub(crate) fn force_mark(&mut self, device: &DeviceId, mark: Mark) {
        let row = self.row(device);
        row.mark = row.mark.max(mark);
    }
}

impl History for MemoryBatch<'_> {
    type Error = StoreError;

    fn windows(&self, _: &CameraId, _: Range<UnixMillis>, _: usize) -> Result<Vec<CountedWindow>, StoreError> {
        Ok(Vec::new())
    }
}

impl Batch for MemoryBatch<'_> {
    fn mark(&self, device: &DeviceId) -> Result<Mark, StoreError> {
        Ok(self.store.rows.get(device).map(|row| row.mark).unwrap_or_default())
    }

    fn register(&mut self, device: &DeviceId, _: UnixMillis) -> Result<Mark, StoreError> {
        Ok(self.row(device).mark)
    }

    fn greet(&mut self, hello: &Hello, now: UnixMillis) -> Result<Greeting, StoreError> {
        let row = self.row(&hello.device);
        let standing = Standing::judge(row.greeted, hello, now);
        if standing == Standing::Welcome {
            row.greeted = Some(Greeted { epoch: hello.epoch, instance: hello.instance, heard: now });
        } else {
            row.clones += 1;
        }
        Ok(Greeting { mark: row.mark, standing })
    }

    fn count_unaccepted(&mut self, device: &DeviceId, verdict: Verdict, _: UnixMillis) -> Result<(), StoreError> {
        let row = self.row(device);
        row.duplicates += u64::from(verdict == Verdict::Duplicate);
        row.gaps += u64::from(verdict == Verdict::Gap);
        row.overlaps += u64::from(verdict == Verdict::Overlap);
        Ok(())
    }

    fn insert_window(
        &mut self,
        camera: &CameraId,
        summary: &Summary<'_>,
        _: &[u8],
        _: UnixMillis,
    ) -> Result<(), StoreError> {
        let items: Vec<u8> =
            summary.histograms().flat_map(|(_, histogram)| histogram.iter().map(|(bin, _)| bin)).collect();
        tracing::debug!(%camera, ?items, "counted");
        let row = self.row(&camera.device);
        if summary.window.merged > 1 {
            row.merged += u64::from(summary.window.merged);
        }
        let counted = row.counted.entry(camera.camera.clone()).or_default();
        for (feature, histogram) in summary.histograms() {
            assert_eq!(feature, Feature::LumaMean);
            for (bin, count) in histogram.iter() {
                *counted.entry(bin).or_default() += count;
            }
        }
        Ok(())
    }

    fn insert_tombstone(
        &mut self,
        device: &DeviceId,
        id: RecordId,
        tombstone: Tombstone,
        _: UnixMillis,
    ) -> Result<(), StoreError> {
        let cause = match tombstone.cause {
            TombstoneCause::SpoolFull => 0,
            TombstoneCause::Damaged => 1,
            TombstoneCause::Forgotten => 2,
        };
        tracing::debug!(%device, ?id, ?tombstone.cause, "tombstone");
        self.row(device).lost[cause] += id.last - id.first + 1;
        Ok(())
    }

    fn apply(&mut self, _: &Change) -> Result<(), StoreError> {
        Ok(())
    }

    fn set_mark(&mut self, device: &DeviceId, judged: Mark, next: Mark, now: UnixMillis) -> Result<(), StoreError> {
        let row = self.row(device);
        assert_eq!(row.mark, judged, "judged and moved within one transaction");
        row.mark = next;
        tracing::debug!(%device, %next, "mark");
        if let Some(greeted) = &mut row.greeted {
            greeted.heard = now;
        }
        Ok(())
    }

    fn alert(&self, _: u64) -> Result<Option<Alert>, StoreError> {
        Ok(None)
    }

    fn forget_before(&mut self, _: UnixMillis, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn commit(mut self) -> Result<(), StoreError> {
        if self.store.commit_fails {
            return Err(StoreError::Damaged { what: "the disk", detail: "full".into() });
        }
        tracing::debug!("committed");
        self.committed = true;
        Ok(())
    }
}

impl Store for MemoryStore {
    type Batch<'a> = MemoryBatch<'a>;

    fn begin(&mut self) -> Result<MemoryBatch<'_>, StoreError> {
        Ok(MemoryBatch { store: self, before: BTreeMap::new(), committed: false })
    }

    fn restore(&mut self, _: &mut dyn FnMut(Saved)) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Decides nothing: the simulator is about delivery.
#[derive(Debug, Default)]
pub(crate) struct Indifferent;

impl Decide for Indifferent {
    type StateError = std::convert::Infallible;

    fn restore(&mut self, _: CameraId, _: &[u8], _: Option<(u32, &[u8])>) -> Result<(), Self::StateError> {
        Ok(())
    }

    fn restore_alert(&mut self, _: Alert) {}

    fn set_next_alert_id(&mut self, _: u64) {}

    fn judge(&mut self, _: u64, _: &Judgement, _: UnixMillis) -> Vec<Change> {
        Vec::new()
    }

    fn order<H: History>(
        &mut self,
        _: &CameraId,
        _: &Order,
        _: UnixMillis,
        _: &H,
    ) -> Result<Result<Vec<Change>, OrderError>, H::Error> {
        Ok(Err(OrderError::UnknownCamera))
    }

    fn observe<H: History>(&mut self, _: &CameraId, _: &CountedWindow, _: &H) -> Result<Vec<Change>, H::Error> {
        Ok(Vec::new())
    }
}
