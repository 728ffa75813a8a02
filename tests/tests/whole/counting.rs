//! Every frame counts once, whatever happens to the processes between the camera and the store; and one fault is one alert.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use driftglass_agent::fault::{Injector, Kind, Severity};

use crate::support::authority::Authority;
use crate::support::camera::{Camera, scene, shots, view};
use crate::support::process::{STEP, lasting_port, said};
use crate::support::service::{Agent, Aggregator};
use crate::support::{Enough, PATIENCE, now, pause, until, wall_clock};

/// A twelfth of a second.
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 12);
/// How long cameras are watched in peace after learning.
const CALM: Duration = Duration::from_secs(3);
/// Longest time a fault may go unnoticed here; a second is a window.
const NOTICED: Duration = Duration::from_secs(60);
/// How long nothing else may be reported after the alert.
const AFTERMATH: Duration = Duration::from_secs(8);

#[test]
fn one_fault_one_alert_every_frame_counted_once() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority, scene) = (root.path(), Authority::new(), scene());
    let mut aggregator = Aggregator::start(root, &authority, 0);
    let ids = ["north/gw/door", "south/gw/door"];
    let pictures = [shots(&scene, view(0)), shots(&scene, view(1))];
    let (mut cameras, mut agents) = (Vec::new(), Vec::new());
    for (number, site) in ["north", "south"].into_iter().enumerate() {
        let frames = root.join(format!("frames-{site}"));
        cameras.push(Camera::new(frames.clone(), &pictures[number], number * 17));
        agents.push(Agent::start(root, &authority, &authority.device(site, "gw"), aggregator.quic, site, &frames, 0));
    }

    let begun = now();
    let (mut due, mut look) = (begun, begun);
    let (mut learned, mut fault, mut alerted) = (None, None, None);
    loop {
        cameras.iter_mut().for_each(Camera::shoot);
        if now() >= look {
            look = now() + Duration::from_millis(500);
            aggregator.process.assert_running();
            agents.iter_mut().for_each(|agent| agent.process.assert_running());
            let known = aggregator.list("cameras").expect("the aggregator answers");
            let alerts = aggregator.list("alerts").expect("the aggregator answers");
            assert!(fault.is_some() || alerts.is_empty(), "nothing is wrong yet: {alerts:#?}");
            if learned.is_none() && known.len() == 2 && known.iter().all(|camera| camera["state"] == "watched") {
                learned = Some(now());
            }
            if fault.is_none() && learned.is_some_and(|learned| now() >= learned + CALM) {
                cameras[1].break_with(Injector::new(Kind::Defocus, Severity::MARKED, 1), &pictures[1]);
                fault = Some((now(), wall_clock()));
            }
            if alerted.is_none() && !alerts.is_empty() {
                alerted = Some(now());
            }
        }
        match (learned, fault, alerted) {
            (_, _, Some(alerted)) if now() >= alerted + AFTERMATH => break,
            (_, Some((begun, _)), None) => {
                assert!(now() < begun + NOTICED, "no alert; cameras: {:#?}", aggregator.list("cameras"));
            }
            (None, ..) => {
                assert!(now() < begun + 2 * PATIENCE, "not learned; cameras: {:#?}", aggregator.list("cameras"));
            }
            _ => {}
        }
        due += FRAME;
        pause(due.saturating_duration_since(now()));
    }

    let alerts = aggregator.list("alerts").expect("the aggregator answers");
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    let alert = &alerts[0];
    assert_eq!((&alert["camera_id"], &alert["cause"]), (&ids[1].into(), &"defocused".into()), "{alert:#}");
    assert_eq!(alert["scope"], "camera", "{alert:#}");
    assert!(alert["history"].as_array().is_some_and(|history| !history.is_empty()), "{alert:#}");
    assert!(alert["features"].as_array().is_some_and(|features| !features.is_empty()), "{alert:#}");
    assert!(alert["recommended_action"].as_str().is_some_and(|action| !action.is_empty()), "{alert:#}");
    let time = |key: &str| humantime::parse_rfc3339(alert[key].as_str().expect("a time")).expect("RFC 3339");
    let (_, fault) = fault.expect("there was a fault");
    assert!(time("first_window") + Duration::from_secs(1) >= fault, "blamed on a time before the fault: {alert:#}");
    assert!(time("raised_at") > time("first_window"), "{alert:#}");

    for moved in alert["features"].as_array().expect("a list") {
        let sizes = ["psi", "js", "wasserstein"].map(|size| moved[size].as_f64().expect("measured"));
        assert!(sizes.iter().all(|size| *size >= 0.0) && sizes[1] <= std::f64::consts::LN_2, "{moved:#}");
    }
    let shown = said(&aggregator.operate(&["alert", "1"]));
    assert!(shown.contains("high_frequency_energy") && shown.contains("beyond chance"), "{shown}");
    let foreseen = aggregator.operate(&["detectability", ids[1]]);
    assert!(foreseen.status.success(), "{}", said(&foreseen));
    let foreseen = said(&foreseen);
    let detail = foreseen.lines().find(|line| line.starts_with("high_frequency_energy")).expect("the feature");
    assert!(detail.split_whitespace().nth(2).is_some_and(|fall| fall.parse::<f64>().is_ok()), "it saw one: {detail}");

    let status = || said(&aggregator.operate(&["status"]));
    assert!(status().contains("0 right, 0 false, 1 not judged"), "{}", status());
    let confirmed = aggregator.operate(&["confirm", "1", "--note", "the ring had slipped"]);
    assert!(confirmed.status.success(), "{}", said(&confirmed));
    assert!(status().contains("1 right, 0 false, 0 not judged"), "{}", status());
    let alert = aggregator.list("alerts").expect("the aggregator answers").remove(0);
    assert_eq!((&alert["verdict"], &alert["state"]), (&"right".into(), &"confirmed".into()), "{alert:#}");

    for (id, camera) in ids.iter().zip(&cameras) {
        until(&format!("all frames of {id}"), PATIENCE, || {
            let counts = aggregator.counts(id);
            assert!(counts.total() <= camera.written, "{id}: {counts:?} of {} files", camera.written);
            (counts.total() == camera.written).then_some(())
        });
        let counts = aggregator.counts(id);
        assert_eq!((counts.undecodable, counts.skipped), (0, 0), "{id}");
    }
    assert_eq!(aggregator.rejected_in_all(), 0);
    agents.iter_mut().for_each(|agent| agent.process.terminate());
    for (id, camera) in ids.iter().zip(&cameras) {
        assert_eq!(aggregator.counts(id).total(), camera.written, "{id}: a clean stop adds nothing");
    }
    aggregator.process.terminate();
}

#[test]
fn restarts_in_the_middle_lose_and_double_nothing() {
    const CAMERA: &str = "east/gw/door";
    let root = tempfile::tempdir().expect("folder");
    let (root, authority, pictures) = (root.path(), Authority::new(), shots(&scene(), view(2)));
    // The agent has to find the aggregator again, so its port must last.
    let mut aggregator = Aggregator::start(root, &authority, lasting_port());
    let frames = root.join("frames");
    let mut camera = Camera::new(frames.clone(), &pictures, 0);
    let mut agent =
        Agent::start(root, &authority, &authority.device("east", "gw"), aggregator.quic, "east", &frames, 0);

    let (enough, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // Ends the camera even where an assertion fails, for the scope waits for it.
        let ending = Enough(&enough);
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                // Announced first: the agent must never have counted more than this.
                written.fetch_add(1, Ordering::SeqCst);
                camera.shoot();
                pause(FRAME);
            }
        });
        let progress = |aggregator: &Aggregator, limit: Duration| {
            let before = aggregator.counts(CAMERA).total();
            until("more frames counted", limit, || {
                let counted = aggregator.counts(CAMERA).total();
                let written = written.load(Ordering::SeqCst);
                assert!(counted <= written, "{counted} frames counted, {written} written");
                (counted >= before + 24).then_some(())
            });
        };
        let meanwhile = |frames: u64| {
            let goal = written.load(Ordering::SeqCst) + frames;
            until("more frames written", PATIENCE, || (written.load(Ordering::SeqCst) >= goal).then_some(()));
        };

        progress(&aggregator, PATIENCE);
        for gap in [0, 7, 30] {
            agent.process.kill();
            meanwhile(gap);
            agent.restart();
            progress(&aggregator, PATIENCE);
        }
        // The agent is not told, so it notices by the silence: within a minute.
        aggregator.process.kill();
        meanwhile(12);
        aggregator.restart();
        progress(&aggregator, 2 * PATIENCE);
        // Both at once, the aggregator last.
        for _ in 0..2 {
            aggregator.process.kill();
            agent.process.kill();
            agent.restart();
            meanwhile(18);
            aggregator.restart();
            progress(&aggregator, PATIENCE);
        }
        // As an upgrade would do it.
        aggregator.process.terminate();
        agent.process.terminate();
        meanwhile(5);
        aggregator.restart();
        agent.restart();
        progress(&aggregator, PATIENCE);
        drop(ending);
    });

    let files = std::fs::read_dir(&frames).expect("listed").count();
    assert_eq!(u64::try_from(files).expect("small"), camera.written);
    let counts = until("all frames", PATIENCE, || {
        let counts = aggregator.counts(CAMERA);
        assert!(counts.total() <= camera.written, "{counts:?} of {} files", camera.written);
        (counts.total() == camera.written).then_some(counts)
    });
    assert_eq!((counts.undecodable, counts.skipped), (0, 0));
    // Nothing is still on its way that would be one too many.
    until("an empty open window", PATIENCE, || {
        let newest = aggregator.camera(CAMERA)?["last_window"]["end"].as_str()?.to_owned();
        let newest = humantime::parse_rfc3339(&newest).expect("RFC 3339");
        (wall_clock() > newest + Duration::from_secs(5)).then_some(())
    });
    pause(STEP);
    assert_eq!(aggregator.counts(CAMERA), counts);
    let devices = aggregator.list("devices").expect("the aggregator answers");
    assert_eq!(devices.len(), 1, "{devices:#?}");
    assert_eq!((&devices[0]["lost_windows"], &devices[0]["clones"]), (&0.into(), &0.into()), "{devices:#?}");
}
