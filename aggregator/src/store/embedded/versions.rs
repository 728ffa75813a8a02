//! Databases as every version of the tables wrote them, led to the newest one.
//!
//! A file here is a dump with a few rows in every table: the tables as the release that introduced the version made them, the frame of
//! the window from the golden bytes of the protocol. It never changes. Whoever appends a step to [`schema::STEPS`] adds the dump of the
//! version that was newest before.

use std::fs;

use driftglass_protocol::id::{CameraId, DeviceId};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;
use rusqlite::Connection;

use super::fixture::{name, tombstone};
use super::{AlertFilter, EmbeddedStore, FILE_NAME, Page, schema};
use crate::alert::{AlertState, Cause};
use crate::decision::How;
use crate::identity::KeyId;
use crate::store::{Batch, Registry, Saved, Store, StoreError};

/// From version 1 on.
const DUMPS: &[&str] = &[
    include_str!("versions/1.sql"),
    include_str!("versions/2.sql"),
    include_str!("versions/3.sql"),
    include_str!("versions/4.sql"),
];

fn device(device: &str) -> DeviceId {
    DeviceId { site: name("store-12"), device: name(device) }
}

/// A folder with the database of a version.
fn of_version(version: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let database = Connection::open(folder.path().join(FILE_NAME)).expect("made");
    database.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).expect("as in service");
    database.execute_batch(DUMPS[version - 1]).expect("the dump is good");
    folder
}

/// Every table and index with its columns, in whatever order and wording they were made.
fn tables(store: &EmbeddedStore) -> Vec<(String, String, String, bool)> {
    let sql = "SELECT m.type, m.name, ifnull(c.name, '') || ' ' || ifnull(c.type, ''), ifnull(c.[notnull], 0)
               FROM sqlite_schema m LEFT JOIN pragma_table_info(m.name) c ORDER BY 1, 2, 3";
    let mut statement = store.connection.prepare(sql).expect("prepared");
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
    rows.expect("queried").collect::<Result<_, _>>().expect("read")
}

#[test]
fn there_is_a_dump_of_every_version_before_the_newest() {
    assert!(DUMPS.len() + 1 >= schema::STEPS.len(), "a step was appended without the dump of the version before it");
    for (index, dump) in DUMPS.iter().enumerate() {
        assert!(dump.contains(&format!("PRAGMA user_version = {};", index + 1)), "dump {}", index + 1);
    }
}

#[test]
fn a_database_of_every_version_is_led_to_the_newest_and_read_as_ever() {
    let fresh = tempfile::tempdir().expect("folder");
    let expected = tables(&EmbeddedStore::open(fresh.path()).expect("opens"));
    for version in 1..=DUMPS.len() {
        let folder = of_version(version);
        let mut store = EmbeddedStore::open(folder.path()).unwrap_or_else(|error| panic!("version {version}: {error}"));
        assert_eq!(tables(&store), expected, "version {version}");
        let reader = store.reader();

        let seen = reader.device(&device("gw-01")).expect("read").expect("known");
        assert_eq!(seen.mark, Mark { epoch: 1_700_000_000, sequence: 42 });
        assert_eq!((seen.version.as_str(), seen.clock_ahead_ms, seen.clones), ("0.1.0", Some(250), 1));
        let counts = (seen.accepted, seen.duplicates, seen.gaps, seen.overlaps, seen.lost);
        assert_eq!(counts, (2, 3, 4, 5, 6));
        assert_eq!(reader.devices(None, Page::default()).expect("read").len(), 2);
        let sites = reader.sites(Page::default()).expect("read");
        assert_eq!((sites[0].devices, sites[0].cameras, sites[0].open_alerts), (2, 2, 1));

        let door = CameraId { device: device("gw-01"), camera: name("entrance") };
        let camera = reader.camera(&door).expect("read").expect("known");
        assert_eq!((camera.frames_total, camera.windows_total, camera.baseline_version), (4, 2, Some(2)));
        assert_eq!(camera.model.expect("a model").version, name("3.2.0"));
        let windows = reader.windows(&door, UnixMillis(0), 10).expect("read");
        assert_eq!(windows.len(), 1, "and the damaged one is left out");
        assert_eq!((windows[0].window.start, windows[0].quality.frames), (UnixMillis(1_700_000_040_000), 4));
        assert_eq!(reader.baseline(&door).expect("read"), Some((2, vec![0xbb])));
        let versions = reader.baseline_versions(&door).expect("read");
        let versions: Vec<_> = versions.iter().map(|v| (v.version, v.in_force, v.how, v.author.as_str())).collect();
        assert_eq!(versions, [(1, false, How::Learned, "driftglass"), (2, true, How::Learned, "driftglass")]);
        let yard = CameraId { device: device("gw-01"), camera: name("yard") };
        assert_eq!(reader.camera(&yard).expect("read").expect("known").baseline_version, None);
        assert_eq!(reader.camera_state(&door).expect("read"), Some(vec![1, 2, 3, 4, 5]));
        let alerts = reader.alerts(&AlertFilter::default(), Page::default()).expect("read");
        let told: Vec<_> = alerts.iter().map(|alert| (alert.id, alert.cause, alert.state)).collect();
        assert_eq!(told, [(4, Cause::Dark, AlertState::Resolved), (3, Cause::Frozen, AlertState::Alerting)]);
        assert_eq!(reader.totals().expect("read").accepted, 2);

        let mut saved = Vec::new();
        store.restore(&mut |one| saved.push(one)).expect("restores");
        let [Saved::Camera { baseline, .. }, Saved::Alert(_), Saved::LastAlert(4)] = &saved[..] else {
            panic!("{saved:?}");
        };
        assert_eq!(baseline, &Some((2, vec![0xbb])), "the newest was the one in force");

        if version >= 2 {
            assert_eq!(seen.enrolled_at, Some(UnixMillis(1_700_000_000_500)));
            let lost = reader.device(&device("gw-02")).expect("read").expect("known");
            assert_eq!(lost.revoked_at, Some(UnixMillis(1_700_000_003_000)));
            assert_eq!(reader.tokens(Page::default()).expect("read").len(), 2);
            assert_eq!(reader.identity_events(Page::default()).expect("read").len(), 2);
            let batch = store.begin().expect("begins");
            assert_eq!(batch.registered(&device("gw-01")).expect("read").key, Some(KeyId([0x11; 32])));
            assert!(batch.is_revoked(KeyId([0x44; 32])).expect("read"));
            let token = batch.token(&[0x22; 32]).expect("read").expect("there");
            assert_eq!((token.device, token.used_by), (device("gw-01"), Some(KeyId([0x11; 32]))));
        }

        if version >= 3 {
            assert_eq!(reader.configurations(Page::default()).expect("read").len(), 1, "one was withdrawn");
            let reported = seen.configuration.reported.as_ref().map(|reported| reported.in_effect);
            assert_eq!((seen.configuration.desired, reported), (1, Some(1)));
        }
        let record = reader.record(UnixMillis(0)).expect("read");
        let right = u32::from(version >= 4);
        assert_eq!((record.right, record.wrong, record.unjudged), (right, 0, 2 - right), "nobody could judge before");

        let mut batch = store.begin().expect("begins");
        let id = super::fixture::id(1_700_000_000, 43, 43);
        let bytes = tombstone(id, Mark::default());
        let mut core = super::fixture::Counting::default();
        let outcome =
            crate::ledger::enter(&mut batch, &mut core, &device("gw-01"), &bytes, UnixMillis(9), &mut Vec::new());
        assert!(matches!(outcome, Ok(crate::ledger::Outcome::Accepted(_))), "version {version}: {outcome:?}");
        batch.commit().expect("commits");
    }
}

#[test]
fn a_power_cut_in_the_middle_of_a_step_leaves_the_version_before_it() {
    for (version, step) in (1..=DUMPS.len()).filter_map(|version| Some((version, schema::STEPS.get(version)?))) {
        let folder = of_version(version);
        let path = folder.path().join(FILE_NAME);
        let mut connection = Connection::open(&path).expect("opens");
        // So that pages of the open transaction reach the disk.
        connection.pragma_update(None, "cache_size", 1).expect("set");
        let transaction = connection.transaction().expect("begins");
        transaction.execute_batch(step).expect("goes well until the power goes");
        let filler = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                      INSERT INTO tombstones (device, epoch, first, last, cause, start, end, received)
                      SELECT 1, i, i, i, 'spool-full', i, i, i FROM n";
        transaction.execute_batch(filler).expect("written");

        let after = tempfile::tempdir().expect("folder");
        for file in [FILE_NAME.to_owned(), format!("{FILE_NAME}-wal")] {
            fs::copy(folder.path().join(&file), after.path().join(&file)).expect("copied");
        }
        let log = fs::metadata(after.path().join(format!("{FILE_NAME}-wal"))).expect("there").len();
        assert!(log > 100_000, "half of the step is on the disk: {log} bytes");
        let found = Connection::open(after.path().join(FILE_NAME))
            .and_then(|found| found.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)));
        assert_eq!(found.map(usize::try_from), Ok(Ok(version)));
        let store = EmbeddedStore::open(after.path()).expect("the next start leads it on");
        assert_eq!(store.reader().totals().expect("read").devices, 2);
    }
}

#[test]
fn a_database_of_a_newer_release_is_refused_by_its_number_and_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    drop(EmbeddedStore::open(folder.path()).expect("made"));
    let newer = i64::try_from(schema::STEPS.len()).expect("small") + 1;
    let path = folder.path().join(FILE_NAME);
    Connection::open(&path).and_then(|newest| newest.pragma_update(None, "user_version", newer)).expect("changed");
    let error = EmbeddedStore::open(folder.path()).expect_err("newer");
    assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    assert!(error.to_string().contains(&format!("version {newer}")), "{error}");
    let found =
        Connection::open(&path).and_then(|left| left.pragma_query_value(None, "user_version", |row| row.get(0)));
    assert_eq!(found, Ok(newer));
}
