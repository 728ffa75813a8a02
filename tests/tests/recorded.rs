//! Where recorded frames lie, and when each was taken: what all tests on real footage begin with.

use std::path::{Path, PathBuf};

use driftglass_protocol::unit::UnixMillis;

/// The folder named by `DRIFTGLASS_FOOTAGE`; a relative path starts at the project's root.
#[expect(clippy::disallowed_methods, reason = "the variable is how other footage is judged by the same tests")]
pub(crate) fn root() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies inside the project");
    project.join(std::env::var("DRIFTGLASS_FOOTAGE").unwrap_or_else(|_| "../shared/footage".to_owned()))
}

/// When each of the `frames` of a folder was taken, by its `timestamps.csv`; `None` where there is none.
pub(crate) fn times(folder: &Path, frames: usize) -> Option<Vec<UnixMillis>> {
    let text = std::fs::read_to_string(folder.join("timestamps.csv")).ok()?;
    let time = |line: &str| {
        let time = line.split(',').nth(1).and_then(|time| humantime::parse_rfc3339(time.trim()).ok());
        let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let millis = since.and_then(|since| i64::try_from(since.as_millis()).ok());
        UnixMillis(millis.unwrap_or_else(|| panic!("{}: {line}", folder.display())))
    };
    let times: Vec<UnixMillis> = text.lines().skip(1).map(time).collect();
    assert_eq!(times.len(), frames, "{}", folder.display());
    Some(times)
}
