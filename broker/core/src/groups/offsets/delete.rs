//! Offsets that go: by request, or with their topic.

use crate::groups::group::{Group, GroupKind};
use crate::groups::record::{OffsetCommitValue, RecordKey};
use crate::groups::response::GroupError;
use crate::groups::step::Step;
use std::sync::Arc;

impl Group {
    /// OffsetDelete.
    pub(in crate::groups) fn delete_requested(
        &mut self,
        id: &Arc<str>,
        topics: &[(Arc<str>, Vec<i32>)],
        step: &mut Step<'_>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if let GroupKind::Classic(classic) = &self.kind {
            classic.may_delete_offsets()?;
        }
        let mut answers = Vec::new();
        for (topic, partitions) in topics {
            let subscribed = self.subscribes(topic);
            for partition in partitions {
                if !exists(topic, *partition, step) {
                    answers.push(Err(GroupError::UnknownTopicOrPartition));
                    continue;
                }
                if subscribed {
                    answers.push(Err(GroupError::GroupSubscribedToTopic));
                    continue;
                }
                if self.offsets.remove(topic, *partition) {
                    step.delete(key(id, topic, *partition));
                    step.cut();
                }
                answers.push(Ok(()));
            }
        }
        Ok(answers)
    }

    /// Deletes the offsets that `goes` names, by topic and partition.
    pub(in crate::groups) fn delete_offsets(
        &mut self,
        id: &Arc<str>,
        goes: impl Fn(&str, i32, &OffsetCommitValue) -> bool,
        step: &mut Step<'_>,
    ) {
        let going: Vec<(Arc<str>, i32)> = self
            .offsets
            .iter()
            .filter(|(topic, partition, value)| goes(topic, *partition, value))
            .map(|(topic, partition, _)| (topic.clone(), partition))
            .collect();
        for (topic, partition) in going {
            self.offsets.remove(&topic, partition);
            step.delete(key(id, &topic, partition));
            step.cut();
        }
    }

    /// Deletes the offsets of topics that are no more, even if there is another of the same name. Offsets from
    /// before topic ids go with the name.
    ///
    /// An image as new as the leadership has every topic that an offset was committed of before.
    pub(in crate::groups) fn forget_deleted_topics(&mut self, id: &Arc<str>, step: &mut Step<'_>) {
        let Some(image) = step.image else { return };
        let gone = |topic: &str, _: i32, value: &OffsetCommitValue| {
            if value.topic_id.0.is_nil() {
                !image.topic_ids.contains_key(topic)
            } else {
                !image.topics.contains_key(&value.topic_id)
            }
        };
        self.delete_offsets(id, gone, step);
    }
}

fn exists(topic: &str, partition: i32, step: &Step<'_>) -> bool {
    let Some(image) = step.image else { return true };
    let found = image.topic_by_name(topic);
    found.is_some_and(|topic| usize::try_from(partition).is_ok_and(|index| index < topic.partitions.len()))
}

fn key(group: &Arc<str>, topic: &Arc<str>, partition: i32) -> RecordKey {
    RecordKey::OffsetCommit { group: group.clone(), topic: topic.clone(), partition }
}
