//! The subcommands, one file each.
#![expect(clippy::print_stdout, reason = "a command talks to the person at its terminal")]

mod bench;
mod bench_pictures;
mod bench_sweep;
mod contract;
mod dev;
mod replay;
mod restore;
mod run;
mod serve;
mod sweep;
mod ticket;
mod view;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

/// What a subcommand ends with: an exit code, or one sentence for a person.
pub(crate) type CommandResult = Result<ExitCode, Box<dyn Error + Send + Sync>>;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the main job end to end: uploads, avatars, rejections, a sweep.
    Run(run::Arguments),
    /// Keeps a local cloud running for any S3 client.
    Dev(dev::Arguments),
    /// Gives one event to one function.
    Replay(replay::Arguments),
    /// Puts back what a sweep quarantined, from its report.
    Restore(restore::Arguments),
    /// Serves what one event takes for granted, for a function that runs elsewhere.
    Serve(serve::Arguments),
    /// Holds an S3 server against the contract that the functions rely on.
    Contract(contract::Arguments),
    /// Sweeps a store by a retention policy: a plan, or for good.
    Sweep(sweep::Arguments),
    /// Checks uploads beside a Python Lambda handler, and shows requests and times of both.
    BenchValidator(bench::Arguments),
    /// Makes avatars beside sharp, and shows times, bytes, looks and memory of both.
    BenchPictures(bench_pictures::Arguments),
    /// Sweeps buckets beside rclone and s5cmd, and shows requests, speed and memory of all three.
    BenchSweep(bench_sweep::Arguments),
    /// Makes, reads and uses upload tickets.
    #[command(subcommand)]
    Ticket(Box<ticket::Command>),
}

/// The event in a file.
pub(crate) fn event(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", path.display()))
}

/// Runs a subcommand.
pub(crate) async fn run(command: Command) -> CommandResult {
    match command {
        Command::Run(arguments) => Box::pin(run::run(arguments)).await,
        Command::Dev(arguments) => Box::pin(dev::run(arguments)).await,
        Command::Replay(arguments) => Box::pin(replay::run(arguments)).await,
        Command::Restore(arguments) => Box::pin(restore::run(arguments)).await,
        Command::Serve(arguments) => Box::pin(serve::run(arguments)).await,
        Command::Contract(arguments) => Box::pin(contract::run(arguments)).await,
        Command::Sweep(arguments) => Box::pin(sweep::run(arguments)).await,
        Command::BenchValidator(arguments) => Box::pin(bench::run(arguments)).await,
        Command::BenchPictures(arguments) => Box::pin(bench_pictures::run(arguments)).await,
        Command::BenchSweep(arguments) => Box::pin(bench_sweep::run(arguments)).await,
        Command::Ticket(command) => Box::pin(ticket::run(*command)).await,
    }
}
