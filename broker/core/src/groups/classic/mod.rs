//! Groups of the classic protocol: JoinGroup gathers the members of a generation, SyncGroup hands out what its leader
//! assigned. The same rules as Kafka's, so that its clients find what they expect.

mod commit;
mod describe;
mod join;
mod leave;
mod member;
mod migration;
mod rebalance;
mod static_member;
mod sync;

use super::consumer_protocol::Subscription;
use super::limits;
use super::record::{GroupMemberValue, GroupMetadataValue, RecordKey, RecordValue};
use super::request::MemberRef;
use super::response::GroupError;
use super::step::Step;
use super::timers::Timer;
use member::{Member, milliseconds};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(super) use commit::RetainedSince;
pub(super) use migration::{MigratingMember, fit_a_record};

/// Kafka's states of a classic group; a dead one is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No members.
    #[default]
    Empty,
    /// Members are to join.
    PreparingRebalance,
    /// Members have joined; the leader's assignments are to come.
    CompletingRebalance,
    /// Members have been assigned something.
    Stable,
}

/// A group whose members use JoinGroup and SyncGroup, or that has never had members.
#[derive(Clone, Debug)]
pub(super) struct ClassicGroup {
    id: Arc<str>,
    state: State,
    /// When it came into its state, in milliseconds since 1970.
    state_since: Option<i64>,
    /// `None` until somebody has joined.
    protocol_type: Option<Arc<str>>,
    /// The protocol that was chosen.
    protocol: Option<Arc<str>>,
    generation: i32,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Member ids by instance id.
    statics: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids that were given out, and that nobody has joined with yet (KIP-394).
    pending: BTreeSet<Arc<str>>,
    /// Members of this generation that have not synced yet.
    pending_sync: BTreeSet<Arc<str>>,
    /// Topics that the members are subscribed to, if all said so in a way that is understood.
    subscribed: Option<BTreeSet<Arc<str>>>,
    /// While members gather that were none before.
    gathering: Option<rebalance::Gathering>,
    /// Whether a record of the group (other than its offsets) has been written.
    written: bool,
}

/// Bytes that a group's record may have, so that it fits a batch of the smallest `max.message.bytes` in use.
const MAX_RECORD_BYTES: usize = 900_000;

impl ClassicGroup {
    /// A group without members.
    pub(super) fn new(id: &Arc<str>) -> Self {
        Self {
            id: id.clone(),
            state: State::Empty,
            state_since: None,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            subscribed: None,
            gathering: None,
            written: false,
        }
    }

    /// A group as it was written down. Members that were about to join are unknown; the others go on in the
    /// generation of the record, or get `ILLEGAL_GENERATION`.
    pub(super) fn load(id: &Arc<str>, value: GroupMetadataValue) -> Self {
        let mut group = Self::new(id);
        group.written = true;
        group.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        group.state_since = (value.current_state_timestamp >= 0).then_some(value.current_state_timestamp);
        group.protocol_type = Some(value.protocol_type).filter(|t| !t.is_empty());
        group.generation = value.generation;
        group.leader = value.leader;
        for member in value.members {
            if let Some(instance) = &member.group_instance_id {
                group.statics.insert(instance.clone(), member.member_id.clone());
            }
            let id = member.member_id.clone();
            group.members.insert(id, Member::load(member, value.protocol.as_ref()));
        }
        group.protocol = value.protocol;
        group.subscribed = group.compute_subscribed();
        group
    }

    /// The shard is loaded: sessions begin.
    pub(super) fn loaded(&mut self, step: &mut Step<'_>) {
        for (id, member) in &self.members {
            step.set_timer(Timer::Session(self.id.clone(), id.clone()), member.session_timeout());
        }
        // A group without a leader was a consumer group, and has not rebalanced since.
        let unled = self.leader.is_none() && !self.members.is_empty();
        if self.members.len() > step.config.max_size || unled {
            self.prepare_rebalance(step);
        }
    }

    /// Whether it is nothing but its name.
    pub(super) fn is_nothing(&self) -> bool {
        !self.written && self.is_empty()
    }

    /// Whether it has no members, and none that are about to join.
    pub(super) fn is_empty(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// How many members it has.
    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// About the interval between two heartbeats: a third of the session timeout, as clients are advised.
    pub(super) fn heartbeat_interval(&self, member: &str) -> Duration {
        self.members.get(member).map_or(Duration::ZERO, |m| m.session_timeout() / 3)
    }

    /// A deadline of this group has passed.
    pub(super) fn timer(&mut self, timer: &Timer, step: &mut Step<'_>) {
        match timer {
            Timer::Session(_, member) => self.session_ended(member, step),
            Timer::Pending(_, member) => {
                self.pending.remove(member);
                self.complete_join_if_all_joined(step);
            }
            Timer::Join(_) => self.join_timed_out(step),
            Timer::Sync(_) => self.sync_timed_out(step),
            Timer::Rebalance(..) | Timer::Expiry => {}
        }
    }

    /// Writes the tombstone; timers of members that were about to join end.
    pub(super) fn delete(&mut self, step: &mut Step<'_>) {
        for member in std::mem::take(&mut self.pending) {
            step.timers.cancel(&Timer::Pending(self.id.clone(), member));
        }
        step.timers.cancel(&Timer::Join(self.id.clone()));
        step.timers.cancel(&Timer::Sync(self.id.clone()));
        step.delete(RecordKey::GroupMetadata(self.id.clone()));
    }

    fn enter(&mut self, state: State, step: &Step<'_>) {
        self.state = state;
        self.state_since = Some(step.now.wall_ms);
    }

    /// What is written of the group.
    fn value(&self) -> GroupMetadataValue {
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.state_since.unwrap_or(-1),
            members: self.members.iter().map(|(id, member)| self.member_value(id, member)).collect(),
        }
    }

    /// What is written of a member.
    fn member_value(&self, id: &Arc<str>, member: &Member) -> GroupMemberValue {
        GroupMemberValue {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client.id.clone(),
            client_host: member.client.host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_deref()),
            assignment: member.assignment.clone(),
        }
    }

    fn write(&mut self, step: &mut Step<'_>) {
        self.written = true;
        step.write(RecordKey::GroupMetadata(self.id.clone()), RecordValue::GroupMetadata(self.value()));
    }

    /// Whether there is a record of the group other than its offsets.
    pub(super) fn is_written(&self) -> bool {
        self.written
    }

    /// What a load of the group's record makes, if there is one.
    pub(super) fn record(&self) -> Option<GroupMetadataValue> {
        self.written.then(|| self.value())
    }

    /// Whether that member is one, and not fenced by another with its instance id.
    fn validate(&self, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(id) if **id != *member => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// Takes a member out.
    fn remove(&mut self, member: &str, step: &mut Step<'_>) -> Option<Member> {
        self.pending_sync.remove(member);
        let (id, removed) = self.members.remove_entry(member)?;
        if let Some(instance) = &removed.instance_id {
            self.statics.remove(instance);
        }
        if self.is_leader(member) {
            self.leader = self.members.keys().next().cloned();
        }
        step.timers.cancel(&Timer::Session(self.id.clone(), id));
        Some(removed)
    }

    fn start_session(&self, member: &Arc<str>, step: &mut Step<'_>) {
        if let Some(timeout) = self.members.get(member).map(Member::session_timeout) {
            step.set_timer(Timer::Session(self.id.clone(), member.clone()), timeout);
        }
    }

    /// The longest that a member allows.
    fn rebalance_timeout(&self) -> Duration {
        milliseconds(self.members.values().map(|m| m.rebalance_timeout_ms).max().unwrap_or(0))
    }

    /// About the bytes that are kept of what its members said and were assigned.
    pub(super) fn kept(&self) -> usize {
        let members: usize = self.members.values().map(Member::kept).sum();
        let pending: usize = self.pending.iter().map(limits::string).sum();
        let subscribed: usize = self.subscribed.iter().flatten().map(limits::string).sum();
        members + self.assigned() + pending + subscribed
    }

    /// Of these, those of a member, as it is named when it joins.
    pub(super) fn kept_of(&self, member: &MemberRef) -> usize {
        let by_instance = member.instance_id.as_ref().and_then(|instance| self.statics.get(instance));
        let member = self.members.get(by_instance.unwrap_or(&member.member_id));
        member.map_or(0, Member::kept)
    }

    /// Bytes that its members are assigned.
    pub(super) fn assigned(&self) -> usize {
        self.members.values().map(|m| m.assignment.len()).sum()
    }

    fn usable_as_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// Whether a member is subscribed to the topic, as far as can be known.
    pub(super) fn subscribes(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or(self.usable_as_consumer(), |topics| topics.contains(topic))
    }

    fn compute_subscribed(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.usable_as_consumer() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(Subscription::topics(&member.metadata(self.protocol.as_deref()))?);
        }
        Some(topics)
    }

    /// Whether the group's record can be written if its members are assigned that many bytes.
    fn can_be_written(&self, assigned: usize) -> bool {
        self.members.values().map(|m| m.size().written).sum::<usize>() + assigned <= MAX_RECORD_BYTES
    }
}
