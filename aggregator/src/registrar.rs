//! Everything that changes an identity or asks for one: tokens, enrolment, renewal, admission, revocation.
//!
//! Must hold: a decision and what follows from it are one transaction of the writer; a certificate leaves only after its registration
//! is durable; a revocation is durable before the connection it ends is told; neither a token's secret nor any private key is logged
//! or stored.
//!
//! Deliberately absent: sockets and HTTP (they call this), the decisions themselves ([`crate::identity::registry`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::{DenyReason, Secret, Token};
use driftglass_protocol::session::RefuseReason;
use driftglass_protocol::unit::UnixMillis;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use crate::identity::authority::{Authority, Serial, Term};
use crate::identity::registry::{Applicant, Enrolment, Issuance, judge_connection, judge_enrolment, judge_renewal};
use crate::identity::{DeviceKey, KeyId, sha256};
use crate::ingest::{Connections, Registration};
use crate::store::IdentityAction;
use crate::writer::{Writer, WriterError};

/// How often admission is asked for again because somebody was revoked meanwhile, before the device is told to come back later.
const ADMISSIONS_MAX: u32 = 8;

/// Where time and randomness come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// The aggregator's clock.
    pub clock: fn() -> UnixMillis,
    /// 128 random bits fit for secrets; `None` where the system has none.
    pub random: fn() -> Option<[u8; 16]>,
}

/// Why an operator's wish cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RegistrarError {
    /// The authority is somebody else's.
    #[error(
        "this aggregator issues no certificates: its authority is the one in identity/ca.pem, and devices get theirs from whoever runs it"
    )]
    Foreign,
    /// No such device.
    #[error("no such device is known")]
    Unknown,
    /// A revoked key cannot be reinstated.
    #[error("the device's key has been revoked for good: create a token and enrol it again")]
    KeyRevoked,
    /// The device is not revoked.
    #[error("the device is not revoked")]
    NotRevoked,
    /// The store does not answer.
    #[error("the store cannot be written now")]
    Unavailable,
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl From<WriterError> for RegistrarError {
    fn from(_: WriterError) -> Self {
        Self::Unavailable
    }
}

/// A certificate and everything a device needs with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The device's certificate.
    pub certificate: CertificateDer<'static>,
    /// The authorities that an aggregator may be certified by, newest first.
    pub authorities: Vec<CertificateDer<'static>>,
    /// When the certificate expires.
    pub expires_at: UnixMillis,
}

/// The service.
#[derive(Debug)]
pub struct Registrar {
    /// Taken away when the service stops: HTTP connections that linger must not keep the writer alive.
    writer: Mutex<Option<Writer>>,
    authority: Option<Arc<Authority>>,
    connections: Arc<Connections>,
    lifetime: Duration,
    sources: Sources,
}

impl Registrar {
    /// `authority` is ours, where there is one; `lifetime` is that of devices' certificates.
    #[must_use]
    pub fn new(
        writer: Writer,
        authority: Option<Arc<Authority>>,
        connections: Arc<Connections>,
        lifetime: Duration,
        sources: Sources,
    ) -> Self {
        Self { writer: Mutex::new(Some(writer)), authority, connections, lifetime, sources }
    }

    /// From now on everything is [`RegistrarError::Unavailable`].
    pub fn close(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn writer(&self) -> Result<Writer, WriterError> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(WriterError::Gone)
    }

    const fn issuance(&self) -> Issuance {
        if self.authority.is_some() { Issuance::Own } else { Issuance::Foreign }
    }

    /// Makes a token for a device. The token is in the answer and nowhere else.
    ///
    /// # Errors
    /// One variant of [`RegistrarError`] per cause.
    pub async fn create_token(&self, device: &DeviceId, ttl: Duration) -> Result<(Token, UnixMillis), RegistrarError> {
        let authority = self.authority.as_ref().ok_or(RegistrarError::Foreign)?;
        let secret = (self.sources.random)().ok_or(RegistrarError::Random)?;
        let (hash, device) = (sha256(&secret), device.clone());
        let expires_at = self
            .writer()?
            .identities(move |registry, now| {
                let expires_at = Term::new(now, ttl).end();
                registry.insert_token(&hash, &device, expires_at, now)?;
                registry.note(&device, IdentityAction::TokenCreated, "", now)?;
                tracing::info!(%device, ttl_s = ttl.as_secs(), "a token was made for this device");
                Ok(expires_at)
            })
            .await?;
        Ok((Token { secret: Secret(secret), fingerprint: authority.fingerprint() }, expires_at))
    }

    /// Enrols a device that brings a token's secret and a request signed with its key.
    ///
    /// # Errors
    /// Why not.
    pub async fn enrol(&self, device: DeviceId, secret: Secret, request: &[u8]) -> Result<Certified, DenyReason> {
        let authority = self.authority.as_ref().ok_or(DenyReason::Unsupported)?;
        let key = proven(&device, request)?;
        let (hash, id, lifetime, named) = (sha256(&secret.0), key.id(), self.lifetime, device.clone());
        let judged = self
            .writer()
            .map_err(|_| DenyReason::Unavailable)?
            .identities(move |registry, now| {
                let applicant = Applicant { device, key: id, key_revoked: registry.is_revoked(id)? };
                let token = registry.token(&hash)?;
                let registered = registry.registered(&applicant.device)?;
                let enrolment = match judge_enrolment(token.as_ref(), &applicant, registered, now) {
                    Ok(enrolment) => enrolment,
                    Err(reason) => return Ok(Err(reason)),
                };
                let device = &applicant.device;
                registry.use_token(&hash, id, now)?;
                registry.set_key(device, id, now)?;
                let term = Term::new(now, lifetime);
                registry.set_expiry(device, term.end())?;
                match enrolment {
                    Enrolment::Repeated => {}
                    Enrolment::First => {
                        registry.note(device, IdentityAction::Enrolled, &format!("key {id}"), now)?;
                    }
                    Enrolment::Replaced(before) => {
                        let detail = format!("key {id} instead of {before}");
                        registry.note(device, IdentityAction::KeyReplaced, &detail, now)?;
                    }
                }
                Ok(Ok((enrolment, term)))
            })
            .await
            .map_err(|_| DenyReason::Unavailable)?;
        let (enrolment, term) = judged?;
        if let Enrolment::Replaced(before) = enrolment {
            tracing::warn!(device = %named, key = %id, %before, "the device has enrolled with another key; the one before counts no longer");
            // Whoever is connected with the key before is that device no more.
            self.connections.revoke(&named);
        } else {
            tracing::info!(device = %named, key = %id, "the device has enrolled");
        }
        self.certify(authority, &named, &key, term)
    }

    /// Certifies once more the key of a device whose connection was certified with `certified`.
    ///
    /// # Errors
    /// Why not.
    pub async fn renew(&self, device: &DeviceId, certified: KeyId, request: &[u8]) -> Result<Certified, DenyReason> {
        let authority = self.authority.as_ref().ok_or(DenyReason::Unsupported)?;
        let key = proven(device, request)?;
        let (requested, lifetime, named) = (key.id(), self.lifetime, device.clone());
        let judged = self
            .writer()
            .map_err(|_| DenyReason::Unavailable)?
            .identities(move |registry, now| {
                if let Err(reason) = judge_renewal(registry.registered(&named)?, certified, requested) {
                    return Ok(Err(reason));
                }
                let term = Term::new(now, lifetime);
                registry.set_expiry(&named, term.end())?;
                Ok(Ok(term))
            })
            .await
            .map_err(|_| DenyReason::Unavailable)?;
        let certified = self.certify(authority, device, &key, judged?)?;
        tracing::info!(%device, key = %requested, "the device has renewed its certificate");
        Ok(certified)
    }

    /// Enters the connection of a device into the table, where the device may speak; it counts as the device's once its greeting is
    /// accepted.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn admit(&self, device: &DeviceId, key: KeyId, expired: bool) -> Result<Registration<'_>, RefuseReason> {
        for _ in 0..ADMISSIONS_MAX {
            let revision = self.connections.revision();
            let (issuance, named) = (self.issuance(), device.clone());
            self.writer()
                .map_err(|_| RefuseReason::Unavailable)?
                .identities(move |registry, _| {
                    let registered = registry.registered(&named)?;
                    Ok(judge_connection(issuance, registered, key, registry.is_revoked(key)?, expired))
                })
                .await
                .map_err(|_| RefuseReason::Unavailable)??;
            if let Some(registration) = self.connections.register_if(device.clone(), revision) {
                return Ok(registration);
            }
        }
        Err(RefuseReason::Unavailable)
    }

    /// Revokes a device and its key, and ends its connection. Returns whether it had one.
    ///
    /// # Errors
    /// [`RegistrarError::Unknown`], [`RegistrarError::Unavailable`].
    pub async fn revoke(&self, device: &DeviceId, note: String) -> Result<bool, RegistrarError> {
        let named = device.clone();
        let known = self
            .writer()?
            .identities(move |registry, now| {
                if !registry.knows(&named)? {
                    return Ok(false);
                }
                registry.revoke(&named, now)?;
                registry.note(&named, IdentityAction::Revoked, &note, now)?;
                Ok(true)
            })
            .await?;
        if !known {
            return Err(RegistrarError::Unknown);
        }
        let connected = self.connections.revoke(device);
        tracing::warn!(%device, connected, "the device has been revoked");
        Ok(connected)
    }

    /// Lets a device speak again whose certificates come from elsewhere.
    ///
    /// # Errors
    /// One variant of [`RegistrarError`] per cause.
    pub async fn reinstate(&self, device: &DeviceId, note: String) -> Result<(), RegistrarError> {
        let named = device.clone();
        self.writer()?
            .identities(move |registry, now| {
                let registered = registry.registered(&named)?;
                if !registry.knows(&named)? {
                    return Ok(Err(RegistrarError::Unknown));
                }
                if registered.revoked_at.is_none() {
                    return Ok(Err(RegistrarError::NotRevoked));
                }
                if registered.key.is_some() {
                    return Ok(Err(RegistrarError::KeyRevoked));
                }
                registry.reinstate(&named)?;
                registry.note(&named, IdentityAction::Reinstated, &note, now)?;
                Ok(Ok(()))
            })
            .await??;
        tracing::warn!(%device, "the device has been reinstated");
        Ok(())
    }

    fn certify(
        &self,
        authority: &Authority,
        device: &DeviceId,
        key: &DeviceKey,
        term: Term,
    ) -> Result<Certified, DenyReason> {
        let serial: Serial = (self.sources.random)().ok_or(DenyReason::Unavailable)?;
        match authority.certify_device(device, key, term, serial) {
            Ok(certificate) => {
                let authorities = authority.trusted().cloned().collect();
                Ok(Certified { certificate, authorities, expires_at: term.end() })
            }
            Err(error) => {
                tracing::error!(%device, %error, "no certificate could be made");
                Err(DenyReason::Unavailable)
            }
        }
    }

    /// The aggregator's clock.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        (self.sources.clock)()
    }
}

fn proven(device: &DeviceId, request: &[u8]) -> Result<DeviceKey, DenyReason> {
    DeviceKey::from_request(request).map_err(|error| {
        tracing::info!(%device, "no certificate: {error}");
        DenyReason::Request
    })
}
