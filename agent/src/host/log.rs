//! Log lines, for people or as JSON, on standard error.

use std::fmt;
use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Which lines there are, and a way to change that.
#[derive(Clone)]
pub struct Level(reload::Handle<Targets, Registry>);

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Level")
    }
}

impl Level {
    /// Changes it.
    pub fn set(&self, level: &str) {
        if let Err(error) = self.0.reload(targets(level)) {
            tracing::warn!(%error, "the log level stays");
        }
    }
}

/// Begins logging. Called once; a second call changes nothing.
pub fn begin(format: LogFormat, level: &str) -> Level {
    let (filter, handle) = reload::Layer::new(targets(level));
    // A line that cannot be written (standard error is a file on a full disk) is lost; reporting it to standard error would panic.
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_target(false).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    if let Err(error) = tracing_subscriber::registry().with(filter).with(lines).try_init() {
        tracing::debug!(%error, "logging has begun before");
    }
    Level(handle)
}

/// What the libraries below have to say matters only when looking for a fault in them.
fn targets(level: &str) -> Targets {
    let level = level.parse().unwrap_or(LevelFilter::INFO);
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("driftglass_agent", level)
        .with_target("driftglass_protocol", level)
}
