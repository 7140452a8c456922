//! What a record makes of a group: the same whether it is loaded or has just been written.

use super::assignment::Assignment;
use super::member::Member;
use super::{ConsumerGroup, Resolved};
use crate::groups::record::{RecordKey, RecordValue};
use std::collections::HashMap;
use std::sync::Arc;

impl ConsumerGroup {
    /// Applies a record of this group. While loading, records may come in an order in which they were never written
    /// (compaction keeps the last one of each key); the result is the same.
    pub(in crate::groups) fn apply(&mut self, key: &RecordKey, value: Option<&RecordValue>) {
        match (key, value) {
            (
                RecordKey::ConsumerGroupMetadata(_),
                Some(RecordValue::ConsumerGroupMetadata { epoch, metadata_hash }),
            ) => (self.epoch, self.metadata_hash) = (*epoch, *metadata_hash),
            (RecordKey::ConsumerGroupMetadata(_), None) => (self.epoch, self.metadata_hash) = (0, 0),
            (
                RecordKey::ConsumerGroupTargetAssignmentMetadata(_),
                Some(RecordValue::ConsumerGroupTargetAssignmentMetadata { assignment_epoch }),
            ) => self.assignment_epoch = *assignment_epoch,
            (RecordKey::ConsumerGroupTargetAssignmentMetadata(_), None) => self.assignment_epoch = 0,
            (
                RecordKey::ConsumerGroupTargetAssignmentMember(_, member),
                Some(RecordValue::ConsumerGroupTargetAssignmentMember { topic_partitions }),
            ) => {
                self.targets.insert(member.clone(), Assignment::from(topic_partitions.as_slice()));
            }
            (RecordKey::ConsumerGroupTargetAssignmentMember(_, member), None) => {
                self.targets.remove(member);
            }
            (
                RecordKey::ConsumerGroupRegularExpression(_, regex),
                Some(RecordValue::ConsumerGroupRegularExpression { topics, version, timestamp }),
            ) => {
                let resolved = Resolved { topics: topics.clone(), version: *version, timestamp: *timestamp };
                self.regexes.insert(regex.clone(), resolved);
            }
            (RecordKey::ConsumerGroupRegularExpression(_, regex), None) => {
                self.regexes.remove(regex);
                self.refresh.resolved_at.remove(regex);
            }
            (RecordKey::ConsumerGroupMember(_, member), value) => self.apply_member(member, value),
            (RecordKey::ConsumerGroupCurrentMemberAssignment(_, member), value) => self.apply_current(member, value),
            // Of other kinds of groups, or a value that is not of its key, which no codec makes.
            _ => {}
        }
    }

    fn apply_member(&mut self, id: &Arc<str>, value: Option<&RecordValue>) {
        let kept_before = self.kept_of(id);
        let before = self.members.get(id).and_then(|m| m.about.instance_id.clone());
        if let Some(instance) = before
            && self.static_members.get(&instance) == Some(id)
        {
            self.static_members.remove(&instance);
        }
        if let Some(RecordValue::ConsumerGroupMember(value)) = value {
            let member = self.members.entry(id.clone()).or_insert_with(Member::new);
            member.about = value.clone();
            if let Some(instance) = &value.instance_id {
                self.static_members.insert(instance.clone(), id.clone());
            }
        } else {
            self.release(id);
            self.members.remove(id);
        }
        self.kept = self.kept - kept_before + self.kept_of(id);
    }

    fn apply_current(&mut self, id: &Arc<str>, value: Option<&RecordValue>) {
        self.release(id);
        let known = self.members.contains_key(id);
        if let Some(RecordValue::ConsumerGroupCurrentMemberAssignment(value)) = value {
            let member = self.members.entry(id.clone()).or_insert_with(Member::new);
            member.set_current(value);
            for at in member.assigned.iter().chain(member.revoking.iter()) {
                self.owners.insert(at, id.clone());
            }
        } else if let Some(member) = self.members.get_mut(id) {
            let about = std::mem::replace(member, Member::new()).about;
            member.about = about;
        }
        if !known {
            self.kept += self.kept_of(id);
        }
    }

    /// That member owns nothing any more.
    fn release(&mut self, id: &Arc<str>) {
        let Some(member) = self.members.get(id) else { return };
        for at in member.assigned.iter().chain(member.revoking.iter()) {
            if self.owners.get(&at) == Some(id) {
                self.owners.remove(&at);
            }
        }
    }

    /// Finds out anew which member owns which partition. While loading, a member's record may give it a partition that
    /// another member has not revoked in any record so far.
    pub(super) fn find_owners(&mut self) {
        let owned = self
            .members
            .iter()
            .flat_map(|(id, member)| member.assigned.iter().chain(member.revoking.iter()).map(|at| (at, id.clone())));
        self.owners = owned.collect::<HashMap<_, _>>().into();
    }
}
