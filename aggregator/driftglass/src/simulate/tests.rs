//! The promise, on fleets small enough for every test run. `driftglass simulate` has the full size.

use driftglass_aggregator::decision::Dependence;

use super::fleet::{Plan, Scenario};
use super::run::{Outcome, run};

const Q: f64 = 0.1;

fn runs(scenario: Scenario, windows: u32, seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    let plan = Plan { scenario, cameras: 200, features: 12, windows, drifting: 5, shift: 1.0 };
    seeds.map(|seed| run(plan, Q, Dependence::Positive, seed, |_, _| ())).collect()
}

/// Mean share of false alerts, and share of the drifting cameras found.
fn scores(runs: &[Outcome]) -> (f64, f64) {
    let false_share = runs.iter().map(|run| run.false_discovery_proportion).sum::<f64>() / runs.len() as f64;
    let (found, drifting) = runs.iter().fold((0, 0), |(f, d), run| (f + run.found, d + run.drifting));
    (false_share, found as f64 / drifting.max(1) as f64)
}

#[test]
fn drifts_are_found_within_minutes_while_shocks_hit_whole_sites() {
    let runs = runs(Scenario::Shocks, 120, 1..4);
    let (false_share, found) = scores(&runs);
    assert!(false_share <= Q && found >= 0.95, "{runs:?}");
    let mut delays: Vec<u32> = runs.iter().flat_map(|run| run.delays.iter().copied()).collect();
    delays.sort_unstable();
    assert!(delays[delays.len() / 2] <= 7 && delays[delays.len() * 9 / 10] <= 12, "{delays:?}");
}

#[test]
fn where_nothing_drifts_weather_raises_no_alert() {
    let runs = runs(Scenario::Null, 120, 10..13);
    assert!(runs.iter().all(|run| run.false_alerts == 0), "{runs:?}");
}

#[test]
fn a_small_drift_is_found_within_the_hours() {
    let (false_share, found) = scores(&runs(Scenario::SmallShift, 120, 20..23));
    assert!(false_share <= Q && found >= 0.9, "{false_share} {found}");
}

#[test]
fn a_level_that_wanders_slowly_is_no_drift_and_hides_few() {
    let (false_share, found) = scores(&runs(Scenario::SlowWander, 240, 30..33));
    assert!(false_share <= Q && found >= 0.7, "{false_share} {found}");
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let figures =
        |outcome: Vec<Outcome>| outcome.into_iter().map(|run| (run.false_alerts, run.delays)).collect::<Vec<_>>();
    assert_eq!(figures(runs(Scenario::Noshocks, 30, 7..8)), figures(runs(Scenario::Noshocks, 30, 7..8)));
}
