//! What the device says of its configuration over the live connection, and what it is told.
//!
//! Must hold: nothing is asked before the session stands, for the first stream of a connection is the session's; an aggregator that
//! knows nothing of configurations is asked once a connection; nothing here ends the uplink.
//!
//! Deliberately absent: the same over TCP, where a connection carries the session and nothing else. The device keeps what it has, says
//! so in its log, and asks when it has a way over QUIC again.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use driftglass_protocol::configuration::{
    ConfigurationId, ConfigurationOutcome, ConfigurationReport, DesiredConfiguration,
};
use driftglass_protocol::identity::{Deny, DenyReason};
use driftglass_protocol::limit::TEXT_BYTES;
use driftglass_protocol::wire::{Kind, parse_frame};
use quinn::{Connection, RecvStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::Counters;
use super::link::Link;
use super::renewal::{AskError, next_frame};
use crate::pushed::{Offer, State};

/// How often it is looked whether the session stands.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Wait before the aggregator is asked again.
const AGAIN: Duration = Duration::from_secs(60);

/// The uplink's end of what is between it and whoever keeps the configuration.
#[derive(Debug)]
pub struct Guidance {
    /// Takes what the centre wishes.
    pub offers: mpsc::Sender<Offer>,
    /// How the device is set.
    pub report: watch::Receiver<Report>,
}

/// How the device is set, and what became of the configuration offered last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In effect now.
    pub in_effect: ConfigurationId,
    /// Offered last.
    pub offered: ConfigurationId,
    /// What became of it.
    pub outcome: ConfigurationOutcome,
    /// Part of what is in effect waits for the next start.
    pub restart: bool,
    /// Why it was not taken.
    pub detail: String,
}

impl Report {
    /// What there is to say of a state.
    #[must_use]
    pub fn of(state: &State, restart: bool) -> Self {
        let (offered, outcome, detail) = state.outcome();
        Self { in_effect: state.in_effect().id, offered, outcome, restart, detail: detail.into() }
    }
}

/// Reports and listens for as long as the connection lives; never returns.
pub(super) async fn converse(link: &Link, guidance: Option<&mut Guidance>, counters: &Counters) -> Infallible {
    let Some(Guidance { offers, report }) = guidance else { return std::future::pending().await };
    while !counters.connected.load(Ordering::Relaxed) {
        sleep(LOOK).await;
    }
    let Some(connection) = link.quic_connection() else {
        tracing::info!("no configuration comes from the centre while the session runs over tcp");
        return std::future::pending().await;
    };
    loop {
        let said = report.borrow_and_update().clone();
        match timeout(ANSWER, ask(connection, &said)).await.unwrap_or(Err(AskError::Silent)) {
            Ok(Some(offer)) => pass_on(offers, offer).await,
            Ok(None) => {}
            Err(AskError::Denied(DenyReason::Protocol)) => {
                tracing::debug!("this aggregator knows nothing of configurations");
                return std::future::pending().await;
            }
            Err(error) => {
                tracing::warn!(%error, "the aggregator could not be told how this device is set; it will be tried again");
                sleep(AGAIN).await;
                continue;
            }
        }
        loop {
            tokio::select! {
                changed = report.changed() => match changed {
                    Ok(()) => break,
                    // Nobody keeps the configuration any more: the agent stops.
                    Err(_) => return std::future::pending().await,
                },
                accepted = connection.accept_bi() => {
                    let Ok((_send, mut receive)) = accepted else { return std::future::pending().await };
                    match timeout(ANSWER, desired(&mut receive)).await.unwrap_or(Err(AskError::Silent)) {
                        Ok(Some(offer)) => pass_on(offers, offer).await,
                        Ok(None) => {}
                        Err(error) => tracing::warn!(%error, "what the aggregator wishes was not understood"),
                    }
                }
            }
        }
    }
}

async fn pass_on(offers: &mpsc::Sender<Offer>, offer: Offer) {
    if offers.send(offer).await.is_err() {
        tracing::debug!("nobody keeps the configuration any more");
    }
}

/// Says how the device is set, and returns what the aggregator wishes instead, where that is something else.
async fn ask(connection: &Connection, report: &Report) -> Result<Option<Offer>, AskError> {
    let gone = |error: String| AskError::Connection(error);
    let Report { in_effect, offered, outcome, restart, detail } = report;
    let report =
        ConfigurationReport { in_effect: *in_effect, offered: *offered, outcome: *outcome, restart: *restart, detail };
    let mut out = [0; TEXT_BYTES + 128];
    let length = report.write(&mut out)?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| gone(error.to_string()))?;
    send.write_all(out.get(..length).unwrap_or_default()).await.map_err(|error| gone(error.to_string()))?;
    send.finish().map_err(|error| gone(error.to_string()))?;
    desired(&mut receive).await
}

async fn desired(receive: &mut RecvStream) -> Result<Option<Offer>, AskError> {
    let bytes = next_frame(receive).await?;
    let frame = parse_frame(&bytes)?;
    match frame.kind {
        Kind::DesiredConfiguration => {
            let desired = DesiredConfiguration::parse(frame).map_err(|_| AskError::Message)?;
            Ok(desired.text.map(|text| Offer { id: desired.id, text: text.to_owned() }))
        }
        Kind::Deny => Err(AskError::Denied(Deny::parse(frame).map_err(|_| AskError::Message)?.reason)),
        _ => Err(AskError::Message),
    }
}
