//! `baseline`: what counts as normal for a camera, version by version.

use clap::{Args, Subcommand};
use driftglass_protocol::id::CameraId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Client, ListFormat, ServerArguments};
use crate::exit::{Failure, Outcome};
use crate::fleet::say;

/// What to do with a camera's baseline.
#[derive(Debug, Subcommand)]
pub(crate) enum BaselineCommand {
    /// List its versions: when each was learned, how it came to be, by whom, and which is in force; and what operators did.
    List(ListArguments),
    /// Accept as normal what the camera shows: it forgets its evidence, its alert is over, and it learns anew.
    Promote(PromoteArguments),
    /// End its learning time now: the baseline is taken from what it has shown so far.
    Freeze(MoveArguments),
    /// Put an earlier version in force again; its evidence begins anew.
    Rollback(RollbackArguments),
}

/// Whose, and how to print it.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    format: ListFormat,
    /// The camera: SITE/DEVICE/CAMERA.
    camera: CameraId,
}

/// Whose, and why.
#[derive(Debug, Args)]
pub(crate) struct MoveArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The camera: SITE/DEVICE/CAMERA.
    camera: CameraId,
    /// Why, for whoever reads about it later.
    #[arg(long, default_value = "")]
    note: String,
}

/// Since when.
#[derive(Debug, Args)]
pub(crate) struct PromoteArguments {
    #[command(flatten)]
    of: MoveArguments,
    /// Since when it shows what is normal, for instance 2026-01-31T12:00:00Z; without it since its open alert began, or from now on.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
}

/// To which version.
#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    #[command(flatten)]
    of: MoveArguments,
    /// The version; without it the one before.
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
}

fn time(text: &str) -> Result<String, String> {
    humantime::parse_rfc3339(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A camera's baseline, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Baselines {
    camera: String,
    in_force: Option<u32>,
    learning: Option<Learning>,
    versions: Vec<Version>,
    moves: Vec<Move>,
}

#[derive(Debug, Deserialize)]
struct Learning {
    since: Option<String>,
    windows: u32,
    windows_missing: u32,
    remaining_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Version {
    version: u32,
    learned_at: Option<String>,
    in_force: bool,
    origin: String,
    author: String,
    note: String,
}

#[derive(Debug, Deserialize)]
struct Move {
    at: Option<String>,
    r#move: String,
    version: Option<u32>,
    since: Option<String>,
    author: String,
    note: String,
}

fn shown(text: Option<&String>) -> &str {
    text.map_or("-", String::as_str)
}

/// `: what was said`, where anything was.
fn said(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!(": {note}") }
}

impl Baselines {
    /// Where the camera stands now.
    fn standing(&self) -> String {
        if let Some(version) = self.in_force {
            return format!("version {version} is in force");
        }
        let Some(Learning { since, windows, windows_missing, remaining_seconds }) = &self.learning else {
            return "it has no baseline".to_owned();
        };
        let so_far = format!("it learns since {}: {windows} windows so far", shown(since.as_ref()));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a stretch of time, rounded up")]
        let seconds = remaining_seconds.max(0.0).ceil() as u64;
        if seconds == 0 && *windows_missing == 0 {
            return format!("{so_far}, which is enough; its next window completes the new version");
        }
        let remaining = humantime::format_duration(std::time::Duration::from_secs(seconds));
        format!("{so_far}, {remaining} and {windows_missing} windows to come; it is not judged until then")
    }

    fn lines(&self) -> String {
        let mut lines = vec![format!("camera {}: {}", self.camera, self.standing())];
        if !self.versions.is_empty() {
            lines.extend([String::new(), "VERSION LEARNED                  IN FORCE HOW       BY".to_owned()]);
        }
        lines.extend(self.versions.iter().map(|Version { version, learned_at, in_force, origin, author, note }| {
            let (learned, in_force) = (shown(learned_at.as_ref()), if *in_force { "yes" } else { "" });
            format!("{version:>7} {learned:<24} {in_force:<8} {origin:<9} {author}{}", said(note))
        }));
        if !self.moves.is_empty() {
            lines.push(String::new());
        }
        lines.extend(self.moves.iter().map(|Move { at, r#move, version, since, author, note }| {
            let what = match (version, since) {
                (Some(version), _) => format!("{move} (version {version} in force)"),
                (None, Some(since)) => format!("{move} (what it shows since {since})"),
                (None, None) => r#move.clone(),
            };
            format!("{:<24} {what} by {author}{}", shown(at.as_ref()), said(note))
        }));
        lines.join("\n")
    }
}

/// Lists or changes the baseline of a camera.
///
/// # Errors
/// Where the aggregator does not answer, or refuses.
pub(crate) fn baseline(command: &BaselineCommand) -> Result<Outcome, Failure> {
    match command {
        BaselineCommand::List(ListArguments { server, format, camera }) => {
            let value: Value = Client::new(server)?.get(&path(camera))?;
            match format {
                ListFormat::Json => say(&value.to_string()),
                ListFormat::Table => say(&serde_json::from_value::<Baselines>(value).map_err(Failure::job)?.lines()),
            }
        }
        BaselineCommand::Promote(PromoteArguments { of, since }) => {
            change(of, "promote", &json!({ "since": since, "note": of.note }))
        }
        BaselineCommand::Freeze(of) => change(of, "freeze", &json!({ "note": of.note })),
        BaselineCommand::Rollback(RollbackArguments { of, to }) => {
            change(of, "rollback", &json!({ "to": to, "note": of.note }))
        }
    }
}

fn path(camera: &CameraId) -> String {
    format!("baselines/{}", camera.to_string().replace('/', "%2F"))
}

fn change(of: &MoveArguments, verb: &str, body: &Value) -> Result<Outcome, Failure> {
    let changed: Baselines = Client::new(&of.server)?.post(&format!("{}/{verb}", path(&of.camera)), body)?;
    say(&format!("camera {}: {}", changed.camera, changed.standing()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn lines(in_force: &str, learning: &str) -> String {
        let text = format!(
            r#"{{"camera":"s/d/c","in_force":{in_force},"learning":{learning},
                "versions":[{{"version":1,"learned_at":"2026-01-01T00:00:00.000Z","in_force":{},"origin":"learned",
                              "author":"driftglass","note":""}},
                            {{"version":2,"learned_at":null,"in_force":false,"origin":"promoted","author":"jo","note":"new shelf"}}],
                "moves":[{{"at":"2026-01-03T00:00:00.000Z","move":"rollback","version":1,"since":null,"author":"jo","note":""}},
                         {{"at":null,"move":"promote","version":null,"since":"2026-01-02T00:00:00.000Z","author":"jo","note":"new shelf"}}]}}"#,
            in_force == "1"
        );
        serde_json::from_str::<Baselines>(&text).expect("reads").lines()
    }

    #[test]
    fn the_version_in_force_is_marked_and_every_move_has_its_author() {
        let lines = lines("1", "null");
        assert!(lines.starts_with("camera s/d/c: version 1 is in force\n"), "{lines}");
        assert!(lines.contains("      1 2026-01-01T00:00:00.000Z yes      learned   driftglass\n"), "{lines}");
        assert!(lines.contains("      2 -                                 promoted  jo: new shelf\n"), "{lines}");
        assert!(lines.contains("rollback (version 1 in force) by jo\n"), "{lines}");
        assert!(lines.ends_with("promote (what it shows since 2026-01-02T00:00:00.000Z) by jo: new shelf"), "{lines}");
    }

    #[test]
    fn a_camera_that_learns_anew_says_how_long_it_still_does_or_that_it_has_seen_enough() {
        let learning = |windows, missing, seconds: f64| {
            format!(
                r#"{{"since":"2026-01-02T00:00:00.000Z","windows":{windows},"windows_missing":{missing},"remaining_seconds":{seconds}}}"#
            )
        };
        let young = lines("null", &learning(3, 27, 5400.0));
        assert!(
            young.contains("3 windows so far, 1h 30m and 27 windows to come; it is not judged until then"),
            "{young}"
        );
        let enough = lines("null", &learning(90, 0, 0.0));
        assert!(enough.contains("90 windows so far, which is enough; its next window completes"), "{enough}");
    }

    #[test]
    fn a_time_that_is_none_is_refused_before_anything_is_sent() {
        #[derive(Debug, Parser)]
        struct Tool {
            #[command(subcommand)]
            command: BaselineCommand,
        }
        let parse = |words: &[&str]| Tool::try_parse_from([&["tool"], words].concat());
        assert!(parse(&["promote", "s/d/c", "--since", "2026-01-31T12:00:00Z"]).is_ok());
        assert!(parse(&["promote", "s/d/c", "--since", "yesterday"]).is_err());
        assert!(parse(&["rollback", "s/d/c", "--to", "-1"]).is_err());
        assert!(parse(&["freeze", "s/d"]).is_err());
        assert!(parse(&["import", "s/d/c"]).is_err());
    }
}
