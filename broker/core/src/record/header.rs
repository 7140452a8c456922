//! The header of a record batch, version 2.
//!
//! Layout (big endian), as in Kafka's `DefaultRecordBatch`: base offset 8, batch length 4, partition
//! leader epoch 4, magic 1, CRC-32C 4 (of all that follows it), attributes 2, last offset delta 4, base
//! timestamp 8, max timestamp 8, producer id 8, producer epoch 2, base sequence 4, record count 4.

use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Bytes before the first record of a batch.
pub const HEADER_LEN: usize = 61;

/// Where the batch length field ends: a batch is `LOG_OVERHEAD + batch_length` bytes long.
pub(super) const LOG_OVERHEAD: usize = 12;
/// Where the bytes start that the CRC covers.
pub(super) const CRC_FROM: usize = 21;

/// The attributes that say how the records are compressed.
pub(super) const COMPRESSION: i16 = 0x07;
/// The attribute of a batch that belongs to a transaction.
pub(super) const TRANSACTIONAL: i16 = 0x10;
/// The attribute of a batch that is a transaction marker.
pub(super) const CONTROL: i16 = 0x20;
/// The attribute of a batch whose base timestamp says until when its tombstones stay (KIP-534).
const DELETE_HORIZON: i16 = 0x40;
/// The attribute of a batch whose timestamps are the broker's.
pub(super) const LOG_APPEND_TIME: i16 = 0x08;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// What a value of `compression.type` asks for; `None` for `producer`, which leaves batches as they are.
    pub fn of_config(value: &str) -> Option<Self> {
        match value {
            "uncompressed" => Some(Self::None),
            "gzip" => Some(Self::Gzip),
            "snappy" => Some(Self::Snappy),
            "lz4" => Some(Self::Lz4),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Whose clock a batch's timestamps are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, at append.
    LogAppendTime,
}

/// The fields of a batch header. Plain numbers as read: [`super::RecordBatch::validate`] judges them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the whole batch, header included.
    pub total_len: usize,
    /// The epoch of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
    /// The CRC-32C that the batch carries.
    pub crc: u32,
    /// Compression, timestamp type, transactional and control flags.
    pub attributes: i16,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 of the first record.
    pub base_timestamp: i64,
    /// The greatest timestamp in the batch, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// The idempotent producer, if there is one.
    pub producer_id: Option<ProducerId>,
    /// That producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// That producer's sequence number of the first record.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

/// Why bytes are not the header of a record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header, or than the header's length field says.
    #[error("{have} bytes where a record batch needs {need}")]
    Short {
        /// Bytes that are there.
        have: usize,
        /// Bytes that are needed.
        need: usize,
    },
    /// A length field that no batch can have.
    #[error("batch length {0} is impossible")]
    Length(i32),
    /// An old message format, or no batch at all.
    #[error("record format magic {0} is not supported; only magic 2 is")]
    Magic(i8),
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`. The batch's body need not be there.
    pub fn read(bytes: &[u8]) -> Result<Self, HeaderError> {
        // The magic byte stands at the same place in all formats: old ones get their own answer.
        if bytes.len() > 16 && bytes[16] as i8 != 2 {
            return Err(HeaderError::Magic(bytes[16] as i8));
        }
        let Some(h) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(HeaderError::Short { have: bytes.len(), need: HEADER_LEN });
        };
        let batch_length = i32_at(h, 8);
        let total_len = usize::try_from(batch_length)
            .ok()
            .map(|n| n + LOG_OVERHEAD)
            .filter(|n| *n >= HEADER_LEN)
            .ok_or(HeaderError::Length(batch_length))?;
        let producer_id = i64_at(h, 43);
        Ok(Self {
            base_offset: Offset(i64_at(h, 0)),
            total_len,
            leader_epoch: LeaderEpoch(i32_at(h, 12)),
            crc: i32_at(h, 17) as u32,
            attributes: i16_at(h, 21),
            last_offset_delta: i32_at(h, 23),
            base_timestamp: i64_at(h, 27),
            max_timestamp: i64_at(h, 35),
            producer_id: (producer_id >= 0).then_some(ProducerId(producer_id)),
            producer_epoch: ProducerEpoch(i16_at(h, 51)),
            base_sequence: i32_at(h, 53),
            record_count: i32_at(h, 57),
        })
    }

    /// The offset after the batch's last record.
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta) + 1)
    }

    /// The sequence number of the batch's last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last % (i64::from(i32::MAX) + 1)) as i32
    }

    /// The batch's compression, if it is a known one.
    pub fn compression(&self) -> Option<Compression> {
        match self.attributes & COMPRESSION {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Whose clock the timestamps are from.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// Until when tombstones in it stay, in milliseconds since 1970, if compaction has set that (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Sets until when tombstones stay. The base timestamp, to which those of records are relative, is what says so.
    pub fn set_delete_horizon_ms(&mut self, until: i64) {
        self.attributes |= DELETE_HORIZON;
        self.base_timestamp = until;
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a transaction marker and not a user's records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
}

fn i16_at(h: &[u8; HEADER_LEN], at: usize) -> i16 {
    i16::from_be_bytes([h[at], h[at + 1]])
}

fn i32_at(h: &[u8; HEADER_LEN], at: usize) -> i32 {
    i32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]])
}

fn i64_at(h: &[u8; HEADER_LEN], at: usize) -> i64 {
    (i64::from(i32_at(h, at)) << 32) | i64::from(i32_at(h, at + 4) as u32)
}
