//! The store on the machine itself: SQLite, one file, one writer.
//!
//! Must hold: write-ahead log with `synchronous = FULL`, so a commit has been fsynced when it returns; the file is readable by its
//! owner only; a second aggregator on the same file is refused (a lock on a file beside it, released by the system when the process
//! ends, however it ends).

mod batch;
mod configuration;
#[cfg(test)]
pub(crate) mod fixture;
mod read;
mod registry;
mod schema;
pub mod snapshot;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod versions;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftglass_protocol::id::{CameraId, DeviceId, Name};
use driftglass_protocol::wire::{Body, Record, parse_frame};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior};

pub use batch::EmbeddedBatch;
pub use configuration::{ConfigurationRow, DeviceConfiguration, ReportedConfiguration};
pub use read::{
    AlertCount, AlertFilter, AlertRecord, BaselineMoveRow, BaselineVersion, Camera, Device, FleetTotals, PAGE_MAX,
    Page, Reader, Site, WINDOWS_MAX,
};
pub use registry::{IdentityEvent, TokenRow};

use super::{Saved, Store, StoreError};
use crate::alert::Alert;
use crate::decision::CountedWindow;

/// Name of the database within the data folder.
pub const FILE_NAME: &str = "driftglass.db";

/// How long to wait for a lock; only a copy being taken by another program can hold one for long.
const BUSY: Duration = Duration::from_secs(5);
/// Statements kept compiled; more than there are.
const STATEMENTS: usize = 64;

/// The write side of the embedded store.
#[derive(Debug)]
pub struct EmbeddedStore {
    connection: Connection,
    path: PathBuf,
    _lock: FolderLock,
}

/// Says that this process, and no other, works on a data folder; released by the system when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "held for its lock")] File);

impl FolderLock {
    /// Takes the lock of a folder, which must exist.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where somebody else has it, [`StoreError::File`] where it cannot be had.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("driftglass.lock");
        let file_error = |source| StoreError::File { path: path.clone(), source };
        let file = private().truncate(false).open(&path).map_err(file_error)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(file_error(source)),
        }
    }
}

impl EmbeddedStore {
    /// Opens the store in `folder`, which must exist; creates or migrates it as needed.
    ///
    /// # Errors
    /// [`StoreError`], one variant per cause.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        // Before the database is touched: closing any other handle of an open SQLite file drops SQLite's own locks on it.
        let lock = FolderLock::take(folder)?;
        create_private(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let doing = "opening the database";
        let mut connection = Connection::open_with_flags(&path, flags).map_err(failed(doing))?;
        connection.busy_timeout(BUSY).map_err(failed(doing))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let found: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed(doing))?;
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(failed(doing))?;
        if found != schema::APPLICATION_ID && !(found == 0 && tables == 0) {
            return Err(StoreError::Foreign { path, found });
        }
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(failed("switching to a write-ahead log"))?;
        if mode != "wal" {
            return Err(StoreError::Damaged { what: "the journal mode", detail: mode });
        }
        for (name, value) in [
            ("synchronous", "FULL"),
            ("foreign_keys", "ON"),
            ("cache_size", "-32768"),           // KiB
            ("wal_autocheckpoint", "4096"),     // pages
            ("journal_size_limit", "67108864"), // bytes; a log that grew under a long read shrinks again
        ] {
            connection.pragma_update(None, name, value).map_err(failed("configuring the database"))?;
        }
        // A plan is made once, not again for every value that it is asked with: that took a tenth of the writer's time.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(failed("configuring the database"))?;
        schema::migrate(&mut connection, schema::STEPS)?;
        Ok(Self { connection, path, _lock: lock })
    }

    /// The version of the tables that this release writes.
    #[must_use]
    pub const fn newest_version() -> usize {
        schema::STEPS.len()
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A read-only companion for the HTTP interface.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.path.clone())
    }
}

impl Store for EmbeddedStore {
    type Batch<'a> = EmbeddedBatch<'a>;

    fn begin(&mut self) -> Result<EmbeddedBatch<'_>, StoreError> {
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map(EmbeddedBatch::new)
            .map_err(failed("beginning a transaction"))
    }

    fn restore(&mut self, each: &mut dyn FnMut(Saved)) -> Result<(), StoreError> {
        let doing = "reading the state of the cameras";
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT d.site, d.device, c.camera, s.state, b.version, b.baseline
                 FROM camera_states s JOIN cameras c ON c.id = s.camera JOIN devices d ON d.id = c.device
                 LEFT JOIN baselines b ON b.camera = c.id AND b.version = c.baseline
                 ORDER BY d.site, d.device, c.camera",
            )
            .map_err(failed(doing))?;
        let mut rows = statement.query(()).map_err(failed(doing))?;
        while let Some(row) = rows.next().map_err(failed(doing))? {
            let version: Option<u32> = row.get(4).map_err(failed(doing))?;
            let baseline: Option<Vec<u8>> = row.get(5).map_err(failed(doing))?;
            each(Saved::Camera {
                camera: camera_id(row)?,
                state: row.get(3).map_err(failed(doing))?,
                baseline: version.zip(baseline),
            });
        }
        drop(rows);

        let doing = "reading open alerts";
        let mut statement = self
            .connection
            .prepare_cached("SELECT alert FROM alerts WHERE state <> 'resolved' ORDER BY id")
            .map_err(failed(doing))?;
        let mut rows = statement.query(()).map_err(failed(doing))?;
        while let Some(row) = rows.next().map_err(failed(doing))? {
            match alert(&row.get::<_, String>(0).map_err(failed(doing))?) {
                Ok(alert) => each(Saved::Alert(alert)),
                // One unreadable alert must not keep the aggregator from starting; the camera will raise it again.
                Err(error) => tracing::error!(%error, "leaving out an open alert"),
            }
        }
        let last: i64 = self
            .connection
            .query_row("SELECT coalesce(max(id), 0) FROM alerts", (), |row| row.get(0))
            .map_err(failed(doing))?;
        each(Saved::LastAlert(last.cast_unsigned()));
        Ok(())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates the file where it is missing, readable by its owner only; SQLite gives its log the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let file_error = |source| StoreError::File { path: path.to_owned(), source };
    let file = private().truncate(false).open(path).map_err(file_error)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(file_error)?;
    file.sync_all().map_err(file_error)?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error)?;
    }
    Ok(())
}

/// Turns the engine's error into ours, with what was being done.
fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Engine { doing, source: Box::new(source) }
}

fn name(row: &Row<'_>, column: usize) -> Result<Name, StoreError> {
    let text = row.get_ref(column).map_err(failed("reading a name"))?;
    let text = text.as_str().map_err(|error| StoreError::Damaged { what: "a name", detail: error.to_string() })?;
    Name::parse(text).map_err(|error| StoreError::Damaged { what: "a name", detail: error.to_string() })
}

fn device_id(row: &Row<'_>) -> Result<DeviceId, StoreError> {
    Ok(DeviceId { site: name(row, 0)?, device: name(row, 1)? })
}

/// From the columns site, device, camera, which come first.
fn camera_id(row: &Row<'_>) -> Result<CameraId, StoreError> {
    Ok(CameraId { device: device_id(row)?, camera: name(row, 2)? })
}

fn alert(json: &str) -> Result<Alert, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Damaged { what: "an alert", detail: error.to_string() })
}

/// The window in a stored frame; `None` where it does not parse.
fn counted(frame: &[u8]) -> Option<CountedWindow> {
    match Record::parse(parse_frame(frame).ok()?).ok()?.body {
        Body::Summary(summary) => Some(CountedWindow::from(&summary)),
        Body::Tombstone(_) => None,
    }
}
