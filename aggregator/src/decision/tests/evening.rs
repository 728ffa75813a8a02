//! What happens every evening.

use super::*;

/// Lamps that go on at seven every evening and off at eight: the same large step for an hour of each day.
fn lamps(minute: i64) -> usize {
    let of_the_day = minute.rem_euclid(24 * 60);
    if (19 * 60..20 * 60).contains(&of_the_day) { 40 } else { 0 }
}

/// Days, from 0, on which an alert of a camera without peers was raised.
fn days_with_an_alert(fleet: &Fleet) -> Vec<i64> {
    let mut days: Vec<i64> =
        fleet.alerts.values().map(|alert| alert.raised_at.0 / (24 * 60 * i64::from(MINUTE))).collect();
    days.sort_unstable();
    days.dedup();
    days
}

#[test]
fn what_happens_every_evening_is_told_until_it_is_known_and_a_fault_at_that_hour_still_is() {
    let mut fleet = Fleet::new();
    let day = 24 * 60;
    // It learns at noon and has never seen an evening.
    for minute in 12 * 60..8 * day {
        fleet.observe(&id(0), window(minute, lamps(minute)));
    }
    let told = days_with_an_alert(&fleet);
    assert_eq!(told.first(), Some(&0), "nobody could know: {told:?}");
    assert!(told.iter().all(|&day| day < 4), "known after a few evenings: {told:?}");
    assert!(fleet.alerts.values().all(|alert| alert.state == AlertState::Resolved));
    // On the eighth day the lamps go on, and at the same time something else happens.
    for minute in 8 * day..8 * day + 20 * 60 {
        let other = if minute >= 8 * day + 19 * 60 { 60 } else { 0 };
        fleet.observe(&id(0), window(minute, lamps(minute) + other));
    }
    assert_eq!(days_with_an_alert(&fleet).last(), Some(&8));
    // After that fault, on the same day, lamps are no reason to tell of it again; at another time of the day they are.
    for minute in 8 * day + 20 * 60..10 * day {
        let fault = if (9 * day + 60..9 * day + 120).contains(&minute) { 60 } else { 0 };
        fleet.observe(&id(0), window(minute, lamps(minute) + fault));
    }
    let of_that_night = fleet.alerts.values().next_back().expect("told");
    assert_eq!(of_that_night.state, AlertState::Resolved, "{:?}", of_that_night.history);
    assert!(of_that_night.history.iter().all(|entry| entry.at.0 < (9 * day + 19 * 60) * i64::from(MINUTE)));
    for minute in 10 * day..10 * day + 11 * 60 {
        fleet.observe(&id(0), window(minute, if minute >= 10 * day + 10 * 60 { 40 } else { 0 }));
    }
    assert_eq!(days_with_an_alert(&fleet).last(), Some(&10), "lamps at ten in the morning");
}

#[test]
fn who_covers_a_camera_every_night_is_told_of_every_night() {
    let mut fleet = Fleet::new();
    let day = 24 * 60;
    for minute in 12 * 60..7 * day {
        let mut seen = window(minute, 0);
        seen.histograms[3].0 = Feature::LumaEntropy;
        seen.histograms.sort_by_key(|(feature, _)| feature.number());
        if (2 * 60..3 * 60).contains(&minute.rem_euclid(day)) {
            for (_, histogram) in &mut seen.histograms {
                let mut covered = Histogram::new();
                (0..60).for_each(|frame| covered.add(10 + frame % 3));
                *histogram = covered;
            }
        }
        fleet.observe(&id(0), seen);
    }
    assert_eq!(days_with_an_alert(&fleet), [1, 2, 3, 4, 5, 6]);
    assert!(fleet.alerts.values().all(|alert| alert.cause == Cause::Covered), "{:?}", fleet.alerts);
}

#[test]
fn what_a_whole_site_does_every_evening_is_told_until_it_is_known() {
    let mut fleet = Fleet::new();
    let day = 24 * 60;
    for minute in 12 * 60..8 * day {
        for camera in 0..6 {
            fleet.observe(&id(camera), window(minute, lamps(minute)));
        }
    }
    assert!(fleet.alerts.values().all(|alert| alert.scope == Scope::Site), "{:?}", fleet.alerts);
    let told = days_with_an_alert(&fleet);
    assert_eq!(told.first(), Some(&0), "nobody could know: {told:?}");
    assert!(told.iter().all(|&day| day < 4), "known after a few evenings: {told:?}");
    let reopened_late = fleet
        .alerts
        .values()
        .flat_map(|alert| &alert.history)
        .filter(|entry| entry.state == AlertState::Alerting && entry.at.0 >= 4 * day * i64::from(MINUTE));
    assert_eq!(reopened_late.count(), 0);
}
