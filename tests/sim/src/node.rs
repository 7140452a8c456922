//! A broker: the shell around its replicas. What it keeps in memory is gone when it crashes.

use crate::controller::LEASE_US;
use crate::network::NodeId;
use crate::storage::{Bounds, Logs, Opened, PartitionLog, Storage};
use chronik_core::cluster::Image;
use chronik_core::ids::{BrokerEpoch, BrokerId, DirectoryId, IncarnationId, MetadataOffset, Offset, TopicPartition};
use chronik_core::producers::Producers;
use chronik_core::record::RecordBatch;
use chronik_core::replication::{Config, LogState, PartitionState, Replica, StreamId, Ticket};
use chronik_core::time::Instant;
use chronik_log::Op;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// One broker.
pub(crate) struct Node {
    /// Its number.
    pub(crate) id: BrokerId,
    /// Counts its processes.
    pub(crate) incarnation: u64,
    /// Its process, while there is one.
    pub(crate) process: Option<Process>,
    /// Its disk.
    pub(crate) disk: Box<dyn Storage>,
    /// Its disk's identity.
    pub(crate) directory: DirectoryId,
    /// The disk was replaced, and the controller does not know yet.
    pub(crate) wiped: bool,
    /// What is surely on its disk.
    pub(crate) durable: BTreeMap<TopicPartition, Offset>,
    /// The disk has lost a bit, and nobody has looked.
    pub(crate) rotten: bool,
    /// Partitions whose logs were cut back, as the disk had lost something, and the controller does not know yet.
    pub(crate) damaged: Vec<TopicPartition>,
    /// Its clock is so far ahead of the world's.
    pub(crate) clock_ahead_us: u64,
    /// Its clock's rate, in thousandths.
    pub(crate) clock_per_mille: u64,
    /// It is stopped until then.
    pub(crate) stopped_until_us: u64,
    /// Its disk is slow until then.
    pub(crate) slow_until_us: u64,
    /// Each of its syncs takes long until then.
    pub(crate) slow_syncs_until_us: u64,
    /// Its disk is full until then.
    pub(crate) full_until_us: u64,
    /// A round that begins before that ends after it.
    pub(crate) hung_until_us: u64,
}

/// A batch that cannot be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadBatch {
    /// The offset of its first record.
    pub(crate) base: Offset,
    /// The first of them that the log still has.
    pub(crate) from: Offset,
    /// The disk has lost it. Otherwise it can be read again when all is well.
    pub(crate) lasts: bool,
}

/// A broker's process.
pub(crate) struct Process {
    /// By partition.
    pub(crate) replicas: BTreeMap<TopicPartition, Replica>,
    /// All batches, as a broker's memory and segments together have them.
    pub(crate) logs: Logs,
    /// What waits for the disk.
    pub(crate) queue: Vec<Op>,
    /// What is being made durable.
    pub(crate) syncing: Vec<Op>,
    /// Since when.
    pub(crate) syncing_since_us: u64,
    /// Since when it has done without a lease, as its disk hangs.
    pub(crate) given_up_us: Option<u64>,
    /// The registration.
    pub(crate) epoch: Option<BrokerEpoch>,
    /// What it has applied of the metadata log.
    pub(crate) image: Image,
    /// Whom each partition's replica wants to follow.
    pub(crate) follows: BTreeMap<TopicPartition, BrokerId>,
    /// The leaders that it takes itself to be connected to, and under which stream.
    pub(crate) connected: BTreeMap<NodeId, StreamId>,
    /// Its replicas know of the metadata that it has applied.
    pub(crate) introduced: bool,
    /// Its replicas may lead until then, by its own clock.
    pub(crate) lease: Instant,
    /// How many connections it has made to each leader.
    pub(crate) dialled: BTreeMap<NodeId, u32>,
    /// Partitions whose logs are being dropped, as this broker is no replica of them any more.
    pub(crate) deleting: BTreeSet<TopicPartition>,
    /// Where logs are to begin that are being dropped.
    pub(crate) beginning: BTreeMap<TopicPartition, Offset>,
    /// Who asked for what is pending.
    pub(crate) tickets: BTreeMap<Ticket, Asked>,
    /// The last ticket that was given out.
    pub(crate) last_ticket: u64,
    /// Whether at the last tick the lease was valid, and whether the disk had room.
    pub(crate) lease_and_room: (bool, bool),
    /// What cannot be read of a partition, until it is cut off.
    pub(crate) unreadable: BTreeMap<TopicPartition, BadBatch>,
    /// What is being cut back to there.
    pub(crate) repairing: BTreeSet<TopicPartition>,
    /// Replicas that wait for a time.
    pub(crate) ticking: BTreeSet<TopicPartition>,
    /// Events for its replicas, in order.
    pub(crate) inbox: VecDeque<(TopicPartition, chronik_core::replication::Event)>,
}

/// Which producer asked, over which of its connections, for which of its batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// By its place in the world.
    pub(crate) producer: usize,
    /// The producer's connection.
    pub(crate) connection: u64,
    /// The batch's number.
    pub(crate) number: usize,
}

/// Times and sizes small enough that all their edges are met.
pub(crate) fn config() -> Config {
    Config {
        lag_time_max: Duration::from_millis(700),
        stall_time_max: Duration::from_micros(LEASE_US),
        window_bytes: 700,
        read_bytes: 400,
    }
}

impl Node {
    /// A broker with an empty disk that has never run.
    pub(crate) fn new(id: i32, disk: Box<dyn Storage>, directory: u64) -> Self {
        Self {
            id: BrokerId(id),
            incarnation: 0,
            process: None,
            disk,
            directory: directory_id(directory),
            wiped: false,
            durable: BTreeMap::new(),
            rotten: false,
            damaged: Vec::new(),
            clock_ahead_us: 0,
            clock_per_mille: 1_000,
            stopped_until_us: 0,
            slow_until_us: 0,
            slow_syncs_until_us: 0,
            full_until_us: 0,
            hung_until_us: 0,
        }
    }

    /// Starts a process on what the disk has.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        let Opened { logs, damaged, unknown } = self.disk.open()?;
        if std::mem::take(&mut self.rotten) {
            self.wiped = unknown || !damaged.is_empty();
        }
        if unknown {
            self.directory = DirectoryId(uuid::Uuid::from_u128(self.directory.0.as_u128().wrapping_add(1)));
        }
        self.damaged.extend(damaged);
        self.incarnation += 1;
        self.durable = logs.iter().map(|(tp, log)| (*tp, log.end)).collect();
        self.process = Some(Process {
            replicas: BTreeMap::new(),
            logs,
            queue: Vec::new(),
            syncing: Vec::new(),
            syncing_since_us: 0,
            given_up_us: None,
            epoch: None,
            image: Image::default(),
            follows: BTreeMap::new(),
            connected: BTreeMap::new(),
            introduced: false,
            lease: Instant::default(),
            dialled: BTreeMap::new(),
            deleting: BTreeSet::new(),
            beginning: BTreeMap::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            lease_and_room: (false, true),
            unreadable: BTreeMap::new(),
            repairing: BTreeSet::new(),
            ticking: BTreeSet::new(),
            inbox: VecDeque::new(),
        });
        Ok(())
    }

    /// The id of its current process.
    pub(crate) fn incarnation_id(&self) -> IncarnationId {
        let id = (u128::from(self.id.0 as u64) << 64) | u128::from(self.incarnation);
        IncarnationId(uuid::Uuid::from_u128(id))
    }
}

/// A directory's identity from a random number.
pub(crate) fn directory_id(random: u64) -> DirectoryId {
    DirectoryId(uuid::Uuid::from_u128(u128::from(random)))
}

impl Process {
    /// The id of a new connection to that leader; `repeats` if a later process is to use it again.
    pub(crate) fn next_stream(&mut self, leader: NodeId, repeats: bool) -> StreamId {
        let count = self.dialled.entry(leader).or_default();
        *count += 1;
        let epoch = self.epoch.filter(|_| !repeats).unwrap_or_default();
        StreamId::new(epoch, *count)
    }

    /// Whether it may tell its replicas of metadata: it is registered, and what it has applied includes that.
    pub(crate) fn is_current(&self) -> bool {
        self.epoch.is_some_and(|epoch| self.image.offset >= MetadataOffset(epoch.0 as u64))
    }

    /// A partition's state as its replica wants it.
    pub(crate) fn state(&self, tp: TopicPartition) -> Option<PartitionState> {
        let (topic, p) = (self.image.topics.get(&tp.topic)?, self.image.partition(tp)?);
        Some(PartitionState {
            leader: p.leader,
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
            isr: p.isr.clone(),
            replicas: p.replicas.iter().map(|id| (*id, self.image.alive(*id).and_then(|b| b.epoch))).collect(),
            stopping: self.image.stopping(&p.replicas),
            elr: p.elr.to_vec(),
            removing: p.removing.to_vec(),
            min_insync_replicas: p.min_insync_replicas(topic.min_insync_replicas),
            older_producers: topic.older_producers,
        })
    }

    /// What a partition's log says about itself.
    pub(crate) fn log_state(&self, tp: TopicPartition) -> LogState {
        self.logs.get(&tp).map(log_state).unwrap_or_default()
    }

    /// Where the log is compacted, only the disk knows where a cut within a gap ends.
    pub(crate) fn take_bounds(&mut self, tp: TopicPartition, known: Option<Bounds>) {
        if let (Some(log), Some(known)) = (self.logs.get_mut(&tp), known) {
            (log.start, log.end, log.epochs) = (known.start, known.end, known.epochs);
        }
    }

    /// Where the log is compacted, only the disk knows of producers what their batches do not say any more. What waits for
    /// the disk is behind it.
    pub(crate) fn take_snapshot(&mut self, tp: TopicPartition, known: Option<Producers>) {
        let waits = |op: &&Op| op.partition() == tp && matches!(op, Op::Append { .. });
        let first = self.queue.iter().chain(&self.syncing).find(waits);
        let base =
            first.map(|op| if let Op::Append { batch, .. } = op { batch.header().base_offset } else { Offset::ZERO });
        if let (Some(log), Some(known)) = (self.logs.get_mut(&tp), known) {
            log.snapshot = Some((base.unwrap_or(log.end).min(log.end), known));
        }
    }

    /// What cannot be read of a partition may be before its start now.
    pub(crate) fn start_moved(&mut self, tp: TopicPartition, disk: &dyn Storage) {
        let (Some(bad), Some(log)) = (self.unreadable.get_mut(&tp), self.logs.get(&tp)) else { return };
        let is_there = log.batches.iter().any(|batch| batch.header().base_offset == bad.base);
        let found = if bad.lasts { disk.lost_from(tp) } else { is_there.then_some(bad.from) };
        let Some(from) = found else {
            self.unreadable.remove(&tp);
            return;
        };
        bad.from = from.max(log.start);
        if bad.lasts {
            bad.base = log.from(bad.from).first().map_or(bad.base, |batch| batch.header().base_offset);
        }
    }

    /// Whole batches from `from` on, as far as they can be read.
    /// The disk can read everything again if it is `well`.
    pub(crate) fn read(&self, tp: TopicPartition, from: Offset, max_bytes: usize, well: bool) -> Vec<RecordBatch> {
        let found = self.logs.get(&tp).map_or(&[][..], |log| log.from(from));
        let bad = self.unreadable.get(&tp).filter(|bad| bad.lasts || !well).map(|bad| bad.base);
        let found = &found[..found.iter().position(|b| Some(b.header().base_offset) == bad).unwrap_or(found.len())];
        let mut bytes = 0;
        let fits = |batch: &&RecordBatch| {
            bytes += batch.bytes().len();
            bytes <= max_bytes || bytes == batch.bytes().len()
        };
        found.iter().take_while(fits).cloned().collect()
    }
}

/// What batches say about the log that they are.
pub(crate) fn log_state(log: &PartitionLog) -> LogState {
    let (from, mut producers) = log.snapshot.clone().unwrap_or_else(|| (Offset::ZERO, log.before.clone()));
    log.batches.iter().filter(|b| b.header().base_offset >= from).for_each(|b| producers.observe(b.header()));
    // Compaction may have left a gap before the first batch that there is.
    let first_batch = log.batches.first().map_or(log.start, |batch| batch.header().base_offset.min(log.start));
    LogState { start: log.start, first_batch, end: log.end, epochs: log.epochs.clone(), producers }
}
