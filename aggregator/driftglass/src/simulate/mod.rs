//! `driftglass simulate`: does the promise hold? The decision core on simulated fleets, where the truth is known.

mod fleet;
mod report;
mod run;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use clap::{Args, ValueEnum};
use driftglass_aggregator::decision::Dependence;

use self::fleet::{Plan, Scenario};
use crate::exit::{Failure, Outcome};

/// What to simulate, and how to say what came of it.
#[derive(Debug, Args)]
#[command(
    after_help = "Each run has a fleet of its own: sites of 20 cameras, 60 clean windows to learn from, then the run, which is \
    one epoch.\nA drifting camera steps in a quarter of its features, at a moment drawn from the first quarter of the run.\n\
    The same seed gives the same figures."
)]
pub(crate) struct SimulateArguments {
    /// Cameras, each on a device of its own.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    devices: u32,
    /// Features of each camera.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    features: u32,
    /// Windows of the run, of 60 frames each.
    #[arg(long, value_name = "N", default_value_t = 240, value_parser = clap::value_parser!(u32).range(12..=100_000))]
    windows: u32,
    /// Cameras that drift.
    #[arg(long, value_name = "N", default_value_t = 10)]
    drifting: u32,
    /// Size of the drift in standard deviations of a frame.
    #[arg(long, value_name = "SD", default_value_t = 1.0)]
    shift: f64,
    /// What the fleet goes through.
    #[arg(long, value_enum, default_value_t = Scenario::Shocks)]
    scenario: Scenario,
    /// Expected share of false alerts that is promised.
    #[arg(long, value_name = "Q", default_value_t = 0.1)]
    q: f64,
    /// Under which dependence between cameras the promise shall hold.
    #[arg(long, value_enum, default_value_t)]
    dependence: Assumed,
    /// Seed of the first run; each further run has the next.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Number of runs.
    #[arg(long, value_name = "R", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Assumed {
    /// None, or a positive one.
    #[default]
    Positive,
    /// Any.
    Arbitrary,
}

impl From<Assumed> for Dependence {
    fn from(assumed: Assumed) -> Self {
        match assumed {
            Assumed::Positive => Self::Positive,
            Assumed::Arbitrary => Self::Arbitrary,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Simulates and reports.
///
/// # Errors
/// Where what is asked for makes no sense, or the report cannot be written.
pub(crate) fn run(arguments: &SimulateArguments) -> Result<Outcome, Failure> {
    let plan = plan(arguments)?;
    let (runs, windows) = (u64::from(arguments.runs), AtomicU64::new(0));
    let progress = Progress { shown: io::stderr().is_terminal(), done: windows, last: AtomicU64::new(0) };
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(arguments.runs as usize);
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if number >= runs {
                        break;
                    }
                    let seed = arguments.seed.wrapping_add(number);
                    let outcome = run::run(plan, arguments.q, arguments.dependence.into(), seed, |_, of| {
                        progress.step(runs * u64::from(of))
                    });
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push((number, outcome));
                    }
                }
            });
        }
    });
    progress.clear();
    let mut outcomes = outcomes.into_inner().map_err(|_| Failure::Job(String::from("a run failed")))?;
    outcomes.sort_by_key(|(number, _)| *number);
    let report = report::Report::new(arguments.scenario, arguments.q, outcomes.into_iter().map(|(_, o)| o).collect());
    let text = match arguments.format {
        Format::Table => report.table(),
        Format::Json => report.json().map_err(Failure::job)?,
    };
    io::stdout().write_all(text.as_bytes()).map_err(Failure::job)?;
    Ok(Outcome::Success)
}

fn plan(arguments: &SimulateArguments) -> Result<Plan, Failure> {
    let most = run::features().len();
    let features = arguments.features as usize;
    if features > most {
        return Err(Failure::Usage(format!("--features {features}: at most {most} can be simulated")));
    }
    if !(arguments.q > 0.0 && arguments.q <= 0.5) {
        return Err(Failure::Usage(format!("--q {}: above 0 and at most 0.5", arguments.q)));
    }
    if !(arguments.shift >= 0.0 && arguments.shift <= 5.0) {
        return Err(Failure::Usage(format!("--shift {}: 0 to 5 standard deviations", arguments.shift)));
    }
    if arguments.drifting > arguments.devices {
        return Err(Failure::Usage(format!(
            "--drifting {}: there are only {} devices",
            arguments.drifting, arguments.devices
        )));
    }
    Ok(Plan {
        scenario: arguments.scenario,
        cameras: arguments.devices as usize,
        features,
        windows: arguments.windows,
        drifting: arguments.drifting as usize,
        shift: arguments.shift,
    })
}

/// A line on a terminal that says how far the work is.
struct Progress {
    shown: bool,
    done: AtomicU64,
    last: AtomicU64,
}

impl Progress {
    fn step(&self, of: u64) {
        let percent = (self.done.fetch_add(1, Ordering::Relaxed) + 1) * 100 / of.max(1);
        if self.shown && self.last.fetch_max(percent, Ordering::Relaxed) < percent {
            drop(write!(io::stderr(), "\rsimulating {percent:3} %"));
        }
    }

    fn clear(&self) {
        if self.shown {
            drop(write!(io::stderr(), "\r                \r"));
        }
    }
}
