//! While appends are not likely to be committed, a step of a group that would have to write is undone.
//!
//! It is not known before a step whether it writes. So the group is copied first, which shares with its copy what the
//! step does not change; and deadlines that are changed are noted.

use super::event::{Command, Now};
use super::group::Group;
use super::response::GroupError;
use super::shard::Shard;
use super::timers::HeardOf;
use std::sync::Arc;

/// A group, and what else a step of it may change, before a step that may have to be undone.
pub(super) struct Before {
    id: Arc<str>,
    group: Option<Group>,
    /// The member that takes the step, if it is one: it was heard of, whatever becomes of what it asks.
    heard_of: Option<HeardOf>,
    /// How many commands there were.
    commands: usize,
    kept: usize,
    committed: usize,
}

impl Shard {
    /// Appends are likely to be committed from now on, or are not.
    pub(super) fn writable(&mut self, now: Now, writable: bool, out: &mut Vec<Command>) {
        let refused = std::mem::replace(&mut self.refuses, !writable);
        if !writable {
            self.replies.refuse_all(GroupError::CoordinatorNotAvailable, out);
        } else if refused {
            // What members sent meanwhile may have been refused.
            let (timers, grace) = self.deadlines();
            timers.extend_late(now.monotonic, grace);
            if std::mem::take(&mut self.forgets_later) {
                self.each_group(now, out, |id, group, step| group.forget_deleted_topics(id, step));
            }
        }
    }

    /// What a step of that group may change. It is to be [undone](Self::undo), or its deadlines kept.
    pub(super) fn before(&mut self, id: &Arc<str>, heard_of: Option<HeardOf>, out: &[Command]) -> Before {
        #[cfg(test)]
        self.copies.set(self.copies.get() + 1);
        self.timers.note_changes();
        Before {
            heard_of,
            id: id.clone(),
            group: self.groups.get(id).cloned(),
            commands: out.len(),
            kept: self.kept,
            committed: self.committed,
        }
    }

    /// Sets all that back, and takes back the commands since.
    pub(super) fn undo(&mut self, now: Now, before: Before, out: &mut Vec<Command>) {
        let Before { id, group, heard_of, commands, kept, committed } = before;
        match group {
            Some(group) => self.groups.insert(id.clone(), group),
            None => self.groups.remove(&id),
        };
        out.truncate(commands);
        self.kept = kept;
        self.committed = committed;
        let (timers, grace) = self.deadlines();
        timers.restore(&id, heard_of.as_ref(), |timer| now.monotonic + grace(&id, timer));
    }
}
