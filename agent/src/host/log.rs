//! Log lines, for people or as JSON, on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Begins logging. Called once; a second call changes nothing.
pub fn begin(format: LogFormat, level: &str) {
    // What the libraries below have to say matters only when looking for a fault in them.
    let filter = EnvFilter::new(format!("warn,driftglass_agent={level},driftglass_protocol={level}"));
    // A line that cannot be written (standard error is a file on a full disk) is lost; reporting it to standard error would panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_target(false)
        .log_internal_errors(false);
    let begun = match format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = begun {
        tracing::debug!(%error, "logging has begun before");
    }
}
