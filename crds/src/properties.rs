//! The broker properties that `spec.config` takes, by Kafka's names.

use std::borrow::Cow;
use std::ops::RangeInclusive;

/// What a property's value looks like. It is checked here, so that a typing error is refused when it is applied and
/// not found in a crash loop; what a value means is the broker's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A whole number above zero.
    Integer,
    /// A whole number, zero too.
    Count,
    /// `true` or `false`; YAML needs quotes around it, as in labels and annotations.
    Boolean,
    /// Bytes, with or without a unit: `1048588`, `1MiB`, `1MB`.
    Size,
    /// Milliseconds, or a number with a unit: `30000`, `30s`.
    Duration,
    /// A size, or `-1` for none.
    SizeOrNone,
    /// A duration, or `-1` for none.
    DurationOrNone,
    /// A number from 0 to 1.
    Ratio,
    /// A word, or some with commas between; which ones there are is the broker's to say.
    Words,
    /// Addresses with a count each, and commas between; what an address is is the broker's to say.
    Connections,
    /// One of these, and nothing else: with another one a broker would not start.
    OneOf(&'static [&'static str]),
    /// One or some of these, with commas between. Brokers take one that is there twice as if it were there once.
    SomeOf(&'static [&'static str]),
    /// One or some of these, each once, with commas between.
    EachOnceOf(&'static [&'static str]),
}

/// Where consumers read that name their rack (KIP-392).
pub const REPLICA_SELECTOR: Shape = Shape::OneOf(&[
    "org.apache.kafka.common.replica.LeaderSelector",
    "org.apache.kafka.common.replica.RackAwareReplicaSelector",
]);
/// Which way a group with members of both protocols may go.
pub const MIGRATION_POLICY: Shape = Shape::OneOf(&["bidirectional", "upgrade", "downgrade", "disabled"]);
/// Who assigns partitions to groups of the new protocol.
pub const ASSIGNORS: Shape = Shape::EachOnceOf(&["uniform", "range"]);
/// The protocols that groups may use.
pub const REBALANCE_PROTOCOLS: Shape = Shape::SomeOf(&["classic", "consumer"]);

impl Shape {
    /// The regular expression (of the RE2 dialect) that a value must match whole.
    pub fn pattern(self) -> Cow<'static, str> {
        let words = |all: &[&str]| all.join("|").replace('.', "[.]");
        Cow::Borrowed(match self {
            Self::Integer => "^0*[1-9][0-9]{0,8}$",
            Self::Count => "^0*[0-9]{1,9}$",
            Self::Boolean => "^(true|false)$",
            Self::Size => "^[0-9]+ ?(B|[kKMG]B|[KMG]iB)?$",
            Self::Duration => "^[0-9]+ ?(ms|s|m|min|h|d)?$",
            Self::SizeOrNone => "^(-1|[0-9]+ ?(B|[kKMG]B|[KMG]iB)?)$",
            Self::DurationOrNone => "^(-1|[0-9]+ ?(ms|s|m|min|h|d)?)$",
            Self::Ratio => "^(0|1|0?[.][0-9]{1,9})$",
            Self::Words => "^[a-zA-Z0-9]+(, ?[a-zA-Z0-9]+)*$",
            Self::Connections => "^[0-9a-fA-F.:]+:[0-9]{1,9}(, ?[0-9a-fA-F.:]+:[0-9]{1,9})*$",
            Self::OneOf(all) => return format!("^({})$", words(all)).into(),
            Self::SomeOf(all) => return format!("^({0})(, ?({0}))*$", words(all)).into(),
            Self::EachOnceOf(all) => return format!("^({})$", in_any_order(all)).into(),
        })
    }

    /// What the value must be, in words.
    pub fn describe(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Integer => "a whole number from 1 to 999999999",
            Self::Count => "a whole number from 0 to 999999999",
            Self::Boolean => "\"true\" or \"false\", in quotes",
            Self::Size => "a size such as 1048588 or 1MiB",
            Self::Duration => "a duration such as 30000 or 30s",
            Self::SizeOrNone => "a size such as 1048588 or 1MiB, or -1 for none",
            Self::DurationOrNone => "a duration such as 30000 or 30s, or -1 for none",
            Self::Ratio => "a number from 0 to 1 in quotes, such as \"0.5\"",
            Self::Words => "a word, or words with commas between",
            Self::Connections => "addresses with a count each, such as 10.0.0.7:200, with commas between",
            Self::OneOf(all) => return format!("one of {}", all.join(", ")).into(),
            Self::SomeOf(all) => return format!("some of {}, with commas between", all.join(", ")).into(),
            Self::EachOnceOf(all) => {
                return format!("some of {}, each once, with commas between", all.join(", ")).into();
            }
        })
    }

    /// Whether `value` has this shape.
    pub fn matches(self, value: &str) -> bool {
        let (number, unit) = split(value);
        match self {
            Self::Boolean => matches!(value, "true" | "false"),
            Self::Integer => self.amount(value).is_some_and(|amount| COUNT.contains(&amount)),
            Self::Count => self.amount(value).is_some_and(|amount| amount <= *COUNT.end()),
            Self::Size | Self::Duration => !number.is_empty() && self.factor(unit).is_some(),
            Self::SizeOrNone => value == "-1" || Self::Size.matches(value),
            Self::DurationOrNone => value == "-1" || Self::Duration.matches(value),
            Self::Ratio => value.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
            Self::Words => words(value).all(is_word),
            Self::Connections => words(value).all(is_connections),
            Self::OneOf(all) => all.contains(&value),
            Self::SomeOf(all) => words(value).all(|word| all.contains(&word)),
            Self::EachOnceOf(all) => {
                let given = words(value).collect::<Vec<_>>();
                given.iter().enumerate().all(|(at, word)| all.contains(word) && !given[..at].contains(word))
            }
        }
    }

    /// The value in Kafka's unit: a count, bytes, or milliseconds. `None` if it has none, or is too large to say.
    pub fn amount(self, value: &str) -> Option<u64> {
        let (number, unit) = split(value);
        number.parse::<u64>().ok()?.checked_mul(self.factor(unit)?)
    }

    fn factor(self, unit: &str) -> Option<u64> {
        Some(match (self, unit.strip_prefix(' ').unwrap_or(unit)) {
            (Self::Integer | Self::Count, _) if unit.is_empty() => 1,
            (Self::Size | Self::SizeOrNone, "" | "B") | (Self::Duration | Self::DurationOrNone, "" | "ms") => 1,
            (Self::Size | Self::SizeOrNone, "kB" | "KB") | (Self::Duration | Self::DurationOrNone, "s") => 1_000,
            (Self::Size | Self::SizeOrNone, "MB") => 1_000_000,
            (Self::Size | Self::SizeOrNone, "GB") => 1_000_000_000,
            (Self::Size | Self::SizeOrNone, "KiB") => 1 << 10,
            (Self::Size | Self::SizeOrNone, "MiB") => 1 << 20,
            (Self::Size | Self::SizeOrNone, "GiB") => 1 << 30,
            (Self::Duration | Self::DurationOrNone, "m" | "min") => 60_000,
            (Self::Duration | Self::DurationOrNone, "h") => 3_600_000,
            (Self::Duration | Self::DurationOrNone, "d") => 86_400_000,
            _ => return None,
        })
    }

    /// A value of this shape as Kafka's requests carry it: amounts in Kafka's unit, and the rest as it is.
    pub fn in_kafkas_form(self, value: &str) -> String {
        self.amount(value).map_or_else(|| value.to_owned(), |amount| amount.to_string())
    }
}

/// What is between the commas.
fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|word| word.strip_prefix(' ').unwrap_or(word))
}

/// Matches one or some of these, each once: what is left of them may follow the first one.
fn in_any_order(all: &[&str]) -> String {
    let each = all.iter().map(|first| {
        let left = all.iter().filter(|other| *other != first).copied().collect::<Vec<_>>();
        if left.is_empty() { (*first).to_owned() } else { format!("{first}(, ?({}))?", in_any_order(&left)) }
    });
    each.collect::<Vec<_>>().join("|")
}

fn is_connections(one: &str) -> bool {
    one.rsplit_once(':').is_some_and(|(address, count)| {
        let of_address = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':');
        !address.is_empty()
            && address.chars().all(of_address)
            && (1..=9).contains(&count.len())
            && count.chars().all(|c| c.is_ascii_digit())
    })
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric())
}

/// The digits, and what follows them.
fn split(value: &str) -> (&str, &str) {
    value.split_at(value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()))
}

/// The counts that fit the pattern.
const COUNT: RangeInclusive<u64> = 1..=999_999_999;

/// The properties that a broker reads when it starts and that are the user's to set.
pub const AT_START: &[(&str, Shape)] = &[
    ("auto.create.topics.enable", Shape::Boolean),
    ("auto.leader.rebalance.enable", Shape::Boolean),
    ("broker.session.timeout.ms", Shape::Duration),
    ("connections.max.idle.ms", Shape::Duration),
    ("delete.topic.enable", Shape::Boolean),
    ("disk.stall.timeout", Shape::Duration),
    ("fetch.max.bytes", Shape::Size),
    ("group.consumer.assignors", ASSIGNORS),
    ("group.consumer.heartbeat.interval.ms", Shape::Duration),
    ("group.consumer.max.heartbeat.interval.ms", Shape::Duration),
    ("group.consumer.max.session.timeout.ms", Shape::Duration),
    ("group.consumer.max.size", Shape::Integer),
    ("group.consumer.migration.policy", MIGRATION_POLICY),
    ("group.consumer.min.heartbeat.interval.ms", Shape::Duration),
    ("group.consumer.min.session.timeout.ms", Shape::Duration),
    ("group.consumer.session.timeout.ms", Shape::Duration),
    ("group.coordinator.rebalance.protocols", REBALANCE_PROTOCOLS),
    ("group.initial.rebalance.delay.ms", Shape::Duration),
    ("group.lag.metrics.max.partitions", Shape::Count),
    ("group.max.session.timeout.ms", Shape::Duration),
    ("group.max.size", Shape::Integer),
    ("group.min.session.timeout.ms", Shape::Duration),
    ("leader.imbalance.check.interval.seconds", Shape::Integer),
    ("leader.imbalance.per.broker.percentage", Shape::Count),
    ("log.cleaner.backoff.ms", Shape::Duration),
    ("log.cleaner.dedupe.buffer.size", Shape::Size),
    ("log.cleaner.io.max.bytes.per.second", Shape::Size),
    ("log.disk.reserve", Shape::Size),
    ("log.retention.check.interval.ms", Shape::Duration),
    ("log.scrub.bytes.per.second", Shape::Size),
    ("max.connections", Shape::Integer),
    ("max.request.partition.size.limit", Shape::Integer),
    ("max.incremental.fetch.session.cache.slots", Shape::Count),
    ("num.partitions", Shape::Integer),
    ("offset.metadata.max.bytes", Shape::Size),
    ("offsets.retention.check.interval.ms", Shape::Duration),
    ("offsets.retention.minutes", Shape::Integer),
    ("offsets.topic.num.partitions", Shape::Integer),
    ("offsets.topic.segment.bytes", Shape::Size),
    ("producer.id.expiration.ms", Shape::Duration),
    ("producer.state.max.bytes", Shape::Size),
    ("queued.max.request.bytes", Shape::Size),
    ("replica.lag.time.max.ms", Shape::Duration),
    ("replica.selector.class", REPLICA_SELECTOR),
    ("socket.request.max.bytes", Shape::Size),
];

/// The properties that brokers take up while they run, and that are the user's to set: the operator sets them as the
/// default of all brokers.
pub const DYNAMIC: &[(&str, Shape)] = &[
    ("compression.type", Shape::Words),
    ("log.cleaner.delete.retention.ms", Shape::Duration),
    ("log.cleaner.max.compaction.lag.ms", Shape::Duration),
    ("log.cleaner.min.cleanable.ratio", Shape::Ratio),
    ("log.cleaner.min.compaction.lag.ms", Shape::Duration),
    ("log.cleanup.policy", Shape::Words),
    ("log.flush.interval.messages", Shape::Integer),
    ("log.flush.interval.ms", Shape::Duration),
    ("log.index.interval.bytes", Shape::Size),
    ("log.index.size.max.bytes", Shape::Size),
    ("log.message.timestamp.after.max.ms", Shape::Duration),
    ("log.message.timestamp.before.max.ms", Shape::Duration),
    ("log.message.timestamp.type", Shape::Words),
    ("log.preallocate", Shape::Boolean),
    ("log.retention.bytes", Shape::SizeOrNone),
    ("log.retention.ms", Shape::DurationOrNone),
    ("log.roll.jitter.ms", Shape::Duration),
    ("log.roll.ms", Shape::Duration),
    ("log.segment.bytes", Shape::Size),
    ("log.segment.delete.delay.ms", Shape::Duration),
    ("max.connections.per.ip", Shape::Integer),
    ("max.connections.per.ip.overrides", Shape::Connections),
    ("message.max.bytes", Shape::Size),
    ("unclean.leader.election.enable", Shape::Boolean),
];

/// All properties that are the user's to set.
pub fn offered() -> impl Iterator<Item = (&'static str, Shape)> {
    DYNAMIC.iter().chain(AT_START).copied()
}

/// Whether brokers take up a property while they run.
pub fn is_dynamic(name: &str) -> bool {
    DYNAMIC.iter().any(|(known, _)| *known == name)
}

/// What belongs to one move of partitions, and is taken away after it.
const THROTTLE: &str = "kafka-reassign-partitions --throttle sets it for as long as partitions move";

/// The properties that the operator sets itself, and what to use in their place.
pub const OWNED: &[(&str, &str)] = &[
    ("advertised.listeners", "use spec.listeners"),
    ("broker.id", "broker ids are the ordinals of the pods"),
    ("broker.rack", "use spec.rack.topologyKey"),
    ("controller.quorum.voters", "voters are set by the operator"),
    ("default.replication.factor", "use spec.replication.factor"),
    ("follower.replication.throttled.rate", THROTTLE),
    ("leader.replication.throttled.rate", THROTTLE),
    ("listeners", "use spec.listeners"),
    ("log.dir", "the data directory is set by the operator"),
    ("log.dirs", "the data directory is set by the operator"),
    ("min.insync.replicas", "use spec.replication.minInsync"),
    ("node.id", "broker ids are the ordinals of the pods"),
    ("offsets.topic.replication.factor", "it follows from the number of brokers: 3, or as many as there are"),
    ("process.roles", "roles are set by the operator"),
];

/// Kafka's properties that have no meaning here, and are often found in what people bring along; with the reason, and what
/// to use in their place.
pub const WITHOUT_MEANING: &[(&str, &str)] = &[
    ("background.threads", THREADS),
    (
        "inter.broker.protocol.version",
        "in its place a cluster has metadata.version, which `chronik features upgrade` raises",
    ),
    ("log.cleaner.enable", "compacted topics are always cleaned"),
    ("log.cleaner.threads", THREADS),
    ("log.message.format.version", "there is one format of records"),
    ("log.retention.hours", "use log.retention.ms, as in 168h"),
    ("log.retention.minutes", "use log.retention.ms, as in 90min"),
    ("log.roll.hours", "use log.roll.ms, as in 168h"),
    ("num.io.threads", THREADS),
    ("num.network.threads", THREADS),
    ("num.recovery.threads.per.data.dir", THREADS),
    ("num.replica.fetchers", THREADS),
    ("queued.max.requests", "use queued.max.request.bytes"),
    ("replica.fetch.max.bytes", "it follows from message.max.bytes"),
    ("transaction.state.log.min.isr", TRANSACTIONS),
    ("transaction.state.log.num.partitions", TRANSACTIONS),
    ("transaction.state.log.replication.factor", TRANSACTIONS),
    ("zookeeper.connect", "there is no ZooKeeper"),
];

const THREADS: &str = "a broker uses the processors that it has";
const TRANSACTIONS: &str = "there are no transactions yet";

/// All properties that are refused, with the reason.
pub fn refused() -> impl Iterator<Item = (&'static str, &'static str)> {
    OWNED.iter().chain(WITHOUT_MEANING).copied()
}

/// The shape of an offered property's value; `None` if there is no such property.
pub fn shape(name: &str) -> Option<Shape> {
    offered().find(|(known, _)| *known == name).map(|(_, shape)| shape)
}

/// The amounts of an offered property that a broker takes, in Kafka's unit.
pub fn range(name: &str) -> RangeInclusive<u64> {
    const INT_MAX: u64 = i32::MAX as u64;
    match (name, shape(name)) {
        // With less, brokers that are alive would be fenced.
        ("broker.session.timeout.ms", _) => 300..=INT_MAX,
        ("disk.stall.timeout", _) => 300..=i64::MAX as u64,
        ("producer.id.expiration.ms", _) => 1..=i64::MAX as u64,
        ("group.consumer.heartbeat.interval.ms", _) => 1..=INT_MAX,
        (name, Some(Shape::Duration)) if name.starts_with("group.") => 0..=INT_MAX,
        // None is an amount, too.
        ("log.disk.reserve" | "log.scrub.bytes.per.second", _) => 0..=i64::MAX as u64,
        // Less would not hold the head of a batch.
        ("fetch.max.bytes", _) => 1024..=INT_MAX,
        // A record of a committed offset has no room for more.
        ("offset.metadata.max.bytes", _) => 1..=i16::MAX as u64,
        // A batch has to fit into one frame to a follower.
        ("socket.request.max.bytes", _) => 1..=200 << 20,
        ("offsets.topic.num.partitions", _) => 1..=10_000,
        ("log.cleaner.backoff.ms", _) => 1..=u64::MAX,
        ("log.retention.check.interval.ms" | "offsets.retention.check.interval.ms", _) | (_, Some(Shape::Size)) => {
            1..=INT_MAX
        }
        (_, Some(Shape::Integer)) => COUNT,
        (_, Some(Shape::Count)) => 0..=*COUNT.end(),
        (
            _,
            Some(
                Shape::Duration
                | Shape::Boolean
                | Shape::SizeOrNone
                | Shape::DurationOrNone
                | Shape::Ratio
                | Shape::Words
                | Shape::Connections
                | Shape::OneOf(_)
                | Shape::SomeOf(_)
                | Shape::EachOnceOf(_),
            )
            | None,
        ) => 0..=u64::MAX,
    }
}

/// Why a property is not the user's to set; `None` if it is, or if there is no such property.
pub fn owned(name: &str) -> Option<&'static str> {
    refused().find(|(known, _)| *known == name).map(|(_, instead)| instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_take_what_people_write_and_nothing_else() {
        for (shape, value, fits) in [
            (Shape::Integer, "3", true),
            (Shape::Integer, "", false),
            (Shape::Integer, "-3", false),
            (Shape::Integer, "0", false),
            (Shape::Integer, "3000000000", false),
            (Shape::Integer, "3x", false),
            (Shape::Boolean, "true", true),
            (Shape::Boolean, "yes", false),
            (Shape::Size, "1048588", true),
            (Shape::Size, "1MiB", true),
            (Shape::Size, "1 MiB", true),
            (Shape::Size, "64kB", true),
            (Shape::Size, "MiB", false),
            (Shape::Size, "1 parsec", false),
            (Shape::Duration, "30000", true),
            (Shape::Duration, "30s", true),
            (Shape::Duration, "30 s", true),
            (Shape::Duration, "30 seconds", false),
            (Shape::DurationOrNone, "-1", true),
            (Shape::DurationOrNone, "7d", true),
            (Shape::SizeOrNone, "-1", true),
            (Shape::SizeOrNone, "-2", false),
            (Shape::Ratio, "0.5", true),
            (Shape::Ratio, "1.5", false),
            (Shape::Words, "compact, delete", true),
            (Shape::Words, "compact,", false),
            (Shape::Connections, "10.0.0.7:200, ::1:0", true),
            (Shape::Connections, "localhost:5", false),
            (Shape::Connections, "10.0.0.7", false),
            (Shape::Connections, "10.0.0.7:", false),
            (Shape::Count, "0", true),
            (Shape::Count, "-1", false),
            (Shape::Count, "1000000000", false),
            (MIGRATION_POLICY, "upgrade", true),
            (MIGRATION_POLICY, "upgrade, downgrade", false),
            (MIGRATION_POLICY, "sideways", false),
            (REPLICA_SELECTOR, "org.apache.kafka.common.replica.RackAwareReplicaSelector", true),
            (REPLICA_SELECTOR, "org-apache.kafka.common.replica.RackAwareReplicaSelector", false),
            (REBALANCE_PROTOCOLS, "classic", true),
            (REBALANCE_PROTOCOLS, "classic, consumer", true),
            (REBALANCE_PROTOCOLS, "classic,classic", true),
            (REBALANCE_PROTOCOLS, "classic,streams", false),
            (ASSIGNORS, "range, uniform", true),
            (ASSIGNORS, "range,range", false),
        ] {
            assert_eq!(shape.matches(value), fits, "{shape:?} {value:?}");
        }
    }

    #[test]
    fn each_once_of_several_names_none_of_them_twice() {
        assert_eq!(ASSIGNORS.pattern(), "^(uniform(, ?(range))?|range(, ?(uniform))?)$");
        assert_eq!(Shape::EachOnceOf(&["one"]).pattern(), "^(one)$");
    }

    #[test]
    fn amounts_are_in_kafkas_unit() {
        for (shape, value, amount) in [
            (Shape::Integer, "12", Some(12)),
            (Shape::Size, "2MiB", Some(2 << 20)),
            (Shape::Size, "64 kB", Some(64_000)),
            (Shape::Duration, "30s", Some(30_000)),
            (Shape::Duration, "1 d", Some(86_400_000)),
            (Shape::Duration, "999999999999999999d", None),
            (Shape::Duration, "1 week", None),
            (Shape::Boolean, "true", None),
            (Shape::DurationOrNone, "1s", Some(1_000)),
            (Shape::DurationOrNone, "-1", None),
            (Shape::Ratio, "1", None),
        ] {
            assert_eq!(shape.amount(value), amount, "{shape:?} {value:?}");
        }
    }

    #[test]
    fn no_property_is_both_offered_and_owned() {
        assert!(offered().all(|(name, _)| owned(name).is_none()));
    }
}
