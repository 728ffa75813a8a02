//! What a connection passes whatever carries it, QUIC or TCP: how many there may be, who it is, what its end is called.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::certificate;
use driftglass_protocol::session::{Refuse, RefuseReason};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::clock::now;
use crate::config::Quic;
use crate::configurator::Configurator;
use crate::identity::{IdentityError, KeyId, device_of};
use crate::ingest::{Connections, Ended, Registration, Rejection, Share, Shares};
use crate::metrics::Metrics;
use crate::registrar::Registrar;
use crate::writer::Writer;

/// Handshakes at once; each costs half a millisecond of CPU, so this many are about a second of one core.
const HANDSHAKES_MAX: usize = 2_048;
/// Of these, the share of one network.
const HANDSHAKES_OF_A_NETWORK: usize = 512;
/// From this many handshakes in flight, in all or from one network, a peer must first prove that its address is its own (where the
/// transport has not done that already); it costs it one round trip.
const PROOF_FROM: usize = 256;
const PROOF_FROM_OF_A_NETWORK: usize = 64;
/// Enrolments and renewals of expired certificates judged at once: strangers can ask, and must not crowd out who delivers.
const ENROLMENTS_MAX: usize = 64;
/// When a device that cannot be judged now should try again.
const RETRY_AFTER_S: u32 = 5;
/// How often a crowd is mentioned in the log; every case is counted.
const MENTION_EVERY_MS: i64 = 10_000;

/// Application codes of a closed connection; agents log them, and act on the messages before them.
pub(super) mod code {
    pub(in crate::host) const FINISHED: u32 = 0;
    pub(in crate::host) const REJECTED: u32 = 1;
    pub(in crate::host) const STOPPED: u32 = 2;
}

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) writer: Writer,
    pub(super) metrics: Arc<Metrics>,
    pub(super) connections: Arc<Connections>,
    pub(super) registrar: Arc<Registrar>,
    pub(super) configurator: Arc<Configurator>,
    pub(super) trust_domain: String,
    pub(super) enrolments: Semaphore,
    pub(super) room: Room,
}

/// Places for enrolments.
pub(super) fn enrolments() -> Semaphore {
    Semaphore::new(ENROLMENTS_MAX)
}

/// How many connections and handshakes there may be, in all and from one network.
#[derive(Debug)]
pub(super) struct Room {
    connections: Arc<Semaphore>,
    of_a_network: Arc<Shares>,
    handshakes: Arc<Semaphore>,
    handshakes_of_a_network: Arc<Shares>,
    mentioned: AtomicI64,
}

/// A connection's place, given up when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _connection: OwnedSemaphorePermit,
    _share: Share,
    /// Held until the handshake is over.
    handshake: Mutex<Option<(OwnedSemaphorePermit, Share)>>,
}

impl Place {
    /// The handshake is over.
    pub(super) fn established(&self) {
        self.handshake.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Room {
    pub(super) fn new(limits: Quic) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            of_a_network: Shares::new(limits.max_connections_per_network),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            handshakes_of_a_network: Shares::new(HANDSHAKES_OF_A_NETWORK),
            mentioned: AtomicI64::new(0),
        }
    }

    /// Whether who comes now should prove first that its address is its own.
    pub(super) fn is_crowded(&self, address: IpAddr) -> bool {
        HANDSHAKES_MAX.saturating_sub(self.handshakes.available_permits()) >= PROOF_FROM
            || self.handshakes_of_a_network.held(address) >= PROOF_FROM_OF_A_NETWORK
    }

    /// A place; `None` where there is none, which is counted.
    pub(super) fn take(&self, address: IpAddr, metrics: &Metrics) -> Option<Place> {
        let place = self.place(address);
        if let Err(what) = place {
            metrics.reject(Rejection::Overload);
            let (now, before) = (now().0, self.mentioned.load(Ordering::Relaxed));
            if now.saturating_sub(before) >= MENTION_EVERY_MS {
                self.mentioned.store(now, Ordering::Relaxed);
                tracing::warn!(%address, "refused: too many {what}");
            }
        }
        place.ok()
    }

    fn place(&self, address: IpAddr) -> Result<Place, &'static str> {
        let all = |places: &Arc<Semaphore>, what| Arc::clone(places).try_acquire_owned().map_err(|_| what);
        let connection = all(&self.connections, "connections")?;
        let share = self.of_a_network.take(address).ok_or("connections from one network")?;
        let handshake = all(&self.handshakes, "handshakes")?;
        let of_a_network = self.handshakes_of_a_network.take(address).ok_or("handshakes from one network")?;
        let handshake = Mutex::new(Some((handshake, of_a_network)));
        Ok(Place { _connection: connection, _share: share, handshake })
    }
}

/// Waits until the service is to stop.
pub(super) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|&stop| stop).await);
}

/// What a connection's verified certificate says.
#[derive(Clone, Debug)]
pub(super) struct Peered {
    pub(super) device: DeviceId,
    pub(super) key: KeyId,
    /// By the aggregator's clock; such a certificate is good for its own renewal only.
    pub(super) expired: bool,
}

/// Who a verified chain belongs to.
pub(super) fn identify(chain: &[CertificateDer<'_>], trust_domain: &str) -> Result<Peered, IdentityError> {
    let device = device_of(chain, trust_domain)?;
    let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
    let key = KeyId::of_certificate(leaf).ok_or(IdentityError::NoCertificate)?;
    // One whose end cannot be read has none that we could rely on.
    let expired = certificate::validity(leaf).is_none_or(|validity| now() > UnixMillis(validity.not_after.0 + 999));
    Ok(Peered { device, key, expired })
}

/// Counts a handshake that led nowhere.
pub(super) fn failed_handshake(shared: &Shared, address: SocketAddr, error: &str) {
    tracing::info!(%address, reason = Rejection::Handshake.name(), "no connection: {error}");
    shared.metrics.reject(Rejection::Handshake);
}

/// The connection's place in the table, where the device may speak; otherwise the refusal to send.
pub(super) async fn admit<'a>(
    peered: &Peered,
    address: SocketAddr,
    shared: &'a Shared,
) -> Result<Registration<'a>, (Rejection, Refuse)> {
    let Peered { device, key, expired } = peered;
    match shared.registrar.admit(device, *key, *expired).await {
        Ok(registration) => {
            tracing::info!(%device, %address, "connected");
            Ok(registration)
        }
        Err(reason) => {
            let rejection = Rejection::from(reason);
            tracing::warn!(%device, %address, reason = rejection.name(), "connection refused");
            shared.metrics.reject(rejection);
            let retry_after_s = if reason == RefuseReason::Unavailable { RETRY_AFTER_S } else { 0 };
            Err((rejection, Refuse { reason, expected_after: Mark::default(), retry_after_s }))
        }
    }
}

/// Notes that a certificate names no device of ours.
pub(super) fn unidentified(error: &IdentityError, address: SocketAddr, shared: &Shared) {
    tracing::warn!(%address, reason = Rejection::Identity.name(), "connection refused: {error}");
    shared.metrics.reject(Rejection::Identity);
}

/// Notes how a session ended; returns the code and the words to close its connection with.
pub(super) fn close_with(
    ended: &Ended,
    device: &DeviceId,
    address: SocketAddr,
    shared: &Shared,
) -> (u32, &'static str) {
    match ended {
        Ended::Finished => {
            tracing::info!(%device, %address, "disconnected by the agent");
            (code::FINISHED, "finished")
        }
        Ended::Lost { detail } => {
            tracing::info!(%device, %address, "connection lost: {detail}");
            (code::FINISHED, "lost")
        }
        Ended::Stopped(stop) => {
            tracing::info!(%device, %address, "connection ended: {stop:?}");
            (code::STOPPED, "stopped")
        }
        Ended::Rejected { reason, offset, detail } => {
            tracing::warn!(%device, %address, reason = reason.name(), offset, "session refused: {detail}");
            shared.metrics.reject(*reason);
            (code::REJECTED, reason.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Target;

    #[test]
    fn one_network_cannot_take_every_place_and_what_is_given_up_is_free_again() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = Quic { listen, max_connections: 4, max_connections_per_network: 3, segmentation_offload: true };
        let room = Room::new(limits);
        let metrics = Metrics::new(Target::fixed(0.05)).expect("metrics");
        let (near, far) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 1, 1]));
        let mut held: Vec<Place> = (0..3).filter_map(|_| room.take(near, &metrics)).collect();
        assert_eq!(held.len(), 3);
        assert!(room.take(near, &metrics).is_none(), "its share is taken");
        held.extend(room.take(far, &metrics));
        assert_eq!(held.len(), 4, "another network has its own");
        assert!(room.take(IpAddr::from([10, 0, 2, 1]), &metrics).is_none(), "there are no more");
        held.clear();
        assert!(room.take(near, &metrics).is_some());
    }

    #[test]
    fn handshakes_of_one_network_make_it_prove_its_addresses_before_others_have_to() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits =
            Quic { listen, max_connections: 5_000, max_connections_per_network: 5_000, segmentation_offload: true };
        let room = Room::new(limits);
        let metrics = Metrics::new(Target::fixed(0.05)).expect("metrics");
        let (near, far) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 1, 1]));
        let held: Vec<Place> = (0..HANDSHAKES_OF_A_NETWORK).filter_map(|_| room.take(near, &metrics)).collect();
        assert!(room.is_crowded(near) && room.take(near, &metrics).is_none());
        assert!(room.is_crowded(far), "so many make a crowd for everybody");
        for place in held.iter().skip(PROOF_FROM_OF_A_NETWORK) {
            place.established();
        }
        assert!(room.is_crowded(near) && !room.is_crowded(far));
        for place in &held {
            place.established();
        }
        assert!(!room.is_crowded(near), "connections that stand are no handshakes");
    }
}
