//! Batches for tests, of whose records nothing is known: [`super::samples`] makes some that can be read.

use super::header::{CRC_FROM, HEADER_LEN, LOG_OVERHEAD};
use super::{BatchHeader, RecordBatch};
use bytes::Bytes;

/// Builds a batch that is valid unless it is told otherwise.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
}

impl BatchBuilder {
    /// A batch of `count` records without a producer id.
    pub fn new(count: i32) -> Self {
        let mut batch = Self { bytes: vec![0; HEADER_LEN] };
        batch.put(16, &[2]);
        batch.put(23, &count.wrapping_sub(1).to_be_bytes());
        batch.put(43, &(-1_i64).to_be_bytes());
        batch.put(51, &(-1_i16).to_be_bytes());
        batch.put(53, &(-1_i32).to_be_bytes());
        batch.put(57, &count.to_be_bytes());
        batch
    }

    /// With so many bytes of records.
    #[must_use]
    pub fn payload(self, len: usize) -> Self {
        self.records(&vec![0xab; len])
    }

    /// With these bytes as records.
    #[must_use]
    pub fn records(mut self, records: &[u8]) -> Self {
        self.bytes.truncate(HEADER_LEN);
        self.bytes.extend_from_slice(records);
        self
    }

    /// Of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.put(43, &id.to_be_bytes());
        self.put(51, &epoch.to_be_bytes());
        self.put(53, &base_sequence.to_be_bytes());
        self
    }

    /// With that base and maximum timestamp.
    #[must_use]
    pub fn timestamps(mut self, base_ms: i64, max_ms: i64) -> Self {
        self.put(27, &base_ms.to_be_bytes());
        self.put(35, &max_ms.to_be_bytes());
        self
    }

    /// With those bytes at that place.
    #[must_use]
    pub fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self
    }

    /// The bytes, with length and CRC as they should be.
    pub fn bytes(mut self) -> Bytes {
        let length = (self.bytes.len() - LOG_OVERHEAD) as i32;
        self.put(8, &length.to_be_bytes());
        let crc = crc32c::crc32c(&self.bytes[CRC_FROM..]);
        self.put(17, &crc.to_be_bytes());
        self.bytes.into()
    }

    /// The batch.
    pub fn build(self) -> RecordBatch {
        RecordBatch::check(self.bytes()).expect("length and CRC were just computed")
    }

    /// The batch's header.
    pub fn header(self) -> BatchHeader {
        *self.build().header()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
