//! In whatever order windows come: what is not asked because it cannot have changed would have been answered the same.

use proptest::prelude::*;

use super::*;

const CAMERAS: usize = 6;
const LEARNED: i64 = 41;

/// Minutes by which a camera's next window is later than its last: one, as a rule; but cameras fall silent, clocks jump, and some go back.
fn steps() -> impl Strategy<Value = Vec<(usize, i64)>> {
    let minutes =
        prop_oneof![20 => Just(1_i64), 2 => Just(2), 2 => Just(4), 1 => Just(0), 1 => Just(-3), 1 => 90..2000_i64];
    prop::collection::vec((0..CAMERAS, minutes), 1..150)
}

/// Six cameras that have learned, from what was kept of them.
fn learned(fleet: &Fleet) -> Fleet {
    let mut again = Fleet::new();
    again.stored.clone_from(&fleet.stored);
    again.states.clone_from(&fleet.states);
    again.baselines.clone_from(&fleet.baselines);
    again.restart();
    again
}

/// How the cameras stand, and how far each has been judged.
fn standing(fleet: &Fleet) -> Vec<Vec<u8>> {
    let state = |(_, camera): (&CameraId, &Camera)| postcard::to_stdvec(&camera.state).expect("encodes");
    fleet.core.all_cameras().map(state).collect()
}

#[test]
fn times_at_either_end_of_time_are_judged_like_any_other() {
    let first = i64::MIN / i64::from(MINUTE);
    let mut fleet = Fleet::new();
    fleet.run(first..first + 60, CAMERAS, 0);
    let waiting = |fleet: &Fleet| fleet.core.all_cameras().map(|(_, camera)| camera.state.waiting.len()).sum::<usize>();
    assert_eq!(waiting(&fleet), 0, "at the beginning");
    for start in [-1, 0, i64::MAX - 1, i64::MAX] {
        for camera in 0..CAMERAS {
            let mut window = window(0, 0);
            window.window.start = UnixMillis(start);
            fleet.observe(&id(camera), window);
        }
        assert_eq!(waiting(&fleet), 0, "at {start}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_site_that_knows_whom_it_waits_for_judges_as_one_that_asks_all_every_time(steps in steps()) {
        let mut taught = Fleet::new();
        taught.run(0..LEARNED, CAMERAS, 0);
        let (mut knows, mut asks) = (learned(&taught), learned(&taught));
        let mut clocks = [LEARNED; CAMERAS];
        for (camera, minutes) in steps {
            clocks[camera] += minutes;
            asks.core.sites.values_mut().for_each(Site::ask_all);
            for fleet in [&mut knows, &mut asks] {
                fleet.observe(&id(camera), window(clocks[camera], 0));
            }
            prop_assert_eq!(standing(&knows), standing(&asks), "after camera {} at minute {}", camera, clocks[camera]);
        }
    }
}
