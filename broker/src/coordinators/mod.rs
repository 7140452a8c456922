//! The shell of the group coordinators: one task for each partition of `__consumer_offsets` that this broker leads.
//!
//! What a group may do is decided by [`chronik_core::groups::Shard`]. Here are its surroundings: which partition a
//! group belongs to, reading a partition's records when this broker begins to lead it, appending through the
//! partition's own produce path, timers, and the end of a shard with its leadership. While too few replicas are in sync
//! it does what writes nothing. A shard whose append fails otherwise is dropped with all that waits in it, and read
//! anew.

mod appends;
mod client;
mod ends;
mod handle;
mod lag;
mod loading;
mod manager;
mod memory;
mod metrics;
mod partitioner;
mod shard;
mod topic;

pub(crate) use client::limited;
pub use handle::Coordinators;
pub use manager::{CoordinatorsConfig, GroupMetricsConfig, start};
pub use metrics::CoordinatorMetrics;
pub use topic::OffsetsTopic;
