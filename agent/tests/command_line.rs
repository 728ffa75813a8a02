//! The program as its user meets it: what it prints where, and its exit codes. What it makes of its arguments is tested beside the code.
#![expect(clippy::expect_used, reason = "helpers of tests; a panic is the failure")]

use std::process::{Command, Output};

fn agent(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftglass-agent"));
    command.env_remove("DRIFTGLASS_CONFIG").env("DRIFTGLASS_SITE", "of-the-environment");
    let Output { status, stdout, stderr } = command.args(arguments).output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn what_is_asked_for_goes_to_standard_output() {
    for (arguments, beginning) in [
        (&["--help"][..], "Turns camera frames into feature sketches"),
        (&["run", "-h"], "Run the service\n"),
        (&["help", "check"], "Validate the configuration"),
        (&["--version"], "driftglass-agent 0."),
        (&["completion", "bash"], "# Completion for bash."),
    ] {
        let (code, out, error) = agent(arguments);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(out.starts_with(beginning) && out.ends_with('\n') && !out.ends_with("\n\n"), "{out}");
    }
    assert!(agent(&["run", "-h"]).1.contains("[env: DRIFTGLASS_SITE=of-the-environment]"));
}

#[test]
fn bad_usage_is_explained_on_standard_error() {
    for (arguments, beginning) in [
        (&[][..], "Turns camera frames into feature sketches"),
        (&["chekc"], "error: unrecognized subcommand 'chekc'; did you mean 'check'?\n\nUsage: driftglass-agent "),
        (&["replay"], "error: the following required arguments were not provided:\n  --frames <FRAMES>\n"),
        (&["check", "--config", "/nowhere/agent.toml"], "/nowhere/agent.toml: No such file"),
    ] {
        let (code, out, error) = agent(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(error.starts_with(beginning) && error.ends_with('\n') && !error.ends_with("\n\n"), "{error}");
    }
}

#[test]
fn the_version_says_what_it_was_built_from_when_and_for_what() {
    let text = agent(&["--version"]).1;
    assert_eq!(agent(&["-V"]).1, text);
    let rest =
        text.strip_prefix(concat!("driftglass-agent ", env!("CARGO_PKG_VERSION"), " (")).expect("name and release");
    let parts: Vec<&str> = rest.strip_suffix(")\n").expect("closed").split(", ").collect();
    let [commit, built, target] = parts[..] else { panic!("{text}") };
    let known = commit.trim_end_matches('+');
    assert!(
        commit == "unknown commit" || known.len() >= 12 && known.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{text}"
    );
    let day = built.strip_prefix("built ").expect("a day");
    assert!(humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).is_ok(), "{text}");
    assert!(target.contains("linux"), "{text}");
}
