//! The `chronik` binary.

use chronik_broker::cli::{Cli, Command};
use clap::Parser;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Dev(dev) => dev.run(),
        Command::ConfigReference => config_reference(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chronik: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn config_reference() -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(chronik_broker::config::reference().as_bytes())?;
    Ok(())
}
