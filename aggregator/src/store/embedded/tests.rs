//! The embedded store as its users see it.

use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;

use super::fixture::{Counting, MINUTE, NOW, alert as alert_of, camera, device, frame, hello, id, name, tombstone};
use super::*;
use crate::alert::{AlertState, EffectSize, Group, Judgement, Scope, Severity, Verdict};
use crate::decision::{Change, History, How, Order, OrderError, Origin, Wish};
use crate::ledger::{Outcome, enter, judge_alert, obey};
use crate::store::Batch;
use crate::store::Standing;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

fn open(folder: &tempfile::TempDir) -> EmbeddedStore {
    EmbeddedStore::open(folder.path()).expect("opens")
}

/// Enters windows of one camera, one a minute, and commits.
fn deliver(store: &mut EmbeddedStore, core: &mut Counting, device: &DeviceId, camera: &str, minutes: &[i64]) {
    let mut batch = store.begin().expect("begins");
    for &minute in minutes {
        let mark = batch.mark(device).expect("mark");
        let bytes = frame(id(1, mark.sequence + 1, mark.sequence + 1), Mark::default(), camera, minute);
        let outcome = enter(&mut batch, core, device, &bytes, NOW, &mut Vec::new()).expect("enters");
        assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    }
    batch.commit().expect("commits");
}

#[test]
fn marks_states_and_alerts_are_as_before_after_a_restart() {
    let folder = folder();
    let gateway = device("gw");
    let mut core = Counting::default();
    {
        let mut store = open(&folder);
        deliver(&mut store, &mut core, &gateway, "door", &[1, 2, 3, 4, 5]);
        let mut batch = store.begin().expect("begins");
        let resolved = alert_of(7, &camera(&gateway, "door"), AlertState::Resolved, NOW);
        batch.apply(&Change::Alert(Box::new(resolved))).expect("stores");
        batch.commit().expect("commits");
    }
    let mut store = open(&folder);
    assert_eq!(store.begin().expect("begins").mark(&gateway).expect("mark"), Mark { epoch: 1, sequence: 5 });
    let restored = crate::writer::restore(&mut store, &Counting::default).expect("restores");
    assert_eq!(restored.seen, core.seen);
    assert_eq!(restored.open, [alert_of(1, &camera(&gateway, "door"), AlertState::Alerting, UnixMillis(300_000))]);
    assert_eq!(restored.next_alert, 8, "numbers of resolved alerts are not used again");
}

#[test]
fn what_was_not_committed_never_happened() {
    let folder = folder();
    let gateway = device("gw");
    {
        let mut store = open(&folder);
        let mut core = Counting::default();
        deliver(&mut store, &mut core, &gateway, "door", &[1]);
        let mut batch = store.begin().expect("begins");
        let bytes = frame(id(1, 2, 2), Mark::default(), "door", 2);
        enter(&mut batch, &mut core, &gateway, &bytes, NOW, &mut Vec::new()).expect("enters");
        assert_eq!(batch.mark(&gateway).expect("mark").sequence, 2);
    }
    let store = open(&folder);
    let reader = store.reader();
    assert_eq!(reader.device(&gateway).expect("reads").expect("known").mark, Mark { epoch: 1, sequence: 1 });
    assert_eq!(reader.windows(&camera(&gateway, "door"), UnixMillis(0), 10).expect("reads").len(), 1);
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join(FILE_NAME);
    std::fs::write(&path, b"").expect("creates");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("sets");
    let mut store = open(&folder);
    deliver(&mut store, &mut Counting::default(), &device("gw"), "door", &[1]);
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).expect("lists") {
        let entry = entry.expect("entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert_eq!(files, 4, "database, log, shared memory, lock");
}

#[test]
fn a_second_aggregator_and_a_foreign_file_are_refused() {
    let folder = folder();
    let store = open(&folder);
    assert!(matches!(EmbeddedStore::open(folder.path()), Err(StoreError::InUse { .. })));
    drop(store);
    drop(open(&folder));

    let other = self::folder();
    let connection = Connection::open(other.path().join(FILE_NAME)).expect("creates");
    connection.execute_batch("CREATE TABLE cookies (crumb)").expect("creates");
    drop(connection);
    assert!(matches!(EmbeddedStore::open(other.path()), Err(StoreError::Foreign { found: 0, .. })));
    assert!(matches!(EmbeddedStore::open(&other.path().join("missing")), Err(StoreError::File { .. })));
}

#[test]
fn a_commit_is_synchronous_and_foreign_keys_are_checked() {
    let folder = folder();
    let store = open(&folder);
    let number =
        |pragma| -> i64 { store.connection.pragma_query_value(None, pragma, |row| row.get(0)).expect("pragma") };
    assert_eq!((number("synchronous"), number("foreign_keys")), (2, 1));
}

#[test]
fn a_mark_moves_only_from_where_it_was_judged() {
    let folder = folder();
    let mut store = open(&folder);
    let mut batch = store.begin().expect("begins");
    let (gateway, at) = (device("gw"), |sequence| Mark { epoch: 1, sequence });
    batch.register(&gateway, NOW).expect("registers");
    batch.set_mark(&gateway, Mark::default(), at(1), NOW).expect("moves");
    let error = batch.set_mark(&gateway, Mark::default(), at(1), NOW).expect_err("has moved");
    assert!(matches!(error, StoreError::MarkMoved { .. }), "{error}");
}

#[test]
fn a_damaged_window_is_set_aside_and_the_others_stay() {
    let folder = folder();
    let mut store = open(&folder);
    let gateway = device("gw");
    deliver(&mut store, &mut Counting::default(), &gateway, "door", &[1, 2, 3]);
    store
        .connection
        .execute("UPDATE windows SET frame = substr(frame, 1, length(frame) - 1) WHERE id = 2", ())
        .expect("damages");
    let door = camera(&gateway, "door");
    assert_eq!(store.reader().windows(&door, UnixMillis(0), 10).expect("reads").len(), 2);
    let batch = store.begin().expect("begins");
    assert_eq!(batch.windows(&door, UnixMillis(0)..UnixMillis(i64::MAX), 10).expect("reads").len(), 2);
    batch.commit().expect("commits");
    let aside: i64 = store.connection.query_row("SELECT sum(damaged) FROM windows", (), |row| row.get(0)).expect("sum");
    assert_eq!(aside, 1);
}

#[test]
fn old_windows_are_forgotten_in_steps_and_totals_stay() {
    let folder = folder();
    let mut store = open(&folder);
    let gateway = device("gw");
    deliver(&mut store, &mut Counting::default(), &gateway, "door", &[5, 1, 4, 2, 3]);
    let mut batch = store.begin().expect("begins");
    let before = UnixMillis(4 * i64::from(MINUTE));
    assert_eq!(batch.forget_before(before, 2).expect("forgets"), 2);
    assert_eq!(batch.forget_before(before, 2).expect("forgets"), 1);
    assert_eq!(batch.forget_before(before, 2).expect("forgets"), 0);
    batch.commit().expect("commits");
    let reader = store.reader();
    let door = camera(&gateway, "door");
    let left: Vec<i64> = reader
        .windows(&door, UnixMillis(i64::MIN), 10)
        .expect("reads")
        .iter()
        .map(|window| window.window.start.0 / i64::from(MINUTE))
        .collect();
    assert_eq!(left, [4, 5]);
    assert_eq!(reader.camera(&door).expect("reads").expect("known").windows_total, 5);
}

#[test]
fn history_is_the_newest_windows_of_one_camera_and_equal_starts_all_count() {
    let folder = folder();
    let mut store = open(&folder);
    let gateway = device("gw");
    let mut core = Counting::default();
    deliver(&mut store, &mut core, &gateway, "door", &[3, 1, 3, 2]);
    deliver(&mut store, &mut core, &gateway, "gate", &[9]);
    let batch = store.begin().expect("begins");
    let starts = |minutes: std::ops::Range<i64>, limit| -> Vec<i64> {
        let at = |minute: i64| UnixMillis(minute * i64::from(MINUTE));
        let span = at(minutes.start)..at(minutes.end);
        let windows = batch.windows(&camera(&gateway, "door"), span, limit).expect("reads");
        windows.iter().map(|window| window.window.start.0 / i64::from(MINUTE)).collect()
    };
    assert_eq!(starts(0..9, 10), [1, 2, 3, 3]);
    assert_eq!(starts(0..9, 3), [2, 3, 3]);
    assert_eq!(starts(2..9, 10), [2, 3, 3]);
    assert_eq!(starts(1..3, 10), [1, 2], "the end is not part of it");
    assert!(
        batch.windows(&camera(&gateway, "none"), UnixMillis(0)..UnixMillis(i64::MAX), 9).expect("reads").is_empty()
    );
}

#[test]
fn a_reader_sees_totals_the_newest_window_and_alerts_by_filter() {
    let folder = folder();
    let mut store = open(&folder);
    let reader = store.reader();
    assert_eq!(reader.totals().expect("reads"), FleetTotals::default());
    assert!(reader.sites(Page::default()).expect("reads").is_empty());

    let mut core = Counting::default();
    let (one, two) = (device("one"), DeviceId { site: name("yard"), device: name("two") });
    deliver(&mut store, &mut core, &one, "door", &[1, 2, 4, 3]);
    deliver(&mut store, &mut core, &one, "gate", &[1]);
    deliver(&mut store, &mut core, &two, "door", &[7, 8, 9, 10]);
    let mut batch = store.begin().expect("begins");
    assert_eq!(batch.greet(&hello(&one, 1, 11), NOW).expect("greets").mark.sequence, 5);
    let mut standing = |instance, at| batch.greet(&hello(&one, 2, instance), at).expect("greets").standing;
    let silent = i64::try_from(crate::store::OWNER_SILENT_MS).expect("small");
    assert_eq!(standing(12, NOW), Standing::Welcome, "a later start");
    assert_eq!(standing(13, NOW), Standing::Cloned, "another instance of the same start");
    assert_eq!(standing(12, UnixMillis(NOW.0 + 1)), Standing::Welcome, "the owner goes on");
    assert_eq!(standing(13, UnixMillis(NOW.0 + silent)), Standing::Cloned, "which was heard only just in time");
    assert_eq!(standing(13, UnixMillis(NOW.0 + silent + 1)), Standing::Spent, "nobody owns it any more");
    assert_eq!(standing(12, NOW), Standing::Welcome);
    let bytes = tombstone(id(1, 6, 9), Mark::default());
    enter(&mut batch, &mut core, &one, &bytes, NOW, &mut Vec::new()).expect("enters");
    batch.commit().expect("commits");

    let door = camera(&one, "door");
    let seen = reader.camera(&door).expect("reads").expect("known");
    let totals = [seen.frames_total, seen.windows_total, seen.missing_total, seen.undecodable_total];
    assert_eq!(totals, [240, 4, 4, 8]);
    assert_eq!((seen.skipped_total, seen.late_total), (12, 16));
    let newest = seen.last_window.expect("has one");
    assert_eq!(newest.start, UnixMillis(4 * i64::from(MINUTE)), "the newest in event time, not the last to arrive");
    assert_eq!(seen.model.expect("has one").version, name("4"));
    assert_eq!((seen.baseline_version, seen.open_alerts), (Some(4), 1));
    assert_eq!(reader.baseline(&door).expect("reads"), Some((4, vec![4, 0, 0, 0])));
    assert_eq!(reader.baseline_versions(&door).expect("reads").len(), 4);
    assert_eq!(reader.camera_state(&door).expect("reads"), Some(vec![4, 0, 0, 0]));
    assert_eq!(reader.newest_windows(&door, 1).expect("reads")[0].window, newest);
    assert_eq!(reader.camera(&camera(&one, "none")).expect("reads"), None);

    let sites = reader.sites(Page::default()).expect("reads");
    let figures: Vec<_> =
        sites.iter().map(|s| (s.site.as_str(), s.devices, s.cameras, s.frames_total, s.open_alerts)).collect();
    assert_eq!(figures, [("site", 1, 2, 300, 1), ("yard", 1, 1, 240, 1)]);
    let devices = reader.devices(None, Page::default()).expect("reads");
    assert_eq!(devices.len(), 2);
    assert_eq!((devices[0].clones, devices[0].lost, devices[0].clock_ahead_ms), (3, 4, Some(-250)));
    assert_eq!((devices[0].accepted, devices[0].version.as_str()), (6, "1.2.3"));
    assert_eq!(reader.devices(Some(&name("yard")), Page::default()).expect("reads"), devices[1..]);
    assert_eq!(reader.cameras(None, Page { offset: 1, limit: 1 }).expect("reads")[0].id, camera(&one, "gate"));
    assert_eq!(reader.cameras(Some(&name("yard")), Page::default()).expect("reads").len(), 1);
    let fleet = reader.totals().expect("reads");
    assert_eq!((fleet.devices, fleet.cameras, fleet.accepted, fleet.lost), (2, 3, 10, 4));

    const NONE: [u64; 0] = [];
    let ids = |filter: AlertFilter| -> Vec<u64> {
        reader.alerts(&filter, Page::default()).expect("reads").iter().map(|alert| alert.id).collect()
    };
    assert_eq!(ids(AlertFilter::default()), [2, 1], "those raised last first");
    assert_eq!(ids(AlertFilter { site: Some(name("site")), ..AlertFilter::default() }), [1]);
    assert_eq!(ids(AlertFilter { camera: Some(camera(&two, "door")), ..AlertFilter::default() }), [2]);
    assert_eq!(ids(AlertFilter { camera: Some(camera(&two, "gate")), ..AlertFilter::default() }), NONE);
    assert_eq!(ids(AlertFilter { state: Some(AlertState::Resolved), ..AlertFilter::default() }), NONE);
    let since = UnixMillis(11 * i64::from(MINUTE));
    assert_eq!(ids(AlertFilter { since: Some(since), ..AlertFilter::default() }), [2]);
    assert_eq!(
        reader.alert(1).expect("reads"),
        Some(alert_of(1, &door, AlertState::Alerting, UnixMillis(4 * i64::from(MINUTE))))
    );
    assert_eq!(reader.alert(99).expect("reads"), None);
    let counts = reader.alert_counts().expect("reads");
    assert_eq!(counts.len(), 2);
    assert_eq!((counts[0].severity, counts[0].state, counts[0].count), (Severity::High, AlertState::Alerting, 1));

    let mut resolved = reader.alert(1).expect("reads").expect("known");
    resolved.state = AlertState::Resolved;
    let mut batch = store.begin().expect("begins");
    batch.apply(&Change::Alert(Box::new(resolved))).expect("stores");
    batch.commit().expect("commits");
    assert_eq!(ids(AlertFilter { state: Some(AlertState::Resolved), ..AlertFilter::default() }), [1]);
    assert_eq!(reader.camera(&door).expect("reads").expect("known").open_alerts, 0);

    let mut fleet_wide = alert_of(3, &door, AlertState::Alerting, UnixMillis(12 * i64::from(MINUTE)));
    fleet_wide.scope = Scope::Fleet;
    fleet_wide.group = Some(Group { changed: 2, cameras: 3, model: None });
    let mut batch = store.begin().expect("begins");
    batch.apply(&Change::Alert(Box::new(fleet_wide.clone()))).expect("stores");
    batch.commit().expect("commits");
    assert_eq!(reader.alert(3).expect("reads"), Some(fleet_wide));
    assert_eq!(
        ids(AlertFilter { site: Some(name("yard")), ..AlertFilter::default() }),
        [3, 2],
        "every site's business"
    );
    assert_eq!(
        ids(AlertFilter { camera: Some(door.clone()), ..AlertFilter::default() }),
        [1],
        "and no single camera's"
    );
    assert_eq!(reader.camera(&door).expect("reads").expect("known").open_alerts, 0);
}

#[test]
fn only_so_many_versions_of_a_baseline_are_kept() {
    let folder = folder();
    let mut store = open(&folder);
    let gateway = device("gw");
    deliver(&mut store, &mut Counting::default(), &gateway, "door", &(1..41).collect::<Vec<_>>());
    let versions = store.reader().baseline_versions(&camera(&gateway, "door")).expect("reads");
    assert_eq!((versions.len(), versions[0].version), (32, 9));
}

fn roll_back(to: u32) -> Order {
    Order { wish: Wish::Rollback { to: Some(to) }, author: "jo".into(), note: "as it was".into() }
}

#[test]
fn what_is_in_force_is_what_an_operator_said_last_also_after_a_restart_and_newer_versions_stay() {
    let folder = folder();
    let mut store = open(&folder);
    let (gateway, mut core) = (device("gw"), Counting::default());
    let door = camera(&gateway, "door");
    deliver(&mut store, &mut core, &gateway, "door", &[1, 2, 3]);
    let mut batch = store.begin().expect("begins");
    assert_eq!(
        (batch.versions(&door).expect("reads"), batch.baseline(&door, 4).expect("reads")),
        (vec![1, 2, 3], None)
    );
    let mut say = |order| obey(&mut batch, &mut core, &door, &order, NOW, &mut Vec::new()).expect("reads and writes");
    assert_eq!(say(roll_back(4)), Err(OrderError::UnknownVersion(4)));
    assert_eq!(say(roll_back(1)), Ok(()));
    batch.commit().expect("commits");

    let in_force = |store: &mut EmbeddedStore| {
        let mut found = None;
        let mut take = |saved| {
            if let Saved::Camera { baseline, .. } = saved {
                found = baseline;
            }
        };
        store.restore(&mut take).expect("restores");
        let reader = store.reader();
        assert_eq!(reader.baseline(&door).expect("reads"), found);
        let version = reader.camera(&door).expect("reads").expect("known").baseline_version;
        assert_eq!(version, found.as_ref().map(|(version, _)| *version));
        let versions = reader.baseline_versions(&door).expect("reads");
        let marked = versions.iter().filter(|version| version.in_force).map(|version| version.version);
        assert_eq!(marked.collect::<Vec<_>>(), version.into_iter().collect::<Vec<_>>());
        (found, versions.len())
    };
    drop(store);
    let mut store = open(&folder);
    assert_eq!(in_force(&mut store), (Some((1, vec![1, 0, 0, 0])), 3));
    let moves = store.reader().baseline_moves(&door, Page::default()).expect("reads");
    let told: Vec<_> =
        moves.iter().map(|m| (m.at, m.wish.as_str(), m.version, m.author.as_str(), m.note.as_str())).collect();
    assert_eq!(told, [(NOW, "rollback", Some(1), "jo", "as it was")]);

    let mut batch = store.begin().expect("begins");
    batch.apply(&Change::InForce { camera: door.clone(), version: None }).expect("written");
    batch.commit().expect("commits");
    assert_eq!(in_force(&mut store), (None, 3), "it learns");
    deliver(&mut store, &mut core, &gateway, "door", &[4]);
    assert_eq!(in_force(&mut store), (Some((4, vec![4, 0, 0, 0])), 4), "a new version is in force");
}

#[test]
fn a_version_that_is_there_is_never_overwritten() {
    let folder = folder();
    let mut store = open(&folder);
    let (gateway, mut core) = (device("gw"), Counting::default());
    deliver(&mut store, &mut core, &gateway, "door", &[1, 2]);
    let door = camera(&gateway, "door");
    let origin = Origin { how: How::Promoted, author: "jo".into(), note: String::new() };
    let again = Change::Baseline { camera: door.clone(), version: 2, learned_at: NOW, baseline: vec![9], origin };
    assert!(store.begin().expect("begins").apply(&again).is_err());
    assert_eq!(store.reader().baseline(&door).expect("reads"), Some((2, vec![2, 0, 0, 0])));
}

#[test]
fn only_so_much_of_what_operators_did_is_kept_the_newest_of_it() {
    let folder = folder();
    let mut store = open(&folder);
    let (gateway, mut core) = (device("gw"), Counting::default());
    let (door, gate) = (camera(&gateway, "door"), camera(&gateway, "gate"));
    deliver(&mut store, &mut core, &gateway, "door", &[1, 2]);
    deliver(&mut store, &mut core, &gateway, "gate", &[1]);
    let mut batch = store.begin().expect("begins");
    for number in 0..300_u32 {
        let order = roll_back(1 + number % 2);
        obey(&mut batch, &mut core, &door, &order, UnixMillis(number.into()), &mut Vec::new())
            .expect("written")
            .expect("obeyed");
    }
    obey(&mut batch, &mut core, &gate, &roll_back(1), NOW, &mut Vec::new()).expect("written").expect("obeyed");
    batch.commit().expect("commits");
    let all = Page { offset: 0, limit: 1000 };
    let moves = store.reader().baseline_moves(&door, all).expect("reads");
    assert_eq!((moves.len(), moves[0].at, moves[255].at), (256, UnixMillis(299), UnixMillis(44)));
    assert_eq!(store.reader().baseline_moves(&gate, all).expect("reads").len(), 1, "each camera has its own");
}

#[test]
fn an_alert_with_figures_that_are_not_numbers_reads_back() {
    let folder = folder();
    let mut store = open(&folder);
    let gateway = device("gw");
    let mut batch = store.begin().expect("begins");
    batch.register(&gateway, NOW).expect("registers");
    let mut alert = alert_of(1, &camera(&gateway, "door"), AlertState::Alerting, NOW);
    alert.features[0].shift = f64::NAN;
    alert.features[0].effect = Some(EffectSize { psi: 0.5, jensen_shannon: f64::NAN, wasserstein: f64::INFINITY });
    batch.apply(&Change::Alert(Box::new(alert))).expect("stores, also for a camera without a window");
    batch.commit().expect("commits");
    let moved = store.reader().alert(1).expect("reads").expect("known").features[0];
    assert_eq!(moved.shift, 0.0);
    assert_eq!(moved.effect, Some(EffectSize { psi: 0.5, jensen_shannon: 0.0, wasserstein: 0.0 }));
}

#[test]
fn a_verdict_on_an_alert_that_is_over_is_kept_and_counted_where_it_was_raised() {
    let folder = folder();
    let mut store = open(&folder);
    let reader = store.reader();
    assert_eq!(reader.last_seen().expect("reads"), None);
    assert_eq!(reader.record(NOW).expect("reads"), AlertRecord::default());
    let (one, two) = (device("one"), DeviceId { site: name("yard"), device: name("two") });
    let mut core = Counting::default();
    deliver(&mut store, &mut core, &one, "door", &[1, 2, 3, 4]);
    deliver(&mut store, &mut core, &two, "door", &[7, 8, 9, 10]);
    let day = 86_400_000;
    let mut batch = store.begin().expect("begins");
    batch.greet(&hello(&one, 2, 12), UnixMillis(NOW.0 + 3 * day)).expect("greets");
    batch.commit().expect("commits");

    let judgement = Judgement { verdict: Verdict::False, author: "jo".into(), note: String::new() };
    let mut judge = |id| {
        let (mut batch, mut events) = (store.begin().expect("begins"), Vec::new());
        let alert = judge_alert(&mut batch, &mut core, id, &judgement, NOW, &mut events).expect("reads and writes");
        batch.commit().expect("commits");
        (alert, events.len())
    };
    let mut expected = reader.alert(2).expect("reads").expect("known");
    expected.judge(&judgement, NOW);
    assert_eq!(judge(2), (Some(expected.clone()), 1), "the core does not have it any more");
    assert_eq!(judge(99), (None, 0));
    assert_eq!(reader.alert(2).expect("reads"), Some(expected));

    assert_eq!(reader.last_seen().expect("reads"), Some(UnixMillis(NOW.0 + 3 * day)));
    let record = |since: i64| reader.record(UnixMillis(since)).expect("reads");
    let days = |record: AlertRecord| record.site_time.as_millis() / 86_400_000;
    let all = record(0);
    assert_eq!((all.right, all.wrong, all.unjudged, days(all)), (0, 1, 1, 3), "the second site was heard once");
    let later = record(6 * i64::from(MINUTE));
    assert_eq!((later.wrong, later.unjudged), (1, 0), "the first alert was raised before");
    assert_eq!(days(record(NOW.0 + day)), 2);
}
