//! Copies of the database, taken while it is written to, and what is done to a copy before it is used again.
//!
//! Must hold: a copy is one moment of the database, whole transactions only; taking it neither stops the writer nor changes anything.

use std::path::Path;

use driftglass_protocol::unit::UnixMillis;
use rusqlite::{Connection, OpenFlags};

use super::{BUSY, EmbeddedStore, create_private, failed, schema};
use crate::store::StoreError;

/// Bytes that the database has, as its own header says; a copy is not larger.
///
/// # Errors
/// [`StoreError`], one variant per cause.
pub fn size(database: &Path) -> Result<u64, StoreError> {
    let doing = "reading the size of the database";
    let connection = open(database)?;
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed(doing));
    let bytes = number("page_count")?.saturating_mul(number("page_size")?);
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Copies the database into a new file, readable by its owner only. Space that deleted rows have left is not copied, nor what was in
/// it.
///
/// # Errors
/// [`StoreError`], one variant per cause; the new file then holds nothing of use.
pub fn copy(database: &Path, to: &Path) -> Result<(), StoreError> {
    let doing = "copying the database";
    let connection = open(database)?;
    create_private(to)?;
    let name = to.to_str().ok_or_else(|| StoreError::File {
        path: to.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path is not UTF-8"),
    })?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(failed(doing))?;
    Ok(())
}

/// Reads a whole copy and compares its pages, tables and indices with each other. Returns the version of its tables.
///
/// # Errors
/// [`StoreError::Damaged`], [`StoreError::Foreign`] and [`StoreError::Newer`] where it is not to be relied on, otherwise
/// [`StoreError::Engine`].
pub fn check(database: &Path) -> Result<usize, StoreError> {
    let doing = "checking the copy";
    let connection = open(database)?;
    let found: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed(doing))?;
    if found != schema::APPLICATION_ID {
        return Err(StoreError::Foreign { path: database.to_owned(), found });
    }
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed(doing))?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > schema::STEPS.len() {
        return Err(StoreError::Newer { found: version, known: schema::STEPS.len() });
    }
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0)).map_err(failed(doing))?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { what: "the database", detail: verdict });
    }
    Ok(version)
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let doing = "opening the database for reading";
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed(doing))?;
    connection.busy_timeout(BUSY).map_err(failed(doing))?;
    Ok(connection)
}

impl EmbeddedStore {
    /// Makes worthless every token that nobody has redeemed yet. Returns how many. An older copy does not know which of them have been
    /// redeemed since.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn void_tokens(&mut self, now: UnixMillis) -> Result<usize, StoreError> {
        let sql = "UPDATE tokens SET expires_at = ?1 WHERE used_by IS NULL AND expires_at > ?1";
        self.connection.execute(sql, [now.0]).map_err(failed("voiding tokens"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::FILE_NAME;
    use super::super::fixture::{NOW, device};
    use super::*;
    use crate::store::{Batch, Registry, Store};

    #[test]
    fn a_copy_taken_amid_a_transaction_has_all_that_was_committed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = EmbeddedStore::open(folder.path()).expect("opens");
        let mut batch = store.begin().expect("begins");
        batch.register(&device("before"), NOW).expect("written");
        batch.commit().expect("commits");
        let mut batch = store.begin().expect("begins");
        batch.register(&device("after"), NOW).expect("written");

        let (database, to) = (folder.path().join(FILE_NAME), folder.path().join("copy.db"));
        assert!(size(&database).expect("read") > 0);
        copy(&database, &to).expect("copied while a transaction is open");
        batch.commit().expect("the writer was not disturbed");
        assert_eq!(check(&to).expect("whole"), schema::STEPS.len());
        assert_eq!(std::fs::metadata(&to).expect("there").permissions().mode() & 0o777, 0o600);

        let other = tempfile::tempdir().expect("folder");
        std::fs::rename(&to, other.path().join(FILE_NAME)).expect("moved");
        let mut copied = EmbeddedStore::open(other.path()).expect("opens");
        let batch = copied.begin().expect("begins");
        assert!(batch.knows(&device("before")).expect("read"));
        assert!(!batch.knows(&device("after")).expect("read"));
    }

    #[test]
    fn what_is_not_a_database_of_ours_or_a_damaged_one_is_found_out() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("some.db");
        std::fs::write(&path, b"this is no database, whatever its name says").expect("written");
        assert!(matches!(check(&path), Err(StoreError::Engine { .. })));
        std::fs::remove_file(&path).expect("removed");
        Connection::open(&path).and_then(|other| other.execute_batch("CREATE TABLE a (b)")).expect("made");
        assert!(matches!(check(&path), Err(StoreError::Foreign { found: 0, .. })));

        drop(EmbeddedStore::open(folder.path()).expect("opens"));
        let (database, to) = (folder.path().join(FILE_NAME), folder.path().join("copy.db"));
        copy(&database, &to).expect("copied");
        let whole = std::fs::read(&to).expect("read");
        std::fs::write(&to, [&whole[..4096], &vec![0xff; whole.len() - 4096][..]].concat()).expect("written");
        let found = check(&to);
        assert!(matches!(found, Err(StoreError::Damaged { .. } | StoreError::Engine { .. })), "{found:?}");
        std::fs::write(&to, &whole).expect("written");
        Connection::open(&to).and_then(|newer| newer.pragma_update(None, "user_version", 99)).expect("changed");
        assert!(matches!(check(&to), Err(StoreError::Newer { found: 99, .. })));
    }

    #[test]
    fn only_tokens_that_nobody_has_redeemed_lose_their_worth() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = EmbeddedStore::open(folder.path()).expect("opens");
        let mut batch = store.begin().expect("begins");
        let late = UnixMillis(NOW.0 + 100);
        for (hash, name) in [([1; 32], "open"), ([2; 32], "used")] {
            batch.insert_token(&hash, &device(name), late, NOW).expect("written");
        }
        batch.use_token(&[2; 32], crate::identity::KeyId([3; 32]), NOW).expect("written");
        batch.commit().expect("commits");
        assert_eq!(store.void_tokens(NOW).expect("written"), 1);
        let batch = store.begin().expect("begins");
        let expiry = |hash| batch.token(&hash).expect("read").map(|token| token.expires_at);
        assert_eq!((expiry([1; 32]), expiry([2; 32])), (Some(NOW), Some(late)));
    }
}
