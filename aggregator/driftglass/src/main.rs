//! `driftglass`: the operator's tool.
//!
//! It is the only program that knows both sides: the features of the agent and the statistics of the aggregator. Everything it
//! says about a running fleet it asks over HTTP; `compare`, `simulate` and `demo` need no server.

mod alert;
mod baseline;
mod client;
mod compare;
mod configuration;
mod demo;
mod detectability;
mod exit;
mod fleet;
mod promise;
mod simulate;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// Knows, for whole fleets of cameras, what changed, where and why.
#[derive(Debug, Parser)]
#[command(name = "driftglass", version, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an aggregator, eight cameras on real frames and one fault on this machine.
    Demo(demo::DemoArguments),
    /// Compare two folders of frames: has the camera's picture drifted, and why?
    Compare(compare::CompareArguments),
    /// Simulate fleets where the truth is known: are the alerts true, and how soon do they come?
    Simulate(simulate::SimulateArguments),
    /// List the cameras an aggregator knows.
    Cameras(client::ListArguments),
    /// Make one-time tokens for new devices.
    #[command(subcommand)]
    Token(fleet::TokenCommand),
    /// List the devices an aggregator knows.
    Devices(client::ListArguments),
    /// Set the configuration of agents, and see what became of it.
    #[command(subcommand)]
    Config(configuration::ConfigCommand),
    /// Revoke a device: its key counts no longer, its connection is ended; a new token can bring it back.
    Revoke(fleet::DeviceArguments),
    /// Let a revoked device speak again whose certificates come from an authority of your own.
    Reinstate(fleet::DeviceArguments),
    /// List alerts.
    Alerts(client::AlertArguments),
    /// Show one alert in full: what moved, how large each difference is, and what became of it.
    Alert(alert::ShowArguments),
    /// Show what a camera would see within the hour: the smallest shifts it would be alerted for, and the faults it would miss.
    Detectability(detectability::DetectabilityArguments),
    /// Say what counts as normal for a camera: accept what it shows, end its learning time, go back to an earlier version.
    #[command(subcommand)]
    Baseline(baseline::BaselineCommand),
    /// Say that an alert was right.
    Confirm(promise::JudgeArguments),
    /// Say that an alert was false: it is over, and counts in the record of false alerts.
    Dismiss(promise::JudgeArguments),
    /// Show what is promised of alerts, and how many were false so far.
    Status(client::ListArguments),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Demo(demo) => demo::run(&demo),
        Command::Compare(compare) => compare::run(&compare),
        Command::Simulate(simulate) => simulate::run(&simulate),
        Command::Cameras(list) => client::cameras(&list),
        Command::Token(command) => fleet::token(&command),
        Command::Devices(list) => fleet::devices(&list),
        Command::Config(command) => configuration::config(&command),
        Command::Revoke(device) => fleet::revoke(&device),
        Command::Reinstate(device) => fleet::reinstate(&device),
        Command::Alerts(list) => client::alerts(&list),
        Command::Alert(show) => alert::show(&show),
        Command::Detectability(camera) => detectability::show(&camera),
        Command::Baseline(command) => baseline::baseline(&command),
        Command::Confirm(judge) => promise::confirm(&judge),
        Command::Dismiss(judge) => promise::dismiss(&judge),
        Command::Status(list) => promise::status(&list),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "driftglass", &mut std::io::stdout());
            Ok(exit::Outcome::Success)
        }
    };
    exit::report(result)
}
