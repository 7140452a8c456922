//! What has been promised so far, and whether it is kept. Each promise has a file in [`crate::invariants`].

use crate::compaction::Originals;
use crate::eras::Eras;
use crate::network::NodeId;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use std::collections::BTreeMap;
use std::fmt;

/// A batch that is committed: where it is and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Offset of its first record.
    pub(crate) base: Offset,
    /// Offset after its last record.
    pub(crate) end: Offset,
    /// The leader epoch it was appended in.
    pub(crate) epoch: LeaderEpoch,
    /// Its CRC, which stands for its content.
    pub(crate) crc: u32,
}

impl From<&RecordBatch> for Committed {
    fn from(batch: &RecordBatch) -> Self {
        let h = batch.header();
        Self { base: h.base_offset, end: h.end_offset(), epoch: h.leader_epoch, crc: h.crc }
    }
}

/// A promise. Each of [`Invariant::PLANTED`] has a planted fault or a mutant that it must find (`tests/planted.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No two brokers lead, or acknowledge, in one epoch.
    OneLeaderAnEpoch,
    /// Who acknowledges leads, and holds a lease.
    LeaseHolds,
    /// What is acknowledged is committed, where it was said to be, and stays so.
    AcknowledgedIsCommitted,
    /// No request is answered twice.
    AnsweredOnce,
    /// A producer that keeps to the protocol gets no fatal error.
    RightRefusals,
    /// Each producer's batches are committed once, in order, without a gap.
    ProducerOrder,
    /// There is one committed log.
    CommittedOrder,
    /// Replicas agree where each epoch starts.
    EpochsAgree,
    /// High watermarks do not go back.
    HighWatermarkMonotone,
    /// Readers are given what is committed, and all of it.
    ReadersSeeCommitted,
    /// What is committed is on the disks of the in-sync replicas.
    InSyncHoldsCommitted,
    /// Who is elected was in sync or eligible, unless somebody has asked for another one.
    ElectedIsEligible,
    /// The controller's state does not contradict itself.
    MetadataIsSound,
    /// What is cut off was never committed.
    Truncation,
    /// A log opens after any crash, undamaged.
    LogRecovers,
    /// After the last fault all batches get acknowledged and all replicas come into sync with equal logs.
    Converges,
    /// No assertion of the product's own fails.
    NoPanic,
    /// A seed always goes the same way.
    Deterministic,
}

impl Invariant {
    /// Those that a planted fault or a mutant can break: all but `NoPanic` and `Deterministic`.
    pub const PLANTED: [Self; 16] = [
        Self::OneLeaderAnEpoch,
        Self::LeaseHolds,
        Self::AcknowledgedIsCommitted,
        Self::AnsweredOnce,
        Self::RightRefusals,
        Self::ProducerOrder,
        Self::CommittedOrder,
        Self::EpochsAgree,
        Self::HighWatermarkMonotone,
        Self::ReadersSeeCommitted,
        Self::InSyncHoldsCommitted,
        Self::ElectedIsEligible,
        Self::MetadataIsSound,
        Self::Truncation,
        Self::LogRecovers,
        Self::Converges,
    ];
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub how: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.how)
    }
}

/// What has been promised.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// What any leader has ever taken for committed, by partition.
    pub(crate) committed: BTreeMap<TopicPartition, Vec<Committed>>,
    /// Who acknowledged in which epoch.
    pub(crate) acknowledged_by: BTreeMap<(TopicPartition, LeaderEpoch), NodeId>,
    /// Who led in which epoch.
    pub(crate) led_by: BTreeMap<(TopicPartition, LeaderEpoch), NodeId>,
    /// Up to where a broker's log is known to agree with what is committed.
    pub(crate) agreed: BTreeMap<(NodeId, TopicPartition), Offset>,
    /// Before which offset leaders were asked to remove records.
    pub(crate) removed: BTreeMap<TopicPartition, Offset>,
    /// Where each epoch starts in what is committed.
    pub(crate) epochs: BTreeMap<TopicPartition, Vec<(LeaderEpoch, Offset)>>,
    /// Which batches of each producer are committed, by their numbers, and where they are.
    pub(crate) produced: BTreeMap<usize, Vec<(usize, Offset)>>,
    /// What unclean elections have done.
    pub(crate) eras: BTreeMap<TopicPartition, Eras>,
    /// The last era that a broker's log is known to be of.
    pub(crate) of_era: BTreeMap<(NodeId, TopicPartition), usize>,
    /// The high watermark that each process had last.
    pub(crate) high_watermarks: BTreeMap<(NodeId, TopicPartition), Offset>,
    /// Whether the topic is compacted.
    pub(crate) compacts: bool,
    /// What was committed before compaction, if it is.
    pub(crate) originals: Originals,
    violation: Option<Violation>,
}

impl Checker {
    /// One for a topic that is compacted, or not.
    pub(crate) fn new(compacts: bool) -> Self {
        Self { compacts, ..Self::default() }
    }

    /// A promise is broken. The first one counts.
    pub(crate) fn fail(&mut self, invariant: Invariant, how: String) {
        self.violation.get_or_insert(Violation { invariant, how });
    }

    /// The promise that is broken, if one is.
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Leaderships that there were.
    pub(crate) fn leaderships(&self) -> usize {
        self.led_by.len()
    }

    /// The committed batch that begins there, or the first one after it.
    pub(crate) fn committed_at(&self, tp: TopicPartition, base: Offset) -> Option<Committed> {
        let log = self.committed.get(&tp)?;
        log.get(log.partition_point(|batch| batch.base < base)).copied()
    }

    /// Before which offset records may be missing.
    pub(crate) fn removed_before(&self, tp: TopicPartition) -> Offset {
        self.removed.get(&tp).copied().unwrap_or(Offset::ZERO)
    }

    /// Where what is committed ends.
    pub(crate) fn committed_end(&self, tp: TopicPartition) -> Offset {
        self.committed.get(&tp).and_then(|log| log.last()).map_or(self.known_from(tp), |batch| batch.end)
    }
}
