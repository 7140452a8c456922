//! High watermarks do not go back, neither in a process nor for readers, and readers are given what is committed.

use crate::activity::Activity;
use crate::checker::{Committed, Invariant};
use crate::network::NodeId;
use crate::world::World;
use chronik_core::ids::TopicPartition;
use chronik_core::record::RecordBatch;
use chronik_core::replication::Readable;

impl World {
    /// A process never takes less for committed than it did.
    pub(crate) fn check_high_watermark(&mut self, node: NodeId, tp: TopicPartition) {
        let Some(process) = &self.nodes[node].process else { return };
        // A copy that nobody counts on is cut back to where it can be read, and what it knew with it.
        if process.repairing.contains(&tp) {
            self.checker.high_watermarks.remove(&(node, tp));
            return;
        }
        let Some(replica) = process.replicas.get(&tp) else { return };
        let now = replica.status().committed;
        let before = self.checker.high_watermarks.insert((node, tp), now).unwrap_or(now);
        if now < before {
            let how = format!("broker {node} had {before} of {tp} committed, and now {now}");
            self.checker.fail(Invariant::HighWatermarkMonotone, how);
        }
    }

    pub(crate) fn check_read(&mut self, n: usize, node: NodeId, readable: Readable, batches: &[RecordBatch]) {
        let reader = &mut self.readers[n];
        let tp = reader.tp;
        if !self.checker.is_of_era(node, tp) {
            // A leader that has not heard of its end shows what was committed then, and nothing of this says how it goes on.
            let stranger = batches.iter().map(Committed::from).find(|read| !self.checker.was_ever_committed(tp, *read));
            if let Some(read) = stranger {
                let how = format!("a reader of {tp} reads {read:?} from broker {node}, which was never committed");
                self.checker.fail(Invariant::ReadersSeeCommitted, how);
            }
            return;
        }
        let shown = readable.high_watermark.unwrap_or(reader.high_watermark);
        if shown < reader.high_watermark {
            let seen = reader.high_watermark;
            self.checker.fail(
                Invariant::HighWatermarkMonotone,
                format!("a reader of {tp} saw {seen}, and now {shown} from broker {node}"),
            );
            return;
        }
        reader.high_watermark = shown;
        let end = self.checker.committed_end(tp);
        let known = |batch| self.checker.was_ever_committed(tp, Committed::from(batch));
        if self.checker.era(tp) > 0 && shown <= end && readable.end > end && batches.iter().all(known) {
            // Whoever was elected uncleanly shows what it knew to be committed in a former era, which is committed anew with it.
            return;
        }
        if shown.max(readable.end) > end {
            let how = format!("a reader of {tp} is shown {readable:?} by broker {node}, and {end} is committed");
            self.checker.fail(Invariant::ReadersSeeCommitted, how);
            return;
        }
        if !batches.is_empty() {
            self.counts.note(Activity::Read);
            if readable.high_watermark.is_none() {
                self.counts.note(Activity::ReadBelowKnown);
            }
        }
        let committed = self.checker.committed.get(&tp).map_or(&[][..], Vec::as_slice);
        for batch in batches {
            let read = Committed::from(batch);
            let known = committed.binary_search_by_key(&read.base, |c| c.base).ok().map(|at| committed[at]);
            if !known.is_some_and(|known| self.checker.is_left_of(tp, known, batch)) {
                self.checker.fail(
                    Invariant::ReadersSeeCommitted,
                    format!("a reader of {tp} reads {read:?} from broker {node}, which is not committed"),
                );
                return;
            }
            if read.base > reader.position {
                self.counts.note(Activity::ReadOverGap);
            }
            // A log may begin within its first batch.
            if !self.checker.may_lack(tp, reader.position, read.base) || read.end <= reader.position {
                let position = reader.position;
                self.checker.fail(
                    Invariant::ReadersSeeCommitted,
                    format!("a reader of {tp} wants {position} and reads {read:?} from broker {node}"),
                );
                return;
            }
            reader.position = read.end;
        }
    }
}
