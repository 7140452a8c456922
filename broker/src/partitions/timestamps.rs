//! Looking for a record by its timestamp (KIP-79, KIP-734). Reads the headers of a partition's batches, and the
//! records of the one batch that holds the answer. Not for an owner's own task: it waits for the disk.

use super::handle::{FoundOffset, OffsetSpec, ReadError};
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::{BatchHeader, RecordBatch, Stamp};
use chronik_log::{LogReader, ReadError as LogReadError, RealDisk};
use tracing::{error, warn};

/// Batches whose header promises a record that is not in them are passed over, but only so many: each costs a scan.
const MOST_PASSED_OVER: usize = 64;

/// A batch that decompresses to more is passed over like one that cannot be read.
const MAX_DECOMPRESSED: u64 = 4 << 30;

/// What is looked for, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub(super) partition: TopicPartition,
    pub(super) spec: OffsetSpec,
    /// The log's start: no record before it is an answer, also where the start cuts through a batch.
    pub(super) from: Offset,
    /// The high watermark: what lies beyond is not committed.
    pub(super) up_to: Offset,
}

impl Search {
    /// `newest` are the batches in memory; what comes before them is on the disk.
    pub(super) fn run(self, reader: &LogReader<RealDisk>, newest: &[RecordBatch]) -> Result<FoundOffset, ReadError> {
        let mut search = self;
        loop {
            match search.once(reader, newest) {
                // Records have left meanwhile. The start only moves up, by segments or as somebody asks for it.
                Err(LogReadError::BelowStart { start, .. }) if start > search.from => search.from = start,
                Err(error) => {
                    error!(partition = %self.partition, %error, "Cannot look for a timestamp");
                    return Err(ReadError::Storage);
                }
                Ok(found) => return Ok(found),
            }
        }
    }

    fn once(&self, reader: &LogReader<RealDisk>, newest: &[RecordBatch]) -> Result<FoundOffset, LogReadError> {
        let (mut passed_over, mut cut) = (None, None);
        for _ in 0..MOST_PASSED_OVER {
            let Some(batch) = self.best(reader, newest, passed_over.as_ref())? else { break };
            if let Some(stamp) = self.within(&batch) {
                // What is left of a batch that the start cuts through comes before all others.
                let greater = |(left, _): &(Stamp, _)| left.timestamp >= stamp.timestamp;
                return Ok(found(cut.filter(greater).or(Some((stamp, batch.header().leader_epoch)))));
            }
            if batch.header().base_offset < self.from {
                cut = self.greatest_left(&batch).map(|stamp| (stamp, batch.header().leader_epoch));
            }
            passed_over = Some(*batch.header());
        }
        Ok(found(cut))
    }

    /// The batch that should have the answer by what its header says, after those that were passed over.
    fn best(
        &self,
        reader: &LogReader<RealDisk>,
        newest: &[RecordBatch],
        passed_over: Option<&BatchHeader>,
    ) -> Result<Option<RecordBatch>, LogReadError> {
        let on_disk_end = newest.first().map_or(self.up_to, |b| b.header().base_offset.min(self.up_to));
        let from = match (self.spec, passed_over) {
            (OffsetSpec::Timestamp(_), Some(passed)) => passed.end_offset().max(self.from),
            _ => self.from,
        };
        let on_disk = match (self.spec, passed_over) {
            (OffsetSpec::Timestamp(_), _) | (_, None) if from >= on_disk_end => Ok(None),
            // The log knows the greatest timestamp of each segment, and reads one of them.
            (OffsetSpec::Timestamp(at), _) => reader.first_at_or_after(self.partition, at, from, on_disk_end),
            (_, None) => reader.greatest_timestamp(self.partition, self.from, on_disk_end),
            (_, Some(passed)) => {
                while let Some(header) = self.scan(reader, newest, on_disk_end, passed)? {
                    let batch = self.batch(&header, reader, newest)?;
                    // Compaction may have removed it meanwhile, and there may be another one.
                    if batch.is_some() {
                        return Ok(batch);
                    }
                }
                return Ok(None);
            }
        };
        let on_disk = match on_disk {
            Ok(batch) => batch,
            // The log begins with the first batch that is on the disk.
            Err(LogReadError::UnknownPartition(_)) => None,
            Err(error) => return Err(error),
        };
        let is_left = |b: &&RecordBatch| {
            self.may_contain(b.header()) && passed_over.is_none_or(|p| self.is_before(p, b.header()))
        };
        let committed = self.committed(newest).filter(is_left).cloned();
        let better = |a: RecordBatch, b: RecordBatch| if self.is_before(b.header(), a.header()) { b } else { a };
        Ok(on_disk.into_iter().chain(committed).reduce(better))
    }

    /// Goes over all headers for the next greatest timestamp after one whose batch was passed over.
    fn scan(
        &self,
        reader: &LogReader<RealDisk>,
        newest: &[RecordBatch],
        on_disk_end: Offset,
        passed: &BatchHeader,
    ) -> Result<Option<BatchHeader>, LogReadError> {
        let mut best: Option<BatchHeader> = None;
        let mut consider = |header: &BatchHeader| {
            if self.is_before(passed, header) && best.as_ref().is_none_or(|b| self.is_before(header, b)) {
                best = Some(*header);
            }
        };
        if self.from < on_disk_end {
            let scanned = reader.scan(self.partition, self.from, |header| {
                if header.end_offset() <= on_disk_end {
                    consider(header);
                }
            });
            match scanned {
                Ok(()) | Err(LogReadError::UnknownPartition(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for batch in self.committed(newest) {
            consider(batch.header());
        }
        Ok(best)
    }

    /// Those of the batches in memory that may hold the answer. They stay there when the log's start moves past them.
    fn committed<'a>(&self, newest: &'a [RecordBatch]) -> impl Iterator<Item = &'a RecordBatch> {
        let (from, up_to) = (self.from, self.up_to);
        newest.iter().filter(move |batch| {
            let end = batch.header().end_offset();
            end > from && end <= up_to
        })
    }

    fn batch(
        &self,
        header: &BatchHeader,
        reader: &LogReader<RealDisk>,
        newest: &[RecordBatch],
    ) -> Result<Option<RecordBatch>, LogReadError> {
        if let Some(batch) = newest.iter().find(|b| b.header().base_offset == header.base_offset) {
            return Ok(Some(batch.clone()));
        }
        let from = header.base_offset.max(self.from);
        Ok(reader.read(self.partition, from, header.end_offset(), 1)?.into_iter().next())
    }

    fn may_contain(&self, header: &BatchHeader) -> bool {
        match self.spec {
            OffsetSpec::Timestamp(at) => header.max_timestamp >= at,
            _ => true,
        }
    }

    /// Whether `a` is to be asked before `b`: it comes earlier in the log, or, for the greatest timestamp, it has a
    /// greater one.
    fn is_before(&self, a: &BatchHeader, b: &BatchHeader) -> bool {
        match self.spec {
            OffsetSpec::Timestamp(_) => a.base_offset < b.base_offset,
            _ => (b.max_timestamp, a.base_offset) < (a.max_timestamp, b.base_offset),
        }
    }

    /// The record with the greatest timestamp of what the log's start leaves of a batch: the header says that of all of them.
    fn greatest_left(&self, batch: &RecordBatch) -> Option<Stamp> {
        let OffsetSpec::MaxTimestamp = self.spec else { return None };
        // One that cannot be read has been named.
        batch.greatest_from(self.from, MAX_DECOMPRESSED).ok().flatten().filter(|stamp| stamp.timestamp >= 0)
    }

    /// The record in the batch that is the answer. None in a batch that cannot be read, or has a wrong header: there
    /// may be some from the time before records were checked when they came.
    fn within(&self, batch: &RecordBatch) -> Option<Stamp> {
        let at_least = match self.spec {
            OffsetSpec::Timestamp(at) => at,
            _ => batch.header().max_timestamp,
        };
        batch.first_at_or_after(at_least, self.from, MAX_DECOMPRESSED).unwrap_or_else(|error| {
            let offset = batch.header().base_offset;
            warn!(partition = %self.partition, %offset, %error, "Looking for a timestamp, passed over a batch");
            None
        })
    }
}

/// The answer, with its leader epoch.
fn found(answer: Option<(Stamp, LeaderEpoch)>) -> FoundOffset {
    let stamp = answer.map(|(stamp, _)| stamp);
    FoundOffset {
        offset: stamp.map(|stamp| stamp.offset),
        timestamp: stamp.map(|stamp| stamp.timestamp),
        leader_epoch: answer.map(|(_, epoch)| epoch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::{PartitionId, TopicId};
    use chronik_core::record::Compression;
    use chronik_core::record::samples::{batch_of, encoded, samples};
    use chronik_core::record::testing::BatchBuilder;
    use chronik_log::{Log, Op, Options};

    const TP: TopicPartition = TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition: PartitionId(0) };

    /// Three records from that time on, a millisecond apart.
    fn good(at: i64) -> BatchBuilder {
        batch_of(Compression::Lz4, 3, &encoded(&samples(3, 20))).timestamps(at, at + 2)
    }

    /// Three records that nobody can read.
    fn broken(at: i64) -> BatchBuilder {
        BatchBuilder::new(3).with(22, &[Compression::Lz4 as u8]).payload(50).timestamps(at, at + 2)
    }

    fn found(batches: &[BatchBuilder], in_memory: usize, spec: OffsetSpec) -> Option<(i64, i64)> {
        found_from(batches, in_memory, spec, 0)
    }

    /// The same, of a log that begins with that offset.
    fn found_from(batches: &[BatchBuilder], in_memory: usize, spec: OffsetSpec, from: i64) -> Option<(i64, i64)> {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut log, _) = Log::open(RealDisk, &dir.path().join("log"), Options::default()).expect("a log");
        let batches: Vec<_> =
            (0..).zip(batches).map(|(n, batch)| batch.clone().build().assign(Offset(n * 3), LeaderEpoch(1))).collect();
        let (on_disk, newest) = batches.split_at(batches.len() - in_memory);
        let ops: Vec<_> = on_disk.iter().map(|b| Op::Append { partition: TP, batch: b.clone() }).collect();
        log.commit(&ops).expect("written");
        log.apply(&ops).expect("applied");
        let up_to = Offset(batches.len() as i64 * 3);
        let search = Search { partition: TP, spec, from: Offset(from), up_to };
        let found = search.run(&log.reader(), newest).expect("an answer");
        found.offset.zip(found.timestamp).map(|(offset, timestamp)| (offset.0, timestamp))
    }

    #[test]
    fn batches_that_cannot_be_read_are_passed_over() {
        let log = [good(100), broken(200), good(300), broken(400), good(350)];
        for in_memory in 0..=4 {
            let find = |spec| found(&log, in_memory, spec);
            assert_eq!(find(OffsetSpec::Timestamp(101)), Some((1, 101)));
            assert_eq!(find(OffsetSpec::Timestamp(200)), Some((6, 300)));
            assert_eq!(find(OffsetSpec::Timestamp(351)), Some((13, 351)));
            assert_eq!(find(OffsetSpec::Timestamp(400)), None);
            assert_eq!(find(OffsetSpec::MaxTimestamp), Some((14, 352)));
        }
    }

    #[test]
    fn records_that_leave_while_it_looks_are_not_found_and_the_others_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut log, _) = Log::open(RealDisk, &dir.path().join("log"), Options::default()).expect("a log");
        let batches = [good(100), broken(900), good(300), good(200)];
        let append = |(n, batch): (i64, BatchBuilder)| Op::Append {
            partition: TP,
            batch: batch.build().assign(Offset(n * 3), LeaderEpoch(1)),
        };
        let ops: Vec<_> = (0..).zip(batches).map(append).collect();
        let moved = Op::AdvanceStart { partition: TP, to: Offset(3) };
        for round in [ops, vec![moved]] {
            log.commit(&round).and_then(|()| log.apply(&round)).expect("the disk is whole");
        }
        // It began before that.
        let search = |spec| Search { partition: TP, spec, from: Offset(0), up_to: Offset(12) };
        let found = |spec| search(spec).run(&log.reader(), &[]).expect("an answer").offset.map(|offset| offset.0);
        assert_eq!(found(OffsetSpec::Timestamp(50)), Some(6));
        assert_eq!(found(OffsetSpec::MaxTimestamp), Some(8));
        assert_eq!(found(OffsetSpec::Timestamp(1000)), None);
    }

    #[test]
    fn no_record_before_the_start_is_found_in_memory_or_on_the_disk() {
        let appended = |at| good(at).with(22, &[Compression::Lz4 as u8 | 8]);
        for in_memory in 0..=1 {
            let find = |log: BatchBuilder, spec, from| found_from(&[log], in_memory, spec, from);
            // A start that cuts through the batch, a record after the other.
            for from in 0..3 {
                let record = Some((from, 100 + from));
                assert_eq!(find(good(100), OffsetSpec::Timestamp(0), from), record, "{in_memory} in memory");
                let record = Some((from, 102));
                assert_eq!(find(appended(100), OffsetSpec::Timestamp(0), from), record, "{in_memory} in memory");
                assert_eq!(find(appended(100), OffsetSpec::MaxTimestamp, from), record, "{in_memory} in memory");
            }
        }
        for in_memory in 0..=3 {
            // The first batch is before the start as a whole.
            let find = |spec| found_from(&[good(900), good(300), good(200)], in_memory, spec, 4);
            assert_eq!(find(OffsetSpec::Timestamp(0)), Some((4, 301)), "{in_memory} in memory");
            assert_eq!(find(OffsetSpec::Timestamp(303)), None, "{in_memory} in memory");
            assert_eq!(find(OffsetSpec::MaxTimestamp), Some((5, 302)), "{in_memory} in memory");
        }
    }

    #[test]
    fn what_the_start_leaves_of_a_batch_is_looked_through_for_the_greatest_timestamp() {
        // 904, 902 and 903.
        let mut records = samples(3, 20);
        for (record, delta) in records.iter_mut().zip([4, 2, 3]) {
            record.timestamp_delta = delta;
        }
        let first = batch_of(Compression::Lz4, 3, &encoded(&records)).timestamps(900, 904);
        for in_memory in 0..=2 {
            let find = |next, from| found_from(&[first.clone(), good(next)], in_memory, OffsetSpec::MaxTimestamp, from);
            assert_eq!(find(300, 0), Some((0, 904)), "{in_memory} in memory");
            assert_eq!(find(300, 1), Some((2, 903)), "{in_memory} in memory");
            assert_eq!(find(901, 1), Some((2, 903)), "{in_memory} in memory: the first of two");
            assert_eq!(find(902, 1), Some((5, 904)), "{in_memory} in memory");
            assert_eq!(find(300, 3), Some((5, 302)), "{in_memory} in memory");
        }
        assert_eq!(found_from(&[first], 0, OffsetSpec::MaxTimestamp, 1), Some((2, 903)), "it is all there is");
    }

    #[test]
    fn a_header_that_promises_too_much_does_not_end_the_search() {
        let log = [good(100).timestamps(100, 900), good(300)];
        assert_eq!(found(&log, 0, OffsetSpec::Timestamp(200)), Some((3, 300)));
        assert_eq!(found(&log, 0, OffsetSpec::MaxTimestamp), Some((5, 302)));
    }
}
