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

/// Who asked for something that may be undone.
#[derive(Clone, Debug)]
pub(super) struct HeardOf {
    /// The member, as it is named.
    pub(super) member: Arc<str>,
    /// Whether it said what the group's other members wait for to go on: its SyncGroup.
    pub(super) syncs: bool,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    /// When it is due.
    due: Instant,
    /// Where it stands in the queue; never after `due`.
    queued: Instant,
    late: Late,
}

/// Whether a deadline has passed while what it would write could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// It has not.
    No,
    /// It has, and comes again.
    PutOff,
    /// It has, and there was time since then to say what could not be heard.
    HadTime,
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
    /// What was changed in a step that may have to be undone, in the order of the changes.
    changes: Option<Vec<Change>>,
}

/// What a deadline was before it was changed.
type Change = (Timer, Option<(Instant, Late)>);

impl Timers {
    /// Sets or moves a deadline.
    pub(super) fn set(&mut self, timer: Timer, due: Instant) {
        self.set_late(timer, due, Late::No);
    }

    /// Sets a deadline that has passed to come again then, as its work could not be done.
    pub(super) fn put_off(&mut self, timer: Timer, due: Instant, late: Late) {
        self.set_late(timer, due, if late == Late::HadTime { late } else { Late::PutOff });
    }

    fn set_late(&mut self, timer: Timer, due: Instant, late: Late) {
        self.note(&timer);
        if let Some(deadline) = self.deadlines.get_mut(&timer) {
            (deadline.due, deadline.late) = (due, late);
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
            self.deadlines.insert(timer, Deadline { due, queued: due, late });
        }
    }

    /// Whether a deadline is set.
    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.deadlines.contains_key(timer)
    }

    /// Drops a deadline, if it is set.
    pub(super) fn cancel(&mut self, timer: &Timer) {
        self.note(timer);
        if let Some(deadline) = self.deadlines.remove(timer) {
            self.queue.remove(&(deadline.queued, timer.clone()));
        }
    }

    /// Takes one deadline that has passed.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Timer, Late)> {
        while self.queue.first().is_some_and(|(at, _)| *at <= now) {
            let (_, timer) = self.queue.pop_first()?;
            match self.deadlines.get_mut(&timer) {
                Some(deadline) if deadline.due > now => {
                    deadline.queued = deadline.due;
                    self.queue.insert((deadline.due, timer));
                }
                Some(deadline) => {
                    let late = deadline.late;
                    self.deadlines.remove(&timer);
                    return Some((timer, late));
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

    /// When it can be written again: the same for deadlines that have passed while it could not, once for each. Were it
    /// all of them each time, where replicas come and go nobody who is gone would ever be missed.
    pub(super) fn extend_late(&mut self, now: Instant, grace: impl Fn(&str, &Timer) -> Duration) {
        for (timer, deadline) in &mut self.deadlines {
            let passed = deadline.late == Late::PutOff || deadline.late == Late::No && deadline.due <= now;
            if passed && let Some(group) = timer.group() {
                deadline.due = deadline.due.max(now + grace(group, timer));
                deadline.late = Late::HadTime;
            }
        }
    }

    /// Keeps in mind what is changed from now on.
    pub(super) fn note_changes(&mut self) {
        self.changes = Some(Vec::new());
    }

    /// What was changed stays so.
    pub(super) fn keep_changes(&mut self) {
        self.changes = None;
    }

    fn note(&mut self, timer: &Timer) {
        if let Some(changes) = &mut self.changes {
            let former = self.deadlines.get(timer).map(|deadline| (deadline.due, deadline.late));
            changes.push((timer.clone(), former));
        }
    }

    /// Sets the deadlines of a group to what they were, but for those that `heard_of` was to meet with what it asked:
    /// its session is as long as the step made it, and what the step would have ended is not over before `at_least`.
    pub(super) fn restore(
        &mut self,
        group: &Arc<str>,
        heard_of: Option<&HeardOf>,
        at_least: impl Fn(&Timer) -> Instant,
    ) {
        let changes = self.changes.take().unwrap_or_default();
        let due = |timers: &Self, timer: &Timer| timers.deadlines.get(timer).map(|deadline| deadline.due);
        let mut met = Vec::new();
        if let Some(HeardOf { member, syncs }) = heard_of {
            let (session, rebalance, sync) = (
                Timer::Session(group.clone(), member.clone()),
                Timer::Rebalance(group.clone(), member.clone()),
                Timer::Sync(group.clone()),
            );
            met.extend(due(self, &session).map(|due| (session, due)));
            // Partitions that it gave back, and nothing else that it asked for, would have ended that deadline.
            let gives_back = changes.iter().any(|(timer, _)| *timer == rebalance);
            let ended = [gives_back.then_some(rebalance), syncs.then_some(sync)];
            met.extend(ended.into_iter().flatten().map(|t| (t.clone(), at_least(&t))));
        }
        for (timer, former) in changes.into_iter().rev() {
            match former {
                Some((due, late)) => self.set_late(timer, due, late),
                None => self.cancel(&timer),
            }
        }
        for (timer, longer) in met {
            if due(self, &timer).is_some_and(|due| longer > due) {
                self.set(timer, longer);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(timers: &Timers) -> Vec<(Timer, Instant, Late)> {
        timers.deadlines.iter().map(|(timer, deadline)| (timer.clone(), deadline.due, deadline.late)).collect()
    }

    #[test]
    fn of_what_is_undone_only_the_session_of_who_was_heard_of_stays() {
        let group: Arc<str> = "g".into();
        let session = |member: &str| Timer::Session(group.clone(), member.into());
        let mut timers = Timers::default();
        for member in ["a", "b"] {
            timers.set(session(member), Instant(10));
        }
        let a = HeardOf { member: "a".into(), syncs: false };
        for (heard_of, first) in [(None, 10), (Some(a), 20)] {
            timers.note_changes();
            for member in ["a", "b", "c"] {
                timers.cancel(&session(member));
                timers.set(session(member), Instant(20));
            }
            timers.restore(&group, heard_of.as_ref(), |_| Instant(30));
            let expected = [(session("a"), Instant(first), Late::No), (session("b"), Instant(10), Late::No)];
            assert_eq!(shown(&timers), expected);
        }
    }

    #[test]
    fn what_is_undone_would_have_met_a_deadline_which_is_not_over_before_it_can_be_said_again() {
        let group: Arc<str> = "g".into();
        let rebalance = |member: &str| Timer::Rebalance(group.clone(), member.into());
        for (syncs, sync_due) in [(false, 10), (true, 30)] {
            let mut timers = Timers::default();
            for timer in [rebalance("a"), rebalance("b"), Timer::Sync(group.clone())] {
                timers.put_off(timer, Instant(10), Late::HadTime);
            }
            timers.note_changes();
            timers.cancel(&rebalance("a"));
            timers.cancel(&Timer::Sync(group.clone()));
            timers.restore(&group, Some(&HeardOf { member: "a".into(), syncs }), |_| Instant(30));
            let late = if syncs { Late::No } else { Late::HadTime };
            let expected = [
                (Timer::Sync(group.clone()), Instant(sync_due), late),
                (rebalance("a"), Instant(30), Late::No),
                (rebalance("b"), Instant(10), Late::HadTime),
            ];
            assert_eq!(shown(&timers), expected);
        }
    }
}
