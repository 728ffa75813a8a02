//! `driftglass compare` on the shipped frames: quiet where nothing happened, and right about what did.

use std::path::Path;
use std::process::Output;

use driftglass_agent::fault::{Injector, Kind, Severity};
use serde_json::Value;

use crate::support::camera::{scene, write_folder};
use crate::support::process::{run, said};

fn compare(reference: &Path, current: &Path) -> Output {
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    run("driftglass", &["compare", "--reference", &path(reference), "--current", &path(current), "--format", "json"])
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

/// The figures of a report, for whoever has to find out why it came out wrong.
fn figures(report: &Value) -> String {
    let mut text = format!("cause {} drift {} {}\n", report["cause"], report["drift"], report["explanation"]);
    for feature in report["features"].as_array().expect("features") {
        text += &format!(
            "  {} drift {} ks {} p {} mean {} -> {}\n",
            feature["name"],
            feature["drift"],
            feature["ks"],
            feature["p_adjusted"],
            feature["reference"]["mean"],
            feature["current"]["mean"]
        );
    }
    text
}

#[test]
fn two_halves_of_one_recording_show_no_drift() {
    let root = tempfile::tempdir().expect("folder");
    let (reference, current) = (root.path().join("reference"), root.path().join("current"));
    let scene = scene();
    write_folder(&reference, &scene[..24]);
    write_folder(&current, &scene[24..]);
    let output = compare(&reference, &current);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{}", figures(&report));
    assert_eq!((&report["drift"], &report["cause"], &report["severity"]), (&false.into(), &Value::Null, &Value::Null));
    for side in ["reference", "current"] {
        assert_eq!(report[side]["frames"], 24);
    }
    let features = report["features"].as_array().expect("features");
    assert!(features.len() >= 10, "{}", figures(&report));
    for feature in features {
        assert!(feature["name"].is_string() && feature["drift"] == false, "{feature:#}");
        for key in ["ks", "p_value", "p_adjusted"] {
            assert!(feature[key].as_f64().is_some_and(|value| (0.0..=1.0).contains(&value)), "{key}: {feature:#}");
        }
        for key in ["psi", "js", "wasserstein"] {
            assert!(feature.get(key).is_some(), "{key}: {feature:#}");
        }
        for side in ["reference", "current"] {
            for key in ["count", "mean", "std", "min", "p25", "p50", "p75", "max"] {
                assert!(feature[side][key].is_number(), "{side} {key}: {feature:#}");
            }
        }
    }
}

/// Holds a fault against the same camera without it.
fn assert_named(kind: Kind, cause: &str) {
    let root = tempfile::tempdir().expect("folder");
    let (reference, current) = (root.path().join("reference"), root.path().join("current"));
    let scene = scene();
    let mut injector = Injector::new(kind, Severity::MARKED, 1);
    let clear: Vec<_> = scene[..24].iter().map(|picture| injector.clear_view(picture)).collect();
    let faulted: Vec<_> = scene[24..].iter().zip(0..).map(|(picture, at)| injector.apply(at, picture)).collect();
    write_folder(&reference, &clear);
    write_folder(&current, &faulted);
    let output = compare(&reference, &current);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(3), "{kind}: {}", figures(&report));
    assert_eq!((&report["drift"], &report["cause"]), (&true.into(), &cause.into()), "{kind}: {}", figures(&report));
    assert!(report["severity"].is_string(), "{report:#}");
}

#[test]
fn compare_names_defocus() {
    assert_named(Kind::Defocus, "defocused");
}

#[test]
fn compare_names_a_cover() {
    assert_named(Kind::Covered, "covered");
}

#[test]
fn compare_names_darkness() {
    assert_named(Kind::Dark, "dark");
}

#[test]
fn compare_names_noise() {
    assert_named(Kind::Noise, "noise");
}

#[test]
fn compare_names_a_frozen_picture() {
    assert_named(Kind::Frozen, "frozen");
}

#[test]
fn compare_names_a_moved_camera() {
    assert_named(Kind::Moved, "moved");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let root = tempfile::tempdir().expect("folder");
    let (good, empty) = (root.path().join("good"), root.path().join("empty"));
    write_folder(&good, &scene()[..4]);
    std::fs::create_dir(&empty).expect("created");
    let missing = compare(&good, &root.path().join("missing"));
    assert_eq!(missing.status.code(), Some(2), "{}", said(&missing));
    assert!(said(&missing).contains("missing is not a folder"), "{}", said(&missing));
    for (reference, current) in [(&good, &empty), (&empty, &good)] {
        let output = compare(reference, current);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("empty holds no picture"), "{}", said(&output));
    }
}
