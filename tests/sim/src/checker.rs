//! What has been promised so far, and whether it is kept. Each promise has a file in [`crate::invariants`].

use crate::network::NodeId;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use std::collections::BTreeMap;

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

/// What has been promised.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// What any leader has ever taken for committed, by partition.
    pub(crate) committed: BTreeMap<TopicPartition, Vec<Committed>>,
    /// Who acknowledged in which epoch.
    pub(crate) acknowledged_by: BTreeMap<(TopicPartition, LeaderEpoch), NodeId>,
    /// Who led in which epoch.
    pub(crate) led_by: BTreeMap<(TopicPartition, LeaderEpoch), NodeId>,
    /// How many committed batches a broker's log is known to agree with.
    pub(crate) agreed: BTreeMap<(NodeId, TopicPartition), usize>,
    violation: Option<String>,
}

impl Checker {
    /// A promise is broken. The first one counts.
    pub(crate) fn fail(&mut self, how: String) {
        self.violation.get_or_insert(how);
    }

    /// The promise that is broken, if one is.
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Leaderships that there were.
    pub(crate) fn leaderships(&self) -> usize {
        self.led_by.len()
    }

    /// Where what is committed ends.
    pub(crate) fn committed_end(&self, tp: TopicPartition) -> Offset {
        self.committed.get(&tp).and_then(|log| log.last()).map_or(Offset::ZERO, |batch| batch.end)
    }
}
