//! One whole, checked record batch.

use super::codecs::compress;
use super::crc::combined;
use super::header::{
    BatchHeader, CONTROL, CRC_FROM, Compression, HEADER_LEN, HeaderError, LOG_APPEND_TIME, LOG_OVERHEAD, TRANSACTIONAL,
    TimestampType,
};
use super::{Examined, WalkError};
use crate::ids::{LeaderEpoch, Offset};
use bytes::{Bytes, BytesMut};

/// Bytes of the smallest record: one each for length, attributes, timestamp delta, offset delta, the lengths of key
/// and value, and the count of headers.
const MIN_RECORD_LEN: usize = 7;

/// Below this length, in bytes, a copy costs less than what it is sliced from may.
const DETACHED_BELOW: usize = 4096;

/// Below this length, in bytes, a CRC is computed as fast as it is combined from others.
const COMBINED_FROM: usize = 16 << 10;

/// A record batch whose length, CRC and counts agree. Its bytes are shared, not copied.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

/// What a producer's batch may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one batch (`max.message.bytes`).
    pub max_bytes: usize,
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The header cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The CRC does not fit the bytes.
    #[error("CRC-32C {found:08x} of the batch is not the {expected:08x} that it carries")]
    Crc {
        /// What the batch says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// Counts, offsets or lengths that contradict each other.
    #[error("invalid record batch: {0}")]
    Invalid(&'static str),
    /// Longer than allowed.
    #[error("a batch of {bytes} bytes is longer than the {max} that max.message.bytes allows")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A compression that this broker does not know.
    #[error("unknown compression type {0}")]
    Compression(i16),
}

impl RecordBatch {
    /// Takes the batch at the start of `bytes`, which must be exactly one batch, and checks length and CRC.
    pub fn check(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::read(&bytes)?;
        if header.total_len != bytes.len() {
            return Err(HeaderError::Short { have: bytes.len(), need: header.total_len }.into());
        }
        let found = crc32c::crc32c(&bytes[CRC_FROM..]);
        if found != header.crc {
            return Err(BatchError::Crc { expected: header.crc, found });
        }
        Ok(Self { header, bytes })
    }

    /// [`Self::check`], and what a broker asks of the header of a producer's batch beyond it. What it asks of the
    /// records is [`Self::examine`]'s.
    pub fn validate(bytes: Bytes, limits: Limits) -> Result<Self, BatchError> {
        if bytes.len() > limits.max_bytes {
            return Err(BatchError::TooLarge { bytes: bytes.len(), max: limits.max_bytes });
        }
        let batch = Self::check(bytes)?;
        let h = &batch.header;
        if h.record_count <= 0 || h.last_offset_delta != h.record_count - 1 {
            return Err(BatchError::Invalid("record count and last offset delta disagree"));
        }
        if h.compression().is_none() {
            return Err(BatchError::Compression(h.attributes & 0x07));
        }
        if h.base_offset != Offset(0) {
            return Err(BatchError::Invalid("the base offset of a producer's batch must be 0"));
        }
        // Cheaper than to find it out by reading the records.
        let records = batch.bytes.len() - HEADER_LEN;
        let least =
            if h.compression() == Some(Compression::None) { h.record_count as usize * MIN_RECORD_LEN } else { 1 };
        if records < least {
            return Err(BatchError::Invalid("more records than bytes for them"));
        }
        if h.is_transactional() && h.producer_id.is_none() {
            return Err(BatchError::Invalid("a transactional batch needs a producer id"));
        }
        if h.is_control() {
            return Err(BatchError::Invalid("a producer may not write control records"));
        }
        if h.producer_id.is_some() && (h.base_sequence < 0 || h.producer_epoch.0 < 0) {
            return Err(BatchError::Invalid("an idempotent batch needs a sequence and an epoch"));
        }
        Ok(batch)
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch as it is on the wire and on the disk.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The CRC-32C of bytes whose CRC-32C is `before`, and of the batch's after them. What a long batch's own CRC covers is not
    /// read again: so it is the CRC of the bytes as they were when they were checked, and what has changed them in memory since
    /// then is found with it.
    pub fn crc_after(&self, before: u32) -> u32 {
        let (place, rest) = self.bytes.split_at(CRC_FROM);
        let before = crc32c::crc32c_append(before, place);
        match u32::try_from(rest.len()) {
            Ok(len) if rest.len() >= COMBINED_FROM => combined(before, self.header.crc, len),
            _ => crc32c::crc32c_append(before, rest),
        }
    }

    /// The batch's bytes alone.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The same batch in a buffer of its own, where that is cheap: a small one may be a slice of a buffer that is many
    /// times as long, and would keep all of it.
    #[must_use]
    pub fn detached(mut self) -> Self {
        if self.bytes.len() < DETACHED_BELOW {
            self.bytes = Bytes::copy_from_slice(&self.bytes);
        }
        self
    }

    /// The batch with the timestamp type and the greatest timestamp that its records were found to have. A header that
    /// says the same already is left alone; else bytes are changed as by [`Self::assign`], and the CRC is computed anew.
    #[must_use]
    pub fn stamped(mut self, examined: &Examined) -> Self {
        let h = &mut self.header;
        if h.timestamp_type() == examined.timestamp_type && h.max_timestamp == examined.max_timestamp {
            return self;
        }
        h.attributes &= !LOG_APPEND_TIME;
        if examined.timestamp_type == TimestampType::LogAppendTime {
            h.attributes |= LOG_APPEND_TIME;
        }
        h.max_timestamp = examined.max_timestamp;
        let mut bytes = mutable(self.bytes);
        bytes[21..23].copy_from_slice(&h.attributes.to_be_bytes());
        bytes[35..43].copy_from_slice(&h.max_timestamp.to_be_bytes());
        h.crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&h.crc.to_be_bytes());
        self.bytes = bytes.freeze();
        self
    }

    /// A batch with that header, but for what follows from its records: these, compressed as it says.
    pub fn with_records(&self, mut header: BatchHeader, records: &[u8]) -> Result<Self, WalkError> {
        let codec = header.compression().unwrap_or(Compression::None);
        let body = compress(codec, records)
            .map_err(|_| WalkError::Malformed { record: 0, what: "its records cannot be compressed" })?;
        let too_long = WalkError::Malformed { record: 0, what: "its records are too long for one batch" };
        let batch_length = i32::try_from(HEADER_LEN - LOG_OVERHEAD + body.len()).map_err(|_| too_long)?;
        header.total_len = HEADER_LEN + body.len();
        let mut bytes = BytesMut::with_capacity(header.total_len);
        bytes.extend_from_slice(&self.bytes[..HEADER_LEN]);
        bytes.extend_from_slice(&body);
        bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
        bytes[21..23].copy_from_slice(&header.attributes.to_be_bytes());
        bytes[27..35].copy_from_slice(&header.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&header.max_timestamp.to_be_bytes());
        bytes[57..61].copy_from_slice(&header.record_count.to_be_bytes());
        header.crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
        Ok(Self { header, bytes: bytes.freeze() })
    }

    /// What is left of the batch without its records: where it is, whose it is, and how far that producer has come.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let mut header = self.header;
        header.attributes &= LOG_APPEND_TIME | TRANSACTIONAL | CONTROL;
        header.base_timestamp = -1;
        header.record_count = 0;
        let mut bytes = BytesMut::from(&self.bytes[..HEADER_LEN]);
        header.total_len = HEADER_LEN;
        bytes[8..12].copy_from_slice(&((HEADER_LEN - LOG_OVERHEAD) as i32).to_be_bytes());
        bytes[21..23].copy_from_slice(&header.attributes.to_be_bytes());
        bytes[27..35].copy_from_slice(&header.base_timestamp.to_be_bytes());
        bytes[57..61].copy_from_slice(&header.record_count.to_be_bytes());
        header.crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
        Self { header, bytes: bytes.freeze() }
    }

    /// Gives the batch its place in the log. The CRC does not cover these fields. The bytes are changed in
    /// place when nobody else holds them, and copied otherwise.
    #[must_use]
    pub fn assign(mut self, base: Offset, epoch: LeaderEpoch) -> Self {
        let mut bytes = mutable(self.bytes);
        bytes[0..8].copy_from_slice(&base.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&epoch.0.to_be_bytes());
        self.header.base_offset = base;
        self.header.leader_epoch = epoch;
        self.bytes = bytes.freeze();
        self
    }
}

/// The same bytes if nobody else holds them, and a copy otherwise.
fn mutable(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

/// Cuts `bytes` into its whole batches, checking each; a partial batch at the end is left out.
pub fn split_batches(mut bytes: Bytes) -> Result<Vec<RecordBatch>, BatchError> {
    let mut batches = Vec::new();
    loop {
        match BatchHeader::read(&bytes) {
            Ok(h) if h.total_len <= bytes.len() => batches.push(RecordBatch::check(bytes.split_to(h.total_len))?),
            Ok(_) | Err(HeaderError::Short { .. }) => return Ok(batches),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::BatchBuilder;

    #[test]
    fn a_crc_over_a_batch_goes_by_what_was_checked() {
        let before = crc32c::crc32c(b"what is before it");
        for len in [0, 100, COMBINED_FROM - HEADER_LEN + CRC_FROM, 100_000] {
            let batch = BatchBuilder::new(1).payload(len).build().assign(Offset(7), LeaderEpoch(3));
            assert_eq!(batch.crc_after(before), crc32c::crc32c_append(before, &batch.bytes), "{len}");
            let mut bytes = BytesMut::from(&batch.bytes[..]);
            bytes[HEADER_LEN - 1] ^= 1;
            let changed = RecordBatch { bytes: bytes.freeze(), ..batch };
            let fits = changed.crc_after(before) == crc32c::crc32c_append(before, &changed.bytes);
            assert_eq!(fits, len < COMBINED_FROM - HEADER_LEN + CRC_FROM, "{len}: what was changed since");
        }
    }
}
