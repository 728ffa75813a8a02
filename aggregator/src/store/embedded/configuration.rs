//! Configurations of agents in the embedded store: the write side and the queries for people.

use driftglass_protocol::configuration::{ConfigurationId, ConfigurationReport};
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::unit::UnixMillis;
use rusqlite::{Row, params};

use super::read::{Page, Reader, get};
use super::{EmbeddedBatch, name};
use crate::identity::sha256;
use crate::store::{Batch, Configurations, Desired, Scope, StoreError};

/// Versions kept of each scope; older ones are deleted when a new one is set.
const VERSIONS_KEPT: u32 = 100;

/// Of the wishes `c` the newest for each scope, withdrawn ones left out.
const CURRENT: &str = "c.text IS NOT NULL
    AND c.version = (SELECT max(version) FROM configurations WHERE site = c.site AND device = c.device)";

/// The version that the device `d` shall have.
pub(super) fn desired_version() -> String {
    format!("SELECT c.version FROM configurations c WHERE {}", holds())
}

/// Of the wishes `c` the one that holds for the device `d`: the narrowest.
fn holds() -> String {
    format!(
        "{CURRENT} AND c.site IN ('', d.site) AND c.device IN ('', d.device)
         ORDER BY c.device = '', c.site = '' LIMIT 1"
    )
}

/// A wish, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationRow {
    /// Its number.
    pub version: u64,
    /// For whom it is.
    pub scope: Scope,
    /// What it says.
    pub text: String,
    /// When it was set.
    pub set_at: UnixMillis,
    /// Why.
    pub note: String,
}

/// How a device is set, and what it is to be set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfiguration {
    /// The version that it shall have; 0 where no wish holds for it.
    pub desired: u64,
    /// What it said last; absent where its agent knows nothing of configurations, or was never connected.
    pub reported: Option<ReportedConfiguration>,
}

/// What a device said of its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedConfiguration {
    /// The version in effect; 0 is its own file alone.
    pub in_effect: u64,
    /// The version that the outcome speaks of.
    pub offered: u64,
    /// The name of an outcome.
    pub outcome: String,
    /// Part of it waits for the agent's next start.
    pub restart: bool,
    /// Why it was not taken.
    pub detail: String,
    /// When it said so.
    pub at: UnixMillis,
}

impl Configurations for EmbeddedBatch<'_> {
    fn set_configuration(
        &mut self,
        scope: &Scope,
        text: Option<&str>,
        note: &str,
        now: UnixMillis,
    ) -> Result<u64, StoreError> {
        let (site, device) = scope.parts();
        let sql = "INSERT INTO configurations (site, device, text, set_at, note) VALUES (?1, ?2, ?3, ?4, ?5)
                   RETURNING version";
        let doing = "storing a configuration";
        let version = self.row(doing, sql, params![site, device, text, now.0, note], |row| row.get::<_, i64>(0))?;
        let sql = "DELETE FROM configurations WHERE site = ?1 AND device = ?2 AND version NOT IN
                   (SELECT version FROM configurations WHERE site = ?1 AND device = ?2 ORDER BY version DESC LIMIT ?3)";
        self.execute("deleting old configurations", sql, params![site, device, VERSIONS_KEPT])?;
        version
            .map(i64::cast_unsigned)
            .ok_or_else(|| StoreError::Damaged { what: "a configuration", detail: "it was given no number".into() })
    }

    fn desired_configuration(&self, device: &DeviceId) -> Result<Desired, StoreError> {
        let holds = holds();
        let sql = format!(
            "SELECT c.version, c.text FROM (SELECT ?1 AS site, ?2 AS device) d, configurations c WHERE {holds}"
        );
        let key = [device.site.as_str(), device.device.as_str()];
        let found =
            self.row("looking up a configuration", &sql, key, |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        let (version, text): (_, String) = found.unwrap_or_default();
        let id = ConfigurationId { version: version.cast_unsigned(), digest: sha256(text.as_bytes()) };
        Ok(Desired { id, text })
    }

    fn set_configuration_report(
        &mut self,
        device: &DeviceId,
        report: &ConfigurationReport<'_>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.register(device, now)?;
        let sql = "INSERT OR REPLACE INTO configuration_reports
                       (device, in_effect, offered, outcome, restart, detail, reported_at)
                   SELECT id, ?3, ?4, ?5, ?6, ?7, ?8 FROM devices WHERE site = ?1 AND device = ?2";
        self.execute(
            "storing what a device says of its configuration",
            sql,
            params![
                device.site.as_str(),
                device.device.as_str(),
                report.in_effect.version.cast_signed(),
                report.offered.version.cast_signed(),
                report.outcome.name(),
                report.restart,
                report.detail,
                now.0,
            ],
        )?;
        Ok(())
    }
}

impl Reader {
    /// The wishes that hold, the widest first.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn configurations(&self, page: Page) -> Result<Vec<ConfigurationRow>, StoreError> {
        let sql = format!(
            "SELECT c.site, c.device, c.version, c.text, c.set_at, c.note FROM configurations c WHERE {CURRENT}
             ORDER BY c.site, c.device LIMIT ?1 OFFSET ?2"
        );
        self.query("listing configurations", &sql, params![page.limit(), page.offset()], |row| {
            Ok(ConfigurationRow {
                scope: scope(row)?,
                version: get::<i64>(row, 2)?.cast_unsigned(),
                text: get(row, 3)?,
                set_at: UnixMillis(get(row, 4)?),
                note: get(row, 5)?,
            })
        })
    }
}

/// From the columns site and device, which come first.
fn scope(row: &Row<'_>) -> Result<Scope, StoreError> {
    let part = |column| -> Result<Option<Name>, StoreError> {
        if get::<String>(row, column)?.is_empty() { Ok(None) } else { name(row, column).map(Some) }
    };
    Ok(match (part(0)?, part(1)?) {
        (Some(site), Some(device)) => Scope::Device(DeviceId { site, device }),
        (Some(site), None) => Scope::Site(site),
        (None, _) => Scope::Fleet,
    })
}

/// From seven columns: the version desired, then what was reported, null where nothing was.
pub(super) fn device_configuration(row: &Row<'_>, first: usize) -> Result<DeviceConfiguration, StoreError> {
    let number = |column| Ok::<_, StoreError>(get::<Option<i64>>(row, first + column)?.map(i64::cast_unsigned));
    let reported = match (number(1)?, number(2)?) {
        (Some(in_effect), Some(offered)) => Some(ReportedConfiguration {
            in_effect,
            offered,
            outcome: get(row, first + 3)?,
            restart: get(row, first + 4)?,
            detail: get(row, first + 5)?,
            at: UnixMillis(get(row, first + 6)?),
        }),
        _ => None,
    };
    Ok(DeviceConfiguration { desired: number(0)?.unwrap_or(0), reported })
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::configuration::ConfigurationOutcome;

    use super::super::EmbeddedStore;
    use super::super::fixture::{NOW, device, name};
    use super::*;
    use crate::store::Store;

    #[test]
    fn the_narrowest_wish_that_holds_counts_alone_and_a_withdrawn_one_gives_way() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = EmbeddedStore::open(folder.path()).expect("opens");
        let mut batch = store.begin().expect("begins");
        let (one, other) = (device("one"), device("other"));
        let elsewhere = DeviceId { site: name("elsewhere"), device: name("one") };
        let text = |batch: &EmbeddedBatch<'_>, device| {
            let Desired { id, text } = batch.desired_configuration(device).expect("read");
            assert_eq!(id.digest, sha256(text.as_bytes()));
            (id.version, text)
        };
        assert_eq!(text(&batch, &one), (0, String::new()));
        let mut set = |scope: &Scope, text| batch.set_configuration(scope, text, "why", NOW).expect("written");
        let (site, single) = (Scope::Site(one.site.clone()), Scope::Device(one.clone()));
        assert_eq!(set(&single, Some("device")), 1);
        assert_eq!(set(&Scope::Fleet, Some("fleet")), 2);
        assert_eq!(set(&site, Some("site")), 3);
        assert_eq!(text(&batch, &one), (1, "device".into()));
        assert_eq!(text(&batch, &other), (3, "site".into()));
        assert_eq!(text(&batch, &elsewhere), (2, "fleet".into()));
        assert_eq!(batch.set_configuration(&single, None, "", NOW).expect("written"), 4);
        assert_eq!(text(&batch, &one), (3, "site".into()));
        assert_eq!(batch.set_configuration(&site, Some("newer"), "", NOW).expect("written"), 5);
        assert_eq!(text(&batch, &one), (5, "newer".into()));
        batch.commit().expect("commits");
        let listed = store.reader().configurations(Page::default()).expect("read");
        let listed: Vec<_> = listed.into_iter().map(|row| (row.version, row.scope, row.text)).collect();
        assert_eq!(listed, [(2, Scope::Fleet, "fleet".into()), (5, site.clone(), "newer".into())]);
    }

    #[test]
    fn only_so_many_versions_are_kept_and_no_number_comes_twice() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = EmbeddedStore::open(folder.path()).expect("opens");
        let mut batch = store.begin().expect("begins");
        for number in 1..=u64::from(VERSIONS_KEPT) + 20 {
            assert_eq!(batch.set_configuration(&Scope::Fleet, Some("text"), "", NOW).expect("written"), number);
        }
        let kept: Option<u32> =
            batch.row("counting", "SELECT count(*) FROM configurations", (), |row| row.get(0)).expect("read");
        assert_eq!(kept, Some(VERSIONS_KEPT));
    }

    #[test]
    fn what_a_device_says_is_shown_beside_what_it_shall_be() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = EmbeddedStore::open(folder.path()).expect("opens");
        let mut batch = store.begin().expect("begins");
        let gateway = device("gw");
        batch.register(&gateway, NOW).expect("written");
        batch.set_configuration(&Scope::Fleet, Some("text"), "", NOW).expect("written");
        batch.commit().expect("commits");
        let shown =
            |store: &EmbeddedStore| store.reader().device(&device("gw")).expect("read").expect("known").configuration;
        assert_eq!(shown(&store), DeviceConfiguration { desired: 1, reported: None });
        let id = |version| ConfigurationId { version, digest: [0; 32] };
        let report = ConfigurationReport {
            in_effect: id(0),
            offered: id(1),
            outcome: ConfigurationOutcome::Refused,
            restart: false,
            detail: "no such camera",
        };
        let mut batch = store.begin().expect("begins");
        batch.set_configuration_report(&gateway, &report, NOW).expect("written");
        batch.set_configuration_report(&gateway, &report, NOW).expect("written again");
        batch.commit().expect("commits");
        let reported = ReportedConfiguration {
            in_effect: 0,
            offered: 1,
            outcome: "refused".into(),
            restart: false,
            detail: "no such camera".into(),
            at: NOW,
        };
        assert_eq!(shown(&store), DeviceConfiguration { desired: 1, reported: Some(reported) });
    }
}
