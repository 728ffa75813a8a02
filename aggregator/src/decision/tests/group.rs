//! What befalls a site, a model's cameras or the fleet.

use super::*;

#[test]
fn what_befalls_a_whole_site_is_laid_at_no_camera_s_door() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    for minute in 64..264 {
        for camera in 0..8 {
            fleet.observe(&id(camera), window(minute, 60));
        }
    }
    let about: Vec<(Scope, String)> = fleet.alerts.values().map(|alert| (alert.scope, alert.subject())).collect();
    assert_eq!(about, [(Scope::Site, String::from("site store-1 (8 of 8 cameras)"))], "the site has changed, as one");
}

#[test]
fn a_site_that_is_as_before_is_told_so_once_and_a_restart_in_between_changes_nothing() {
    let (mut whole, mut restarted) = (Fleet::new(), Fleet::new());
    for (fleet, restarts) in [(&mut whole, false), (&mut restarted, true)] {
        fleet.run(0..64, 8, 0);
        for minute in 64..264 {
            if restarts && minute % 7 == 0 {
                fleet.restart();
            }
            let shift = if (100..140).contains(&minute) { 60 } else { 0 };
            for camera in 0..8 {
                fleet.observe(&id(camera), window(minute, shift));
            }
        }
    }
    let states: Vec<AlertState> = whole.alerts[&1].history.iter().map(|entry| entry.state).collect();
    assert_eq!(states, [AlertState::Alerting, AlertState::Resolved]);
    assert_eq!((whole.alerts.len(), &whole.alerts), (1, &restarted.alerts));
}

#[test]
fn half_of_a_site_is_not_the_site() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    for minute in 64..264 {
        for camera in 0..8 {
            fleet.observe(&id(camera), window(minute, if camera < 4 { 60 } else { 0 }));
        }
    }
    assert!(fleet.alerts.values().all(|alert| alert.scope == Scope::Camera), "{:?}", fleet.alerts);
}

/// Cameras of several sites, `at_each` at each.
fn spread(sites: usize, at_each: usize) -> Vec<CameraId> {
    (0..sites)
        .flat_map(|site| (0..at_each).map(move |camera| (site, camera)))
        .map(|(site, camera)| format!("store-{site}/gw-{camera}/entrance").parse().expect("a camera id"))
        .collect()
}

#[test]
fn what_befalls_most_sites_is_one_alert_of_the_fleet() {
    let (mut fleet, cameras) = (Fleet::new(), spread(6, 5));
    for minute in 0..200 {
        for camera in &cameras {
            fleet.observe(camera, window(minute, if minute < 64 { 0 } else { 60 }));
        }
    }
    let open: Vec<Scope> =
        fleet.alerts.values().filter(|alert| alert.state != AlertState::Resolved).map(|alert| alert.scope).collect();
    assert_eq!(open, [Scope::Fleet], "{:?}", fleet.alerts.values().map(Alert::subject).collect::<Vec<_>>());
    let part = fleet.alerts.values().find(|alert| alert.scope == Scope::Site).expect("sites were seen first");
    assert!(part.history[1].note.contains("fleet"), "{:?}", part.history);
}

#[test]
fn a_model_that_answers_differently_is_one_alert_with_its_name_and_version() {
    let (mut fleet, cameras) = (Fleet::new(), spread(3, 5));
    let watched = |minute: i64, site: usize, version: &str| {
        let mut watched = window(minute, 0);
        // Half of the sites, nearly, have another model.
        let name = if site == 0 { "counter" } else { "detector" };
        watched.model =
            Some(Model { name: Name::parse(name).expect("a name"), version: Name::parse(version).expect("a name") });
        let shift = if version == "2" && site != 0 { 60 } else { 0 };
        let (_, confidence) = window(minute, shift).histograms.remove(0);
        watched.histograms.push((Feature::Confidence, confidence));
        watched
    };
    for minute in 0..200 {
        for (index, camera) in cameras.iter().enumerate() {
            fleet.observe(camera, watched(minute, index / 5, if minute < 64 { "1" } else { "2" }));
        }
    }
    let told: Vec<(Scope, Cause, String)> =
        fleet.alerts.values().map(|alert| (alert.scope, alert.cause, alert.subject())).collect();
    assert_eq!(told, [(Scope::Model, Cause::ModelDrift, String::from("model detector 2 (10 of 10 cameras)"))]);
}
