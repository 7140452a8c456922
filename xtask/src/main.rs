//! `cargo xtask …`: build, test and benchmark commands that need more than cargo.

mod build;
mod check;
mod command;
mod image;
mod mutants;
mod profile;
mod sbom;
mod tests;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare what the tests need, run all that this machine can, and name what it could not.
    Test(tests::Test),
    /// Measure beside Apache Kafka, and print the ratios.
    Bench {
        /// Passed on to `chronik-tests bench`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Make a flame graph of brokers under load, and say what a record and a batch cost: `--brokers 3 --size 100`.
    Profile {
        /// Passed on to `chronik-tests profile`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the simulator: `cargo xtask sim --seeds 0..1000`.
    Sim {
        /// Passed on to `chronik-sim`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Break the product's rules one at a time, in a copy of the sources, and say which fault survives the tests.
    Mutants(mutants::Mutants),
    /// Run the end-to-end tests on kind.
    E2e {
        /// Passed on to `chronik-e2e`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    Image(image::Image),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Test(test) => test.run(),
        Command::Bench { args } => build::tests_binary().and_then(|mut b| command::run(b.arg("bench").args(args))),
        Command::Profile { args } => profile::run(&args),
        Command::Sim { args } => {
            command::run(command::cargo(&["run", "--quiet", "--release", "--package", "chronik-sim", "--"]).args(args))
        }
        Command::Mutants(mutants) => mutants.run(),
        Command::E2e { args } => {
            command::run(command::cargo(&["run", "--quiet", "--package", "chronik-e2e", "--"]).args(args))
        }
        Command::Image(image) => image.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
