//! What is promised of groups, and whether it is kept.

use super::consumer_protocol;
use super::coordinator::Asked;
use super::log::OffsetsLog;
use chronik_core::groups::record::{OwnedPartitions, TopicPartitions};
use chronik_core::groups::{GroupRecord, RecordKey, RecordValue, Request, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupRule {
    /// What an answer contains is committed when it is sent, and was so after the request came.
    AnsweredIsCommitted,
    /// No committed offset goes back or vanishes.
    OffsetsNeverGoBack,
    /// Generations and epochs do not go back.
    EpochsNeverGoBack,
    /// No two members own a partition: in one generation of a classic group, at one time in a consumer group.
    OneOwner,
    /// No request is answered twice.
    MembersAnsweredOnce,
    /// A client that keeps to the protocol gets no error that only a broken client should get.
    MembersRightlyRefused,
    /// After the faults all members own all partitions among them.
    MembersProgress,
}

impl GroupRule {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AnsweredIsCommitted,
        Self::OffsetsNeverGoBack,
        Self::EpochsNeverGoBack,
        Self::OneOwner,
        Self::MembersAnsweredOnce,
        Self::MembersRightlyRefused,
        Self::MembersProgress,
    ];
}

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub struct GroupViolation {
    /// Which.
    pub rule: GroupRule,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for GroupViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

pub(super) fn broken<T>(rule: GroupRule, what: impl Into<String>) -> Result<T, GroupViolation> {
    Err(GroupViolation { rule, what: what.into() })
}

/// Checks the answers of coordinators.
#[derive(Debug, Default)]
pub(super) struct AnswerChecker {
    /// To whom a partition of a classic group was assigned: by group, life of the group, generation and partition.
    owners: BTreeMap<(Arc<str>, usize, i32, i32), Arc<str>>,
}

impl AnswerChecker {
    /// Checks an answer that the coordinator sends.
    pub(super) fn check(&mut self, log: &OffsetsLog, asked: &Asked, answer: &Response) -> Result<(), GroupViolation> {
        match (&asked.request, answer) {
            (Request::OffsetCommit(commit), Response::OffsetCommit(answers)) => {
                for (offset, _) in commit.offsets.iter().zip(answers).filter(|(_, answer)| answer.is_ok()) {
                    let key = offset_key(&commit.group, &offset.topic, offset.partition);
                    if !offsets(log, &key, asked.since).contains(&offset.offset) {
                        return broken(GroupRule::AnsweredIsCommitted, format!("{key:?} at {}", offset.offset));
                    }
                }
            }
            (Request::OffsetFetch { group, .. }, Response::OffsetFetch(Ok(topics))) => {
                for topic in topics {
                    for fetched in &topic.partitions {
                        let key = offset_key(group, &topic.topic, fetched.partition);
                        let committed = offsets(log, &key, asked.since);
                        if !committed.contains(&fetched.offset) {
                            let what = format!("{key:?}: {} was answered, {committed:?} is committed", fetched.offset);
                            return broken(GroupRule::AnsweredIsCommitted, what);
                        }
                    }
                }
            }
            (Request::ConsumerGroupHeartbeat(beat), Response::ConsumerGroupHeartbeat(Ok(answer))) => {
                let assignment = answer.assignment.as_deref();
                if !had_assignment(log, &beat.group, &answer.member_id, answer.member_epoch, assignment, asked.since) {
                    return broken(GroupRule::AnsweredIsCommitted, format!("{}: {answer:?}", beat.group));
                }
            }
            (Request::SyncGroup(sync), Response::SyncGroup(Ok(synced))) => {
                let (group, member, generation) = (&sync.group, &sync.member.member_id, sync.generation);
                let assignment = consumer_protocol::assigned(&synced.assignment);
                if !was_assigned(log, group, member, generation, &assignment, asked.since) {
                    let what = format!("{group}: {member} was assigned {assignment:?} in generation {generation}");
                    return broken(GroupRule::AnsweredIsCommitted, what);
                }
                let name = sync.member.instance_id.clone().unwrap_or_else(|| member.clone());
                self.owns(log, group, generation, &assignment, &name)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// In one generation of a classic group no two members may own a partition.
    fn owns(
        &mut self,
        log: &OffsetsLog,
        group: &Arc<str>,
        generation: i32,
        partitions: &BTreeSet<i32>,
        name: &Arc<str>,
    ) -> Result<(), GroupViolation> {
        if is_consumer_group(log, group) {
            return Ok(());
        }
        let life = log.tombstones(&RecordKey::GroupMetadata(group.clone()));
        for partition in partitions {
            let key = (group.clone(), life, generation, *partition);
            let owner = self.owners.entry(key).or_insert_with(|| name.clone());
            if owner != name {
                let what = format!("{group}: {owner} and {name} both own {partition} in generation {generation}");
                return broken(GroupRule::OneOwner, what);
            }
        }
        Ok(())
    }
}

/// Whether the group's members use the consumer protocol, by what is committed.
pub(super) fn is_consumer_group(log: &OffsetsLog, group: &Arc<str>) -> bool {
    log.value(&RecordKey::ConsumerGroupMetadata(group.clone())).is_some()
}

fn offset_key(group: &Arc<str>, topic: &Arc<str>, partition: i32) -> RecordKey {
    RecordKey::OffsetCommit { group: group.clone(), topic: topic.clone(), partition }
}

/// The offsets that a key had since the log ended there; -1 for none.
fn offsets(log: &OffsetsLog, key: &RecordKey, since: usize) -> Vec<i64> {
    let offset = |value: Option<&RecordValue>| match value {
        Some(RecordValue::OffsetCommit(value)) => value.offset,
        _ => -1,
    };
    log.values_since(key, since).into_iter().map(offset).collect()
}

/// Whether a member had that epoch and assignment.
fn had_assignment(
    log: &OffsetsLog,
    group: &Arc<str>,
    member: &Arc<str>,
    epoch: i32,
    assignment: Option<&[TopicPartitions]>,
    since: usize,
) -> bool {
    let key = RecordKey::ConsumerGroupCurrentMemberAssignment(group.clone(), member.clone());
    log.values_since(&key, since).into_iter().any(|value| match value {
        Some(RecordValue::ConsumerGroupCurrentMemberAssignment(current)) => {
            current.member_epoch == epoch
                && assignment.is_none_or(|partitions| same_partitions(partitions, &current.assigned))
        }
        _ => epoch == -1,
    })
}

/// Whether a member had that assignment in that generation, whichever protocol the group went by.
fn was_assigned(
    log: &OffsetsLog,
    group: &Arc<str>,
    member: &Arc<str>,
    generation: i32,
    assignment: &BTreeSet<i32>,
    since: usize,
) -> bool {
    let classic = log.values_since(&RecordKey::GroupMetadata(group.clone()), since).into_iter().any(|value| {
        let Some(RecordValue::GroupMetadata(value)) = value else { return false };
        let of_member = value.members.iter().find(|m| m.member_id == *member);
        value.generation == generation
            && of_member.is_some_and(|m| consumer_protocol::assigned(&m.assignment) == *assignment)
    });
    let key = RecordKey::ConsumerGroupCurrentMemberAssignment(group.clone(), member.clone());
    classic
        || log.values_since(&key, since).into_iter().any(|value| {
            let Some(RecordValue::ConsumerGroupCurrentMemberAssignment(current)) = value else { return false };
            let partitions = current.assigned.iter().flat_map(|t| t.partitions.iter().copied());
            current.member_epoch == generation && partitions.collect::<BTreeSet<i32>>() == *assignment
        })
}

/// What is committed does not go back. `before` is the committed value of the record's key.
pub(super) fn committed(before: Option<&RecordValue>, record: &GroupRecord) -> Result<(), GroupViolation> {
    match (before, &record.value) {
        (Some(RecordValue::OffsetCommit(before)), Some(RecordValue::OffsetCommit(now))) => {
            if now.offset < before.offset {
                let what = format!("{:?}: from {} to {}", record.key, before.offset, now.offset);
                return broken(GroupRule::OffsetsNeverGoBack, what);
            }
        }
        (Some(RecordValue::OffsetCommit(_)), None) => {
            return broken(GroupRule::OffsetsNeverGoBack, format!("{:?} is deleted", record.key));
        }
        (before, now) => {
            let (before, now) = (before.and_then(epoch), now.as_ref().and_then(epoch));
            // A static member that leaves for a while has the epoch -2, and 0 when it has come back.
            if let (Some(before), Some(now)) = (before, now)
                && now < before
                && now > 0
            {
                let what = format!("{:?}: from {before} to {now}", record.key);
                return broken(GroupRule::EpochsNeverGoBack, what);
            }
        }
    }
    Ok(())
}

fn epoch(value: &RecordValue) -> Option<i32> {
    match value {
        RecordValue::GroupMetadata(value) => Some(value.generation),
        RecordValue::ConsumerGroupMetadata { epoch, .. } => Some(*epoch),
        RecordValue::ConsumerGroupTargetAssignmentMetadata { assignment_epoch } => Some(*assignment_epoch),
        RecordValue::ConsumerGroupCurrentMemberAssignment(value) => Some(value.member_epoch),
        _ => None,
    }
}

/// Whether these are the same partitions.
fn same_partitions(assignment: &[TopicPartitions], owned: &[OwnedPartitions]) -> bool {
    let assignment = assignment.iter().map(|topic| (topic.topic_id, &topic.partitions));
    assignment.eq(owned.iter().map(|topic| (topic.topic_id, &topic.partitions)))
}
