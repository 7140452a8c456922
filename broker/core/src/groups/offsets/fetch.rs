//! OffsetFetch.

use crate::cluster::Image;
use crate::groups::group::{Group, GroupKind};
use crate::groups::record::OffsetCommitValue;
use crate::groups::response::{FetchedOffset, FetchedTopic, GroupError};
use std::sync::Arc;

impl Group {
    /// OffsetFetch: of some partitions, or of all that have an offset. Those of a topic that was deleted are not another's of
    /// the same name, also where they could not be forgotten yet.
    pub(in crate::groups) fn fetch(
        &self,
        member: Option<(&str, i32)>,
        topics: Option<&[(Arc<str>, Vec<i32>)]>,
        image: Option<&Image>,
    ) -> Result<Vec<FetchedTopic>, GroupError> {
        if let GroupKind::Consumer(consumer) = &self.kind {
            consumer.may_fetch(member)?;
        }
        let is_of = |topic: &str, value: &OffsetCommitValue| {
            let same = |image: &Image| image.topic_ids.get(topic) == Some(&value.topic_id);
            value.topic_id.0.is_nil() || image.is_none_or(same)
        };
        let Some(topics) = topics else {
            let all = self.offsets.topics().iter().map(|(topic, partitions)| {
                let left = partitions.iter().filter(|(_, value)| is_of(topic, value));
                let partitions = left.map(|(partition, value)| fetched(*partition, value)).collect();
                FetchedTopic { topic: topic.clone(), partitions }
            });
            return Ok(all.filter(|found| !found.partitions.is_empty()).collect());
        };
        let of = |topic: &str, partition| match self.offsets.get(topic, partition).filter(|value| is_of(topic, value)) {
            Some(value) => fetched(partition, value),
            None => FetchedOffset::none(partition),
        };
        let asked = topics.iter().map(|(topic, partitions)| FetchedTopic {
            topic: topic.clone(),
            partitions: partitions.iter().map(|partition| of(topic, *partition)).collect(),
        });
        Ok(asked.collect())
    }
}

fn fetched(partition: i32, value: &OffsetCommitValue) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.clone(),
        error: None,
    }
}
