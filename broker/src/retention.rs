//! Retention: now and then, what is older, or takes more space, than its topic keeps is removed from the partitions that
//! this broker leads. Their followers do as it does.
//!
//! One partition after the other, with a pause between while the disk has room, and off the owners' tasks: what is asked of
//! an owner is the high watermark, and to remove.

use crate::partitions::{OffsetSpec, Partitions};
use chronik_core::cluster::config::{RETENTION_BYTES, RETENTION_MS};
use chronik_core::cluster::{Image, Topic};
use chronik_core::ids::{BrokerId, TopicPartition};
use chronik_core::retention::{Retention, Segment, log_start};
use chronik_core::space::Room;
use chronik_log::{LogReader, RealDisk, SegmentInfo, Space};
use chronik_quorum::ControllerHandle;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Between two rounds while the disk has too little room, at first and at most.
const HURRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Between two partitions at most.
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// How long one removal is waited for before the next partition is looked at.
const REMOVAL_MAX: Duration = Duration::from_secs(10);
/// The same while the disk has too little room: it is somewhere among all of them that there is something to remove.
const REMOVAL_MAX_IN_HURRY: Duration = Duration::from_secs(1);

/// What retention needs of its broker.
pub(crate) struct RetentionConfig {
    /// This broker.
    pub(crate) me: BrokerId,
    /// Whom to ask for removals.
    pub(crate) partitions: Partitions,
    /// Knows the segments.
    pub(crate) reader: LogReader<RealDisk>,
    /// Knows the topics.
    pub(crate) controller: ControllerHandle,
    /// From the end of one round to the begin of the next.
    pub(crate) every: Duration,
    /// Knows whether the disk has room.
    pub(crate) space: Space,
}

/// Runs until it is stopped.
pub(crate) async fn run(config: RetentionConfig, stop: CancellationToken) {
    let rounds = async {
        let mut hurry = HURRY.0;
        loop {
            wait(&config, hurry).await;
            let has_removed = round(&config).await;
            hurry = next_hurry(hurry, config.space.room(), has_removed);
        }
    };
    tokio::select! {
        () = rounds => {}
        () = stop.cancelled() => {}
    }
}

/// How soon the next round is while the disk has too little room: later and later, while the rounds find nothing to remove.
fn next_hurry(hurry: Duration, room: Room, has_removed: bool) -> Duration {
    if has_removed || room == Room::Ample { HURRY.0 } else { (hurry * 2).min(HURRY.1) }
}

/// Until the next round is due. With too little room on the disk it is soon.
async fn wait(config: &RetentionConfig, hurry: Duration) {
    let due = Instant::now() + config.every;
    while Instant::now() < due {
        sleep(config.every.min(hurry)).await;
        if config.space.room() != Room::Ample {
            return;
        }
    }
}

/// Looks over all partitions once. Says whether something was removed, or may have been.
async fn round(config: &RetentionConfig) -> bool {
    let mut has_removed = false;
    let image = config.controller.image();
    let led: Vec<(TopicPartition, Arc<str>, Retention)> = image
        .partitions()
        .filter(|(_, topic, state)| state.leader == Some(config.me) && topic.is_deleted_from(&image, config.me))
        .map(|(partition, topic, _)| (partition, topic.name.clone(), limits(topic, &image, config.me)))
        .filter(|(_, _, limits)| limits.ms.is_some() || limits.bytes.is_some())
        .collect();
    let pause = (config.every / u32::try_from(led.len().max(1)).unwrap_or(u32::MAX)).min(PAUSE_MAX);
    for (partition, topic, limits) in led {
        let (pause, patience) = pace(config.space.room(), pause);
        has_removed |= remove(config, (partition, &*topic), &limits, patience).await;
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    has_removed
}

/// How long to wait after a partition, and for what is removed of it. The pause would be minutes over thousands of them.
fn pace(room: Room, pause: Duration) -> (Duration, Duration) {
    if room == Room::Ample { (pause, REMOVAL_MAX) } else { (Duration::ZERO, REMOVAL_MAX_IN_HURRY) }
}

/// What is in force for the topic now.
fn limits(topic: &Topic, image: &Image, me: BrokerId) -> Retention {
    // -1, which is no u64, stands for no limit.
    let value = |name| topic.setting(name, image, me);
    Retention { ms: value(RETENTION_MS), bytes: value(RETENTION_BYTES) }
}

/// Removes what is beyond the limits. Says whether there was something.
async fn remove(
    config: &RetentionConfig,
    (partition, topic): (TopicPartition, &str),
    limits: &Retention,
    patience: Duration,
) -> bool {
    let segments = config.reader.segments(partition).filter(|segments| !segments.is_empty());
    let Some(mut segments) = segments else { return false };
    // Of those that were cut, or come from an older broker, the first reading tells.
    if limits.ms.is_some() && segments[0].max_timestamp.is_none() {
        let reader = config.reader.clone();
        match tokio::task::spawn_blocking(move || reader.measure(partition)).await {
            Ok(Ok(())) => segments = config.reader.segments(partition).unwrap_or_default(),
            Ok(Err(error)) => warn!(topic, %partition, %error, "Cannot tell how old segments are"),
            Err(_) => return false,
        }
    }
    let Ok(found) = config.partitions.offset(partition, None, OffsetSpec::Latest).await else { return false };
    let Some(high_watermark) = found.offset else { return false };
    let by_age = limits.ms.is_some();
    let reader = config.reader.clone();
    let described = move || segments.iter().map(|s| describe(&reader, partition, s, by_age)).collect::<Vec<_>>();
    let Ok(segments) = tokio::task::spawn_blocking(described).await else { return false };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let Some(to) = log_start(&segments, high_watermark, now, limits) else { return false };
    match timeout(patience, config.partitions.advance_start(partition, to)).await {
        Ok(Ok(start)) => info!(topic, %partition, %start, "Removed what is beyond retention"),
        // Another leads by now, and does it.
        Ok(Err(_)) => {}
        Err(_) => warn!(topic, %partition, %to, "Removing what is beyond retention takes long"),
    }
    true
}

/// Asks the disk where records have no timestamps, and their age matters.
fn describe(reader: &LogReader<RealDisk>, partition: TopicPartition, segment: &SegmentInfo, by_age: bool) -> Segment {
    let without_timestamps = segment.max_timestamp.is_some_and(|newest| newest < 0);
    let modified = if by_age && without_timestamps { reader.modified(partition, segment.base) } else { None };
    Segment {
        end: segment.end,
        bytes: segment.bytes,
        first_timestamp: segment.first_timestamp,
        max_timestamp: segment.max_timestamp,
        modified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::TopicId;

    #[test]
    fn a_disk_without_room_is_looked_over_without_a_pause() {
        for (room, pauses) in [(Room::Ample, true), (Room::Internal, false), (Room::None, false)] {
            let (pause, patience) = pace(room, PAUSE_MAX);
            assert_eq!((!pause.is_zero(), patience >= REMOVAL_MAX), (pauses, pauses), "{room:?}");
        }
    }

    #[test]
    fn rounds_that_find_nothing_to_remove_come_later_and_later_while_there_is_no_room() {
        let mut hurry = HURRY.0;
        let mut seen = Vec::new();
        for (room, has_removed) in [
            (Room::None, false),
            (Room::Internal, false),
            (Room::None, false),
            (Room::None, false),
            (Room::None, true),
            (Room::None, false),
            (Room::Ample, false),
        ] {
            hurry = next_hurry(hurry, room, has_removed);
            seen.push(hurry.as_secs());
        }
        assert_eq!(seen, [2, 4, 8, 8, 1, 2, 1]);
    }

    #[test]
    fn limits_are_those_of_the_topic_or_of_all_brokers_or_kafkas() {
        let mut topic = Topic {
            id: TopicId(uuid::Uuid::from_u128(1)),
            name: "t".into(),
            partitions: imbl::Vector::new(),
            configs: imbl::OrdMap::new(),
            min_insync_replicas: 1,
            default_min_insync_replicas: 1,
            older_producers: chronik_core::ids::ProducerId(0),
        };
        let mut image = Image::default();
        let of = |topic: &Topic, image: &Image| limits(topic, image, BrokerId(0));
        assert_eq!(of(&topic, &image), Retention { ms: Some(604_800_000), bytes: None });
        image.cluster_configs.insert(Arc::from("log.retention.bytes"), Arc::from("7"));
        image.cluster_configs.insert(Arc::from("log.retention.ms"), Arc::from("-1"));
        assert_eq!(of(&topic, &image), Retention { ms: None, bytes: Some(7) });
        topic.configs.insert(Arc::from(RETENTION_BYTES), Arc::from("-1"));
        topic.configs.insert(Arc::from(RETENTION_MS), Arc::from("0"));
        assert_eq!(of(&topic, &image), Retention { ms: Some(0), bytes: None });
    }
}
