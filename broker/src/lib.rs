//! The Chronik broker: the shell around [`chronik_core`] and [`chronik_log`].

mod api;
pub mod cli;
pub mod config;
pub mod coordinators;
mod damage;
pub mod health;
mod identity;
pub mod metrics;
pub mod node;
mod open_files;
pub mod partitions;
pub mod replication;
mod retention;
mod scrub;
pub mod server;
