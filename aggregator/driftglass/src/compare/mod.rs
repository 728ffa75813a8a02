//! `driftglass compare`: a drift report of two folders, without a server.

mod folder;
mod page;
mod report;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use driftglass_aggregator::batch::{self, compare_batches};

use crate::exit::{Failure, Outcome};

/// Level of the false discovery rate over the features of one comparison.
const Q: f64 = 0.05;

/// What to compare, and how to say it.
#[derive(Debug, Args)]
#[command(after_help = "Frames are read in the order of their file names (jpg, jpeg, png).\n\
    Exit code: 0 no drift, 3 drift, 1 the job failed, 2 bad usage.")]
pub(crate) struct CompareArguments {
    /// Folder of frames that show what is normal.
    #[arg(long, value_name = "DIR")]
    reference: PathBuf,
    /// Folder of frames to hold against it.
    #[arg(long, value_name = "DIR")]
    current: PathBuf,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write the report to a file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// One self-contained page with the distributions drawn.
    Html,
}

/// Compares and reports.
///
/// # Errors
/// Where a folder cannot be read, holds too few frames, or the report cannot be written.
pub(crate) fn run(arguments: &CompareArguments) -> Result<Outcome, Failure> {
    for folder in [&arguments.reference, &arguments.current] {
        if !folder.is_dir() {
            return Err(Failure::Usage(format!("{} is not a folder", folder.display())));
        }
    }
    let reference = folder::Measured::read(&arguments.reference).map_err(Failure::job)?;
    let learned = reference.learn();
    let current = folder::Measured::read(&arguments.current).map_err(Failure::job)?;
    for side in [&reference, &current] {
        for (path, error) in side.unreadable.iter().take(5) {
            drop(writeln!(io::stderr(), "driftglass: left out {}: {error}", path.display()));
        }
        if side.unreadable.len() > 5 {
            drop(writeln!(io::stderr(), "driftglass: and {} more files left out", side.unreadable.len() - 5));
        }
    }
    let (then, now) = (reference.values(learned.as_ref()), current.values(learned.as_ref()));
    let report = compare_batches(&then, &now, Q).map_err(|error| match error {
        batch::BatchError::TooFewFrames { side, .. } => {
            let folder = if side == "reference" { &arguments.reference } else { &arguments.current };
            Failure::Job(format!("{}: {error}", folder.display()))
        }
        other => Failure::job(other),
    })?;
    let report = report::Report::new(&report, &then, &now);
    let text = match arguments.format {
        Format::Table => report.table(),
        Format::Json => report.json().map_err(Failure::job)?,
        Format::Html => page::render(&report),
    };
    match &arguments.output {
        Some(path) => {
            fs::write(path, text).map_err(|error| Failure::Job(format!("cannot write {}: {error}", path.display())))?;
        }
        None => io::stdout().write_all(text.as_bytes()).map_err(Failure::job)?,
    }
    Ok(if report.drift { Outcome::Drift } else { Outcome::Success })
}
