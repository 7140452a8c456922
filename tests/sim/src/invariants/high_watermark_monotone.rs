//! Readers see a high watermark that never goes back, and read what is committed.

use crate::checker::Committed;
use crate::network::NodeId;
use crate::world::World;
use chronik_core::ids::Offset;
use chronik_core::record::RecordBatch;

impl World {
    pub(crate) fn check_read(&mut self, n: usize, node: NodeId, high_watermark: Offset, batches: &[RecordBatch]) {
        let reader = &mut self.readers[n];
        let tp = reader.tp;
        if high_watermark < reader.high_watermark {
            let seen = reader.high_watermark;
            self.checker.fail(format!("a reader of {tp} saw {seen}, and now {high_watermark} from broker {node}"));
            return;
        }
        reader.high_watermark = high_watermark;
        let committed = self.checker.committed.get(&tp).map_or(&[][..], Vec::as_slice);
        for batch in batches {
            let read = Committed::from(batch);
            if committed.binary_search_by_key(&read.base, |c| c.base).map(|at| committed[at]) != Ok(read) {
                self.checker
                    .fail(format!("a reader of {tp} reads {read:?} from broker {node}, which is not committed"));
                return;
            }
            if read.base != reader.position {
                let position = reader.position;
                self.checker.fail(format!("a reader of {tp} wants {position} and reads {read:?} from broker {node}"));
                return;
            }
            reader.position = read.end;
        }
    }
}
