//! Help and usage lines, written from the table.
//!
//! Lines are as wide as a terminal usually is; how wide this one is, is not asked.

use super::Environment;
use super::table::{Argument, COMMANDS, Command, Kind, PROGRAM, Place};

/// Columns a line may have.
const WIDTH: usize = 100;

/// How a command is written: `driftglass-agent replay [OPTIONS] --frames <FRAMES> ...`.
pub(super) fn usage(command: &Command) -> String {
    let mut line = String::from(PROGRAM.name);
    if command.name == PROGRAM.name {
        line += " [OPTIONS] <COMMAND>";
        return line;
    }
    line += " ";
    line += command.name;
    line += " [OPTIONS]";
    let positional = command.positional();
    for argument in command.options().filter(|argument| argument.required).chain(positional) {
        line += " ";
        line += &argument.label();
    }
    line
}

/// Everything about a command; `-h` leaves out what few want to know.
pub(super) fn help(command: &Command, long: bool, environment: Environment<'_>) -> String {
    let mut text = format!("{}\n", command.summary);
    if long && !command.more.is_empty() {
        text += "\n";
        wrap(&mut text, command.more, 0);
    }
    text += "\nUsage: ";
    text += &usage(command);
    text += "\n";
    if command.name == PROGRAM.name {
        let rows: Vec<Row> = COMMANDS.iter().map(|command| Row::new(command.name.into(), command.summary)).collect();
        section(&mut text, "Commands", &rows);
    }
    let row = |argument: &'static Argument| row(argument, long, environment);
    let positional: Vec<Row> = command.positional().into_iter().map(row).collect();
    section(&mut text, "Arguments", &positional);
    let options: Vec<Row> = command.shown_options().map(row).collect();
    section(&mut text, "Options", &options);
    text
}

struct Row {
    left: String,
    right: String,
    /// Lines of their own below.
    below: Vec<String>,
}

impl Row {
    fn new(left: String, right: &str) -> Self {
        Self { left, right: right.into(), below: Vec::new() }
    }
}

fn row(argument: &Argument, long: bool, environment: Environment<'_>) -> Row {
    let left = match (argument.place, argument.short) {
        (Place::Option, Some(letter)) => format!("-{letter}, {}", argument.label()),
        (Place::Option, None) => format!("    {}", argument.label()),
        _ => argument.label(),
    };
    let mut row = Row::new(left, argument.help);
    if let Some(name) = argument.environment {
        row.right += &if argument.secret {
            format!(" [env: {name}]")
        } else {
            format!(" [env: {name}={}]", environment(name).unwrap_or_default().display())
        };
    }
    if let Some(default) = argument.default {
        row.right += &format!(" [default: {default}]");
    }
    if let Kind::Words(words) = argument.kind {
        if long && words.iter().all(|(_, meaning)| !meaning.is_empty()) {
            row.below = words.iter().map(|(word, meaning)| format!("- {word}: {meaning}")).collect();
        } else {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            row.right += &format!(" [possible values: {}]", words.join(", "));
        }
    }
    row
}

fn section(text: &mut String, title: &str, rows: &[Row]) {
    let Some(widest) = rows.iter().map(|row| row.left.len()).max() else { return };
    *text += "\n";
    *text += title;
    *text += ":\n";
    for row in rows {
        *text += &format!("  {:widest$}  ", row.left);
        wrap(text, &row.right, widest + 4);
        for line in &row.below {
            *text += &" ".repeat(widest + 4);
            *text += line;
            *text += "\n";
        }
    }
}

/// Adds words, and breaks lines between them; the first line is taken to be indented already.
fn wrap(text: &mut String, words: &str, indent: usize) {
    let mut column = indent;
    for (index, word) in words.split_whitespace().enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > WIDTH {
            *text += "\n";
            *text += &" ".repeat(indent);
            column = indent;
        } else if index > 0 {
            *text += " ";
            column += 1;
        }
        *text += word;
        column += length;
    }
    *text += "\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<std::ffi::OsString> {
        None
    }

    #[test]
    fn every_command_explains_every_option_it_shows_within_the_width() {
        for command in COMMANDS.iter().chain([&PROGRAM]) {
            for long in [false, true] {
                let text = help(command, long, &nothing);
                assert!(text.starts_with(command.summary) && text.contains(&usage(command)), "{text}");
                for argument in command.arguments() {
                    let explained = text.contains(&argument.label());
                    assert_eq!(explained, !argument.hidden, "{}: {}", command.name, argument.name);
                    assert!(argument.hidden || !argument.help.is_empty(), "{}", argument.name);
                }
                let options = text.lines().filter(|line| !line.starts_with("Usage: "));
                assert!(options.clone().all(|line| line.len() <= WIDTH && line.trim_end() == line), "{text}");
            }
        }
    }

    #[test]
    fn the_program_lists_its_commands() {
        let text = help(&PROGRAM, false, &nothing);
        assert!(
            text.contains(
                "\nUsage: driftglass-agent [OPTIONS] <COMMAND>\n\nCommands:\n  run         Run the service\n"
            )
        );
        assert!(COMMANDS.iter().all(|command| text.contains(&format!("\n  {:10}  {}", command.name, command.summary))));
    }

    #[test]
    fn an_option_is_explained_with_its_variable_default_and_values() {
        let replay = super::super::table::command("replay").expect("there");
        assert!(help(replay, false, &nothing).contains(
            "      --config <CONFIG>            The configuration file [env: DRIFTGLASS_CONFIG=] [default:\n"
        ));
        let features = super::super::table::command("features").expect("there");
        let text = help(features, false, &nothing);
        assert!(text.contains("\nArguments:\n  <FILES>...  The pictures (JPEG or PNG)\n"), "{text}");
        assert!(text.contains("How values are shown [default: table] [possible values: table,\n"), "{text}");
        assert!(help(features, true, &nothing).contains("  - csv: RFC 4180, one line a file\n"));
    }

    #[test]
    fn what_the_environment_says_is_shown_but_for_the_token() {
        let environment = |name: &str| Some(format!("value-of-{name}").into());
        let text = help(super::super::table::command("enroll").expect("there"), true, &environment);
        assert!(text.contains("[env: DRIFTGLASS_SITE=value-of-DRIFTGLASS_SITE]"), "{text}");
        assert!(text.contains("DRIFTGLASS_TOKEN]") && !text.contains("value-of-DRIFTGLASS_TOKEN"), "{text}");
        assert!(text.contains("\nThe key is made here and stays here."), "{text}");
    }
}
