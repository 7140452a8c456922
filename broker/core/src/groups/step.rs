//! What a group may use while it takes a step: the time, the configuration, timers, records to append, answers.

use super::event::{Command, Config, Now, Ticket};
use super::record::{GroupRecord, RecordKey, RecordValue};
use super::replies::Replies;
use super::response::Response;
use super::timers::{Timer, Timers};
use crate::cluster::Image;
use std::time::Duration;

/// One step of a shard.
pub(super) struct Step<'a> {
    /// The time.
    pub(super) now: Now,
    /// The configuration.
    pub(super) config: &'a Config,
    /// The cluster's metadata; `None` until some has come.
    pub(super) image: Option<&'a Image>,
    /// Deadlines.
    pub(super) timers: &'a mut Timers,
    replies: &'a mut Replies,
    out: &'a mut Vec<Command>,
    records: Vec<GroupRecord>,
    /// Whether something was written since this was last asked.
    touched: bool,
}

/// A sweep over many groups is cut into appends of about so many records, each well within a batch.
const RECORDS_PER_APPEND: usize = 500;

impl<'a> Step<'a> {
    pub(super) fn new(
        now: Now,
        config: &'a Config,
        image: Option<&'a Image>,
        timers: &'a mut Timers,
        replies: &'a mut Replies,
        out: &'a mut Vec<Command>,
    ) -> Self {
        Self { now, config, image, timers, replies, out, records: Vec::new(), touched: false }
    }

    /// Writes a value. All records of one step are one append.
    pub(super) fn write(&mut self, key: RecordKey, value: RecordValue) {
        self.touched = true;
        self.records.push(GroupRecord { key, value: Some(value) });
    }

    /// Writes a tombstone.
    pub(super) fn delete(&mut self, key: RecordKey) {
        self.touched = true;
        self.records.push(GroupRecord { key, value: None });
    }

    /// The number of the append that what was written since the last call is part of.
    pub(super) fn take_touched(&mut self) -> Option<u64> {
        std::mem::take(&mut self.touched).then(|| self.replies.next_append())
    }

    /// Answers at once: for what tells of no change (refusals, heartbeats).
    pub(super) fn reply(&mut self, ticket: Ticket, response: Response) {
        self.out.push(Command::Reply { ticket, response });
    }

    /// Answers when the records that this step has written are committed; at once if it has written none.
    pub(super) fn reply_committed(&mut self, ticket: Ticket, response: Response) {
        if self.records.is_empty() {
            self.reply(ticket, response);
        } else {
            self.replies.wait(self.replies.next_append(), ticket, response, self.out);
        }
    }

    /// Answers when that append is committed; at once if it is, or there is none.
    pub(super) fn reply_after(&mut self, append: Option<u64>, ticket: Ticket, response: Response) {
        match append {
            Some(number) => self.replies.wait(number, ticket, response, self.out),
            None => self.reply(ticket, response),
        }
    }

    /// The append that was made last, by any group.
    pub(super) fn last_append(&self) -> Option<u64> {
        self.replies.next_append().checked_sub(1)
    }

    /// Sets a deadline, from now.
    pub(super) fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.timers.set(timer, self.now.monotonic + after);
    }

    /// Between the groups of a sweep: appends what was written if that is much.
    pub(super) fn flush_large(&mut self) {
        if self.records.len() >= RECORDS_PER_APPEND {
            self.flush();
        }
    }

    /// At the end: appends what was written.
    pub(super) fn finish(mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        if !self.records.is_empty() {
            let number = self.replies.next_append();
            self.replies.appended();
            self.out.push(Command::Append { number, records: std::mem::take(&mut self.records) });
        }
    }
}
