//! Notes when the agent was built: no device runs it before that, whatever its clock says.
#![expect(clippy::disallowed_methods, reason = "a build script is told by its environment")]

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // Reproducible builds hand the time in (https://reproducible-builds.org/specs/source-date-epoch/).
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    println!("cargo::rustc-env=DRIFTGLASS_BUILD_SECONDS={}", given.unwrap_or_else(clock));
}
