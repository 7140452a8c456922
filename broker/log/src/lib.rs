//! A broker's durable bytes: synchronous, on a [`Disk`] that tests can crash.
//!
//! - [`Log`]: the records of all partitions. One write-ahead log makes them durable with one sync a round
//!   ([`Log::commit`]); partition segments in Kafka's own batch format are written behind it
//!   ([`Log::apply`]); a checkpoint syncs those and lets the write-ahead log's segments be used again.
//! - [`Writer`]: the one thread that does this for a broker.
//! - [`LogReader`]: what the segments hold, checked.
//! - [`Journal`]: a small record log apart from it, for the metadata quorum.
//!
//! A data directory holds `LOCK`, `checkpoint`, `wal/` and `partitions/`; the modules of those names describe
//! the formats. `damaged/` keeps what repairs have cut off ([`Log::set_aside`]), and `ballast` takes up space
//! ([`Space`]). Nothing here knows of leaders, requests or clocks.

mod apply;
mod at_once;
mod checkpoint;
mod disk;
mod error;
mod format;
mod history;
mod journal;
mod limits;
mod log;
mod offline;
mod once;
mod options;
mod partition;
mod pulse;
mod reader;
mod recovery;
mod space;
mod store;
mod syncs;
mod tails;
mod tidy;
mod trash;
mod wal;
mod writer;

pub use disk::{
    Call, Disk, DiskFile, Entry, Fault, RealDisk, RealFile, RealLock, SimulatedDisk, SimulatedFile, SimulatedLock,
    create_dir_all,
};
pub use error::LogError;
pub use journal::Journal;
pub use limits::{SegmentLimit, SegmentLimits};
pub use log::Log;
pub use offline::{Finding, LoggedOperation, Progress, Verified, VerifiedPartition, batches, operations, verify};
pub use options::{Op, Options, RecoveredPartition};
pub use partition::{CleanError, CleanReport, CleanSpec, CleanStep, ReadError, SegmentInfo};
pub use pulse::Pulse;
pub use reader::{Cleaning, Damage, LogReader};
pub use space::Space;
pub use writer::{Appender, CommitStats, Held, Writer};
