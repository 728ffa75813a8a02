//! The agent's program: what each of its commands does.
//!
//! Exit codes: 0 success, 1 the job failed, 2 bad usage or configuration.
#![expect(
    clippy::print_stderr,
    reason = "before the configuration is read there is no log; faults go to the person who started us"
)]

use std::io::{self, Write, stdout};
use std::process::ExitCode;

use crate::command_line::{self, Cli, Command, Settings, Stop};
use crate::config::Config;
#[cfg(feature = "inference")]
use crate::host::keeper::{KeepError, is_needed, keep};
use crate::host::replay::Replay;
use crate::host::{enrol, features, inspect, log, predictions, replay, run};

/// How a command failed.
enum Failure {
    /// Exit code 2.
    Usage(String),
    /// Exit code 1.
    Job(String),
    /// This exit code, of a process that has said why.
    #[cfg(feature = "inference")]
    Told(u8),
}

fn job(error: impl std::fmt::Display) -> Failure {
    Failure::Job(error.to_string())
}

impl Settings {
    /// The checked configuration, or all that is wrong with it.
    fn resolve(&self) -> Result<Config, String> {
        let text =
            std::fs::read_to_string(&self.config).map_err(|error| format!("{}: {error}", self.config.display()))?;
        Config::resolve(&self.config, &text, &self.overrides).map_err(|faults| faults.to_string())
    }
}

/// Does what the command line says. `build` is what `--version` says the program was built from.
#[must_use]
pub fn main(build: &str) -> ExitCode {
    let done = match command_line::read(std::env::args_os().skip(1).collect(), &|name| std::env::var_os(name)) {
        Ok(cli) => execute(&cli),
        Err(Stop::Print(text)) => print(|out| out.write_all(text.as_bytes())),
        Err(Stop::Version) => {
            print(|out| writeln!(out, "{} {} ({build})", command_line::PROGRAM, env!("CARGO_PKG_VERSION")))
        }
        Err(Stop::Usage(text)) => Err(Failure::Usage(text)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
        Err(Failure::Job(text)) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
        #[cfg(feature = "inference")]
        Err(Failure::Told(code)) => ExitCode::from(code),
    }
}

fn execute(cli: &Cli) -> Result<(), Failure> {
    let plain = || drop(log::begin(cli.log_format.unwrap_or_default(), "info"));
    let configured = |settings: &Settings| {
        let config = settings.resolve().map_err(Failure::Usage)?;
        let level = log::begin(cli.log_format.or(config.log_format()).unwrap_or_default(), config.log_level());
        Ok::<_, Failure>((config, level))
    };
    match &cli.command {
        Command::Run { settings, kept } => {
            let (config, level) = configured(settings)?;
            #[cfg(feature = "inference")]
            if !kept && is_needed(&config) {
                return keep(std::env::args_os().skip(1).collect()).map_err(|error| match error {
                    KeepError::Ended(code) => Failure::Told(code),
                    error @ KeepError::System(_) => job(error),
                });
            }
            if config.cameras().is_empty() {
                tracing::warn!("no camera is configured: there is nothing to watch");
            }
            let settings = settings.clone();
            let reread = move || settings.resolve();
            run::run(&config, Box::new(reread), level, *kept).map_err(job)
        }
        Command::Check(settings) => {
            let config = settings.resolve().map_err(Failure::Usage)?;
            let text = format!(
                "{}: good; {} with {} cameras\n",
                settings.config.display(),
                config.device(),
                config.cameras().len()
            );
            print(|out| out.write_all(text.as_bytes()))
        }
        Command::Enroll { token, settings } => {
            let (config, _) = configured(settings)?;
            let enrolled = enrol::enrol(&config, token).map_err(job)?;
            print(|out| writeln!(out, "{enrolled}"))
        }
        Command::Features { files, format } => {
            plain();
            let mut complete = true;
            print(|out| {
                complete = features::features(files, *format, out)?;
                Ok(())
            })?;
            if complete { Ok(()) } else { Err(Failure::Job("not every file could be measured".into())) }
        }
        Command::Replay(arguments) => {
            let (config, _) = configured(&arguments.settings)?;
            if !arguments.frames.is_dir() {
                return Err(Failure::Usage(format!("--frames {}: not a folder", arguments.frames.display())));
            }
            let predictions = match &arguments.predictions {
                Some(path) => {
                    let read = predictions::read(path);
                    Some(read.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?)
                }
                None => None,
            };
            let request = Replay {
                frames: arguments.frames.clone(),
                camera: arguments.camera.clone(),
                start: arguments.start,
                rate: arguments.fps,
                speed: arguments.speed,
                predictions,
            };
            replay::replay(&config, request).map_err(job)
        }
        Command::Inspect { what, format, settings } => {
            plain();
            let files = if what.as_os_str() == "spool" {
                let folder = settings.resolve().map_err(Failure::Usage)?.state_dir().join(crate::spool::FOLDER);
                inspect::segments(&folder).map_err(|error| job(format!("{}: {error}", folder.display())))?
            } else {
                vec![what.clone()]
            };
            let mut whole = true;
            print(|out| {
                whole = inspect::inspect(&files, *format, out)?;
                Ok(())
            })?;
            if whole || what.as_os_str() == "spool" {
                Ok(())
            } else {
                Err(Failure::Job("not all of it is whole records".into()))
            }
        }
        Command::Completion(shell) => print(|out| out.write_all(shell.script().as_bytes())),
    }
}

/// Prints; a reader that has seen enough (`head`) is no failure.
fn print(write: impl FnOnce(&mut io::BufWriter<io::StdoutLock<'_>>) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(job(error)),
        _ => Ok(()),
    }
}
