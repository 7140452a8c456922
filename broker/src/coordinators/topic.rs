//! `__consumer_offsets`, and how it is created when somebody first asks for a coordinator.

use chronik_core::cluster::MetadataVersion;
use chronik_core::cluster::config::canonical;
use chronik_quorum::CreateTopic;
use std::collections::BTreeMap;

/// Kafka's name of the topic.
pub(super) const NAME: &str = "__consumer_offsets";

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
    /// The topic as it is asked for: with those of Kafka's configs for it that topics of that
    /// metadata version may have.
    pub(super) fn to_create(self, version: MetadataVersion) -> CreateTopic {
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
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
}
