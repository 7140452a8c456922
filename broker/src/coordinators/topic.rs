//! `__consumer_offsets`, and how it is created when somebody first asks for a coordinator.

use chronik_core::cluster::config::{CLEANUP_POLICY, canonical};
use chronik_core::cluster::{MetadataVersion, Topic};
use chronik_quorum::CreateTopic;
use std::collections::BTreeMap;

pub(super) use chronik_core::cluster::OFFSETS_TOPIC as NAME;

/// The one policy that the topic may have.
const COMPACT: &str = "compact";

/// How `__consumer_offsets` is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetsTopic {
    /// `offsets.topic.num.partitions`.
    pub partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub segment_bytes: usize,
}

impl Default for OffsetsTopic {
    /// Kafka's defaults for one broker.
    fn default() -> Self {
        Self { partitions: 50, replication_factor: 1, segment_bytes: 100 << 20 }
    }
}

impl OffsetsTopic {
    /// The request to create it, with the configs that Kafka gives it, as far as topics may have them in that metadata
    /// version.
    pub(super) fn to_create(self, version: MetadataVersion) -> CreateTopic {
        let configs = [
            (CLEANUP_POLICY, COMPACT.to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", self.segment_bytes.to_string()),
        ];
        CreateTopic {
            name: NAME.to_owned(),
            partitions: Some(self.partitions),
            replication_factor: Some(self.replication_factor),
            assignments: BTreeMap::new(),
            configs: configs
                .into_iter()
                .filter(|(name, value)| canonical(name, value, version).is_ok())
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            validate_only: false,
        }
    }

    /// What a topic that somebody else has created lacks, in words: it is used all the same.
    pub(super) fn lacks(self, topic: &Topic) -> Option<String> {
        let replicas = topic.partitions.iter().map(|p| p.target_replicas().count()).min().unwrap_or(0);
        let mut found = Vec::new();
        if replicas < usize::try_from(self.replication_factor).unwrap_or(0) {
            let wanted = self.replication_factor;
            found.push(format!("{replicas} replicas where offsets.topic.replication.factor is {wanted}"));
        }
        if topic.configs.get(CLEANUP_POLICY).is_none_or(|policy| **policy != *COMPACT) {
            found.push("no cleanup.policy=compact of its own; it is compacted all the same".to_owned());
        }
        (!found.is_empty()).then(|| found.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::{ProducerId, TopicId};
    use std::sync::Arc;

    #[test]
    fn what_a_topic_of_somebody_else_lacks_is_said() {
        let mut topic = Topic {
            id: TopicId(uuid::Uuid::from_u128(1)),
            name: NAME.into(),
            partitions: imbl::Vector::new(),
            configs: imbl::OrdMap::new(),
            min_insync_replicas: 1,
            default_min_insync_replicas: 1,
            older_producers: ProducerId(0),
        };
        let wanted = OffsetsTopic { replication_factor: 3, ..OffsetsTopic::default() };
        let lacks = wanted.lacks(&topic).unwrap();
        assert!(lacks.contains("0 replicas where offsets.topic.replication.factor is 3"), "{lacks}");
        assert!(lacks.contains("no cleanup.policy=compact"), "{lacks}");
        topic.configs.insert(Arc::from(CLEANUP_POLICY), Arc::from(COMPACT));
        let none = OffsetsTopic { replication_factor: 0, ..wanted };
        assert_eq!(none.lacks(&topic), None);
    }
}
