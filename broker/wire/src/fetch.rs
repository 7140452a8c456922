//! Fetch's response, encoded around its records: they go out as the chunks that they came in.

use super::errors::ErrorCode;
use super::messages::{LeaderIdAndEpoch, NodeEndpoint, StrBytes, Uuid};
use super::request::Header;
use super::response::{Builder, Frame};
use bytes::Bytes;
use kafka_wire_core::{EncodeError, Encoder};

/// Fetch versions from here on have tagged fields.
const FLEXIBLE_FROM: i16 = 12;

/// Kafka's `FetchResponse`.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    /// An error of the whole request.
    pub error: ErrorCode,
    /// The session that the answer belongs to; 0 for none (KIP-227).
    pub session_id: i32,
    /// What was asked for, in the same order.
    pub topics: Vec<FetchedTopic>,
    /// Where the leaders are that the partitions name (KIP-951).
    pub endpoints: Vec<NodeEndpoint>,
}

/// One topic's part.
#[derive(Clone, Debug, Default)]
pub struct FetchedTopic {
    /// The name; on the wire before version 13.
    pub name: StrBytes,
    /// The id; on the wire from version 13 on.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// One partition's part.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// Its index.
    pub index: i32,
    /// The error.
    pub error: ErrorCode,
    /// The high watermark, which is the last stable offset as well; -1 if not known.
    pub high_watermark: i64,
    /// The log's first offset; -1 if not known.
    pub log_start: i64,
    /// Whether the client reads committed data only, and is answered that no transaction was aborted.
    pub read_committed: bool,
    /// Where the client's log went another way: epoch and end offset.
    pub diverging: Option<(i32, i64)>,
    /// The replica to fetch from instead; -1 for this one (KIP-392). On the wire from version 11 on.
    pub preferred_replica: i32,
    /// The leader, for a client that asked elsewhere.
    pub leader: Option<LeaderIdAndEpoch>,
    /// Whole batches.
    pub records: Vec<Bytes>,
}

impl FetchedPartition {
    /// An answer without records.
    pub fn failed(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            high_watermark: -1,
            log_start: -1,
            read_committed: false,
            diverging: None,
            preferred_replica: -1,
            leader: None,
            records: Vec::new(),
        }
    }

    /// Bytes of all records.
    pub fn records_len(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

impl FetchResponse {
    /// Encodes it for versions 4 to 18.
    pub fn encode(self, header: Header) -> Result<Frame, EncodeError> {
        let version = header.version;
        let flexible = version >= FLEXIBLE_FROM;
        let partitions: usize = self.topics.iter().map(|t| t.partitions.len()).sum();
        let mut b = Builder::new(header, 64 * (self.topics.len() + partitions) + 64);
        let mut e = Encoder::new(&mut b.own);
        e.write_i32(0)?;
        if version >= 7 {
            e.write_i16(self.error.0)?;
            e.write_i32(self.session_id)?;
        }
        array_len(&mut b, flexible, self.topics.len())?;
        for topic in self.topics {
            let mut e = Encoder::new(&mut b.own);
            if version >= 13 {
                e.write_uuid(topic.id)?;
            } else if flexible {
                e.write_compact_string(&topic.name)?;
            } else {
                e.write_string(&topic.name)?;
            }
            array_len(&mut b, flexible, topic.partitions.len())?;
            for partition in topic.partitions {
                partition.encode(&mut b, version)?;
            }
            if flexible {
                Encoder::new(&mut b.own).write_unsigned_varint(0)?;
            }
        }
        if flexible {
            let endpoints = if version >= 16 { self.endpoints.as_slice() } else { &[] };
            encode_endpoints(&mut b, endpoints)?;
        }
        Ok(b.finish())
    }
}

impl FetchedPartition {
    fn encode(self, b: &mut Builder, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let records_len = self.records_len();
        let mut e = Encoder::new(&mut b.own);
        e.write_i32(self.index)?;
        e.write_i16(self.error.0)?;
        e.write_i64(self.high_watermark)?;
        e.write_i64(self.high_watermark)?;
        if version >= 5 {
            e.write_i64(self.log_start)?;
        }
        // The aborted transactions: an empty list for those who asked, null for the others.
        match (flexible, self.read_committed) {
            (true, committed) => e.write_unsigned_varint(u32::from(committed))?,
            (false, true) => e.write_i32(0)?,
            (false, false) => e.write_i32(-1)?,
        }
        if version >= 11 {
            e.write_i32(self.preferred_replica)?;
        }
        // Never null: an empty set is what librdkafka understands.
        if flexible {
            e.write_unsigned_varint(records_len as u32 + 1)?;
        } else {
            e.write_i32(records_len as i32)?;
        }
        for batch in self.records {
            b.share(batch);
        }
        if flexible {
            let mut e = Encoder::new(&mut b.own);
            e.write_unsigned_varint(u32::from(self.diverging.is_some()) + u32::from(self.leader.is_some()))?;
            if let Some((epoch, end)) = self.diverging {
                e.write_unsigned_varint(0)?;
                e.write_unsigned_varint(4 + 8 + 1)?;
                e.write_i32(epoch)?;
                e.write_i64(end)?;
                e.write_unsigned_varint(0)?;
            }
            if let Some(leader) = self.leader {
                e.write_unsigned_varint(1)?;
                e.write_unsigned_varint(4 + 4 + 1)?;
                e.write_i32(leader.leader_id)?;
                e.write_i32(leader.leader_epoch)?;
                e.write_unsigned_varint(0)?;
            }
        }
        Ok(())
    }
}

fn array_len(b: &mut Builder, flexible: bool, len: usize) -> Result<(), EncodeError> {
    let mut e = Encoder::new(&mut b.own);
    if flexible { e.write_unsigned_varint(len as u32 + 1) } else { e.write_i32(len as i32) }
}

/// The response's tagged fields: none, or field 0 with the endpoints.
fn encode_endpoints(b: &mut Builder, endpoints: &[NodeEndpoint]) -> Result<(), EncodeError> {
    if endpoints.is_empty() {
        return Encoder::new(&mut b.own).write_unsigned_varint(0);
    }
    let mut field = bytes::BytesMut::new();
    let mut e = Encoder::new(&mut field);
    e.write_unsigned_varint(endpoints.len() as u32 + 1)?;
    for endpoint in endpoints {
        e.write_i32(endpoint.node_id)?;
        e.write_compact_string(&endpoint.host)?;
        e.write_i32(endpoint.port)?;
        e.write_compact_nullable_string(endpoint.rack.as_ref())?;
        e.write_unsigned_varint(0)?;
    }
    let mut e = Encoder::new(&mut b.own);
    e.write_unsigned_varint(1)?;
    e.write_unsigned_varint(0)?;
    e.write_unsigned_varint(field.len() as u32)?;
    e.write_raw_slice(&field)
}
