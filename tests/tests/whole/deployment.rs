//! What is shipped beside the programs: units and example configurations.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::process::{program, run, said};
use crate::support::repository;

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

#[test]
fn the_shipped_units_are_valid() {
    let root = tempfile::tempdir().expect("folder");
    let units = files(&repository().join("deploy/systemd"), "service");
    assert!(units.len() >= 2, "{units:?}");
    for unit in units {
        let text = fs::read_to_string(&unit).expect("read");
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("ExecStart");
        let installed = start.split_whitespace().next().expect("a program");
        let name = Path::new(installed).file_name().and_then(|name| name.to_str()).expect("a name");
        let subcommand = start.split_whitespace().nth(1).expect("a subcommand");
        let help = run(name, &[subcommand, "--help"]);
        assert!(help.status.success(), "{start}: {}", said(&help));
        // The program is looked for, and it is not installed here.
        let built = program(name);
        let copy = root.path().join(unit.file_name().expect("a name"));
        fs::write(&copy, text.replace(installed, built.to_str().expect("UTF-8"))).expect("written");
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(&copy)
            .output()
            .expect("systemd-analyze (package systemd) can be started");
        assert!(output.status.success() && said(&output).is_empty(), "{}:\n{}", unit.display(), said(&output));
    }
}

#[test]
fn the_example_configurations_are_accepted() {
    let configs = files(&repository().join("deploy/config"), "toml");
    let names: Vec<&str> = configs.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
    assert_eq!(names, ["agent", "aggregator"]);
    for (path, name) in configs.iter().zip(names) {
        let output = run(&format!("driftglass-{name}"), &["check", "--config", path.to_str().expect("UTF-8")]);
        assert!(output.status.success(), "{}", said(&output));
    }
    // Settings that are shown commented out have to exist as well.
    let root = tempfile::tempdir().expect("folder");
    for (path, name) in configs.iter().zip(["agent", "aggregator"]) {
        let text = fs::read_to_string(path).expect("read");
        let shown: Vec<String> = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => {
                    rest.to_owned()
                }
                _ => line.to_owned(),
            })
            .collect();
        let open = root.path().join(format!("{name}.toml"));
        fs::write(&open, shown.join("\n")).expect("written");
        let output = run(&format!("driftglass-{name}"), &["check", "--config", open.to_str().expect("UTF-8")]);
        assert!(output.status.success(), "{}", said(&output));
    }
}
