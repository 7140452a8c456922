//! Batches, a model of what a log must hold, and a workload that goes through everything a log does.

use bytes::Bytes;
use chronik_core::ids::{LeaderEpoch, Offset, PartitionId, TopicId, TopicPartition};
use chronik_core::producers::{DEFAULT_EXPIRATION_MS, ProducerState, Producers};
use chronik_core::record::{BatchHeader, RecordBatch};
use chronik_log::{Disk, DiskFile, Log, LogReader, Op, Options, RecoveredPartition, SimulatedDisk};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

/// A small deterministic generator (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}

pub(crate) fn partition(n: u8) -> TopicPartition {
    TopicPartition { topic: TopicId(uuid::Uuid::from_bytes([n / 2; 16])), partition: PartitionId(i32::from(n % 2)) }
}

/// A batch of `records` records with a body of `bytes` bytes that `tag` fills.
pub(crate) fn batch(base: i64, epoch: i32, records: i32, bytes: usize, tag: u64) -> RecordBatch {
    let mut b = vec![0u8; 61];
    b[8..12].copy_from_slice(&((49 + bytes) as i32).to_be_bytes());
    b[16] = 2;
    b[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    b[43..51].copy_from_slice(&(-1i64).to_be_bytes());
    b[57..61].copy_from_slice(&records.to_be_bytes());
    b.extend(tag.to_le_bytes().iter().cycle().take(bytes));
    let crc = crc32c::crc32c(&b[21..]);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::check(b.into()).expect("a valid batch").assign(Offset(base), LeaderEpoch(epoch))
}

/// The same batch, of an idempotent producer.
pub(crate) fn produced(batch: &RecordBatch, id: i64, sequence: i32) -> RecordBatch {
    let (base, epoch) = (batch.header().base_offset, batch.header().leader_epoch);
    let mut b = batch.bytes().to_vec();
    b[43..51].copy_from_slice(&id.to_be_bytes());
    b[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&b[21..]);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::check(b.into()).expect("a valid batch").assign(base, epoch)
}

/// Commits and applies one operation.
pub(crate) fn run<D: Disk>(log: &mut Log<D>, op: Op) {
    let op = [op];
    log.commit(&op).expect("the disk is whole");
    log.apply(&op).expect("the disk is whole");
}

/// A batch of one record and about `bytes` bytes, with that timestamp.
pub(crate) fn stamped(base: i64, timestamp: i64, bytes: usize) -> RecordBatch {
    let mut b = batch(base, 1, 1, bytes, base as u64).bytes().to_vec();
    b[27..35].copy_from_slice(&timestamp.to_be_bytes());
    b[35..43].copy_from_slice(&timestamp.to_be_bytes());
    let crc = crc32c::crc32c(&b[21..]);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::check(b.into()).expect("a valid batch").assign(Offset(base), LeaderEpoch(1))
}

/// Makes the CRC fit that stands behind the magic of what is checked as a whole.
pub(crate) fn seal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Takes away what says that the last block of the write-ahead log was synced, as a power cut may.
pub(crate) fn unseal(disk: &SimulatedDisk, dir: &str) {
    let is_wal = |path: &PathBuf| path.starts_with(dir) && path.extension().is_some_and(|e| e == "wal");
    for path in disk.files().into_iter().map(|(path, _)| path).filter(is_wal) {
        for (n, page) in content(disk, &path).chunks(4096).enumerate() {
            if page[..3] == *b"CWB" && page[16..24] == [0xff; 8] {
                let file = disk.open(&path).expect("it is there");
                file.write_at(&[IoSlice::new(&[0; 4096])], n as u64 * 4096).expect("the disk is whole");
            }
        }
    }
}

/// All of a file.
pub(crate) fn content(disk: &impl Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).expect("the file is there");
    let mut bytes = vec![0; file.len().expect("the disk is whole") as usize];
    file.read_at(&mut bytes, 0).expect("the disk is whole");
    bytes
}

/// Sizes so small that segments roll, indexes fill, checkpoints and recycling happen all the time.
pub(crate) fn tiny() -> Options {
    Options {
        wal_segment_bytes: 16 * 1024,
        segment_bytes: 3000,
        index_interval_bytes: 300,
        index_from_bytes: 500,
        checkpoint_bytes: 40 * 1024,
        max_open_files: 4,
        write_once_bytes: 200,
        open_with_wal_loss: false,
        producer_expiration_ms: 24 * 60 * 60 * 1000,
        reserve_bytes: 0,
        ballast_bytes: 0,
        damaged_bytes: 1 << 20,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionModel {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) batches: Vec<Bytes>,
    pub(crate) removed: Removed,
}

/// Who wrote what is removed from a log's start. The log may forget it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removed(Producers);

impl PartialEq for Removed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Removed {}

impl PartitionModel {
    pub(crate) fn new(start: i64) -> Self {
        Self { start, end: start, ..Self::default() }
    }

    /// The producers that are still known, if nothing is forgotten, and whether those have batches in the log.
    fn producers(&self) -> Vec<(ProducerState, bool)> {
        let (mut all, mut here) = (self.removed.0.clone(), Producers::default());
        for batch in &self.batches {
            let header = BatchHeader::read(batch).expect("a valid batch");
            all.observe(&header);
            here.observe(&header);
        }
        let here: Vec<_> = here.iter().map(|p| p.id).collect();
        all.iter().map(|p| (p, here.contains(&p.id))).collect()
    }
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model(pub(crate) BTreeMap<TopicPartition, PartitionModel>);

fn span(bytes: &Bytes) -> (i64, i64) {
    let batch = RecordBatch::check(bytes.clone()).expect("a valid batch");
    (batch.header().base_offset.0, batch.header().end_offset().0)
}

impl Model {
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Append { partition, batch } => {
                let base = batch.header().base_offset.0;
                let p = self.0.entry(*partition).or_insert(PartitionModel::new(base));
                assert_eq!(p.end, base, "the workload appends at the end");
                p.end = batch.header().end_offset().0;
                p.batches.push(batch.bytes().clone());
            }
            Op::Truncate { partition, to } | Op::Repair { partition, to } => {
                let Some(p) = self.0.get_mut(partition) else { return };
                if to.0 >= p.end {
                    return;
                }
                let mut spans = p.batches.iter().map(span);
                let cut = spans.find(|(_, end)| *end > to.0).map_or(to.0, |(base, _)| base);
                p.end = if to.0 < p.start { to.0 } else { cut.min(to.0) };
                p.batches.retain(|b| span(b).1 <= p.end);
                if p.end < p.start {
                    *p = PartitionModel::new(p.end);
                }
            }
            Op::AdvanceStart { partition, to } => {
                let p = self.0.entry(*partition).or_insert(PartitionModel::new(to.0));
                if to.0 > p.end {
                    *p = PartitionModel::new(to.0);
                }
                p.start = p.start.max(to.0);
                for gone in p.batches.extract_if(.., |b| span(b).1 <= p.start) {
                    p.removed.0.observe(&BatchHeader::read(&gone).expect("a valid batch"));
                }
            }
            Op::BeginAt { partition, at, producers } => {
                let removed =
                    Producers::decode(producers, DEFAULT_EXPIRATION_MS).expect("the workload has encoded them");
                let p = self.0.entry(*partition).or_insert(PartitionModel::new(at.0));
                assert!(at.0 >= p.end, "the workload begins behind the end");
                *p = PartitionModel { removed: Removed(removed), ..PartitionModel::new(at.0) };
            }
            Op::Delete { partition } => {
                self.0.remove(partition);
            }
        }
    }

    /// What an opened log really holds, read back through its reader.
    pub(crate) fn found<D: Disk>(reader: &LogReader<D>, recovered: &[RecoveredPartition]) -> Self {
        let mut model = Self::default();
        for r in recovered {
            assert_eq!(reader.state(r.partition).as_ref(), Some(r));
            assert_eq!(r.damaged, None);
            let mut batches = Vec::new();
            let mut next = r.start;
            while next < r.end {
                let read = reader.read(r.partition, next, r.end, 500).expect("it can be read");
                next = read.last().expect("there is more").header().end_offset();
                batches.extend(read.into_iter().map(|b| b.bytes().clone()));
            }
            assert_eq!(next, r.end);
            let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
            let mut headers = 0;
            reader
                .scan(r.partition, r.start, |h| {
                    headers += 1;
                    if epochs.last().is_none_or(|(e, _)| *e < h.leader_epoch) {
                        epochs.push((h.leader_epoch, h.base_offset.max(r.start)));
                    }
                })
                .expect("it can be scanned");
            assert_eq!(headers, batches.len());
            if headers > 0 {
                assert_eq!(epochs, r.epochs);
            } else {
                assert!(r.epochs.len() <= 1, "an empty log may know its last epoch: {:?}", r.epochs);
            }
            let removed = Removed::default();
            model.0.insert(r.partition, PartitionModel { start: r.start.0, end: r.end.0, batches, removed });
        }
        model
    }

    /// Whether an opened log knows the producers of all its batches, and nobody else than it should.
    pub(crate) fn check_producers<D: Disk>(&self, reader: &LogReader<D>, when: &str) {
        for (tp, model) in &self.0 {
            let found: Vec<_> = reader.producers(*tp).expect("it can be read").iter().collect();
            let expected = model.producers();
            for producer in &found {
                assert!(expected.iter().any(|(p, _)| p == producer), "{when}: {tp} has {found:?}, not {expected:?}");
            }
            let forgotten = expected.iter().find(|(p, here)| *here && !found.contains(p));
            assert_eq!(forgotten, None, "{when}: {tp} has {found:?}");
        }
    }
}

/// A workload over a few partitions; the same seed gives the same rounds.
pub(crate) struct Workload {
    random: Random,
    epoch: i32,
    tag: u64,
    /// Whether there is more than appends and what takes some of them back: see [`Self::with_all`].
    all: bool,
}

impl Workload {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), epoch: 0, tag: seed << 32, all: false }
    }

    /// The same, with checkpoints that take some rounds and segments of the write-ahead log that are made ahead, as beside a
    /// writer, and with logs that begin anew with the producers of another log.
    pub(crate) fn with_all(seed: u64) -> Self {
        Self { all: true, ..Self::new(seed) }
    }

    /// A round of operations that fit `model`, which is the log as it is now.
    pub(crate) fn round(&mut self, model: &Model, epoch_at_least: i32) -> Vec<Op> {
        let mut model = model.clone();
        self.epoch = self.epoch.max(epoch_at_least);
        let mut ops = Vec::new();
        for _ in 0..=self.random.below(4) {
            let tp = partition(self.random.below(4) as u8);
            let known = model.0.get(&tp).cloned();
            let choice = self.random.below(20);
            let op = match known {
                Some(p) if choice < 3 => {
                    self.epoch += 1;
                    // Mostly near the end, sometimes far back, and now and then before the start.
                    let back = self.random.below(if choice == 0 { 60 } else { 9 }) as i64;
                    Op::Truncate { partition: tp, to: Offset((p.end - back).max(0)) }
                }
                Some(_) if choice == 3 && self.random.below(3) == 0 => Op::Delete { partition: tp },
                Some(p) if choice == 4 => {
                    // Mostly within the log, and now and then beyond its end.
                    let to = p.start + self.random.below((p.end - p.start) as u64 + 8) as i64;
                    Op::AdvanceStart { partition: tp, to: Offset(to) }
                }
                None if choice == 4 => Op::AdvanceStart { partition: tp, to: Offset(self.random.below(50) as i64) },
                known if choice == 5 && self.all => self.begin_at(tp, known.map_or(0, |p| p.end)),
                known => {
                    self.tag += 1;
                    let base = known.map_or(self.random.below(3) as i64 * 10, |p| p.end);
                    let size = if choice == 19 { 3500 + self.random.below(15_000) } else { self.random.below(400) };
                    let records = 1 + self.random.below(4) as i32;
                    let batch = batch(base, self.epoch, records, size as usize, self.tag);
                    // Few that write often, and enough others that snapshots do not fit the checkpoint.
                    let ids = if self.random.below(3) == 0 { 40 } else { 3 };
                    let id = self.random.below(ids) as i64;
                    let batch =
                        if choice.is_multiple_of(2) { produced(&batch, id, self.tag as i32 & 0xffff) } else { batch };
                    Op::Append { partition: tp, batch }
                }
            };
            // As the writer does: of a partition either appends, or one operation of another kind.
            let appends = |op: &Op| matches!(op, Op::Append { .. });
            if ops.iter().any(|other: &Op| other.partition() == tp && !(appends(other) && appends(&op))) {
                break;
            }
            model.apply(&op);
            ops.push(op);
        }
        ops
    }

    /// Begins a log anew at its end or a little behind it, after batches of up to two producers.
    fn begin_at(&mut self, tp: TopicPartition, end: i64) -> Op {
        let at = end + self.random.below(8) as i64;
        let (batches, first) = (self.random.below(3) as i64, self.random.below(20) as i64);
        let mut producers = Producers::default();
        for n in (0..batches.min(at)).rev() {
            self.tag += 1;
            let last = batch(at - n - 1, self.epoch, 1, 10, self.tag);
            producers.observe(produced(&last, first + n, self.tag as i32 & 0xffff).header());
        }
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        Op::BeginAt { partition: tp, at: Offset(at), producers: bytes.into() }
    }

    /// Commits and applies rounds until the disk fails. `model` is what is durable then; returned is the round
    /// of which nobody knows.
    pub(crate) fn run<D: Disk>(&mut self, log: &mut Log<D>, model: &mut Model, rounds: usize) -> Result<(), Vec<Op>> {
        log.prepare().map_err(|_| Vec::new())?;
        for _ in 0..rounds {
            let ops = self.round(model, greatest_epoch(log, model));
            log.commit(&ops).map_err(|_| ops.clone())?;
            for op in &ops {
                model.apply(op);
            }
            log.apply(&ops).map_err(|_| Vec::new())?;
            let choice = if self.all { self.random.below(12) } else { 0 };
            let beside = match choice {
                1 => log.begin_checkpoint_beside(),
                2 | 3 => log.end_checkpoint_beside(),
                4..=6 => log.prepare_segment(),
                _ => Ok(()),
            };
            beside.map_err(|_| Vec::new())?;
        }
        Ok(())
    }
}

fn greatest_epoch<D: Disk>(log: &Log<D>, model: &Model) -> i32 {
    let reader = log.reader();
    let last = |tp: &TopicPartition| reader.state(*tp)?.epochs.last().map(|(e, _)| e.0);
    model.0.keys().filter_map(last).max().unwrap_or(0)
}
