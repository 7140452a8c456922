//! Of each idempotent producer, every batch is in the committed log once, in order, without a gap.

use crate::world::World;

impl World {
    pub(crate) fn check_producers(&mut self) {
        let mut broken = None;
        for (n, producer) in self.producers.iter().enumerate() {
            let committed = self.checker.committed.get(&producer.partition()).map_or(&[][..], Vec::as_slice);
            let own: Vec<u32> = producer.batches().iter().map(|b| b.batch.header().crc).collect();
            let found: Vec<u32> = committed.iter().map(|c| c.crc).filter(|crc| own.contains(crc)).collect();
            if found[..] != own[..found.len().min(own.len())] {
                broken = Some(format!("of producer {n}, {} batches are committed out of order or twice", found.len()));
            }
        }
        if let Some(how) = broken {
            self.checker.fail(how);
        }
    }
}
