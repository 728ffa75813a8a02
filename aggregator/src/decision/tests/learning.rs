//! Baselines that an operator changes, on the made-up windows of the core's tests.

use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::{Millis, UnixMillis};

use super::super::{Dependence, How, Order, OrderError, Settings, Wish};
use super::{Fleet, id, settings, window};
use crate::alert::{AlertState, Scope};
use crate::baseline::MIN_WINDOWS;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60;

fn order(wish: Wish) -> Order {
    Order { wish, author: "jo".into(), note: "hung elsewhere".into() }
}

const PROMOTE: Wish = Wish::Promote { since: None };
const ROLL_BACK: Wish = Wish::Rollback { to: None };

impl Fleet {
    fn wish(&mut self, camera: usize, wish: Wish) {
        self.order(&id(camera), &order(wish)).expect("obeyed");
    }

    fn open(&self) -> usize {
        self.alerts.values().filter(|alert| alert.state != AlertState::Resolved).count()
    }

    fn in_force(&self, camera: usize) -> Option<u32> {
        self.baselines.get(&id(camera)).map(|(version, _)| *version)
    }

    /// Camera 0 was moved in minute 60 and an alert of it is open.
    fn moved(cameras: usize) -> Self {
        let mut fleet = Self::new();
        fleet.run(0..60, cameras, 0);
        fleet.run(60..80, cameras, 60);
        assert_eq!((fleet.open(), fleet.in_force(0)), (1, Some(1)));
        fleet
    }
}

#[test]
fn what_is_accepted_as_normal_is_learned_since_the_alert_began_and_never_told_again() {
    let mut fleet = Fleet::moved(8);
    fleet.wish(0, PROMOTE);
    let alert = &fleet.alerts[&1];
    let last = alert.history.last().expect("an entry");
    assert_eq!((alert.state, last.author.as_str()), (AlertState::Resolved, "jo"));
    assert_eq!((last.note.as_str(), alert.verdict), ("accepted as normal: hung elsewhere", None));
    assert_eq!(fleet.moves[0].since, Some(UnixMillis(60 * MINUTE)), "the alert's first window");
    assert_eq!(fleet.in_force(0), None, "it learns");
    // Twenty windows have been seen since; forty minutes of learning are over in minute 99.
    fleet.run(80..99, 8, 60);
    assert_eq!(fleet.in_force(0), None);
    fleet.run(99..100, 8, 60);
    assert_eq!(fleet.in_force(0), Some(2));
    let origin = fleet.versions.borrow().last().expect("two versions").3.clone();
    assert_eq!((origin.how, origin.author.as_str(), origin.note.as_str()), (How::Promoted, "jo", "hung elsewhere"));
    fleet.run(100..600, 8, 60);
    assert_eq!(fleet.alerts.len(), 1, "{:?}", fleet.alerts.values().last());
}

#[test]
fn what_was_seen_since_counts_and_the_next_window_completes_the_version() {
    let mut fleet = Fleet::moved(8);
    fleet.run(80..200, 8, 60);
    fleet.wish(0, PROMOTE);
    assert_eq!(fleet.in_force(0), None);
    fleet.observe(&id(0), window(200, 60));
    assert_eq!(fleet.in_force(0), Some(2));
}

#[test]
fn without_an_alert_it_learns_from_its_next_window_on_and_a_time_ahead_means_the_same() {
    let later = Wish::Promote { since: Some(UnixMillis(i64::MAX)) };
    for (wish, since, shown) in [
        (PROMOTE, 59 * MINUTE + 1, 0),
        (later, 59 * MINUTE + 1, 0),
        (Wish::Promote { since: Some(UnixMillis(50 * MINUTE - 7)) }, 50 * MINUTE, 10),
        (Wish::Promote { since: Some(UnixMillis(i64::MIN)) }, 0, 60),
    ] {
        let mut fleet = Fleet::new();
        fleet.run(0..60, 2, 0);
        fleet.wish(0, wish);
        assert_eq!(fleet.moves[0].since, Some(UnixMillis(since)), "{wish:?}");
        let standing = super::super::Standing::of(&fleet.states[&id(0)]).expect("own bytes");
        assert_eq!((standing.learning_since, standing.learning_windows), (UnixMillis(since), shown), "{wish:?}");
    }
}

#[test]
fn a_rollback_puts_the_version_before_in_force_and_what_it_does_not_know_is_told_again() {
    let mut fleet = Fleet::moved(8);
    fleet.wish(0, PROMOTE);
    fleet.run(80..200, 8, 60);
    assert_eq!((fleet.open(), fleet.in_force(0)), (0, Some(2)));
    fleet.wish(0, ROLL_BACK);
    assert_eq!((fleet.in_force(0), fleet.moves[1].version), (Some(1), Some(1)));
    fleet.run(200..260, 8, 60);
    assert_eq!((fleet.alerts.len(), fleet.open()), (2, 1), "it still hangs elsewhere");
    // Rolled forward again: the alert speaks of a baseline that is not in force any more.
    fleet.wish(0, Wish::Rollback { to: Some(2) });
    assert_eq!(fleet.open(), 0);
    assert_eq!(fleet.alerts[&2].history.last().expect("an entry").author, "jo");
    fleet.run(260..400, 8, 60);
    assert_eq!(fleet.alerts.len(), 2);
}

#[test]
fn a_camera_that_learns_anew_goes_back_to_what_it_was_held_against_last() {
    let mut fleet = Fleet::moved(8);
    fleet.wish(0, PROMOTE);
    fleet.run(80..100, 8, 60);
    fleet.wish(0, ROLL_BACK);
    fleet.wish(0, PROMOTE);
    assert_eq!(fleet.in_force(0), None);
    fleet.wish(0, ROLL_BACK);
    assert_eq!(fleet.in_force(0), Some(1), "not 2, which is newer and was not in force");
}

#[test]
fn a_version_s_number_is_given_once_whatever_is_rolled_back_forgotten_or_lost() {
    // The fleet of the tests refuses a number that comes twice.
    let mut fleet = Fleet::moved(8);
    fleet.wish(0, PROMOTE);
    fleet.run(80..100, 8, 60);
    fleet.wish(0, ROLL_BACK);
    fleet.run(100..110, 8, 0);
    fleet.wish(0, PROMOTE);
    fleet.run(110..160, 8, 0);
    assert_eq!(fleet.in_force(0), Some(3));
    // Its state is lost: the camera begins afresh, and its versions are still there.
    fleet.states.remove(&id(0));
    fleet.restart();
    fleet.run(160..161, 8, 0);
    assert_eq!(fleet.in_force(0), None, "what the core does not hold it against is not in force");
    fleet.run(161..220, 8, 0);
    assert_eq!(fleet.in_force(0), Some(4));
    let versions: Vec<u32> = fleet
        .versions
        .borrow()
        .iter()
        .filter(|(camera, ..)| *camera == id(0))
        .map(|(_, version, ..)| *version)
        .collect();
    assert_eq!(versions, [1, 2, 3, 4]);
}

#[test]
fn a_restart_after_any_order_changes_nothing() {
    let (mut whole, mut restarted) = (Fleet::new(), Fleet::new());
    for (fleet, restarts) in [(&mut whole, false), (&mut restarted, true)] {
        let step = |fleet: &mut Fleet, minutes: std::ops::Range<i64>, shift: usize| {
            for minute in minutes.clone() {
                if restarts && (minute == minutes.start || minute % 7 == 0) {
                    fleet.restart();
                }
                fleet.run(minute..minute + 1, 3, shift);
            }
        };
        step(fleet, 0..60, 0);
        step(fleet, 60..80, 60);
        fleet.wish(0, PROMOTE);
        step(fleet, 80..130, 60);
        fleet.wish(0, ROLL_BACK);
        step(fleet, 130..160, 60);
        fleet.wish(0, Wish::Rollback { to: Some(2) });
        step(fleet, 160..220, 0);
        fleet.wish(0, ROLL_BACK);
        step(fleet, 220..300, 0);
    }
    let told: Vec<usize> = whole.alerts.values().map(|alert| alert.history.len()).collect();
    assert_eq!(
        told,
        [2, 2, 2],
        "moved; moved still, after the rollback; back again, under the version that knows it moved"
    );
    assert_eq!(whole.alerts, restarted.alerts);
    assert_eq!((whole.in_force(0), restarted.in_force(0)), (Some(1), Some(1)), "not the newest");
    assert_eq!(whole.baselines, restarted.baselines);
}

#[test]
fn the_learning_time_ends_now_where_enough_was_seen_and_not_before() {
    let mut fleet = Fleet::promising(Settings { learning: Millis(u32::MAX), ..settings() });
    fleet.run(0..29, 2, 0);
    let before = fleet.states.clone();
    let refused = fleet.order(&id(0), &order(Wish::Freeze));
    assert_eq!(refused, Err(OrderError::TooFewWindows { found: 29, needed: MIN_WINDOWS }));
    assert_eq!((&fleet.states, fleet.moves.len()), (&before, 0));
    fleet.run(29..30, 2, 0);
    fleet.wish(0, Wish::Freeze);
    assert_eq!((fleet.in_force(0), fleet.in_force(1)), (Some(1), None));
    let origin = fleet.versions.borrow()[0].3.clone();
    assert_eq!((origin.how, origin.author.as_str()), (How::Frozen, "jo"));
    assert_eq!(fleet.order(&id(0), &order(Wish::Freeze)), Err(OrderError::NotLearning));
    fleet.run(30..60, 2, 60);
    assert_eq!(fleet.open(), 1, "it is watched from then on");
}

#[test]
fn what_is_refused_says_why_and_has_changed_nothing() {
    let mut fleet = Fleet::moved(3);
    let (states, alerts) = (fleet.states.clone(), fleet.alerts.clone());
    let mut refused = |camera: usize, wish| fleet.order(&id(camera), &order(wish)).expect_err("refused");
    for wish in [PROMOTE, Wish::Freeze, ROLL_BACK] {
        assert_eq!(refused(7, wish), OrderError::UnknownCamera);
    }
    assert_eq!(refused(0, ROLL_BACK), OrderError::NothingEarlier);
    assert_eq!(refused(0, Wish::Rollback { to: Some(9) }), OrderError::UnknownVersion(9));
    assert_eq!(refused(0, Wish::Rollback { to: Some(0) }), OrderError::UnknownVersion(0));
    assert_eq!(refused(0, Wish::Rollback { to: Some(1) }), OrderError::InForce(1));
    let origin = fleet.versions.borrow()[0].3.clone();
    fleet.versions.borrow_mut().push((id(0), 2, vec![0xff, 0xff], origin));
    let unreadable = fleet.order(&id(0), &order(Wish::Rollback { to: Some(2) }));
    assert_eq!(unreadable, Err(OrderError::Unreadable(2)));
    assert_eq!((&fleet.states, &fleet.alerts, fleet.moves.len()), (&states, &alerts, 0));
    fleet.run(80..81, 3, 60);
    assert_eq!((fleet.in_force(0), fleet.open()), (Some(1), 1));
}

#[test]
fn a_camera_that_learns_anew_is_one_of_the_hypotheses_all_the_while() {
    let alone: CameraId = "store-2/gw/entrance".parse().expect("a camera id");
    let raised = |others: usize, accepted: usize| {
        let mut fleet = Fleet::new();
        for minute in 0..60 {
            fleet.observe(&alone, window(minute, 0));
        }
        fleet.run(0..60, others, 0);
        (0..accepted).for_each(|camera| fleet.wish(camera, PROMOTE));
        let found = (60..400).find(|&minute| {
            fleet.observe(&alone, window(minute, 10));
            !fleet.alerts.is_empty()
        });
        found.expect("raised")
    };
    let bar = raised(60, 0);
    assert!(raised(0, 0) < bar, "sixty more hypotheses");
    assert_eq!(raised(60, 60), bar);
}

#[test]
fn whoever_accepts_again_and_again_has_no_more_chances_of_a_false_alarm() {
    // Evidence that has sunk is what the next beginning has; evidence that has risen is not taken along.
    let mut fleet = Fleet::new();
    fleet.run(0..60, 8, 0);
    let stake = |fleet: &Fleet| {
        let evidence = fleet.core.camera(&id(0)).expect("known").state.evidence.clone();
        evidence.expect("it is watched").left()
    };
    let mut minute = 60;
    let mut before = None;
    for _ in 0..4 {
        fleet.run(minute..minute + 40, 8, 0);
        let left = stake(&fleet);
        fleet.wish(0, Wish::Promote { since: Some(UnixMillis((minute - 60) * MINUTE)) });
        fleet.run(minute + 40..minute + 42, 8, 0);
        let now = stake(&fleet);
        assert!(now <= left, "{now:?} after {left:?}");
        assert!(before.is_none_or(|before| left <= before), "{left:?} after {before:?}");
        (minute, before) = (minute + 42, Some(left));
    }
    assert!(
        before.is_some_and(|stake| stake < crate::evidence::stake::Stake::WHOLE),
        "some of it was lost: {before:?}"
    );

    let mut alerted = Fleet::moved(8);
    assert_eq!(stake(&alerted).own(), 1.0, "after an alert the new beginning is a full one");
    alerted.wish(0, PROMOTE);
    alerted.run(80..100, 8, 60);
    alerted.restart();
    alerted.run(100..102, 8, 60);
    let evidence = alerted.core.camera(&id(0)).expect("known").state.evidence.clone().expect("watched again");
    assert!(evidence.supremum < 2.0, "nothing is left of what spoke against it: {}", evidence.supremum);
}

#[test]
fn on_the_next_day_evidence_is_whole_again() {
    let mut fleet = Fleet::new();
    fleet.run(0..600, 2, 0);
    fleet.wish(0, Wish::Promote { since: Some(UnixMillis(0)) });
    fleet.run(600..640, 2, 0);
    let stake =
        |fleet: &Fleet| fleet.core.camera(&id(0)).expect("known").state.evidence.clone().expect("watched").left();
    let today = stake(&fleet).own();
    fleet.run(DAY..DAY + 5, 2, 0);
    let tomorrow = stake(&fleet).own();
    assert!(tomorrow > today, "{tomorrow} after {today}");
}

#[test]
fn nothing_that_a_device_sends_changes_a_version_or_makes_a_camera_learn_anew() {
    let mut fleet = Fleet::moved(3);
    let baselines = fleet.baselines.clone();
    for minute in [-5_000_000, -1, 0, 30, 79, 80, 81, 5 * DAY, 400 * DAY, 5_000_000] {
        for (shift, frames) in [(0, 60), (60, 60), (120, 1), (0, 0)] {
            let mut sent = window(minute, shift);
            sent.quality.frames = frames;
            sent.window.merged = 1 + u32::from(frames == 1) * 1000;
            fleet.observe(&id(0), sent);
            let mut bare = window(minute, shift);
            bare.histograms.clear();
            fleet.observe(&id(0), bare);
        }
    }
    assert_eq!((&fleet.baselines, fleet.moves.len(), fleet.versions.borrow().len()), (&baselines, 0, 3));
}

#[test]
fn a_site_s_alert_is_over_when_the_last_of_its_cameras_was_accepted() {
    let mut fleet = Fleet::new();
    fleet.run(0..64, 0, 0);
    for minute in 0..120 {
        for camera in 0..8 {
            fleet.observe(&id(camera), window(minute, if minute < 64 { 0 } else { 60 }));
        }
    }
    assert_eq!((fleet.alerts[&1].scope, fleet.open()), (Scope::Site, 1));
    for camera in 0..8 {
        assert_eq!(fleet.open(), 1, "camera {camera} has a part in it");
        fleet.wish(camera, PROMOTE);
        let since = fleet.moves[camera].since.expect("it learns");
        assert_eq!(since, fleet.alerts[&1].first_window, "what the site's alert speaks of");
    }
    assert_eq!(fleet.open(), 0);
    for minute in 120..300 {
        for camera in 0..8 {
            fleet.observe(&id(camera), window(minute, 60));
        }
    }
    assert_eq!(fleet.alerts.len(), 1, "{:?}", fleet.alerts.values().last());
}

#[test]
fn days_before_the_new_beginning_are_no_guide_to_what_is_usual() {
    // Every day at seven in the evening lamps go on for an hour; after a week that is known, and not told.
    let lamps = |minute: i64| if (19 * 60..20 * 60).contains(&minute.rem_euclid(DAY)) { 40 } else { 0 };
    let evening = |fleet: &mut Fleet, day: i64| {
        let before = fleet.alerts.len();
        for minute in day * DAY..(day + 1) * DAY {
            fleet.observe(&id(0), window(minute, lamps(minute)));
        }
        fleet.alerts.len() > before
    };
    let mut fleet = Fleet::promising(Settings { dependence: Dependence::Positive, ..settings() });
    for minute in 12 * 60..7 * DAY {
        fleet.observe(&id(0), window(minute, lamps(minute)));
    }
    assert!(!evening(&mut fleet, 7), "known by now");
    fleet.wish(0, PROMOTE);
    let told: Vec<bool> = (8..14).map(|day| evening(&mut fleet, day)).collect();
    assert!(told[0], "nothing is known since it began anew");
    assert!(!told[4] && !told[5], "and is again after a few evenings: {told:?}");
}
