//! What operators say of alerts: the one way from HTTP to the core.
//!
//! Must hold: a verdict is durable before anybody is told that it was taken.
//!
//! Deliberately absent: who may say it (the guard has judged that), and what follows from it ([`crate::alert::Alert::judge`]).

use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use crate::alert::{Alert, Judgement};
use crate::writer::{Writer, WriterError};

/// Why a verdict is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OperatorError {
    /// No such alert.
    #[error("no alert {0} is known")]
    Unknown(u64),
    /// The store does not answer.
    #[error("the store cannot be written now")]
    Unavailable,
}

impl From<WriterError> for OperatorError {
    fn from(_: WriterError) -> Self {
        Self::Unavailable
    }
}

/// Takes verdicts.
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
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let writer = writer.ok_or(OperatorError::Unavailable)?;
        let (author, verdict) = (judgement.author.clone(), judgement.verdict);
        let judged = writer.judge(alert, judgement).await?.ok_or(OperatorError::Unknown(alert))?;
        tracing::info!(alert, author, ?verdict, "an operator judged an alert");
        Ok(judged)
    }
}
