//! Identities in the embedded store: the write side and the queries for people.

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::unit::UnixMillis;
use rusqlite::{Row, params};

use super::read::{Page, Reader, get};
use super::{EmbeddedBatch, device_id, failed};
use crate::identity::KeyId;
use crate::identity::registry::{Registered, StoredToken};
use crate::store::{Batch, IdentityAction, Registry, StoreError};

/// How long a token is kept after its time, for people who wonder what became of it; in milliseconds.
const KEEP_TOKENS_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// A token without its secret, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The device it is for.
    pub device: DeviceId,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When its time is over.
    pub expires_at: UnixMillis,
    /// When it was redeemed first.
    pub used_at: Option<UnixMillis>,
}

/// Something that happened to an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityEvent {
    /// When, by the aggregator's clock.
    pub at: UnixMillis,
    /// To whom.
    pub device: DeviceId,
    /// What: a name of [`IdentityAction`].
    pub action: String,
    /// What else there is to know.
    pub detail: String,
}

const DEVICE: &str = "site = ?1 AND device = ?2";

impl Registry for EmbeddedBatch<'_> {
    fn knows(&self, device: &DeviceId) -> Result<bool, StoreError> {
        let sql = format!("SELECT 1 FROM devices WHERE {DEVICE}");
        let found: Option<i64> = self.row("looking up a device", &sql, key_of(device), |row| row.get(0))?;
        Ok(found.is_some())
    }

    fn token(&self, hash: &[u8; 32]) -> Result<Option<StoredToken>, StoreError> {
        let doing = "looking up a token";
        let sql = "SELECT site, device, expires_at, used_by FROM tokens WHERE hash = ?1";
        let found = self.row(doing, sql, [hash], |row| {
            Ok(device_id(row).and_then(|device| {
                let expires_at = UnixMillis(row.get(2).map_err(failed(doing))?);
                Ok(StoredToken { device, expires_at, used_by: key_id(row, 3).map_err(failed(doing))? })
            }))
        })?;
        found.transpose()
    }

    fn insert_token(
        &mut self,
        hash: &[u8; 32],
        device: &DeviceId,
        expires_at: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let long_ago = now.0.saturating_sub(KEEP_TOKENS_MS);
        self.execute("forgetting old tokens", "DELETE FROM tokens WHERE expires_at < ?1", [long_ago])?;
        let [site, name] = key_of(device);
        let sql = "INSERT INTO tokens (hash, site, device, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.execute("storing a token", sql, params![hash, site, name, now.0, expires_at.0])?;
        Ok(())
    }

    fn use_token(&mut self, hash: &[u8; 32], key: KeyId, now: UnixMillis) -> Result<(), StoreError> {
        let sql = "UPDATE tokens SET used_by = ?2, used_at = ifnull(used_at, ?3) WHERE hash = ?1";
        self.execute("noting a token as used", sql, params![hash, key.0, now.0])?;
        Ok(())
    }

    fn registered(&self, device: &DeviceId) -> Result<Registered, StoreError> {
        let sql = format!("SELECT key_hash, revoked_at FROM devices WHERE {DEVICE}");
        let found = self.row("looking up an identity", &sql, key_of(device), |row| {
            let revoked_at: Option<i64> = row.get(1)?;
            Ok(Registered { key: key_id(row, 0)?, revoked_at: revoked_at.map(UnixMillis) })
        })?;
        Ok(found.unwrap_or_default())
    }

    fn is_revoked(&self, key: KeyId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM revoked_keys WHERE key_hash = ?1";
        let found: Option<i64> = self.row("looking up a key", sql, [key.0], |row| row.get(0))?;
        Ok(found.is_some())
    }

    fn set_key(&mut self, device: &DeviceId, key: KeyId, now: UnixMillis) -> Result<(), StoreError> {
        self.register(device, now)?;
        let [site, name] = key_of(device);
        let sql = format!("UPDATE devices SET key_hash = ?3, enrolled_at = ?4, revoked_at = NULL WHERE {DEVICE}");
        self.execute("registering a key", &sql, params![site, name, key.0, now.0])?;
        Ok(())
    }

    fn set_expiry(&mut self, device: &DeviceId, expires_at: UnixMillis) -> Result<(), StoreError> {
        let [site, name] = key_of(device);
        let sql = format!("UPDATE devices SET certificate_expires_at = ?3 WHERE {DEVICE}");
        self.execute("noting a certificate", &sql, params![site, name, expires_at.0])?;
        Ok(())
    }

    fn revoke(&mut self, device: &DeviceId, now: UnixMillis) -> Result<(), StoreError> {
        let [site, name] = key_of(device);
        let sql = format!(
            "INSERT OR IGNORE INTO revoked_keys (key_hash, site, device, revoked_at)
             SELECT key_hash, site, device, ?3 FROM devices WHERE {DEVICE} AND key_hash IS NOT NULL"
        );
        self.execute("revoking a key", &sql, params![site, name, now.0])?;
        let sql = format!("UPDATE devices SET revoked_at = ifnull(revoked_at, ?3) WHERE {DEVICE}");
        self.execute("revoking a device", &sql, params![site, name, now.0])?;
        Ok(())
    }

    fn reinstate(&mut self, device: &DeviceId) -> Result<(), StoreError> {
        let sql = format!("UPDATE devices SET revoked_at = NULL WHERE {DEVICE}");
        self.execute("reinstating a device", &sql, key_of(device))?;
        Ok(())
    }

    fn note(
        &mut self,
        device: &DeviceId,
        action: IdentityAction,
        detail: &str,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let [site, name] = key_of(device);
        let sql = "INSERT INTO identity_events (at, site, device, action, detail) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.execute("noting what happened to an identity", sql, params![now.0, site, name, action.name(), detail])?;
        Ok(())
    }
}

impl Reader {
    /// Tokens, the newest first.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn tokens(&self, page: Page) -> Result<Vec<TokenRow>, StoreError> {
        let sql = "SELECT site, device, created_at, expires_at, used_at FROM tokens
                   ORDER BY created_at DESC, rowid DESC LIMIT ?1 OFFSET ?2";
        self.query("listing tokens", sql, params![page.limit(), page.offset()], |row| {
            Ok(TokenRow {
                device: device_id(row)?,
                created_at: UnixMillis(get(row, 2)?),
                expires_at: UnixMillis(get(row, 3)?),
                used_at: get::<Option<i64>>(row, 4)?.map(UnixMillis),
            })
        })
    }

    /// What happened to identities, the newest first.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn identity_events(&self, page: Page) -> Result<Vec<IdentityEvent>, StoreError> {
        let sql = "SELECT site, device, at, action, detail FROM identity_events ORDER BY id DESC LIMIT ?1 OFFSET ?2";
        self.query("listing what happened to identities", sql, params![page.limit(), page.offset()], |row| {
            let (at, action, detail) = (UnixMillis(get(row, 2)?), get(row, 3)?, get(row, 4)?);
            Ok(IdentityEvent { at, device: device_id(row)?, action, detail })
        })
    }
}

fn key_of(device: &DeviceId) -> [&str; 2] {
    [device.site.as_str(), device.device.as_str()]
}

fn key_id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<KeyId>> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(KeyId))
}

#[cfg(test)]
mod tests {
    use super::super::EmbeddedStore;
    use super::super::fixture::{NOW, device};
    use super::*;
    use crate::store::Store;

    const A: KeyId = KeyId([1; 32]);
    const B: KeyId = KeyId([2; 32]);
    const HASH: [u8; 32] = [7; 32];

    #[test]
    fn a_token_is_kept_by_its_hash_and_forgotten_long_after_its_time() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = EmbeddedStore::open(folder.path()).expect("opens");
        let mut batch = store.begin().expect("begins");
        let gateway = device("gw");
        assert_eq!(batch.token(&HASH).expect("read"), None);
        batch.insert_token(&HASH, &gateway, UnixMillis(NOW.0 + 5), NOW).expect("written");
        assert!(batch.insert_token(&HASH, &device("other"), NOW, NOW).is_err(), "a secret that comes twice");
        batch.use_token(&HASH, A, UnixMillis(NOW.0 + 1)).expect("written");
        let expected = StoredToken { device: gateway.clone(), expires_at: UnixMillis(NOW.0 + 5), used_by: Some(A) };
        assert_eq!(batch.token(&HASH).expect("read"), Some(expected));
        batch.commit().expect("commits");

        let used_at = Some(UnixMillis(NOW.0 + 1));
        let row = TokenRow { device: gateway, created_at: NOW, expires_at: UnixMillis(NOW.0 + 5), used_at };
        assert_eq!(store.reader().tokens(Page::default()).expect("read"), [row]);
        let later = UnixMillis(NOW.0 + KEEP_TOKENS_MS + 6);
        let mut batch = store.begin().expect("begins");
        batch.insert_token(&[8; 32], &device("gw"), later, later).expect("written");
        assert_eq!(batch.token(&HASH).expect("read"), None);
    }

    #[test]
    fn a_revoked_key_stays_revoked_when_the_device_comes_back_with_another() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = EmbeddedStore::open(folder.path()).expect("opens");
        let mut batch = store.begin().expect("begins");
        let gateway = device("gw");
        assert_eq!(batch.registered(&gateway).expect("read"), Registered::default());
        assert!(!batch.knows(&gateway).expect("read"));
        batch.set_key(&gateway, A, NOW).expect("written");
        batch.set_expiry(&gateway, UnixMillis(NOW.0 + 9)).expect("written");
        assert!(batch.knows(&gateway).expect("read"));
        assert_eq!(batch.registered(&gateway).expect("read"), Registered { key: Some(A), revoked_at: None });
        batch.revoke(&gateway, NOW).expect("written");
        batch.revoke(&gateway, UnixMillis(NOW.0 + 1)).expect("a second time changes nothing");
        assert_eq!(batch.registered(&gateway).expect("read"), Registered { key: Some(A), revoked_at: Some(NOW) });
        assert!(batch.is_revoked(A).expect("read") && !batch.is_revoked(B).expect("read"));
        batch.set_key(&gateway, B, NOW).expect("written");
        assert_eq!(batch.registered(&gateway).expect("read"), Registered { key: Some(B), revoked_at: None });
        assert!(batch.is_revoked(A).expect("read"));
        batch.note(&gateway, IdentityAction::Revoked, "stolen", NOW).expect("written");
        batch.commit().expect("commits");
        let event =
            IdentityEvent { at: NOW, device: gateway.clone(), action: "revoked".into(), detail: "stolen".into() };
        assert_eq!(store.reader().identity_events(Page::default()).expect("read"), [event]);
        let row = store.reader().device(&gateway).expect("read").expect("known");
        assert_eq!((row.enrolled_at, row.certificate_expires_at), (Some(NOW), Some(UnixMillis(NOW.0 + 9))));
    }
}
