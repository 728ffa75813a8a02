//! Alerts of single cameras: when they are raised, when they are over, and what must not raise them.

use driftglass_protocol::feature::{CATALOGUE, Subject};

use super::*;
use crate::baseline::FeatureBaseline;

#[test]
fn a_shifted_camera_is_alerted_once_and_nobody_else() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 8, 0);
    assert_eq!(fleet.baselines.len(), 8);
    assert!(fleet.alerts.is_empty(), "nothing was wrong");
    fleet.run(60..120, 8, 60);
    assert_eq!(fleet.alerts.len(), 1);
    let alert = &fleet.alerts[&1];
    assert_eq!((&alert.camera, alert.state), (&id(0), AlertState::Alerting));
    assert_eq!(alert.first_window, UnixMillis(60 * i64::from(MINUTE)), "the first shifted window");
    assert!(alert.features.iter().any(|moved| moved.feature() == Some(Feature::LumaMean)));
    assert!(alert.features.iter().all(|moved| moved.feature() != Some(Feature::SpectralTilt)), "it did not move");
}

#[test]
fn an_alert_says_how_large_each_difference_is_in_the_unit_of_the_feature() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 8, 0);
    fleet.run(60..120, 8, 60);
    let moved = &fleet.alerts[&1].features;
    assert!(!moved.is_empty());
    for moved in moved {
        let effect = moved.effect.expect("measured");
        assert!((0.95..1.05).contains(&(effect.wasserstein / moved.shift.abs())), "a plain shift: {moved:?}");
        assert!((0.3..=std::f64::consts::LN_2).contains(&effect.jensen_shannon) && effect.psi > 2.0, "{moved:?}");
    }
}

#[test]
fn a_shift_within_the_tolerance_is_nobody_s_business() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 4, 0);
    fleet.run(60..600, 4, usize::from(Feature::LumaMean.spec().tolerance_bins) - 2);
    assert!(fleet.alerts.is_empty());
}

#[test]
fn a_restart_in_the_middle_of_the_evidence_changes_nothing() {
    let (mut whole, mut restarted) = (Fleet::new(), Fleet::new());
    for fleet in [&mut whole, &mut restarted] {
        fleet.run(0..60, 3, 0);
    }
    for minute in 60..120 {
        whole.run(minute..minute + 1, 3, 60);
        restarted.restart();
        restarted.run(minute..minute + 1, 3, 60);
    }
    assert_eq!(whole.alerts, restarted.alerts);
    assert_eq!(whole.alerts.len(), 1);
}

#[test]
fn silent_cameras_keep_the_threshold_where_it_was() {
    let raised = |silent: usize| {
        let mut fleet = Fleet::new();
        fleet.run(0..60, 1 + silent, 0);
        (60..400).find(|&minute| {
            fleet.observe(&id(0), window(minute, 60));
            !fleet.alerts.is_empty()
        })
    };
    let (alone, among_many) = (raised(0).expect("raised"), raised(60).expect("raised"));
    assert!(alone < among_many, "sixty silent cameras still count as hypotheses: {alone} and {among_many}");
}

#[test]
fn late_and_empty_windows_are_no_evidence() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 1, 0);
    for _ in 0..500 {
        assert_eq!(fleet.observe(&id(0), window(30, 60)), 0, "older than the newest");
        let mut empty = window(61, 60);
        empty.quality.frames = 0;
        assert_eq!(fleet.observe(&id(0), empty), 0);
    }
    assert!(fleet.alerts.is_empty());
}

#[test]
fn an_alert_resolves_when_the_camera_is_as_before_and_opens_again() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 2, 0);
    fleet.run(60..100, 2, 60);
    fleet.run(100..115, 2, 0);
    assert_eq!(fleet.alerts[&1].state, AlertState::Resolved);
    fleet.run(115..130, 2, 60);
    let alert = &fleet.alerts[&1];
    assert_eq!((fleet.alerts.len(), alert.state), (1, AlertState::Alerting), "the same discovery, not a second one");
    let states: Vec<AlertState> = alert.history.iter().map(|entry| entry.state).collect();
    assert_eq!(states, [AlertState::Alerting, AlertState::Resolved, AlertState::Alerting]);
}

#[test]
fn a_new_epoch_needs_new_evidence() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 2, 0);
    fleet.run(60..100, 2, 60);
    fleet.run(100..200, 2, 0);
    let day = 24 * 60;
    fleet.run(day..day + 60, 2, 0);
    assert_eq!(fleet.alerts.len(), 1);
    fleet.run(day + 60..day + 120, 2, 60);
    assert_eq!(fleet.alerts.len(), 2, "a second fault on another day is another alert");
}

#[test]
fn bytes_that_are_not_a_state_are_refused() {
    let mut core = Core::new(settings());
    assert!(core.restore(id(0), &[0xff; 9], None).is_err());
    let mut fleet = Fleet::new();
    fleet.run(0..60, 1, 0);
    assert!(core.restore(id(0), &fleet.states[&id(0)], Some((1, &[0xff, 0xff]))).is_err());
}

#[test]
fn a_large_fault_is_found_within_minutes() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    let found = (64..200).find(|&minute| {
        fleet.run(minute..minute + 1, 8, 60);
        !fleet.alerts.is_empty()
    });
    assert!(found.is_some_and(|minute| minute <= 64 + 5), "{found:?}");
}

/// The minute in which camera 0 of eight, shifted from minute 64 on, is alerted; `disturb` may do something after every minute.
fn minute_of_the_alert(mut disturb: impl FnMut(&mut Fleet, i64)) -> Option<i64> {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    (64..200).find(|&minute| {
        fleet.run(minute..minute + 1, 8, 60);
        disturb(&mut fleet, minute);
        !fleet.alerts.is_empty()
    })
}

fn undisturbed() -> Option<i64> {
    let minute = minute_of_the_alert(|_, _| {});
    assert!(minute.is_some_and(|minute| minute >= 66), "needs some windows: {minute:?}");
    minute
}

/// Turns a camera's window into one that begins elsewhere.
fn moved(mut window: CountedWindow, start: i64, length: u32) -> CountedWindow {
    window.window.start = UnixMillis(start);
    window.window.length = Millis(length);
    window
}

#[test]
fn a_camera_whose_clock_runs_a_year_ahead_takes_nobody_s_evidence_away() {
    let year = 365 * 24 * 60;
    let ahead = minute_of_the_alert(|fleet, minute| {
        let window = moved(window(minute, 0), (minute + year) * i64::from(MINUTE), MINUTE);
        fleet.observe(&id(7), window);
    });
    assert_eq!(ahead, undisturbed());
}

#[test]
fn a_camera_that_has_peers_is_not_judged_without_them_for_its_clock_is_wrong() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    for minute in 64..164 {
        fleet.run(minute..minute + 1, 7, 0);
        let ahead = moved(window(minute, 60), (minute + 3000) * i64::from(MINUTE), MINUTE);
        fleet.observe(&id(7), ahead);
    }
    assert!(fleet.alerts.is_empty(), "{:?}", fleet.alerts.values().next());
}

#[test]
fn windows_that_come_too_late_to_be_compared_are_no_evidence() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    for minute in 64..264 {
        for camera in 1..8 {
            fleet.observe(&id(camera), window(minute, 0));
        }
        if minute >= 74 {
            fleet.observe(&id(0), window(minute - 10, 60));
        }
    }
    assert!(fleet.alerts.is_empty());
}

#[test]
fn the_backlog_of_a_gateway_with_enough_cameras_is_compared_among_themselves() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 12, 0);
    for minute in 64..164 {
        for camera in 6..12 {
            fleet.observe(&id(camera), window(minute, 0));
        }
    }
    for minute in 64..100 {
        for camera in 0..6 {
            fleet.observe(&id(camera), window(minute, if camera == 0 { 60 } else { 0 }));
        }
    }
    let alerted: Vec<&CameraId> = fleet.alerts.values().map(|alert| &alert.camera).collect();
    assert_eq!(alerted, [&id(0)]);
}

#[test]
fn a_window_sent_again_a_millisecond_later_is_no_further_evidence() {
    let twice = minute_of_the_alert(|fleet, minute| {
        let again = moved(window(minute, 60), minute * i64::from(MINUTE) + 1, MINUTE);
        fleet.observe(&id(0), again);
    });
    assert_eq!(twice, undisturbed());
}

#[test]
fn a_peer_that_sends_merged_windows_takes_nobody_s_evidence_away() {
    let merged = minute_of_the_alert(|fleet, minute| {
        let length = if minute % 2 == 0 { 5 * MINUTE } else { 1000 };
        let window = moved(window(minute, 0), minute * i64::from(MINUTE) + 2, length);
        fleet.observe(&id(7), window);
    });
    assert_eq!(merged, undisturbed());
}

#[test]
fn under_any_dependence_more_evidence_is_needed_and_a_large_fault_is_found_all_the_same() {
    let minute = |dependence| {
        let mut fleet = Fleet::new();
        fleet.core = Core::new(Settings { dependence, ..settings() });
        fleet.run(0..64, 8, 0);
        (64..400)
            .find(|&minute| {
                fleet.run(minute..minute + 1, 8, 60);
                !fleet.alerts.is_empty()
            })
            .expect("found")
    };
    let (positive, arbitrary) = (minute(Dependence::Positive), minute(Dependence::Arbitrary));
    assert!(positive < arbitrary && arbitrary < 64 + 12, "{positive} and {arbitrary}");
}

#[test]
fn windows_of_few_frames_are_worth_little_and_a_fault_shows_all_the_same() {
    let mut random = 7_u64;
    let mut sparse = |minute: i64, shift: usize| {
        let mut few = window(minute, 0);
        few.quality.frames = 2;
        for (_, histogram) in &mut few.histograms {
            *histogram = Histogram::new();
            for _ in 0..2 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let bin = 100 + usize::try_from(random >> 61).expect("three bits") + shift;
                histogram.add(u8::try_from(bin).expect("a bin"));
            }
        }
        few
    };
    let mut fleet = Fleet::new();
    fleet.run(0..64, 3, 0);
    for minute in 64..1264 {
        fleet.observe(&id(0), sparse(minute, 0));
    }
    assert!(fleet.alerts.is_empty());
    for minute in 1264..1400 {
        fleet.observe(&id(0), sparse(minute, 60));
    }
    assert_eq!(fleet.alerts.len(), 1);
}

#[test]
fn a_camera_that_sends_a_picture_every_half_hour_has_a_time_grid_of_half_hours() {
    let half_hourly = |count: i64, shift: usize| moved(window(count, shift), count * 30 * i64::from(MINUTE), MINUTE);
    let mut fleet = Fleet::new();
    for count in 0..64 {
        fleet.observe(&id(0), half_hourly(count, 0));
    }
    let found = (64..200).find(|&count| {
        fleet.observe(&id(0), half_hourly(count, 60));
        !fleet.alerts.is_empty()
    });
    assert!(found.is_some_and(|count| count <= 64 + 16), "{found:?}");
}

#[test]
fn an_alert_grows_graver_the_longer_its_fault_lasts() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 2, 0);
    fleet.run(60..100, 2, 60);
    let first = fleet.alerts[&1].severity;
    fleet.run(100..60 + 26 * 60, 2, 60);
    let alert = &fleet.alerts[&1];
    assert!(alert.severity > first, "{first:?}, and after a day {:?}", alert.severity);
    assert_eq!(alert.state, AlertState::Alerting);
    assert!(alert.history.len() <= 4, "told when it changes, not every window");
}

impl Fleet {
    fn judge(&mut self, alert: u64, verdict: Verdict) {
        let judgement = Judgement { verdict, author: "jo".into(), note: String::new() };
        for change in self.core.judge(alert, &judgement, UnixMillis(1)) {
            match change {
                Change::Camera { camera, state } => drop(self.states.insert(camera, state)),
                Change::Alert(alert) => drop(self.alerts.insert(alert.id, *alert)),
                other => panic!("a verdict changes no baseline: {other:?}"),
            }
        }
    }
}

#[test]
fn an_alert_called_false_is_over_and_stays_so_while_the_camera_is_as_it_was_then() {
    for restarts in [false, true] {
        let mut fleet = Fleet::new();
        fleet.run(0..60, 2, 0);
        fleet.run(60..120, 2, 60);
        fleet.judge(1, Verdict::False);
        if restarts {
            fleet.alerts.retain(|_, alert| alert.state != AlertState::Resolved);
            fleet.restart();
        }
        fleet.run(120..400, 2, 60);
        let open = fleet.alerts.values().filter(|alert| alert.state != AlertState::Resolved).count();
        assert_eq!(open, 0, "raised again in the same epoch: {:?}", fleet.alerts);
    }
    let mut left = Fleet::new();
    left.run(0..60, 2, 0);
    left.run(60..400, 2, 60);
    assert_eq!(left.alerts[&1].state, AlertState::Alerting, "it is open where nobody says a word");
}

#[test]
fn a_confirmed_alert_resolves_by_itself_like_any_other() {
    let mut fleet = Fleet::new();
    fleet.run(0..60, 2, 0);
    fleet.run(60..120, 2, 60);
    fleet.judge(1, Verdict::Right);
    assert_eq!(fleet.alerts[&1].state, AlertState::Confirmed);
    fleet.judge(7, Verdict::Right);
    assert_eq!(fleet.alerts.len(), 1, "an alert that nobody knows");
    fleet.run(120..160, 2, 0);
    assert_eq!((fleet.alerts[&1].state, fleet.alerts[&1].verdict), (AlertState::Resolved, Some(Verdict::Right)));
}

#[test]
fn a_tighter_budget_asks_for_more_evidence_and_its_q_is_the_one_in_the_note() {
    let raised = |budget: f64| {
        let budget = AlarmBudget::per_site_month(budget).expect("a budget");
        let mut fleet = Fleet::promising(Settings { q: LARGEST_Q, budget: Some(budget), ..settings() });
        assert!(fleet.core.target().q > 0.0);
        fleet.run(0..60, 5, 0);
        let minute = (60..400).find(|&minute| {
            fleet.run(minute..minute + 1, 5, 60);
            !fleet.alerts.is_empty()
        });
        let note = fleet.alerts.pop_first().expect("raised").1.history.remove(0).note;
        (minute.expect("raised"), fleet.core.target(), note)
    };
    let (often, monthly, note) = raised(1.0);
    assert_eq!((monthly.sites, monthly.capped), (1, false));
    assert!((0.030..0.033).contains(&monthly.q) && note.contains("at q = 0.0309"), "{monthly:?} {note}");
    let (rarely, strict, _) = raised(0.0001);
    assert!(strict.q < 1e-5 && rarely > often, "{rarely} after {often}");
}

#[test]
fn the_camera_that_always_sends_first_is_judged_though_the_aggregator_restarts_after_every_window() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 8, 0);
    let found = (64..200).find(|&minute| {
        fleet.restart();
        fleet.run(minute..minute + 1, 8, 60);
        !fleet.alerts.is_empty()
    });
    assert!(found.is_some() && found <= undisturbed().map(|minute| minute + 1), "{found:?}");
    assert_eq!(fleet.alerts[&1].camera, id(0));
}

#[test]
fn too_few_cameras_leave_open_whether_it_is_the_site_unless_the_others_are_as_ever() {
    let raised = |cameras: usize, changed: usize| {
        let mut fleet = Fleet::new();
        fleet.run(0..60, cameras, 0);
        for minute in 60..120 {
            for camera in 0..cameras {
                fleet.observe(&id(camera), window(minute, if camera < changed { 60 } else { 0 }));
            }
        }
        fleet.alerts.values().map(|alert| (alert.unattributed, alert.history[0].note.clone())).next_back().expect("one")
    };
    for (cameras, changed, open, says) in [
        (1, 1, true, "no other camera is watched here, so it may be the whole site"),
        (2, 2, true, "the other camera here has changed too, so it may be the whole site"),
        (3, 2, true, "1 of the 2 others here changed too, so it may be the whole site"),
        (4, 1, false, "none of the 3 others here has changed"),
        (8, 1, false, ""),
    ] {
        let (unattributed, note) = raised(cameras, changed);
        assert_eq!(unattributed, open, "{changed} of {cameras}: {note}");
        assert!(note.ends_with(says) && note.contains(" here") != says.is_empty(), "{note}");
    }
}

#[test]
fn what_a_window_touches_of_a_camera_with_all_features_of_pictures_is_less_than_16_kib() {
    let pictures = || CATALOGUE.iter().filter(|spec| spec.feature.subject() == Subject::Picture);
    let every = |minute: i64| {
        let mut all = window(minute, 0);
        let histograms = pictures().enumerate().map(|(number, spec)| {
            let mut histogram = Histogram::new();
            // As wide as sixty frames can be, and another one in every window.
            let offset = u8::try_from((number + 7 * usize::try_from(minute).expect("small")) % 16).expect("small");
            (0..60_u8).for_each(|frame| histogram.add(offset + 4 * frame));
            (spec.feature, histogram)
        });
        all.histograms = histograms.collect();
        all
    };
    let mut fleet = Fleet::new();
    for minute in 0..60 {
        for camera in 0..5 {
            fleet.observe(&id(camera), every(minute));
        }
    }
    let (state, (_, baseline)) = (&fleet.states[&id(0)], &fleet.baselines[&id(0)]);
    println!("{} features: {} bytes of state, {} of baseline", pictures().count(), state.len(), baseline.len());
    // Of a baseline its ranks are read with every window; histograms and variograms when something is to be named or an epoch begins.
    assert!(state.len() + pictures().count() * size_of::<FeatureBaseline>() < 16 << 10);
}
