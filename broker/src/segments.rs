//! Brings the log what topics say of their segments: when one is full, and how dense its index is. In force from the next
//! append on, on every broker that holds a replica. And which formats the cluster lets it write.

use chronik_core::cluster::config::{
    INDEX_INTERVAL_BYTES, MAX_COMPACTION_LAG_MS, SEGMENT_BYTES, SEGMENT_JITTER_MS, SEGMENT_MS,
};
use chronik_core::cluster::{Image, MetadataVersion, Topic};
use chronik_core::ids::BrokerId;
use chronik_log::{SegmentLimit, SegmentLimits, Writer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Runs until it is stopped. `segment_bytes` is what the broker's file says of `log.segment.bytes`.
pub(crate) async fn run(
    me: BrokerId,
    segment_bytes: usize,
    (limits, writer): (SegmentLimits, Writer),
    mut images: watch::Receiver<Image>,
    stop: CancellationToken,
) {
    let mut known = None;
    loop {
        let image = images.borrow_and_update().clone();
        apply(known.as_ref(), &image, me, segment_bytes, &limits);
        writer.write_once(image.metadata_version >= MetadataVersion::WRITE_ONCE);
        known = Some(image);
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Sets the limits of the topics whose configs have changed since.
fn apply(before: Option<&Image>, now: &Image, me: BrokerId, segment_bytes: usize, limits: &SegmentLimits) {
    let same_defaults = before.is_some_and(|before| {
        before.cluster_configs == now.cluster_configs && before.broker_configs.get(&me) == now.broker_configs.get(&me)
    });
    let known = before.filter(|_| same_defaults);
    for (id, topic) in &now.topics {
        let is_same =
            known.and_then(|before| before.topics.get(id)).is_some_and(|before| before.configs.ptr_eq(&topic.configs));
        if !is_same {
            limits.set(*id, Some(limit(topic, now, me, segment_bytes)));
        }
    }
    for id in before.into_iter().flat_map(|before| before.topics.keys()).filter(|id| !now.topics.contains_key(id)) {
        limits.set(*id, None);
    }
}

fn limit(topic: &Topic, image: &Image, me: BrokerId, segment_bytes: usize) -> SegmentLimit {
    let number = |name| topic.setting::<i64>(name, image, me);
    let bytes = topic.config(SEGMENT_BYTES, image, me).and_then(|text| text.parse().ok());
    let mut ms = number(SEGMENT_MS).unwrap_or(i64::MAX);
    if topic.is_compacted(image, me) {
        // What is appended to is not cleaned.
        ms = ms.min(number(MAX_COMPACTION_LAG_MS).unwrap_or(i64::MAX));
    }
    SegmentLimit {
        bytes: bytes.unwrap_or(segment_bytes as u64),
        ms,
        jitter_ms: number(SEGMENT_JITTER_MS).unwrap_or(0),
        index_interval_bytes: number(INDEX_INTERVAL_BYTES).and_then(|n| u64::try_from(n).ok()).unwrap_or(4096),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::config::Configs;
    use chronik_core::ids::TopicId;
    use std::sync::Arc;

    const ME: BrokerId = BrokerId(0);

    fn image(topic: &[(&str, &str)], cluster: &[(&str, &str)]) -> (Image, TopicId) {
        fn configs(all: &[(&str, &str)]) -> Configs {
            all.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect()
        }
        let id = TopicId(uuid::Uuid::from_u128(1));
        let topic = Topic {
            id,
            name: "t".into(),
            partitions: imbl::Vector::new(),
            configs: configs(topic),
            min_insync_replicas: 1,
            default_min_insync_replicas: 1,
            older_producers: chronik_core::ids::ProducerId(0),
        };
        let mut image = Image { cluster_configs: configs(cluster), ..Image::default() };
        image.topics.insert(id, topic);
        (image, id)
    }

    #[test]
    fn a_topics_own_value_goes_before_all_brokers_and_that_before_the_file() {
        let of = |topic: &[_], cluster: &[_]| {
            let (image, id) = image(topic, cluster);
            limit(&image.topics[&id], &image, ME, 77)
        };
        let none = of(&[], &[]);
        assert_eq!((none.bytes, none.ms, none.jitter_ms, none.index_interval_bytes), (77, 604_800_000, 0, 4096));
        let cluster = [("log.segment.bytes", "88"), ("log.roll.ms", "5"), ("log.index.interval.bytes", "9")];
        let given = of(&[], &cluster);
        assert_eq!((given.bytes, given.ms, given.index_interval_bytes), (88, 5, 9));
        let given = of(&[("segment.bytes", "99"), ("segment.ms", "6"), ("segment.jitter.ms", "3")], &cluster);
        assert_eq!((given.bytes, given.ms, given.jitter_ms), (99, 6, 3));
    }

    #[test]
    fn a_compacted_topic_begins_segments_in_time_to_be_cleaned() {
        let of = |policy| {
            let (image, id) = image(&[("cleanup.policy", policy), ("max.compaction.lag.ms", "1000")], &[]);
            limit(&image.topics[&id], &image, ME, 77).ms
        };
        assert_eq!((of("compact"), of("compact,delete"), of("delete")), (1000, 1000, 604_800_000));
    }
}
