//! A reader that polls whom it takes for the leader, and reads all that is committed.

use crate::network::NodeId;
use crate::world::{Happening, World};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::replication::{Replica, Role};

/// One reader of one partition.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) tp: TopicPartition,
    /// The next offset to read.
    pub(crate) position: Offset,
    /// The greatest high watermark that it has seen.
    pub(crate) high_watermark: Offset,
}

impl Reader {
    /// A reader of that partition.
    pub(crate) fn new(tp: TopicPartition) -> Self {
        Self { tp, position: Offset::ZERO, high_watermark: Offset::ZERO }
    }
}

impl World {
    /// A reader polls.
    pub(crate) fn reader(&mut self, n: usize) {
        let tp = self.readers[n].tp;
        if let Some(leader) = self.ask_for_leader(tp)
            && self.nodes[leader].stopped_until_us <= self.now_us
        {
            if !self.faults.over && self.rng.per_mille(30) {
                self.remove_records(leader, tp);
            }
            self.skip_removed(n, leader);
            self.renew(leader, tp);
            let (now, from, over) = (self.clock(leader), self.readers[n].position, self.faults.over);
            let answer = self.nodes[leader].process.as_ref().and_then(|process| {
                let replica = process.replicas.get(&tp)?;
                let readable = replica.readable(now)?;
                let mut batches = process.read(tp, from, 1_000, over);
                batches.retain(|batch| batch.header().end_offset() <= readable.end);
                Some((readable, batches))
            });
            if let Some((readable, batches)) = answer {
                self.check_read(n, leader, readable, &batches);
            }
        }
        self.within(5_000, 40_000, Happening::Reader(n));
    }

    /// A reader whose position is below the log start offset goes on from there.
    fn skip_removed(&mut self, n: usize, leader: NodeId) {
        let tp = self.readers[n].tp;
        if !self.checker.is_of_era(leader, tp) {
            return;
        }
        let replica = self.nodes[leader].process.as_ref().and_then(|process| process.replicas.get(&tp));
        if let Some(start) = replica.filter(|r| r.status().role == Role::Leader).map(Replica::log_start) {
            self.readers[n].position = self.readers[n].position.max(start);
        }
    }
}
