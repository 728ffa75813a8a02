//! The tables, and the way from every version ever shipped to the newest.
//!
//! A step, once shipped, never changes; a new one is appended. Each step runs in a transaction together with its version number, so
//! an interrupted migration continues where it stopped.
//!
//! Unsigned 64-bit numbers are kept as the signed number with the same bits; they are compared for equality only, or stay small.

use rusqlite::{Connection, TransactionBehavior};

use super::failed;
use crate::store::StoreError;

/// Marks the file as ours: "DrGl".
pub(super) const APPLICATION_ID: i32 = 0x4472_476c;

/// Step `n` leads from version `n` to version `n + 1`; an empty file has version 0.
pub(super) const STEPS: &[&str] = &[VERSION_1, IDENTITIES, CONFIGURATIONS, VERDICTS, BASELINES];

const VERSION_1: &str = "
CREATE TABLE devices (
    id              INTEGER PRIMARY KEY,
    site            TEXT    NOT NULL,
    device          TEXT    NOT NULL,
    epoch           INTEGER NOT NULL DEFAULT 0, -- the mark
    sequence        INTEGER NOT NULL DEFAULT 0,
    first_seen      INTEGER NOT NULL,           -- times are milliseconds since 1970, by the aggregator's clock
    last_seen       INTEGER NOT NULL,
    version         TEXT    NOT NULL DEFAULT '',
    hello_epoch     INTEGER,                    -- who greeted last
    hello_instance  INTEGER,
    clock_ahead     INTEGER,                    -- the agent's clock minus ours when it greeted last
    clones          INTEGER NOT NULL DEFAULT 0, -- greetings of another instance in the same epoch
    accepted        INTEGER NOT NULL DEFAULT 0, -- records
    duplicates      INTEGER NOT NULL DEFAULT 0,
    gaps            INTEGER NOT NULL DEFAULT 0,
    overlaps        INTEGER NOT NULL DEFAULT 0,
    lost            INTEGER NOT NULL DEFAULT 0, -- windows that tombstones stand for
    UNIQUE (site, device)
) STRICT;

CREATE TABLE cameras (
    id              INTEGER PRIMARY KEY,
    device          INTEGER NOT NULL REFERENCES devices (id),
    camera          TEXT    NOT NULL,
    frames          INTEGER NOT NULL,           -- totals over all windows ever accepted
    windows         INTEGER NOT NULL,           -- merged ones count as many as they merge
    missing         INTEGER NOT NULL,
    undecodable     INTEGER NOT NULL,
    skipped         INTEGER NOT NULL,
    late            INTEGER NOT NULL,
    last_start      INTEGER,                    -- the newest window, in event time
    last_length     INTEGER,
    last_merged     INTEGER,
    model_name      TEXT,                       -- of the newest window
    model_version   TEXT,
    UNIQUE (device, camera)
) STRICT;

CREATE TABLE windows (
    id              INTEGER PRIMARY KEY,
    camera          INTEGER NOT NULL REFERENCES cameras (id),
    start           INTEGER NOT NULL,           -- event time, milliseconds since 1970
    length          INTEGER NOT NULL,
    merged          INTEGER NOT NULL,
    frames          INTEGER NOT NULL,
    missing         INTEGER NOT NULL,
    undecodable     INTEGER NOT NULL,
    skipped         INTEGER NOT NULL,
    late            INTEGER NOT NULL,
    received        INTEGER NOT NULL,
    damaged         INTEGER NOT NULL DEFAULT 0, -- the frame was found not to parse, and is left out from then on
    frame           BLOB    NOT NULL            -- the whole wire frame, checksum included
) STRICT;
CREATE INDEX windows_of_a_camera ON windows (camera, start);
CREATE INDEX windows_by_age ON windows (start);

CREATE TABLE tombstones (
    id              INTEGER PRIMARY KEY,
    device          INTEGER NOT NULL REFERENCES devices (id),
    epoch           INTEGER NOT NULL,
    first           INTEGER NOT NULL,
    last            INTEGER NOT NULL,
    cause           TEXT    NOT NULL,
    start           INTEGER NOT NULL,
    end             INTEGER NOT NULL,
    received        INTEGER NOT NULL
) STRICT;
CREATE INDEX tombstones_of_a_device ON tombstones (device, start);
CREATE INDEX tombstones_by_age ON tombstones (start);

CREATE TABLE camera_states (
    camera          INTEGER PRIMARY KEY REFERENCES cameras (id),
    state           BLOB    NOT NULL
) STRICT;

CREATE TABLE baselines (
    camera          INTEGER NOT NULL REFERENCES cameras (id),
    version         INTEGER NOT NULL,
    learned_at      INTEGER NOT NULL,
    baseline        BLOB    NOT NULL,
    PRIMARY KEY (camera, version)
) STRICT;

CREATE TABLE alerts (
    id              INTEGER PRIMARY KEY,
    camera          INTEGER NOT NULL REFERENCES cameras (id),
    scope           TEXT    NOT NULL,
    cause           TEXT    NOT NULL,
    severity        TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    first_window    INTEGER NOT NULL,
    raised_at       INTEGER NOT NULL,
    alert           TEXT    NOT NULL            -- all of it as JSON, its history included
) STRICT;
CREATE INDEX alerts_by_state ON alerts (state, raised_at);
CREATE INDEX alerts_of_a_camera ON alerts (camera, raised_at);
";

const IDENTITIES: &str = "
ALTER TABLE devices ADD COLUMN key_hash BLOB;               -- SHA-256 of the public key registered
ALTER TABLE devices ADD COLUMN enrolled_at INTEGER;         -- when that key was
ALTER TABLE devices ADD COLUMN certificate_expires_at INTEGER;
ALTER TABLE devices ADD COLUMN revoked_at INTEGER;

CREATE TABLE tokens (
    hash            BLOB    PRIMARY KEY,        -- SHA-256 of the secret, which is kept nowhere
    site            TEXT    NOT NULL,
    device          TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    used_at         INTEGER,
    used_by         BLOB                        -- SHA-256 of the public key that redeemed it
) STRICT;
CREATE INDEX tokens_by_expiry ON tokens (expires_at);

CREATE TABLE revoked_keys (
    key_hash        BLOB    PRIMARY KEY,
    site            TEXT    NOT NULL,           -- whose it was
    device          TEXT    NOT NULL,
    revoked_at      INTEGER NOT NULL
) STRICT;

CREATE TABLE identity_events (
    id              INTEGER PRIMARY KEY,
    at              INTEGER NOT NULL,
    site            TEXT    NOT NULL,
    device          TEXT    NOT NULL,
    action          TEXT    NOT NULL,
    detail          TEXT    NOT NULL
) STRICT;
";

const CONFIGURATIONS: &str = "
CREATE TABLE configurations (
    version         INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice
    site            TEXT    NOT NULL,           -- empty: every site
    device          TEXT    NOT NULL,           -- empty: every device of the site
    text            TEXT,                       -- null: the one before was withdrawn
    set_at          INTEGER NOT NULL,
    note            TEXT    NOT NULL
) STRICT;
CREATE INDEX configurations_of_a_scope ON configurations (site, device, version);

CREATE TABLE configuration_reports (            -- what a device said last
    device          INTEGER PRIMARY KEY REFERENCES devices (id),
    in_effect       INTEGER NOT NULL,           -- versions
    offered         INTEGER NOT NULL,
    outcome         TEXT    NOT NULL,           -- of the one offered
    restart         INTEGER NOT NULL,
    detail          TEXT    NOT NULL,
    reported_at     INTEGER NOT NULL
) STRICT;
";

const VERDICTS: &str = "
ALTER TABLE alerts ADD COLUMN verdict TEXT;     -- right or false; null where no operator has said
CREATE INDEX alerts_by_time ON alerts (raised_at);
";

const BASELINES: &str = "
ALTER TABLE cameras ADD COLUMN baseline INTEGER;            -- version in force; null while learning
UPDATE cameras SET baseline = (SELECT max(b.version) FROM baselines b WHERE b.camera = cameras.id);
ALTER TABLE baselines ADD COLUMN how TEXT NOT NULL DEFAULT 'learned';       -- it came to be: learned, promoted or frozen
ALTER TABLE baselines ADD COLUMN author TEXT NOT NULL DEFAULT 'driftglass'; -- or the operator's name
ALTER TABLE baselines ADD COLUMN note TEXT NOT NULL DEFAULT '';

CREATE TABLE baseline_moves (                   -- what operators did
    id              INTEGER PRIMARY KEY,
    camera          INTEGER NOT NULL REFERENCES cameras (id),
    at              INTEGER NOT NULL,
    wish            TEXT    NOT NULL,           -- promote, freeze, rollback
    version         INTEGER,                    -- in force from then on; null while learning
    since           INTEGER,                    -- event time, milliseconds since 1970: where learning anew begins
    author          TEXT    NOT NULL,
    note            TEXT    NOT NULL
) STRICT;
CREATE INDEX baseline_moves_of_a_camera ON baseline_moves (camera, id);
";

/// Brings the file to the newest version that `steps` lead to.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), StoreError> {
    let doing = "preparing the tables";
    loop {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(doing))?;
        let version: i64 =
            transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed(doing))?;
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        if version > steps.len() {
            return Err(StoreError::Newer { found: version, known: steps.len() });
        }
        let Some(step) = steps.get(version) else { return Ok(()) };
        transaction.execute_batch(step).map_err(failed(doing))?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed(doing))?;
        let next = i64::try_from(version + 1).unwrap_or(i64::MAX);
        transaction.pragma_update(None, "user_version", next).map_err(failed(doing))?;
        transaction.commit().map_err(failed(doing))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE things (name TEXT NOT NULL); INSERT INTO things VALUES ('kept');";
    const SECOND: &str = "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7;";

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("version")
    }

    #[test]
    fn a_file_of_the_first_version_is_led_to_the_newest_and_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrate(&mut connection, &[FIRST]).expect("creates");
        assert_eq!(version(&connection), 1);
        migrate(&mut connection, &[FIRST, SECOND]).expect("migrates");
        migrate(&mut connection, &[FIRST, SECOND]).expect("has nothing to do");
        assert_eq!(version(&connection), 2);
        let row: (String, i64) = connection
            .query_row("SELECT name, size FROM things", (), |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("one row");
        assert_eq!(row, ("kept".into(), 7));
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrate(&mut connection, &[FIRST]).expect("creates");
        let broken = "ALTER TABLE things ADD COLUMN size INTEGER; DELETE FROM things; SELECT nonsense FROM nowhere;";
        assert!(migrate(&mut connection, &[FIRST, broken]).is_err());
        assert_eq!(version(&connection), 1);
        let rows: i64 = connection.query_row("SELECT count(*) FROM things", (), |row| row.get(0)).expect("count");
        assert_eq!(rows, 1);
        migrate(&mut connection, &[FIRST, SECOND]).expect("a corrected step can follow");
    }

    #[test]
    fn a_file_of_a_newer_release_is_left_alone() {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrate(&mut connection, &[FIRST, SECOND]).expect("creates");
        assert!(matches!(migrate(&mut connection, &[FIRST]), Err(StoreError::Newer { found: 2, known: 1 })));
    }
}
