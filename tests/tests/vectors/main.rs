//! Runs every reference vector through the function it names, wherever that lives.
//!
//! The folder is `DRIFTGLASS_VECTORS` (relative paths start at the project's root), by default `../shared/vectors` from there.
//! Other files in the same format can be put there and run through the same tests. A missing folder, an unknown `fn`, an
//! expectation nobody looked at and a case without any expectation are failures, never skips.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test program: a surprise must end it")]

mod case;
mod detectors;
mod statistics;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use case::{Case, Run};
use serde_json::Value;

fn function(name: &str) -> Option<Run> {
    let mut functions = statistics::FUNCTIONS.iter().chain(&detectors::FUNCTIONS);
    functions.find(|(known, _)| *known == name).map(|(_, run)| *run)
}

/// Runs one case and returns what is wrong with it.
fn run(id: &str, body: &Value, run: Run) -> Vec<String> {
    let case = Case { id, body, seen: RefCell::default(), failures: RefCell::default() };
    let result = run(&case);
    let mut failures = case.failures.into_inner();
    let expectations = body["expect"].as_object().expect("expectations");
    match (expectations.contains_key("error"), result) {
        (true, Ok(())) => failures = vec![format!("{id}: bad input was accepted")],
        (true, Err(_)) => failures.clear(),
        (false, Err(error)) => failures.push(format!("{id}: {error}")),
        (false, Ok(())) => {
            if expectations.is_empty() {
                failures.push(format!("{id}: nothing is expected"));
            }
            let seen = case.seen.into_inner();
            failures.extend(
                expectations
                    .keys()
                    .filter(|key| !seen.contains(*key))
                    .map(|key| format!("{id}: nobody looked at {key}")),
            );
        }
    }
    failures
}

#[expect(clippy::disallowed_methods, reason = "the variable is how other vectors are run through these tests")]
fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies inside the project");
    let named = std::env::var("DRIFTGLASS_VECTORS").unwrap_or_else(|_| "../shared/vectors".to_owned());
    root.join(named)
}

fn files() -> Vec<PathBuf> {
    let folder = folder();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("no reference vectors in {}: {error}. Set DRIFTGLASS_VECTORS to their folder.", folder.display())
    });
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty(), "no *.json in {}", folder.display());
    files
}

#[test]
fn every_reference_vector_is_reproduced_within_its_tolerance() {
    let mut failures = Vec::new();
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let cases = file["cases"].as_array().unwrap_or_else(|| panic!("{} has no cases", path.display()));
        assert!(!cases.is_empty(), "{} has no cases", path.display());
        // Cases may share the numbers of the nearest one before that has any.
        let mut shared = Value::Null;
        for body in cases {
            let mut body = body.clone();
            if let Some(x) = body["input"].get("x") {
                shared = x.clone();
            } else if body["input"].get("x_ref").is_some() {
                body["input"]["x"] = shared.clone();
            }
            let id = body["id"].as_str().unwrap_or("a case without an id");
            let name = body["fn"].as_str().unwrap_or("");
            match function(name) {
                Some(known) => {
                    *ran.entry(name.to_owned()).or_default() += 1;
                    failures.extend(run(id, &body, known));
                }
                None => failures.push(format!("{id}: unknown fn {name:?}")),
            }
        }
    }
    println!("{} cases of {} functions: {ran:#?}", ran.values().sum::<usize>(), ran.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_wrong_expectation_an_overlooked_one_and_accepted_nonsense_are_failures() {
    let known = function("kolmogorov_sf").unwrap();
    let case = |expect: &str| -> Value {
        serde_json::from_str(&format!(
            r#"{{"input": {{"x": 1.0}}, "expect": {expect}, "tol": {{"sf_rel": 1e-10, "cdf_rel": 1e-9}}}}"#
        ))
        .unwrap()
    };
    let failures = |expect: &str| run("made up", &case(expect), known).len();
    assert_eq!(failures(r#"{"sf": 0.26999967167735456}"#), 0);
    assert_eq!(failures(r#"{"sf": 0.26999967177735456}"#), 1);
    assert_eq!(failures(r#"{"sf": "NaN"}"#), 1);
    assert_eq!(failures(r#"{"sf": 0.26999967167735456, "pdf": 1.0}"#), 1);
    assert_eq!(failures(r#"{"error": "invalid_input"}"#), 1);
    assert_eq!(failures(r#"{"sf": "Infinity"}"#), 1);
    assert_eq!(failures("{}"), 1);
    assert!(function("no such function").is_none());
}
