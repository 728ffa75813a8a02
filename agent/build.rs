//! Notes what the program was built from, when, and for what: `--version` says it, so that a device in the field can be told from
//! another that has the same release number.
//!
//! Works without git and outside of a repository, where the commit is unknown. A work tree counts as changed where something the
//! program is made of differs from the commit.
//!
//! And leaves out of the released program what only unwinding would read, which the compiler puts there nevertheless.
#![expect(clippy::disallowed_methods, reason = "a build script is told by its environment")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the program is made of.
const PARTS: [&str; 10] = [
    "src",
    "build.rs",
    "aborting.ld",
    "Cargo.toml",
    "library",
    "picture",
    "../protocol/Cargo.toml",
    "../protocol/src",
    "../Cargo.toml",
    "../Cargo.lock",
];

fn main() {
    for part in PARTS {
        watch(part);
    }
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown target".into());
    let commit = commit().unwrap_or_else(|| "unknown commit".into());
    println!("cargo::rustc-env=DRIFTGLASS_BUILD={commit}, built {}, {target}", date());
    leave_out_unwinding();
}

/// A panic of the release aborts, and its stripped program could not name the functions of a backtrace.
fn leave_out_unwinding() {
    let is = |variable: &str, value: &str| std::env::var(variable).is_ok_and(|text| text == value);
    // Linkers chosen by whoever builds need not know such scripts; the program is some 0.6 MB larger then.
    let chosen = std::env::var_os("RUSTC_LINKER").is_some()
        || std::env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("fuse-ld"));
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !chosen {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/aborting.ld");
    }
}

/// The day, UTC.
fn date() -> String {
    // Reproducible builds hand the time in (https://reproducible-builds.org/specs/source-date-epoch/).
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    // What humantime can write, it reads: four digits a year.
    let given =
        given.filter(|seconds| *seconds < 253_402_300_800).map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let time = humantime::format_rfc3339_seconds(given.unwrap_or_else(SystemTime::now)).to_string();
    time.split('T').next().unwrap_or_default().into()
}

fn commit() -> Option<String> {
    // A repository that merely holds a copy of ours has commits of its own.
    if git(&["rev-parse", "--show-prefix"])? != "agent/" {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let reference = git(&["symbolic-ref", "-q", "HEAD"]).unwrap_or_default();
    for name in ["HEAD", "logs/HEAD", "packed-refs", &reference] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|_| !name.is_empty()) {
            watch(&path);
        }
    }
    let mut status = vec!["status", "--porcelain", "--"];
    status.extend(PARTS);
    let changed = git(&status).is_none_or(|changes| !changes.is_empty());
    Some(format!("{commit}{}", if changed { "+" } else { "" }))
}

/// What is not there is not watched: cargo would take it for changed every time.
fn watch(path: &str) {
    if Path::new(path).exists() {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // Where git starts a build itself (hooks) it says so, with a repository that need not be ours.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    let output =
        command.arg("--no-optional-locks").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim_end().to_owned())
}
