//! What operators say of alerts and of baselines: the one way from HTTP to the core.
//!
//! Must hold: a verdict or an order is durable before anybody is told that it was taken.
//!
//! Deliberately absent: who may say it (the guard has judged that), and what follows from it ([`crate::alert::Alert::judge`],
//! [`crate::ledger::Decide::order`]).

use std::sync::{Mutex, PoisonError};

use driftglass_protocol::id::CameraId;
use thiserror::Error;

use crate::alert::{Alert, Judgement};
use crate::decision::{Order, OrderError};
use crate::writer::{Writer, WriterError};

/// Why a verdict or an order is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OperatorError {
    /// No such alert.
    #[error("no alert {0} is known")]
    Unknown(u64),
    /// The baseline is as it was.
    #[error(transparent)]
    Baseline(#[from] OrderError),
    /// The store does not answer.
    #[error("the store cannot be written now")]
    Unavailable,
}

impl From<WriterError> for OperatorError {
    fn from(_: WriterError) -> Self {
        Self::Unavailable
    }
}

/// Takes verdicts and orders.
#[derive(Debug)]
pub struct Operators {
    /// Taken away when the service stops: HTTP connections that linger must not keep the writer alive.
    writer: Mutex<Option<Writer>>,
}

impl Operators {
    /// On this writer.
    #[must_use]
    pub const fn new(writer: Writer) -> Self {
        Self { writer: Mutex::new(Some(writer)) }
    }

    /// From now on everything is [`OperatorError::Unavailable`].
    pub fn close(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Takes a verdict on an alert and returns the alert as it is then.
    ///
    /// # Errors
    /// One variant of [`OperatorError`] per cause.
    pub async fn judge(&self, alert: u64, judgement: Judgement) -> Result<Alert, OperatorError> {
        let writer = self.writer()?;
        let (author, verdict) = (judgement.author.clone(), judgement.verdict);
        let judged = writer.judge(alert, judgement).await?.ok_or(OperatorError::Unknown(alert))?;
        tracing::info!(alert, author, ?verdict, "an operator judged an alert");
        Ok(judged)
    }

    /// Does what is wanted of a camera's baseline.
    ///
    /// # Errors
    /// One variant of [`OperatorError`] per cause.
    pub async fn order(&self, camera: &CameraId, order: Order) -> Result<(), OperatorError> {
        let (wish, author) = (order.wish, order.author.clone());
        self.writer()?.order(camera, order).await??;
        tracing::info!(%camera, author, ?wish, "an operator changed a baseline");
        Ok(())
    }

    fn writer(&self) -> Result<Writer, OperatorError> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(OperatorError::Unavailable)
    }
}
