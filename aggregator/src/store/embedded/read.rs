//! Queries for people: pages of bounded size, read beside the writer without disturbing it.
//!
//! Every call blocks; callers on an asynchronous runtime use its blocking pool.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use driftglass_protocol::id::{CameraId, DeviceId, Name};
use driftglass_protocol::summary::{Model, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::Mark;
use rusqlite::{Connection, OpenFlags, Params, Row, named_params, params};
use serde::de::DeserializeOwned;

use super::batch::text;
use super::configuration::{DeviceConfiguration, desired_version, device_configuration};
use super::{BUSY, STATEMENTS, alert, camera_id, counted, device_id, failed, name};
use crate::alert::{Alert, AlertState, Severity};
use crate::decision::{CountedWindow, How};
use crate::store::StoreError;

/// Most rows of one page.
pub const PAGE_MAX: u32 = 1000;
/// Most windows of one answer; a day of minutes fits.
pub const WINDOWS_MAX: u32 = 1500;
/// Connections kept open between calls.
const IDLE_CONNECTIONS: usize = 4;

/// Which rows of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows to leave out at the beginning.
    pub offset: u64,
    /// Rows to return, at most [`PAGE_MAX`]; more are not returned.
    pub limit: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self { offset: 0, limit: 100 }
    }
}

impl Page {
    pub(super) const fn limit(self) -> u32 {
        if self.limit < PAGE_MAX { self.limit } else { PAGE_MAX }
    }

    pub(super) fn offset(self) -> i64 {
        i64::try_from(self.offset).unwrap_or(i64::MAX)
    }
}

/// A site and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub site: Name,
    /// Devices that have ever greeted or delivered.
    pub devices: u64,
    /// Cameras that have ever delivered a window.
    pub cameras: u64,
    /// Frames of all windows.
    pub frames_total: u64,
    /// Alerts that are neither pending nor resolved.
    pub open_alerts: u64,
    /// When any of its devices was heard last, by the aggregator's clock.
    pub last_seen: UnixMillis,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// Everything up to here has been counted.
    pub mark: Mark,
    /// When it was heard first, by the aggregator's clock.
    pub first_seen: UnixMillis,
    /// When it was heard last.
    pub last_seen: UnixMillis,
    /// The agent's version; empty before its first greeting.
    pub version: String,
    /// Milliseconds by which its clock was ahead of ours when it greeted last.
    pub clock_ahead_ms: Option<i64>,
    /// Greetings of another instance in the same epoch: more than 0 means that a copy of the device is about.
    pub clones: u64,
    /// Records counted.
    pub accepted: u64,
    /// Records that came again.
    pub duplicates: u64,
    /// Records refused because others before them were missing.
    pub gaps: u64,
    /// Records refused because part of them had been counted.
    pub overlaps: u64,
    /// Windows that the device says were lost.
    pub lost: u64,
    /// When the key it has was registered; absent where its certificates come from elsewhere.
    pub enrolled_at: Option<UnixMillis>,
    /// When the newest certificate issued to it expires.
    pub certificate_expires_at: Option<UnixMillis>,
    /// When it was revoked, where it is.
    pub revoked_at: Option<UnixMillis>,
    /// How it is set.
    pub configuration: DeviceConfiguration,
}

/// A camera and its totals over everything ever accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Camera {
    /// Which.
    pub id: CameraId,
    /// Frames measured.
    pub frames_total: u64,
    /// Windows; merged ones count as many as they merge.
    pub windows_total: u64,
    /// Frames that never came.
    pub missing_total: u64,
    /// Pictures that could not be decoded.
    pub undecodable_total: u64,
    /// Frames left out by sampling.
    pub skipped_total: u64,
    /// Frames too late for their window.
    pub late_total: u64,
    /// The newest window, in event time.
    pub last_window: Option<Window>,
    /// The model watched in the newest window.
    pub model: Option<Model>,
    /// The version of its baseline in force; none while it learns.
    pub baseline_version: Option<u32>,
    /// Alerts that are neither pending nor resolved.
    pub open_alerts: u64,
}

/// One version of a camera's baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaselineVersion {
    /// From 1.
    pub version: u32,
    /// In event time.
    pub learned_at: UnixMillis,
    /// Whether the camera is held against it.
    pub in_force: bool,
    /// How it came to be.
    pub how: How,
    /// `driftglass`, or the operator's name.
    pub author: String,
    /// What he said; may be empty.
    pub note: String,
}

/// What an operator did to a camera's baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaselineMoveRow {
    /// When, by the aggregator's clock.
    pub at: UnixMillis,
    /// `promote`, `freeze` or `rollback`.
    pub wish: String,
    /// The version in force from then on; none where the camera learned.
    pub version: Option<u32>,
    /// From which window on it learned anew, in event time.
    pub since: Option<UnixMillis>,
    /// Who.
    pub author: String,
    /// What he said; may be empty.
    pub note: String,
}

/// Which alerts; an absent condition holds for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// In this state.
    pub state: Option<AlertState>,
    /// Of a camera at this site.
    pub site: Option<Name>,
    /// Of this camera.
    pub camera: Option<CameraId>,
    /// Raised at this instant or later.
    pub since: Option<UnixMillis>,
}

/// How many alerts there are of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertCount {
    /// The site.
    pub site: Name,
    /// How bad.
    pub severity: Severity,
    /// Where they stand.
    pub state: AlertState,
    /// How many.
    pub count: u64,
}

/// Sums over the fleet, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetTotals {
    /// Devices known.
    pub devices: u64,
    /// Cameras known.
    pub cameras: u64,
    /// Records counted.
    pub accepted: u64,
    /// Records that came again.
    pub duplicates: u64,
    /// Records refused for a gap.
    pub gaps: u64,
    /// Records refused for an overlap.
    pub overlaps: u64,
    /// Windows that devices say were lost.
    pub lost: u64,
}

/// The read side of the embedded store; share it freely.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

const COUNT_OPEN: &str = "state NOT IN ('pending', 'resolved')";

/// What operators said of alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertRecord {
    /// Called right.
    pub right: u32,
    /// Called false.
    pub wrong: u32,
    /// Not judged.
    pub unjudged: u32,
    /// How long sites were watched, added up over sites.
    pub site_time: Duration,
}

impl Reader {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Vec::new()) }
    }

    fn take(&self) -> Result<Connection, StoreError> {
        if let Some(connection) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let doing = "opening the database for reading";
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(failed(doing))?;
        connection.busy_timeout(BUSY).map_err(failed(doing))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    /// Runs one query; a connection that failed is not used again.
    pub(super) fn query<T>(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.take()?;
        let mut answer = Vec::new();
        {
            let mut statement = connection.prepare_cached(sql).map_err(failed(doing))?;
            let mut rows = statement.query(parameters).map_err(failed(doing))?;
            while let Some(row) = rows.next().map_err(failed(doing))? {
                answer.push(read(row)?);
            }
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
        Ok(answer)
    }

    /// Sites, by name.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn sites(&self, page: Page) -> Result<Vec<Site>, StoreError> {
        let sql = format!(
            "SELECT d.site, count(*), max(d.last_seen), sum(c.cameras), sum(c.frames), sum(c.alerts) FROM devices d
             JOIN (SELECT d.id AS device, count(c.id) AS cameras, ifnull(sum(c.frames), 0) AS frames,
                          ifnull(sum((SELECT count(*) FROM alerts WHERE camera = c.id AND {COUNT_OPEN})), 0) AS alerts
                   FROM devices d LEFT JOIN cameras c ON c.device = d.id GROUP BY d.id) c ON c.device = d.id
             GROUP BY d.site ORDER BY d.site LIMIT ?1 OFFSET ?2"
        );
        self.query("listing sites", &sql, params![page.limit(), page.offset()], |row| {
            Ok(Site {
                site: name(row, 0)?,
                devices: count(row, 1)?,
                cameras: count(row, 3)?,
                frames_total: count(row, 4)?,
                open_alerts: count(row, 5)?,
                last_seen: UnixMillis(get(row, 2)?),
            })
        })
    }

    /// Devices, by site and name; all or those of one site.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn devices(&self, site: Option<&Name>, page: Page) -> Result<Vec<Device>, StoreError> {
        let select = select_device();
        let sql = format!("{select} WHERE ?1 IS NULL OR d.site = ?1 ORDER BY d.site, d.device LIMIT ?2 OFFSET ?3");
        let parameters = params![site.map(Name::as_str), page.limit(), page.offset()];
        self.query("listing devices", &sql, parameters, device)
    }

    /// One device.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn device(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        let sql = format!("{} WHERE d.site = ?1 AND d.device = ?2", select_device());
        let found = self.query("reading a device", &sql, [id.site.as_str(), id.device.as_str()], device)?;
        Ok(found.into_iter().next())
    }

    /// Cameras, by site, device and name; all or those of one site.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn cameras(&self, site: Option<&Name>, page: Page) -> Result<Vec<Camera>, StoreError> {
        let sql = format!(
            "{SELECT_CAMERA} WHERE ?1 IS NULL OR d.site = ?1 ORDER BY d.site, d.device, c.camera LIMIT ?2 OFFSET ?3"
        );
        let parameters = params![site.map(Name::as_str), page.limit(), page.offset()];
        self.query("listing cameras", &sql, parameters, camera)
    }

    /// One camera.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn camera(&self, id: &CameraId) -> Result<Option<Camera>, StoreError> {
        let sql = format!("{SELECT_CAMERA} WHERE d.site = ?1 AND d.device = ?2 AND c.camera = ?3");
        Ok(self.query("reading a camera", &sql, key(id), camera)?.into_iter().next())
    }

    /// The first windows of a camera that start at or after `from`, oldest first; at most `limit`, and never more than
    /// [`WINDOWS_MAX`]. Windows whose stored bytes are damaged are left out.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn windows(&self, id: &CameraId, from: UnixMillis, limit: u32) -> Result<Vec<CountedWindow>, StoreError> {
        self.select_windows(id, from, limit, "ORDER BY w.start, w.id")
    }

    /// The newest windows of a camera, newest first; at most `limit`, and never more than [`WINDOWS_MAX`].
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn newest_windows(&self, id: &CameraId, limit: u32) -> Result<Vec<CountedWindow>, StoreError> {
        self.select_windows(id, UnixMillis(i64::MIN), limit, "ORDER BY w.start DESC, w.id DESC")
    }

    fn select_windows(
        &self,
        id: &CameraId,
        from: UnixMillis,
        limit: u32,
        order: &str,
    ) -> Result<Vec<CountedWindow>, StoreError> {
        let sql = format!(
            "SELECT w.frame FROM windows w
             WHERE w.camera = (SELECT c.id FROM cameras c JOIN devices d ON d.id = c.device
                               WHERE d.site = ?1 AND d.device = ?2 AND c.camera = ?3)
               AND w.start >= ?4 AND w.damaged = 0 {order} LIMIT ?5"
        );
        let [site, device, camera] = key(id);
        let doing = "reading windows";
        let found = self.query(doing, &sql, params![site, device, camera, from.0, limit.min(WINDOWS_MAX)], |row| {
            let frame = row.get_ref(0).and_then(|value| Ok(value.as_blob()?)).map_err(failed(doing))?;
            Ok(counted(frame))
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The baseline of a camera that is in force: version and bytes; `None` while it learns.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn baseline(&self, id: &CameraId) -> Result<Option<(u32, Vec<u8>)>, StoreError> {
        let sql = format!("SELECT b.version, b.baseline {FROM_BASELINES} AND b.version = c.baseline");
        let found = self.query("reading a baseline", &sql, key(id), |row| Ok((get(row, 0)?, get(row, 1)?)))?;
        Ok(found.into_iter().next())
    }

    /// The versions of a camera's baseline that are still kept, oldest first.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn baseline_versions(&self, id: &CameraId) -> Result<Vec<BaselineVersion>, StoreError> {
        let sql = format!(
            "SELECT b.version, b.learned_at, b.version IS c.baseline, b.how, b.author, b.note {FROM_BASELINES}
             ORDER BY b.version"
        );
        self.query("listing baselines", &sql, key(id), |row| {
            Ok(BaselineVersion {
                version: get(row, 0)?,
                learned_at: UnixMillis(get(row, 1)?),
                in_force: get(row, 2)?,
                how: variant(row, 3, "how a baseline came to be")?,
                author: get(row, 4)?,
                note: get(row, 5)?,
            })
        })
    }

    /// What operators did to a camera's baseline, newest first, as far as it is kept.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn baseline_moves(&self, id: &CameraId, page: Page) -> Result<Vec<BaselineMoveRow>, StoreError> {
        let sql = "SELECT m.at, m.wish, m.version, m.since, m.author, m.note FROM baseline_moves m
                   JOIN cameras c ON c.id = m.camera JOIN devices d ON d.id = c.device
                   WHERE d.site = ?1 AND d.device = ?2 AND c.camera = ?3 ORDER BY m.id DESC LIMIT ?4 OFFSET ?5";
        let [site, device, camera] = key(id);
        let parameters = params![site, device, camera, page.limit(), page.offset()];
        self.query("listing what was done to a baseline", sql, parameters, |row| {
            Ok(BaselineMoveRow {
                at: UnixMillis(get(row, 0)?),
                wish: get(row, 1)?,
                version: get(row, 2)?,
                since: get::<Option<i64>>(row, 3)?.map(UnixMillis),
                author: get(row, 4)?,
                note: get(row, 5)?,
            })
        })
    }

    /// The state of a camera as the core left it.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn camera_state(&self, id: &CameraId) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT s.state FROM camera_states s JOIN cameras c ON c.id = s.camera
                   JOIN devices d ON d.id = c.device WHERE d.site = ?1 AND d.device = ?2 AND c.camera = ?3";
        Ok(self.query("reading the state of a camera", sql, key(id), |row| get(row, 0))?.into_iter().next())
    }

    /// Alerts, those raised last first.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn alerts(&self, filter: &AlertFilter, page: Page) -> Result<Vec<Alert>, StoreError> {
        let doing = "listing alerts";
        let state = filter.state.map(|state| text(&state)).transpose();
        let state = state.map_err(|error| StoreError::Engine { doing, source: Box::new(error) })?;
        let camera = filter.camera.as_ref();
        let parameters = named_params! {
            ":state": state,
            ":site": filter.site.as_ref().map(Name::as_str),
            ":camera_site": camera.map(|id| id.device.site.as_str()),
            ":camera_device": camera.map(|id| id.device.device.as_str()),
            ":camera": camera.map(|id| id.camera.as_str()),
            ":since": filter.since.map(|since| since.0),
            ":limit": page.limit(),
            ":offset": page.offset(),
        };
        let sql = "SELECT a.alert FROM alerts a JOIN cameras c ON c.id = a.camera JOIN devices d ON d.id = c.device
                   WHERE (:state IS NULL OR a.state = :state) AND (:site IS NULL OR d.site = :site OR a.scope = 'fleet')
                     AND (:since IS NULL OR a.raised_at >= :since)
                     AND (:camera IS NULL
                          OR (a.scope = 'camera' AND c.camera = :camera AND d.device = :camera_device AND d.site = :camera_site))
                   ORDER BY a.raised_at DESC, a.id DESC LIMIT :limit OFFSET :offset";
        self.query(doing, sql, parameters, |row| alert(&get::<String>(row, 0)?))
    }

    /// One alert.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn alert(&self, id: u64) -> Result<Option<Alert>, StoreError> {
        let found =
            self.query("reading an alert", "SELECT alert FROM alerts WHERE id = ?1", [id.cast_signed()], |row| {
                alert(&get::<String>(row, 0)?)
            })?;
        Ok(found.into_iter().next())
    }

    /// When any device was heard last.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn last_seen(&self) -> Result<Option<UnixMillis>, StoreError> {
        let sql = "SELECT max(last_seen) FROM devices";
        let found = self.query("reading when a device was heard", sql, [], |row| get::<Option<i64>>(row, 0))?;
        Ok(found.into_iter().flatten().next().map(UnixMillis))
    }

    /// What operators said of the alerts raised since then, and how long sites were watched.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn record(&self, since: UnixMillis) -> Result<AlertRecord, StoreError> {
        let sql = "SELECT verdict, count(*) FROM alerts WHERE raised_at >= ?1 AND state <> 'pending' GROUP BY verdict";
        let mut record = AlertRecord::default();
        let verdicts = self.query("counting verdicts", sql, [since.0], |row| {
            Ok((get::<Option<String>>(row, 0)?, get::<u32>(row, 1)?))
        })?;
        for (verdict, count) in verdicts {
            match verdict.as_deref() {
                Some("right") => record.right += count,
                Some("false") => record.wrong += count,
                _ => record.unjudged += count,
            }
        }
        let sql = "SELECT sum(max(0, last - max(first, ?1)))
                   FROM (SELECT min(first_seen) AS first, max(last_seen) AS last FROM devices GROUP BY site)";
        let time = self.query("adding up time", sql, [since.0], |row| get::<Option<i64>>(row, 0))?;
        let millis = time.into_iter().flatten().next().unwrap_or(0);
        record.site_time = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        Ok(record)
    }

    /// How many alerts there are by site, severity and state.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn alert_counts(&self) -> Result<Vec<AlertCount>, StoreError> {
        let sql = "SELECT d.site, a.severity, a.state, count(*) FROM alerts a JOIN cameras c ON c.id = a.camera
                   JOIN devices d ON d.id = c.device GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
        self.query("counting alerts", sql, (), |row| {
            Ok(AlertCount {
                site: name(row, 0)?,
                severity: variant(row, 1, "a severity")?,
                state: variant(row, 2, "the state of an alert")?,
                count: count(row, 3)?,
            })
        })
    }

    /// Sums over the fleet.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn totals(&self) -> Result<FleetTotals, StoreError> {
        let sql = "SELECT count(*), (SELECT count(*) FROM cameras), ifnull(sum(accepted), 0),
                          ifnull(sum(duplicates), 0), ifnull(sum(gaps), 0), ifnull(sum(overlaps), 0), total(lost)
                   FROM devices";
        let found = self.query("summing up the fleet", sql, (), |row| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of counts; saturates")]
            let lost = get::<f64>(row, 6)? as u64;
            Ok(FleetTotals {
                devices: count(row, 0)?,
                cameras: count(row, 1)?,
                accepted: count(row, 2)?,
                duplicates: count(row, 3)?,
                gaps: count(row, 4)?,
                overlaps: count(row, 5)?,
                lost,
            })
        })?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// Whether the database can be read at all.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn check(&self) -> Result<(), StoreError> {
        self.query("checking the database", "SELECT 1 FROM devices LIMIT 1", (), |_| Ok(())).map(drop)
    }
}

fn select_device() -> String {
    format!(
        "SELECT d.site, d.device, d.epoch, d.sequence, d.first_seen, d.last_seen, d.version, d.clock_ahead, d.clones,
            d.accepted, d.duplicates, d.gaps, d.overlaps, d.lost, d.enrolled_at, d.certificate_expires_at, d.revoked_at,
            ({}), r.in_effect, r.offered, r.outcome, r.restart, r.detail, r.reported_at
         FROM devices d LEFT JOIN configuration_reports r ON r.device = d.id",
        desired_version()
    )
}

fn device(row: &Row<'_>) -> Result<Device, StoreError> {
    Ok(Device {
        id: device_id(row)?,
        mark: Mark { epoch: get(row, 2)?, sequence: get::<i64>(row, 3)?.cast_unsigned() },
        first_seen: UnixMillis(get(row, 4)?),
        last_seen: UnixMillis(get(row, 5)?),
        version: get(row, 6)?,
        clock_ahead_ms: get(row, 7)?,
        clones: count(row, 8)?,
        accepted: count(row, 9)?,
        duplicates: count(row, 10)?,
        gaps: count(row, 11)?,
        overlaps: count(row, 12)?,
        lost: count(row, 13)?,
        enrolled_at: get::<Option<i64>>(row, 14)?.map(UnixMillis),
        certificate_expires_at: get::<Option<i64>>(row, 15)?.map(UnixMillis),
        revoked_at: get::<Option<i64>>(row, 16)?.map(UnixMillis),
        configuration: device_configuration(row, 17)?,
    })
}

const SELECT_CAMERA: &str =
    "SELECT d.site, d.device, c.camera, c.frames, c.windows, c.missing, c.undecodable, c.skipped,
    c.late, c.last_start, c.last_length, c.last_merged, c.model_name, c.model_version,
    c.baseline,
    (SELECT count(*) FROM alerts WHERE camera = c.id AND scope = 'camera' AND state NOT IN ('pending', 'resolved'))
    FROM cameras c JOIN devices d ON d.id = c.device";

fn camera(row: &Row<'_>) -> Result<Camera, StoreError> {
    let window = match (get(row, 9)?, get(row, 10)?, get(row, 11)?) {
        (Some(start), Some(length), Some(merged)) => {
            Some(Window { start: UnixMillis(start), length: Millis(length), merged })
        }
        _ => None,
    };
    let has_model = get::<Option<String>>(row, 12)?.is_some();
    let model = if has_model { Some(Model { name: name(row, 12)?, version: name(row, 13)? }) } else { None };
    Ok(Camera {
        id: camera_id(row)?,
        frames_total: count(row, 3)?,
        windows_total: count(row, 4)?,
        missing_total: count(row, 5)?,
        undecodable_total: count(row, 6)?,
        skipped_total: count(row, 7)?,
        late_total: count(row, 8)?,
        last_window: window,
        model,
        baseline_version: get(row, 14)?,
        open_alerts: count(row, 15)?,
    })
}

const FROM_BASELINES: &str = "FROM baselines b JOIN cameras c ON c.id = b.camera JOIN devices d ON d.id = c.device
    WHERE d.site = ?1 AND d.device = ?2 AND c.camera = ?3";

pub(super) fn key(id: &CameraId) -> [&str; 3] {
    [id.device.site.as_str(), id.device.device.as_str(), id.camera.as_str()]
}

pub(super) fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, column: usize) -> Result<T, StoreError> {
    row.get(column).map_err(failed("reading a column"))
}

fn count(row: &Row<'_>, column: usize) -> Result<u64, StoreError> {
    Ok(u64::try_from(get::<i64>(row, column)?).unwrap_or(0))
}

fn variant<T: DeserializeOwned>(row: &Row<'_>, column: usize, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_value(get::<String>(row, column)?.into())
        .map_err(|error| StoreError::Damaged { what, detail: error.to_string() })
}
