//! What a model said of recorded frames, from the file to the centre.

use std::fmt::Write;
use std::fs;

use serde_json::Value;

use crate::support::authority::Authority;
use crate::support::camera::{scene, shots, view, write_folder};
use crate::support::process::{Process, command, lasting_port, run};
use crate::support::service::{Agent, Aggregator};
use crate::support::{PATIENCE, until};

#[test]
fn labels_errors_and_confidences_of_a_replay_are_sent_and_accepted() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority, port) = (root.path(), Authority::new(), lasting_port());
    let identity = authority.device("shop", "gw");
    let state = root.join("agent-shop");
    authority.install(&identity, &state);
    let frames = root.join("recorded");
    write_folder(&frames, &shots(&scene(), view(0)));
    let mut csv = String::from("frame,label,confidence,truth,latency_ms\n");
    for at in 0..48 {
        let label = if at % 3 == 0 { "car" } else { "Fußgänger" };
        let truth = if at % 6 == 0 { "bicycle" } else { label };
        writeln!(csv, "{at:06}.jpg,{label},0.{},{truth},12.5", 50 + at).expect("a text");
    }
    fs::write(root.join("predictions.csv"), csv).expect("written");
    let config = format!(
        "site = \"shop\"\ndevice = \"gw\"\nstate_dir = {state:?}\n[aggregator]\naddress = \"127.0.0.1:{port}\"\n"
    );
    fs::write(root.join("replay.toml"), config).expect("written");
    let (config, csv) = (root.join("replay.toml"), root.join("predictions.csv"));
    let path = |path: &std::path::Path| path.to_str().expect("a name").to_owned();

    let mut replay = command("driftglass-agent");
    replay.args(["replay", "--camera", "door", "--start", "2026-03-01T10:00:00Z", "--fps", "1"]).args([
        "--frames",
        &path(&frames),
        "--predictions",
        &path(&csv),
        "--config",
        &path(&config),
    ]);
    let mut replay = Process::spawn(root, "replay", replay);
    // Nobody listens yet, so everything waits where it can be looked at.
    let summary: Value = until("the recorded window in the spool", PATIENCE, || {
        let output = run("driftglass-agent", &["inspect", "spool", "--format", "json", "--config", &path(&config)]);
        let line = String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned();
        Some(serde_json::from_str::<Value>(&line).expect("JSON")["body"]["summary"].clone())
    });
    replay.kill();

    assert_eq!(summary["quality"]["frames"], 48);
    let said = &summary["predictions"];
    assert_eq!((&said["frames"], &said["judged"], &said["wrong"]), (&48.into(), &48.into(), &8.into()));
    assert_eq!(said["labels"]["named"], serde_json::json!({ "car": 16, "Fußgänger": 32 }));
    assert_eq!(said["labels"]["exact"], true);
    let sketched = |name: &str| {
        let sketches = summary["sketches"].as_array().expect("sketches").iter();
        sketches.filter(|sketch| sketch["feature"] == name && sketch["absent"] == 0).count()
    };
    // It installs the identity itself.
    fs::remove_dir_all(state.join("identity")).expect("removed");
    assert_eq!(["confidence", "prediction_entropy", "prediction_latency"].map(sketched), [1, 1, 1]);

    let aggregator = Aggregator::start(root, &authority, port);
    let empty = root.join("empty");
    fs::create_dir(&empty).expect("created");
    let mut agent = Agent::start(root, &authority, &identity, aggregator.quic, "shop", &empty, lasting_port());
    until("all recorded frames at the centre", PATIENCE, || {
        (aggregator.counts("shop/gw/door").frames == 48).then_some(())
    });
    assert_eq!(aggregator.rejected_in_all(), 0);
    agent.process.terminate();
}
