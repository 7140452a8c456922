//! The deadlines of one shard, by what they are for.

use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A member (of that group) must heartbeat before.
    Session(Arc<str>, Arc<str>),
    /// A classic group's members must have joined before.
    Join(Arc<str>),
    /// A classic group's members must have synced before.
    Sync(Arc<str>),
    /// A member that was given an id must have joined with it before.
    Pending(Arc<str>, Arc<str>),
    /// A member of a consumer group must have given partitions back before.
    Rebalance(Arc<str>, Arc<str>),
    /// Offsets and groups are looked through for what has expired.
    Expiry,
}

impl Timer {
    /// The group it is about.
    pub(super) fn group(&self) -> Option<&Arc<str>> {
        match self {
            Self::Session(group, _)
            | Self::Join(group)
            | Self::Sync(group)
            | Self::Pending(group, _)
            | Self::Rebalance(group, _) => Some(group),
            Self::Expiry => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    /// When it is due.
    due: Instant,
    /// Where it stands in the queue; never after `due`.
    queued: Instant,
}

/// A step this much later than the wake that was asked for shows that the process stood still.
const STALL: Duration = Duration::from_secs(1);

/// The deadlines. One that moves later stays where it is in the queue until its old place comes up, so that a
/// heartbeat costs one look-up.
#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: BTreeMap<Timer, Deadline>,
    queue: BTreeSet<(Instant, Timer)>,
    /// The wake that was last asked for.
    asked: Option<Instant>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub(super) fn set(&mut self, timer: Timer, due: Instant) {
        if let Some(deadline) = self.deadlines.get_mut(&timer) {
            deadline.due = due;
            if due >= deadline.queued {
                return;
            }
            let queued = std::mem::replace(&mut deadline.queued, due);
            let mut entry = (queued, timer);
            self.queue.remove(&entry);
            entry.0 = due;
            self.queue.insert(entry);
        } else {
            self.queue.insert((due, timer.clone()));
            self.deadlines.insert(timer, Deadline { due, queued: due });
        }
    }

    /// Whether a deadline is set.
    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.deadlines.contains_key(timer)
    }

    /// Drops a deadline, if it is set.
    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(deadline) = self.deadlines.remove(timer) {
            self.queue.remove(&(deadline.queued, timer.clone()));
        }
    }

    /// Takes one deadline that has passed.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        while self.queue.first().is_some_and(|(at, _)| *at <= now) {
            let (_, timer) = self.queue.pop_first()?;
            match self.deadlines.get_mut(&timer) {
                Some(deadline) if deadline.due > now => {
                    deadline.queued = deadline.due;
                    self.queue.insert((deadline.due, timer));
                }
                Some(_) => {
                    self.deadlines.remove(&timer);
                    return Some(timer);
                }
                None => {}
            }
        }
        None
    }

    /// Whether this step comes much later than the wake that was asked for.
    pub(super) fn stalled(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.since(asked) >= STALL)
    }

    /// After a stall: no session that `grace` is given for ends earlier than that from now, since the heartbeats
    /// that came in meanwhile have yet to be read.
    pub(super) fn extend_sessions(&mut self, now: Instant, grace: impl Fn(&str, &str) -> Duration) {
        for (timer, deadline) in &mut self.deadlines {
            if let Timer::Session(group, member) = timer {
                deadline.due = deadline.due.max(now + grace(group, member));
            }
        }
    }

    /// The wake to ask for, if it differs from the one that was.
    pub(super) fn wake(&mut self) -> Option<Instant> {
        let next = self.queue.first().map(|(at, _)| *at);
        if next == self.asked {
            return None;
        }
        self.asked = next;
        next
    }
}
