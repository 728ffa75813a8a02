//! The core with a stopwatch: how long each window takes to judge, and what is promised, go to the metrics, and to nothing else.

use std::sync::Arc;
use std::time::Instant;

use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::UnixMillis;

use crate::alert::{Alert, Judgement};
use crate::decision::{Change, Core, CountedWindow, History, Order, OrderError, StateError};
use crate::ledger::Decide;
use crate::metrics::Metrics;

/// The core and where its times go.
#[derive(Debug)]
pub(super) struct TimedCore {
    core: Core,
    metrics: Arc<Metrics>,
}

impl TimedCore {
    pub(super) const fn new(core: Core, metrics: Arc<Metrics>) -> Self {
        Self { core, metrics }
    }
}

impl Decide for TimedCore {
    type StateError = StateError;

    fn restore(&mut self, camera: CameraId, state: &[u8], baseline: Option<(u32, &[u8])>) -> Result<(), StateError> {
        Decide::restore(&mut self.core, camera, state, baseline)
    }

    fn restore_alert(&mut self, alert: Alert) {
        Decide::restore_alert(&mut self.core, alert);
    }

    fn set_next_alert_id(&mut self, id: u64) {
        Decide::set_next_alert_id(&mut self.core, id);
    }

    fn judge(&mut self, alert: u64, judgement: &Judgement, now: UnixMillis) -> Vec<Change> {
        Decide::judge(&mut self.core, alert, judgement, now)
    }

    fn order<H: History>(
        &mut self,
        camera: &CameraId,
        order: &Order,
        now: UnixMillis,
        history: &H,
    ) -> Result<Result<Vec<Change>, OrderError>, H::Error> {
        Decide::order(&mut self.core, camera, order, now, history)
    }

    #[expect(clippy::disallowed_methods, reason = "a duration for the metrics, which no decision sees")]
    fn observe<H: History>(
        &mut self,
        camera: &CameraId,
        window: &CountedWindow,
        history: &H,
    ) -> Result<Vec<Change>, H::Error> {
        let began = Instant::now();
        let changes = Decide::observe(&mut self.core, camera, window, history);
        self.metrics.evaluated(began.elapsed().as_secs_f64());
        self.metrics.promise(self.core.target());
        changes
    }
}
