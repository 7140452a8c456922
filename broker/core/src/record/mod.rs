//! Record batches as they are on the wire and on the disk (magic 2): the 61-byte header is read and
//! checked, the records behind it are opaque.

mod batch;
mod header;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use batch::{BatchError, Limits, RecordBatch, split_batches};
pub use header::{BatchHeader, Compression, HEADER_LEN, HeaderError, TimestampType};
