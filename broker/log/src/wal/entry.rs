//! Blocks and operations as bytes; the layout is in the module above.

use crate::Op;
use crate::format::Format;
use bytes::Bytes;
use chronik_core::ids::{Lsn, Offset, PartitionId, TopicId, TopicPartition};

pub(crate) const ALIGN: usize = 4096;
pub(crate) const HEADER: usize = 64;
const OP_HEADER: usize = 32;

pub(crate) const FORMAT: Format = Format { name: "write-ahead log", family: *b"CWB", oldest: 2, newest: 4 };

const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const DELETE: u8 = 3;
/// Not in version 2.
const ADVANCE_START: u8 = 4;
/// Not in version 3.
const BEGIN_AT: u8 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) version: u8,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) lsn: Lsn,
    pub(crate) synced: Lsn,
    pub(crate) segment: u64,
    pub(crate) run: u64,
    pub(crate) ops: u32,
    pub(crate) nonce: u64,
}

impl BlockHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut h = [0; HEADER];
        h[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        h[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        h[16..24].copy_from_slice(&self.lsn.0.to_le_bytes());
        h[24..32].copy_from_slice(&self.synced.0.to_le_bytes());
        h[32..40].copy_from_slice(&self.segment.to_le_bytes());
        h[40..48].copy_from_slice(&self.run.to_le_bytes());
        h[48..52].copy_from_slice(&self.ops.to_le_bytes());
        h[56..64].copy_from_slice(&self.nonce.to_le_bytes());
        FORMAT.seal(self.version, &mut h);
        h
    }

    /// The header, whose fields have their places in all versions.
    pub(crate) fn decode(h: &[u8; HEADER]) -> Option<Self> {
        Some(Self {
            version: FORMAT.version(h)?,
            payload_len: u32_at(h, 8),
            payload_crc: u32_at(h, 12),
            lsn: Lsn(u64_at(h, 16)),
            synced: Lsn(u64_at(h, 24)),
            segment: u64_at(h, 32),
            run: u64_at(h, 40),
            ops: u32_at(h, 48),
            nonce: u64_at(h, 56),
        })
    }

    /// Bytes of the whole block.
    pub(crate) fn block_len(&self) -> u64 {
        block_len(self.payload_len as usize) as u64
    }
}

/// Bytes of a block with that payload.
pub(crate) fn block_len(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

/// Bytes of the operation in a payload.
pub(crate) fn op_len(op: &Op) -> usize {
    match op {
        Op::Append { .. } | Op::BeginAt { .. } => OP_HEADER + op_body(op).len(),
        Op::Truncate { .. } | Op::AdvanceStart { .. } | Op::Delete { .. } => OP_HEADER,
    }
}

/// What follows an operation's fixed part.
pub(crate) fn op_body(op: &Op) -> &[u8] {
    match op {
        Op::Append { batch, .. } => batch.bytes(),
        Op::BeginAt { producers, .. } => producers,
        Op::Truncate { .. } | Op::AdvanceStart { .. } | Op::Delete { .. } => &[],
    }
}

/// The version that a block with these operations is written in: the oldest that knows them all.
pub(crate) fn block_version(ops: &[Op]) -> u8 {
    if ops.iter().any(|op| matches!(op, Op::BeginAt { .. })) { 4 } else { 3 }
}

/// The operation's fixed part.
pub(crate) fn encode_op(op: &Op) -> [u8; OP_HEADER] {
    let (kind, tp, value) = match op {
        Op::Append { partition, batch } => (APPEND, partition, batch.bytes().len() as i64),
        Op::Truncate { partition, to } => (TRUNCATE, partition, to.0),
        Op::AdvanceStart { partition, to } => (ADVANCE_START, partition, to.0),
        Op::BeginAt { partition, at, .. } => (BEGIN_AT, partition, at.0),
        Op::Delete { partition } => (DELETE, partition, 0),
    };
    let mut h = [0; OP_HEADER];
    if let Op::BeginAt { producers, .. } = op {
        h[1..4].copy_from_slice(&(producers.len() as u32).to_le_bytes()[..3]);
    }
    h[0] = kind;
    h[4..8].copy_from_slice(&tp.partition.0.to_le_bytes());
    h[8..24].copy_from_slice(tp.topic.0.as_bytes());
    h[24..32].copy_from_slice(&value.to_le_bytes());
    h
}

/// An operation as read back.
#[derive(Clone, Debug)]
pub(crate) struct LoggedOp {
    pub(crate) partition: TopicPartition,
    pub(crate) kind: LoggedKind,
}

#[derive(Clone, Debug)]
pub(crate) enum LoggedKind {
    Append(Bytes),
    Truncate(Offset),
    AdvanceStart(Offset),
    BeginAt(Offset, Bytes),
    Delete,
}

/// Takes the next operation off the payload; `None` if the bytes are none.
pub(crate) fn decode_op(payload: &mut Bytes) -> Option<LoggedOp> {
    let h = *payload.first_chunk::<OP_HEADER>()?;
    let mut topic = [0; 16];
    topic.copy_from_slice(&h[8..24]);
    let partition =
        TopicPartition { topic: TopicId(uuid::Uuid::from_bytes(topic)), partition: PartitionId(u32_at(&h, 4) as i32) };
    let value = u64_at(&h, 24);
    let _ = payload.split_to(OP_HEADER);
    let kind = match h[0] {
        APPEND => {
            let len = usize::try_from(value).ok().filter(|len| *len <= payload.len())?;
            LoggedKind::Append(payload.split_to(len))
        }
        TRUNCATE => LoggedKind::Truncate(Offset(value as i64)),
        ADVANCE_START => LoggedKind::AdvanceStart(Offset(value as i64)),
        BEGIN_AT => {
            let len = u32_at(&[h[1], h[2], h[3], 0], 0) as usize;
            LoggedKind::BeginAt(Offset(value as i64), payload.split_to(Some(len).filter(|len| *len <= payload.len())?))
        }
        DELETE => LoggedKind::Delete,
        _ => return None,
    };
    Some(LoggedOp { partition, kind })
}

fn u32_at(h: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]])
}

fn u64_at(h: &[u8], at: usize) -> u64 {
    u64::from(u32_at(h, at)) | u64::from(u32_at(h, at + 4)) << 32
}
