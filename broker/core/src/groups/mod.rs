//! Consumer groups: every decision of a group coordinator, for all groups of one partition of `__consumer_offsets`.
//!
//! A [shard](event) is brought events (requests, records that are loaded, appends that are committed, time) and wants
//! commands (append these records, answer that request). It holds no clock, no log and no socket. A reply that tells of
//! a change leaves only when the records that carry the change are committed.

mod census;
mod classic;
mod consumer;
mod consumer_protocol;
pub mod event;
mod expiry;
mod group;
mod limits;
mod migration;
mod offsets;
pub mod record;
mod refusal;
mod replies;
pub mod request;
mod requests;
pub mod response;
mod shard;
mod shared;
mod step;
#[cfg(test)]
mod tests;
mod timers;
mod undo;

pub use census::Census;
pub use consumer::Assignor;
pub use consumer_protocol::assigned_partitions;
pub use event::{Command, Config, ConsumerTimeouts, Event, Now, Ticket};
pub use limits::{MAX_STRING, Room};
pub use migration::MigrationPolicy;
pub use record::{GroupRecord, RecordKey, RecordValue};
pub use request::{Client, Request};
pub use response::{GroupError, Response};
pub use shard::Shard;
