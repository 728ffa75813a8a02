//! The way to the aggregator: connect, say hello, send what is not acknowledged, let go of what is; for ever.
//!
//! Must hold: a record leaves the spool only by an aggregator's acknowledgement; every wait is bounded; every end of a session leads
//! to another attempt after a jittered delay, except the two that only a new start can heal ([`Fatal`]). No refusal and no clock makes
//! the device give up its identity: who is refused goes on asking, and looks whether somebody has enrolled it again.
//!
//! Deliberately absent: TLS over TCP where UDP is blocked, and the second stream for configuration.

pub mod backoff;
mod bridge;
mod connect;
mod floor;
pub mod renewal;
mod session;
mod trust;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::{DenyReason, Renew};
use driftglass_protocol::limit::CERTIFICATE_BYTES;
use driftglass_protocol::session::{Hello, RefuseReason, Sender, SenderError};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;
use thiserror::Error;
use tokio::sync::watch;

use crate::spool::{ReadError, Reader, Shared, raise_epoch};
use backoff::Backoff;
pub use connect::{ALPN, ConnectError, Connector, Credentials, Target, connect_to_enrol};
pub use floor::TimeFloor;
use renewal::{AskError, Keeper, ask, due, pause};
use session::{Ended, Session};

/// Least wait after another instance of this device took over.
const SUPERSEDED_WAIT: Duration = Duration::from_secs(60);
/// Least wait after the aggregator has said that it does not know this device, or knows it no more.
const OUTCAST_WAIT: Duration = Duration::from_secs(600);
/// How often a device that is not known looks whether it has been enrolled again.
const OUTCAST_LOOK: Duration = Duration::from_secs(2);
/// Longest uninterrupted wait for the day of renewal: a clock may be set meanwhile.
const RENEWAL_LOOK_MS: i64 = 3_600_000;

/// Counters of the uplink, read by the metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// A session stands.
    pub connected: AtomicBool,
    /// Records sent, repetitions included.
    pub sent: AtomicU64,
    /// Records acknowledged.
    pub acknowledged: AtomicU64,
    /// Sessions refused by the aggregator.
    pub refused: AtomicU64,
    /// Certificates renewed.
    pub renewed: AtomicU64,
    /// When the certificate expires, in seconds since 1970; 0 where that is not known.
    pub certificate_expires: AtomicI64,
}

/// Who speaks.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// The device.
    pub device: DeviceId,
    /// The epoch of this start.
    pub epoch: u32,
    /// Random number of this process.
    pub instance: u64,
    /// Version of the agent, for people.
    pub version: &'static str,
    /// Where the epoch is stored.
    pub state_dir: PathBuf,
}

impl Speaker {
    fn hello(&self, clock: UnixMillis) -> Hello {
        Hello {
            device: self.device.clone(),
            epoch: self.epoch,
            instance: self.instance,
            clock,
            version: self.version.try_into().unwrap_or_default(),
        }
    }
}

/// What only a new start can heal.
#[derive(Debug, Error)]
pub enum Fatal {
    /// Committed records cannot be read; recovery at the next start repairs the segment.
    #[error("the spool needs recovery: {0}")]
    Spool(#[from] ReadError),
    /// The aggregator has counted a later epoch; the next start takes one beyond it.
    #[error(
        "the aggregator has counted up to {mark}, beyond this agent's epoch: the state folder was lost or restored while the clock was \
         behind; the next start takes a later epoch"
    )]
    Behind {
        /// The aggregator's mark.
        mark: Mark,
    },
}

/// What the uplink takes from outside.
pub struct Surroundings<'a> {
    /// The wall clock.
    pub clock: &'a dyn Fn() -> UnixMillis,
    /// 64 random bits.
    pub random: &'a mut dyn FnMut() -> u64,
    /// Becomes true when the agent is to stop.
    pub stop: watch::Receiver<bool>,
    /// Counters to keep.
    pub counters: &'a Counters,
    /// Who looks after the identity; without one it is used as it is.
    pub keeper: Option<&'a dyn Keeper>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("counters", self.counters).finish_non_exhaustive()
    }
}

/// Delivers until told to stop.
///
/// # Errors
/// [`Fatal`].
pub async fn run(
    mut connector: Connector,
    speaker: &Speaker,
    spool: &Arc<Shared>,
    surroundings: Surroundings<'_>,
) -> Result<(), Fatal> {
    let mut sender = Sender::new(speaker.epoch, spool.acknowledged());
    let mut reader = Reader::new(Arc::clone(spool));
    let mut backoff = Backoff::default();
    let target = connector.target().clone();
    let Surroundings { clock, random, stop, counters, keeper } = surroundings;
    show_expiry(&connector, counters);
    loop {
        let mut stopped = stop.clone();
        let connected = tokio::select! {
            connected = connector.connect() => connected,
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        let mut wait = None;
        match connected {
            Err(error) => {
                tracing::warn!(%error, "no connection to the aggregator");
                // It may have another authority now, and this device a new identity from it.
                if take_up(&mut connector, keeper, counters) {
                    continue;
                }
            }
            Ok((endpoint, connection)) => {
                tracing::debug!(host = target.host, port = target.port, "connected; saying hello");
                let mut session = Session { sender: &mut sender, reader: &mut reader, spool, counters, keeper };
                let hello = speaker.hello(clock());
                let ended = {
                    let drive = session.drive(&connection, &hello, &mut backoff, stop.clone());
                    tokio::pin!(drive);
                    loop {
                        tokio::select! {
                            ended = &mut drive => break ended,
                            () = renew_in_time(&mut connector, &connection, random(), keeper, counters) => {}
                        }
                    }
                };
                sender.handle_disconnected();
                counters.connected.store(false, Ordering::Relaxed);
                close(&endpoint, &connection).await;
                match ended {
                    Ended::Stopped => return Ok(()),
                    Ended::Spool(error) => return Err(error.into()),
                    Ended::Sender(SenderError::Behind { mark, .. }) => return Err(behind(speaker, mark)),
                    Ended::Refused(refuse) => {
                        counters.refused.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(reason = refuse.reason.name(), expected_after = %refuse.expected_after, retry_after_s = refuse.retry_after_s,
                            what_to_do = what_to_do(refuse.reason), "the aggregator refused the session");
                        match refuse.reason {
                            RefuseReason::StaleEpoch => return Err(behind(speaker, refuse.expected_after)),
                            RefuseReason::Expired => {
                                let renewed = tokio::select! {
                                    renewed = renew_expired(&mut connector, keeper, counters) => renewed,
                                    _ = stopped.wait_for(|stop| *stop) => return Ok(()),
                                };
                                if renewed {
                                    backoff.reset();
                                    continue;
                                }
                            }
                            RefuseReason::Revoked | RefuseReason::Unregistered => {
                                let enrolled = tokio::select! {
                                    enrolled = enrolled_again(&mut connector, keeper, counters) => enrolled,
                                    _ = stopped.wait_for(|stop| *stop) => return Ok(()),
                                };
                                if enrolled {
                                    backoff.reset();
                                    continue;
                                }
                            }
                            _ => {}
                        }
                        wait = match (refuse.retry_after_s, refuse.reason) {
                            (0, RefuseReason::Superseded) => Some(SUPERSEDED_WAIT),
                            (0, _) => None,
                            (seconds, _) => Some(Duration::from_secs(u64::from(seconds.min(3600)))),
                        };
                    }
                    other => tracing::warn!(reason = %other, "the session ended"),
                }
            }
        }
        let jitter = backoff.next_delay(random());
        let delay = wait.map_or(jitter, |wait| wait + jitter.min(wait));
        tracing::debug!(?delay, "trying again");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

async fn close(endpoint: &quinn::Endpoint, connection: &quinn::Connection) {
    connection.close(quinn::VarInt::from_u32(0), b"");
    if tokio::time::timeout(Duration::from_secs(2), endpoint.wait_idle()).await.is_err() {
        tracing::debug!("the connection took too long to close");
    }
}

/// Waits until the certificate is to be renewed, and renews it over the live connection. Returns after every attempt.
async fn renew_in_time(
    connector: &mut Connector,
    connection: &quinn::Connection,
    random: u64,
    keeper: Option<&dyn Keeper>,
    counters: &Counters,
) {
    let (Some(keeper), Some(validity)) = (keeper, connector.validity()) else { return std::future::pending().await };
    let due = due(validity, random);
    let pause = pause(validity);
    // However wrong a clock is, there is a pause between two attempts.
    let mut left = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    while left > 0 {
        tokio::time::sleep(Duration::from_millis(left.min(RENEWAL_LOOK_MS).unsigned_abs())).await;
        left = due.0.saturating_sub(keeper.now().0);
    }
    match renew(connector, connection, keeper, counters).await {
        Ok(()) => {}
        Err(RenewError::Ask(AskError::Denied(DenyReason::Unsupported))) => {
            tracing::debug!("this aggregator issues no certificates; whoever runs the authority renews this one");
            std::future::pending().await
        }
        Err(error) => tracing::warn!(%error, "the certificate could not be renewed; it will be tried again"),
    }
}

/// Renews an expired certificate over a connection of its own; false where that failed.
async fn renew_expired(connector: &mut Connector, keeper: Option<&dyn Keeper>, counters: &Counters) -> bool {
    let Some(keeper) = keeper else { return false };
    let renewed = match connector.connect_to_renew().await {
        Ok((endpoint, connection)) => {
            let renewed = renew(connector, &connection, keeper, counters).await;
            close(&endpoint, &connection).await;
            renewed
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = &renewed {
        tracing::error!(%error, "the expired certificate could not be renewed");
    }
    renewed.is_ok()
}

/// Why a certificate was not renewed.
#[derive(Debug, Error)]
enum RenewError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("{0}")]
    Keeper(String),
}

async fn renew(
    connector: &mut Connector,
    connection: &quinn::Connection,
    keeper: &dyn Keeper,
    counters: &Counters,
) -> Result<(), RenewError> {
    let request = keeper.request().map_err(RenewError::Keeper)?;
    let mut frame = vec![0; CERTIFICATE_BYTES + 64];
    let length = Renew { request: &request }.write(&mut frame).map_err(AskError::from)?;
    let certified = ask(connection, frame.get(..length).unwrap_or_default()).await?;
    let credentials = keeper.install(&certified).map_err(RenewError::Keeper)?;
    connector.replace(credentials)?;
    counters.renewed.fetch_add(1, Ordering::Relaxed);
    show_expiry(connector, counters);
    tracing::info!("the certificate was renewed");
    Ok(())
}

/// Waits for a while, looking whether the device has been enrolled again; true where it has.
async fn enrolled_again(connector: &mut Connector, keeper: Option<&dyn Keeper>, counters: &Counters) -> bool {
    let looks = OUTCAST_WAIT.as_secs() / OUTCAST_LOOK.as_secs();
    for _ in 0..looks {
        tokio::time::sleep(OUTCAST_LOOK).await;
        if take_up(connector, keeper, counters) {
            return true;
        }
    }
    false
}

/// Takes up the identity on disk where it is another one than that in use.
fn take_up(connector: &mut Connector, keeper: Option<&dyn Keeper>, counters: &Counters) -> bool {
    // While the files are being replaced they may not fit each other; the next look finds them whole.
    let Some(Ok(credentials)) = keeper.map(Keeper::load) else { return false };
    if connector.uses(&credentials) || connector.replace(credentials).is_err() {
        return false;
    }
    tracing::info!("the device has been enrolled again");
    show_expiry(connector, counters);
    true
}

fn show_expiry(connector: &Connector, counters: &Counters) {
    let expires = connector.validity().map_or(0, |validity| validity.not_after.0 / 1000);
    counters.certificate_expires.store(expires, Ordering::Relaxed);
}

fn behind(speaker: &Speaker, mark: Mark) -> Fatal {
    if let Err(error) = raise_epoch(&speaker.state_dir, mark.epoch) {
        tracing::error!(%error, "the aggregator's epoch could not be noted");
    }
    Fatal::Behind { mark }
}

const fn what_to_do(reason: RefuseReason) -> &'static str {
    match reason {
        RefuseReason::Identity => {
            "the certificate names another device: compare site and device in the configuration with the certificate"
        }
        RefuseReason::StaleEpoch => "nothing: the agent starts again with a later epoch",
        RefuseReason::Gap | RefuseReason::Overlap => {
            "nothing at first: what is missing is announced as lost and the session goes on; report it if it persists"
        }
        RefuseReason::Malformed | RefuseReason::Protocol => {
            "install versions of agent and aggregator that belong together"
        }
        RefuseReason::Unavailable => {
            "look at the aggregator: it cannot store anything now; the spool keeps the windows meanwhile"
        }
        RefuseReason::Revoked | RefuseReason::Unregistered => {
            "create a token for this device on the aggregator and enrol it again (driftglass-agent enroll); the spool keeps the windows"
        }
        RefuseReason::Expired => "nothing: the agent renews the certificate, which its key still entitles it to",
        RefuseReason::Superseded => "find the second machine with this device's identity: one of them needs its own",
    }
}
