//! The partitions that this broker holds. Each belongs to one owner task, which alone touches its replica; the
//! rest of the broker asks through [`Partitions`], and events reach it through [`Owners`].

mod commands;
mod deletions;
mod dropping;
pub mod handle;
mod hosted;
mod input;
mod metrics;
mod owner;
mod producer_memory;
mod reads;
mod registry;
mod send_queue;
mod series;
mod tail;
mod throttled;
mod timestamps;
pub mod waiter;

pub(crate) use commands::log_state;
pub use handle::{
    DeleteError, EpochEnd, FetchError, FetchSpec, Fetched, FoundOffset, LogSizes, OffsetSpec, Partitions, ReadError,
    Reservation,
};
pub use input::{Input, Owners};
pub use metrics::{DiskMetrics, LogMetrics, PartitionMetrics};
pub(crate) use producer_memory::after_forgetting;
pub use registry::{PartitionsConfig, feed, start};
pub use series::{AppendReply, Series};
pub use waiter::{Changes, Waiter};
