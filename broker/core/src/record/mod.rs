//! Record batches as they are on the wire and on the disk (magic 2): the 61-byte header is read and
//! checked, and so are the records behind it, compressed or not.

mod admission;
mod batch;
mod codecs;
mod content;
#[cfg(test)]
mod content_tests;
mod crc;
mod header;
mod input;
mod raw;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod walk;

pub use admission::{Examined, Reason, RecordError, RecordRules, RecordsError, TIMESTAMP_AFTER_MAX_MS};
pub use batch::{BatchError, Limits, RecordBatch, split_batches};
pub use content::Content;
pub use header::{BatchHeader, Compression, HEADER_LEN, HeaderError, TimestampType};
pub use raw::RawRecord;
pub use walk::{MAX_DECOMPRESSED, Record, Stamp, WalkError, max_decompressed};
