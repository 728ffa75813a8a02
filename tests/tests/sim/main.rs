//! Ten thousand worlds, each from one seed: delivery under everything that networks, disks, clocks and processes do.
//!
//! What runs is the product: the spool with its recovery and merging over a disk in memory, the agent's side of a session, the
//! aggregator's splitter, receiver, greeting and ledger over a transactional store in memory. What is simulated is everything below.
//!
//! A seed that fails is printed with the line that runs it alone. Once understood it goes into `regressions.txt`, which is run first.
#![expect(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests; a panic is the failure")]

mod aggregator;
mod device;
mod disk;
mod offline;
mod random;
mod rules;
mod scenarios;
mod store;
mod world;

use rules::Rules;
use world::{Report, run};

/// Seeds in all shards together.
const SEEDS: u64 = 10_000;
/// Shards, so that they can run beside each other.
const SHARDS: u64 = 8;
/// Worlds in which each broken variant must be caught.
const MUTANT_SEEDS: u64 = 200;

fn check(seed: u64) -> Report {
    let report = run(seed, Rules::Real);
    assert!(
        report.is_sound(),
        "seed {seed} fails: {report:#?}\nalone: DRIFTGLASS_SIM_SEED={seed} cargo test -p driftglass-tests --test sim one_seed -- --nocapture"
    );
    report
}

fn shard(number: u64) {
    let mut sum = Sum::default();
    for seed in (0..SEEDS).filter(|seed| seed % SHARDS == number) {
        sum.add(&check(seed));
    }
    eprintln!("{sum:#?}");
    sum.assert_all_happened();
}

/// What happened in many worlds.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    figures: std::collections::BTreeMap<String, u64>,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        // The names and numbers of all counters, as their own formatting shows them.
        for line in format!("{report:#?}").lines() {
            if let Some((name, value)) = line.trim().trim_end_matches(',').split_once(": ")
                && let Ok(value) = value.parse::<u64>()
            {
                *self.figures.entry(name.to_owned()).or_default() += value;
            }
        }
    }

    /// A fault that never happened has not been survived.
    fn assert_all_happened(&self) {
        for (name, value) in &self.figures {
            let good =
                matches!(name.as_str(), "twice" | "unaccounted" | "rebases" | "overlaps" | "overstated" | "traceless");
            assert!(good || *value > 0, "{name} never happened in {} worlds", self.seeds);
        }
    }
}

macro_rules! shards {
    ($($name:ident $number:literal),*) => {
        $(#[test]
        fn $name() {
            shard($number);
        })*

        #[test]
        fn the_shards_cover_every_seed() {
            assert_eq!([$($number),*].len() as u64, SHARDS);
        }
    };
}
shards!(
    every_window_counts_once_shard_0 0, every_window_counts_once_shard_1 1, every_window_counts_once_shard_2 2,
    every_window_counts_once_shard_3 3, every_window_counts_once_shard_4 4, every_window_counts_once_shard_5 5,
    every_window_counts_once_shard_6 6, every_window_counts_once_shard_7 7
);

#[test]
fn seeds_that_failed_once_never_fail_again() {
    for line in include_str!("regressions.txt").lines() {
        let seed = line.split('#').next().unwrap_or_default().trim();
        if !seed.is_empty() {
            check(seed.parse().expect("a seed in regressions.txt"));
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the one way to hand a seed to a test")]
fn one_seed() {
    let seed = std::env::var("DRIFTGLASS_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    // What the product logs, and what the world did to it.
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .without_time()
        .with_ansi(false)
        .with_writer(std::io::stderr);
    tracing::subscriber::with_default(log.finish(), || eprintln!("{:#?}", check(seed)));
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 141, 5926] {
        assert_eq!(format!("{:?}", run(seed, Rules::Real)), format!("{:?}", run(seed, Rules::Real)));
    }
}

#[test]
fn every_broken_variant_of_the_rules_is_caught() {
    for mutant in Rules::MUTANTS {
        let mut caught = None;
        let (mut twice, mut unaccounted, mut wedged) = (0, 0, 0);
        for seed in 0..MUTANT_SEEDS {
            let report = run(seed, mutant);
            if !report.is_sound() {
                caught = caught.or(Some(seed + 1));
            }
            twice += report.twice;
            unaccounted += report.unaccounted;
            wedged += u64::from(report.wedged);
        }
        eprintln!(
            "{mutant:?}: caught after {caught:?} seeds; in {MUTANT_SEEDS}: {twice} windows counted twice, {unaccounted} lost, {wedged} worlds wedged"
        );
        assert!(caught.is_some(), "{mutant:?} is not caught in {MUTANT_SEEDS} seeds");
    }
}
