//! A client, whichever protocol it uses: what it owns, how far it has read, and the one request that it waits for.

use super::rules::GroupViolation;
use super::{classic, consumer};
use crate::rng::Rng;
use chronik_core::groups::request::{MemberRef, OffsetCommit, OffsetToCommit};
use chronik_core::groups::{GroupError, Request, Response};
use chronik_core::ids::TopicId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The topic that all members are subscribed to.
pub(super) const TOPIC: &str = "t";

/// The id of [`TOPIC`].
pub(super) fn topic_id() -> TopicId {
    TopicId(uuid::Uuid::from_u128(1))
}

/// By which protocol a member works.
#[derive(Debug)]
pub(super) enum Protocol {
    Classic(classic::State),
    Consumer(consumer::State),
}

/// What a client has from its configuration, and keeps when its process ends.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) group: Arc<str>,
    /// `group.instance.id`.
    pub(super) instance: Option<Arc<str>>,
}

/// A client.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) settings: Settings,
    pub(super) protocol: Protocol,
    pub(super) alive: bool,
    pub(super) id: Arc<str>,
    /// The generation, or the member's epoch.
    pub(super) epoch: i32,
    pub(super) owned: BTreeSet<i32>,
    /// The next offset to read, of owned partitions whose committed offset is known.
    pub(super) positions: BTreeMap<i32, i64>,
    /// Counts requests.
    pub(super) sequence: u64,
    /// The request that it waits for, and since when.
    pub(super) waits: Option<(Request, u64)>,
    /// That request has not reached the coordinator yet.
    pub(super) in_flight: bool,
}

impl Member {
    pub(super) fn new(settings: Settings, protocol: Protocol) -> Self {
        Self {
            settings,
            protocol,
            alive: true,
            id: Arc::from(""),
            epoch: 0,
            owned: BTreeSet::new(),
            positions: BTreeMap::new(),
            sequence: 0,
            waits: None,
            in_flight: false,
        }
    }

    /// The process ends without a word. The next one knows what is configured, and nothing else.
    pub(super) fn crash(&mut self) {
        self.alive = false;
        self.id = Arc::from("");
        self.epoch = 0;
        self.owned.clear();
        self.positions.clear();
        self.sequence += 1;
        self.waits = None;
        self.in_flight = false;
        match &mut self.protocol {
            Protocol::Classic(state) => *state = classic::State::new(state.cooperative),
            Protocol::Consumer(state) => *state = consumer::State::default(),
        }
    }

    /// In a line.
    pub(super) fn summary(&self) -> String {
        let Settings { group, instance } = &self.settings;
        let state = format!("{:?}", self.protocol).chars().take(200).collect::<String>();
        let waits = self.waits.as_ref().map(|(request, since)| (std::mem::discriminant(request), since));
        format!("{group} {instance:?} {} epoch {} owns {:?} {state} {waits:?}", self.id, self.epoch, self.owned)
    }

    pub(super) fn reference(&self) -> MemberRef {
        MemberRef { member_id: self.id.clone(), instance_id: self.settings.instance.clone() }
    }

    /// Whether it is in the group and owns all that it is assigned.
    pub(super) fn is_stable(&self) -> bool {
        self.alive
            && match &self.protocol {
                Protocol::Classic(state) => state.is_stable(),
                Protocol::Consumer(state) => self.epoch > 0 && state.assigned == self.owned,
            }
    }

    /// What it asks next, if anything. `leaves` are the chances in a thousand that it leaves.
    pub(super) fn next_request(&mut self, rng: &mut Rng, leaves: u64) -> Option<Request> {
        match self.protocol {
            Protocol::Classic(_) => self.next_of_classic(rng, leaves),
            Protocol::Consumer(_) => self.next_of_consumer(rng, leaves),
        }
    }

    /// Takes in an answer.
    pub(super) fn take(&mut self, request: &Request, answer: &Response) -> Result<(), GroupViolation> {
        match (request, answer) {
            (Request::OffsetFetch { .. }, Response::OffsetFetch(Ok(topics))) => {
                for committed in topics.iter().flat_map(|t| &t.partitions) {
                    if self.owned.contains(&committed.partition) {
                        self.positions.insert(committed.partition, committed.offset.max(0));
                    }
                }
                Ok(())
            }
            _ => match self.protocol {
                Protocol::Classic(_) => self.take_of_classic(request, answer),
                Protocol::Consumer(_) => self.take_of_consumer(request, answer),
            },
        }
    }

    /// Offsets: fetches those that it needs, or commits one after it has read on.
    pub(super) fn offsets(&mut self, rng: &mut Rng) -> Option<Request> {
        let missing: Vec<i32> = self.owned.iter().copied().filter(|p| !self.positions.contains_key(p)).collect();
        let knows_epochs = matches!(self.protocol, Protocol::Consumer(_));
        if !missing.is_empty() {
            return Some(Request::OffsetFetch {
                group: self.settings.group.clone(),
                member: knows_epochs.then(|| (self.id.clone(), self.epoch)),
                topics: Some(vec![(Arc::from(TOPIC), missing)]),
                require_stable: true,
            });
        }
        let owned: Vec<i32> = self.owned.iter().copied().collect();
        let partition = *owned.get(rng.index(owned.len().max(1)))?;
        let position = self.positions.get_mut(&partition)?;
        *position += i64::try_from(rng.within(1, 10)).unwrap_or(1);
        let offset = OffsetToCommit {
            topic: Arc::from(TOPIC),
            topic_id: topic_id(),
            partition,
            offset: *position,
            leader_epoch: 0,
            metadata: Arc::from(""),
        };
        Some(Request::OffsetCommit(OffsetCommit {
            group: self.settings.group.clone(),
            member: self.reference(),
            generation_or_epoch: self.epoch,
            knows_member_epochs: knows_epochs,
            retention_ms: None,
            offsets: vec![offset],
        }))
    }

    /// Owns that from now on; where it reads on has to be fetched of what is new.
    pub(super) fn own(&mut self, owned: BTreeSet<i32>) {
        self.positions.retain(|p, _| owned.contains(p));
        self.owned = owned;
    }

    /// Nothing of the group is known any more.
    pub(super) fn lost(&mut self) {
        self.own(BTreeSet::new());
    }
}

/// Errors after which a client asks again.
pub(super) fn is_retriable(error: GroupError) -> bool {
    matches!(
        error,
        GroupError::CoordinatorLoadInProgress | GroupError::CoordinatorNotAvailable | GroupError::NotCoordinator
    )
}
