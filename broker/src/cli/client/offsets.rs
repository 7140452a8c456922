//! Offsets of partitions, and those that groups have committed.

use super::{Client, Result, refused};
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, OffsetCommitRequest, OffsetCommitRequestPartition,
    OffsetCommitRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup, StrBytes, message,
};
use std::collections::BTreeMap;

/// ListOffsets' timestamp for the end of a partition.
pub(in crate::cli) const LATEST: i64 = -1;
/// ListOffsets' timestamp for its start.
pub(in crate::cli) const EARLIEST: i64 = -2;

/// A topic and a partition.
pub(in crate::cli) type Place = (String, i32);

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Member {
    /// The member's id; empty for somebody who is no member.
    pub(in crate::cli) id: String,
    /// Its epoch; -1 for somebody who is no member.
    pub(in crate::cli) epoch: i32,
}

impl Client {
    /// The first offset whose record is as old as that or younger, in milliseconds since 1970; or [`LATEST`],
    /// [`EARLIEST`]. The end of the partition if there is none.
    pub(in crate::cli) async fn offset_at(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<i64> {
        let asked = message!(ListOffsetsPartition { partition_index: partition, timestamp: timestamp });
        let asked = message!(ListOffsetsTopic { name: StrBytes::from(topic), partitions: vec![asked] });
        let request = message!(ListOffsetsRequest { replica_id: -1, topics: vec![asked] });
        let found = self
            .again(async |client| {
                let leader = client.leader(topic, partition).await?;
                let answer = client.ask(leader, 6..=7, &request).await?;
                let found = answer.topics.first().and_then(|t| t.partitions.first());
                let code = found.map_or(ErrorCode::UNKNOWN_SERVER_ERROR.0, |p| p.error_code);
                refused(format!("offsets of {topic}-{partition}"), code, None)?;
                Ok(found.map_or(-1, |p| p.offset))
            })
            .await?;
        if found < 0 && timestamp != LATEST {
            return Box::pin(self.offset_at(topic, partition, LATEST)).await;
        }
        Ok(found)
    }

    /// All that a group has committed.
    pub(in crate::cli) async fn committed(&mut self, group: &str) -> Result<BTreeMap<Place, i64>> {
        let asked =
            message!(OffsetFetchRequestGroup { group_id: StrBytes::from(group), topics: None, member_epoch: -1 });
        let request = message!(OffsetFetchRequest { groups: vec![asked] });
        self.again(async |client| {
            let coordinator = client.coordinator(group).await?;
            let answer = client.ask(coordinator, 8..=9, &request).await?;
            let mut committed = BTreeMap::new();
            for of in &answer.groups {
                refused(format!("offsets of group {group}"), of.error_code, None)?;
                for topic in &of.topics {
                    for p in topic.partitions.iter().filter(|p| p.committed_offset >= 0) {
                        committed.insert((topic.name.to_string(), p.partition_index), p.committed_offset);
                    }
                }
            }
            Ok(committed)
        })
        .await
    }

    /// Commits offsets for a group.
    pub(in crate::cli) async fn commit(
        &mut self,
        group: &str,
        member: &Member,
        offsets: &BTreeMap<Place, i64>,
    ) -> Result<()> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            topics.entry(topic).or_default().push(message!(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
            }));
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            message!(OffsetCommitRequestTopic { name: StrBytes::from(name), partitions: partitions })
        });
        let request = message!(OffsetCommitRequest {
            group_id: StrBytes::from(group),
            generation_id_or_member_epoch: member.epoch,
            member_id: StrBytes::from(&*member.id),
            topics: topics.collect(),
        });
        self.again(async |client| {
            let coordinator = client.coordinator(group).await?;
            let answer = client.ask(coordinator, 8..=9, &request).await?;
            for topic in &answer.topics {
                for p in &topic.partitions {
                    refused(
                        format!("commit of {}-{} for group {group}", topic.name, p.partition_index),
                        p.error_code,
                        None,
                    )?;
                }
            }
            Ok(())
        })
        .await
    }
}
