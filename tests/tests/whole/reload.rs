//! The configuration changes while the agent runs: on SIGHUP it is followed, or refused as a whole.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::authority::Authority;
use crate::support::camera::{Camera, scene, shots, view, write_folder};
use crate::support::process::lasting_port;
use crate::support::service::{Agent, Aggregator};
use crate::support::{Enough, PATIENCE, pause, until};

fn folder(name: &str, frames: &Path, more: &str) -> String {
    format!("[[camera]]\nname = {name:?}\nsource = {{ kind = \"directory\", path = {frames:?}{more} }}\n")
}

fn pushed(name: &str, port: u16) -> String {
    format!("[[camera]]\nname = {name:?}\nsource = {{ kind = \"push\", listen = \"127.0.0.1:{port}\" }}\n")
}

fn reloads(agent: &Agent, result: &str) -> u64 {
    agent.metric("driftglass_agent_config_reloads_total", &format!("result=\"{result}\""))
}

/// The messages a service manager had.
fn told(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 512];
    let mut messages = Vec::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    messages
}

/// Posts a picture until it is taken; false where nobody answers at all.
fn post(port: u16, camera: &str, picture: &Path) -> bool {
    let output = Command::new("curl")
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--data-binary"])
        .arg(format!("@{}", picture.display()))
        .arg(format!("http://127.0.0.1:{port}/{camera}"))
        .output()
        .expect("curl (./run install-tools) can be started");
    String::from_utf8_lossy(&output.stdout) == "202"
}

#[test]
fn cameras_come_go_and_change_while_others_go_on_and_every_frame_counts_once() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority, pictures) = (root.path(), Authority::new(), shots(&scene(), view(0)));
    let notify = root.join("notify");
    let manager = UnixDatagram::bind(&notify).expect("bound");
    manager.set_nonblocking(true).expect("set");
    let stills = root.join("stills");
    write_folder(&stills, &pictures[..1]);
    let still = stills.join("000000.jpg");
    let [door, yard, hall] = ["door", "yard", "hall"].map(|name| root.join(name));
    let (first_port, second_port) = (lasting_port(), lasting_port());

    let aggregator = Aggregator::start(root, &authority, 0);
    let identity = authority.device("shop", "gw");
    let before = [folder("door", &door, ""), folder("yard", &yard, ""), pushed("bay", first_port)].concat();
    let mut cameras = [&door, &yard, &hall].map(|frames| Camera::new(frames.clone(), &pictures, 0));
    authority.install(&identity, &root.join("agent-shop"));
    let mut agent = Agent::configured(root, aggregator.quic, "shop", &before, lasting_port());
    agent.start_notifying(&notify);
    until("the agent's page", PATIENCE, || agent.page("/metrics"));
    until("readiness", PATIENCE, || told(&manager).iter().any(|message| message.contains("READY=1")).then_some(()));

    // The one who pushes goes to whichever address answers, as long as the test lasts.
    let (enough, posted) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // Ends the camera even where an assertion fails, for the scope waits for it.
        let ending = Enough(&enough);
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                if post(first_port, "bay", &still) || post(second_port, "bay", &still) {
                    posted.fetch_add(1, Ordering::SeqCst);
                }
                pause(Duration::from_millis(50));
            }
        });
        let frames = |camera: &str| aggregator.counts(&format!("shop/gw/{camera}")).frames;
        let shoot = |cameras: &mut [Camera; 3], until_there: &mut dyn FnMut() -> bool| {
            until("frames that arrive", PATIENCE, || {
                cameras.iter_mut().for_each(Camera::shoot);
                until_there().then_some(())
            });
        };
        shoot(&mut cameras, &mut || frames("door") >= 10 && frames("yard") >= 10 && frames("bay") >= 10);
        assert_eq!(frames("hall"), 0);

        // Bad: everything stays, and it is said why.
        agent.reconfigure(&format!("{before}[[camera]]\nname = \"Hall\"\n"));
        agent.process.signal(Signal::HUP);
        until("the refusal", PATIENCE, || (reloads(&agent, "refused") == 1).then_some(()));
        let log = agent.process.log();
        assert!(log.contains("the old one stays") && log.contains("camera[3].name"), "{log}");
        let (was, bay_was) = (frames("yard"), frames("bay"));
        shoot(&mut cameras, &mut || frames("yard") >= was + 5 && frames("bay") >= bay_was + 5);

        // A camera goes, one comes, one is thinned, one is pushed to elsewhere; and two settings cannot be followed.
        let after =
            [folder("door", &door, ", fps = 1"), folder("hall", &hall, ""), pushed("bay", second_port)].concat();
        let state = format!("state_dir = {:?}", root.join("agent-shop"));
        agent.reconfigure(&after);
        agent.edit(|config| {
            let config = config.replace("length = \"1s\"", "length = \"2s\"");
            config.replace(&state, &format!("{state}\n[log]\nlevel = \"debug\"\nformat = \"json\""))
        });
        told(&manager);
        agent.process.signal(Signal::HUP);
        until("the other configuration", PATIENCE, || (reloads(&agent, "applied") == 1).then_some(()));
        let messages = until("the service manager to be told", PATIENCE, || {
            let messages = told(&manager);
            (!messages.is_empty()).then_some(messages)
        });
        let (begun, ready) = (&messages[0], messages.concat());
        assert!(begun.contains("RELOADING=1\n") && begun.contains("MONOTONIC_USEC="), "{messages:?}");
        assert!(ready.contains("READY=1"), "{messages:?}");
        assert_eq!(agent.metric("driftglass_agent_config_restart_needed", ""), 2);
        let log = agent.process.log();
        assert!(log.contains("window.length, log.format"), "{log}");
        // A file that the yard's camera writes now is nobody's any more.
        let yard_counted = until("the yard's last window", PATIENCE, || {
            let counts = aggregator.counts("shop/gw/yard");
            pause(Duration::from_millis(1500));
            (counts == aggregator.counts("shop/gw/yard")).then_some(counts)
        });
        assert!(yard_counted.total() <= cameras[1].written);
        let (bay_was, skipped_was) = (frames("bay"), aggregator.counts("shop/gw/door").skipped);
        shoot(&mut cameras, &mut || {
            frames("hall") >= 10
                && frames("bay") >= bay_was + 10
                && aggregator.counts("shop/gw/door").skipped > skipped_was + 5
        });
        let debug = until("lines of the new level", PATIENCE, || {
            Some(agent.process.log()).filter(|log| log.contains("window closed"))
        });
        assert!(debug.contains("the source of the camera is another"), "{debug}");

        // The camera that went comes back and goes on where it was.
        agent.reconfigure(&[after, folder("yard", &yard, "")].concat());
        agent.process.signal(Signal::HUP);
        until("the third configuration", PATIENCE, || (reloads(&agent, "applied") == 2).then_some(()));
        assert_eq!(agent.metric("driftglass_agent_config_restart_needed", ""), 0, "what the first one had is back");
        let yard_was = frames("yard");
        shoot(&mut cameras, &mut || frames("yard") >= yard_was + 5);
        drop(ending);
    });

    for (camera, name) in cameras.iter().zip(["door", "yard", "hall"]) {
        until(&format!("all frames of {name}"), PATIENCE, || {
            let counts = aggregator.counts(&format!("shop/gw/{name}"));
            assert!(counts.total() <= camera.written, "{name}: {counts:?} of {}", camera.written);
            // What the yard's camera wrote between the end of its watch and the end of that window came too late.
            let late = if name == "yard" { counts.late } else { 0 };
            assert_eq!((counts.undecodable, counts.late), (0, late), "{name}: {counts:?}");
            (counts.total() == camera.written).then_some(())
        });
    }
    let posted = posted.load(Ordering::SeqCst);
    until("all that was posted", PATIENCE, || {
        let counts = aggregator.counts("shop/gw/bay");
        assert!(counts.total() <= posted, "{counts:?} of {posted}");
        (counts.total() == posted).then_some(())
    });
    assert!(fs::read_dir(&yard).expect("listed").count() > 0);
    agent.process.assert_running();
    agent.process.terminate();
}
