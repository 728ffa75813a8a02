//! One write transaction.

use std::ops::Range;

use driftglass_protocol::id::{CameraId, DeviceId};
use driftglass_protocol::session::Hello;
use driftglass_protocol::session::chain::Verdict;
use driftglass_protocol::summary::Summary;
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Mark, RecordId, Tombstone, TombstoneCause};
use rusqlite::{OptionalExtension, Row, Transaction, named_params, params};
use serde::Serialize;

use super::read::key;
use super::{counted, failed};
use crate::alert::{Alert, EffectSize};
use crate::decision::{BaselineMove, Change, CountedWindow, History, Origin};
use crate::store::{Batch, Greeted, Greeting, Standing, StoreError};

/// Versions of a camera's baseline kept; older ones are deleted when a new one is stored.
const BASELINE_VERSIONS: u32 = 32;
/// Of what operators did to a camera's baseline, the newest that are kept.
const BASELINE_MOVES: u32 = 256;

/// A transaction of the embedded store; rolled back when dropped without commit.
#[derive(Debug)]
pub struct EmbeddedBatch<'a> {
    transaction: Transaction<'a>,
}

impl<'a> EmbeddedBatch<'a> {
    pub(super) const fn new(transaction: Transaction<'a>) -> Self {
        Self { transaction }
    }

    pub(super) fn execute(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<usize, StoreError> {
        self.transaction.prepare_cached(sql).and_then(|mut s| s.execute(parameters)).map_err(failed(doing))
    }

    pub(super) fn row<T>(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(parameters, read).optional())
            .map_err(failed(doing))
    }

    /// The camera's row; created empty for a camera that only a decision has named so far.
    fn camera_row(&self, camera: &CameraId) -> Result<i64, StoreError> {
        let doing = "looking up a camera";
        let CameraId { device: DeviceId { site, device }, camera } = camera;
        let key = [site.as_str(), device.as_str(), camera.as_str()];
        let select = "SELECT c.id FROM cameras c JOIN devices d ON d.id = c.device
                      WHERE d.site = ?1 AND d.device = ?2 AND c.camera = ?3";
        if let Some(row) = self.row(doing, select, key, |row| row.get(0))? {
            return Ok(row);
        }
        let insert = "INSERT INTO cameras (device, camera, frames, windows, missing, undecodable, skipped, late)
                      SELECT id, ?3, 0, 0, 0, 0, 0, 0 FROM devices WHERE site = ?1 AND device = ?2 RETURNING id";
        self.row(doing, insert, key, |row| row.get(0))?.ok_or_else(|| StoreError::Damaged {
            what: "a decision",
            detail: format!("it names {site}/{device}/{camera}, of a device that is not registered"),
        })
    }

    fn put_in_force(&self, camera: i64, version: Option<u32>) -> Result<(), StoreError> {
        self.execute(
            "putting a baseline in force",
            "UPDATE cameras SET baseline = ?2 WHERE id = ?1",
            params![camera, version],
        )?;
        Ok(())
    }

    fn apply_move(&self, moved: &BaselineMove) -> Result<(), StoreError> {
        let BaselineMove { camera, at, wish, version, since, author, note } = moved;
        let (row, since) = (self.camera_row(camera)?, since.map(|since| since.0));
        self.execute(
            "storing what was done to a baseline",
            "INSERT INTO baseline_moves (camera, at, wish, version, since, author, note)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![row, at.0, wish, version, since, author, note],
        )?;
        self.execute(
            "deleting what was done to a baseline long ago",
            "DELETE FROM baseline_moves WHERE camera = ?1
             AND id NOT IN (SELECT id FROM baseline_moves WHERE camera = ?1 ORDER BY id DESC LIMIT ?2)",
            params![row, BASELINE_MOVES],
        )?;
        Ok(())
    }

    fn apply_alert(&self, alert: &Alert) -> Result<(), StoreError> {
        let damaged = |error: serde_json::Error| StoreError::Damaged { what: "an alert", detail: error.to_string() };
        // JSON has no word for what is not a number, and would not read back.
        let mut alert = alert.clone();
        for moved in &mut alert.features {
            let sizes = moved
                .effect
                .iter_mut()
                .flat_map(|EffectSize { psi, jensen_shannon, wasserstein }| [psi, jensen_shannon, wasserstein]);
            for value in [&mut moved.distance, &mut moved.shift].into_iter().chain(sizes) {
                if !value.is_finite() {
                    tracing::error!(alert = alert.id, feature = moved.feature, %value, "stored as 0: not a finite number");
                    *value = 0.0;
                }
            }
        }
        let json = serde_json::to_string(&alert).map_err(damaged)?;
        self.execute(
            "storing an alert",
            "INSERT OR REPLACE INTO alerts
                (id, camera, scope, cause, severity, state, first_window, raised_at, alert, verdict)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                alert.id.cast_signed(),
                self.camera_row(&alert.camera)?,
                text(&alert.scope).map_err(damaged)?,
                alert.cause.name(),
                text(&alert.severity).map_err(damaged)?,
                text(&alert.state).map_err(damaged)?,
                alert.first_window.0,
                alert.raised_at.0,
                json,
                alert.verdict.as_ref().map(text).transpose().map_err(damaged)?,
            ],
        )?;
        Ok(())
    }
}

/// The name of a variant in every interface.
pub(super) fn text(variant: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_value(variant).and_then(serde_json::from_value)
}

const fn cause(cause: TombstoneCause) -> &'static str {
    match cause {
        TombstoneCause::SpoolFull => "spool-full",
        TombstoneCause::Damaged => "damaged",
        TombstoneCause::Forgotten => "forgotten",
    }
}

fn mark(row: &Row<'_>) -> rusqlite::Result<Mark> {
    Ok(Mark { epoch: row.get(0)?, sequence: row.get::<_, i64>(1)?.cast_unsigned() })
}

const SELECT_MARK: &str = "SELECT epoch, sequence FROM devices WHERE site = ?1 AND device = ?2";

impl History for EmbeddedBatch<'_> {
    type Error = StoreError;

    fn windows(
        &self,
        camera: &CameraId,
        span: Range<UnixMillis>,
        limit: usize,
    ) -> Result<Vec<CountedWindow>, StoreError> {
        let doing = "reading earlier windows";
        let mut statement = self
            .transaction
            .prepare_cached(
                "SELECT w.id, w.frame FROM windows w
                 WHERE w.camera = (SELECT c.id FROM cameras c JOIN devices d ON d.id = c.device
                                   WHERE d.site = ?1 AND d.device = ?2 AND c.camera = ?3)
                   AND w.start >= ?4 AND w.start < ?5 AND w.damaged = 0
                 ORDER BY w.start DESC, w.id DESC LIMIT ?6",
            )
            .map_err(failed(doing))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement
            .query(params![
                camera.device.site.as_str(),
                camera.device.device.as_str(),
                camera.camera.as_str(),
                span.start.0,
                span.end.0,
                limit
            ])
            .map_err(failed(doing))?;
        let mut windows = Vec::new();
        let mut damaged: Vec<i64> = Vec::new();
        while let Some(row) = rows.next().map_err(failed(doing))? {
            let frame = row.get_ref(1).and_then(|value| Ok(value.as_blob()?)).map_err(failed(doing))?;
            match counted(frame) {
                Some(window) => windows.push(window),
                None => damaged.push(row.get(0).map_err(failed(doing))?),
            }
        }
        // A window whose bytes have rotted is set aside and said so once: it must not stop its camera for good.
        for id in damaged {
            tracing::error!(%camera, window = id, "a stored window no longer parses and is left out from now on");
            self.execute("setting a damaged window aside", "UPDATE windows SET damaged = 1 WHERE id = ?1", [id])?;
        }
        windows.reverse();
        Ok(windows)
    }

    fn versions(&self, camera: &CameraId) -> Result<Vec<u32>, StoreError> {
        let doing = "reading the versions of a baseline";
        let sql =
            "SELECT b.version FROM baselines b JOIN cameras c ON c.id = b.camera JOIN devices d ON d.id = c.device
                   WHERE d.site = ?1 AND d.device = ?2 AND c.camera = ?3 ORDER BY b.version";
        let mut statement = self.transaction.prepare_cached(sql).map_err(failed(doing))?;
        let rows = statement.query_map(key(camera), |row| row.get(0)).map_err(failed(doing))?;
        rows.collect::<Result<_, _>>().map_err(failed(doing))
    }

    fn baseline(&self, camera: &CameraId, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let [site, device, name] = key(camera);
        self.row(
            "reading a baseline",
            "SELECT b.baseline FROM baselines b JOIN cameras c ON c.id = b.camera JOIN devices d ON d.id = c.device
             WHERE d.site = ?1 AND d.device = ?2 AND c.camera = ?3 AND b.version = ?4",
            params![site, device, name, version],
            |row| row.get(0),
        )
    }
}

impl Batch for EmbeddedBatch<'_> {
    fn mark(&self, device: &DeviceId) -> Result<Mark, StoreError> {
        let key = [device.site.as_str(), device.device.as_str()];
        Ok(self.row("reading a mark", SELECT_MARK, key, mark)?.unwrap_or_default())
    }

    fn register(&mut self, device: &DeviceId, now: UnixMillis) -> Result<Mark, StoreError> {
        let (site, name) = (device.site.as_str(), device.device.as_str());
        if let Some(mark) = self.row("reading a mark", SELECT_MARK, [site, name], mark)? {
            return Ok(mark);
        }
        self.execute(
            "registering a device",
            "INSERT INTO devices (site, device, first_seen, last_seen) VALUES (?1, ?2, ?3, ?3)",
            params![site, name, now.0],
        )?;
        Ok(Mark::default())
    }

    fn greet(&mut self, hello: &Hello, now: UnixMillis) -> Result<Greeting, StoreError> {
        let mark = self.register(&hello.device, now)?;
        let key = [hello.device.site.as_str(), hello.device.device.as_str()];
        let before = self.row(
            "reading a greeting",
            "SELECT hello_epoch, hello_instance, last_seen FROM devices
             WHERE site = ?1 AND device = ?2 AND hello_epoch IS NOT NULL AND hello_instance IS NOT NULL",
            key,
            |row| {
                let instance = row.get::<_, i64>(1)?.cast_unsigned();
                Ok(Greeted { epoch: row.get(0)?, instance, heard: UnixMillis(row.get(2)?) })
            },
        )?;
        let standing = Standing::judge(before, hello, now);
        if standing != Standing::Welcome {
            // The owner of the epoch stays who it is, and is not heard by this.
            self.execute(
                "counting a copy",
                "UPDATE devices SET clones = clones + 1 WHERE site = ?1 AND device = ?2",
                key,
            )?;
            return Ok(Greeting { mark, standing });
        }
        self.execute(
            "storing a greeting",
            "UPDATE devices SET hello_epoch = ?3, hello_instance = ?4, version = ?5, clock_ahead = ?6, last_seen = ?7
             WHERE site = ?1 AND device = ?2",
            params![
                key[0],
                key[1],
                hello.epoch,
                hello.instance.cast_signed(),
                hello.version.as_str(),
                hello.clock.0.saturating_sub(now.0),
                now.0,
            ],
        )?;
        Ok(Greeting { mark, standing })
    }

    fn count_unaccepted(&mut self, device: &DeviceId, verdict: Verdict, now: UnixMillis) -> Result<(), StoreError> {
        self.execute(
            "counting a record not accepted",
            "UPDATE devices SET duplicates = duplicates + ?3, gaps = gaps + ?4, overlaps = overlaps + ?5, last_seen = ?6
             WHERE site = ?1 AND device = ?2",
            params![
                device.site.as_str(),
                device.device.as_str(),
                verdict == Verdict::Duplicate,
                verdict == Verdict::Gap,
                verdict == Verdict::Overlap,
                now.0,
            ],
        )?;
        Ok(())
    }

    fn insert_window(
        &mut self,
        camera: &CameraId,
        summary: &Summary<'_>,
        frame: &[u8],
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let Summary { model, window, quality, .. } = summary;
        let doing = "adding to the totals of a camera";
        let row: Option<i64> = self.row(
            doing,
            "INSERT INTO cameras (device, camera, frames, windows, missing, undecodable, skipped, late,
                                  last_start, last_length, last_merged, model_name, model_version)
             SELECT id, :camera, :frames, :merged, :missing, :undecodable, :skipped, :late,
                    :start, :length, :merged, :model, :version FROM devices WHERE site = :site AND device = :device
             ON CONFLICT (device, camera) DO UPDATE SET
                frames = frames + excluded.frames,
                windows = windows + excluded.windows,
                missing = missing + excluded.missing,
                undecodable = undecodable + excluded.undecodable,
                skipped = skipped + excluded.skipped,
                late = late + excluded.late,
                model_name = iif(last_start > excluded.last_start, model_name, excluded.model_name),
                model_version = iif(last_start > excluded.last_start, model_version, excluded.model_version),
                last_length = iif(last_start > excluded.last_start, last_length, excluded.last_length),
                last_merged = iif(last_start > excluded.last_start, last_merged, excluded.last_merged),
                last_start = max(ifnull(last_start, excluded.last_start), excluded.last_start)
             RETURNING id",
            named_params! {
                ":site": camera.device.site.as_str(),
                ":device": camera.device.device.as_str(),
                ":camera": camera.camera.as_str(),
                ":frames": quality.frames,
                ":merged": window.merged,
                ":missing": quality.missing,
                ":undecodable": quality.undecodable,
                ":skipped": quality.skipped,
                ":late": quality.late,
                ":start": window.start.0,
                ":length": window.length.0,
                ":model": model.as_ref().map(|model| model.name.as_str()),
                ":version": model.as_ref().map(|model| model.version.as_str()),
            },
            |row| row.get(0),
        )?;
        let Some(row) = row else {
            return Err(StoreError::Damaged {
                what: "a window",
                detail: format!("{camera} is of no registered device"),
            });
        };
        self.execute(
            "storing a window",
            "INSERT INTO windows (camera, start, length, merged, frames, missing, undecodable, skipped, late, received,
                                  frame) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                row,
                window.start.0,
                window.length.0,
                window.merged,
                quality.frames,
                quality.missing,
                quality.undecodable,
                quality.skipped,
                quality.late,
                now.0,
                frame,
            ],
        )?;
        Ok(())
    }

    fn insert_tombstone(
        &mut self,
        device: &DeviceId,
        id: RecordId,
        tombstone: Tombstone,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let (site, name) = (device.site.as_str(), device.device.as_str());
        self.execute(
            "storing a tombstone",
            "INSERT INTO tombstones (device, epoch, first, last, cause, start, end, received)
             SELECT id, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM devices WHERE site = ?1 AND device = ?2",
            params![
                site,
                name,
                id.epoch,
                id.first.cast_signed(),
                id.last.cast_signed(),
                cause(tombstone.cause),
                tombstone.from.0,
                tombstone.to.0,
                now.0,
            ],
        )?;
        let lost = id.last.saturating_sub(id.first).saturating_add(1);
        self.execute(
            "counting lost windows",
            // The numbers come from the device: the total stops at a number that no addition can overflow.
            "UPDATE devices SET lost = min(lost + ?3, 1000000000000000) WHERE site = ?1 AND device = ?2",
            params![site, name, i64::try_from(lost).unwrap_or(i64::MAX).min(1_000_000_000_000_000)],
        )?;
        Ok(())
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Camera { camera, state } => {
                self.execute(
                    "storing the state of a camera",
                    "INSERT INTO camera_states (camera, state) VALUES (?1, ?2)
                     ON CONFLICT (camera) DO UPDATE SET state = excluded.state",
                    params![self.camera_row(camera)?, state],
                )?;
            }
            Change::Baseline { camera, version, learned_at, baseline, origin } => {
                let row = self.camera_row(camera)?;
                let doing = "storing a baseline";
                let Origin { how, author, note } = origin;
                let how = text(how).map_err(|error| StoreError::Engine { doing, source: Box::new(error) })?;
                self.execute(
                    doing,
                    "INSERT INTO baselines (camera, version, learned_at, baseline, how, author, note)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![row, version, learned_at.0, baseline, how, author, note],
                )?;
                self.put_in_force(row, Some(*version))?;
                self.execute(
                    "deleting old baselines",
                    "DELETE FROM baselines WHERE camera = ?1 AND version <= ?2",
                    params![row, i64::from(*version) - i64::from(BASELINE_VERSIONS)],
                )?;
            }
            Change::InForce { camera, version } => self.put_in_force(self.camera_row(camera)?, *version)?,
            Change::Moved(moved) => self.apply_move(moved)?,
            Change::Alert(alert) => self.apply_alert(alert)?,
        }
        Ok(())
    }

    fn alert(&self, id: u64) -> Result<Option<Alert>, StoreError> {
        let found =
            self.row("reading an alert", "SELECT alert FROM alerts WHERE id = ?1", [id.cast_signed()], |row| {
                row.get::<_, String>(0)
            })?;
        found.map(|json| super::alert(&json)).transpose()
    }

    fn set_mark(&mut self, device: &DeviceId, judged: Mark, next: Mark, now: UnixMillis) -> Result<(), StoreError> {
        let changed = self.execute(
            "moving a mark",
            "UPDATE devices SET epoch = ?5, sequence = ?6, accepted = accepted + 1, last_seen = ?7
             WHERE site = ?1 AND device = ?2 AND epoch = ?3 AND sequence = ?4",
            params![
                device.site.as_str(),
                device.device.as_str(),
                judged.epoch,
                judged.sequence.cast_signed(),
                next.epoch,
                next.sequence.cast_signed(),
                now.0,
            ],
        )?;
        if changed == 1 { Ok(()) } else { Err(StoreError::MarkMoved { device: Box::new(device.clone()), judged }) }
    }

    fn forget_before(&mut self, before: UnixMillis, limit: u32) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for sql in [
            "DELETE FROM windows WHERE id IN (SELECT id FROM windows WHERE start < ?1 ORDER BY start LIMIT ?2)",
            "DELETE FROM tombstones WHERE id IN (SELECT id FROM tombstones WHERE start < ?1 ORDER BY start LIMIT ?2)",
        ] {
            forgotten += self.execute("forgetting old windows", sql, params![before.0, limit])? as u64;
        }
        Ok(forgotten)
    }

    fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().map_err(failed("committing"))
    }
}
