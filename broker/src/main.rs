//! The `chronik` binary.

use chronik_broker::cli::{Cli, ClientError, Command};
use clap::Parser;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Dev(dev) => dev.run(),
        Command::Topic(topic) => topic.run(),
        Command::Produce(produce) => produce.run(),
        Command::Consume(consume) => consume.run(),
        Command::Group(group) => group.run(),
        Command::Config(config) => config.run(),
        Command::Cluster(cluster) => cluster.run(),
        Command::Broker(broker) => broker.run(),
        Command::Partition(partition) => partition.run(),
        Command::Reassign(reassign) => reassign.run(),
        Command::Rebalance(rebalance) => rebalance.run(),
        Command::Quorum(quorum) => quorum.run(),
        Command::Log(log) => log.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
        Command::ConfigReference => config_reference(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough, as `head` has.
        Err(error) if error.downcast_ref().is_some_and(is_broken_pipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chronik: {error:#}");
            ExitCode::from(error.downcast_ref().map_or(1, ClientError::exit_code))
        }
    }
}

fn is_broken_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

fn config_reference() -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(chronik_broker::config::reference().as_bytes())?;
    Ok(())
}
