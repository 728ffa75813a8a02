//! The writer, seen by a session.

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::session::Hello;
use driftglass_protocol::wire::Mark;

use crate::ingest::{Ledger, LedgerError};
use crate::ledger::Outcome;
use crate::writer::{Ticket, Writer};

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
