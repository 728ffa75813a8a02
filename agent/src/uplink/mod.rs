//! The way to the aggregator: connect, say hello, send what is not acknowledged, let go of what is; for ever.
//!
//! Must hold: a record leaves the spool only by an aggregator's acknowledgement; every wait is bounded; every end of a session leads
//! to another attempt after a jittered delay, except the two that only a new start can heal ([`Fatal`]). No refusal and no clock makes
//! the device give up its identity: who is refused goes on asking, and looks whether somebody has enrolled it again. What is said and
//! decided ([`Exchange`], [`follow`]) needs no connection, and runs in the simulator as it runs here.

mod aside;
pub mod backoff;
mod bridge;
mod connect;
mod exchange;
mod floor;
mod guidance;
mod identity;
mod link;
pub mod renewal;
mod session;
mod trust;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::session::{Hello, RefuseReason, Sender, SenderError};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;
use thiserror::Error;
use tokio::sync::watch;

use crate::spool::{ReadError, Reader, Shared};
use aside::Aside;
use backoff::Backoff;
pub use connect::{ALPN, ConnectError, Connector, Credentials, Fallback, Target, connect_to_enrol, transport};
pub use exchange::{Ended, Exchange, Received};
pub use floor::TimeFloor;
pub use guidance::{Guidance, Report};
use identity::{heal, renew_in_time, show_expiry, take_up};
pub use link::{Link, Reading, Transport, Writing};
use renewal::Keeper;
use session::Session;

/// Least wait after another instance of this device took over.
const SUPERSEDED_WAIT: Duration = Duration::from_secs(60);

/// Counters of the uplink, read by the metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// A session stands.
    pub connected: AtomicBool,
    /// What carries it.
    pub carrier: CarrierInUse,
    /// Records sent, repetitions included.
    pub sent: AtomicU64,
    /// Records acknowledged.
    pub acknowledged: AtomicU64,
    /// Sessions refused by the aggregator.
    pub refused: AtomicU64,
    /// How far this clock is ahead of the aggregator's.
    pub clock_offset: ClockOffset,
    /// Certificates renewed.
    pub renewed: AtomicU64,
    /// When the certificate expires, in seconds since 1970; 0 where that is not known.
    pub certificate_expires: AtomicI64,
}

/// What carries the session that stands.
#[derive(Debug, Default)]
pub struct CarrierInUse(AtomicU8);

impl CarrierInUse {
    /// The transport; `None` where no connection stands.
    #[must_use]
    pub fn get(&self) -> Option<Transport> {
        Transport::ALL.into_iter().find(|&transport| Self::number(transport) == self.0.load(Ordering::Relaxed))
    }

    /// Sets it.
    pub fn set(&self, transport: Option<Transport>) {
        self.0.store(transport.map_or(0, Self::number), Ordering::Relaxed);
    }

    const fn number(transport: Transport) -> u8 {
        match transport {
            Transport::Quic => 1,
            Transport::Tcp => 2,
        }
    }
}

/// How far this clock is ahead of the aggregator's, once a session stood; to within the time of a round trip.
#[derive(Debug)]
pub struct ClockOffset(AtomicI64);

impl Default for ClockOffset {
    fn default() -> Self {
        Self(AtomicI64::new(Self::UNKNOWN))
    }
}

impl ClockOffset {
    const UNKNOWN: i64 = i64::MIN;

    /// Milliseconds, where known.
    #[must_use]
    pub fn millis(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&millis| millis != Self::UNKNOWN)
    }

    /// Sets it, in milliseconds.
    pub fn set(&self, millis: i64) {
        self.0.store(millis, Ordering::Relaxed);
    }
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
    /// Where configurations from the centre go, and how the device is set; without it the device says nothing of that.
    pub guidance: Option<&'a mut Guidance>,
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
    mut surroundings: Surroundings<'_>,
) -> Result<(), Fatal> {
    let mut sender = Sender::new(speaker.epoch, spool.acknowledged());
    let mut reader = Reader::new(Arc::clone(spool));
    let mut backoff = Backoff::default();
    let target = connector.target().clone();
    let (keeper, counters) = (surroundings.keeper, surroundings.counters);
    show_expiry(&connector, counters);
    // A way over QUIC that was found while a session stood over TCP.
    let mut found = None;
    loop {
        let mut stop = surroundings.stop.clone();
        let connected = match found.take() {
            Some(link) => Ok(link),
            None => tokio::select! {
                connected = connector.connect() => connected,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            },
        };
        let (mut wait, mut refused) = (None, None);
        match connected {
            Err(error) => {
                tracing::warn!(%error, "no connection to the aggregator");
                // It may have another authority now, and this device a new identity from it.
                if take_up(&mut connector, keeper, counters) {
                    continue;
                }
            }
            Ok(link) => {
                let transport = link.transport();
                tracing::debug!(host = target.host, transport = transport.name(), "connected; saying hello");
                counters.carrier.set(Some(transport));
                let scout = connector.scout();
                let exchange = Exchange { sender: &mut sender, reader: &mut reader, spool, counters };
                // Over TCP there is no stream for what else there is to say.
                let (aside, mut voice) = (transport == Transport::Tcp).then(Aside::new).unzip();
                let mut session = Session { exchange, keeper, aside };
                let hello = speaker.hello((surroundings.clock)());
                let ended = {
                    let drive = session.drive(&link, &hello, &mut backoff, surroundings.stop.clone());
                    let (path, look) = (link.follow_path(), scout.find());
                    tokio::pin!(drive, path, look);
                    loop {
                        let random = (surroundings.random)();
                        let guidance = surroundings.guidance.as_deref_mut();
                        tokio::select! {
                            ended = &mut drive => break ended,
                            () = renew_in_time(&mut connector, &link, random, keeper, counters) => {}
                            never = guidance::converse(&link, voice.as_mut(), guidance, counters) => match never {},
                            () = &mut path => break Ended::Stream("this device has another address now".into()),
                            better = &mut look, if transport == Transport::Tcp => {
                                found = Some(better);
                                break Ended::Stream("there is a way over QUIC again".into());
                            }
                        }
                    }
                };
                counters.carrier.set(None);
                refused = match &ended {
                    Ended::Refused(refuse) => Some(refuse.reason),
                    _ => None,
                };
                sender.handle_disconnected();
                surroundings.counters.connected.store(false, Ordering::Relaxed);
                link.close().await;
                if found.is_some() {
                    tracing::info!("going on over QUIC");
                    connector.prefer_quic();
                    continue;
                }
                match follow(ended, spool, counters) {
                    Next::Stop => return Ok(()),
                    Next::Restart(fatal) => return Err(fatal),
                    Next::Again { least } => wait = least,
                }
            }
        }
        if let Some(reason) = refused {
            let healed = tokio::select! {
                healed = heal(reason, &mut connector, keeper, counters) => healed,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            };
            if healed {
                backoff.reset();
                continue;
            }
        }
        let jitter = backoff.next_delay((surroundings.random)());
        let delay = wait.map_or(jitter, |wait| wait + jitter.min(wait));
        tracing::debug!(?delay, "trying again");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// What follows the end of a session.
#[derive(Debug)]
pub enum Next {
    /// Nothing: the agent stops.
    Stop,
    /// Only a new start of the agent can heal it.
    Restart(Fatal),
    /// Another attempt, after the jittered delay and at least this.
    Again {
        /// The least wait.
        least: Option<Duration>,
    },
}

/// Decides what follows the end of a session, and notes what the next start has to know.
#[must_use]
pub fn follow(ended: Ended, spool: &Shared, counters: &Counters) -> Next {
    match ended {
        Ended::Stopped => Next::Stop,
        // Reading cannot be healed here; noting a claim can.
        Ended::Spool(error @ (ReadError::Disk { .. } | ReadError::Damaged { .. })) => Next::Restart(error.into()),
        Ended::Sender(SenderError::Behind { mark, .. }) => Next::Restart(behind(spool, mark)),
        Ended::Refused(refuse) => {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            tracing::error!(reason = refuse.reason.name(), expected_after = %refuse.expected_after, retry_after_s = refuse.retry_after_s,
                what_to_do = what_to_do(refuse.reason), "the aggregator refused the session");
            if refuse.reason == RefuseReason::StaleEpoch {
                return Next::Restart(behind(spool, refuse.expected_after));
            }
            let least = match (refuse.retry_after_s, refuse.reason) {
                (0, RefuseReason::Superseded | RefuseReason::Cloned) => Some(SUPERSEDED_WAIT),
                (0, _) => None,
                (seconds, _) => Some(Duration::from_secs(u64::from(seconds.min(3600)))),
            };
            Next::Again { least }
        }
        other => {
            tracing::warn!(reason = %other, "the session ended");
            Next::Again { least: None }
        }
    }
}

fn behind(spool: &Shared, mark: Mark) -> Fatal {
    if let Err(error) = spool.fall_behind(mark) {
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
        RefuseReason::Cloned => {
            "find the second machine that runs a copy of this one's state folder: give it a folder and an identity of its own"
        }
        RefuseReason::Superseded => "find the second machine with this device's identity: one of them needs its own",
    }
}
