//! Which partition of `__consumer_offsets` a group belongs to: the same one as in Kafka.

/// `abs(groupId.hashCode()) % partitions`, where the least number's absolute value is 0.
pub(super) fn partition_for(group: &str, partitions: usize) -> i32 {
    let hash = java_hash(group);
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    // A topic has 10,000 partitions at most.
    positive % i32::try_from(partitions.max(1)).unwrap_or(i32::MAX)
}

/// Java's `String.hashCode`, over UTF-16.
fn java_hash(s: &str) -> i32 {
    s.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        for (text, hash) in [
            ("", 0),
            ("a", 97),
            ("console-consumer-12345", java_hash("console-consumer-12345")),
            ("hello world", 1_794_106_052),
            // Beyond the basic plane: two units of UTF-16.
            ("\u{1f600}", 1_772_899),
            // The least of all.
            ("polygenelubricants", i32::MIN),
        ] {
            assert_eq!(java_hash(text), hash, "{text}");
        }
    }

    #[test]
    fn the_least_hash_has_a_partition() {
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("hello world", 50), 2);
    }
}
