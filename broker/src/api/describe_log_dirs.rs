//! DescribeLogDirs: how much of this broker's disk its partitions take (KIP-113, KIP-827).

use super::Handlers;
use chronik_core::ids::{PartitionId, TopicPartition};
use chronik_wire::messages::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic, StrBytes, message,
};
use chronik_wire::{ErrorCode, Header};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use tracing::warn;

pub(super) async fn handle(
    handlers: &Handlers,
    header: Header,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let image = handlers.controller.image();
    let mut asked: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for topic in request.topics.iter().flatten() {
        asked.entry(&topic.topic).or_default().extend(&topic.partitions);
    }
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let mut add = |name, tp: TopicPartition| {
        let holds = image.partition(tp).is_some_and(|p| p.replicas.contains(&handlers.config.me));
        if holds {
            topics.entry(name).or_default().push(message!(DescribeLogDirsPartition {
                partition_index: tp.partition.0,
                partition_size: i64::try_from(handlers.partitions.bytes(tp)).unwrap_or(i64::MAX),
            }));
        }
    };
    if request.topics.is_some() {
        for (name, partitions) in asked {
            let Some(topic) = image.topic_by_name(name) else { continue };
            for i in partitions {
                add(name, TopicPartition { topic: topic.id, partition: PartitionId(i) });
            }
        }
    } else {
        image.partitions().for_each(|(tp, topic, _)| add(&topic.name, tp));
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| message!(DescribeLogDirsTopic { name: StrBytes::from(name), partitions: partitions }))
        .collect();
    let mut dir = message!(DescribeLogDirsResult {
        log_dir: StrBytes::from(handlers.config.data_dir.display().to_string()),
        topics: topics,
    });
    if header.version >= 4 {
        match room(handlers.config.data_dir.clone()).await {
            Some((total, usable)) => (dir.total_bytes, dir.usable_bytes) = (total, usable),
            None => dir.error_code = ErrorCode::KAFKA_STORAGE_ERROR.0,
        }
    }
    message!(DescribeLogDirsResponse { results: vec![dir] })
}

/// Bytes that the directory's volume has, and those of them that this broker may still use. Asks the file system, which
/// may take its time.
async fn room(dir: PathBuf) -> Option<(i64, i64)> {
    let asked = tokio::task::spawn_blocking(move || match rustix::fs::statvfs(&dir) {
        Ok(volume) => {
            let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(volume.f_frsize)).unwrap_or(i64::MAX);
            Some((bytes(volume.f_blocks), bytes(volume.f_bavail)))
        }
        Err(error) => {
            warn!(dir = %dir.display(), %error, "Cannot ask how much room there is");
            None
        }
    });
    asked.await.ok().flatten()
}
