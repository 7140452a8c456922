//! How members go: they leave, are replaced, or are fenced when they let a deadline pass.

use super::context::Refusal;
use super::member::{LEAVE, LEAVE_STATIC, Member, State};
use super::{ConsumerGroup, Deadline, StepContext};
use crate::groups::record::{RecordKey, RecordValue};
use crate::groups::request;
use crate::groups::response::{self, GroupError};
use std::collections::BTreeSet;
use std::sync::Arc;

impl ConsumerGroup {
    /// A deadline has passed. The member is fenced, and hears so when it heartbeats again.
    pub(in crate::groups) fn deadline(&mut self, deadline: &Deadline, context: &mut StepContext<'_>) {
        match deadline {
            Deadline::Session(id) if self.members.contains_key(id) => self.fence(id, context),
            Deadline::Rebalance(id) => {
                let late = |m: &Member| m.state == State::UnrevokedPartitions || m.about.classic.is_some();
                if self.members.get(id).is_some_and(late) {
                    self.fence(id, context);
                }
            }
            Deadline::Session(_) => {}
        }
    }

    /// A heartbeat that says that the member leaves.
    pub(super) fn leave(
        &mut self,
        request: &request::ConsumerGroupHeartbeat,
        context: &mut StepContext<'_>,
    ) -> Result<response::ConsumerGroupHeartbeat, Refusal> {
        let id = match &request.instance_id {
            None => self.known(&request.member_id)?,
            Some(instance) => self.known_static(instance, &request.member_id)?,
        };
        if request.member_epoch == LEAVE_STATIC {
            self.leave_for_a_while(&id, context);
        } else {
            self.fence(&id, context);
        }
        Ok(response::ConsumerGroupHeartbeat {
            member_id: id,
            member_epoch: if request.member_epoch == LEAVE_STATIC { LEAVE_STATIC } else { LEAVE },
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// The member of that id.
    pub(super) fn known(&self, id: &str) -> Result<Arc<str>, Refusal> {
        let text = || format!("Member {id} is not a member of group {}.", self.id);
        let found = self.members.get_key_value(id).map(|(id, _)| id.clone());
        found.ok_or_else(|| (GroupError::UnknownMemberId, Some(text())))
    }

    /// The static member of that instance id, if it has that member id.
    pub(super) fn known_static(&self, instance: &str, id: &str) -> Result<Arc<str>, Refusal> {
        let Some(current) = self.static_members.get(instance) else {
            return Err((GroupError::UnknownMemberId, Some(format!("Instance id {instance} is unknown."))));
        };
        if &**current != id {
            let text = format!("Static member {id} with instance id {instance} was fenced by member {current}.");
            return Err((GroupError::FencedInstanceId, Some(text)));
        }
        Ok(current.clone())
    }

    /// What it has been assigned waits for it until its session ends; what it was asked to give back is given back.
    fn leave_for_a_while(&mut self, id: &Arc<str>, context: &mut StepContext<'_>) {
        let Some(mut member) = self.members.get(id).cloned() else { return };
        member.epoch = LEAVE_STATIC;
        member.revoking = super::Assignment::default();
        // Who comes back has another id, and has what it is given from the beginning on.
        member.since.clear();
        member.owns_since(0);
        let key = RecordKey::ConsumerGroupCurrentMemberAssignment(self.id.clone(), id.clone());
        self.write(key, Some(RecordValue::ConsumerGroupCurrentMemberAssignment(member.current())), context);
        context.deadlines.push((Deadline::Rebalance(id.clone()), None));
    }

    /// Removes a member, and lets the others have what it owned.
    pub(in crate::groups) fn fence(&mut self, id: &Arc<str>, context: &mut StepContext<'_>) {
        self.forget(id, context);
        self.forget_unused_regexes(context);
        if self.has_classic_members_alone(context.config) {
            // It becomes a classic group in this step, which has another generation when they have joined again.
            return;
        }
        let metadata_hash = self.topics_hash(context.image);
        let value = RecordValue::ConsumerGroupMetadata { epoch: self.next_epoch(), metadata_hash };
        self.write(RecordKey::ConsumerGroupMetadata(self.id.clone()), Some(value), context);
    }

    /// Writes a member's tombstones.
    pub(super) fn forget(&mut self, id: &Arc<str>, context: &mut StepContext<'_>) {
        for key in [
            RecordKey::ConsumerGroupCurrentMemberAssignment,
            RecordKey::ConsumerGroupTargetAssignmentMember,
            RecordKey::ConsumerGroupMember,
        ] {
            self.write(key(self.id.clone(), id.clone()), None, context);
        }
        context.deadlines.push((Deadline::Session(id.clone()), None));
        context.deadlines.push((Deadline::Rebalance(id.clone()), None));
    }

    /// Writes tombstones of regular expressions that nobody is subscribed to any more.
    pub(super) fn forget_unused_regexes(&mut self, context: &mut StepContext<'_>) {
        if self.regexes.is_empty() {
            return;
        }
        let used: BTreeSet<_> = self.members.values().filter_map(|m| m.regex()).collect();
        let unused: Vec<_> = self.regexes.keys().filter(|regex| !used.contains(regex)).cloned().collect();
        for regex in unused {
            self.write(RecordKey::ConsumerGroupRegularExpression(self.id.clone(), regex), None, context);
        }
    }

    /// Writes tombstones for all there is of the group.
    pub(in crate::groups) fn delete(&mut self, context: &mut StepContext<'_>) {
        let members: Vec<_> = self.members.keys().cloned().collect();
        for id in &members {
            self.forget(id, context);
        }
        self.write(RecordKey::ConsumerGroupTargetAssignmentMetadata(self.id.clone()), None, context);
        self.forget_unused_regexes(context);
        self.write(RecordKey::ConsumerGroupMetadata(self.id.clone()), None, context);
    }
}
