//! All groups of one partition of `__consumer_offsets`: which group an event is for.

use super::event::{Command, Config, Event, Now, Ticket};
use super::group::{Group, GroupKind};
use super::record::GroupRecord;
use super::refusal::refuse;
use super::replies::Replies;
use super::request::{Client, Request};
use super::response::GroupError;
use super::step::Step;
use super::timers::{Timer, Timers};
use crate::cluster::Image;
use std::collections::BTreeMap;
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
    loaded: bool,
}

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
            loaded: false,
        }
    }

    /// Takes in an event, and adds to `out` what is to be done.
    pub fn step(&mut self, now: Now, event: Event, out: &mut Vec<Command>) {
        self.after_stall(now);
        match event {
            Event::Load(record) => self.load(record),
            Event::Loaded => self.finish_loading(now, out),
            Event::Request { ticket, client, request, random } => {
                let error = if !self.loaded {
                    Some(GroupError::CoordinatorLoadInProgress)
                } else if self.replies.len() >= MAX_WAITING {
                    Some(GroupError::CoordinatorNotAvailable)
                } else {
                    None
                };
                match error {
                    Some(error) => out.push(Command::Reply { ticket, response: refuse(&request, error) }),
                    None => self.request(now, ticket, &client, request, random, out),
                }
            }
            // Its answer is dropped by the shell; a member that is gone ends with its session.
            Event::Abandoned(_) => {}
            Event::Committed(number) => self.replies.committed(number, out),
            Event::Metadata(image) => self.metadata(now, image, out),
            Event::Config(config) => self.config = config,
            Event::Tick => {}
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
        let group = self.groups.entry(id.clone()).or_insert_with(Group::empty);
        group.load(key, value);
        if group.is_nothing() {
            self.groups.remove(&id);
        }
    }

    fn finish_loading(&mut self, now: Now, out: &mut Vec<Command>) {
        self.loaded = true;
        let (groups, mut step) = self.parts(now, out);
        for (id, group) in groups.iter_mut() {
            match &mut group.kind {
                GroupKind::Classic(classic) => classic.loaded(id, &mut step),
                GroupKind::Consumer(consumer) => consumer.loaded(id, &mut step),
            }
            group.touched(&mut step);
            step.flush_large();
        }
        let interval = step.config.offsets_check_interval;
        step.set_timer(Timer::Expiry, interval);
        step.finish();
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
        let full = self.groups.len() >= self.config.max_groups;
        let (groups, mut step) = self.parts(now, out);
        let Some(id) = request.group().cloned() else {
            return step.reply(ticket, refuse(&request, GroupError::InvalidRequest));
        };
        let _ = (full, client, random, groups, id);
        step.reply(ticket, refuse(&request, GroupError::UnsupportedVersion));
        step.finish();
    }
}

/// Time, and the cluster's metadata.
impl Shard {
    fn metadata(&mut self, now: Now, image: Image, out: &mut Vec<Command>) {
        self.image = Some(image);
        if !self.loaded {
            return;
        }
        let (groups, mut step) = self.parts(now, out);
        for (id, group) in groups.iter_mut() {
            if let GroupKind::Consumer(consumer) = &mut group.kind {
                consumer.metadata(id, &mut step);
            }
            group.touched(&mut step);
            step.flush_large();
        }
        step.finish();
    }

    fn after_stall(&mut self, now: Now) {
        if self.loaded && self.timers.stalled(now.monotonic) {
            let (groups, config) = (&self.groups, &self.config);
            self.timers.extend_sessions(now.monotonic, |group, member| {
                groups.get(group).map_or(Duration::ZERO, |g| g.heartbeat_grace(member, config))
            });
        }
    }

    fn fire(&mut self, now: Now, out: &mut Vec<Command>) {
        let (groups, mut step) = self.parts(now, out);
        while let Some(timer) = step.timers.pop(now.monotonic) {
            let Some(id) = timer.group() else { continue };
            let Some(group) = groups.get_mut(id) else { continue };
            match &mut group.kind {
                GroupKind::Classic(classic) => classic.timer(&timer, &mut step),
                GroupKind::Consumer(consumer) => consumer.timer(&timer, &mut step),
            }
            group.touched(&mut step);
            step.flush_large();
        }
        step.finish();
    }
}
