//! One partition of groups, its coordinators one after another, and all members: what happens when.

use super::classic::{self, PARTITIONS};
use super::consumer;
use super::coordinator::{Asked, Coordinator};
use super::log::OffsetsLog;
use super::member::{Member, Protocol, Settings, TOPIC, topic_id};
use super::rules::{self, AnswerChecker, GroupRule, GroupViolation, broken};
use super::{GroupCounts, GroupOptions, GroupReport};
use crate::rng::Rng;
use chronik_core::cluster::config::Configs;
use chronik_core::cluster::{Image, Partition, Topic};
use chronik_core::groups::{
    Client, Command, Config, Event, GroupRecord, RecordKey, RecordValue, Response, Room, Ticket,
};
use chronik_core::ids::{LeaderEpoch, MetadataOffset, PartitionEpoch, ProducerId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// Members wait so long for an answer: longer than a rebalance takes.
const REQUEST_TIMEOUT: u64 = 40 * SECOND;
/// After the faults everybody is to be where they belong in so long.
const STABLE_WITHIN: u64 = 600 * SECOND;

/// What happens at a moment.
#[derive(Debug)]
enum Happens {
    /// A member looks at what it has to do.
    Wakes(usize),
    /// A request reaches the coordinator: which member's, and which.
    Arrives(usize, u64),
    /// An answer reaches its member; none if the coordinator is gone.
    Answered(usize, u64, Option<Response>),
    /// An append of that coordinator's is committed.
    Commits(u64, u64),
    /// That coordinator asked to be woken.
    Ticks(u64),
    /// That coordinator hears that too few replicas are in sync.
    TooFew(u64),
    /// That coordinator hears that enough replicas are in sync again.
    Writable(u64),
    /// That coordinator has read the log.
    Loads(u64),
    /// There is a coordinator again.
    Elected,
    /// Something goes wrong.
    Fails,
}

pub(super) struct World {
    options: GroupOptions,
    rng: Rng,
    now: u64,
    queue: BTreeMap<(u64, u64), Happens>,
    queued: u64,
    log: OffsetsLog,
    coordinator: Option<Coordinator>,
    coordinators: u64,
    members: Vec<Member>,
    answers: AnswerChecker,
    image: Image,
    faults: bool,
    /// Nothing is committed before, as too few replicas are in sync.
    too_few_until: u64,
    counts: GroupCounts,
    lines: Vec<String>,
}

impl World {
    pub(super) fn new(options: GroupOptions) -> Self {
        let mut rng = Rng::new(options.seed);
        let mut members = Vec::new();
        for (group, classic, consumer) in [("classic", 4, 0), ("consumer", 0, 4), ("mixed", 3, 3)] {
            for n in 0..classic + consumer {
                let instance = rng.per_mille(250).then(|| format!("{group}-{n}").into());
                let settings = Settings { group: Arc::from(group), instance };
                let protocol = if n < classic {
                    // Assignors of one group are eager or cooperative alike.
                    Protocol::Classic(classic::State::new(options.seed.is_multiple_of(2)))
                } else {
                    Protocol::Consumer(consumer::State::default())
                };
                members.push(Member::new(settings, protocol));
            }
        }
        let mut world = Self {
            options,
            rng,
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            log: OffsetsLog::default(),
            coordinator: None,
            coordinators: 0,
            members,
            answers: AnswerChecker::default(),
            image: image(),
            faults: true,
            too_few_until: 0,
            counts: GroupCounts::default(),
            lines: Vec::new(),
        };
        world.after(0, Happens::Elected);
        world.after(SECOND, Happens::Fails);
        for member in 0..world.members.len() {
            let at = world.rng.within(0, 5 * SECOND);
            world.after(at, Happens::Wakes(member));
        }
        world
    }

    pub(super) fn run(mut self) -> GroupReport {
        let mut steps = 0;
        let violation = loop {
            if let Err(violation) = self.step() {
                break Some(violation);
            }
            steps += 1;
            if steps == self.options.steps {
                self.heal();
                break self.run_until_stable(&mut steps).err();
            }
        };
        GroupReport {
            seed: self.options.seed,
            steps,
            simulated_us: self.now,
            counts: self.counts,
            violation,
            lines: self.lines,
        }
    }

    fn after(&mut self, delay: u64, what: Happens) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), what);
    }

    fn fault(&mut self, per_mille: u64) -> bool {
        self.faults && self.rng.per_mille(per_mille)
    }

    fn step(&mut self) -> Result<(), GroupViolation> {
        let Some(((at, _), what)) = self.queue.pop_first() else { return Ok(()) };
        self.now = at;
        if self.options.trace {
            self.lines.push(format!("{:>12.6} {what:?}", self.now as f64 / 1e6));
        }
        // A process that stands still gets everything when it goes on.
        let paused = self.coordinator.as_ref().map_or(0, |c| c.paused_until);
        if paused > self.now && !matches!(what, Happens::Wakes(_) | Happens::Answered(..) | Happens::Fails) {
            self.after(paused - self.now, what);
            return Ok(());
        }
        match what {
            Happens::Wakes(member) => self.wakes(member),
            Happens::Arrives(member, sequence) => self.arrives(member, sequence),
            Happens::Answered(member, sequence, answer) => self.answered(member, sequence, answer),
            Happens::Commits(coordinator, number) => self.commits(coordinator, number),
            Happens::Ticks(number) if self.is_current(number) => self.coordinate(Event::Tick),
            // What comes when the faults have ended would be the last that the coordinator hears.
            Happens::TooFew(number) if self.is_current(number) && self.too_few_until > self.now => {
                self.coordinate(Event::Writable(false))
            }
            Happens::Writable(number) if self.is_current(number) => self.coordinate(Event::Writable(true)),
            Happens::Loads(number) if self.is_current(number) => self.loads(),
            Happens::Ticks(_) | Happens::TooFew(_) | Happens::Writable(_) | Happens::Loads(_) => Ok(()),
            Happens::Elected => {
                self.elected();
                Ok(())
            }
            Happens::Fails => self.fails(),
        }
    }

    /// The faults stop, and everybody is there.
    fn heal(&mut self) {
        self.faults = false;
        for member in &mut self.members {
            member.alive = true;
        }
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.paused_until = 0;
        }
    }

    fn run_until_stable(&mut self, steps: &mut u64) -> Result<(), GroupViolation> {
        let healed = self.now;
        while !self.is_stable() {
            if self.now > healed + STABLE_WITHIN {
                let members: Vec<String> = self.members.iter().map(Member::summary).collect();
                return broken(GroupRule::MembersProgress, members.join("\n"));
            }
            self.step()?;
            *steps += 1;
        }
        Ok(())
    }

    /// All members own all partitions, each group in one generation.
    fn is_stable(&self) -> bool {
        let mut groups: BTreeMap<&str, (BTreeSet<i32>, Vec<i32>)> = BTreeMap::new();
        for member in &self.members {
            if !member.is_stable() {
                return false;
            }
            let (epochs, owned) = groups.entry(&member.settings.group).or_default();
            epochs.insert(member.epoch);
            owned.extend(&member.owned);
        }
        groups.into_values().all(|(epochs, mut owned)| {
            owned.sort_unstable();
            epochs.len() == 1 && owned == (0..PARTITIONS).collect::<Vec<i32>>()
        })
    }
}

/// The coordinators.
impl World {
    fn is_current(&self, number: u64) -> bool {
        self.coordinator.as_ref().is_some_and(|c| c.number == number)
    }

    fn elected(&mut self) {
        self.coordinators += 1;
        let mut coordinator = Coordinator::new(self.coordinators, config(self.options.seed), &mut self.rng);
        // How far the cleaner has come on this broker's disk.
        let end = u64::try_from(self.log.end()).unwrap_or(0);
        let cleaned = usize::try_from(self.rng.within(0, end)).unwrap_or(0);
        for record in self.log.read(cleaned) {
            coordinator.step(self.now, Event::Load(record.clone()));
        }
        let number = coordinator.number;
        self.coordinator = Some(coordinator);
        let load = self.rng.within(1, 500 * MS);
        self.after(load, Happens::Loads(number));
    }

    fn loads(&mut self) -> Result<(), GroupViolation> {
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.loaded = true;
        }
        let image = self.image.clone();
        self.coordinate(Event::Metadata(image))?;
        self.coordinate(Event::Loaded)
    }

    /// The coordinator takes a step, and what it wants is done.
    fn coordinate(&mut self, event: Event) -> Result<(), GroupViolation> {
        let Some(coordinator) = &mut self.coordinator else { return Ok(()) };
        let number = coordinator.number;
        let commands = coordinator.step(self.now, event);
        let mut appended = false;
        for command in commands {
            match command {
                Command::Append { number: append, records } => {
                    if self.options.trace {
                        let keys: Vec<_> = records.iter().map(|r| (&r.key, r.value.is_some())).collect();
                        self.lines.push(format!("             append {append}: {keys:?}"));
                    }
                    self.log.append(append, records);
                    let slow = self.fault(20);
                    let delay = self.rng.within(0, if slow { 5 * SECOND } else { 20 * MS });
                    self.after(delay, Happens::Commits(number, append));
                    appended = true;
                }
                Command::Reply { ticket, response } => self.replies(ticket, response)?,
                Command::WakeAt(at) => {
                    let at = self.coordinator.as_ref().map_or(0, |c| c.simulated(at));
                    self.after(at.saturating_sub(self.now), Happens::Ticks(number));
                }
            }
        }
        if appended && self.fault(5) {
            return self.fail_over();
        }
        Ok(())
    }

    fn replies(&mut self, ticket: Ticket, response: Response) -> Result<(), GroupViolation> {
        let Some(coordinator) = &mut self.coordinator else { return Ok(()) };
        let Some(asked) = coordinator.asked.remove(&ticket) else {
            return broken(GroupRule::MembersAnsweredOnce, format!("{ticket:?}: {response:?}"));
        };
        self.answers.check(&self.log, &asked, &response)?;
        if !self.fault(20) {
            let delay = self.latency();
            self.after(delay, Happens::Answered(asked.client, asked.sequence, Some(response)));
        }
        Ok(())
    }

    fn commits(&mut self, coordinator: u64, number: u64) -> Result<(), GroupViolation> {
        if !self.is_current(coordinator) {
            return Ok(());
        }
        if self.too_few_until > self.now {
            self.after(self.too_few_until - self.now, Happens::Commits(coordinator, number));
            return Ok(());
        }
        let records = self.commit_with(|log| log.commit(number));
        self.see(&records)?;
        if records.is_empty() {
            return Ok(());
        }
        if self.fault(5) {
            return self.fail_over();
        }
        self.coordinate(Event::Committed(number))
    }

    /// Commits, and keeps with each record what its key had before.
    fn commit_with(
        &mut self,
        commit: impl FnOnce(&mut OffsetsLog) -> Vec<GroupRecord>,
    ) -> Vec<(Option<RecordValue>, GroupRecord)> {
        let end = self.log.end();
        let records = commit(&mut self.log);
        let before = |(at, record): (usize, &GroupRecord)| self.log.value_before(&record.key, end + at).cloned();
        records.iter().enumerate().map(|at| (before(at), at.1.clone())).collect()
    }

    fn see(&mut self, records: &[(Option<RecordValue>, GroupRecord)]) -> Result<(), GroupViolation> {
        for (before, record) in records {
            rules::committed(before.as_ref(), record)?;
        }
        let goes = |key: fn(Arc<str>) -> RecordKey, group: &Arc<str>| {
            records.iter().any(|(before, r)| r.key == key(group.clone()) && r.value.is_none() && before.is_some())
        };
        for (before, record) in records {
            match (&record.key, &record.value) {
                (RecordKey::ConsumerGroupMember(group, _), Some(RecordValue::ConsumerGroupMember(value)))
                    if before.is_none() && value.classic.is_some() && goes(RecordKey::GroupMetadata, group) =>
                {
                    self.counts.upgrades += 1;
                }
                (RecordKey::GroupMetadata(group), Some(RecordValue::GroupMetadata(value)))
                    if !value.members.is_empty() && goes(RecordKey::ConsumerGroupMetadata, group) =>
                {
                    self.counts.downgrades += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The coordinator is gone, with some of what it has appended. Who waits for it hears so, or hears nothing.
    fn fail_over(&mut self) -> Result<(), GroupViolation> {
        let Some(coordinator) = self.coordinator.take() else { return Ok(()) };
        self.too_few_until = 0;
        self.counts.failovers += 1;
        let pending = u64::try_from(self.log.pending()).unwrap_or(0);
        let kept = usize::try_from(self.rng.within(0, pending)).unwrap_or(0);
        let mut lost = 0;
        let records = self.commit_with(|log| {
            let (records, cut) = log.cut(kept);
            lost = cut;
            records
        });
        self.counts.lost_appends += u64::try_from(lost).unwrap_or(0);
        self.see(&records)?;
        for asked in coordinator.asked.into_values() {
            if self.rng.per_mille(500) {
                let delay = self.latency();
                self.after(delay, Happens::Answered(asked.client, asked.sequence, None));
            }
        }
        let delay = self.rng.within(10 * MS, 5 * SECOND);
        self.after(delay, Happens::Elected);
        Ok(())
    }

    fn fails(&mut self) -> Result<(), GroupViolation> {
        if !self.faults {
            return Ok(());
        }
        let delay = self.rng.within(SECOND, 15 * SECOND);
        self.after(delay, Happens::Fails);
        match self.rng.within(0, 9) {
            0 | 1 => self.fail_over(),
            2 => {
                let until = self.now + self.rng.within(SECOND, 30 * SECOND);
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.paused_until = until;
                }
                Ok(())
            }
            3..=5 => {
                let member = self.rng.index(self.members.len());
                self.members[member].crash();
                self.counts.crashes += 1;
                Ok(())
            }
            6 => {
                self.loses_replicas();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Too few replicas are in sync for a while. The coordinator hears of both ends later than they are.
    fn loses_replicas(&mut self) {
        let Some(number) = self.coordinator.as_ref().filter(|c| c.loaded).map(|c| c.number) else { return };
        self.counts.too_few_in_sync += 1;
        let lasts = self.rng.within(SECOND, 30 * SECOND);
        self.too_few_until = self.now + lasts;
        let late = self.rng.within(0, 500 * MS);
        self.after(late, Happens::TooFew(number));
        let late = self.rng.within(500 * MS, SECOND);
        self.after(lasts + late, Happens::Writable(number));
    }
}

/// The members.
impl World {
    fn latency(&mut self) -> u64 {
        let slow = self.fault(30);
        self.rng.within(100, if slow { 8 * SECOND } else { 5 * MS })
    }

    fn wakes(&mut self, n: usize) -> Result<(), GroupViolation> {
        // A process may stand still too, for longer than its session lasts.
        let still = self.fault(5);
        let next = self.rng.within(50 * MS, if still { 25 * SECOND } else { 1_500 * MS });
        self.after(next, Happens::Wakes(n));
        if !self.members[n].alive {
            self.members[n].alive = self.rng.per_mille(100);
            return Ok(());
        }
        if let Some((_, since)) = self.members[n].waits {
            let given_up = self.now > since + REQUEST_TIMEOUT || self.fault(3);
            return if given_up { self.times_out(n) } else { Ok(()) };
        }
        let leaves = if self.faults { 10 } else { 0 };
        let Some(request) = self.members[n].next_request(&mut self.rng, leaves) else { return Ok(()) };
        let member = &mut self.members[n];
        member.sequence += 1;
        member.waits = Some((request, self.now));
        member.in_flight = true;
        let sequence = member.sequence;
        if !self.fault(20) {
            let delay = self.latency();
            self.after(delay, Happens::Arrives(n, sequence));
        }
        self.one_owner(n)
    }

    /// The member gives a request up, and its connection with it: what is on its way arrives now or never.
    fn times_out(&mut self, n: usize) -> Result<(), GroupViolation> {
        self.counts.timeouts += 1;
        let sequence = self.members[n].sequence;
        let paused = self.coordinator.as_ref().is_some_and(|c| c.paused_until > self.now);
        if self.rng.per_mille(500) && !paused {
            self.arrives(n, sequence)?;
        }
        let member = &mut self.members[n];
        member.sequence += 1;
        member.in_flight = false;
        member.waits = None;
        member.doubts();
        Ok(())
    }

    fn arrives(&mut self, n: usize, sequence: u64) -> Result<(), GroupViolation> {
        let member = &mut self.members[n];
        if member.sequence != sequence || !member.in_flight {
            return Ok(());
        }
        member.in_flight = false;
        let Some((request, _)) = member.waits.clone() else { return Ok(()) };
        let Some(coordinator) = &mut self.coordinator else {
            let delay = self.latency();
            self.after(delay, Happens::Answered(n, sequence, None));
            return Ok(());
        };
        let since = self.log.end();
        let ticket = coordinator.ticket(Asked { client: n, sequence, request: request.clone(), since });
        let client = Client { id: format!("client-{n}").into(), host: Arc::from("/10.0.0.1") };
        let random = (u128::from(self.rng.any()) << 64) | u128::from(self.rng.any());
        self.coordinate(Event::Request { ticket, client, request, random, room: Room::ENDLESS })
    }

    fn answered(&mut self, n: usize, sequence: u64, answer: Option<Response>) -> Result<(), GroupViolation> {
        let member = &mut self.members[n];
        if member.sequence != sequence {
            return Ok(());
        }
        let Some((request, _)) = member.waits.take() else { return Ok(()) };
        let Some(answer) = answer else {
            member.doubts();
            return Ok(());
        };
        match &answer {
            Response::OffsetCommit(answers) if answers.iter().all(Result::is_ok) => self.counts.commits += 1,
            Response::SyncGroup(Ok(_)) => self.counts.assignments += 1,
            Response::ConsumerGroupHeartbeat(Ok(answer)) if answer.assignment.is_some() => self.counts.assignments += 1,
            _ => {}
        }
        member.take(&request, &answer)?;
        self.one_owner(n)
    }

    /// In a consumer group nobody owns what another member owns. Who is not a member any more, and does not know it,
    /// does not count: its commits are refused.
    fn one_owner(&self, n: usize) -> Result<(), GroupViolation> {
        let group = &self.members[n].settings.group;
        if !rules::is_consumer_group(&self.log, group) {
            return Ok(());
        }
        let key = |member: &Member| RecordKey::ConsumerGroupMember(group.clone(), member.id.clone());
        let belongs = |m: &&Member| m.alive && m.settings.group == *group && self.log.value(&key(m)).is_some();
        let mut owners: BTreeMap<i32, &Member> = BTreeMap::new();
        for member in self.members.iter().filter(belongs) {
            for partition in &member.owned {
                if let Some(other) = owners.insert(*partition, member) {
                    let (a, b) = (other.summary(), member.summary());
                    let what = format!("{partition} of {group} is owned by two\n{a}\n{b}");
                    return broken(GroupRule::OneOwner, what);
                }
            }
        }
        Ok(())
    }
}

/// What coordinators go by: short sessions, so that much happens.
fn config(seed: u64) -> Config {
    Config {
        initial_rebalance_delay: Duration::from_secs(seed % 4),
        consumer_session_timeout: Duration::from_secs(10),
        consumer_heartbeat_interval: Duration::from_secs(2),
        ..Config::default()
    }
}

fn image() -> Image {
    let partition = Partition {
        adding: Box::default(),
        removing: Box::default(),
        replicas: Vec::new(),
        isr: Vec::new(),
        elr: Box::default(),
        leader: None,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
    };
    let topic = Topic {
        id: topic_id(),
        name: Arc::from(TOPIC),
        partitions: (0..PARTITIONS).map(|_| partition.clone()).collect(),
        configs: Configs::default(),
        min_insync_replicas: 1,
        default_min_insync_replicas: 1,
        older_producers: ProducerId(0),
    };
    let mut image = Image { offset: MetadataOffset(1), ..Image::default() };
    image.topic_ids.insert(topic.name.clone(), topic.id);
    image.topics.insert(topic.id, topic);
    image
}
