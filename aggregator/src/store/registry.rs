//! What is kept of identities.

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::unit::UnixMillis;

use super::{Configurations, StoreError};
use crate::identity::KeyId;
use crate::identity::registry::{Registered, StoredToken};

/// Something that happened to an identity, kept for whoever asks later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityAction {
    /// A token was made for the device.
    TokenCreated,
    /// The device has its first key.
    Enrolled,
    /// The device has another key; the one before counts no longer.
    KeyReplaced,
    /// The device may not speak any more.
    Revoked,
    /// The device may speak again.
    Reinstated,
}

impl IdentityAction {
    /// Its name in the store and in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokenCreated => "token-created",
            Self::Enrolled => "enrolled",
            Self::KeyReplaced => "key-replaced",
            Self::Revoked => "revoked",
            Self::Reinstated => "reinstated",
        }
    }
}

/// The part of a transaction that concerns identities, and with them the configuration of those who have one. Hashes are SHA-256; no secret and no private key ever comes here.
pub trait Registry: Configurations {
    /// Whether the device has ever enrolled, greeted or delivered.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn knows(&self, device: &DeviceId) -> Result<bool, StoreError>;

    /// The token whose secret has this hash.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn token(&self, hash: &[u8; 32]) -> Result<Option<StoredToken>, StoreError>;

    /// Keeps a token, and forgets those whose time was over long ago.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn insert_token(
        &mut self,
        hash: &[u8; 32],
        device: &DeviceId,
        expires_at: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), StoreError>;

    /// Notes that a key has redeemed the token.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn use_token(&mut self, hash: &[u8; 32], key: KeyId, now: UnixMillis) -> Result<(), StoreError>;

    /// What is registered for a device; nothing for one never heard of.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn registered(&self, device: &DeviceId) -> Result<Registered, StoreError>;

    /// Whether a key has been revoked, for whatever device.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn is_revoked(&self, key: KeyId) -> Result<bool, StoreError>;

    /// Registers a device with a key; a revocation of the device ends with that.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn set_key(&mut self, device: &DeviceId, key: KeyId, now: UnixMillis) -> Result<(), StoreError>;

    /// Notes how long the certificate just issued to the device is valid.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn set_expiry(&mut self, device: &DeviceId, expires_at: UnixMillis) -> Result<(), StoreError>;

    /// Revokes a known device and the key it has.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn revoke(&mut self, device: &DeviceId, now: UnixMillis) -> Result<(), StoreError>;

    /// Ends the revocation of a device; a key of it that was revoked stays revoked.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn reinstate(&mut self, device: &DeviceId) -> Result<(), StoreError>;

    /// Keeps what happened.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn note(
        &mut self,
        device: &DeviceId,
        action: IdentityAction,
        detail: &str,
        now: UnixMillis,
    ) -> Result<(), StoreError>;
}
