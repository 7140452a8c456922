//! What a group may use while it takes a step: the time, the configuration, timers, records to append, answers.

use super::event::{Command, Config, Now, Ticket};
use super::record::{GroupRecord, RecordKey, RecordValue};
use super::replies::Replies;
use super::response::{GroupError, Response};
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
    /// About the bytes of `records`.
    bytes: usize,
    /// The last appends with records of the group that takes the step.
    written: Written,
    /// Nothing may be appended now.
    refuses: bool,
}

/// The last appends with records of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// With any.
    any: Option<u64>,
    /// With one of its members, and not only of its offsets.
    members: Option<u64>,
}

impl Written {
    /// All that is known of the group is in that append.
    pub(super) fn all_in(number: u64) -> Self {
        Self { any: Some(number), members: Some(number) }
    }

    /// The last append with any record of the group; none if all that is written of it was committed before.
    pub(super) fn last(self) -> Option<u64> {
        self.any
    }
}

/// Appends that are cut have about so many bytes, well within a batch.
const BYTES_PER_APPEND: usize = 500_000;

impl<'a> Step<'a> {
    pub(super) fn new(
        now: Now,
        config: &'a Config,
        image: Option<&'a Image>,
        timers: &'a mut Timers,
        replies: &'a mut Replies,
        out: &'a mut Vec<Command>,
    ) -> Self {
        let (records, written) = (Vec::new(), Written::default());
        Self { now, config, image, timers, replies, out, records, bytes: 0, written, refuses: false }
    }

    /// The step, which must be undone if it writes, as [`Self::finish`] says, if `refuses` is true.
    pub(super) fn refusing(self, refuses: bool) -> Self {
        Self { refuses, ..self }
    }

    /// Begins with another group; `written` are the last appends with records of it.
    pub(super) fn enter(&mut self, written: Written) {
        self.written = written;
    }

    /// The last appends with records of the group that takes the step.
    pub(super) fn written(&self) -> Written {
        self.written
    }

    /// Writes a value. All records of one step are one append, unless it is [cut](Self::cut).
    pub(super) fn write(&mut self, key: RecordKey, value: RecordValue) {
        self.push(GroupRecord { key, value: Some(value) });
    }

    /// Writes a tombstone.
    pub(super) fn delete(&mut self, key: RecordKey) {
        self.push(GroupRecord { key, value: None });
    }

    fn push(&mut self, record: GroupRecord) {
        let metadata = match &record.value {
            Some(RecordValue::OffsetCommit(value)) => value.metadata.len(),
            _ => 0,
        };
        self.bytes += RECORD_BYTES + record.key.group().len() + metadata;
        let number = Some(self.replies.next_append());
        self.written.any = number;
        if !matches!(record.key, RecordKey::OffsetCommit { .. }) {
            self.written.members = number;
        }
        self.records.push(record);
    }

    /// Answers at once: for what tells of no change (refusals, heartbeats).
    pub(super) fn reply(&mut self, ticket: Ticket, response: Response) {
        self.out.push(Command::Reply { ticket, response });
    }

    /// Answers when all that has been written of this group is committed; at once if it is.
    pub(super) fn reply_when_committed(&mut self, ticket: Ticket, response: Response) {
        self.reply_after(self.written.any, ticket, response);
    }

    /// Answers when all that has been written of this group's members is committed: for what says nothing of its
    /// offsets.
    pub(super) fn reply_when_members_are(&mut self, ticket: Ticket, response: Response) {
        self.reply_after(self.written.members, ticket, response);
    }

    /// Answers when that append is committed; at once if it is, or there is none. While nothing may be appended, nobody
    /// knows when it will be: what waits for it is refused.
    pub(super) fn reply_after(&mut self, append: Option<u64>, ticket: Ticket, response: Response) {
        match append {
            Some(number) if self.refuses && !self.replies.is_committed(number) => {
                self.reply(ticket, response.refused(GroupError::CoordinatorNotAvailable));
            }
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

    /// Cuts the append here if it has become large: what follows need not be written together with it.
    pub(super) fn cut(&mut self) {
        if self.bytes >= BYTES_PER_APPEND && !self.refuses {
            self.flush();
        }
    }

    /// At the end: appends what was written. False if it may not be appended: the step is to be undone.
    #[must_use]
    pub(super) fn finish(mut self) -> bool {
        if self.refuses && !self.records.is_empty() {
            return false;
        }
        self.flush();
        true
    }

    fn flush(&mut self) {
        if !self.records.is_empty() {
            let number = self.replies.next_append();
            self.replies.appended();
            self.bytes = 0;
            self.out.push(Command::Append { number, records: std::mem::take(&mut self.records) });
        }
    }
}

/// About the bytes of a small record: topic, numbers, and the batch's own.
const RECORD_BYTES: usize = 300;
