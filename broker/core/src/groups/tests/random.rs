//! Clients, lost answers, failovers: the invariants of a classic group.

use super::*;
use crate::groups::group::{Group, GroupKind};
use std::collections::BTreeSet;

/// Numbers that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
enum Waits {
    Join(Ticket),
    Sync(Ticket),
    Heartbeat(Ticket),
    Commit(Ticket, i64),
    Fetch(Ticket, i64),
}

impl Waits {
    fn ticket(self) -> Ticket {
        match self {
            Self::Join(t) | Self::Sync(t) | Self::Heartbeat(t) | Self::Commit(t, _) | Self::Fetch(t, _) => t,
        }
    }
}

#[derive(Debug, Default)]
struct Member {
    instance: Option<Arc<str>>,
    id: Arc<str>,
    generation: i32,
    /// In the generation, with an assignment.
    stable: bool,
    /// What it must sync with.
    joined: Option<JoinedGroup>,
    waits: Option<Waits>,
    /// When it sent that, in microseconds.
    since: u64,
    dead: bool,
}

struct World {
    bench: Bench,
    random: Random,
    members: Vec<Member>,
    /// By generation: to which member (or instance) each partition was assigned.
    owners: BTreeMap<(i32, u8), Arc<str>>,
    /// Offsets are committed in this order.
    next_offset: i64,
    /// The greatest offset in an answer to a commit or a fetch.
    answered_offset: i64,
    faults: bool,
    /// What the shard was last told.
    writable: bool,
}

const GROUP: &str = "g";
const PARTITIONS: u8 = 8;

impl World {
    fn new(seed: u64) -> Self {
        let mut bench = Bench::new();
        bench.config.initial_rebalance_delay = Duration::from_secs(seed % 4);
        bench.commits = false;
        bench.fail_over();
        let members =
            (0..5).map(|n| Member { instance: (n < 2).then(|| format!("static-{n}").into()), ..Member::default() });
        let members = members.collect();
        let random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        Self {
            bench,
            random,
            members,
            owners: BTreeMap::new(),
            next_offset: 1,
            answered_offset: -1,
            faults: true,
            writable: true,
        }
    }

    fn fault(&mut self, one_in: u64) -> bool {
        self.faults && self.random.one_in(one_in)
    }

    fn step(&mut self) {
        let time = Duration::from_millis(self.random.below(800));
        self.bench.pass(time);
        if self.fault(150) {
            self.bench.fail_over();
            self.bench.answers.clear();
            self.writable = true;
            let loaded = records(&self.bench.shard);
            assert_eq!(loaded, self.bench.written(), "a loaded shard is not the one that wrote the log");
        }
        if self.fault(60) || (!self.faults && !self.writable) {
            self.writable = !self.writable;
            self.bench.event(Event::Writable(self.writable));
        }
        if !self.faults || self.random.one_in(2) {
            self.bench.commit_all();
            self.check_live();
        }
        let n = self.random.below(self.members.len() as u64) as usize;
        if self.fault(100) {
            let instance = self.members[n].instance.clone();
            // A crash: who comes back knows nothing but its instance id.
            self.members[n] = Member { instance, dead: self.random.one_in(2), ..Member::default() };
        } else if self.members[n].dead {
            self.members[n].dead = self.faults;
        } else {
            self.act(n);
        }
    }

    /// What is committed is what the shard holds, unless the group is between two generations.
    fn check_live(&self) {
        let mut live = records(&self.bench.shard);
        let mut written = self.bench.written();
        let stable = self.bench.shard.groups.values().all(|g| matches!(g.state_name(), "Stable" | "Empty"));
        if !stable {
            live.retain(|key, _| matches!(key, RecordKey::OffsetCommit { .. }));
            written.retain(|key, _| matches!(key, RecordKey::OffsetCommit { .. }));
        }
        assert_eq!(live, written);
    }

    fn act(&mut self, n: usize) {
        if let Some(waits) = self.members[n].waits {
            match self.bench.answers.remove(&waits.ticket()) {
                Some(_) if self.fault(20) => self.members[n].waits = None,
                Some(answer) => {
                    self.members[n].waits = None;
                    self.take(n, waits, answer);
                }
                // The answer is lost, with the coordinator that owed it.
                None if self.bench.micros - self.members[n].since > 60_000_000 => self.members[n].waits = None,
                None => {}
            }
            return;
        }
        let waits = self.next_request(n);
        self.members[n].since = self.bench.micros;
        self.members[n].waits = waits;
    }

    fn next_request(&mut self, n: usize) -> Option<Waits> {
        let member = &self.members[n];
        let reference = MemberRef { member_id: member.id.clone(), instance_id: member.instance.clone() };
        let generation = member.generation;
        if let Some(joined) = member.joined.clone() {
            let mut request = sync(GROUP, &member.id, generation, &[]);
            request.member = reference;
            let count = joined.members.len();
            request.assignments = joined
                .members
                .iter()
                .enumerate()
                .map(|(i, m)| {
                    let mine = (0..PARTITIONS).filter(|p| *p as usize % count == i).collect::<Vec<u8>>();
                    (m.member_id.clone(), mine.into())
                })
                .collect();
            return Some(Waits::Sync(self.bench.send(Request::SyncGroup(request))));
        }
        if !member.stable {
            let mut request = join(GROUP, "");
            request.member = reference;
            return Some(Waits::Join(self.bench.send(Request::JoinGroup(request))));
        }
        match self.random.below(6) {
            0 => {
                let offset = self.next_offset;
                self.next_offset += 1;
                let Request::OffsetCommit(mut request) = commit(GROUP, "", generation, "t", 1, offset) else {
                    return None;
                };
                request.member = reference;
                Some(Waits::Commit(self.bench.send(Request::OffsetCommit(request)), offset))
            }
            1 => {
                let topics = Some(vec![(Arc::from("t"), vec![0])]);
                let request = Request::OffsetFetch { group: GROUP.into(), member: None, topics, require_stable: true };
                Some(Waits::Fetch(self.bench.send(request), self.answered_offset))
            }
            2 if self.faults && self.random.one_in(10) => {
                self.bench.send(Request::LeaveGroup { group: GROUP.into(), members: vec![reference] });
                let instance = self.members[n].instance.clone();
                self.members[n] = Member { instance, dead: true, ..Member::default() };
                None
            }
            _ => {
                let request = Request::Heartbeat { group: GROUP.into(), member: reference, generation };
                Some(Waits::Heartbeat(self.bench.send(request)))
            }
        }
    }

    fn take(&mut self, n: usize, waits: Waits, answer: Response) {
        match (waits, answer) {
            (_, Response::JoinGroup(joined)) => {
                let member = &mut self.members[n];
                match joined.error {
                    None => {
                        member.id = joined.member_id.clone();
                        member.generation = joined.generation;
                        member.joined = Some(joined);
                    }
                    Some(GroupError::MemberIdRequired) => member.id = joined.member_id,
                    Some(error) => self.refused(n, error),
                }
            }
            (_, Response::SyncGroup(Ok(synced))) => {
                let member = &mut self.members[n];
                member.joined = None;
                member.stable = true;
                let name = member.instance.clone().unwrap_or_else(|| member.id.clone());
                for partition in synced.assignment {
                    let owner = self.owners.entry((member.generation, partition)).or_insert_with(|| name.clone());
                    assert_eq!(*owner, name, "two own {partition} in generation {}", member.generation);
                }
            }
            (_, Response::Heartbeat(Ok(())))
            | (Waits::Fetch(..), Response::OffsetFetch(Err(GroupError::CoordinatorNotAvailable))) => {}
            (Waits::Commit(_, offset), Response::OffsetCommit(answers)) => match answers[0] {
                Ok(()) => self.answered_offset = self.answered_offset.max(offset),
                Err(GroupError::CoordinatorNotAvailable) => {}
                Err(error) => self.refused(n, error),
            },
            (Waits::Fetch(_, at_least), Response::OffsetFetch(Ok(topics))) => {
                let offset = topics[0].partitions[0].offset;
                assert!(offset >= at_least, "offset {offset} after {at_least} was answered");
                self.answered_offset = self.answered_offset.max(offset);
            }
            (_, Response::SyncGroup(Err(error)) | Response::Heartbeat(Err(error))) => self.refused(n, error),
            (waits, answer) => panic!("{waits:?}: {answer:?}"),
        }
    }

    fn refused(&mut self, n: usize, error: GroupError) {
        let member = &mut self.members[n];
        member.joined = None;
        member.stable = false;
        match error {
            GroupError::RebalanceInProgress | GroupError::IllegalGeneration | GroupError::CoordinatorNotAvailable => {}
            GroupError::UnknownMemberId | GroupError::GroupIdNotFound | GroupError::FencedInstanceId => {
                member.id = Arc::default();
            }
            other => panic!("refused with {other:?}"),
        }
    }

    fn is_stable(&self) -> bool {
        let generations: BTreeSet<i32> = self.members.iter().map(|m| m.generation).collect();
        self.members.iter().all(|m| m.stable && !m.dead) && generations.len() == 1
    }
}

/// What the shard holds, as records.
fn records(shard: &Shard) -> BTreeMap<RecordKey, RecordValue> {
    let mut records = BTreeMap::new();
    for (id, group) in &shard.groups {
        for (topic, partition, value) in group.offsets.iter() {
            let key = RecordKey::OffsetCommit { group: id.clone(), topic: topic.clone(), partition };
            records.insert(key, RecordValue::OffsetCommit(value.clone()));
        }
        if let GroupKind::Classic(classic) = &group.kind
            && let Some(value) = classic.record()
        {
            records.insert(RecordKey::GroupMetadata(id.clone()), RecordValue::GroupMetadata(value));
        }
    }
    records
}

#[test]
fn no_two_own_a_partition_no_answered_offset_goes_back_and_nobody_waits_for_ever() {
    let mut idle = Vec::new();
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..2000 {
            world.step();
        }
        world.faults = false;
        let healed = world.bench.micros;
        while !world.is_stable() {
            world.step();
            let waited = Duration::from_micros(world.bench.micros - healed);
            let states: Vec<_> = world.bench.shard.groups.values().map(Group::state_name).collect();
            assert!(waited < Duration::from_mins(15), "seed {seed}: {states:?} {:#?}", world.members);
        }
        if world.answered_offset == 0 || world.owners.is_empty() {
            idle.push(seed);
        }
    }
    assert!(idle.len() < 5, "nothing happened in {idle:?}");
}
