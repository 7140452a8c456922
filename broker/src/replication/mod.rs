//! Replication between brokers over the WAL port. A follower dials its leader; the leader pushes batches as
//! they are appended, within byte credits, and the follower acknowledges what it has written and synced. What
//! is said is decided by [`chronik_core::replication`]; here it is only carried.

mod acks;
mod config;
mod connection;
mod frame;
mod link;
mod manager;
mod receiver;
mod sender;

pub use config::ReplicationConfig;
pub use frame::Ack;
pub use link::{BatchCredit, CATCH_UP_BYTES, FollowerLink, LeaderLink};
pub use manager::WalReplicationManager;

#[cfg(test)]
mod tests;
