//! Producers as bytes, for snapshots. Little endian: the log's clock 8, the greatest id that was forgotten or -1 8,
//! producers 4, and for each, those first that have not written for the longest: id 8, epoch 2, flags 1 (1: all of its
//! incarnation since its first batch was seen), batches 1, the timestamp of the last 8, the log's clock then 8, and for
//! each batch: first and last sequence 4 each, first offset 8, offset after the last 8. Whoever keeps them keeps a
//! checksum and a version beside them.

use super::history::{History, REMEMBERED, Written};
use super::sorted::Sorted;
use super::{MAX_PRODUCERS, Producers};
use crate::ids::{Offset, ProducerEpoch, ProducerId};

const FROM_START: u8 = 1;
/// Of all together, of each producer, and of each of its batches.
const HEAD_LEN: usize = 20;
const PRODUCER_LEN: usize = 28;
const BATCH_LEN: usize = 24;
/// No more bytes than these are what [`Producers::encode`] adds: a megabyte and two thirds.
pub const MAX_ENCODED_LEN: usize = HEAD_LEN + MAX_PRODUCERS * (PRODUCER_LEN + REMEMBERED * BATCH_LEN);

impl Producers {
    /// Adds this to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.clock.to_le_bytes());
        out.extend_from_slice(&self.forgot.map_or(-1, |id| id.0).to_le_bytes());
        out.extend_from_slice(&(self.by_end.len() as u32).to_le_bytes());
        for (id, history) in self.by_end.values().filter_map(|id| Some((id, self.by_id.get(id)?))) {
            out.extend_from_slice(&id.0.to_le_bytes());
            out.extend_from_slice(&history.epoch.0.to_le_bytes());
            out.push(if history.from_start { FROM_START } else { 0 });
            out.push(history.batches.len() as u8);
            out.extend_from_slice(&history.last_timestamp.to_le_bytes());
            out.extend_from_slice(&history.clock.to_le_bytes());
            for batch in &history.batches {
                out.extend_from_slice(&batch.base_sequence.to_le_bytes());
                out.extend_from_slice(&batch.last_sequence.to_le_bytes());
                out.extend_from_slice(&batch.base_offset.0.to_le_bytes());
                out.extend_from_slice(&batch.end_offset.0.to_le_bytes());
            }
        }
    }

    /// How many bytes [`Self::encode`] adds.
    pub fn encoded_len(&self) -> usize {
        HEAD_LEN + self.by_id.len() * PRODUCER_LEN + self.batches * BATCH_LEN
    }

    /// What [`Self::encode`] has written; `None` if the bytes are none of its.
    pub fn decode(mut bytes: &[u8], expiration_ms: i64) -> Option<Self> {
        let mut producers = Self::new(expiration_ms);
        let bytes = &mut bytes;
        producers.clock = i64::from_le_bytes(take(bytes)?);
        let forgot = i64::from_le_bytes(take(bytes)?);
        producers.forgot = (forgot >= 0).then_some(ProducerId(forgot));
        for _ in 0..u32::from_le_bytes(take(bytes)?) {
            let id = ProducerId(i64::from_le_bytes(take(bytes)?));
            let epoch = ProducerEpoch(i16::from_le_bytes(take(bytes)?));
            let [flags, batches] = take(bytes)?;
            let (last_timestamp, clock) = (i64::from_le_bytes(take(bytes)?), i64::from_le_bytes(take(bytes)?));
            let batches = (0..batches).map(|_| written(bytes)).collect::<Option<Vec<_>>>()?;
            let from_start = flags & FROM_START != 0;
            let history = History { epoch, from_start, last_timestamp, clock, batches };
            let right = (1..=REMEMBERED).contains(&history.batches.len())
                && history.batches.is_sorted_by(|a, b| a.end_offset <= b.base_offset)
                && producers.by_end.last().is_none_or(|(end, _)| *end < history.end())
                && producers.by_id.get(&id).is_none();
            if !right || producers.by_id.len() == MAX_PRODUCERS {
                return None;
            }
            producers.insert(id, Some(history));
        }
        producers.expire();
        bytes.is_empty().then_some(producers)
    }

    /// What was known of the batches before `offset`, as far as it is remembered: of a producer that has written more
    /// than a few batches since, nothing.
    #[must_use]
    pub fn before(&self, offset: Offset) -> Self {
        let mut before = Self { by_id: Sorted::new(), by_end: Sorted::new(), batches: 0, ..*self };
        for (id, history) in self.by_id.iter() {
            let mut history = history.clone();
            history.batches.retain(|batch| batch.end_offset <= offset);
            if !history.batches.is_empty() {
                before.insert(*id, Some(history));
            }
        }
        before
    }
}

fn written(bytes: &mut &[u8]) -> Option<Written> {
    Some(Written {
        base_sequence: i32::from_le_bytes(take(bytes)?),
        last_sequence: i32::from_le_bytes(take(bytes)?),
        base_offset: Offset(i64::from_le_bytes(take(bytes)?)),
        end_offset: Offset(i64::from_le_bytes(take(bytes)?)),
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}
