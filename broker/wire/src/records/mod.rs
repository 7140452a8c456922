//! The records of internal topics, in Kafka's own schemas: keys and values of `__consumer_offsets`, and the record
//! batches that hold them.
//!
//! All versions are read; written is the version that Kafka 4.1 and later write, so that Kafka's tools can read them.
//! Keys of kinds that are not known here (share groups, streams groups) are skipped, never an error.

mod batch;
mod fields;
mod keys;
mod produced;
#[cfg(test)]
mod tests;
mod values;

pub use batch::{BatchRecords, build_batch, records_of};
pub use produced::{NewRecord, Producer, produced_batch};

use bytes::Bytes;
use chronik_core::groups::GroupRecord;
use kafka_wire_core::DecodeError;

/// Why bytes are not the record that they should be, or a record cannot be written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes do not follow their schema.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A value of a version that is not known.
    #[error("version {version} of {what} is not known")]
    Version {
        /// Kafka's name of the schema.
        what: &'static str,
        /// The version.
        version: i16,
    },
    /// The records of a batch are not where its header says.
    #[error("the records of a batch are malformed: {0}")]
    Batch(&'static str),
    /// A string or an array is longer than its length field can say.
    #[error("{0} bytes or elements are more than the schema allows")]
    TooLong(usize),
    /// A key and a value of different kinds.
    #[error("a value of another kind than its key")]
    Mismatch,
}

/// A record of `__consumer_offsets`, as far as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A record about a group.
    Group(GroupRecord),
    /// The version of a key that is not known.
    Unknown(i16),
}

/// Reads a record of `__consumer_offsets`. No value is a tombstone.
pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Decoded, RecordError> {
    let key = match keys::decode(key)? {
        Ok(key) => key,
        Err(version) => return Ok(Decoded::Unknown(version)),
    };
    let value = value.map(|value| values::decode(&key, value)).transpose()?;
    Ok(Decoded::Group(GroupRecord { key, value }))
}

/// Writes a record of `__consumer_offsets`: its key, and its value unless it is a tombstone.
pub fn encode(record: &GroupRecord) -> Result<(Bytes, Option<Bytes>), RecordError> {
    let key = keys::encode(&record.key)?;
    let value = record.value.as_ref().map(|value| values::encode(&record.key, value)).transpose()?;
    Ok((key, value))
}
