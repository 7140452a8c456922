//! The broker properties that `spec.config` takes, by Kafka's names.

use std::ops::RangeInclusive;

/// What a property's value looks like. It is checked here, so that a typing error is refused when it is applied and
/// not found in a crash loop; what a value means is the broker's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A whole number above zero.
    Integer,
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
}

impl Shape {
    /// The regular expression (of the RE2 dialect) that a value must match whole.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Integer => "^0*[1-9][0-9]{0,8}$",
            Self::Boolean => "^(true|false)$",
            Self::Size => "^[0-9]+ ?(B|[kKMG]B|[KMG]iB)?$",
            Self::Duration => "^[0-9]+ ?(ms|s|m|min|h|d)?$",
            Self::SizeOrNone => "^(-1|[0-9]+ ?(B|[kKMG]B|[KMG]iB)?)$",
            Self::DurationOrNone => "^(-1|[0-9]+ ?(ms|s|m|min|h|d)?)$",
            Self::Ratio => "^(0|1|0?[.][0-9]{1,9})$",
            Self::Words => "^[a-zA-Z0-9]+(, ?[a-zA-Z0-9]+)*$",
        }
    }

    /// What a person is told that the value must be.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Integer => "a whole number from 1 to 999999999",
            Self::Boolean => "\"true\" or \"false\", in quotes",
            Self::Size => "a size such as 1048588 or 1MiB",
            Self::Duration => "a duration such as 30000 or 30s",
            Self::SizeOrNone => "a size such as 1048588 or 1MiB, or -1 for none",
            Self::DurationOrNone => "a duration such as 30000 or 30s, or -1 for none",
            Self::Ratio => "a number from 0 to 1 in quotes, such as \"0.5\"",
            Self::Words => "a word, or words with commas between",
        }
    }

    /// Whether `value` has this shape.
    pub fn matches(self, value: &str) -> bool {
        let (number, unit) = split(value);
        match self {
            Self::Boolean => matches!(value, "true" | "false"),
            Self::Integer => self.amount(value).is_some_and(|amount| COUNT.contains(&amount)),
            Self::Size | Self::Duration => !number.is_empty() && self.factor(unit).is_some(),
            Self::SizeOrNone => value == "-1" || Self::Size.matches(value),
            Self::DurationOrNone => value == "-1" || Self::Duration.matches(value),
            Self::Ratio => value.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
            Self::Words => value.split(',').map(|word| word.strip_prefix(' ').unwrap_or(word)).all(is_word),
        }
    }

    /// The value in Kafka's unit: a count, bytes, or milliseconds. `None` if it has none, or is too large to say.
    pub fn amount(self, value: &str) -> Option<u64> {
        let (number, unit) = split(value);
        number.parse::<u64>().ok()?.checked_mul(self.factor(unit)?)
    }

    fn factor(self, unit: &str) -> Option<u64> {
        Some(match (self, unit.strip_prefix(' ').unwrap_or(unit)) {
            (Self::Integer, _) if unit.is_empty() => 1,
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
    ("group.consumer.max.size", Shape::Integer),
    ("group.initial.rebalance.delay.ms", Shape::Duration),
    ("group.lag.metrics.max.partitions", Shape::Integer),
    ("group.max.size", Shape::Integer),
    ("leader.imbalance.check.interval.seconds", Shape::Integer),
    ("leader.imbalance.per.broker.percentage", Shape::Integer),
    ("log.cleaner.backoff.ms", Shape::Duration),
    ("log.cleaner.dedupe.buffer.size", Shape::Size),
    ("log.cleaner.io.max.bytes.per.second", Shape::Size),
    ("log.retention.check.interval.ms", Shape::Duration),
    ("max.connections", Shape::Integer),
    ("max.incremental.fetch.session.cache.slots", Shape::Integer),
    ("num.partitions", Shape::Integer),
    ("offsets.retention.check.interval.ms", Shape::Duration),
    ("offsets.retention.minutes", Shape::Integer),
    ("offsets.topic.num.partitions", Shape::Integer),
    ("offsets.topic.segment.bytes", Shape::Size),
    ("producer.state.max.bytes", Shape::Size),
    ("queued.max.request.bytes", Shape::Size),
    ("replica.lag.time.max.ms", Shape::Duration),
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
    ("message.max.bytes", Shape::Size),
];

/// All properties that are the user's to set.
pub fn offered() -> impl Iterator<Item = (&'static str, Shape)> {
    DYNAMIC.iter().chain(AT_START).copied()
}

/// Whether brokers take up a property while they run.
pub fn is_dynamic(name: &str) -> bool {
    DYNAMIC.iter().any(|(known, _)| *known == name)
}

/// What has limits that depend on other properties, which nobody checks before a broker starts.
const NOT_YET: &str = "it cannot be set on Kubernetes yet";

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
    ("group.consumer.heartbeat.interval.ms", NOT_YET),
    ("group.consumer.max.heartbeat.interval.ms", NOT_YET),
    ("group.consumer.max.session.timeout.ms", NOT_YET),
    ("group.consumer.min.heartbeat.interval.ms", NOT_YET),
    ("group.consumer.min.session.timeout.ms", NOT_YET),
    ("group.consumer.migration.policy", NOT_YET),
    ("group.consumer.session.timeout.ms", NOT_YET),
    ("group.coordinator.rebalance.protocols", NOT_YET),
    ("group.max.session.timeout.ms", NOT_YET),
    ("group.min.session.timeout.ms", NOT_YET),
    ("leader.replication.throttled.rate", THROTTLE),
    ("listeners", "use spec.listeners"),
    ("log.dir", "the data directory is set by the operator"),
    ("log.dirs", "the data directory is set by the operator"),
    ("log.scrub.bytes.per.second", NOT_YET),
    ("min.insync.replicas", "use spec.replication.minInsync"),
    ("node.id", "broker ids are the ordinals of the pods"),
    ("offset.metadata.max.bytes", NOT_YET),
    ("offsets.topic.replication.factor", "it follows from the number of brokers: 3, or as many as there are"),
    ("process.roles", "roles are set by the operator"),
    ("producer.id.expiration.ms", NOT_YET),
    ("replica.selector.class", NOT_YET),
];

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
        // A batch has to fit into one frame to a follower.
        ("socket.request.max.bytes", _) => 1..=200 << 20,
        ("offsets.topic.num.partitions", _) => 1..=10_000,
        ("log.cleaner.backoff.ms", _) => 1..=u64::MAX,
        ("log.retention.check.interval.ms" | "offsets.retention.check.interval.ms", _) | (_, Some(Shape::Size)) => {
            1..=INT_MAX
        }
        (_, Some(Shape::Integer)) => COUNT,
        (
            _,
            Some(
                Shape::Duration
                | Shape::Boolean
                | Shape::SizeOrNone
                | Shape::DurationOrNone
                | Shape::Ratio
                | Shape::Words,
            )
            | None,
        ) => 0..=u64::MAX,
    }
}

/// Why a property is not the user's to set; `None` if it is, or if there is no such property.
pub fn owned(name: &str) -> Option<&'static str> {
    OWNED.iter().find(|(known, _)| *known == name).map(|(_, instead)| *instead)
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
        ] {
            assert_eq!(shape.matches(value), fits, "{shape:?} {value:?}");
        }
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
