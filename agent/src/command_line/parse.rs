//! From the words of a command line to the values of the table's arguments.
//!
//! Must hold: an option is given at most once, but for one that every command takes: that may stand before the command and again
//! behind it, where it counts. Flags win over the environment, which wins over defaults; an empty variable is a value. No fault ever
//! shows the value of a secret.

use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

use super::help::{help, usage};
use super::table::{Argument, COMMANDS, Command, Kind, PROGRAM, Place, command};
use super::{Environment, Stop};

/// The command, and what was said of its arguments.
pub(super) struct Given<'a> {
    pub(super) command: &'static Command,
    said: Vec<(&'static Argument, OsString)>,
    /// How much of that was said before the command.
    before: usize,
    environment: Environment<'a>,
}

/// One argument's value.
pub(super) struct Value {
    argument: &'static Argument,
    pub(super) text: OsString,
    /// Where it is from, if not from the command line.
    variable: Option<&'static str>,
}

impl Value {
    /// Says that it is not good, and why.
    pub(super) fn fault(&self, why: &str) -> String {
        let label = self.argument.label();
        let from = self.variable.map(|name| format!(" (from {name})")).unwrap_or_default();
        if self.argument.secret {
            format!("invalid value for '{label}'{from}: {why}")
        } else {
            format!("invalid value '{}' for '{label}'{from}: {why}", self.text.display())
        }
    }

    fn check(&self) -> Result<(), String> {
        match self.argument.kind {
            Kind::File | Kind::Words(_) if self.text.is_empty() => Err(no_value(self.argument)),
            Kind::Words(words) if !words.iter().any(|(word, _)| self.text == *word) => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(self.fault(&format!("one of {} is needed", words.join(", "))))
            }
            _ => Ok(()),
        }
    }
}

impl Given<'_> {
    /// The value of an argument, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let argument = self.command.arguments().find(|argument| argument.name == name)?;
        if let Some((_, text)) = self.said.iter().rev().find(|(found, _)| found.name == name) {
            return Some(Value { argument, text: text.clone(), variable: None });
        }
        if let Some((variable, text)) = argument.environment.and_then(|name| Some((name, (self.environment)(name)?))) {
            return Some(Value { argument, text, variable: Some(variable) });
        }
        argument.default.map(|text| Value { argument, text: text.into(), variable: None })
    }

    /// The value of an argument that has to have one.
    pub(super) fn need(&self, name: &str) -> Result<Value, String> {
        self.get(name).ok_or_else(|| format!("nothing says what '{name}' is"))
    }

    /// Every value of the positional argument that may be given several times.
    pub(super) fn all(&self, name: &str) -> Vec<OsString> {
        self.said.iter().filter(|(found, _)| found.name == name).map(|(_, text)| text.clone()).collect()
    }

    /// A word that is no option: the command, or a positional argument of it.
    fn take_word(&mut self, word: OsString) -> Result<(), String> {
        if self.command.name == PROGRAM.name {
            self.command = word.to_str().and_then(command).ok_or_else(|| no_command(&word))?;
            self.before = self.said.len();
            return Ok(());
        }
        let free = |argument: &&Argument| argument.place == Place::Positionals || self.all(argument.name).is_empty();
        if let Some(argument) = self.command.positional().filter(free) {
            self.said.push((argument, word));
            return Ok(());
        }
        Err(match self.command.arguments().find(|argument| argument.secret) {
            Some(secret) => format!("unexpected argument found; is it the value of '{}'?", secret.label()),
            None => format!("unexpected argument '{}' found", word.display()),
        })
    }

    /// An option of the command, and what follows it.
    fn take_option(&mut self, written: &str, parser: &mut Parser) -> Result<(), String> {
        let (long, short) = match written.strip_prefix("--") {
            Some(name) => (Some(name), None),
            None => (None, written.chars().nth(1)),
        };
        let named = |argument: &&Argument| long == Some(argument.name) || short.is_some() && short == argument.short;
        let argument = self.command.options().find(named).ok_or_else(|| no_option(self.command, written))?;
        if self.said.iter().skip(self.before).any(|(earlier, _)| earlier.name == argument.name) {
            return Err(format!("the argument '{}' cannot be used multiple times", argument.label()));
        }
        let value = match argument.kind {
            Kind::Flag if long.is_some() && parser.optional_value().is_some() => {
                return Err(format!("'{}' takes no value", argument.label()));
            }
            Kind::Flag => OsString::new(),
            _ => value(parser).ok_or_else(|| no_value(argument))?,
        };
        self.said.push((argument, value));
        Ok(())
    }

    /// What is printed instead of anything being done.
    fn answer(&self, long: bool) -> Option<Stop> {
        match self.said.last()?.0.name {
            "help" => Some(Stop::Print(help(self.command, long, self.environment))),
            "version" => Some(Stop::Version),
            _ => None,
        }
    }

    /// Nothing that is needed is missing, and every value is of its kind.
    fn complete(&self) -> Result<(), String> {
        let mut missing = String::new();
        for argument in self.command.arguments() {
            match self.get(argument.name) {
                Some(value) => value.check()?,
                None if argument.required => {
                    missing += "\n  ";
                    missing += &argument.label();
                }
                None => {}
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("the following required arguments were not provided:{missing}"))
        }
    }
}

/// Why nothing was done, and what would have been right.
pub(super) fn refuse(command: &Command, fault: &str) -> Stop {
    Stop::Usage(format!("error: {fault}\n\nUsage: {}\n\nFor more information, try '--help'.", usage(command)))
}

/// Reads a command line; the program's own name is not part of it.
pub(super) fn parse(words: Vec<OsString>, environment: Environment<'_>) -> Result<Given<'_>, Stop> {
    let mut parser = Parser::from_args(words);
    let mut given = Given { command: &PROGRAM, said: Vec::new(), before: 0, environment };
    loop {
        let written = match parser.next() {
            Ok(Some(Arg::Value(word))) => {
                given.take_word(word).map_err(|fault| refuse(given.command, &fault))?;
                continue;
            }
            Ok(Some(Arg::Long(name))) => format!("--{name}"),
            Ok(Some(Arg::Short(letter))) => format!("-{letter}"),
            Ok(None) => break,
            Err(error) => return Err(refuse(given.command, &error.to_string())),
        };
        given.take_option(&written, &mut parser).map_err(|fault| refuse(given.command, &fault))?;
        // What was asked for is answered, whatever else is wrong behind it.
        if let Some(answer) = given.answer(written.starts_with("--")) {
            return Err(answer);
        }
    }
    if given.command.name == PROGRAM.name {
        return Err(Stop::Usage(help(&PROGRAM, false, environment).trim_end().into()));
    }
    if given.command.name == "help" {
        let Some(name) = given.get("command") else { return Err(Stop::Print(help(&PROGRAM, true, environment))) };
        return Err(match name.text.to_str().and_then(command) {
            Some(about) => Stop::Print(help(about, true, environment)),
            None => refuse(&PROGRAM, &no_command(&name.text)),
        });
    }
    given.complete().map_err(|fault| refuse(given.command, &fault))?;
    Ok(given)
}

/// What follows an option, attached or not. A word that looks like an option is one, and no value that was forgotten.
fn value(parser: &mut Parser) -> Option<OsString> {
    if let Some(attached) = parser.optional_value() {
        return Some(attached);
    }
    let is_value = |word: &OsStr| word == "-" || !word.as_encoded_bytes().starts_with(b"-");
    parser.try_raw_args()?.next_if(is_value)
}

fn no_value(argument: &Argument) -> String {
    format!("a value is required for '{}' but none was supplied", argument.label())
}

fn no_command(word: &OsStr) -> String {
    let names = COMMANDS.iter().map(|command| command.name);
    let tip = similar(&word.to_string_lossy(), names).map(|name| format!("; did you mean '{name}'?"));
    format!("unrecognized subcommand '{}'{}", word.display(), tip.unwrap_or_default())
}

fn no_option(at: &Command, written: &str) -> String {
    let tip = written.strip_prefix("--").and_then(|name| {
        let near = similar(name, at.shown_options().map(|argument| argument.name));
        let takes = |command: &&Command| command.shown_options().any(|option| option.name == name);
        let elsewhere = COMMANDS.iter().find(takes).filter(|_| at.name == PROGRAM.name);
        match (near, elsewhere) {
            (Some(name), _) => Some(format!("; did you mean '--{name}'?")),
            (None, Some(command)) => {
                Some(format!("; it belongs behind a subcommand, as in '{} --{name}'", command.name))
            }
            (None, None) => None,
        }
    });
    format!("unexpected argument '{written}' found{}", tip.unwrap_or_default())
}

/// The name that was probably meant: one that begins so, or else the one with the fewest letters changed.
fn similar(word: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let allowed = word.len().div_ceil(3).min(3);
    let distances = names
        .map(|name| if word.len() > 1 && name.starts_with(word) { (0, name) } else { (distance(word, name), name) });
    distances.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Letters to insert, delete or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, byte) in one.bytes().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, against) in row.iter_mut().skip(1).zip(other.bytes()) {
            let here = (diagonal + usize::from(byte != against)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(one.len())
}
