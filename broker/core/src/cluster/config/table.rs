//! The tables of configs: names, types, defaults, values and meanings.

use super::super::connections;
use super::super::listeners::ADVERTISED_LISTENERS;
use super::super::throttles;
use super::{Accepts, ConfigKind, Since, TopicConfig};

/// `cleanup.policy`.
pub const CLEANUP_POLICY: &str = "cleanup.policy";
/// `compression.type`.
pub const COMPRESSION_TYPE: &str = "compression.type";
/// `delete.retention.ms`.
pub const DELETE_RETENTION_MS: &str = "delete.retention.ms";
/// `index.interval.bytes`.
pub const INDEX_INTERVAL_BYTES: &str = "index.interval.bytes";
/// `max.compaction.lag.ms`.
pub const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";
/// `min.cleanable.dirty.ratio`.
pub const MIN_CLEANABLE_DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";
/// `min.compaction.lag.ms`.
pub const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";
/// `segment.bytes`.
pub const SEGMENT_BYTES: &str = "segment.bytes";
/// `segment.jitter.ms`.
pub const SEGMENT_JITTER_MS: &str = "segment.jitter.ms";
/// `segment.ms`.
pub const SEGMENT_MS: &str = "segment.ms";
/// `min.insync.replicas`.
pub const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// `retention.bytes`.
pub const RETENTION_BYTES: &str = "retention.bytes";
/// `retention.ms`.
pub const RETENTION_MS: &str = "retention.ms";
/// `message.timestamp.after.max.ms`.
pub const TIMESTAMP_AFTER_MAX_MS: &str = "message.timestamp.after.max.ms";
/// `message.timestamp.before.max.ms`.
pub const TIMESTAMP_BEFORE_MAX_MS: &str = "message.timestamp.before.max.ms";
/// `message.timestamp.type`.
pub const TIMESTAMP_TYPE: &str = "message.timestamp.type";
/// `broker.rack`.
pub const BROKER_RACK: &str = "broker.rack";
/// `unclean.leader.election.enable`.
pub const UNCLEAN_LEADER_ELECTION_ENABLE: &str = "unclean.leader.election.enable";
/// `max.message.bytes`.
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// Every topic config that is known, by name.
pub const TOPIC_CONFIGS: &[TopicConfig] = &[
    TopicConfig {
        since: Since::DefaultBefore2,
        ..of(
            CLEANUP_POLICY,
            ConfigKind::List,
            ("delete", Some("log.cleanup.policy")),
            Accepts::SomeOf(&["compact", "delete"]),
            "Whether old records go by retention, or by a newer record with the same key, or by both.",
        )
    },
    TopicConfig {
        since: Since::DefaultBefore2,
        ..of(
            COMPRESSION_TYPE,
            ConfigKind::String,
            ("producer", Some(COMPRESSION_TYPE)),
            Accepts::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
            "How the leader compresses what it appends; `producer` leaves it as it was sent.",
        )
    },
    of(
        DELETE_RETENTION_MS,
        ConfigKind::Long,
        ("86400000", Some("log.cleaner.delete.retention.ms")),
        Accepts::Between(0, i64::MAX),
        "How long a record without a value stays in a compacted topic after it was first cleaned, in milliseconds.",
    ),
    TopicConfig {
        has_effect: false,
        ..of(
            "file.delete.delay.ms",
            ConfigKind::Long,
            ("60000", Some("log.segment.delete.delay.ms")),
            Accepts::Between(0, i64::MAX),
            "Without effect: files that are out of use are renamed at once, and removed slowly from then on.",
        )
    },
    TopicConfig {
        since: Since::DefaultBefore2,
        has_effect: false,
        ..of(
            "flush.messages",
            ConfigKind::Long,
            ("1", Some("log.flush.interval.messages")),
            Accepts::Between(1, i64::MAX),
            "Without effect: every record is on the disk before it is acknowledged, which is no later than what any value \
             asks for.",
        )
    },
    TopicConfig {
        has_effect: false,
        ..of(
            "flush.ms",
            ConfigKind::Long,
            ("0", Some("log.flush.interval.ms")),
            Accepts::Between(0, i64::MAX),
            "Without effect: every record is on the disk before it is acknowledged, which is no later than what any value \
             asks for.",
        )
    },
    throttles::FOLLOWER_REPLICAS,
    of(
        INDEX_INTERVAL_BYTES,
        ConfigKind::Int,
        ("4096", Some("log.index.interval.bytes")),
        Accepts::Between(0, i32::MAX as i64),
        "Bytes of batches between two entries of a segment's index.",
    ),
    throttles::LEADER_REPLICAS,
    of(
        MAX_COMPACTION_LAG_MS,
        ConfigKind::Long,
        ("9223372036854775807", Some("log.cleaner.max.compaction.lag.ms")),
        Accepts::Between(1, i64::MAX),
        "How long a record of a compacted topic may stay without being cleaned, in milliseconds.",
    ),
    first(
        MAX_MESSAGE_BYTES,
        ConfigKind::Int,
        ("1048588", Some("message.max.bytes")),
        Accepts::Between(0, i32::MAX as i64),
        "The largest record batch that is taken, in bytes, compressed as it comes.",
    ),
    first(
        TIMESTAMP_AFTER_MAX_MS,
        ConfigKind::Long,
        ("3600000", Some("log.message.timestamp.after.max.ms")),
        Accepts::Between(0, i64::MAX),
        "How far a record's timestamp may lie ahead of the broker's clock, in milliseconds.",
    ),
    first(
        TIMESTAMP_BEFORE_MAX_MS,
        ConfigKind::Long,
        ("9223372036854775807", Some("log.message.timestamp.before.max.ms")),
        Accepts::Between(0, i64::MAX),
        "How far a record's timestamp may lie behind the broker's clock, in milliseconds.",
    ),
    first(
        TIMESTAMP_TYPE,
        ConfigKind::String,
        ("CreateTime", Some("log.message.timestamp.type")),
        Accepts::OneOf(&["CreateTime", "LogAppendTime"]),
        "Whether records keep the timestamps that their producers gave them, or get the broker's.",
    ),
    of(
        MIN_CLEANABLE_DIRTY_RATIO,
        ConfigKind::Double,
        ("0.5", Some("log.cleaner.min.cleanable.ratio")),
        Accepts::Ratio,
        "A compacted partition is cleaned when this share of its closed segments was never cleaned.",
    ),
    of(
        MIN_COMPACTION_LAG_MS,
        ConfigKind::Long,
        ("0", Some("log.cleaner.min.compaction.lag.ms")),
        Accepts::Between(0, i64::MAX),
        "How long a record of a compacted topic stays at least, in milliseconds after its segment's newest timestamp.",
    ),
    first(
        MIN_INSYNC_REPLICAS,
        ConfigKind::Int,
        ("1", Some(MIN_INSYNC_REPLICAS)),
        Accepts::Between(1, i32::MAX as i64),
        "In-sync replicas without which nothing is committed; a topic with fewer replicas needs all of them.",
    ),
    TopicConfig {
        has_effect: false,
        ..of(
            "preallocate",
            ConfigKind::Boolean,
            ("false", Some("log.preallocate")),
            Accepts::OneOf(&["false", "true"]),
            "Without effect: segments grow as they are written, and are not what a record waits for.",
        )
    },
    TopicConfig {
        since: Since::Fourth,
        ..of(
            "remote.storage.enable",
            ConfigKind::Boolean,
            ("false", None),
            Accepts::DefaultOnly,
            "There is no tiered storage: everything is on the brokers' disks.",
        )
    },
    first(
        RETENTION_BYTES,
        ConfigKind::Long,
        ("-1", Some("log.retention.bytes")),
        Accepts::Between(-1, i64::MAX),
        "Bytes of a partition's segments that are kept, the newest ones; -1 for all of them.",
    ),
    first(
        RETENTION_MS,
        ConfigKind::Long,
        ("604800000", Some("log.retention.ms")),
        Accepts::Between(-1, i64::MAX),
        "How long a segment is kept after its newest record's timestamp, in milliseconds; -1 for ever.",
    ),
    of(
        SEGMENT_BYTES,
        ConfigKind::Int,
        ("1073741824", Some("log.segment.bytes")),
        Accepts::Between(14, i32::MAX as i64),
        "The length at which a partition's segment file is full, and the next one is begun. Less than a megabyte, which Kafka \
         refuses since 4.0, is taken here; for each 1,024 segments that a partition has, the next one may be twice as long.",
    ),
    TopicConfig {
        has_effect: false,
        ..of(
            "segment.index.bytes",
            ConfigKind::Int,
            ("10485760", Some("log.index.size.max.bytes")),
            Accepts::Between(4, i32::MAX as i64),
            "Without effect: an index grows with its segment.",
        )
    },
    of(
        SEGMENT_JITTER_MS,
        ConfigKind::Long,
        ("0", Some("log.roll.jitter.ms")),
        Accepts::Between(0, i64::MAX),
        "By how much `segment.ms` is shorter at most, differently for each partition, in milliseconds.",
    ),
    of(
        SEGMENT_MS,
        ConfigKind::Long,
        ("604800000", Some("log.roll.ms")),
        Accepts::Between(1, i64::MAX),
        "How much later than its first record a segment's last one may be, in milliseconds, before the next segment is \
         begun.",
    ),
    TopicConfig {
        since: Since::DefaultBefore5,
        ..of(
            UNCLEAN_LEADER_ELECTION_ENABLE,
            ConfigKind::Boolean,
            ("false", Some(UNCLEAN_LEADER_ELECTION_ENABLE)),
            Accepts::OneOf(&["true", "false"]),
            "Whether a replica leads that may lack acknowledged records, when none that has them all is alive. With `true` \
             what it lacks is lost, also by brokers that are only restarted; set for all brokers, that goes for the groups' \
             committed offsets too. With `false` the partition waits for who has \
             them, or for somebody's decision (`chronik topic elect --unclean`).",
        )
    },
];

/// Properties of brokers alone that can be changed while they run.
const BROKER_CONFIGS: [TopicConfig; 4] =
    [throttles::FOLLOWER_RATE, throttles::LEADER_RATE, connections::PER_IP, connections::OVERRIDES];

/// Replicas of which replication is throttled.
pub(in crate::cluster) const fn replicas(name: &'static str, doc: &'static str) -> TopicConfig {
    of(name, ConfigKind::List, ("", None), Accepts::Replicas, doc)
}

/// A broker's rate, in bytes per second.
pub(in crate::cluster) const fn rate(name: &'static str, doc: &'static str) -> TopicConfig {
    of(name, ConfigKind::Long, ("9223372036854775807", Some(name)), Accepts::Between(0, i64::MAX), doc)
}

/// A config that came with metadata version 2: name, type, default and the broker property that sets it, values.
const fn of(
    name: &'static str,
    kind: ConfigKind,
    (default, broker_property): (&'static str, Option<&'static str>),
    accepts: Accepts,
    doc: &'static str,
) -> TopicConfig {
    TopicConfig { name, default, broker_property, kind, doc, has_effect: true, accepts, since: Since::Second }
}

/// The same, of metadata version 4.
pub(in crate::cluster) const fn fourth(
    name: &'static str,
    kind: ConfigKind,
    default: (&'static str, Option<&'static str>),
    accepts: Accepts,
    doc: &'static str,
) -> TopicConfig {
    TopicConfig { since: Since::Fourth, ..of(name, kind, default, accepts, doc) }
}

/// The same, of the first metadata version.
pub(in crate::cluster) const fn first(
    name: &'static str,
    kind: ConfigKind,
    default: (&'static str, Option<&'static str>),
    accepts: Accepts,
    doc: &'static str,
) -> TopicConfig {
    TopicConfig { since: Since::First, ..of(name, kind, default, accepts, doc) }
}

/// The config of that name, if it is known.
pub fn topic_config(name: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.iter().find(|c| c.name == name)
}

/// The topic config whose default a broker property sets, or what the property itself is, if it can be changed while
/// brokers run.
pub fn of_broker_property(property: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.iter().chain(&BROKER_CONFIGS).find(|c| c.broker_property == Some(property))
}

/// What one broker may be given that is no default of a topic config.
static OF_ONE_BROKER: [TopicConfig; 2] = [
    of(
        ADVERTISED_LISTENERS,
        ConfigKind::List,
        ("", Some(ADVERTISED_LISTENERS)),
        Accepts::Listeners,
        "Where clients of the broker's further `listeners` reach it, as in `EXTERNAL://broker-0.example.com:9094`, with \
          commas between. Who came through one of them is told these addresses of all brokers, and of no broker that has \
          none. The address of the first listener is in the broker's registration, and not here.",
    ),
    of(
        BROKER_RACK,
        ConfigKind::String,
        ("", Some(BROKER_RACK)),
        Accepts::Name(255),
        "The rack that the broker is in, before what it says of itself when it registers.",
    ),
];

/// What a property stands for that one broker may be given, and not all of them alike.
pub fn of_one_broker(property: &str) -> Option<&'static TopicConfig> {
    OF_ONE_BROKER.iter().find(|config| config.name == property)
}
