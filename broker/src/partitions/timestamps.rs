//! Looking for a record by its timestamp (KIP-79, KIP-734). Reads the headers of a partition's batches, and the
//! records of the one batch that holds the answer. Not for an owner's own task: it waits for the disk.

use super::handle::{FoundOffset, OffsetSpec, ReadError};
use super::records::{self, Stamp};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::{BatchHeader, RecordBatch};
use chronik_log::{LogReader, ReadError as LogReadError, RealDisk};
use tracing::error;

/// What is looked for, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub(super) partition: TopicPartition,
    pub(super) spec: OffsetSpec,
    pub(super) from: Offset,
    /// The high watermark: what lies beyond is not committed.
    pub(super) up_to: Offset,
}

impl Search {
    /// `newest` are the batches in memory; what comes before them is on the disk.
    pub(super) fn run(&self, reader: &LogReader<RealDisk>, newest: &[RecordBatch]) -> Result<FoundOffset, ReadError> {
        let on_disk_end = newest.first().map_or(self.up_to, |b| b.header().base_offset.min(self.up_to));
        let mut best: Option<BatchHeader> = None;
        let scanned = reader.scan(self.partition, self.from, |header| {
            if header.end_offset() <= on_disk_end {
                self.consider(header, &mut best);
            }
        });
        match scanned {
            // The log begins with the first batch that is on the disk.
            Ok(()) | Err(LogReadError::UnknownPartition(_)) => {}
            Err(error) => return Err(self.failed(&error)),
        }
        for batch in newest.iter().filter(|b| b.header().end_offset() <= self.up_to) {
            self.consider(batch.header(), &mut best);
        }
        let Some(header) = best else { return Ok(FoundOffset { offset: None, timestamp: None, leader_epoch: None }) };
        let in_memory = newest.iter().find(|b| b.header().base_offset == header.base_offset).cloned();
        let batch = match in_memory {
            Some(batch) => batch,
            None => reader
                .read(self.partition, header.base_offset, header.end_offset(), 1)
                .map_err(|e| self.failed(&e))?
                .into_iter()
                .next()
                .ok_or(ReadError::Storage)?,
        };
        let stamp = self.within(&batch)?;
        Ok(FoundOffset {
            offset: stamp.map(|s| s.offset),
            timestamp: stamp.map(|s| s.timestamp),
            leader_epoch: stamp.map(|_| header.leader_epoch),
        })
    }

    fn consider(&self, header: &BatchHeader, best: &mut Option<BatchHeader>) {
        let better = match self.spec {
            OffsetSpec::Timestamp(at) => best.is_none() && header.max_timestamp >= at,
            _ => best.is_none_or(|b| header.max_timestamp > b.max_timestamp),
        };
        if better {
            *best = Some(*header);
        }
    }

    fn within(&self, batch: &RecordBatch) -> Result<Option<Stamp>, ReadError> {
        let at_least = match self.spec {
            OffsetSpec::Timestamp(at) => at,
            _ => batch.header().max_timestamp,
        };
        records::first_at_or_after(batch, at_least).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &dyn std::error::Error) -> ReadError {
        error!(partition = %self.partition, %error, "Cannot look for a timestamp");
        ReadError::Storage
    }
}
