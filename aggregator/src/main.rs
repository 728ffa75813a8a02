//! The aggregator's program: reads settings, runs the service, and turns what goes wrong into an exit code.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use driftglass_aggregator::access::Role;
use driftglass_aggregator::config::{Config, DEFAULT_FILE, Fault, Overrides};
use driftglass_aggregator::host::{
    BackupError, Keys, LogFormat, Overwrite, Restored, access, back_up, now, restore, rotate, run, start_logging,
};
use driftglass_protocol::id::Name;

/// Counts what agents send, learns what is normal for each camera, and raises alerts.
#[derive(Debug, Parser)]
#[command(name = "driftglass-aggregator", version, propagate_version = true)]
struct Cli {
    /// How log lines look.
    #[arg(long, global = true, env = "DRIFTGLASS_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// Which log lines there are, for example "info" or "driftglass_aggregator=debug".
    #[arg(long, global = true, env = "DRIFTGLASS_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve(Source),
    /// Validate the configuration and touch nothing.
    Check(Source),
    /// Replace the fleet's authority: make a new one, certified by the one before.
    ///
    /// Takes effect when the service is started again. Devices trust the new authority as soon as they renew, and both are trusted until
    /// the next rotation; so leave at least the lifetime of a certificate between two rotations.
    RotateAuthority(Source),
    /// Make, list and revoke the tokens that HTTP asks for (http.auth = "tokens").
    #[command(subcommand)]
    AccessToken(AccessTokenCommand),
    /// Copy everything that must not be lost into one file, while the service runs.
    ///
    /// That is the database (counts, baselines, alerts, identities, the configuration of agents) and the keys of the fleet's authority.
    /// The file is readable by its owner only. The configuration file of the service is not part of it.
    Backup {
        /// The file to write.
        file: PathBuf,
        /// Replace it where it exists.
        #[arg(long)]
        force: bool,
        /// Leave all keys and certificates out; keep them elsewhere, for without them every device needs a new token.
        #[arg(long)]
        without_keys: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Make the data folder what it was when a backup was made. The service has to be stopped.
    ///
    /// What devices have delivered since is lost, and shown as lost windows; they go on by themselves. Tokens that had not been redeemed
    /// are void. What was revoked or enrolled since has to be revoked or enrolled again.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Move aside what is in the data folder.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Print completions for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum AccessTokenCommand {
    /// Make a token and print it, alone; it is shown this once. A running service knows it within seconds.
    Create {
        /// Whose it is.
        #[arg(long)]
        name: Name,
        /// What it allows: viewer (read), operator (also answer alerts), admin (also decide who belongs to the fleet).
        #[arg(long, value_parser = role)]
        role: Role,
        /// How long it is good for; until it is revoked unless said.
        #[arg(long, value_parser = humantime::parse_duration)]
        ttl: Option<Duration>,
        #[command(flatten)]
        source: Source,
    },
    /// List tokens, without what makes them valid.
    List(Source),
    /// Revoke a token. A running service knows it no more within seconds.
    Revoke {
        /// Whose it is.
        #[arg(long)]
        name: Name,
        #[command(flatten)]
        source: Source,
    },
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| "allowed are viewer, operator, admin".to_owned())
}

#[derive(Debug, Args)]
struct Source {
    /// The configuration file; where the default one is missing, defaults apply.
    #[arg(long, env = "DRIFTGLASS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

/// The job could not be done.
const FAILED: u8 = 1;
/// It was asked for wrongly.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(source) => serve(&source, cli.log_format, cli.log.as_deref()),
        Command::Check(source) => match load(&source) {
            Ok((config, name)) => {
                let text = format!("{name}: valid; quic {}, http {}", config.quic().listen, config.http().listen);
                say(&mut std::io::stdout(), &text);
                ExitCode::SUCCESS
            }
            Err(faults) => refuse(&faults),
        },
        Command::RotateAuthority(source) => match load(&source) {
            Ok((config, _)) => match rotate(config.data_dir(), now()) {
                Ok(number) => {
                    let text = format!(
                        "authority {number} was made; start the service again, and it issues from it ({} and the one before are trusted)",
                        config.data_dir().join("authority").join(number.to_string()).display()
                    );
                    say(&mut std::io::stdout(), &text);
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    say(&mut std::io::stderr(), &format!("error: {error}"));
                    ExitCode::from(FAILED)
                }
            },
            Err(faults) => refuse(&faults),
        },
        Command::AccessToken(command) => access_token(&command),
        Command::Backup { file, force, without_keys, source } => match load(&source) {
            Ok((config, _)) => back_up_into(&config, &file, force, without_keys),
            Err(faults) => refuse(&faults),
        },
        Command::Restore { file, force, source } => match load(&source) {
            Ok((config, _)) => restore_from(&config, &file, force),
            Err(faults) => refuse(&faults),
        },
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "driftglass-aggregator", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

fn access_token(command: &AccessTokenCommand) -> ExitCode {
    let (AccessTokenCommand::Create { source, .. }
    | AccessTokenCommand::List(source)
    | AccessTokenCommand::Revoke { source, .. }) = command;
    let data_dir = match load(source) {
        Ok((config, _)) => config.data_dir().to_owned(),
        Err(faults) => return refuse(&faults),
    };
    let done = match command {
        AccessTokenCommand::Create { name, role, ttl, .. } => access::create(&data_dir, name, *role, *ttl, now()),
        AccessTokenCommand::List(_) => access::list(&data_dir),
        AccessTokenCommand::Revoke { name, .. } => access::revoke(&data_dir, name),
    };
    match done {
        Ok(text) => {
            say(&mut std::io::stdout(), text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&mut std::io::stderr(), &format!("error: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

const fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Allowed } else { Overwrite::Refused }
}

fn back_up_into(config: &Config, file: &Path, force: bool, without_keys: bool) -> ExitCode {
    let keys = if without_keys { Keys::Without } else { Keys::With };
    let mut screen = Screen::default();
    let made = back_up(config.data_dir(), file, keys, overwrite(force), now(), &mut |doing, done, total| {
        screen.show(doing, done, total);
    });
    screen.clear();
    ended(made.map(|_| {
        let keys = match keys {
            Keys::With => "it holds the keys of the fleet's authority: keep it as secret as this machine",
            Keys::Without => "it holds no keys: keep the folders authority and identity elsewhere",
        };
        format!("{} backed up into {}; {keys}", config.data_dir().display(), file.display())
    }))
}

fn restore_from(config: &Config, file: &Path, force: bool) -> ExitCode {
    let mut screen = Screen::default();
    let restored = restore(config.data_dir(), file, overwrite(force), now(), &mut |doing, done, total| {
        screen.show(doing, done, total);
    });
    screen.clear();
    ended(restored.map(|Restored { manifest, aside, void_tokens }| {
        let made = u64::try_from(manifest.created_at_ms).unwrap_or(0);
        let made = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_millis(made));
        let mut text = format!("{} is as it was at {made} (release {})", config.data_dir().display(), manifest.release);
        if let Some(aside) = aside {
            text.push_str(&format!("; what was there is in {}", aside.display()));
        }
        if void_tokens > 0 {
            text.push_str(&format!("; {void_tokens} tokens are void, make new ones"));
        }
        text
    }))
}

fn ended(result: Result<String, BackupError>) -> ExitCode {
    match result {
        Ok(text) => {
            say(&mut std::io::stdout(), &text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&mut std::io::stderr(), &format!("error: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Shows progress on a line of the terminal that is written over; nothing where there is no terminal.
#[derive(Default)]
struct Screen {
    shown: String,
}

impl Screen {
    fn show(&mut self, doing: &str, done: u64, total: u64) {
        let percent = (u128::from(done) * 100).checked_div(u128::from(total));
        let line = percent.map_or_else(|| doing.to_owned(), |percent| format!("{doing}: {percent} %"));
        if line != self.shown && std::io::stderr().is_terminal() {
            drop(write!(std::io::stderr(), "\r\x1b[K{line}"));
            self.shown = line;
        }
    }

    fn clear(&self) {
        if !self.shown.is_empty() {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}

fn serve(source: &Source, format: LogFormat, filter: Option<&str>) -> ExitCode {
    let config = match load(source) {
        Ok((config, _)) => config,
        Err(faults) => return refuse(&faults),
    };
    start_logging(format, filter);
    if cfg!(panic = "abort") {
        tracing::warn!(
            "built in the profile of the agent, in which a fault of one session ends all: use --profile server"
        );
    }
    let result = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(&config)).map_err(|error| error.to_string()),
        Err(error) => Err(format!("no threads can be started: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

/// The configuration and the name of its file; otherwise every fault.
fn load(source: &Source) -> Result<(Config, String), String> {
    let path = source.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if source.config.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            let allowed = format!("cannot be read: {error}");
            return Err(Fault { place: name, key: String::new(), value: String::new(), allowed }.to_string());
        }
    };
    match Config::parse(&name, &text, &source.overrides) {
        Ok(config) => Ok((config, name)),
        Err(faults) => Err(faults.to_string()),
    }
}

fn refuse(faults: &str) -> ExitCode {
    say(&mut std::io::stderr(), faults);
    ExitCode::from(USAGE)
}

/// Prints a line; nobody being there to read it is no reason to fail.
fn say(out: &mut impl Write, text: &str) {
    drop(writeln!(out, "{text}"));
}
