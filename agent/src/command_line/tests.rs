use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::table::{COMMANDS, Kind, PROGRAM, Place};
use super::*;

const TOKEN: &str =
    "dg1.a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5.0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";
const REPLAY: [&str; 9] =
    ["replay", "--frames", "f", "--camera", "gate", "--start", "2026-01-02T03:04:05Z", "--fps", "2.5"];

fn within(environment: &[(&str, &str)], words: &[&str]) -> Result<Cli, Stop> {
    let lookup = |name: &str| environment.iter().find(|(found, _)| *found == name).map(|(_, value)| value.into());
    read(words.iter().map(OsString::from).collect(), &lookup)
}

fn cli(words: &[&str]) -> Cli {
    within(&[], words).unwrap_or_else(|stop| panic!("{words:?}: {stop:?}"))
}

fn settings_of(cli: Cli) -> Settings {
    match cli.command {
        Command::Run { settings, .. } | Command::Check(settings) | Command::Enroll { settings, .. } => settings,
        other => panic!("{other:?}"),
    }
}

/// The first paragraph of what is printed on standard error.
fn fault(words: &[&str]) -> String {
    fault_within(&[], words)
}

fn fault_within(environment: &[(&str, &str)], words: &[&str]) -> String {
    match within(environment, words) {
        Err(Stop::Usage(text)) => {
            assert!(text.contains("Usage: driftglass-agent"), "{text}");
            text.split("\n\n").next().unwrap_or_default().to_owned()
        }
        other => panic!("{words:?}: {other:?}"),
    }
}

fn printed(words: &[&str]) -> String {
    match within(&[], words) {
        Err(Stop::Print(text)) => text,
        other => panic!("{words:?}: {other:?}"),
    }
}

#[test]
fn the_table_says_what_it_promises() {
    for command in COMMANDS.iter().chain([&PROGRAM]) {
        let names: Vec<&str> = command.arguments().map(|argument| argument.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.contains(&"log-format") && names.contains(&"help"), "{}", command.name);
        assert!(command.arguments().all(|argument| !(argument.required && argument.default.is_some())));
        assert!(command.arguments().filter(|argument| argument.place != Place::Option).count() <= 1);
    }
}

#[test]
fn every_command_takes_every_word_and_option_of_the_table() {
    for command in COMMANDS.iter().filter(|command| command.name != "help") {
        let mut least = vec![command.name];
        let mut options = Vec::new();
        for argument in command.arguments() {
            let value = match (argument.kind, argument.name) {
                (Kind::Words(words), _) => words[0].0,
                (_, "token") => TOKEN,
                (_, "start") => "2026-01-02T03:04:05Z",
                (_, "fps" | "speed") => "1",
                _ => "some",
            };
            if argument.place != Place::Option {
                least.push(value);
            } else if argument.name != "help" {
                let option = format!("--{}", argument.name);
                let value = if matches!(argument.kind, Kind::Flag) { String::new() } else { format!("={value}") };
                options.push((argument.required, option + &value));
            }
        }
        let all: Vec<&str> = least.iter().copied().chain(options.iter().map(|(_, option)| option.as_str())).collect();
        cli(&all);
        least.extend(options.iter().filter(|(required, _)| *required).map(|(_, option)| option.as_str()));
        cli(&least);
        for argument in command.arguments() {
            let Kind::Words(words) = argument.kind else { continue };
            for (word, _) in words {
                match argument.place {
                    Place::Option => cli(&[&least[..], &[&format!("--{}={word}", argument.name)]].concat()),
                    Place::Positional | Place::Positionals => cli(&[command.name, word]),
                };
            }
        }
    }
}

#[test]
fn a_flag_wins_over_the_environment_which_wins_over_the_default() {
    let environment = [("DRIFTGLASS_CONFIG", "/env"), ("DRIFTGLASS_SITE", "of-env"), ("DRIFTGLASS_LOG_FORMAT", "json")];
    let settings =
        |environment: &[(&str, &str)], words: &[&str]| settings_of(within(environment, words).expect("good"));
    assert_eq!(settings(&[], &["check"]).config, Path::new("/etc/driftglass/agent.toml"));
    assert_eq!(settings(&environment, &["check"]).config, Path::new("/env"));
    assert_eq!(settings(&environment, &["check", "--config", "/flag"]).config, Path::new("/flag"));
    assert_eq!(settings(&environment, &["check"]).overrides.site.as_deref(), Some("of-env"));
    assert_eq!(settings(&environment, &["check", "--site="]).overrides.site.as_deref(), Some(""));
    assert_eq!(settings(&[], &["check"]).overrides.site, None);
    assert_eq!(within(&environment, &["check"]).expect("good").log_format, Some(LogFormat::Json));
    assert_eq!(within(&environment, &["check", "--log-format=text"]).expect("good").log_format, Some(LogFormat::Text));
    assert_eq!(cli(&["check"]).log_format, None);
}

#[test]
fn an_empty_variable_is_a_value() {
    let site = [("DRIFTGLASS_SITE", "")];
    assert_eq!(settings_of(within(&site, &["run"]).expect("good")).overrides.site.as_deref(), Some(""));
    let required = "error: a value is required for '--config <CONFIG>' but none was supplied";
    assert_eq!(fault_within(&[("DRIFTGLASS_CONFIG", "")], &["run"]), required);
    assert_eq!(fault(&["run", "--config="]), required);
    assert!(fault_within(&[("DRIFTGLASS_TOKEN", "")], &["enroll"]).contains("a token has the form"));
}

#[test]
fn the_log_format_may_stand_before_the_command_and_behind_it() {
    assert_eq!(cli(&["--log-format", "json", "check"]).log_format, Some(LogFormat::Json));
    assert_eq!(cli(&["check", "--log-format", "json"]).log_format, Some(LogFormat::Json));
    assert_eq!(cli(&["--log-format=json", "check", "--log-format=text"]).log_format, Some(LogFormat::Text));
    for twice in
        [["--log-format=json", "--log-format=text", "check"], ["check", "--log-format=json", "--log-format=text"]]
    {
        assert_eq!(fault(&twice), "error: the argument '--log-format <LOG_FORMAT>' cannot be used multiple times");
    }
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    assert_eq!(
        fault(&["replay", "--camera", "gate"]),
        "error: the following required arguments were not provided:\n  --frames <FRAMES>\n  --start <START>\n  --fps <FPS>"
    );
    let missing = "error: the following required arguments were not provided:\n  ";
    assert_eq!(fault(&["features"]), format!("{missing}<FILES>..."));
    assert_eq!(fault(&["inspect", "--format=json"]), format!("{missing}<WHAT>"));
    assert_eq!(fault(&["enroll"]), format!("{missing}--token <TOKEN>"));
}

#[test]
fn what_is_unknown_is_refused_and_what_was_meant_is_guessed() {
    let cases: [(&[&str], &str); 15] = [
        (&["run", "--confg", "x"], "unexpected argument '--confg' found; did you mean '--config'?"),
        (&["run", "--conf=x"], "unexpected argument '--conf' found; did you mean '--config'?"),
        (&["run", "--kep"], "unexpected argument '--kep' found"),
        (&["run", "--nonsense"], "unexpected argument '--nonsense' found"),
        (
            &["--site", "x", "run"],
            "unexpected argument '--site' found; it belongs behind a subcommand, as in 'run --site'",
        ),
        (&["--versio"], "unexpected argument '--versio' found; did you mean '--version'?"),
        (&["run", "-V"], "unexpected argument '-V' found"),
        (&["run", "-x"], "unexpected argument '-x' found"),
        (&["run", "extra"], "unexpected argument 'extra' found"),
        (&["inspect", "a", "b"], "unexpected argument 'b' found"),
        (&["chekc"], "unrecognized subcommand 'chekc'; did you mean 'check'?"),
        (&["rn"], "unrecognized subcommand 'rn'; did you mean 'run'?"),
        (&["completions"], "unrecognized subcommand 'completions'; did you mean 'completion'?"),
        (&[""], "unrecognized subcommand ''"),
        (&["help", "ru"], "unrecognized subcommand 'ru'; did you mean 'run'?"),
    ];
    for (words, text) in cases {
        assert_eq!(fault(words), format!("error: {text}"), "{words:?}");
    }
}

#[test]
fn a_fault_names_the_argument_the_value_and_what_is_allowed() {
    let cases: [(&[&str], &str); 9] = [
        (&["features", "x", "--format", "xml"], "'xml' for '--format <FORMAT>': one of table, json, csv is needed"),
        (&["completion", "tcsh"], "'tcsh' for '<SHELL>': one of bash, fish, zsh is needed"),
        (&["replay", "--fps", "0"], "'0' for '--fps <FPS>': a number from 0.001 to 1000 is needed"),
        (&["replay", "--fps", "inf"], "'inf' for '--fps <FPS>': a number from 0.001 to 1000 is needed"),
        (&["replay", "--speed", "x"], "'x' for '--speed <SPEED>': \"max\" or a factor from 0.001 to 1000000 is needed"),
        (&["replay", "--start", "2026"], "'2026' for '--start <START>': timestamp format is invalid"),
        (&["replay", "--start", "1969-12-31T23:59:59Z"], "'1969-12-31T23:59:59Z' for '--start <START>': "),
        (&["replay", "--camera", "A B"], "'A B' for '--camera <CAMERA>': "),
        (&["replay", "--camera", ""], "'' for '--camera <CAMERA>': "),
    ];
    for (words, text) in cases {
        // What else a replay needs.
        let rest = REPLAY[1..].chunks(2).filter(|pair| words[0] == "replay" && pair[0] != words[1]).flatten();
        let all: Vec<&str> = words.iter().chain(rest).copied().collect();
        let fault = fault(&all);
        assert!(fault.starts_with(&format!("error: invalid value {text}")), "{fault}");
    }
    let from = fault_within(&[("DRIFTGLASS_LOG_FORMAT", "xml")], &["check"]);
    assert!(
        from.contains("'xml' for '--log-format <LOG_FORMAT>' (from DRIFTGLASS_LOG_FORMAT): one of text, json"),
        "{from}"
    );
}

#[test]
fn a_forgotten_value_is_not_the_next_option() {
    let none = "error: a value is required for '--config <CONFIG>' but none was supplied";
    assert_eq!(fault(&["run", "--config"]), none);
    assert_eq!(fault(&["run", "--config", "--site", "x"]), none);
    assert_eq!(fault(&["run", "--config", "--", "x"]), none);
    assert_eq!(settings_of(cli(&["run", "--config=-x"])).config, Path::new("-x"), "attached it may be anything");
    assert_eq!(settings_of(cli(&["run", "--config", "-"])).config, Path::new("-"));
    assert_eq!(fault(&["run", "--kept=yes"]), "error: '--kept' takes no value");
    assert_eq!(fault(&["run", "--help=yes"]), "error: '--help' takes no value");
    assert_eq!(
        fault(&["run", "--site=a", "--site=a"]),
        "error: the argument '--site <SITE>' cannot be used multiple times"
    );
}

#[test]
fn behind_two_dashes_nothing_is_an_option() {
    let Command::Features { files, format } =
        cli(&["features", "--format=csv", "a", "--", "--format", "--", "-h"]).command
    else {
        panic!("another command")
    };
    assert_eq!((files, format), (["a", "--format", "--", "-h"].map(PathBuf::from).to_vec(), features::Format::Csv));
    assert_eq!(fault(&["check", "--", "-x"]), "error: unexpected argument '-x' found");
}

#[test]
fn paths_need_not_be_utf_8_and_texts_have_to_be() {
    let raw = |text: &[u8]| OsStr::from_bytes(text).to_owned();
    let read = |words: Vec<OsString>| read(words, &|_| None);
    let cli = read(vec!["features".into(), raw(b"\xff.jpg")]).expect("good");
    assert!(matches!(cli.command, Command::Features { files, .. } if files == [PathBuf::from(raw(b"\xff.jpg"))]));
    let settings = settings_of(read(vec!["check".into(), raw(b"--config=/etc/\xff")]).expect("good"));
    assert_eq!(settings.config, PathBuf::from(raw(b"/etc/\xff")));
    for words in [
        vec!["check".into(), "--site".into(), raw(b"\xff")],
        vec![raw(b"\xff")],
        vec!["check".into(), raw(b"--\xff")],
        vec!["check".into(), raw(b"-\xff")],
        vec!["help".into(), raw(b"\xff")],
    ] {
        assert!(matches!(read(words.clone()), Err(Stop::Usage(text)) if text.contains('\u{fffd}')), "{words:?}");
    }
}

#[test]
fn a_replay_is_what_it_was_said_to_be() {
    let Command::Replay(replay) = cli(&REPLAY).command else { panic!("another command") };
    assert_eq!((replay.start, replay.camera.as_str()), (UnixMillis(1_767_323_045_000), "gate"));
    assert_eq!((replay.fps, replay.speed), (FrameRate::from_millihertz(2_500).expect("a rate"), None));
    assert_eq!((replay.frames, replay.predictions), ("f".into(), None));
    let Command::Replay(replay) = cli(&[&REPLAY[..], &["--speed=2", "--predictions", "p.csv"]].concat()).command else {
        panic!("another command")
    };
    assert_eq!((replay.speed, replay.predictions), (Some(2.0), Some("p.csv".into())));
}

#[test]
fn only_who_asks_for_it_keeps_anything() {
    assert!(matches!(cli(&["run"]).command, Command::Run { kept: false, .. }));
    assert!(matches!(cli(&["run", "--kept"]).command, Command::Run { kept: true, .. }));
    assert_eq!(fault(&["check", "--kept"]), "error: unexpected argument '--kept' found");
}

#[test]
fn a_token_is_never_printed() {
    assert!(
        matches!(cli(&["enroll", "--token", TOKEN]).command, Command::Enroll { token, .. } if token.to_string() == TOKEN)
    );
    let cut = &TOKEN[..60];
    let environment = [("DRIFTGLASS_TOKEN", cut)];
    for words in [
        &["enroll", "--token", cut][..],
        &["enroll", cut],
        &["enroll", "--token", TOKEN, cut],
        &["enroll", "--tokn", cut],
        &["enroll", &format!("--tokn={cut}")],
        &["enroll", "--token", cut, "--token", cut],
        &["enroll", "--token", cut, "--nonsense"],
        &["enroll"],
        &["enroll", "--help"],
    ] {
        let text = match within(&environment, words) {
            Err(Stop::Usage(text) | Stop::Print(text)) => text,
            Err(Stop::Version) => String::new(),
            Ok(_) => panic!("{words:?} is no good"),
        };
        assert!(!text.contains("a5a5"), "{text}");
        assert!(!format!("{text:?}").contains("a5a5"));
    }
    assert_eq!(
        fault(&["enroll", cut]),
        "error: unexpected argument found; is it the value of '--token <TOKEN>'?",
        "its option was forgotten"
    );
}

#[test]
fn help_is_asked_for_in_three_ways_and_given_to_who_says_nothing() {
    let text = printed(&["replay", "--help"]);
    assert!(
        text.starts_with("Send recorded frames")
            && text.contains("\nUsage: driftglass-agent replay [OPTIONS] --frames")
    );
    assert_eq!(printed(&["help", "replay"]), text);
    assert_eq!(printed(&["replay", "--fps=0", "-h"]), printed(&["replay", "-h"]), "before anything is checked");
    assert_eq!(printed(&["--help"]), printed(&["help"]));
    assert_eq!(printed(&["--log-format", "json", "-h", "--nonsense"]), printed(&["-h"]));
    assert!(printed(&["help", "help"]).contains("driftglass-agent help [OPTIONS] [COMMAND]"));
    assert!(matches!(within(&[], &[]), Err(Stop::Usage(text)) if format!("{text}\n") == printed(&["-h"])));
}

#[test]
fn the_version_may_be_asked_for() {
    for words in [["--version"], ["-V"]] {
        assert!(matches!(within(&[], &words), Err(Stop::Version)));
    }
}
