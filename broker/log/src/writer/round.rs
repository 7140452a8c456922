//! What goes to the disk together.

use super::Done;
use crate::Op;
use chronik_core::ids::TopicPartition;
use std::collections::{HashMap, HashSet, VecDeque};

/// Truncations, moves of the start and deletions that one round takes at most: each renames files, and appends in the
/// next round wait for that.
const MAX_ROUND_CHANGES: usize = 64;

/// What is committed together.
#[derive(Default)]
pub(super) struct Round {
    pub(super) ops: Vec<Op>,
    pub(super) dones: Vec<Done>,
    pub(super) bytes: usize,
    /// Operations that are no appends.
    changes: usize,
    /// The partitions in it, and whether by more than appends.
    partitions: HashMap<TopicPartition, bool>,
}

impl Round {
    /// Takes what makes up the next round off the queue, in order. In a round a partition has either appends, or one
    /// operation of another kind: where a truncation ends is known when all before it is applied, and what comes next
    /// counts on it. What does not fit stays in the queue, and what comes behind it for other partitions goes before
    /// it: thousands of deletions hold back no append but those to their own partitions.
    ///
    /// `held_back` says what has to wait for something else. There are no more than `max_bytes`, but for an operation that
    /// is larger by itself.
    pub(super) fn take(queue: &mut VecDeque<(Op, Done)>, max_bytes: usize, held_back: impl Fn(&Op) -> bool) -> Self {
        let (mut round, mut left) = (Self::default(), VecDeque::new());
        let mut waiting = HashSet::new();
        while let Some((op, done)) = queue.pop_front() {
            let tp = op.partition();
            if waiting.contains(&tp) || held_back(&op) || !round.may_take(&op) {
                waiting.insert(tp);
                left.push_back((op, done));
            } else if round.ops.is_empty() || round.bytes + op.bytes() <= max_bytes {
                round.push(op, done);
            } else {
                queue.push_front((op, done));
                break;
            }
        }
        while let Some(entry) = left.pop_back() {
            queue.push_front(entry);
        }
        round
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    fn may_take(&self, op: &Op) -> bool {
        let taken = self.partitions.get(&op.partition());
        match op {
            Op::Append { .. } => taken.is_none_or(|changed| !changed),
            _ => taken.is_none() && self.changes < MAX_ROUND_CHANGES,
        }
    }

    fn push(&mut self, op: Op, done: Done) {
        let changes = !matches!(op, Op::Append { .. });
        self.bytes += op.bytes();
        self.changes += usize::from(changes);
        self.partitions.insert(op.partition(), changes);
        self.ops.push(op);
        self.dones.push(done);
    }
}
