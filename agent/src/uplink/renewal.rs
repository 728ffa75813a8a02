//! When to renew the certificate, and how to ask for one.
//!
//! A certificate is renewed over the live connection once two thirds of its life are over, spread over a twelfth of it, so that
//! devices enrolled together do not come together. Whether it has expired is the aggregator's judgement and not that of a clock here:
//! an aggregator that finds it expired says so, and the device renews it over a connection that is good for nothing else.

use std::time::Duration;

use driftglass_protocol::identity::certificate::Validity;
use driftglass_protocol::identity::{BACKDATED_MS, Deny, DenyReason, Issued};
use driftglass_protocol::limit::FRAME_BYTES;
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{FrameError, Kind, parse_frame};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connect::Credentials;
use super::link::Link;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Shortest and longest time between two attempts.
const ATTEMPTS: (i64, i64) = (1_000, 3_600_000);

/// Looks after the identity on disk.
pub trait Keeper {
    /// A PKCS#10 request signed with the device's key.
    ///
    /// # Errors
    /// What is wrong, for people.
    fn request(&self) -> Result<Vec<u8>, String>;

    /// Keeps what was issued, durably, and returns the identity it makes.
    ///
    /// # Errors
    /// What is wrong, for people; the identity before it is then still there.
    fn install(&self, certificate: &Certified) -> Result<Credentials, String>;

    /// The identity as it is on disk now: somebody may have enrolled the device again.
    ///
    /// # Errors
    /// What is wrong, for people.
    fn load(&self) -> Result<Credentials, String>;

    /// The time, as far as this device can know it.
    fn now(&self) -> UnixMillis;

    /// An aggregator that has been verified says what time it is.
    fn learn(&self, at: UnixMillis);
}

/// A certificate as the aggregator has issued it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The device's certificate.
    pub certificate: CertificateDer<'static>,
    /// The authorities to trust from now on.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The aggregator's clock.
    pub clock: UnixMillis,
}

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum AskError {
    /// The connection broke.
    #[error("the connection is gone: {0}")]
    Connection(String),
    /// Nothing came.
    #[error("the aggregator gave no answer within {} s", ANSWER.as_secs())]
    Silent,
    /// Not a frame.
    #[error("the aggregator sent a malformed frame: {0}")]
    Frame(#[from] FrameError),
    /// Not an answer.
    #[error("the aggregator sent no answer to what it was asked")]
    Message,
    /// It refuses.
    #[error("{}", explain(*.0))]
    Denied(DenyReason),
}

/// What a refusal means for whoever reads it.
const fn explain(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::TokenUnknown => "the aggregator does not know this token: was it made by this aggregator?",
        DenyReason::TokenUsed => "the token has been used already: create another one",
        DenyReason::TokenExpired => "the token's time is over: create another one",
        DenyReason::TokenDevice => {
            "the token was made for another device: compare its site and device with those in the configuration"
        }
        DenyReason::Revoked => "the device or its key has been revoked: create a token and enrol it again",
        DenyReason::Unregistered => {
            "the aggregator does not know this device with this key: create a token and enrol it again"
        }
        DenyReason::Request => {
            "the aggregator does not accept the request: it certifies P-256 keys that are registered"
        }
        DenyReason::Protocol => "the aggregator does not understand: install versions that belong together",
        DenyReason::Unsupported => {
            "this aggregator issues no certificates: the device's certificate comes from whoever runs its authority"
        }
        DenyReason::Unavailable => "the aggregator cannot register anything now: try again later",
    }
}

/// When a certificate is to be renewed; `random` spreads devices.
#[must_use]
pub fn due(validity: Validity, random: u64) -> UnixMillis {
    let (issued, life) = issuance(validity);
    let spread = (i128::from(random) * i128::from(life / 12)) >> 64;
    UnixMillis(issued.saturating_add(life / 3 * 2).saturating_add(i64::try_from(spread).unwrap_or(0)))
}

/// The least time between two attempts to renew, whatever the clocks say.
#[must_use]
pub fn pause(validity: Validity) -> Duration {
    let (_, life) = issuance(validity);
    Duration::from_millis((life / 24).clamp(ATTEMPTS.0, ATTEMPTS.1).unsigned_abs())
}

/// When it was issued, and how long it was meant to live, in milliseconds.
const fn issuance(validity: Validity) -> (i64, i64) {
    let (not_before, not_after) = (validity.not_before.0, validity.not_after.0);
    let backdated = not_before.saturating_add(BACKDATED_MS);
    let issued = if backdated < not_after { backdated } else { not_before };
    let life = not_after.saturating_sub(issued);
    (issued, if life < 0 { 0 } else { life })
}

/// Sends one frame on a stream of its own and waits for the answer.
///
/// # Errors
/// One variant of [`AskError`] per cause.
pub async fn ask(link: &Link, frame: &[u8]) -> Result<Certified, AskError> {
    timeout(ANSWER, exchange(link, frame)).await.map_err(|_| AskError::Silent)?
}

async fn exchange(link: &Link, frame: &[u8]) -> Result<Certified, AskError> {
    let gone = |error: String| AskError::Connection(link.close_reason().unwrap_or(error));
    let (mut receive, mut send) = link.open().await.map_err(|error| gone(error.to_string()))?;
    send.write_all(frame).await.map_err(|error| gone(error.to_string()))?;
    send.flush().await.map_err(|error| gone(error.to_string()))?;
    let bytes = next_frame(&mut receive).await.map_err(|error| match error {
        AskError::Connection(error) => gone(error),
        error => error,
    })?;
    let frame = parse_frame(&bytes)?;
    match frame.kind {
        Kind::Issued => {
            let issued = Issued::parse(frame).map_err(|_| AskError::Message)?;
            let own = |bytes: &[u8]| CertificateDer::from(bytes.to_vec());
            Ok(Certified {
                certificate: own(issued.certificate),
                authorities: issued.authorities.iter().map(|bytes| own(bytes)).collect(),
                clock: issued.clock,
            })
        }
        Kind::Deny => Err(AskError::Denied(Deny::parse(frame).map_err(|_| AskError::Message)?.reason)),
        _ => Err(AskError::Message),
    }
}

/// The bytes of the first frame of a stream.
pub(super) async fn next_frame<R: AsyncRead + Unpin>(receive: &mut R) -> Result<Vec<u8>, AskError> {
    let mut inbox = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        match parse_frame(&inbox).map(|frame| frame.length) {
            Ok(length) => {
                inbox.truncate(length);
                return Ok(inbox);
            }
            // A longer one is refused by its length alone.
            Err(FrameError::Incomplete { .. }) if inbox.len() <= FRAME_BYTES => {}
            Err(error) => return Err(error.into()),
        }
        match receive.read(&mut chunk).await {
            Ok(0) => return Err(AskError::Message),
            Ok(count) => inbox.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) => return Err(AskError::Connection(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * 3_600_000;

    const fn month() -> Validity {
        Validity { not_before: UnixMillis(0), not_after: UnixMillis(31 * DAY) }
    }

    #[test]
    fn a_month_is_renewed_after_twenty_days_and_devices_are_spread_over_two_and_a_half() {
        // Issued on day 1, for it begins a day early.
        assert_eq!(due(month(), 0), UnixMillis(21 * DAY));
        let last = due(month(), u64::MAX);
        assert!(last < UnixMillis(23 * DAY + DAY / 2) && last > UnixMillis(23 * DAY + DAY / 2 - 10), "{last:?}");
        assert_eq!(pause(month()), Duration::from_secs(3600));
        let short = Validity { not_before: UnixMillis(0), not_after: UnixMillis(DAY + 12_000) };
        assert_eq!(due(short, 0), UnixMillis(DAY + 8_000));
        assert_eq!(pause(short), Duration::from_secs(1));
        // One that somebody else has issued need not begin early.
        let foreign = Validity { not_before: UnixMillis(0), not_after: UnixMillis(DAY / 2) };
        assert_eq!(due(foreign, 0), UnixMillis(DAY / 3));
    }

    proptest! {
        #[test]
        fn a_certificate_is_due_within_its_life_whatever_it_says(from: i64, to: i64, random: u64) {
            let validity = Validity { not_before: UnixMillis(from), not_after: UnixMillis(to) };
            let at = due(validity, random);
            prop_assert!(at.0 >= from);
            prop_assert!(from > to || at.0 <= to);
            prop_assert!(pause(validity) >= Duration::from_secs(1));
        }
    }
}
