//! OffsetCommit.

use crate::groups::event::Ticket;
use crate::groups::group::{Group, GroupKind};
use crate::groups::record::{OffsetCommitValue, RecordKey, RecordValue};
use crate::groups::request::{OffsetCommit, OffsetToCommit};
use crate::groups::response::{GroupError, Response};
use crate::groups::step::Step;

impl Group {
    /// OffsetCommit.
    pub(in crate::groups) fn commit(&mut self, request: OffsetCommit, ticket: Ticket, step: &mut Step<'_>) {
        if let Err(error) = self.may_commit(&request, step) {
            return step.reply(ticket, Response::OffsetCommit(vec![Err(error); request.offsets.len()]));
        }
        let now = step.now.wall_ms;
        let expires = request.retention_ms.filter(|ms| *ms >= 0).map_or(-1, |ms| now.saturating_add(ms));
        let mut answers = Vec::with_capacity(request.offsets.len());
        for offset in request.offsets {
            let answer = takes(&offset, step);
            if answer.is_ok() {
                let value = OffsetCommitValue {
                    offset: offset.offset,
                    leader_epoch: offset.leader_epoch,
                    metadata: offset.metadata,
                    commit_timestamp: now,
                    expire_timestamp: expires,
                    topic_id: offset.topic_id,
                };
                let (topic, partition) = (offset.topic, offset.partition);
                self.offsets.set(&topic, partition, value.clone());
                let key = RecordKey::OffsetCommit { group: request.group.clone(), topic, partition };
                step.write(key, RecordValue::OffsetCommit(value));
                step.cut();
            }
            answers.push(answer);
        }
        step.reply_when_committed(ticket, Response::OffsetCommit(answers));
    }

    fn may_commit(&self, request: &OffsetCommit, step: &mut Step<'_>) -> Result<(), GroupError> {
        let (member, generation) = (&request.member, request.generation_or_epoch);
        match &self.kind {
            GroupKind::Classic(classic) => {
                classic.may_commit(member, generation)?;
                classic.has_committed(member, step);
                Ok(())
            }
            GroupKind::Consumer(consumer) => {
                let partitions = request.offsets.iter().map(|offset| (offset.topic_id, offset.partition));
                consumer.may_commit(&member.member_id, generation, request.knows_member_epochs, partitions)
            }
        }
    }
}

fn takes(offset: &OffsetToCommit, step: &Step<'_>) -> Result<(), GroupError> {
    if offset.metadata.len() > step.config.max_offset_metadata_bytes {
        return Err(GroupError::OffsetMetadataTooLarge);
    }
    // A topic that is deleted while its offset is under way must not leave one behind.
    if step.image.is_some_and(|image| !image.topics.contains_key(&offset.topic_id)) {
        return Err(GroupError::UnknownTopicOrPartition);
    }
    Ok(())
}
