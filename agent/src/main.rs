//! The agent's command line.
//!
//! Exit codes: 0 success, 1 the job failed, 2 bad usage or configuration.
#![expect(
    clippy::print_stderr,
    reason = "before the configuration is read there is no log; faults go to the person who started us"
)]

use std::io::{self, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use driftglass_agent::config::{Config, DEFAULT_FILE, LogFormat, Overrides, frame_rate};
#[cfg(feature = "inference")]
use driftglass_agent::host::keeper;
use driftglass_agent::host::replay::Replay;
use driftglass_agent::host::{enrol, features, inspect, log, predictions, replay, run};
use driftglass_agent::window::FrameRate;
use driftglass_protocol::id::Name;
use driftglass_protocol::identity::Token;
use driftglass_protocol::unit::UnixMillis;

/// Turns camera frames into feature sketches and delivers them.
#[derive(Debug, Parser)]
#[command(name = "driftglass-agent", version)]
struct Cli {
    /// How log lines look [default: text]
    #[arg(long, global = true, env = "DRIFTGLASS_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Run {
        #[command(flatten)]
        settings: Settings,
        /// Started by the process of the inference proxies
        #[arg(long, hide = true)]
        kept: bool,
    },
    /// Validate the configuration; touches nothing
    Check(Settings),
    /// Obtain an identity for this device with a one-time token
    ///
    /// The key is made here and stays here. Who the aggregator is, the token says. An agent that runs already takes up the new identity by
    /// itself when its old one is refused.
    Enroll(EnrolArguments),
    /// Print the feature values of pictures, exactly those the service sketches
    Features {
        /// The pictures (JPEG or PNG)
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How values are shown
        #[arg(long, value_enum, default_value_t)]
        format: features::Format,
    },
    /// Send recorded frames as if they were taken then, and wait until all is acknowledged
    Replay(ReplayArguments),
    /// Print what is or was sent: every record of a segment file, or of the whole spool
    Inspect {
        /// A segment file, or the word `spool` for the one in the state folder
        what: PathBuf,
        /// How records are shown
        #[arg(long, value_enum, default_value_t)]
        format: inspect::Format,
        #[command(flatten)]
        settings: Settings,
    },
    /// Print a completion script
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Debug, Args)]
struct Settings {
    /// The configuration file
    #[arg(long, env = "DRIFTGLASS_CONFIG", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Overrides `site`
    #[arg(long, env = "DRIFTGLASS_SITE")]
    site: Option<String>,
    /// Overrides `device`
    #[arg(long, env = "DRIFTGLASS_DEVICE")]
    device: Option<String>,
    /// Overrides `state_dir`
    #[arg(long, env = "DRIFTGLASS_STATE_DIR")]
    state_dir: Option<String>,
    /// Overrides `aggregator.address`
    #[arg(long, env = "DRIFTGLASS_AGGREGATOR")]
    aggregator: Option<String>,
    /// Overrides `telemetry.listen`
    #[arg(long, env = "DRIFTGLASS_TELEMETRY")]
    telemetry: Option<String>,
    /// Overrides `log.level`
    #[arg(long, env = "DRIFTGLASS_LOG_LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Args)]
struct EnrolArguments {
    /// The token that `driftglass token create` printed for this device; in DRIFTGLASS_TOKEN other users of this machine do not see it
    #[arg(long, env = "DRIFTGLASS_TOKEN", hide_env_values = true)]
    token: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct ReplayArguments {
    /// Folder of the frames, in order of file name
    #[arg(long)]
    frames: PathBuf,
    /// The camera they count for
    #[arg(long)]
    camera: Name,
    /// Time of the first frame (RFC 3339)
    #[arg(long, value_parser = rfc3339)]
    start: UnixMillis,
    /// Frames per second of event time
    #[arg(long, value_parser = fps)]
    fps: FrameRate,
    /// How many times real time, or `max`
    #[arg(long, default_value = "max", value_parser = speed)]
    speed: Speed,
    /// What a model said of the frames: CSV with the columns frame and confidence, and where known label, truth, second_confidence and
    /// latency_ms
    #[arg(long)]
    predictions: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
struct Speed(Option<f64>);

fn rfc3339(text: &str) -> Result<UnixMillis, String> {
    let time = humantime::parse_rfc3339(text).map_err(|error| error.to_string())?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|error| error.to_string())?;
    i64::try_from(since.as_millis()).map(UnixMillis).map_err(|error| error.to_string())
}

fn fps(text: &str) -> Result<FrameRate, String> {
    text.parse().ok().and_then(frame_rate).ok_or_else(|| "a number from 0.001 to 1000 is needed".into())
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed(None));
    }
    let factor = text.parse().ok().filter(|factor: &f64| (0.001..=1_000_000.0).contains(factor));
    factor.map(|factor| Speed(Some(factor))).ok_or_else(|| "\"max\" or a factor from 0.001 to 1000000 is needed".into())
}

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
        let overrides = Overrides {
            site: self.site.clone(),
            device: self.device.clone(),
            state_dir: self.state_dir.clone(),
            aggregator: self.aggregator.clone(),
            telemetry: self.telemetry.clone(),
            log_level: self.log_level.clone(),
        };
        Config::resolve(&self.config, &text, &overrides).map_err(|faults| faults.to_string())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(&cli) {
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
            if !kept && keeper::is_needed(&config) {
                return keeper::keep(std::env::args_os().skip(1).collect()).map_err(|error| match error {
                    keeper::KeepError::Ended(code) => Failure::Told(code),
                    error @ keeper::KeepError::System(_) => job(error),
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
        Command::Enroll(EnrolArguments { token, settings }) => {
            let (config, _) = configured(settings)?;
            // Not by the parser of the command line, which would print what it does not understand.
            let token: Token = token.parse().map_err(|error| Failure::Usage(format!("--token: {error}")))?;
            let enrolled = enrol::enrol(&config, &token).map_err(job)?;
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
                speed: arguments.speed.0,
                predictions,
            };
            replay::replay(&config, request).map_err(job)
        }
        Command::Inspect { what, format, settings } => {
            plain();
            let files = if what.as_os_str() == "spool" {
                let folder =
                    settings.resolve().map_err(Failure::Usage)?.state_dir().join(driftglass_agent::spool::FOLDER);
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
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "driftglass-agent", &mut script);
            print(|out| out.write_all(&script))
        }
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
