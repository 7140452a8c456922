//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup of members that use the classic protocol in a consumer group: the
//! coordinator assigns, and a member comes to its target assignment by joining again. A generation is its epoch.

use super::assignment::Assignment;
use super::member::{Member, State};
use super::migration::{encoded, names, resolved};
use super::{ConsumerGroup, Deadline, StepContext};
use crate::groups::classic::fit_a_record;
use crate::groups::consumer_protocol::Subscription;
use crate::groups::migration::MigrationPolicy;
use crate::groups::record::{ClassicMemberMetadata, ConsumerGroupMemberValue};
use crate::groups::request::{Client, JoinGroup, MemberRef, SyncGroup};
use crate::groups::response::{GroupError, JoinedGroup, SyncedGroup};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The protocol type of consumers.
const CONSUMER: &str = "consumer";

impl ConsumerGroup {
    /// JoinGroup: the member says what it is subscribed to and owns, and goes on towards its target assignment.
    pub(in crate::groups) fn join(
        &mut self,
        request: &JoinGroup,
        client: &Client,
        random: u128,
        context: &mut StepContext<'_>,
    ) -> Result<JoinedGroup, GroupError> {
        if context.config.migration_policy == MigrationPolicy::Disabled {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let session = Duration::from_millis(u64::try_from(request.session_timeout_ms).unwrap_or(0));
        if session < context.config.min_session_timeout || session > context.config.max_session_timeout {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let asked = &request.member.member_id;
        // Who takes the place of another makes the group no larger.
        let static_before = request.member.instance_id.as_ref().and_then(|instance| self.static_members.get(instance));
        let is_more = static_before.is_none() && !self.members.contains_key(asked);
        if is_more && self.members.len() >= context.config.consumer_max_size {
            return Err(GroupError::GroupMaxSizeReached);
        }
        let classic = ClassicMemberMetadata {
            session_timeout_ms: request.session_timeout_ms,
            supported_protocols: owned_bytes(&request.protocols),
        };
        self.check_protocols(request, &classic)?;
        let unknown = asked.is_empty();
        let new: Arc<str> = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid().to_string().into();
        if unknown && request.requires_known_member_id && request.member.instance_id.is_none() {
            return Ok(JoinedGroup::refused(GroupError::MemberIdRequired, &new));
        }
        let metadata = request.protocols.first().map(|(_, metadata)| &**metadata).unwrap_or_default();
        let subscription = Subscription::parse(metadata).ok_or(GroupError::InconsistentGroupProtocol)?;
        let id = if unknown { new } else { asked.clone() };
        let owned = resolved(&subscription.owned, context.image);
        // Who was removed meanwhile, and does not know it, has to give up all that others may have by now.
        if !owned.is_empty() && !self.members.get(&id).is_some_and(|member| member.owns(&owned)) {
            return Err(GroupError::UnknownMemberId);
        }
        let predecessor = self.predecessor(&request.member, unknown)?;
        let place = predecessor.as_ref().unwrap_or(&id);
        let before = self.members.get(place).map_or_else(|| Member::new().about, |m| m.about.clone());
        let about = ConsumerGroupMemberValue {
            instance_id: request.member.instance_id.clone(),
            rack_id: subscription.rack.clone().or(before.rack_id),
            client_id: client.id.clone(),
            client_host: client.host.clone(),
            subscribed_topic_names: names(&subscription),
            subscribed_topic_regex: None,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            server_assignor: None,
            classic: Some(classic),
        };
        if !self.has_room_for(place, &about) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        if let Some(before) = predecessor {
            self.replace(&before, &id, context);
        }
        let changed = self.update_member(&id, about, context);
        self.update_epochs(changed, context);
        self.reconcile(&id, Some(&owned), context);
        context.deadlines.push((Deadline::Session(id.clone()), Some(session)));
        // It is to sync within this time.
        let member = &self.members[&id];
        context.deadlines.push((Deadline::Rebalance(id.clone()), Some(member.rebalance_timeout())));
        Ok(JoinedGroup {
            error: None,
            generation: member.epoch,
            protocol_type: Some(Arc::from(CONSUMER)),
            protocol_name: request.protocols.first().map(|(name, _)| name.clone()),
            // Nobody among the members assigns.
            leader: Arc::from(""),
            skip_assignment: false,
            member_id: id,
            members: Vec::new(),
        })
    }

    /// Whether it fits the other classic members.
    fn check_protocols(&self, request: &JoinGroup, classic: &ClassicMemberMetadata) -> Result<(), GroupError> {
        let others = || {
            let others = self.members.iter().filter(|(id, _)| **id != request.member.member_id);
            others.filter_map(|(_, member)| member.about.classic.as_ref())
        };
        let supports = |other: &ClassicMemberMetadata, name| other.supported_protocols.iter().any(|(n, _)| n == name);
        let common = request.protocols.iter().any(|(name, _)| others().all(|other| supports(other, name)));
        if &*request.protocol_type != CONSUMER || !common {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if !fit_a_record(others().chain([classic]).map(|other| (other, 0))) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(())
    }

    /// The static member whose place the one that joins takes, whichever protocol it used.
    fn predecessor(&self, member: &MemberRef, unknown: bool) -> Result<Option<Arc<str>>, GroupError> {
        let Some(instance) = &member.instance_id else { return Ok(None) };
        match self.static_members.get(instance) {
            Some(current) if unknown => Ok(Some(current.clone())),
            Some(current) if *current == member.member_id => Ok(None),
            Some(_) => Err(GroupError::FencedInstanceId),
            None if unknown => Ok(None),
            None => Err(GroupError::UnknownMemberId),
        }
    }

    /// The consumer-protocol member that a classic static member would take the place of.
    pub(in crate::groups) fn replaces_consumer(&self, member: &MemberRef) -> Option<Arc<str>> {
        let before = self.predecessor(member, member.member_id.is_empty()).ok()??;
        self.members.get(&before).filter(|m| m.about.classic.is_none()).map(|_| before)
    }

    /// Whether all others use the classic protocol.
    pub(in crate::groups) fn is_last_of_consumer_protocol(&self, member: &str) -> bool {
        self.members.iter().all(|(id, m)| **id == *member || m.about.classic.is_some())
    }

    /// SyncGroup: what the member was assigned when it joined.
    pub(in crate::groups) fn sync(
        &mut self,
        request: &SyncGroup,
        context: &mut StepContext<'_>,
    ) -> Result<SyncedGroup, GroupError> {
        let (id, member, classic) = self.classic_member(&request.member)?;
        if request.generation != member.epoch {
            return Err(GroupError::IllegalGeneration);
        }
        let protocol = classic.supported_protocols.first().map(|(name, _)| name);
        let other_type = request.protocol_type.as_ref().is_some_and(|t| &**t != CONSUMER);
        let other_name = request.protocol_name.as_ref().is_some_and(|name| Some(name) != protocol);
        if other_type || other_name {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if self.epoch > member.epoch && member.state != State::UnrevokedPartitions {
            context.unset_deadlines.push((Deadline::Rebalance(id.clone()), member.rebalance_timeout()));
            return Err(GroupError::RebalanceInProgress);
        }
        context.deadlines.push((Deadline::Rebalance(id.clone()), None));
        context.deadlines.push((Deadline::Session(id.clone()), Some(session_timeout(classic))));
        Ok(SyncedGroup {
            protocol_type: Some(Arc::from(CONSUMER)),
            protocol_name: protocol.cloned(),
            assignment: encoded(&member.assigned, classic, context.image),
        })
    }

    /// Heartbeat: tells the member to join again when there is something to give back, or to be had.
    pub(in crate::groups) fn heartbeat_of_classic(
        &mut self,
        member: &MemberRef,
        generation: i32,
        context: &mut StepContext<'_>,
    ) -> Result<(), GroupError> {
        let (id, member, classic) = self.classic_member(member)?;
        if generation != member.epoch {
            return Err(GroupError::IllegalGeneration);
        }
        let (id, timeout) = (id.clone(), member.rebalance_timeout());
        context.deadlines.push((Deadline::Session(id.clone()), Some(session_timeout(classic))));
        // Nobody else may look at changes of the topics.
        self.update_epochs(false, context);
        let member = &self.members[&id];
        let joins = member.epoch < self.epoch
            || match member.state {
                State::Stable => false,
                State::UnrevokedPartitions | State::Unknown(_) => true,
                State::UnreleasedPartitions => !self.waits_for_others(&id, member),
            };
        if joins {
            context.unset_deadlines.push((Deadline::Rebalance(id), timeout));
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether others may still use what the member is to own.
    fn waits_for_others(&self, id: &Arc<str>, member: &Member) -> bool {
        let nothing = Assignment::default();
        let target = self.targets.get(id).unwrap_or(&nothing);
        let missing = target.iter().filter(|(topic, partition)| !member.assigned.contains(*topic, *partition));
        missing.into_iter().any(|at| self.owners.get(&at).is_some_and(|owner| owner != id))
    }

    /// LeaveGroup, of one member: an administrator removes members of either protocol with it.
    pub(in crate::groups) fn leave_group(
        &mut self,
        member: &MemberRef,
        context: &mut StepContext<'_>,
    ) -> Result<(), GroupError> {
        // A static member may be named by its instance id alone.
        let by_instance = member.instance_id.as_ref().filter(|_| member.member_id.is_empty());
        let named = match by_instance {
            Some(instance) => self.static_members.get(instance).cloned().ok_or(GroupError::UnknownMemberId)?,
            None => member.member_id.clone(),
        };
        let named = MemberRef { member_id: named, instance_id: member.instance_id.clone() };
        let id = self.unfenced_member(&named)?.0.clone();
        self.fence(&id, context);
        Ok(())
    }

    /// The member, if it uses the classic protocol and is not fenced by another with its instance id.
    fn classic_member(&self, member: &MemberRef) -> Result<(&Arc<str>, &Member, &ClassicMemberMetadata), GroupError> {
        let (id, found) = self.unfenced_member(member)?;
        let classic = found.about.classic.as_ref().ok_or(GroupError::UnknownMemberId)?;
        Ok((id, found, classic))
    }

    /// The member, if it is not fenced by another with its instance id.
    fn unfenced_member(&self, member: &MemberRef) -> Result<(&Arc<str>, &Member), GroupError> {
        if let Some(instance) = &member.instance_id {
            match self.static_members.get(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(id) if *id != member.member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        self.members.get_key_value(&member.member_id).ok_or(GroupError::UnknownMemberId)
    }
}

impl Member {
    /// How long it may be silent: what it said itself, or what the group goes by.
    pub(super) fn session_timeout(&self, of_group: Duration) -> Duration {
        self.about.classic.as_ref().map_or(of_group, session_timeout)
    }
}

fn session_timeout(classic: &ClassicMemberMetadata) -> Duration {
    Duration::from_millis(u64::try_from(classic.session_timeout_ms).unwrap_or(0))
}

/// Copies, so that a member does not keep the whole frame that it came in.
fn owned_bytes(protocols: &[(Arc<str>, Bytes)]) -> Vec<(Arc<str>, Bytes)> {
    protocols.iter().map(|(name, metadata)| (name.clone(), Bytes::copy_from_slice(metadata))).collect()
}
