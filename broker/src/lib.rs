//! The Chronik broker: the shell around [`chronik_core`] and [`chronik_log`].

pub mod config;
pub mod controller;
pub mod events;
pub mod partitions;
pub mod peers;
