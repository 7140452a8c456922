//! Blocks and operations as bytes; the layout is in the module above.

use super::Mark;
use crate::Op;
use crate::format::Format;
use bytes::Bytes;
use chronik_core::ids::{Lsn, Offset, PartitionId, TopicId, TopicPartition};
use chronik_core::record::{HEADER_LEN, RecordBatch};

pub(crate) const ALIGN: usize = 4096;
pub(crate) const HEADER: usize = 64;
const OP_HEADER: usize = 32;
/// The LSN in the header of a seal. No block has it, so that a seal is never a part of the chain.
const SEAL: Lsn = Lsn(u64::MAX);

pub(crate) const FORMAT: Format = Format { name: "write-ahead log", family: *b"CWB", oldest: 2, newest: 5 };

const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const DELETE: u8 = 3;
/// Not in version 2.
const ADVANCE_START: u8 = 4;
/// Not in version 3.
const BEGIN_AT: u8 = 5;
/// Not in version 4.
const REFERENCE: u8 = 6;

/// In the length of an append, which is zero otherwise. Not in version 4.
const ANNOUNCES: u8 = 1;
/// Bytes that follow a reference: the batch's header, zeroes, the segment's base offset, the byte in it.
const REFERENCE_LEN: usize = 80;

/// An operation as it is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry<'a> {
    /// With all that it has. An append may announce that batches behind the partition's end may be in its segment from
    /// then on without being part of the log.
    Whole { op: &'a Op, announces: bool },
    /// A batch that is in its segment already, durably once the round is.
    Reference { partition: TopicPartition, batch: &'a RecordBatch, place: Place },
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The base offset of its segment.
    pub(crate) base: Offset,
    /// The byte in that segment.
    pub(crate) position: u64,
}

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

    /// That of a seal, which is written at `lsn` when all before it is synced.
    pub(crate) fn seal(lsn: Lsn, segment: u64, mark: Mark) -> Self {
        Self {
            // So that all versions take its CRC for right, and its word for it.
            version: 3,
            payload_len: 0,
            payload_crc: crc32c::crc32c(&[]),
            lsn: SEAL,
            synced: lsn,
            segment,
            run: mark.run,
            ops: 0,
            nonce: mark.nonce,
        }
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

/// Bytes of the operation in a payload, if all that it has is written there.
pub(crate) fn op_len(op: &Op) -> usize {
    OP_HEADER + op_body(op).len()
}

/// The same, if a reference may stand for all that it has: that of a short batch is longer.
pub(crate) fn longest(op: &Op) -> usize {
    let reference = if matches!(op, Op::Append { .. }) { OP_HEADER + REFERENCE_LEN } else { 0 };
    op_len(op).max(reference)
}

/// What follows an operation's fixed part.
fn op_body(op: &Op) -> &[u8] {
    match op {
        Op::Append { batch, .. } => batch.bytes(),
        Op::BeginAt { producers, .. } => producers,
        Op::Truncate { .. } | Op::Repair { .. } | Op::AdvanceStart { .. } | Op::Delete { .. } => &[],
    }
}

/// The version that a block with these operations is written in: the oldest that knows them all.
pub(crate) fn block_version(entries: &[Entry<'_>]) -> u8 {
    let version = |entry: &Entry<'_>| match entry {
        Entry::Reference { .. } | Entry::Whole { announces: true, .. } => 5,
        Entry::Whole { op: Op::BeginAt { .. }, .. } => 4,
        Entry::Whole { .. } => 3,
    };
    entries.iter().map(version).max().unwrap_or(3)
}

/// The first bytes of an entry, which are made for it; the rest is its [`Entry::body`].
pub(crate) struct Head {
    bytes: [u8; OP_HEADER + REFERENCE_LEN],
    len: usize,
}

impl Head {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<'a> Entry<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole { op, .. } => op_len(op),
            Self::Reference { .. } => OP_HEADER + REFERENCE_LEN,
        }
    }

    pub(crate) fn body(&self) -> &'a [u8] {
        match self {
            Self::Whole { op, .. } => op_body(op),
            Self::Reference { .. } => &[],
        }
    }

    /// The CRC-32C of bytes whose CRC-32C is `before`, and of the body after them.
    pub(crate) fn crc_after(&self, before: u32) -> u32 {
        match self {
            Self::Whole { op: Op::Append { batch, .. }, .. } => batch.crc_after(before),
            _ => crc32c::crc32c_append(before, self.body()),
        }
    }

    pub(crate) fn head(&self) -> Head {
        let (kind, tp, value) = match self {
            Self::Whole { op, .. } => match op {
                Op::Append { partition, batch } => (APPEND, partition, batch.bytes().len() as i64),
                Op::Truncate { partition, to } | Op::Repair { partition, to } => (TRUNCATE, partition, to.0),
                Op::AdvanceStart { partition, to } => (ADVANCE_START, partition, to.0),
                Op::BeginAt { partition, at, .. } => (BEGIN_AT, partition, at.0),
                Op::Delete { partition } => (DELETE, partition, 0),
            },
            Self::Reference { partition, batch, .. } => (REFERENCE, partition, batch.bytes().len() as i64),
        };
        let mut h = [0; OP_HEADER + REFERENCE_LEN];
        h[0] = kind;
        match self {
            Self::Whole { op: Op::BeginAt { producers, .. }, .. } => {
                h[1..4].copy_from_slice(&(producers.len() as u32).to_le_bytes()[..3]);
            }
            Self::Whole { announces: true, .. } => h[1] = ANNOUNCES,
            _ => {}
        }
        h[4..8].copy_from_slice(&tp.partition.0.to_le_bytes());
        h[8..24].copy_from_slice(tp.topic.0.as_bytes());
        h[24..32].copy_from_slice(&value.to_le_bytes());
        let Self::Reference { batch, place, .. } = self else { return Head { bytes: h, len: OP_HEADER } };
        let (header, rest) = h[OP_HEADER..].split_at_mut(HEADER_LEN);
        header.copy_from_slice(&batch.bytes()[..HEADER_LEN]);
        let at = rest.len() - 16;
        rest[at..at + 8].copy_from_slice(&place.base.0.to_le_bytes());
        rest[at + 8..].copy_from_slice(&place.position.to_le_bytes());
        Head { bytes: h, len: OP_HEADER + REFERENCE_LEN }
    }
}

/// An operation as read back.
#[derive(Clone, Debug)]
pub(crate) struct LoggedOp {
    pub(crate) partition: TopicPartition,
    pub(crate) kind: LoggedKind,
}

#[derive(Clone, Debug)]
pub(crate) enum LoggedKind {
    Append {
        batch: Bytes,
        announces: bool,
    },
    /// The header of a batch, and where the batch is.
    Reference {
        header: Bytes,
        place: Place,
    },
    Truncate(Offset),
    AdvanceStart(Offset),
    BeginAt(Offset, Bytes),
    Delete,
}

/// Takes the next operation off the payload of a block; `None` if the bytes are none.
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
            LoggedKind::Append { batch: payload.split_to(len), announces: h[1] == ANNOUNCES }
        }
        REFERENCE => {
            let mut body = payload.split_to(Some(REFERENCE_LEN).filter(|len| *len <= payload.len())?);
            let at = REFERENCE_LEN - 16;
            let place = Place { base: Offset(u64_at(&body, at) as i64), position: u64_at(&body, at + 8) };
            LoggedKind::Reference { header: body.split_to(HEADER_LEN), place }
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
