//! The producers that wait for an append's outcome. Each is answered or failed exactly once.

use super::event::{Acks, Command, ProduceError, Produced, Ticket};
use crate::ids::Offset;
use std::collections::{BTreeMap, BTreeSet};

/// Waiting producers by the end of the batch that they wait for. A retry that is a duplicate waits beside the
/// original. Nothing is allocated before one waits: in most partitions of a broker with very many nobody does.
#[derive(Debug, Default)]
pub(super) struct PendingAppends(Option<Box<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    /// `acks=1`, until the leader's disk has it.
    on_durable: Queue,
    /// `acks=all`, until the high watermark is past it.
    on_committed: Queue,
    /// As `on_committed`, and also while too few are in sync.
    until_committed: Queue,
}

type Queue = BTreeMap<(Offset, Ticket), Produced>;

impl PendingAppends {
    /// Lets `ticket` wait for the batch that ends at `end`.
    pub(super) fn push(&mut self, ticket: Ticket, acks: Acks, end: Offset, answer: Produced) {
        let queues = self.0.get_or_insert_default();
        let queue = match acks {
            Acks::All => &mut queues.on_committed,
            Acks::Committed => &mut queues.until_committed,
            Acks::None | Acks::Leader => &mut queues.on_durable,
        };
        let former = queue.insert((end, ticket), answer);
        debug_assert!(former.is_none(), "{ticket:?} waits twice for {end}");
    }

    /// Answers those that the leader's disk has.
    pub(super) fn durable(&mut self, end: Offset, out: &mut Vec<Command>) {
        if let Some(queues) = &mut self.0 {
            answer(&mut queues.on_durable, end, out);
        }
    }

    /// Answers those that are committed.
    pub(super) fn committed(&mut self, high_watermark: Offset, out: &mut Vec<Command>) {
        if let Some(queues) = &mut self.0 {
            answer(&mut queues.on_committed, high_watermark, out);
            answer(&mut queues.until_committed, high_watermark, out);
        }
    }

    /// The ISR became too small to commit: fails those that wait for it no longer than that.
    pub(super) fn fail_uncommitted(&mut self, out: &mut Vec<Command>) {
        if let Some(queues) = &mut self.0 {
            fail(&mut queues.on_committed, ProduceError::NotEnoughReplicasAfterAppend, out);
        }
    }

    /// This leadership can acknowledge nothing any more: fails all.
    pub(super) fn fail_all(&mut self, out: &mut Vec<Command>) {
        if let Some(queues) = &mut self.0 {
            fail(&mut queues.on_committed, ProduceError::NotLeader, out);
            fail(&mut queues.until_committed, ProduceError::NotLeader, out);
            fail(&mut queues.on_durable, ProduceError::NotLeader, out);
        }
    }

    /// Forgets those that nobody waits for any more.
    pub(super) fn abandon(&mut self, tickets: &BTreeSet<Ticket>) {
        let Some(queues) = &mut self.0 else { return };
        for queue in [&mut queues.on_durable, &mut queues.on_committed, &mut queues.until_committed] {
            queue.retain(|(_, ticket), _| !tickets.contains(ticket));
        }
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        let count =
            |queues: &Queues| queues.on_durable.len() + queues.on_committed.len() + queues.until_committed.len();
        self.0.as_deref().map_or(0, count)
    }

    /// Whether all that wait really have to, for something that has been appended.
    pub(super) fn valid(&self, durable: Offset, high_watermark: Offset, log_end: Offset) -> bool {
        let within = |queue: &Queue, from: Offset| {
            queue.first_key_value().is_none_or(|((end, _), _)| *end > from)
                && queue.last_key_value().is_none_or(|((end, _), _)| *end <= log_end)
        };
        self.0.as_deref().is_none_or(|queues| {
            within(&queues.on_durable, durable)
                && within(&queues.on_committed, high_watermark)
                && within(&queues.until_committed, high_watermark)
        })
    }
}

fn answer(queue: &mut Queue, up_to: Offset, out: &mut Vec<Command>) {
    while let Some(first) = queue.first_entry() {
        if first.key().0 > up_to {
            break;
        }
        let ((_, ticket), produced) = first.remove_entry();
        out.push(Command::Reply { ticket, result: Ok(produced) });
    }
}

fn fail(queue: &mut Queue, error: ProduceError, out: &mut Vec<Command>) {
    while let Some(((_, ticket), _)) = queue.pop_first() {
        out.push(Command::Reply { ticket, result: Err(error) });
    }
}
