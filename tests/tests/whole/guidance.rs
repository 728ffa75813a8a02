//! Configuration from the centre: taken over by agents that are connected and by those that come later, refused where it cannot be,
//! rolled back where nothing is delivered under it or the agent does not survive it, and declined where the owner says so.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::camera::{Camera, scene, shots, view};
use crate::support::process::{lasting_port, said};
use crate::support::service::{Agent, Aggregator};
use crate::support::{PATIENCE, pause, until};

pub(super) const OWN: &str = "[pushed_configuration]\nconfirm_within = \"5s\"\n";

fn configuration(aggregator: &Aggregator) -> Option<Value> {
    let devices = aggregator.list("devices")?;
    devices.into_iter().find(|device| device["id"] == "north/gw").map(|device| device["configuration"].clone())
}

/// Waits until the device says that this version is in effect, and that this became of the one offered last.
pub(super) fn becomes(aggregator: &Aggregator, in_effect: u64, offered: u64, state: &str) -> Value {
    until(&format!("version {in_effect} in effect and {offered} {state}"), 2 * PATIENCE, || {
        let shown = configuration(aggregator)?;
        let right = shown["in_effect"] == in_effect && shown["offered"] == offered && shown["state"] == state;
        right.then_some(shown)
    })
}

pub(super) fn set(root: &Path, aggregator: &Aggregator, whom: &[&str], text: &str) -> u64 {
    let file = root.join("wish.toml");
    fs::write(&file, text).expect("written");
    let output = aggregator.operate(&[&["config", "set", file.to_str().expect("UTF-8")], whom].concat());
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    text.split_whitespace().nth(1).and_then(|version| version.parse().ok()).expect("its version")
}

/// Starts of the agent, as far as its log says.
fn starts(agent: &Agent) -> usize {
    agent.process.log().matches("the agent is running").count()
}

/// A camera that delivers while it is switched on.
pub(super) fn filmed<T>(mut camera: Camera, on: &AtomicBool, test: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if on.load(Ordering::Relaxed) {
                    camera.shoot();
                }
                pause(Duration::from_millis(200));
            }
        });
        test()
    })
}

#[test]
fn a_configuration_is_tried_proven_refused_rolled_back_and_declined() {
    let root = tempfile::tempdir().expect("folder");
    let root = root.path();
    let aggregator = Aggregator::issuing(root, "30d", lasting_port());
    let frames = root.join("frames");
    let camera = Camera::new(frames.clone(), &shots(&scene()[..4], view(1)), 0);
    let door = Agent::door(&frames);
    let mut agent = Agent::configured(root, aggregator.quic, "north", &format!("{OWN}{door}"), 0);
    let token = aggregator.operate(&["token", "create", "--site", "north", "--device", "gw"]);
    let token = String::from_utf8(token.stdout).expect("text");
    assert!(agent.enroll(token.trim_end()).status.success());

    let on = AtomicBool::new(true);
    filmed(camera, &on, || {
        // Wished before the agent comes.
        assert_eq!(set(root, &aggregator, &[], "[[camera]]\nname = \"*\"\nfps = 1\n"), 1);
        agent.restart();
        becomes(&aggregator, 1, 1, "applied");
        until("frames left out by the rate from the centre", PATIENCE, || {
            (aggregator.counts("north/gw/door").skipped > 0).then_some(())
        });

        // Told to the connection that stands; narrower.
        assert_eq!(set(root, &aggregator, &["--site", "north"], "[log]\nlevel = \"debug\"\n"), 2);
        becomes(&aggregator, 2, 2, "applied");
        until("the level of the log from the centre", PATIENCE, || agent.process.log().contains("DEBUG").then_some(()));

        // What may not be said at all does not leave the operator's tool.
        let file = root.join("wish.toml");
        fs::write(&file, "[aggregator]\naddress = \"elsewhere:1\"\n").expect("written");
        let output = aggregator.operate(&["config", "set", file.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        // What this device cannot be set to is refused by it.
        let device = ["--device", "north/gw"];
        assert_eq!(set(root, &aggregator, &device, "[[camera]]\nname = \"gate\"\nfps = 1\n"), 3);
        let shown = becomes(&aggregator, 2, 3, "refused");
        assert!(shown["detail"].as_str().is_some_and(|detail| detail.contains("gate")), "{shown:#}");

        // The window's length waits for a start, and is proven by what is delivered after it.
        assert_eq!(set(root, &aggregator, &device, "[window]\nlength = \"2s\"\n"), 4);
        let shown = becomes(&aggregator, 4, 4, "on-trial");
        assert_eq!(shown["waits_for_restart"], true, "{shown:#}");
        agent.process.terminate();
        agent.restart();
        let shown = becomes(&aggregator, 4, 4, "applied");
        assert_eq!(shown["waits_for_restart"], false, "{shown:#}");
        until("a window of two seconds", PATIENCE, || {
            let window = aggregator.camera("north/gw/door")?["last_window"].clone();
            let time = |key: &str| humantime::parse_rfc3339(window[key].as_str().expect("a time")).expect("RFC 3339");
            (time("end") == time("start") + Duration::from_secs(2)).then_some(())
        });

        // Nothing is delivered under it.
        on.store(false, Ordering::Relaxed);
        pause(Duration::from_secs(5));
        assert_eq!(set(root, &aggregator, &device, "[window]\nlength = \"2s\"\n[device_health]\nenabled = true\n"), 5);
        becomes(&aggregator, 5, 5, "on-trial");
        let shown = becomes(&aggregator, 4, 5, "rolled-back");
        assert!(shown["detail"].as_str().is_some_and(|detail| detail.contains("nothing was delivered")), "{shown:#}");

        // The agent dies of it, again and again.
        assert_eq!(
            set(root, &aggregator, &device, "[window]\nlength = \"2s\"\n[prediction]\ndetectors = [\"ddm\"]\n"),
            6
        );
        becomes(&aggregator, 6, 6, "on-trial");
        let before = starts(&agent);
        for started in before + 1..=before + 4 {
            agent.process.kill();
            agent.restart();
            until("another start", PATIENCE, || {
                agent.process.assert_running();
                (starts(&agent) == started).then_some(())
            });
        }
        let shown = becomes(&aggregator, 4, 6, "rolled-back");
        assert!(shown["detail"].as_str().is_some_and(|detail| detail.contains("started 3 times")), "{shown:#}");

        // Withdrawn, the wider one holds again; and it is in effect after a start as well.
        on.store(true, Ordering::Relaxed);
        let output = aggregator.operate(&["config", "unset", "--device", "north/gw"]);
        assert!(output.status.success(), "{}", said(&output));
        until("the wider one", 2 * PATIENCE, || (configuration(&aggregator)?["in_effect"] == 2).then_some(()));
        agent.process.terminate();
        agent.restart();
        becomes(&aggregator, 2, 2, "applied");

        let listed = said(&aggregator.operate(&["devices"]));
        assert!(listed.lines().any(|line| line.starts_with("north/gw") && line.trim_end().ends_with(" 2")), "{listed}");
        let shown = said(&aggregator.operate(&["config", "show", "north/gw"]));
        assert!(shown.contains("level = \"debug\""), "{shown}");
        let listed = said(&aggregator.operate(&["config", "list"]));
        assert!(listed.contains("north/*") && listed.lines().count() == 3, "{listed}");

        // The owner has the last word.
        agent.process.terminate();
        let own = format!("[pushed_configuration]\naccept = false\n{door}");
        let mut agent = Agent::configured(root, aggregator.quic, "north", &own, 0);
        agent.restart();
        becomes(&aggregator, 0, 2, "declined");
        agent.process.terminate();
    });
}
