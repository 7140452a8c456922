//! The listener for Kafka clients.
//!
//! It knows of frames, budgets and order; what a request means is the business of [`crate::api`].

mod connection;
mod frames;
mod listener;
mod open;
mod pace;
mod per_ip;
mod unread;

#[cfg(test)]
mod tests;

pub use crate::api::ServerConfig;
pub use listener::{ClientListener, serve};

use crate::api::Handlers;
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use frames::FrameLimits;
use std::sync::Arc;
use std::time::Duration;
use unread::Unread;

/// What all connections share.
#[derive(Debug)]
struct Shared {
    api: Arc<Handlers>,
    rooms: Rooms,
    /// What requests without records are decoded to.
    decoded: Rooms,
    /// Answers that are not taken, as far as nothing else counts them.
    unread: Unread,
    frame_limits: FrameLimits,
    idle: Duration,
    metrics: Metrics,
}
