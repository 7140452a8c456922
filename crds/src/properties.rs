//! The broker properties that `spec.config` takes, by Kafka's names.

/// What a property's value looks like. It is the shape alone that is checked here, so that a typing error is
/// refused when it is applied and not found in a crash loop; what a value means is the broker's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A whole number.
    Integer,
    /// `true` or `false`; YAML needs quotes around it, as in labels and annotations.
    Boolean,
    /// Bytes, with or without a unit: `1048588`, `1MiB`.
    Size,
    /// Milliseconds, or a number with a unit: `30000`, `30s`.
    Duration,
}

impl Shape {
    /// The regular expression (of the RE2 dialect) that a value must match whole.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Integer => "^[0-9]+$",
            Self::Boolean => "^(true|false)$",
            Self::Size => "^[0-9]+ ?([kKMGT]i?)?[bB]?$",
            Self::Duration => "^[0-9]+ ?(ms|s|m|h|d)?$",
        }
    }

    /// What a person is told that the value must be.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Integer => "a whole number",
            Self::Boolean => "\"true\" or \"false\", in quotes",
            Self::Size => "a size such as 1048588 or 1MiB",
            Self::Duration => "a duration such as 30000 or 30s",
        }
    }

    /// Whether `value` has this shape.
    pub fn matches(self, value: &str) -> bool {
        let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        let (number, unit) = value.split_at(digits);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        match self {
            Self::Boolean => matches!(value, "true" | "false"),
            _ if number.is_empty() => false,
            Self::Integer => number.len() == value.len(),
            Self::Size => {
                let unit = unit.strip_suffix(['b', 'B']).unwrap_or(unit);
                matches!(unit, "" | "k" | "K" | "M" | "G" | "T" | "ki" | "Ki" | "Mi" | "Gi" | "Ti")
            }
            Self::Duration => matches!(unit, "" | "ms" | "s" | "m" | "h" | "d"),
        }
    }
}

/// The properties that a broker knows and that are the user's to set.
pub const OFFERED: &[(&str, Shape)] = &[
    ("auto.create.topics.enable", Shape::Boolean),
    ("broker.session.timeout.ms", Shape::Duration),
    ("message.max.bytes", Shape::Size),
    ("num.partitions", Shape::Integer),
    ("replica.lag.time.max.ms", Shape::Duration),
    ("socket.request.max.bytes", Shape::Size),
];

/// The properties that the operator sets itself, and what to use in their place.
pub const OWNED: &[(&str, &str)] = &[
    ("advertised.listeners", "listeners are set by the operator"),
    ("broker.id", "broker ids are the ordinals of the pods"),
    ("broker.rack", "racks are not supported yet"),
    ("controller.quorum.voters", "voters are set by the operator"),
    ("default.replication.factor", "use spec.replication.factor"),
    ("listeners", "listeners are set by the operator"),
    ("log.dir", "the data directory is set by the operator"),
    ("log.dirs", "the data directory is set by the operator"),
    ("min.insync.replicas", "use spec.replication.minInsync"),
    ("node.id", "broker ids are the ordinals of the pods"),
    ("process.roles", "roles are set by the operator"),
];

/// The shape of an offered property's value; `None` if there is no such property.
pub fn shape(name: &str) -> Option<Shape> {
    OFFERED.iter().find(|(known, _)| *known == name).map(|(_, shape)| *shape)
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
            (Shape::Integer, "3x", false),
            (Shape::Boolean, "true", true),
            (Shape::Boolean, "yes", false),
            (Shape::Size, "1048588", true),
            (Shape::Size, "1MiB", true),
            (Shape::Size, "1 MiB", true),
            (Shape::Size, "64k", true),
            (Shape::Size, "MiB", false),
            (Shape::Size, "1 parsec", false),
            (Shape::Duration, "30000", true),
            (Shape::Duration, "30s", true),
            (Shape::Duration, "30 s", true),
            (Shape::Duration, "30 seconds", false),
        ] {
            assert_eq!(shape.matches(value), fits, "{shape:?} {value:?}");
        }
    }

    #[test]
    fn no_property_is_both_offered_and_owned() {
        assert!(OFFERED.iter().all(|(name, _)| owned(name).is_none()));
    }
}
