//! The writer, seen by a session.

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::session::Hello;

use crate::ingest::{Ledger, LedgerError};
use crate::ledger::Outcome;
use crate::store::{Greeting, Standing};
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

    async fn greet(&self, hello: Hello) -> Result<Greeting, LedgerError> {
        let (device, epoch) = (hello.device.clone(), hello.epoch);
        let greeting = self.hello(hello).await.map_err(|_| LedgerError)?;
        match greeting.standing {
            Standing::Welcome => {}
            Standing::Cloned => tracing::error!(%device, epoch,
                "two living instances of this device speak in one epoch: one of the two is a copy, and the later one is kept out"),
            Standing::Spent => tracing::warn!(%device, epoch,
                "this device speaks in an epoch that belonged to another start of it: its state was restored, and it is asked for a new epoch"),
        }
        Ok(greeting)
    }

    async fn submit(&self, device: &DeviceId, frame: Vec<u8>) -> Result<Submitted, LedgerError> {
        self.enqueue(device.clone(), frame).await.map(Submitted).map_err(|_| LedgerError)
    }
}
