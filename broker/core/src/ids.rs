//! The identifiers of the system, each a type of its own so that they cannot be mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// The position of a record in its partition's log; the first record has offset 0.
    Offset(i64)
);
number!(
    /// Counts the leaderships of one partition (KIP-101). Grows by one with every election.
    LeaderEpoch(i32)
);
number!(
    /// Counts the changes of one partition's replica state at the controller (KIP-497).
    PartitionEpoch(i32)
);
number!(
    /// A broker's number, as in `node.id`. Never negative.
    BrokerId(i32)
);
number!(
    /// One registration of one broker process (KIP-631): the metadata offset of its registration.
    /// A restarted broker has a greater one, and its former one is fenced.
    BrokerEpoch(i64)
);
number!(
    /// A partition's index in its topic, from 0.
    PartitionId(i32)
);
number!(
    /// An idempotent producer's id (KIP-98). -1 on the wire means "none".
    ProducerId(i64)
);
number!(
    /// Counts the incarnations of one producer id (KIP-98).
    ProducerEpoch(i16)
);
number!(
    /// A position in a broker's write-ahead log, in bytes since the log was created.
    Lsn(u64)
);
number!(
    /// The index of an entry in the metadata log.
    MetadataOffset(u64)
);

macro_rules! unique {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

unique!(
    /// A topic's identity (KIP-516): a topic that is deleted and created again has a new one.
    TopicId
);
unique!(
    /// A data directory's identity (KIP-858): a wiped disk has a new one.
    DirectoryId
);
unique!(
    /// One process of a broker, from its start to its end (KIP-631's incarnation id).
    IncarnationId
);
unique!(
    /// The cluster's identity, chosen once, by the first entry of the metadata log.
    ClusterId
);

/// One partition of one topic, named by the topic's id and not by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: PartitionId,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl Offset {
    /// The offset of a partition's first record ever.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records further on.
    #[must_use]
    pub fn plus(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}
