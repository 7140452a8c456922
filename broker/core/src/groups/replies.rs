//! Answers that wait until what they tell of is committed.

use super::event::{Command, Ticket};
use super::response::{GroupError, Response};
use std::collections::VecDeque;

/// Answers in the order of the appends that they wait for. An answer leaves when its append is committed, and
/// never before one that was put in earlier for the same append or an earlier one.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// By the number of the append; ascending.
    waiting: VecDeque<(u64, Vec<(Ticket, Response)>)>,
    /// How many answers wait.
    count: usize,
    /// The number of the next append.
    next: u64,
    /// Appends below this number are committed.
    committed: u64,
}

impl Replies {
    /// The number that the next append has.
    pub(super) fn next_append(&self) -> u64 {
        self.next
    }

    /// Counts an append.
    pub(super) fn appended(&mut self) {
        self.next += 1;
    }

    /// How many answers wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether that append is committed.
    pub(super) fn is_committed(&self, number: u64) -> bool {
        number < self.committed
    }

    /// Lets an answer wait for an append (or leave at once, if that is committed).
    pub(super) fn wait(&mut self, number: u64, ticket: Ticket, response: Response, out: &mut Vec<Command>) {
        if self.is_committed(number) {
            out.push(Command::Reply { ticket, response });
            return;
        }
        assert!(number <= self.next, "an answer waits for append {number}, and {} comes next", self.next);
        self.count += 1;
        let at = self.waiting.partition_point(|(n, _)| *n < number);
        match self.waiting.get_mut(at) {
            Some((n, replies)) if *n == number => replies.push((ticket, response)),
            _ => self.waiting.insert(at, (number, vec![(ticket, response)])),
        }
    }

    /// Refuses all that wait.
    pub(super) fn refuse_all(&mut self, error: GroupError, out: &mut Vec<Command>) {
        self.count = 0;
        for (ticket, response) in self.waiting.drain(..).flat_map(|(_, replies)| replies) {
            out.push(Command::Reply { ticket, response: response.refused(error) });
        }
    }

    /// Appends up to that number are committed: lets the answers go that waited for them.
    pub(super) fn committed(&mut self, number: u64, out: &mut Vec<Command>) {
        assert!(number < self.next, "append {number} is committed, and only {} were made", self.next);
        self.committed = self.committed.max(number + 1);
        while self.waiting.front().is_some_and(|(n, _)| *n <= number) {
            let Some((_, replies)) = self.waiting.pop_front() else { break };
            self.count -= replies.len();
            for (ticket, response) in replies {
                out.push(Command::Reply { ticket, response });
            }
        }
    }
}
