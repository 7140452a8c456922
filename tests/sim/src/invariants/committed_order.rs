//! There is one committed log: whoever takes something for committed has the same batches there.

use crate::checker::{Committed, Invariant};
use crate::network::NodeId;
use crate::world::World;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::replication::Role;

impl World {
    pub(crate) fn check_committed_order(&mut self, node: NodeId, tp: TopicPartition) {
        let Some(process) = &self.nodes[node].process else { return };
        let (Some(replica), Some(log)) = (process.replicas.get(&tp), process.logs.get(&tp)) else { return };
        if !self.checker.is_of_era(node, tp) {
            return;
        }
        let status = replica.status();
        let agreed = self.checker.agreed.get(&(node, tp)).copied().unwrap_or(Offset::ZERO);
        let mut agreed = agreed.max(self.checker.known_from(tp));
        let (mut broken, mut new) = (None, Vec::new());
        for batch in log.from(agreed).iter().take_while(|b| b.header().end_offset() <= status.committed) {
            let found = Committed::from(batch);
            if !self.checker.may_lack(tp, agreed.max(log.start), found.base) {
                broken = Some(format!("broker {node} has nothing of {tp} between {agreed} and {found:?}"));
                break;
            }
            match self.checker.committed_at(tp, found.base) {
                Some(known) if !self.checker.is_left_of(tp, known, batch) => {
                    broken = Some(format!("broker {node} has {found:?} of {tp} as committed, which is {known:?}"));
                    break;
                }
                Some(_) => agreed = found.end,
                None if status.role == Role::Leader && found.base == self.checker.committed_end(tp) => {
                    self.checker.committed.entry(tp).or_default().push(found);
                    new.push(batch.clone());
                    agreed = found.end;
                }
                // It may know of more from a former era. What of that counts, the leader will show.
                None if status.role != Role::Leader && self.checker.era(tp) > 0 => break,
                None => {
                    broken = Some(format!("broker {node} takes {found:?} of {tp} for committed, and no leader did"));
                    break;
                }
            }
        }
        self.checker.agreed.insert((node, tp), agreed);
        for batch in new {
            self.note_epoch(tp, &batch);
            if self.checker.compacts {
                self.checker.originals.note(tp, &batch);
            }
            self.check_producer(tp, &batch);
        }
        if let Some(how) = broken {
            self.checker.fail(Invariant::CommittedOrder, how);
        }
    }

    /// A new process has to be looked at anew.
    pub(crate) fn forget_checked(&mut self, node: NodeId) {
        self.checker.agreed.retain(|(n, _), _| *n != node);
        self.checker.high_watermarks.retain(|(n, _), _| *n != node);
    }
}
