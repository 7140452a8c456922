//! The Chronik broker: the shell around [`chronik_core`] and [`chronik_log`].

mod api;
mod brief_connections;
mod budget;
mod cleaner;
pub mod cli;
mod cluster_metrics;
pub mod config;
pub mod coordinators;
mod damage;
mod disk_space;
mod found_damage;
mod handing_over;
pub mod health;
mod identity;
mod incarnations;
mod lags;
mod log_metrics;
pub mod metrics;
#[cfg(test)]
mod module_graph;
pub mod node;
mod open_files;
pub mod partitions;
pub mod replication;
mod retention;
mod rooms;
mod scrub;
mod segments;
pub mod server;
mod unreached;
mod whole_file;
