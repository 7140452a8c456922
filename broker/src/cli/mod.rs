//! The command line, one file a command.

pub mod dev;
pub mod serve;

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
    /// Print the configuration reference as Markdown.
    #[command(hide = true)]
    ConfigReference,
}
