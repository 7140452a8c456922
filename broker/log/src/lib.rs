//! A broker's durable bytes: synchronous, on a [`Disk`] that tests can crash.
//!
//! - [`Log`]: the records of all partitions. One write-ahead log makes them durable with one sync a round
//!   ([`Log::commit`]); partition segments in Kafka's own batch format are written behind it
//!   ([`Log::apply`]); a checkpoint syncs those and lets the write-ahead log's segments be used again.
//! - [`Writer`]: the one thread that does this for a broker.
//! - [`LogReader`]: what the segments hold, checked.
//! - [`Journal`]: a small record log apart from it, for the metadata quorum.
//!
//! Nothing here knows of leaders, requests or clocks.

mod disk;
mod error;
mod journal;

pub use disk::{
    Disk, DiskFile, Entry, RealDisk, RealFile, RealLock, SimulatedDisk, SimulatedFile, SimulatedLock, create_dir_all,
};
pub use error::LogError;
pub use journal::Journal;
