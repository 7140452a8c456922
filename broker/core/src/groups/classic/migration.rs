//! A classic group as it becomes a consumer group, or comes from one.

use super::{ClassicGroup, MAX_RECORD_BYTES, Member, State};
use crate::groups::consumer_protocol::{ByTopic, Subscription, has_user_data, parse_assignment};
use crate::groups::record::{ClassicMemberMetadata, GroupMemberValue};
use crate::groups::response::{GroupError, JoinedGroup, Response};
use crate::groups::step::Step;
use crate::groups::timers::Timer;
use bytes::Bytes;
use std::sync::Arc;

/// A consumer, as it goes from one protocol to the other.
#[derive(Clone, Debug)]
pub(in crate::groups) struct MigratingMember {
    pub(in crate::groups) value: GroupMemberValue,
    pub(in crate::groups) classic: ClassicMemberMetadata,
    pub(in crate::groups) subscription: Subscription,
    /// What it was assigned last, by topic name.
    pub(in crate::groups) assigned: ByTopic,
}

impl ClassicGroup {
    /// The generation, and the members that have been in one; or why they cannot go on in a consumer group.
    ///
    /// A member may own what it was last assigned, and what it said it owned when it last joined: a cooperative member
    /// keeps that until it has got its new assignment. Who has never been in a generation owns nothing, and
    /// joins again.
    pub(in crate::groups) fn consumers(&self, max: usize) -> Result<(i32, Vec<MigratingMember>), &'static str> {
        if !self.usable_as_consumer() {
            return Err("the group does not use the consumer embedded protocol.");
        }
        if self.members.len() > max {
            return Err("the group size exceeds the consumer group maximum size.");
        }
        let known = || self.members.iter().filter(|(_, member)| !member.is_new);
        let members: Option<Vec<MigratingMember>> = known().map(|(id, member)| self.migrating(id, member)).collect();
        let members = members.ok_or("the embedded consumer protocol is malformed.")?;
        // The coordinator would assign without it.
        if known().any(|(_, member)| has_user_data(&member.assignment)) {
            return Err("an unsupported custom assignor is in use. Please refer to the documentation or switch to a \
                        default assignor before re-attempting the upgrade.");
        }
        Ok((self.generation, members))
    }

    fn migrating(&self, id: &Arc<str>, member: &Member) -> Option<MigratingMember> {
        let chosen = member.protocols.iter().find(|(name, _)| Some(name) == self.protocol.as_ref());
        let (_, metadata) = chosen.or(member.protocols.first())?;
        let subscription = Subscription::parse(metadata)?;
        let assigned = parse_assignment(&member.assignment)?;
        let classic = ClassicMemberMetadata {
            session_timeout_ms: member.session_timeout_ms,
            supported_protocols: member.protocols.clone(),
        };
        Some(MigratingMember { value: self.member_value(id, member), classic, subscription, assigned })
    }

    /// Ends the group: those that wait join again, as what it becomes. Its tombstone is written.
    pub(in crate::groups) fn dissolve(&mut self, step: &mut Step<'_>) {
        for (id, mut member) in std::mem::take(&mut self.members) {
            let refused = JoinedGroup::refused(GroupError::RebalanceInProgress, &id);
            if let Some(ticket) = member.awaiting_join.take() {
                step.reply(ticket, Response::JoinGroup(refused));
            }
            if let Some(ticket) = member.awaiting_sync.take() {
                step.reply(ticket, Response::SyncGroup(Err(GroupError::RebalanceInProgress)));
            }
            step.timers.cancel(&Timer::Session(self.id.clone(), id));
        }
        self.delete(step);
    }

    /// Takes the members of a consumer group over. They are written down, and are to join; with a `leader` they go on
    /// with what they have been assigned, and it has to hear that it leads, or nobody would notice new partitions.
    pub(in crate::groups) fn take_over(
        &mut self,
        generation: i32,
        members: Vec<(GroupMemberValue, ClassicMemberMetadata)>,
        leader: Option<&Arc<str>>,
        step: &mut Step<'_>,
    ) {
        self.generation = generation;
        self.protocol_type = Some(Arc::from("consumer"));
        for (value, classic) in members {
            let id = value.member_id.clone();
            if let Some(instance) = &value.group_instance_id {
                self.statics.insert(instance.clone(), id.clone());
            }
            let mut member = Member::load(value, None);
            member.protocols = classic.supported_protocols;
            self.members.insert(id, member);
        }
        self.leader = leader.or(self.members.keys().next()).cloned();
        self.protocol = self.select_protocol();
        if leader.is_none() {
            // Written without a leader, the group is one that is to rebalance when it is loaded.
            self.leader = None;
        }
        self.subscribed = self.compute_subscribed();
        self.enter(State::Stable, step);
        self.write(step);
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            self.start_session(id, step);
        }
        if leader.is_none() {
            self.prepare_rebalance(step);
        }
    }
}

/// Whether classic members can be written in one record, each with what it said and is assigned.
pub(in crate::groups) fn fit_a_record<'a>(members: impl Iterator<Item = (&'a ClassicMemberMetadata, usize)>) -> bool {
    let largest = |protocols: &[(Arc<str>, Bytes)]| protocols.iter().map(|(_, m)| m.len()).max().unwrap_or(0);
    let bytes = members.map(|(classic, rest)| largest(&classic.supported_protocols) + rest).sum::<usize>();
    bytes <= MAX_RECORD_BYTES
}
