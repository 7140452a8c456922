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

    /// After a stall: no deadline of a group passes earlier than `grace` from now, since what its members sent
    /// meanwhile has yet to be read.
    pub(super) fn extend(&mut self, now: Instant, grace: impl Fn(&str, &Timer) -> Duration) {
        for (timer, deadline) in &mut self.deadlines {
            if let Some(group) = timer.group() {
                deadline.due = deadline.due.max(now + grace(group, timer));
            }
        }
    }

    /// The deadlines of a group.
    pub(super) fn of_group(&self, group: &Arc<str>) -> Vec<(Timer, Instant)> {
        let least = || Arc::from("");
        let firsts = [
            Timer::Session(group.clone(), least()),
            Timer::Join(group.clone()),
            Timer::Sync(group.clone()),
            Timer::Pending(group.clone(), least()),
            Timer::Rebalance(group.clone(), least()),
        ];
        let mut found = Vec::new();
        for first in firsts {
            let kind = std::mem::discriminant(&first);
            let same = |timer: &Timer| timer.group() == Some(group) && std::mem::discriminant(timer) == kind;
            let all = self.deadlines.range(first..).take_while(|(timer, _)| same(timer));
            found.extend(all.map(|(timer, deadline)| (timer.clone(), deadline.due)));
        }
        found
    }

    /// Sets the deadlines of a group to what they were, but for sessions that now last longer: their members were heard
    /// of.
    pub(super) fn restore(&mut self, group: &Arc<str>, former: Vec<(Timer, Instant)>) {
        let present: BTreeMap<Timer, Instant> = self.of_group(group).into_iter().collect();
        for timer in present.keys() {
            self.cancel(timer);
        }
        for (timer, due) in former {
            let heard_of = present.get(&timer).filter(|_| matches!(timer, Timer::Session(..)));
            let due = heard_of.map_or(due, |now| due.max(*now));
            self.set(timer, due);
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
