//! A backup taken from a running aggregator brings the fleet back: devices go on by themselves, deliver again what they still have of
//! what came since, show the rest as lost, and nothing counts twice.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use crate::support::camera::{Camera, scene, shots, view};
use crate::support::process::{STEP, lasting_port, run, said};
use crate::support::service::{Agent, Aggregator};
use crate::support::{PATIENCE, pause, until};

/// Runs the aggregator's program with its configuration.
fn command(root: &Path, arguments: &[&str]) -> Output {
    let config = root.join("aggregator.toml");
    run("driftglass-aggregator", &[arguments, &["--config", config.to_str().expect("UTF-8")]].concat())
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

fn fails(output: &Output, reason: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(said(output).contains(reason), "{}", said(output));
}

fn enroll(aggregator: &Aggregator, agent: &Agent, site: &str) {
    let output = aggregator.operate(&["token", "create", "--site", site, "--device", "gw"]);
    assert!(output.status.success(), "{}", said(&output));
    let token = String::from_utf8(output.stdout).expect("text");
    succeeds(&agent.enroll(token.trim_end()));
}

fn enrolled(root: &Path, aggregator: &Aggregator, site: &str, number: u8) -> (Agent, Camera) {
    let frames = root.join(format!("frames-{site}"));
    let camera = Camera::new(frames.clone(), &shots(&scene()[..4], view(number)), 0);
    let mut agent = Agent::configured(root, aggregator.quic, site, &Agent::door(&frames), 0);
    enroll(aggregator, &agent, site);
    agent.restart();
    (agent, camera)
}

/// Some frames a second apart, so that they make several windows.
fn shoot(camera: &mut Camera, seconds: u32) {
    for _ in 0..seconds {
        camera.shoot();
        camera.shoot();
        pause(std::time::Duration::from_millis(1100));
    }
}

/// Waits until so many frames are counted, and sees that it stays at that.
fn counted(aggregator: &Aggregator, site: &str, frames: u64) {
    let id = format!("{site}/gw/door");
    until(&format!("{frames} frames of {site}"), 2 * PATIENCE, || {
        let counts = aggregator.counts(&id);
        assert!(counts.total() <= frames, "{counts:?}, {frames} expected");
        (counts.frames == frames).then_some(())
    });
    pause(STEP);
    assert_eq!(aggregator.counts(&id).total(), frames, "{site}");
}

fn windows(aggregator: &Aggregator, site: &str) -> u64 {
    let camera = aggregator.camera(&format!("{site}/gw/door")).expect("known");
    camera["windows_total"].as_u64().expect("a count")
}

fn lost(aggregator: &Aggregator, site: &str) -> u64 {
    let devices = aggregator.list("devices").expect("the aggregator answers");
    let device = devices.iter().find(|device| device["site"] == site).expect("known");
    device["lost_windows"].as_u64().expect("a count")
}

#[test]
fn a_fleet_goes_on_by_itself_after_a_restore_and_what_came_since_is_shown_as_lost() {
    let root = tempfile::tempdir().expect("folder");
    let root = root.path();
    let file = root.join("fleet.backup");
    let path = file.to_str().expect("UTF-8");
    let mut aggregator = Aggregator::issuing(root, "30d", lasting_port());
    let (mut steady, mut steady_camera) = enrolled(root, &aggregator, "steady", 0);
    let (mut restarted, mut restarted_camera) = enrolled(root, &aggregator, "restarted", 1);
    for (site, camera) in [("steady", &mut steady_camera), ("restarted", &mut restarted_camera)] {
        shoot(camera, 2);
        counted(&aggregator, site, camera.written);
    }
    let before = [steady_camera.written, restarted_camera.written];
    let windows_before = ["steady", "restarted"].map(|site| windows(&aggregator, site));

    let text = succeeds(&command(root, &["backup", path]));
    assert!(text.contains("keys"), "{text}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    fails(&command(root, &["backup", path]), "--force");
    succeeds(&command(root, &["backup", path, "--force"]));

    // What the backup does not know: windows of two devices, one of them started anew in between, and a third device.
    let (late, mut late_camera) = enrolled(root, &aggregator, "late", 2);
    shoot(&mut steady_camera, 2);
    shoot(&mut restarted_camera, 2);
    counted(&aggregator, "restarted", restarted_camera.written);
    let forgotten = restarted_camera.written - before[1];
    let windows_forgotten = windows(&aggregator, "restarted") - windows_before[1];
    restarted.process.terminate();
    restarted.restart();
    shoot(&mut restarted_camera, 2);
    shoot(&mut late_camera, 1);
    counted(&aggregator, "steady", steady_camera.written);
    counted(&aggregator, "restarted", restarted_camera.written);
    counted(&aggregator, "late", late_camera.written);
    let windows_since = ["steady", "restarted"].map(|site| windows(&aggregator, site));
    assert!(windows_forgotten > 0 && windows_since[0] > windows_before[0]);

    fails(&command(root, &["restore", path]), "is in use by another aggregator");
    aggregator.process.terminate();
    fails(&command(root, &["restore", path]), "--force");
    fails(
        &command(root, &["restore", root.join("aggregator.toml").to_str().expect("UTF-8"), "--force"]),
        "not a driftglass backup",
    );
    let text = succeeds(&command(root, &["restore", path, "--force"]));
    assert!(text.contains("replaced-"), "{text}");
    aggregator.restart();
    assert!(aggregator.camera("late/gw/door").is_none(), "as at the time of the backup");

    // Nobody touches the agents that the backup knows. What was acknowledged in this start is still in the spool's last segment and
    // comes again; what was acknowledged to the start before is nowhere any more.
    shoot(&mut steady_camera, 2);
    shoot(&mut restarted_camera, 2);
    counted(&aggregator, "steady", steady_camera.written);
    counted(&aggregator, "restarted", restarted_camera.written - forgotten);
    assert_eq!((lost(&aggregator, "steady"), lost(&aggregator, "restarted")), (0, windows_forgotten));
    assert!(windows(&aggregator, "steady") > windows_since[0]);
    assert!(windows(&aggregator, "restarted") + windows_forgotten > windows_since[1]);
    // The third one is not known any more, and comes back with a token.
    until("a refusal of the device that is not known", 2 * PATIENCE, || {
        (aggregator.rejected("unregistered") > 0).then_some(())
    });
    enroll(&aggregator, &late, "late");
    late_camera.shoot();
    counted(&aggregator, "late", late_camera.written);
    for agent in [&mut steady, &mut restarted] {
        agent.process.assert_running();
    }
}
