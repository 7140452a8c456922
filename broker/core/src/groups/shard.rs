//! All groups of one partition of `__consumer_offsets`: which group an event is for.

use super::consumer::ConsumerGroup;
use super::event::{Command, Config, Event, Now, Ticket};
use super::group::{Group, GroupKind};
use super::limits::{self, Room};
use super::record::GroupRecord;
use super::refusal::refuse;
use super::replies::Replies;
use super::request::{Client, Request};
use super::requests::{absent, creates_group, list, needs_group_id};
use super::response::{GroupError, Response};
use super::step::{Step, Written};
use super::timers::{Timer, Timers};
use crate::cluster::Image;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Answers that may wait for commits; requests beyond are refused with a retriable error.
const MAX_WAITING: usize = 100_000;

/// The coordinator of all groups of one partition.
#[derive(Debug)]
pub struct Shard {
    pub(super) config: Config,
    pub(super) image: Option<Image>,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) timers: Timers,
    pub(super) replies: Replies,
    /// Bytes that the groups keep of what their members said.
    pub(super) kept: usize,
    /// Bytes that the groups take without their members: their names, and what they have committed.
    pub(super) committed: usize,
    loaded: bool,
    /// The last append with the end of a group.
    removed: Option<u64>,
    /// Appends are not likely to be committed soon: nothing that has to be written is done.
    pub(super) refuses: bool,
    /// Topics were deleted meanwhile: their offsets are forgotten when it can be written again.
    pub(super) forgets_later: bool,
    /// How often a group was copied to be able to undo its step.
    #[cfg(test)]
    pub(super) copies: std::cell::Cell<u64>,
}

/// A deadline whose work could not be written comes again after so long, as in Kafka.
const RETRY: Duration = Duration::from_millis(500);

impl Shard {
    /// A shard that is yet to be loaded: [`Event::Load`] for each record, [`Event::Metadata`] at least once (as new
    /// as the leadership), and [`Event::Loaded`].
    pub fn new(config: Config) -> Self {
        Self {
            config,
            image: None,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            replies: Replies::default(),
            kept: 0,
            committed: 0,
            loaded: false,
            removed: None,
            refuses: false,
            forgets_later: false,
            #[cfg(test)]
            copies: std::cell::Cell::default(),
        }
    }

    /// Takes in an event, and adds to `out` what is to be done.
    pub fn step(&mut self, now: Now, event: Event, out: &mut Vec<Command>) {
        self.after_stall(now);
        match event {
            Event::Load(record) => self.load(record),
            Event::LoadUncommitted(record) => self.load_uncommitted(record),
            Event::Loaded => self.finish_loading(now, out),
            Event::Request { ticket, client, request, random, room } => {
                let error = if !self.loaded {
                    Some(GroupError::CoordinatorLoadInProgress)
                } else if self.replies.len() >= MAX_WAITING {
                    Some(GroupError::CoordinatorNotAvailable)
                } else {
                    request.check_lengths(&client).err().or_else(|| self.check_room(&request, &client, room).err())
                };
                match error {
                    Some(error) => out.push(Command::Reply { ticket, response: refuse(&request, error) }),
                    None => self.request(now, ticket, &client, request, random, out),
                }
            }
            Event::Committed(number) => self.replies.committed(number, out),
            Event::Writable(writable) => self.writable(now, writable, out),
            Event::Metadata(image) => self.metadata(now, image, out),
            // The shell drops the answer to who is gone; a member that is gone ends with its session.
            Event::Tick | Event::Abandoned(_) => {}
        }
        if self.loaded {
            self.fire(now, out);
        }
        if let Some(wake) = self.timers.wake() {
            out.push(Command::WakeAt(wake));
        }
    }

    /// What a step of one group may use, and the group.
    fn parts<'a>(&'a mut self, now: Now, out: &'a mut Vec<Command>) -> (&'a mut BTreeMap<Arc<str>, Group>, Step<'a>) {
        let step = Step::new(now, &self.config, self.image.as_ref(), &mut self.timers, &mut self.replies, out);
        (&mut self.groups, step)
    }
}

/// Loading.
impl Shard {
    fn load(&mut self, record: GroupRecord) {
        let GroupRecord { key, value } = record;
        let id = key.group().clone();
        let group = self.groups.entry(id.clone()).or_insert_with(|| Group::empty(&id));
        group.load(key, value);
        if group.is_nothing() {
            self.groups.remove(&id);
        }
    }

    /// As if it had been appended here, with all others of its kind in one append.
    fn load_uncommitted(&mut self, record: GroupRecord) {
        if self.replies.next_append() == 0 {
            self.replies.appended();
        }
        let id = record.key.group().clone();
        self.load(record);
        match self.groups.get_mut(&id) {
            Some(group) => group.written = Written::all_in(0),
            None => self.removed = Some(0),
        }
    }

    /// The number of the append that was made last, or that stands for what was loaded and is not committed.
    pub fn last_append(&self) -> Option<u64> {
        self.replies.next_append().checked_sub(1)
    }

    fn finish_loading(&mut self, now: Now, out: &mut Vec<Command>) {
        self.loaded = true;
        self.committed = self.groups.iter().map(|(id, group)| group.committed(id)).sum();
        let interval = self.config.offsets_check_interval.max(Duration::from_secs(1));
        self.timers.set(Timer::Expiry, now.monotonic + interval);
        let refuses = self.refuses;
        self.forgets_later = refuses;
        self.each_group(now, out, |id, group, step| {
            match &mut group.kind {
                GroupKind::Classic(classic) => classic.loaded(step),
                GroupKind::Consumer(consumer) => consumer.within(step, ConsumerGroup::loaded),
            }
            if !refuses {
                group.forget_deleted_topics(id, step);
            }
        });
        self.kept = self.groups.values_mut().map(|group| group.recount(true)).sum();
    }

    /// Takes a step with each group, which writes nothing while appends are not likely to be committed; what is nothing
    /// any more is dropped.
    pub(super) fn each_group(
        &mut self,
        now: Now,
        out: &mut Vec<Command>,
        mut with: impl FnMut(&Arc<str>, &mut Group, &mut Step<'_>),
    ) {
        let (groups, mut step) = self.parts(now, out);
        let (mut gone, mut removed) = (0, None);
        let (mut before, mut after) = (0, 0);
        groups.retain(|id, group| {
            before += group.committed(id);
            step.enter(group.written);
            with(id, group, &mut step);
            group.written = step.written();
            step.cut();
            let nothing = group.is_nothing();
            removed = removed.max(group.written.last().filter(|_| nothing));
            gone += if nothing { group.kept } else { 0 };
            after += if nothing { 0 } else { group.committed(id) };
            !nothing
        });
        let _ = step.finish();
        self.removed = self.removed.max(removed);
        self.kept -= gone;
        self.committed = self.committed + after - before;
    }
}

/// What is counted.
impl Shard {
    /// About the bytes that the groups keep of what their members said.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// About the bytes that the groups take without their members: their names, and what they have committed.
    pub fn committed(&self) -> usize {
        self.committed
    }

    /// Whether there is room for what would be kept of a request. A member that says no more than before always has it,
    /// and so has a group that commits where it has committed before.
    fn check_room(&self, request: &Request, client: &Client, room: Room) -> Result<(), GroupError> {
        let group = request.group().and_then(|id| self.groups.get(id));
        let asks = request.kept(client);
        if asks > room.members && asks > group.map_or(0, |group| group.kept_of(request)) {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let creates = group.is_none() && creates_group(request);
        let mut grows = if creates { request.group().map_or(0, |id| limits::group(id)) } else { 0 };
        if let Request::OffsetCommit(commit) = request {
            grows += match group {
                Some(group) => group.growth(commit),
                None if creates => Group::empty(&commit.group).growth(commit),
                None => 0,
            };
        }
        if grows <= room.offsets { Ok(()) } else { Err(GroupError::CoordinatorNotAvailable) }
    }
}

/// Requests.
impl Shard {
    fn request(
        &mut self,
        now: Now,
        ticket: Ticket,
        client: &Client,
        request: Request,
        random: u128,
        out: &mut Vec<Command>,
    ) {
        let undo = if self.refuses && self.may_write(&request) {
            request.group().map(|id| (self.before(id, request.heard_of(), out), request.clone()))
        } else {
            None
        };
        let done = self.carry_out(now, ticket, client, request, random, out);
        debug_assert!(done || undo.is_some(), "what was taken for a request that writes nothing has written");
        if done {
            self.timers.keep_changes();
        } else if let Some((before, request)) = undo {
            self.undo(now, before, out);
            out.push(Command::Reply { ticket, response: refuse(&request, GroupError::CoordinatorNotAvailable) });
        }
    }

    /// Whether a step with that request may have to write. What cannot needs no copy of its group.
    fn may_write(&self, request: &Request) -> bool {
        let reads = matches!(
            request,
            Request::OffsetFetch { .. } | Request::DescribeGroup(_) | Request::ConsumerGroupDescribe(_)
        );
        match request.group().and_then(|id| self.groups.get(id)).map(|group| &group.kind) {
            Some(GroupKind::Classic(_)) => !reads && !matches!(request, Request::Heartbeat { .. }),
            // Whatever is asked of it, it may become a classic group.
            Some(GroupKind::Consumer(consumer)) => !reads || consumer.has_classic_members_alone(&self.config),
            None => !reads,
        }
    }

    /// Does what is asked. False if that has to be undone.
    fn carry_out(
        &mut self,
        now: Now,
        ticket: Ticket,
        client: &Client,
        request: Request,
        random: u128,
        out: &mut Vec<Command>,
    ) -> bool {
        let (max_groups, refuses, removed) = (self.config.max_groups, self.refuses, self.removed);
        let (groups, step) = self.parts(now, out);
        let mut step = step.refusing(refuses);
        let Some(id) = request.group().cloned() else {
            let answer = Response::ListGroups(Ok(list(groups, &request)));
            let last = step.last_append();
            step.reply_after(last, ticket, answer);
            return true;
        };
        if id.is_empty() && needs_group_id(&request) {
            step.reply(ticket, refuse(&request, GroupError::InvalidGroupId));
            return true;
        }
        let known = groups.contains_key(&id);
        if !known && !creates_group(&request) {
            // An answer about a group that was deleted waits for its tombstones.
            step.reply_after(removed, ticket, absent(&request, step.config));
            return true;
        }
        if !known && groups.len() >= max_groups {
            step.reply(ticket, refuse(&request, GroupError::CoordinatorNotAvailable));
            return true;
        }
        let group = groups.entry(id.clone()).or_insert_with(|| Group::empty(&id));
        let committed = if known { group.committed(&id) } else { 0 };
        step.enter(group.written);
        let deleted = matches!(request, Request::DeleteGroup(_)) && group.is_empty();
        let (before, changes) = (group.kept, may_change_members(&request));
        group.request(&id, request, client, random, ticket, &mut step);
        group.written = step.written();
        let gone = deleted || group.is_nothing();
        let written = group.written;
        let (after, commits) = if gone { (0, 0) } else { (group.recount(changes), group.committed(&id)) };
        if gone {
            groups.remove(&id);
        }
        let done = step.finish();
        if gone && done {
            self.note_removal(written);
        }
        self.kept = self.kept - before + after;
        self.committed = self.committed - committed + commits;
        done
    }

    /// A group has ended of which that was written: one that never was waits for nothing.
    fn note_removal(&mut self, written: Written) {
        self.removed = self.removed.max(written.last());
    }
}

/// Time, and the cluster's metadata.
impl Shard {
    fn metadata(&mut self, now: Now, image: Image, out: &mut Vec<Command>) {
        let former = self.image.replace(image);
        if !self.loaded {
            return;
        }
        let deleted = match (&former, &self.image) {
            (Some(former), Some(image)) => topics_deleted(former, image),
            _ => false,
        };
        let changed_at = match (&former, &self.image) {
            (Some(former), Some(image)) if !topics_changed(former, image) => None,
            (_, image) => image.as_ref().map(|image| image.offset),
        };
        if !deleted && changed_at.is_none() {
            // Most of what changes are ISRs, thousands of times where a broker goes.
            return;
        }
        let forgets = deleted && !self.refuses;
        self.forgets_later |= deleted && self.refuses;
        self.each_group(now, out, |id, group, step| {
            if forgets {
                group.forget_deleted_topics(id, step);
            }
            if let GroupKind::Consumer(consumer) = &mut group.kind
                && let Some(version) = changed_at
            {
                consumer.topics_changed(version);
            }
        });
    }

    fn after_stall(&mut self, now: Now) {
        if self.loaded && self.timers.stalled(now.monotonic) {
            let (timers, grace) = self.deadlines();
            timers.extend(now.monotonic, grace);
        }
    }

    /// The deadlines, and how long each is kept at least so that members can say again that they are there before.
    pub(super) fn deadlines(&mut self) -> (&mut Timers, impl Fn(&str, &Timer) -> Duration) {
        let (groups, config, image) = (&self.groups, &self.config, &self.image);
        let grace = move |group: &str, timer: &Timer| {
            let own = image.as_ref().and_then(|image| image.group_configs.get(group));
            let timeouts = config.consumer_timeouts(own);
            groups.get(group).map_or(Duration::ZERO, |g| g.grace(timer, timeouts))
        };
        (&mut self.timers, grace)
    }

    fn fire(&mut self, now: Now, out: &mut Vec<Command>) {
        // Groups with a deadline that would have had to write. What else is due of them waits with it, as each try copies
        // the whole group.
        let mut undone = BTreeSet::new();
        while let Some((timer, late)) = self.timers.pop(now.monotonic) {
            let Some(id) = timer.group().cloned() else {
                self.expire(now, out);
                continue;
            };
            if undone.contains(&id) {
                self.timers.put_off(timer, now.monotonic + RETRY, late);
                continue;
            }
            if !self.groups.contains_key(&id) {
                continue;
            }
            let (refuses, undo) = (self.refuses, self.refuses.then(|| self.before(&id, None, out)));
            let (groups, step) = self.parts(now, out);
            let mut step = step.refusing(refuses);
            let Some(group) = groups.get_mut(&id) else { continue };
            step.enter(group.written);
            let (before, committed) = (group.kept, group.committed(&id));
            group.timer(&id, &timer, &mut step);
            let written = step.written();
            group.written = written;
            let gone = group.is_nothing();
            let (after, commits) = if gone { (0, 0) } else { (group.recount(true), group.committed(&id)) };
            if gone {
                groups.remove(&id);
            }
            let done = step.finish();
            if gone && done {
                self.note_removal(written);
            }
            self.kept = self.kept - before + after;
            self.committed = self.committed - committed + commits;
            if done {
                self.timers.keep_changes();
            } else if let Some(before) = undo {
                self.undo(now, before, out);
                self.timers.put_off(timer, now.monotonic + RETRY, late);
                undone.insert(id);
            }
        }
    }

    fn expire(&mut self, now: Now, out: &mut Vec<Command>) {
        if !self.refuses {
            self.each_group(now, out, |id, group, step| group.expire(id, step));
        }
        let interval = self.config.offsets_check_interval.max(Duration::from_secs(1));
        self.timers.set(Timer::Expiry, now.monotonic + interval);
    }

    /// Committed offsets, for metrics: group, topic, partition, offset.
    pub fn committed_offsets(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, i32, i64)> {
        self.groups.iter().flat_map(|(id, group)| {
            group.offsets.iter().map(move |(topic, partition, value)| (id, topic, partition, value.offset))
        })
    }
}

/// Whether a group may keep more or less of what its members said after it.
fn may_change_members(request: &Request) -> bool {
    match request {
        Request::JoinGroup(_) | Request::LeaveGroup { .. } | Request::ConsumerGroupHeartbeat(_) => true,
        Request::SyncGroup(sync) => !sync.assignments.is_empty(),
        _ => false,
    }
}

/// Whether topics have come or gone, or have another number of partitions.
fn topics_changed(former: &Image, image: &Image) -> bool {
    former.topics.diff(&image.topics).any(|change| match change {
        imbl::ordmap::DiffItem::Update { old: (_, old), new: (_, new) } => old.partitions.len() != new.partitions.len(),
        imbl::ordmap::DiffItem::Add(..) | imbl::ordmap::DiffItem::Remove(..) => true,
    })
}

/// Whether a topic of the former image is not in the new one.
fn topics_deleted(former: &Image, image: &Image) -> bool {
    former.topics.diff(&image.topics).any(|change| matches!(change, imbl::ordmap::DiffItem::Remove(..)))
}
