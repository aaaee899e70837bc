//! The `local-cloud` command behind the Makefile.

mod commands;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

/// A bucket cloud on this machine, with the three real functions in it.
#[derive(Debug, Parser)]
#[command(name = "local-cloud", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let executor = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("error: the executor does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match executor.block_on(commands::run(arguments.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
