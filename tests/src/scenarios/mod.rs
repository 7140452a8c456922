//! One question to a running cluster a file.

pub mod bench;
mod bench_client;
mod catching_up;
pub mod clients;
pub mod crash_all;
pub mod failover;
mod first_write;
pub mod hostile;
mod hostile_frames;
mod hostile_talk;
mod java_tools;
pub mod memory;
mod mutate;
pub mod returning;
mod stale_leader;
pub mod start_orders;
pub mod stopped_leader;

use crate::harness::cluster::Software;

/// What every scenario is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the brokers run.
    pub software: Software,
    /// Fewer repetitions, to see that it works.
    pub quick: bool,
    /// More repetitions, for figures to publish.
    pub full: bool,
    /// Rounds, where a scenario has rounds.
    pub rounds: Option<usize>,
}
