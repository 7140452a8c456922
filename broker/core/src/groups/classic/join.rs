//! JoinGroup.

use super::member::Member;
use super::{ClassicGroup, MAX_RECORD_BYTES, State};
use crate::groups::event::Ticket;
use crate::groups::record::{GroupMetadataValue, RecordKey, RecordValue};
use crate::groups::request::{Client, JoinGroup};
use crate::groups::response::{GroupError, JoinedGroup, Response};
use crate::groups::step::Step;
use crate::groups::timers::Timer;
use std::sync::Arc;
use std::time::Duration;

/// How long a new member's JoinGroup may wait. A client that gave up and tries anew looks like another client, so
/// the pending join that it left behind must time out.
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_mins(5);

/// Member ids that may be given out at a time.
const MAX_PENDING: usize = 10_000;

impl ClassicGroup {
    /// JoinGroup.
    pub(in crate::groups) fn join(
        &mut self,
        request: &JoinGroup,
        client: &Client,
        random: u128,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        if let Err(error) = self.try_join(request, client, random, ticket, step) {
            let unknown = Arc::from("");
            let id = if error == GroupError::GroupMaxSizeReached { &unknown } else { &request.member.member_id };
            step.reply(ticket, Response::JoinGroup(JoinedGroup::refused(error, id)));
        }
        let inhabited = !self.members.is_empty() || !self.pending.is_empty();
        if inhabited && !self.written {
            self.write_created(step);
        }
    }

    fn try_join(
        &mut self,
        request: &JoinGroup,
        client: &Client,
        random: u128,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) -> Result<(), GroupError> {
        let session = Duration::from_millis(u64::try_from(request.session_timeout_ms).unwrap_or(0));
        if session < step.config.min_session_timeout || session > step.config.max_session_timeout {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let id = &request.member.member_id;
        if !self.has_room_for(id, step.config.max_size) || !self.fits(request, client) {
            self.forget_joining(id, step);
            return Err(GroupError::GroupMaxSizeReached);
        }
        if !self.supports(&request.protocol_type, request) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if id.is_empty() {
            return self.join_unknown(request, client, random, ticket, step);
        }
        if self.pending.remove(id) {
            step.timers.cancel(&Timer::Pending(self.id.clone(), id.clone()));
            // Ids are given to dynamic members alone; one that becomes static must not take another's place.
            if let Some(instance) = &request.member.instance_id
                && self.statics.contains_key(instance)
            {
                return Err(GroupError::FencedInstanceId);
            }
            self.add(id.clone(), request, client, ticket, step);
            return Ok(());
        }
        self.validate(id, request.member.instance_id.as_deref())?;
        self.rejoin(request, ticket, step)
    }

    fn has_room_for(&self, member: &str, max: usize) -> bool {
        match self.state {
            State::Empty => true,
            // Of a group that has grown too large, those that join last are left out.
            State::PreparingRebalance => {
                let joined = self.members.values().filter(|m| m.awaiting_join.is_some()).count();
                joined < max || self.members.get(member).is_some_and(|m| m.awaiting_join.is_some())
            }
            State::CompletingRebalance | State::Stable => self.members.contains_key(member) || self.members.len() < max,
        }
    }

    /// Whether the group stays small enough with what that member says: to be written, and to be kept.
    fn fits(&self, request: &JoinGroup, client: &Client) -> bool {
        let instance = request.member.instance_id.as_ref();
        let former = instance.and_then(|i| self.statics.get(i)).unwrap_or(&request.member.member_id);
        let mut member = Member::sizes(request, client);
        for (_, other) in self.members.iter().filter(|(id, _)| *id != former) {
            member.add(other.size());
        }
        member.written <= MAX_RECORD_BYTES && member.kept <= 4 * MAX_RECORD_BYTES
    }

    fn forget_joining(&mut self, member: &Arc<str>, step: &mut Step<'_>) {
        if self.pending.remove(member) {
            step.timers.cancel(&Timer::Pending(self.id.clone(), member.clone()));
            self.complete_join_if_all_joined(step);
        } else if self.members.contains_key(member) {
            self.expel(member, step);
            self.rebalance_without(step);
        }
    }

    /// Whether the member has a protocol in common with all others.
    fn supports(&self, protocol_type: &str, request: &JoinGroup) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let common = |name: &str| self.members.values().all(|m| m.supports(name));
        self.protocol_type.as_deref() == Some(protocol_type) && request.protocols.iter().any(|(name, _)| common(name))
    }

    fn join_unknown(
        &mut self,
        request: &JoinGroup,
        client: &Client,
        random: u128,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) -> Result<(), GroupError> {
        let uuid = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
        if let Some(instance) = &request.member.instance_id {
            let new: Arc<str> = format!("{instance}-{uuid}").into();
            match self.statics.get(instance).cloned() {
                Some(old) => self.replace_static(&old, &new, request, client, ticket, step),
                None => self.add(new, request, client, ticket, step),
            }
            return Ok(());
        }
        let new: Arc<str> = format!("{}-{uuid}", client.id).into();
        if !request.requires_known_member_id {
            self.add(new, request, client, ticket, step);
            return Ok(());
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let session = super::milliseconds(request.session_timeout_ms);
        step.set_timer(Timer::Pending(self.id.clone(), new.clone()), session);
        self.pending.insert(new.clone());
        let answer = JoinedGroup::refused(GroupError::MemberIdRequired, &new);
        step.reply(ticket, Response::JoinGroup(answer));
        Ok(())
    }

    fn add(&mut self, id: Arc<str>, request: &JoinGroup, client: &Client, ticket: Ticket, step: &mut Step<'_>) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let Some(gathering) = &mut self.gathering {
            gathering.joined = true;
        }
        if let Some(instance) = &request.member.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        let mut member = Member::new(request, client);
        member.awaiting_join = Some(ticket);
        self.members.insert(id.clone(), member);
        self.leader.get_or_insert_with(|| id.clone());
        step.set_timer(Timer::Session(self.id.clone(), id), NEW_MEMBER_TIMEOUT);
        self.rebalance(step);
    }

    /// A member of the group joins: for a reason, or because it missed an answer.
    fn rejoin(&mut self, request: &JoinGroup, ticket: Ticket, step: &mut Step<'_>) -> Result<(), GroupError> {
        let id = &request.member.member_id;
        let same = self.members.get(id).is_some_and(|m| m.protocols == request.protocols);
        match self.state {
            State::Empty => Err(GroupError::UnknownMemberId),
            // The leader may know of changes that its metadata does not show, such as new partitions.
            State::Stable if same && !self.is_leader(id) => {
                let answer = self.joined(id, false);
                step.reply_when_committed(ticket, Response::JoinGroup(answer));
                Ok(())
            }
            State::CompletingRebalance if same => {
                let answer = self.joined(id, false);
                step.reply_when_committed(ticket, Response::JoinGroup(answer));
                Ok(())
            }
            _ => {
                self.await_join(id, request, ticket, step);
                self.rebalance(step);
                Ok(())
            }
        }
    }

    /// Lets a member's JoinGroup wait. One that it sent before is refused: its client sent another.
    pub(super) fn await_join(&mut self, id: &Arc<str>, request: &JoinGroup, ticket: Ticket, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.update(request);
        if let Some(former) = member.awaiting_join.replace(ticket) {
            let answer = JoinedGroup::refused(GroupError::RebalanceInProgress, id);
            step.reply(former, Response::JoinGroup(answer));
        }
    }

    /// A group that has just come to be is written down empty, as Kafka does, so that it is known after a failover.
    fn write_created(&mut self, step: &mut Step<'_>) {
        self.written = true;
        let since = *self.state_since.get_or_insert(step.now.wall_ms);
        let value = GroupMetadataValue {
            protocol_type: Arc::from(""),
            generation: self.generation,
            protocol: None,
            leader: None,
            current_state_timestamp: since,
            members: Vec::new(),
        };
        step.write(RecordKey::GroupMetadata(self.id.clone()), RecordValue::GroupMetadata(value));
    }
}
