//! What the device says of its configuration over the live connection, and what it is told: on streams of their own over QUIC, between
//! the frames of the session over TCP.
//!
//! Must hold: nothing is asked before the session stands, for the first stream of a connection is the session's; an aggregator that
//! knows nothing of configurations is asked once a connection; nothing here ends the uplink.

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
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Counters;
use super::aside::Voice;
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
pub(super) async fn converse(
    link: &Link,
    voice: Option<&mut Voice>,
    guidance: Option<&mut Guidance>,
    counters: &Counters,
) -> Infallible {
    let Some(guidance) = guidance else { return std::future::pending().await };
    while !counters.connected.load(Ordering::Relaxed) {
        sleep(LOOK).await;
    }
    match (link.quic_connection(), voice) {
        (Some(connection), _) => over_streams(connection, guidance).await,
        (None, Some(voice)) => between_frames(voice, guidance).await,
        (None, None) => std::future::pending().await,
    }
}

async fn over_streams(connection: &Connection, Guidance { offers, report }: &mut Guidance) -> Infallible {
    loop {
        let said = report.borrow_and_update().clone();
        match timeout(ANSWER, ask(connection, &said)).await.unwrap_or(Err(AskError::Silent)) {
            Ok(Some(offer)) => pass_on(offers, offer).await,
            Ok(None) => {}
            Err(AskError::Denied(DenyReason::Protocol)) => {
                return unheard().await;
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

/// The same where one stream carries everything: what comes may be the answer, or word of a change, and is the same to us.
async fn between_frames(voice: &mut Voice, Guidance { offers, report }: &mut Guidance) -> Infallible {
    loop {
        let said = report.borrow_and_update().clone();
        let frame = match frame_of(&said) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, "how this device is set cannot be said");
                return std::future::pending().await;
            }
        };
        if voice.to_send.send(frame).await.is_err() {
            // The session is over.
            return std::future::pending().await;
        }
        let mut answered = false;
        let silence = sleep_until(Instant::now() + ANSWER);
        tokio::pin!(silence);
        loop {
            let heard = tokio::select! {
                changed = report.changed() => match changed {
                    Ok(()) => break,
                    // Nobody keeps the configuration any more: the agent stops.
                    Err(_) => return std::future::pending().await,
                },
                () = &mut silence, if !answered => Err(AskError::Silent),
                received = voice.received.recv() => match received {
                    Some(frame) => understood(&frame),
                    None => return std::future::pending().await,
                },
            };
            answered = true;
            match heard {
                Ok(Some(offer)) => pass_on(offers, offer).await,
                Ok(None) => {}
                Err(AskError::Denied(DenyReason::Protocol)) => return unheard().await,
                Err(error) => {
                    tracing::warn!(%error, "the aggregator could not be told how this device is set; it will be tried again");
                    sleep(AGAIN).await;
                    break;
                }
            }
        }
    }
}

/// Says nothing more over this connection.
async fn unheard() -> Infallible {
    tracing::debug!("this aggregator knows nothing of configurations");
    std::future::pending().await
}

async fn pass_on(offers: &mpsc::Sender<Offer>, offer: Offer) {
    if offers.send(offer).await.is_err() {
        tracing::debug!("nobody keeps the configuration any more");
    }
}

/// Says how the device is set, and returns what the aggregator wishes instead, where that is something else.
async fn ask(connection: &Connection, report: &Report) -> Result<Option<Offer>, AskError> {
    let gone = |error: String| AskError::Connection(error);
    let frame = frame_of(report)?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| gone(error.to_string()))?;
    send.write_all(&frame).await.map_err(|error| gone(error.to_string()))?;
    send.finish().map_err(|error| gone(error.to_string()))?;
    desired(&mut receive).await
}

fn frame_of(report: &Report) -> Result<Vec<u8>, AskError> {
    let Report { in_effect, offered, outcome, restart, detail } = report;
    let report =
        ConfigurationReport { in_effect: *in_effect, offered: *offered, outcome: *outcome, restart: *restart, detail };
    let mut out = vec![0; TEXT_BYTES + 128];
    let length = report.write(&mut out)?;
    out.truncate(length);
    Ok(out)
}

async fn desired(receive: &mut RecvStream) -> Result<Option<Offer>, AskError> {
    understood(&next_frame(receive).await?)
}

/// What the aggregator wishes, by its frame; `None` where that is what this device has just said.
fn understood(bytes: &[u8]) -> Result<Option<Offer>, AskError> {
    let frame = parse_frame(bytes)?;
    match frame.kind {
        Kind::DesiredConfiguration => {
            let desired = DesiredConfiguration::parse(frame).map_err(|_| AskError::Message)?;
            Ok(desired.text.map(|text| Offer { id: desired.id, text: text.to_owned() }))
        }
        Kind::Deny => Err(AskError::Denied(Deny::parse(frame).map_err(|_| AskError::Message)?.reason)),
        _ => Err(AskError::Message),
    }
}
