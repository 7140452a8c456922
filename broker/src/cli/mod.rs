//! The command line, one file a command.

pub mod admin;
mod client;
mod common;
pub mod completions;
pub mod config;
pub mod consume;
mod data_dir;
pub mod dev;
pub mod features;
pub mod group;
mod line;
pub mod log;
mod membership;
mod output;
mod partitioner;
pub mod produce;
pub mod reassign;
pub mod serve;
mod sizes;
mod start;
pub mod topic;

pub use client::ClientError;

use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;

/// A Kafka-protocol broker that syncs what it acknowledges.
#[derive(Debug, Parser)]
#[command(name = "chronik", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one broker.
    Serve(serve::Serve),
    /// Run a cluster on this machine, for development.
    Dev(dev::Dev),
    /// Create, list, describe, alter and delete topics.
    Topic(topic::Topic),
    /// Write lines of standard input as records.
    Produce(produce::Produce),
    /// Read records to standard output.
    Consume(consume::Consume),
    /// List, describe, reset and delete consumer groups.
    Group(group::Group),
    /// Show and change configs.
    Config(config::Config),
    /// Show and raise the versions of formats that the cluster writes.
    Features(features::Features),
    /// Show how the cluster is, why, and what to do next.
    Cluster(admin::cluster::Cluster),
    /// List, stop, cordon, drain and remove brokers.
    Broker(admin::broker::Broker),
    /// Show partitions that are not well.
    Partition(admin::partition::Partition),
    /// Move partitions to other brokers.
    Reassign(reassign::Reassign),
    /// Move partitions until all brokers hold about as much as each other.
    Rebalance(admin::rebalance::Rebalance),
    /// Show the controller quorum.
    Quorum(admin::quorum::Quorum),
    /// Look at the log in a stopped broker's data directory.
    Log(log::LogCommand),
    /// Print a shell's completion script.
    Completions(completions::Completions),
    /// Write man pages, one a command.
    Man(completions::Man),
    /// Print the configuration reference as Markdown.
    #[command(hide = true)]
    ConfigReference,
}

/// The whole of the program: what the command line says.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Dev(dev) => dev.run(),
        Command::Topic(topic) => topic.run(),
        Command::Produce(produce) => produce.run(),
        Command::Consume(consume) => consume.run(),
        Command::Group(group) => group.run(),
        Command::Config(config) => config.run(),
        Command::Features(features) => features.run(),
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
    std::io::stdout().lock().write_all(crate::config::reference().as_bytes())?;
    Ok(())
}
