//! A disk that keeps what was committed, and by chance some of what was being committed.

use super::{Bounds, Cleaned, DELETE_RETENTION_MS, Logs, Opened, Storage, apply};
use crate::rng::Rng;
use chronik_core::compaction::{Filtered, OffsetMap, Rules};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::producers::Producers;
use chronik_log::Op;
use std::collections::BTreeSet;

/// Bytes that stay as they are: those of the segment that is appended to.
const OPEN_BYTES: usize = 1_000;

/// What is on the disk.
#[derive(Debug, Default)]
pub(crate) struct ModelDisk {
    logs: Logs,
}

impl Storage for ModelDisk {
    fn open(&mut self) -> Result<Opened, String> {
        Ok(Opened { logs: self.logs.clone(), ..Opened::default() })
    }

    fn commit(&mut self, ops: &[Op]) -> Result<(), String> {
        for op in ops {
            apply(&mut self.logs, op);
        }
        Ok(())
    }

    fn crash(&mut self, unfinished: &[Op], rng: &mut Rng) {
        let survives = rng.index(unfinished.len() + 1);
        for op in &unfinished[..survives] {
            apply(&mut self.logs, op);
        }
    }

    fn clean(
        &mut self,
        tp: TopicPartition,
        committed: Offset,
        producers: &BTreeSet<Offset>,
        now_ms: i64,
        rng: &mut Rng,
    ) -> Result<Cleaned, String> {
        let Some(log) = self.logs.get_mut(&tp) else { return Ok(Cleaned::Nothing) };
        let mut open = 0;
        let closed = log.batches.iter().rposition(|batch| {
            open += batch.bytes().len();
            open > OPEN_BYTES
        });
        let until = closed.unwrap_or(0).min(log.batches.partition_point(|b| b.header().end_offset() <= committed));
        // What was known of producers further on must not be forgotten: what is open may be more batches by now, as these
        // have become short.
        let cut = log.batches.get(until.saturating_sub(1)).map_or(log.start, |last| last.header().end_offset());
        if until == 0 || log.snapshot.as_ref().is_some_and(|(at, _)| *at >= cut) {
            return Ok(Cleaned::Nothing);
        }
        let mut latest = OffsetMap::new(1 << 12, 64, (rng.any(), rng.any()));
        for record in log.batches[..until].iter().flat_map(|batch| batch.contents(u64::MAX).unwrap_or_default()) {
            let Some(key) = record.key else { continue };
            latest.put(&key, record.offset).map_err(|_| "no room for the keys")?;
        }
        let to = cut;
        let delete_retention_ms = DELETE_RETENTION_MS;
        let rules = Rules { latest: &latest, to, now_ms, delete_retention_ms, max_decompressed: u64::MAX };
        let mut cleaned = Vec::new();
        for (n, batch) in log.batches.iter().enumerate() {
            let (base, end) = (batch.header().base_offset, batch.header().end_offset());
            let begins_epoch = log.epochs.iter().any(|(_, begins)| *begins == base);
            let stays = n == 0 || n + 1 == until || begins_epoch || producers.contains(&end);
            match if n < until { rules.filter(batch, stays).map_err(|e| e.to_string())? } else { Filtered::Same } {
                Filtered::Same => cleaned.push(batch.clone()),
                Filtered::Rewritten(batch) => cleaned.push(batch),
                Filtered::Nothing => {}
            }
        }
        if cleaned.len() == log.batches.len() {
            return Ok(Cleaned::Nothing);
        }
        // The real log has snapshots too. What is committed is not cut off again.
        let mut closed = log.clone();
        closed.batches.truncate(until);
        log.snapshot = Some((cut, crate::node::log_state(&closed).producers));
        log.batches = cleaned;
        Ok(Cleaned::Log(Box::new(log.clone())))
    }

    /// Its syncs do not fail.
    fn fail_sync_after(&mut self, _: u64) {}

    fn has_failed(&self) -> bool {
        false
    }

    /// It keeps its bits.
    fn rot(&mut self, _: &mut Rng) {}

    fn lose_a_bit(&mut self, _: TopicPartition, _: Offset, _: &mut Rng) -> Result<Option<Offset>, String> {
        Ok(None)
    }

    fn lost_from(&self, _: TopicPartition) -> Option<Offset> {
        None
    }

    fn bounds(&self, _: TopicPartition) -> Option<Bounds> {
        None
    }

    fn producers(&self, _: TopicPartition) -> Option<Producers> {
        None
    }

    fn wipe(&mut self, _: &mut Rng) {
        self.logs.clear();
    }
}
