//! Produce's request, decoded into slices of its frame.
//!
//! It is read by hand and not by the generated codec for one reason: the number of partitions is bounded by what
//! the frame can hold (a partition without a batch's header is of no use to anyone), so that a frame of a hundred
//! megabytes of empty partitions is refused instead of being unfolded into a gigabyte of structures.

use super::messages::{StrBytes, Uuid};
use bytes::Bytes;
use chronik_core::record::HEADER_LEN;
use kafka_wire_core::{DecodeError, Decoder};

/// Partitions that a request may name however small it is, so that empty ones get a readable error.
const FREE_PARTITIONS: usize = 1024;

/// Kafka's `ProduceRequest`.
#[derive(Debug)]
pub struct ProduceRequest {
    /// The transaction's id, if the producer is transactional.
    pub transactional_id: Option<StrBytes>,
    /// -1 for all in-sync replicas, 0 for none, 1 for the leader; unchecked.
    pub acks: i16,
    /// How long to wait for the acknowledgement, in milliseconds.
    pub timeout_ms: i32,
    /// The data.
    pub topics: Vec<ProduceTopic>,
    /// Bytes of the frame that the records are slices of.
    pub frame_len: usize,
}

/// One topic's part.
#[derive(Debug)]
pub struct ProduceTopic {
    /// Which.
    pub topic: TopicRef,
    /// Partition indexes with their records, which should be one batch each.
    pub partitions: Vec<(i32, Option<Bytes>)>,
}

/// A topic as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRef {
    /// By name.
    Name(StrBytes),
    /// By id (KIP-516).
    Id(Uuid),
}

impl ProduceRequest {
    pub(super) fn decode(d: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        let (flexible, frame_len) = (version >= 9, d.remaining());
        let mut partitions_left = FREE_PARTITIONS + d.remaining() / HEADER_LEN;
        let transactional_id = if flexible { d.read_compact_nullable_string()? } else { d.read_nullable_string()? };
        let acks = d.read_i16()?;
        let timeout_ms = d.read_i32()?;
        let count = array_len(d, flexible, &mut partitions_left)?;
        let mut topics = Vec::new();
        for _ in 0..count {
            topics.push(ProduceTopic::decode(d, version, &mut partitions_left)?);
        }
        if flexible {
            d.read_tagged_fields()?;
        }
        Ok(Self { transactional_id, acks, timeout_ms, topics, frame_len })
    }
}

impl ProduceTopic {
    fn decode(d: &mut Decoder, version: i16, partitions_left: &mut usize) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let topic = match version {
            13.. => TopicRef::Id(d.read_uuid()?),
            9..=12 => TopicRef::Name(d.read_compact_string()?),
            _ => TopicRef::Name(d.read_string()?),
        };
        let count = array_len(d, flexible, partitions_left)?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            let index = d.read_i32()?;
            let records = if flexible { d.read_compact_nullable_bytes()? } else { d.read_nullable_bytes()? };
            if flexible {
                d.read_tagged_fields()?;
            }
            partitions.push((index, records));
        }
        if flexible {
            d.read_tagged_fields()?;
        }
        Ok(Self { topic, partitions })
    }
}

/// Reads an array's length, and takes it from what the frame may still have.
fn array_len(d: &mut Decoder, flexible: bool, left: &mut usize) -> Result<usize, DecodeError> {
    let offset = d.offset();
    let length = if flexible { d.read_compact_array_len()? } else { d.read_array_len()? }.get();
    match left.checked_sub(length) {
        Some(rest) => *left = rest,
        None => return Err(DecodeError::LimitExceeded { kind: "array", length, limit: *left, offset }),
    }
    Ok(length)
}
