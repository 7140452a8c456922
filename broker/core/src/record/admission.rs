//! What a topic asks of the records in a producer's batch, as Kafka's `LogValidator` checks it.

use super::walk::{Record, WalkError};
use super::{Compression, RecordBatch, TimestampType};
use std::ops::ControlFlow;

/// Record errors that are listed; more are only counted. Each costs many times the bytes of the record that it is of.
const LISTED: usize = 100;

/// Kafka's default of `message.timestamp.after.max.ms` (KIP-937): one hour.
pub const TIMESTAMP_AFTER_MAX_MS: i64 = 3_600_000;

/// What the records of a batch must be.
#[derive(Clone, Copy, Debug)]
pub struct RecordRules {
    /// Milliseconds since 1970 at the broker.
    pub now_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far timestamps may lie in the past.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far timestamps may lie in the future.
    pub after_max_ms: i64,
    /// Whether each record needs a key, as in a compacted topic.
    pub keyed: bool,
    /// Bytes that a batch may decompress to.
    pub max_decompressed: u64,
    /// How the batch is kept (`compression.type`); `None` leaves it as it was sent.
    pub compression: Option<Compression>,
}

/// What the records of a batch say, where the batch's header may say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Whose clock the timestamps are from.
    pub timestamp_type: TimestampType,
    /// The greatest timestamp, in milliseconds since 1970; -1 if there is none.
    pub max_timestamp: i64,
    /// The first record that has it, relative to the base offset.
    pub max_timestamp_delta: i32,
}

/// Why the records of a batch are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// They cannot be read.
    #[error(transparent)]
    Unreadable(#[from] WalkError),
    /// Some are not what the topic takes.
    #[error("{count} of the batch's records are rejected; record {}: {}", first.index, first.reason)]
    Rejected {
        /// How many.
        count: u32,
        /// The first one.
        first: RecordError,
        /// Those after it, as far as they are listed.
        others: Vec<RecordError>,
    },
}

/// Why a record is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// Why.
    pub reason: Reason,
}

/// What can be wrong with a record that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No key, where the topic is compacted.
    #[error("a compacted topic takes no records without a key")]
    NoKey,
    /// A timestamp too far from now.
    #[error("timestamp {timestamp} is not between {least} and {most}")]
    TimestampOutOfRange {
        /// The record's.
        timestamp: i64,
        /// The least that is taken.
        least: i64,
        /// The greatest that is taken.
        most: i64,
    },
    /// The producer says that the timestamps are the broker's.
    #[error("a producer may not set the timestamp type LogAppendTime")]
    TimestampType,
}

impl Reason {
    /// Whether Kafka answers with `INVALID_TIMESTAMP`, and not with `INVALID_RECORD`.
    pub fn is_timestamp(self) -> bool {
        !matches!(self, Self::NoKey)
    }
}

impl RecordsError {
    /// The records that are rejected, as far as they are listed.
    pub fn rejected(&self) -> impl Iterator<Item = &RecordError> {
        let (first, others) = match self {
            Self::Unreadable(_) => (None, &[][..]),
            Self::Rejected { first, others, .. } => (Some(first), &others[..]),
        };
        first.into_iter().chain(others)
    }
}

impl RecordBatch {
    /// Reads every record, and checks that it is as the format and `rules` want it and that offsets are consecutive
    /// from 0.
    pub fn examine(&self, rules: &RecordRules) -> Result<Examined, RecordsError> {
        let least = rules.now_ms.saturating_sub(rules.before_max_ms);
        let most = rules.now_ms.saturating_add(rules.after_max_ms);
        let log_append_time = rules.timestamp_type == TimestampType::LogAppendTime;
        let sent_log_append_time = self.header().timestamp_type() == TimestampType::LogAppendTime;
        let reject = |record: &Record| {
            if rules.keyed && !record.has_key {
                return Some(Reason::NoKey);
            }
            if log_append_time {
                return sent_log_append_time.then_some(Reason::TimestampType);
            }
            let timestamp = record.timestamp;
            // -1 is no timestamp at all.
            (timestamp != -1 && !(least..=most).contains(&timestamp)).then_some(Reason::TimestampOutOfRange {
                timestamp,
                least,
                most,
            })
        };
        let (mut max_timestamp, mut max_timestamp_delta) = (-1, 0);
        let mut count = 0;
        let mut errors = Vec::new();
        let stopped = self.walk(rules.max_decompressed, |record| {
            if record.offset_delta != record.index {
                return ControlFlow::Break(record.index);
            }
            if record.timestamp > max_timestamp {
                (max_timestamp, max_timestamp_delta) = (record.timestamp, record.index);
            }
            if let Some(reason) = reject(&record) {
                count += 1;
                if errors.len() < LISTED {
                    errors.push(RecordError { index: record.index, reason });
                }
            }
            ControlFlow::Continue(())
        })?;
        if let Some(record) = stopped {
            let what = "offset deltas are not consecutive from 0";
            return Err(WalkError::Malformed { record, what }.into());
        }
        let mut errors = errors.into_iter();
        if let Some(first) = errors.next() {
            return Err(RecordsError::Rejected { count, first, others: errors.collect() });
        }
        if log_append_time {
            (max_timestamp, max_timestamp_delta) = (rules.now_ms, 0);
        }
        Ok(Examined { timestamp_type: rules.timestamp_type, max_timestamp, max_timestamp_delta })
    }

    /// [`Self::examine`], and the header and the compression put right.
    pub fn admit(self, rules: &RecordRules) -> Result<Self, RecordsError> {
        let examined = self.examine(rules)?;
        let batch = match rules.compression {
            Some(codec) => self.recompressed(codec, rules.max_decompressed)?,
            None => self,
        };
        Ok(batch.stamped(&examined))
    }
}
