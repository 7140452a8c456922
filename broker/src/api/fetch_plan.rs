//! What a Fetch asks, with what its session adds to it (KIP-227).

use super::Handlers;
use super::leaders::{epoch, find_partition, find_topic};
use crate::config::ReplicaSelector;
use crate::partitions::{FetchSpec, Fetched};
use chronik_core::cluster::{Image, Topic};
use chronik_core::fetch_sessions::{
    Asked, Context, FINAL_EPOCH, FetchSessions, NO_SESSION, PartitionKey, PartitionState, SessionError,
    SessionPartition, SessionRequest, TopicKey,
};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::time::Instant;
use chronik_wire::messages::{FetchPartition, FetchRequest, FetchTopic, StrBytes, Uuid};
use chronik_wire::{ErrorCode, FetchedTopic, TopicRef};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// From this version on topics are named by their ids.
const IDS_FROM: i16 = 13;

/// From this version on consumers may name their rack, and followers answer them.
const RACKS_FROM: i16 = 11;

/// The sessions, on a clock.
#[derive(Debug)]
pub(super) struct Sessions {
    origin: std::time::Instant,
    sessions: Arc<Mutex<FetchSessions>>,
}

/// A request of a session that is being answered, until this is dropped.
struct Asking {
    sessions: Arc<Mutex<FetchSessions>>,
    id: i32,
    bytes: usize,
}

impl Drop for Asking {
    fn drop(&mut self) {
        lock(&self.sessions).end(self.id, self.bytes);
    }
}

fn lock(sessions: &Mutex<FetchSessions>) -> MutexGuard<'_, FetchSessions> {
    // A session that a panic left half changed answers too much or too little once; its client begins another.
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    pub(super) fn new(slots: usize, max_bytes: usize) -> Self {
        Self { origin: std::time::Instant::now(), sessions: Arc::new(Mutex::new(FetchSessions::new(slots, max_bytes))) }
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, FetchSessions> {
        lock(&self.sessions)
    }
}

/// What is wanted of one partition.
pub(super) struct Wanted {
    /// Its topic's place in the answer.
    pub(super) topic: usize,
    pub(super) index: i32,
    pub(super) partition: Result<TopicPartition, ErrorCode>,
    pub(super) spec: FetchSpec,
}

/// All that is wanted, and the answer's topics without their partitions.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) topics: Vec<FetchedTopic>,
    pub(super) wanted: Vec<Wanted>,
    session: Session,
}

/// What the answer is to a session.
#[derive(Default)]
enum Session {
    /// Nothing.
    #[default]
    None,
    /// It may begin one, with what is wanted, in the same order.
    New { uses_ids: bool, asked: Vec<(PartitionKey, Asked)> },
    /// One of its answers; the places of what is wanted, in the same order.
    Old { asking: Asking, places: Vec<u64> },
}

impl Plan {
    /// Plans a request, whose partitions are taken out of it.
    pub(super) fn new(handlers: &Handlers, version: i16, request: &mut FetchRequest) -> Result<Self, ErrorCode> {
        let mut topics = std::mem::take(&mut request.topics);
        each_partition_once(&mut topics);
        let forgotten = std::mem::take(&mut request.forgotten_topics_data);
        let rack_aware = handlers.config.replica_selector == ReplicaSelector::RackAware;
        let rack = Some(std::mem::take(&mut request.rack_id)).filter(|_| rack_aware);
        let uses_ids = version >= IDS_FROM;
        let image = handlers.controller.image();
        let (id, epoch) = (request.session_id, request.session_epoch);
        if id == NO_SESSION && epoch == FINAL_EPOCH {
            let mut plan = Self::whole(&image, uses_ids, topics);
            plan.choose_replicas(&image, version, rack.as_ref());
            return Ok(plan);
        }
        let asked = topics.iter().flat_map(|topic| {
            let key = key(uses_ids, &topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |p| (PartitionKey { topic: key.clone(), index: p.partition }, asked(p)))
        });
        let asked: Vec<_> = asked.collect();
        let forgotten = forgotten.iter().flat_map(|topic| {
            let key = key(uses_ids, &topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |index| PartitionKey { topic: key.clone(), index: *index })
        });
        let forgotten = forgotten.collect();
        let sessions = &handlers.sessions;
        let request = SessionRequest { id, epoch, uses_ids, asked: asked.clone(), forgotten };
        let context = sessions.lock().begin(sessions.now(), request).map_err(|error| match error {
            SessionError::NotFound => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            SessionError::InvalidEpoch => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            SessionError::TopicId => ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
        })?;
        let mut plan = match context {
            Context::Sessionless => Self::whole(&image, uses_ids, topics),
            Context::Full => {
                Self { session: Session::New { uses_ids, asked }, ..Self::whole(&image, uses_ids, topics) }
            }
            Context::Incremental { partitions, bytes } => {
                let asking = Asking { sessions: Arc::clone(&sessions.sessions), id, bytes };
                Self::incremental(&image, asking, partitions)
            }
        };
        plan.choose_replicas(&image, version, rack.as_ref());
        Ok(plan)
    }

    /// Lets followers answer, and leaders send the consumer to those in its rack (KIP-392).
    fn choose_replicas(&mut self, image: &Image, version: i16, rack: Option<&StrBytes>) {
        if version < RACKS_FROM {
            return;
        }
        for wanted in &mut self.wanted {
            let Ok(partition) = wanted.partition else { continue };
            wanted.spec.from_follower = true;
            wanted.spec.nearby = rack.map_or_else(Vec::new, |rack| image.followers_in_rack(partition, rack));
        }
    }

    /// Of a request that is complete in itself.
    fn whole(image: &Image, uses_ids: bool, topics: Vec<FetchTopic>) -> Self {
        let mut plan = Self::default();
        for topic in topics {
            let name = StrBytes::from(&*topic.topic);
            let by = if uses_ids { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(topic.topic) };
            let found = plan.topic(image, &by, name, topic.topic_id);
            for p in &topic.partitions {
                plan.want(found, p.partition, &asked(p));
            }
        }
        plan
    }

    fn incremental(image: &Image, asking: Asking, partitions: Vec<SessionPartition>) -> Self {
        let mut plan = Self::default();
        let mut places = Vec::with_capacity(partitions.len());
        let mut last = None;
        for SessionPartition { place, key, asked } in partitions {
            let found = match last {
                Some((ref topic, found)) if *topic == key.topic => found,
                _ => {
                    let (by, name, id) = match &key.topic {
                        TopicKey::Name(name) => {
                            let name = StrBytes::from(&**name);
                            (TopicRef::Name(name.clone()), name, Uuid::ZERO)
                        }
                        TopicKey::Id(id) => {
                            let id = Uuid::from_bytes(*id.as_bytes());
                            (TopicRef::Id(id), StrBytes::default(), id)
                        }
                    };
                    plan.topic(image, &by, name, id)
                }
            };
            last = Some((key.topic, found));
            places.push(place);
            plan.want(found, key.index, &asked);
        }
        plan.session = Session::Old { asking, places };
        plan
    }

    fn topic<'a>(&mut self, image: &'a Image, by: &TopicRef, name: StrBytes, id: Uuid) -> Result<&'a Topic, ErrorCode> {
        self.topics.push(FetchedTopic { name, id, partitions: Vec::new() });
        find_topic(image, by)
    }

    /// Wants a partition of the topic that came last.
    fn want(&mut self, topic: Result<&Topic, ErrorCode>, index: i32, asked: &Asked) {
        self.wanted.push(Wanted {
            topic: self.topics.len() - 1,
            index,
            partition: topic.and_then(|topic| find_partition(topic, index)),
            spec: FetchSpec {
                offset: Offset(asked.offset),
                max_bytes: usize::try_from(asked.max_bytes).unwrap_or(0),
                at_least_one: true,
                current_epoch: epoch(asked.current_epoch),
                last_fetched_epoch: epoch(asked.last_epoch),
                from_follower: false,
                uncommitted: false,
                nearby: Vec::new(),
                waiter: None,
            },
        });
    }

    /// Notes the answers. Returns the session's id for the client, and of an incremental answer which partitions belong
    /// into it.
    pub(super) fn answered(
        &mut self,
        handlers: &Handlers,
        answers: &[Result<Fetched, ErrorCode>],
    ) -> (i32, Option<Vec<bool>>) {
        let (sessions, states) = (&handlers.sessions, answers.iter().map(state_of));
        match std::mem::take(&mut self.session) {
            Session::None => (NO_SESSION, None),
            Session::New { uses_ids, asked } => {
                let partitions = asked.into_iter().zip(states).map(|((key, asked), state)| (key, asked, state));
                (sessions.lock().create(sessions.now(), rand::random::<i32>, uses_ids, partitions), None)
            }
            Session::Old { asking, places } => {
                let states: Vec<_> = places.into_iter().zip(states).collect();
                let said = sessions.lock().answer(asking.id, &states);
                (asking.id, Some(said))
            }
        }
    }
}

/// A partition that is named a thousand times would be read a thousand times.
fn each_partition_once(topics: &mut [FetchTopic]) {
    let mut seen = HashSet::new();
    for FetchTopic { topic, topic_id, partitions, .. } in topics {
        partitions.retain(|p| seen.insert((topic.clone(), *topic_id, p.partition)));
    }
}

fn key(uses_ids: bool, name: &StrBytes, id: Uuid) -> TopicKey {
    if uses_ids { TopicKey::Id(uuid::Uuid::from_bytes(id.to_bytes())) } else { TopicKey::Name(Arc::from(&**name)) }
}

fn asked(p: &FetchPartition) -> Asked {
    Asked {
        offset: p.fetch_offset,
        max_bytes: p.partition_max_bytes,
        current_epoch: p.current_leader_epoch,
        last_epoch: p.last_fetched_epoch,
    }
}

fn state_of(answer: &Result<Fetched, ErrorCode>) -> PartitionState {
    match answer {
        Ok(fetched) => PartitionState {
            high_watermark: fetched.high_watermark.map_or(-1, |offset| offset.0),
            log_start: fetched.log_start.0,
            records: !fetched.batches.is_empty(),
            failed: fetched.diverging.is_some() || fetched.preferred.is_some(),
        },
        Err(_) => PartitionState { high_watermark: -1, log_start: -1, records: false, failed: true },
    }
}
