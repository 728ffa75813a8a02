//! Every door, on its corpus and on mutations of it, for a bounded time: what the fuzzer does for longer (`./run fuzz`).
//!
//! A mutation is made by the name of the door and its number alone, so that a failure says how to have it again.
#![expect(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests; a panic is the failure")]

mod rot;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use driftglass_tests::door::{DOORS, Door};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// For each door; the corpus is always done in full.
const TIME: Duration = Duration::from_secs(4);
/// As long as the longest thing behind a door.
const LONGEST: usize = 128 * 1024;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("listed").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "nothing in {}", folder.display());
    paths.iter().map(|path| fs::read(path).expect("read")).collect()
}

/// Runs a door; where it fails, the bytes are kept to be looked at and, once understood, added to the corpus.
fn knock((name, door): Door, bytes: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| door(bytes))) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("door-{name}"));
        fs::write(&kept, bytes).expect("written");
        eprintln!("door {name}, {what}: {} bytes, kept in {}", bytes.len(), kept.display());
        std::panic::resume_unwind(panic);
    }
}

#[expect(clippy::disallowed_methods, reason = "how long it may take is real time")]
fn open(name: &str) {
    let door = *DOORS.iter().find(|door| door.0 == name).expect("a door");
    let corpus = corpus(name);
    knock(door, &[], "nothing");
    for (number, bytes) in corpus.iter().enumerate() {
        knock(door, bytes, &format!("corpus entry {number}"));
    }
    let end = Instant::now() + TIME;
    let mut runs = 0_u64;
    while Instant::now() < end {
        let bytes = mutation(&corpus, runs);
        knock(door, &bytes, &format!("mutation {runs}"));
        runs += 1;
    }
    eprintln!("door {name}: {} corpus entries, {runs} mutations", corpus.len());
    assert!(runs > 20, "only {runs} mutations in {} s", TIME.as_secs());
}

/// The `number`th mutation.
fn mutation(corpus: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(number);
    let mut bytes = corpus.choose(&mut random).expect("not empty").clone();
    for _ in 0..1 << random.random_range(0..5) {
        let at = random.random_range(0..=bytes.len());
        let until = (at + (1 << random.random_range(0..12)) - 1).min(bytes.len());
        match random.random_range(0..9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            2 if at < bytes.len() => bytes[at] = random.random(),
            // What lengths and counts break at.
            3 if at < bytes.len() => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff].choose(&mut random).expect("some"),
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..until)),
            6 => {
                let copy = bytes[at..until].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            7 => {
                let other = corpus.choose(&mut random).expect("not empty");
                let from = random.random_range(0..=other.len());
                bytes.splice(at..until, other[from..].iter().copied().take(1 << random.random_range(0..12)));
            }
            _ => bytes[at..until].shuffle(&mut random),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

macro_rules! doors {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            open(stringify!($name));
        })*

        #[test]
        fn every_door_is_tried_here_and_by_the_fuzzer() {
            assert_eq!(DOORS.map(|(name, _)| name), [$(stringify!($name)),*]);
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("read");
            for (name, _) in DOORS {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no fuzz target");
                let target = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).expect("read");
                assert!(target.contains(&format!("door::{name}(")), "{name} goes through another door");
            }
        }
    };
}
doors!(frame payload segment picture camera_state identity inference agent_configuration aggregator_configuration);

#[test]
fn a_mutation_is_the_same_every_time_and_no_two_are_alike_for_long() {
    let corpus = corpus("frame");
    let mutations: Vec<_> = (0..200).map(|number| mutation(&corpus, number)).collect();
    assert_eq!(mutations, (0..200).map(|number| mutation(&corpus, number)).collect::<Vec<_>>());
    let mut different = mutations;
    different.sort();
    different.dedup();
    assert!(different.len() > 150, "{}", different.len());
}

#[test]
fn a_door_that_breaks_its_promise_is_found() {
    // Behind the checksum of a whole record: only a mutation of a good one gets there.
    fn broken(bytes: &[u8]) {
        driftglass_tests::door::payload(bytes);
        assert!(bytes.first() != Some(&1) || bytes.len() < 40 || bytes[30] != 0x7f, "found");
    }
    let corpus = corpus("payload");
    let found = (0..20_000).any(|number| {
        let bytes = mutation(&corpus, number);
        catch_unwind(|| broken(&bytes)).is_err()
    });
    assert!(found);
}
