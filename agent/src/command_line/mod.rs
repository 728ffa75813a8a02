//! The command line, from words to checked values.
//!
//! One table (`table`) says what commands and arguments there are; `parse` reads words by it, `help` and `completion` print it, and
//! [`Cli`] is what is left after every value was checked. A parser that does all this for any program is several times as large as this
//! program's share of it, and the agent is a guest on a small device.
//!
//! Must hold: a value is checked here, once, and is of its type from then on; a fault names the argument, the value and what is
//! allowed; every required argument that is missing is named at once; a token is never printed. Nothing here asks for the
//! environment: it is handed in.
//!
//! Deliberately absent: abbreviated options, short ones beyond `-h` and `-V`, values that begin with a dash without `=`.

mod completion;
mod help;
mod parse;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use crate::config::{LogFormat, Overrides, frame_rate};
use crate::host::{features, inspect};
use crate::window::FrameRate;
use driftglass_protocol::id::Name;
use driftglass_protocol::identity::Token;
use driftglass_protocol::unit::UnixMillis;

pub(crate) use completion::Shell;
use parse::{Given, Value};

/// The name of the program.
pub(crate) const PROGRAM: &str = table::PROGRAM.name;

/// What a variable says.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A checked command line.
#[derive(Debug)]
pub(crate) struct Cli {
    /// Wins over the configuration.
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    Run {
        settings: Settings,
        /// Started by the process of the inference proxies.
        kept: bool,
    },
    Check(Settings),
    Enroll {
        token: Token,
        settings: Settings,
    },
    Features {
        files: Vec<PathBuf>,
        format: features::Format,
    },
    Replay(Replay),
    Inspect {
        what: PathBuf,
        format: inspect::Format,
        settings: Settings,
    },
    Completion(Shell),
}

/// Where the configuration is, and what wins over it.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: PathBuf,
    pub(crate) overrides: Overrides,
}

/// What is sent again, and as what.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) frames: PathBuf,
    pub(crate) camera: Name,
    pub(crate) start: UnixMillis,
    pub(crate) fps: FrameRate,
    /// How many times real time; none is as fast as it goes.
    pub(crate) speed: Option<f64>,
    pub(crate) predictions: Option<PathBuf>,
    pub(crate) settings: Settings,
}

/// Why there is nothing to do.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This was asked for.
    Print(String),
    /// What was asked for is which program this is.
    Version,
    /// This is wrong.
    Usage(String),
}

/// Reads and checks a command line; the program's own name is not part of it.
pub(crate) fn read(words: Vec<OsString>, environment: Environment<'_>) -> Result<Cli, Stop> {
    let given = parse::parse(words, environment)?;
    checked(&given).map_err(|fault| parse::refuse(given.command, &fault))
}

/// Asks for every argument by its name in the table.
fn checked(given: &Given<'_>) -> Result<Cli, String> {
    let log_format = match given.get("log-format") {
        Some(format) => Some(word(&format, &[("text", LogFormat::Text), ("json", LogFormat::Json)])?),
        None => None,
    };
    let command = match given.command.name {
        "run" => Command::Run { settings: settings(given)?, kept: given.get("kept").is_some() },
        "check" => Command::Check(settings(given)?),
        "enroll" => Command::Enroll { token: parsed(&given.need("token")?, str::parse)?, settings: settings(given)? },
        "features" => {
            let formats =
                [("table", features::Format::Table), ("json", features::Format::Json), ("csv", features::Format::Csv)];
            Command::Features {
                files: given.all("files").into_iter().map(PathBuf::from).collect(),
                format: word(&given.need("format")?, &formats)?,
            }
        }
        "replay" => Command::Replay(Replay {
            frames: given.need("frames")?.text.into(),
            camera: parsed(&given.need("camera")?, str::parse)?,
            start: parsed(&given.need("start")?, rfc3339)?,
            fps: parsed(&given.need("fps")?, fps)?,
            speed: parsed(&given.need("speed")?, speed)?,
            predictions: given.get("predictions").map(|path| path.text.into()),
            settings: settings(given)?,
        }),
        "inspect" => Command::Inspect {
            what: given.need("what")?.text.into(),
            format: word(&given.need("format")?, &[("text", inspect::Format::Text), ("json", inspect::Format::Json)])?,
            settings: settings(given)?,
        },
        "completion" => {
            let shells = [("bash", Shell::Bash), ("fish", Shell::Fish), ("zsh", Shell::Zsh)];
            Command::Completion(word(&given.need("shell")?, &shells)?)
        }
        other => return Err(format!("'{other}' does nothing")),
    };
    Ok(Cli { log_format, command })
}

fn settings(given: &Given<'_>) -> Result<Settings, String> {
    let text = |name: &str| match given.get(name) {
        Some(value) => parsed(&value, |text| Ok::<_, String>(Some(text.to_owned()))),
        None => Ok(None),
    };
    Ok(Settings {
        config: given.need("config")?.text.into(),
        overrides: Overrides {
            site: text("site")?,
            device: text("device")?,
            state_dir: text("state-dir")?,
            aggregator: text("aggregator")?,
            telemetry: text("telemetry")?,
            log_level: text("log-level")?,
        },
    })
}

fn parsed<T, E: ToString>(value: &Value, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, String> {
    let text = value.text.to_str().ok_or_else(|| value.fault("it is not UTF-8"))?;
    parse(text).map_err(|error| value.fault(&error.to_string()))
}

/// What one of the table's words stands for.
fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| value.text == *word);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| value.fault("nothing is known by this word"))
}

fn rfc3339(text: &str) -> Result<UnixMillis, String> {
    let time = humantime::parse_rfc3339(text).map_err(|error| error.to_string())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    i64::try_from(since.as_millis()).map(UnixMillis).map_err(|error| error.to_string())
}

fn fps(text: &str) -> Result<FrameRate, &'static str> {
    text.parse().ok().and_then(frame_rate).ok_or("a number from 0.001 to 1000 is needed")
}

fn speed(text: &str) -> Result<Option<f64>, &'static str> {
    if text == "max" {
        return Ok(None);
    }
    let factor = text.parse().ok().filter(|factor: &f64| (0.001..=1_000_000.0).contains(factor));
    factor.map(Some).ok_or("\"max\" or a factor from 0.001 to 1000000 is needed")
}

#[cfg(test)]
mod tests;
