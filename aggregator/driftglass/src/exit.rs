//! Exit codes, and the one place that prints why a command failed.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// How a command ended where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 0: done, and nothing to report.
    Success,
    /// 3: done, and drift was found.
    Drift,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1: the job could not be done.
    Job(String),
    /// 2: what was asked for makes no sense.
    Usage(String),
}

impl Failure {
    /// A job that failed, with its cause.
    pub(crate) fn job(cause: impl Display) -> Self {
        Self::Job(cause.to_string())
    }
}

/// Says what happened and gives the exit code.
pub(crate) fn report(result: Result<Outcome, Failure>) -> ExitCode {
    let (code, message) = match result {
        Ok(Outcome::Success) => (0, None),
        Ok(Outcome::Drift) => (3, None),
        Err(Failure::Job(message)) => (1, Some(message)),
        Err(Failure::Usage(message)) => (2, Some(message)),
    };
    if let Some(message) = message {
        // Nobody is left to tell if standard error is closed.
        drop(writeln!(std::io::stderr(), "driftglass: {message}"));
    }
    ExitCode::from(code)
}
