//! Logs: on standard error, for people or for machines.

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `filter` has the form of `RUST_LOG`; one that does not parse is as none.
pub fn start_logging(format: LogFormat, filter: Option<&str>) {
    let default = || EnvFilter::new("info");
    let filter = filter.map_or_else(default, |filter| EnvFilter::try_new(filter).unwrap_or_else(|_| default()));
    // A line that cannot be written (standard error is a file on a full disk) is lost; reporting it to standard error would panic.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = match format {
        LogFormat::Text => {
            builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only a second start in one process fails, and then the first one serves.
    drop(started);
}
