//! A camera that was moved on purpose: it is told, accepted as normal, learned, told no more; and told again after a rollback.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use driftglass_agent::fault::{Injector, Kind, Severity};
use image::RgbImage;
use serde_json::Value;

use crate::support::authority::Authority;
use crate::support::camera::{Camera, scene, shots, view};
use crate::support::process::{STEP, said};
use crate::support::service::{Agent, Aggregator};
use crate::support::{PATIENCE, now, pause, until};

const DOOR: &str = "north/gw/door";
/// A twelfth of a second.
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 12);
/// How long nothing may be told.
const CALM: Duration = Duration::from_secs(8);

/// A camera that shoots all the while, elsewhere from the moment on that it was moved.
fn filmed(frames: &Path, pictures: &[RgbImage], moved: &AtomicBool, test: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let mut camera = Camera::new(frames.to_owned(), pictures, 0);
    thread::scope(|scope| {
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(&over);
        scope.spawn(|| {
            let (mut due, mut broken) = (now(), false);
            while !over.load(Ordering::Relaxed) {
                if !broken && moved.load(Ordering::Relaxed) {
                    camera.break_with(Injector::new(Kind::Moved, Severity::MARKED, 1), pictures);
                    (due, broken) = (now(), true);
                }
                camera.shoot();
                due += FRAME;
                pause(due.saturating_duration_since(now()));
            }
        });
        test();
    });
}

fn open_alert(aggregator: &Aggregator) -> Option<Value> {
    aggregator.list("alerts")?.into_iter().find(|alert| alert["state"] != "resolved")
}

/// The version in force, as the operator's tool says; 0 while the camera learns.
fn in_force(aggregator: &Aggregator) -> u64 {
    let output = aggregator.operate(&["baseline", "list", DOOR, "--format", "json"]);
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    listed["in_force"].as_u64().unwrap_or(0)
}

fn stays_calm(aggregator: &Aggregator) {
    let end = now() + CALM;
    while now() < end {
        assert_eq!(open_alert(aggregator), None, "it was accepted as normal");
        pause(STEP);
    }
}

#[test]
fn a_camera_moved_on_purpose_is_accepted_as_normal_and_told_again_after_a_rollback() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let mut aggregator = Aggregator::start(root, &authority, crate::support::process::lasting_port());
    let (frames, moved) = (root.join("frames"), AtomicBool::new(false));
    let pictures = shots(&scene(), view(1));
    let device = authority.device("north", "gw");
    let mut agent = Agent::start(root, &authority, &device, aggregator.quic, "north", &frames, 0);
    filmed(&frames, &pictures, &moved, || {
        until("a baseline", 2 * PATIENCE, || (aggregator.camera(DOOR)?["baseline_version"] == 1).then_some(()));
        assert_eq!(in_force(&aggregator), 1);
        let refused = aggregator.operate(&["baseline", "freeze", DOOR]);
        assert!(refused.status.code() == Some(1) && said(&refused).contains("it has a baseline"), "{}", said(&refused));
        let refused = aggregator.operate(&["baseline", "rollback", DOOR]);
        assert!(refused.status.code() == Some(1) && said(&refused).contains("no earlier"), "{}", said(&refused));
        pause(Duration::from_secs(3));
        assert_eq!(open_alert(&aggregator), None, "nothing is wrong yet");

        moved.store(true, Ordering::Relaxed);
        let alert = until("an alert", PATIENCE, || open_alert(&aggregator));
        assert_eq!((&alert["camera_id"], &alert["scope"]), (&DOOR.into(), &"camera".into()), "{alert:#}");

        let promoted = aggregator.operate(&["baseline", "promote", DOOR, "--note", "the new till"]);
        assert!(promoted.status.success() && said(&promoted).contains("it learns since"), "{}", said(&promoted));
        let alerts = aggregator.list("alerts").expect("the aggregator answers");
        let last = alerts[0]["history"].as_array().and_then(|history| history.last()).expect("an entry").clone();
        assert_eq!((&last["state"], &last["author"]), (&"resolved".into(), &"operator".into()), "{last:#}");
        assert_eq!(last["note"], "accepted as normal: the new till");
        assert_eq!(
            (in_force(&aggregator), aggregator.camera(DOOR).expect("known")["state"].clone()),
            (0, "learning".into())
        );

        // A restart in the middle of learning anew loses nothing of it.
        aggregator.process.kill();
        aggregator.restart();
        until("another baseline", 2 * PATIENCE, || (in_force(&aggregator) == 2).then_some(()));
        stays_calm(&aggregator);
        let listed = said(&aggregator.operate(&["baseline", "list", DOOR]));
        assert!(listed.contains("promoted  operator: the new till"), "{listed}");

        let back = aggregator.operate(&["baseline", "rollback", DOOR]);
        assert!(back.status.success() && said(&back).contains("version 1 is in force"), "{}", said(&back));
        aggregator.process.kill();
        aggregator.restart();
        assert_eq!(in_force(&aggregator), 1, "what was rolled back to, and not the newest");
        let again = until("the alert again", PATIENCE, || open_alert(&aggregator));
        assert_eq!((&again["camera_id"], &again["id"]), (&DOOR.into(), &2.into()), "{again:#}");

        let forward = aggregator.operate(&["baseline", "rollback", DOOR, "--to", "2", "--note", "the till stays"]);
        assert!(forward.status.success(), "{}", said(&forward));
        stays_calm(&aggregator);
        assert_eq!(aggregator.list("alerts").map(|alerts| alerts.len()), Some(2));
        agent.process.assert_running();
    });
    agent.process.terminate();
    aggregator.process.terminate();
}
