//! Delivery: offer records, acknowledge them cumulatively, count each once. State machines without I/O.
//!
//! ```text
//! agent                                  aggregator
//!   Hello(device, epoch, instance)  -->    checks the certificate's identity against the claim
//!                                   <--    Welcome(mark) or Refuse(reason)
//!   Record, Record, Record ...      -->    judge(mark, record), commit, then
//!                                   <--    Acknowledge(mark), cumulative, only after the commit
//! ```
//!
//! The chain rule ([`chain::judge`]) is what makes a record count once: a record is accepted only where it continues the
//! sequence, and the judgement is repeated inside the transaction that stores its effect. QUIC's own acknowledgements mean nothing
//! here: they say that bytes arrived, not that anything is durable.

pub mod chain;
mod message;
mod receiver;
mod sender;

pub use message::{Acknowledge, Hello, MessageError, Refuse, RefuseReason, Welcome};
pub use receiver::{Incoming, Receiver};
pub use sender::{Sender, SenderError};
