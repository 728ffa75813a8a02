//! The decision core, seen by the ledger, and the writer, seen by a session.

use std::sync::Arc;
use std::time::Instant;

use driftglass_protocol::id::{CameraId, DeviceId};
use driftglass_protocol::session::Hello;
use driftglass_protocol::wire::Mark;

use crate::alert::Alert;
use crate::decision::{Change, Core, CountedWindow, History, StateError};
use crate::ingest::{Ledger, LedgerError};
use crate::ledger::{Decide, Outcome};
use crate::metrics::Metrics;
use crate::writer::{Ticket, Writer};

/// The core with a stopwatch: how long each window takes to judge goes to the metrics, and to nothing else.
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
        self.core.restore(camera, state, baseline)
    }

    fn restore_alert(&mut self, alert: Alert) {
        self.core.restore_alert(alert);
    }

    fn set_next_alert_id(&mut self, id: u64) {
        self.core.set_next_alert_id(id);
    }

    #[expect(clippy::disallowed_methods, reason = "a duration for the metrics, which no decision sees")]
    fn observe<H: History>(
        &mut self,
        camera: &CameraId,
        window: &CountedWindow,
        history: &H,
    ) -> Result<Vec<Change>, H::Error> {
        let began = Instant::now();
        let changes = self.core.observe(camera, window, history);
        self.metrics.evaluated(began.elapsed().as_secs_f64());
        changes
    }
}

/// A record in the writer's queue.
#[derive(Debug)]
pub struct Submitted(Ticket);

impl Future for Submitted {
    type Output = Result<Outcome, LedgerError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context).map_err(|_| LedgerError)
    }
}

impl Ledger for Writer {
    type Ticket = Submitted;

    async fn greet(&self, hello: Hello) -> Result<Mark, LedgerError> {
        let device = hello.device.clone();
        let greeting = self.hello(hello).await.map_err(|_| LedgerError)?;
        if greeting.cloned {
            tracing::warn!(%device, "another instance of this device has greeted in the same epoch: one of the two is a copy");
        }
        Ok(greeting.mark)
    }

    async fn submit(&self, device: &DeviceId, frame: Vec<u8>) -> Result<Submitted, LedgerError> {
        self.enqueue(device.clone(), frame).await.map(Submitted).map_err(|_| LedgerError)
    }
}
