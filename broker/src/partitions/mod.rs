//! The partitions that this broker holds: `handle` is how the rest of the broker asks for something.

pub mod handle;

pub use handle::{EpochEnd, FetchError, FetchSpec, Fetched, FoundOffset, OffsetSpec, Partitions, ReadError};
