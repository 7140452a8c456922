//! A consumer group as it comes from a classic one, or becomes one.

use super::assignment::Assignment;
use super::member::Member;
use super::{ConsumerGroup, StepContext};
use crate::cluster::Image;
use crate::groups::classic::{MigratingMember, fit_a_record};
use crate::groups::consumer_protocol::{self, ByTopic, Subscription};
use crate::groups::event::Config;
use crate::groups::record::{
    ClassicMemberMetadata, ConsumerGroupMemberValue, CurrentMemberAssignmentValue, GroupMemberValue, OwnedPartitions,
    RecordKey, RecordValue, TopicPartitions,
};
use crate::groups::request::JoinGroup;
use crate::ids::TopicId;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a member adds to a classic group's record beside its metadata, at most: ids, names, timeouts.
const MEMBER_BYTES: usize = 512;

/// What one partition adds to an assignment.
const PARTITION_BYTES: usize = 4;

impl ConsumerGroup {
    /// Takes the members of a classic group over, in its generation. Each is stable with what it may own.
    pub(in crate::groups) fn take_over(
        &mut self,
        generation: i32,
        members: Vec<MigratingMember>,
        context: &mut StepContext<'_>,
    ) {
        let mut owned = owned_by(&members, context.image);
        for MigratingMember { value, classic, subscription, .. } in members {
            let id = value.member_id.clone();
            let session = milliseconds(value.session_timeout_ms);
            context.deadlines.push((super::Deadline::Session(id.clone()), Some(session)));
            let assigned = owned.remove(&id).unwrap_or_default().to_topics();
            let owned_partitions = |topic: &TopicPartitions| OwnedPartitions {
                topic_id: topic.topic_id,
                partitions: topic.partitions.clone(),
                since: vec![generation; topic.partitions.len()],
            };
            let current = assigned.iter().map(owned_partitions).collect();
            let about = about(value, classic, &subscription);
            let key = |key: fn(Arc<str>, Arc<str>) -> RecordKey| key(self.id.clone(), id.clone());
            let records = [
                (key(RecordKey::ConsumerGroupMember), RecordValue::ConsumerGroupMember(about)),
                (
                    key(RecordKey::ConsumerGroupTargetAssignmentMember),
                    RecordValue::ConsumerGroupTargetAssignmentMember { topic_partitions: assigned },
                ),
                (
                    key(RecordKey::ConsumerGroupCurrentMemberAssignment),
                    RecordValue::ConsumerGroupCurrentMemberAssignment(CurrentMemberAssignmentValue {
                        member_epoch: generation,
                        previous_member_epoch: generation,
                        state: 0,
                        assigned: current,
                        pending_revocation: Vec::new(),
                    }),
                ),
            ];
            for (key, value) in records {
                self.write(key, Some(value), context);
            }
        }
        let key = RecordKey::ConsumerGroupTargetAssignmentMetadata(self.id.clone());
        let value = RecordValue::ConsumerGroupTargetAssignmentMetadata { assignment_epoch: generation };
        self.write(key, Some(value), context);
        let metadata_hash = self.topics_hash(context.image);
        let value = RecordValue::ConsumerGroupMetadata { epoch: generation, metadata_hash };
        self.write(RecordKey::ConsumerGroupMetadata(self.id.clone()), Some(value), context);
    }

    /// Whether nobody uses the consumer protocol any more, and the others may go on in a classic group.
    pub(in crate::groups) fn has_classic_members_alone(&self, config: &Config) -> bool {
        let allowed = config.migration_policy.allows_downgrade() && self.members.len() <= config.max_size;
        let classic = self.members.values().map(|member| {
            let partitions = member.assigned.iter().chain(member.revoking.iter()).count();
            Some((member.about.classic.as_ref()?, MEMBER_BYTES + partitions * PARTITION_BYTES))
        });
        let classic: Option<Vec<_>> = classic.collect();
        allowed && classic.is_some_and(|members| !members.is_empty() && fit_a_record(members.into_iter()))
    }

    /// Whether a classic static member can take the place of `before`, the last one of the consumer protocol, and nobody
    /// else notices when the group becomes a classic one: all others have what they are to have, the subscription stays,
    /// and all name the same protocol first, which each takes for the group's. Its client has to know that one who leads
    /// need not assign (KIP-814).
    pub(in crate::groups) fn is_undisturbed_by(&self, before: &str, join: &JoinGroup) -> bool {
        let Some(replaced) = self.members.get(before) else { return false };
        let Some((protocol, metadata)) = join.protocols.first() else { return false };
        let same_names =
            Subscription::parse(metadata).is_some_and(|s| names(&s) == replaced.about.subscribed_topic_names);
        let goes_on = |member: &Member| {
            let first = member.about.classic.as_ref().and_then(|classic| classic.supported_protocols.first());
            member.is_reconciled_to(self.epoch) && first.is_some_and(|(name, _)| name == protocol)
        };
        let mut others = self.members.iter().filter(|(id, _)| ***id != *before);
        let same_topics = same_names && replaced.regex().is_none() && !self.refresh.topics;
        join.supports_skipping_assignment && same_topics && others.all(|(_, member)| goes_on(member))
    }

    /// Whether every member has what it is to have.
    pub(in crate::groups) fn is_settled(&self) -> bool {
        self.members.values().all(|member| member.is_reconciled_to(self.epoch))
    }

    /// The group's epoch, and its classic members, each assigned what it may own.
    pub(in crate::groups) fn classic_members(
        &self,
        image: &Image,
    ) -> (i32, Vec<(GroupMemberValue, ClassicMemberMetadata)>) {
        let members = self.members.iter().filter_map(|(id, member)| {
            let classic = member.about.classic.clone()?;
            let owned: Assignment = member.assigned.iter().chain(member.revoking.iter()).collect();
            let value = GroupMemberValue {
                member_id: id.clone(),
                group_instance_id: member.about.instance_id.clone(),
                client_id: member.about.client_id.clone(),
                client_host: member.about.client_host.clone(),
                rebalance_timeout_ms: member.about.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                subscription: Bytes::new(),
                assignment: encoded(&owned, &classic, image),
            };
            Some((value, classic))
        });
        (self.epoch, members.collect())
    }
}

/// The assignment of a member, encoded for the classic protocol.
pub(super) fn encoded(assignment: &Assignment, classic: &ClassicMemberMetadata, image: &Image) -> Bytes {
    let metadata = classic.supported_protocols.first().map(|(_, metadata)| metadata.clone()).unwrap_or_default();
    let version = Subscription::parse(&metadata).map_or(0, |subscription| subscription.version);
    let partitions: ByTopic = assignment
        .topics()
        .filter_map(|(topic, partitions)| {
            Some((image.topics.get(&topic)?.name.clone(), partitions.iter().copied().collect()))
        })
        .collect();
    consumer_protocol::assignment(version, &partitions)
}

/// Partitions by topic id; topics that do not exist are passed over.
pub(super) fn resolved(partitions: &[(Arc<str>, Vec<i32>)], image: &Image) -> Assignment {
    let ids = partitions.iter().filter_map(|(name, partitions)| Some((image.topic_ids.get(name)?, partitions)));
    ids.flat_map(|(id, partitions)| partitions.iter().map(|p| (*id, *p))).collect()
}

/// What each member may own. Of two that claim a partition, the one it is assigned to has it.
fn owned_by(members: &[MigratingMember], image: &Image) -> BTreeMap<Arc<str>, Assignment> {
    let mut taken: BTreeSet<(TopicId, i32)> = BTreeSet::new();
    let mut owned: BTreeMap<Arc<str>, Assignment> = BTreeMap::new();
    let assigned = members.iter().map(|m| (m, &m.assigned));
    let claimed = members.iter().map(|m| (m, &m.subscription.owned));
    for (member, partitions) in assigned.chain(claimed) {
        for (topic, partition) in resolved(partitions, image).iter() {
            if taken.insert((topic, partition)) {
                owned.entry(member.value.member_id.clone()).or_default().insert(topic, partition);
            }
        }
    }
    owned
}

fn about(
    value: GroupMemberValue,
    classic: ClassicMemberMetadata,
    subscription: &Subscription,
) -> ConsumerGroupMemberValue {
    ConsumerGroupMemberValue {
        instance_id: value.group_instance_id,
        rack_id: subscription.rack.clone(),
        client_id: value.client_id,
        client_host: value.client_host,
        subscribed_topic_names: names(subscription),
        subscribed_topic_regex: None,
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        server_assignor: None,
        classic: Some(classic),
    }
}

/// The subscribed topics as a member of a consumer group has them: ascending, each once.
pub(super) fn names(subscription: &Subscription) -> Vec<Arc<str>> {
    let mut names = subscription.topics.clone();
    names.sort_unstable();
    names.dedup();
    names
}

fn milliseconds(timeout: i32) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(timeout).unwrap_or(0))
}
