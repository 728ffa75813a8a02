//! A full disk on either side, again and again, also while processes die on it: nobody gives up, and when there is room again every
//! file has been counted once.

mod backup;
mod volume;

use std::path::Path;
use std::time::Duration;

use crate::support::authority::Authority;
use crate::support::camera::{Camera, scene, shots, view};
use crate::support::process::lasting_port;
use crate::support::service::{Agent, Aggregator};
use crate::support::{PATIENCE, now, until};
use volume::Volume;

const CAMERA: &str = "north/gw/door";
/// Room for minutes of windows; a small disk is soon filled.
const BYTES: u64 = 8 << 20;
const ROUNDS: usize = 3;
/// How long the disk stays full after it has been noticed.
const FULL: Duration = Duration::from_secs(2);
/// An agent that was turned away waits for up to a minute.
const DRAIN: Duration = Duration::from_secs(120);

/// A disk at this folder.
type Mount = fn(&Path) -> Volume;

fn file_system(folder: &Path) -> Volume {
    Volume::mount(folder, BYTES)
}

#[test]
fn an_agent_on_a_full_disk_waits_starts_again_delivers_and_loses_nothing() {
    agent_on(file_system);
}

#[test]
fn an_agent_whose_files_cannot_grow_waits_starts_again_delivers_and_loses_nothing() {
    agent_on(Volume::limit);
}

#[test]
fn an_aggregator_on_a_full_disk_says_so_and_counts_everything_once_when_there_is_room() {
    aggregator_on(file_system);
}

#[test]
fn an_aggregator_whose_files_cannot_grow_says_so_and_counts_everything_once_when_they_can() {
    aggregator_on(Volume::limit);
}

/// Writes a frame at every look.
fn filming<T>(what: &str, camera: &mut Camera, mut look: impl FnMut() -> Option<T>) -> T {
    until(what, DRAIN, || {
        camera.shoot();
        look()
    })
}

fn camera(root: &Path) -> Camera {
    Camera::new(root.join("frames"), &shots(&scene(), view(0)), 0)
}

/// Everything is counted, and stays so.
fn reconcile(mut aggregator: Aggregator, mut agent: Agent, camera: &Camera) {
    let complete = |aggregator: &Aggregator| {
        let counts = aggregator.counts(CAMERA);
        assert!(counts.total() <= camera.written, "{counts:?} of {} files", camera.written);
        (counts.total() == camera.written).then_some(counts)
    };
    let counts = until("all files counted", DRAIN, || complete(&aggregator));
    assert_eq!(counts.frames, camera.written, "{counts:?}");
    agent.process.terminate();
    aggregator.process.terminate();
    aggregator.restart_blindly();
    until("an aggregator that is ready", PATIENCE, || aggregator.is_ready().then_some(()));
    assert_eq!(aggregator.counts(CAMERA), counts);
    let devices = aggregator.list("devices").expect("the aggregator answers");
    assert_eq!((&devices[0]["lost_windows"], &devices[0]["clones"]), (&0.into(), &0.into()), "{devices:#?}");
    for log in [aggregator.process.log(), agent.process.log()] {
        assert!(!log.contains("panicked"), "{log}");
    }
}

fn agent_on(mount: Mount) {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let mut camera = camera(root);
    let everywhere = ([127, 0, 0, 1], lasting_port()).into();
    let data = root.join("aggregator");
    let mut aggregator = Aggregator::start_at(root, &authority, &authority.server(), Vec::new(), &data, everywhere);
    let cameras = Agent::door(&root.join("frames"));
    let mut agent = Agent::configured(root, aggregator.quic, "north", &cameras, lasting_port());
    let volume = mount(&agent.state());
    authority.install(&authority.device("north", "gw"), &volume.folder());
    agent.within = volume.within();
    agent.restart();
    let is_paused = |agent: &Agent| agent.try_metric("driftglass_agent_spool_paused", "") == Some(1);
    let pending = |agent: &Agent| agent.try_metric("driftglass_agent_spool_windows", "");
    for round in 0..ROUNDS {
        let before = aggregator.counts(CAMERA).frames;
        filming("frames counted", &mut camera, || (aggregator.counts(CAMERA).frames >= before + 20).then_some(()));
        // In every other round something waits in the spool when the disk fills up.
        let aggregator_is_gone = round % 2 == 1;
        if aggregator_is_gone {
            aggregator.process.kill();
            filming("windows in the spool", &mut camera, || pending(&agent).filter(|&pending| pending >= 3));
        }
        volume.fill(agent.process.id());
        filming("an agent that pauses", &mut camera, || is_paused(&agent).then_some(()));
        let noticed = now();
        filming("some time", &mut camera, || {
            agent.process.assert_running();
            (now() > noticed + FULL).then_some(())
        });
        // A full disk keeps nobody from starting.
        agent.process.kill();
        agent.within = volume.within();
        agent.restart();
        filming("an agent that pauses again", &mut camera, || {
            agent.process.assert_running();
            is_paused(&agent).then_some(())
        });
        if aggregator_is_gone {
            let before = pending(&agent).expect("it answers");
            assert!(before >= 3, "{before}");
            aggregator.restart_blindly();
            filming("what is in the spool delivered", &mut camera, || {
                agent.process.assert_running();
                pending(&agent).filter(|&pending| pending < before)
            });
        }
        volume.free(agent.process.id());
        filming("an agent that goes on", &mut camera, || {
            (agent.try_metric("driftglass_agent_spool_paused", "") == Some(0)).then_some(())
        });
    }
    reconcile(aggregator, agent, &camera);
}

fn aggregator_on(mount: Mount) {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let mut camera = camera(root);
    let volume = mount(&root.join("aggregator"));
    let everywhere = ([127, 0, 0, 1], lasting_port()).into();
    let identity = authority.server();
    let mut aggregator =
        Aggregator::start_at(root, &authority, &identity, volume.within(), &volume.folder(), everywhere);
    let frames = root.join("frames");
    let mut agent =
        Agent::start(root, &authority, &authority.device("north", "gw"), aggregator.quic, "north", &frames, 0);
    for round in 0..ROUNDS {
        let before = aggregator.counts(CAMERA).frames;
        filming("frames counted", &mut camera, || {
            aggregator.process.assert_running();
            (aggregator.counts(CAMERA).frames >= before + 20).then_some(())
        });
        volume.fill(aggregator.process.id());
        filming("an aggregator that says so", &mut camera, || (!aggregator.is_ready()).then_some(()));
        let noticed = now();
        filming("some time", &mut camera, || {
            aggregator.process.assert_running();
            agent.process.assert_running();
            (now() > noticed + FULL).then_some(())
        });
        let counts = aggregator.counts(CAMERA);
        assert!(counts.frames >= before + 20 && counts.total() <= camera.written, "it can still be asked: {counts:?}");
        if round % 2 == 1 {
            aggregator.process.kill();
            aggregator.within = volume.within();
            aggregator.restart_blindly();
            let started = now();
            filming("some time", &mut camera, || (now() > started + FULL).then_some(()));
            agent.process.assert_running();
        }
        volume.free(aggregator.process.id());
        // One that could not even start on the full disk is started again, as a service manager would.
        if let Some(status) = aggregator.process.ended() {
            assert_eq!(status.code(), Some(1), "{}", aggregator.process.log());
            aggregator.within = volume.within();
            aggregator.restart_blindly();
        }
        filming("an aggregator that counts again", &mut camera, || {
            aggregator.process.assert_running();
            (aggregator.is_ready() && aggregator.counts(CAMERA).frames > counts.frames).then_some(())
        });
    }
    reconcile(aggregator, agent, &camera);
}
