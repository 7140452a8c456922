//! A reader that polls whom it takes for the leader, and reads all that is committed.

use crate::world::{Happening, World};
use chronik_core::ids::{Offset, TopicPartition};

/// One reader of one partition.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) tp: TopicPartition,
    /// The next offset to read.
    pub(crate) position: Offset,
    /// The greatest high watermark that it was told.
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
        let (tp, from) = (self.readers[n].tp, self.readers[n].position);
        if let Some(leader) = self.ask_for_leader(tp)
            && self.nodes[leader].stopped_until_us <= self.now_us
        {
            let now = self.clock(leader);
            let answer = self.nodes[leader].process.as_ref().and_then(|process| {
                let replica = process.replicas.get(&tp)?;
                let readable = replica.readable(now)?;
                let mut batches = process.read(tp, from, 1_000);
                batches.retain(|batch| batch.header().end_offset() <= readable.end);
                Some((readable, batches))
            });
            if let Some((readable, batches)) = answer {
                self.check_read(n, leader, readable, &batches);
            }
        }
        self.within(5_000, 40_000, Happening::Reader(n));
    }
}
