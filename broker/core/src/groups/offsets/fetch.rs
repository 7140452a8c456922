//! OffsetFetch.

use crate::groups::group::{Group, GroupKind};
use crate::groups::record::OffsetCommitValue;
use crate::groups::response::{FetchedOffset, FetchedTopic, GroupError};
use std::sync::Arc;

impl Group {
    /// OffsetFetch: of some partitions, or of all that have an offset.
    pub(in crate::groups) fn fetch(
        &self,
        member: Option<(&str, i32)>,
        topics: Option<&[(Arc<str>, Vec<i32>)]>,
    ) -> Result<Vec<FetchedTopic>, GroupError> {
        if let GroupKind::Consumer(consumer) = &self.kind {
            consumer.may_fetch(member)?;
        }
        let Some(topics) = topics else {
            let all = self.offsets.topics().iter().map(|(topic, partitions)| FetchedTopic {
                topic: topic.clone(),
                partitions: partitions.iter().map(|(partition, value)| fetched(*partition, value)).collect(),
            });
            return Ok(all.collect());
        };
        let of = |topic: &str, partition| match self.offsets.get(topic, partition) {
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
