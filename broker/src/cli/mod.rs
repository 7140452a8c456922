//! The command line, one file a command.

pub mod admin;
mod client;
mod common;
pub mod completions;
pub mod config;
pub mod consume;
pub mod dev;
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
