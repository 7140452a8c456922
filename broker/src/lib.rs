//! The Chronik broker: the shell around [`chronik_core`] and [`chronik_log`].

mod api;
pub mod controller;
pub mod events;
pub mod health;
pub mod metrics;
pub mod partitions;
pub mod peers;
pub mod server;
mod wire;
