//! A shard, with a log that holds what it appends.

use super::event::{Command, Config, Event, Now, Ticket};
use super::limits::Room;
use super::record::{GroupRecord, RecordKey, RecordValue};
use super::request::{Client, JoinGroup, MemberRef, OffsetCommit, OffsetToCommit, Request, SyncGroup};
use super::response::{GroupError, JoinedGroup, Response, SyncedGroup};
use super::shard::Shard;
use crate::cluster::{Image, Topic};
use crate::ids::TopicId;
use crate::time::Instant;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

mod classic;
mod consumer;
mod limits;
mod migration;
mod offsets;
mod random;
mod writable;

/// A shard and what surrounds it.
pub(super) struct Bench {
    pub(super) shard: Shard,
    pub(super) config: Config,
    pub(super) image: Option<Image>,
    pub(super) micros: u64,
    tickets: u64,
    random: u128,
    /// What the broker has room for.
    pub(super) room: Room,
    /// Appends that are not committed yet.
    pub(super) uncommitted: Vec<(u64, Vec<GroupRecord>)>,
    /// What is committed, in the order of the log.
    pub(super) log: Vec<GroupRecord>,
    pub(super) answers: BTreeMap<Ticket, Response>,
    pub(super) wake: Option<Instant>,
    /// Appends are committed at once.
    pub(super) commits: bool,
}

impl Bench {
    pub(super) fn new() -> Self {
        let config = Config { initial_rebalance_delay: Duration::ZERO, ..Config::default() };
        let mut bench = Self {
            shard: Shard::new(config.clone()),
            config,
            image: None,
            micros: 1_000_000,
            tickets: 0,
            random: 0,
            room: Room::ENDLESS,
            uncommitted: Vec::new(),
            log: Vec::new(),
            answers: BTreeMap::new(),
            wake: None,
            commits: true,
        };
        bench.fail_over();
        bench
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: Instant(self.micros), wall_ms: 1_600_000_000_000 + (self.micros / 1000) as i64 }
    }

    /// The shard ends, with what it has not committed; another is loaded from the log as compaction leaves it.
    pub(super) fn fail_over(&mut self) {
        self.shard = Shard::new(self.config.clone());
        self.uncommitted.clear();
        self.wake = None;
        for record in self.compacted() {
            self.event(Event::Load(record));
        }
        if let Some(image) = self.image.clone() {
            self.event(Event::Metadata(image));
        }
        self.event(Event::Loaded);
    }

    /// The last record of each key, where it stands in the log.
    pub(super) fn compacted(&self) -> Vec<GroupRecord> {
        let mut last = BTreeMap::new();
        for (at, record) in self.log.iter().enumerate() {
            last.insert(record.key.clone(), at);
        }
        let kept = self.log.iter().enumerate().filter(|(at, record)| last[&record.key] == *at);
        kept.map(|(_, record)| record.clone()).collect()
    }

    /// The values that the log has.
    pub(super) fn written(&self) -> BTreeMap<RecordKey, RecordValue> {
        self.compacted().into_iter().filter_map(|r| Some((r.key, r.value?))).collect()
    }

    pub(super) fn event(&mut self, event: Event) {
        let mut out = Vec::new();
        self.shard.step(self.now(), event, &mut out);
        for command in out {
            match command {
                Command::Append { number, records } => {
                    assert!(!records.is_empty(), "an append without records");
                    self.uncommitted.push((number, records));
                }
                Command::Reply { ticket, response } => {
                    let former = self.answers.insert(ticket, response);
                    assert!(former.is_none(), "{ticket:?} is answered twice");
                }
                Command::WakeAt(at) => self.wake = Some(at),
            }
        }
        if self.commits {
            self.commit_all();
        }
    }

    pub(super) fn commit_all(&mut self) {
        let Some((last, _)) = self.uncommitted.last() else { return };
        let last = *last;
        for (_, records) in self.uncommitted.drain(..) {
            self.log.extend(records);
        }
        self.event(Event::Committed(last));
    }

    pub(super) fn send(&mut self, request: Request) -> Ticket {
        self.send_as("client", request)
    }

    /// As a client that calls itself that.
    pub(super) fn send_as(&mut self, client: &str, request: Request) -> Ticket {
        self.tickets += 1;
        self.random += 1;
        let ticket = Ticket(self.tickets);
        let client = Client { id: client.into(), host: "/127.0.0.1".into() };
        self.event(Event::Request { ticket, client, request, random: self.random, room: self.room });
        ticket
    }

    pub(super) fn answer(&mut self, ticket: Ticket) -> Response {
        self.answers.remove(&ticket).unwrap_or_else(|| panic!("{ticket:?} is not answered yet"))
    }

    pub(super) fn ask(&mut self, request: Request) -> Response {
        let ticket = self.send(request);
        self.answer(ticket)
    }

    /// Lets time go by; the shard is woken when it asked for it.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.micros + time.as_micros() as u64;
        while let Some(wake) = self.wake.filter(|w| w.0 <= end) {
            self.micros = self.micros.max(wake.0);
            let before = self.wake;
            self.event(Event::Tick);
            if self.wake == before {
                self.wake = None;
            }
        }
        self.micros = end;
    }

    pub(super) fn join_group(&mut self, join: JoinGroup) -> JoinedGroup {
        match self.ask(Request::JoinGroup(join)) {
            Response::JoinGroup(joined) => joined,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn joined(&mut self, ticket: Ticket) -> JoinedGroup {
        match self.answer(ticket) {
            Response::JoinGroup(joined) => joined,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn synced(&mut self, ticket: Ticket) -> Result<SyncedGroup, GroupError> {
        match self.answer(ticket) {
            Response::SyncGroup(synced) => synced,
            other => panic!("{other:?}"),
        }
    }

    /// A group of one dynamic member that is stable; its id and generation.
    pub(super) fn one_stable(&mut self, group: &str) -> (Arc<str>, i32) {
        let required = self.join_group(join(group, ""));
        assert_eq!(required.error, Some(GroupError::MemberIdRequired));
        let joined = self.join_group(join(group, &required.member_id));
        assert_eq!(joined.error, None);
        let sync = sync(group, &joined.member_id, joined.generation, &[(&joined.member_id, "all")]);
        let ticket = self.send(Request::SyncGroup(sync));
        assert_eq!(self.synced(ticket).expect("synced").assignment, "all");
        (joined.member_id, joined.generation)
    }

    pub(super) fn heartbeat(&mut self, group: &str, member: &str, generation: i32) -> Result<(), GroupError> {
        let request = Request::Heartbeat { group: group.into(), member: member_ref(member), generation };
        match self.ask(request) {
            Response::Heartbeat(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&mut self, group: &str) -> &'static str {
        match self.ask(Request::DescribeGroup(group.into())) {
            Response::DescribeGroup(Ok(described)) => described.state,
            Response::DescribeGroup(Err(_)) => "",
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn member_ref(member: &str) -> MemberRef {
    MemberRef { member_id: member.into(), instance_id: None }
}

/// The metadata of a consumer that is subscribed to these topics.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

pub(super) fn join(group: &str, member: &str) -> JoinGroup {
    JoinGroup {
        group: group.into(),
        member: member_ref(member),
        requires_known_member_id: true,
        supports_skipping_assignment: true,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription(&["t"]))],
        reason: None,
    }
}

pub(super) fn sync(group: &str, member: &str, generation: i32, assignments: &[(&str, &'static str)]) -> SyncGroup {
    SyncGroup {
        group: group.into(),
        member: member_ref(member),
        generation,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments.iter().map(|(id, a)| (Arc::from(*id), Bytes::from(*a))).collect(),
    }
}

pub(super) fn topic_id(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number))
}

pub(super) fn commit(group: &str, member: &str, generation: i32, topic: &str, id: u128, offset: i64) -> Request {
    Request::OffsetCommit(OffsetCommit {
        group: group.into(),
        member: member_ref(member),
        generation_or_epoch: generation,
        knows_member_epochs: true,
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            topic: topic.into(),
            topic_id: topic_id(id),
            partition: 0,
            offset,
            leader_epoch: 3,
            metadata: "m".into(),
        }],
    })
}

/// An image with these topics.
pub(super) fn image(topics: &[(&str, u128)]) -> Image {
    let mut image = Image::default();
    for (name, id) in topics {
        let topic = Topic {
            id: topic_id(*id),
            name: (*name).into(),
            partitions: imbl::Vector::new(),
            configs: imbl::OrdMap::new(),
            min_insync_replicas: 1,
            default_min_insync_replicas: 1,
            older_producers: crate::ids::ProducerId(0),
        };
        image.topic_ids.insert(topic.name.clone(), topic.id);
        image.topics.insert(topic.id, topic);
    }
    image
}
