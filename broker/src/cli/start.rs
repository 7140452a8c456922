//! Where to read from: the beginning, the end, an offset or a time.

use super::client::{Client, ClientError, EARLIEST, LATEST};
use std::str::FromStr;

/// A position in each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The first record that there is.
    Beginning,
    /// After the last one.
    End,
    /// That offset.
    Offset(i64),
    /// So many records before the end.
    BeforeEnd(i64),
    /// The first record at that time or after it, in milliseconds since 1970.
    Time(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0);
        let found = match text {
            "beginning" => Some(Self::Beginning),
            "end" => Some(Self::End),
            _ if text.starts_with('@') => number(&text[1..]).map(Self::Time),
            _ if text.starts_with('-') => number(&text[1..]).map(Self::BeforeEnd),
            _ => number(text).map(Self::Offset),
        };
        let time = || text.parse::<jiff::Timestamp>().ok().map(|at| Self::Time(at.as_millisecond()));
        found.or_else(time).ok_or_else(|| {
            "give `beginning`, `end`, an offset (42), a distance from the end (-10), milliseconds since 1970 \
             (@1700000000000) or a time (2024-05-01T12:00:00Z)"
                .to_owned()
        })
    }
}

impl Start {
    /// The offset for a partition that begins at `start` and ends at `end`; `at_time` is what the broker says of a time.
    pub(super) fn offset(self, start: i64, end: i64, at_time: i64) -> i64 {
        let wanted = match self {
            Self::Beginning => start,
            Self::End => end,
            Self::Offset(offset) => offset,
            Self::BeforeEnd(count) => end.saturating_sub(count),
            Self::Time(_) => at_time,
        };
        wanted.clamp(start, end.max(start))
    }

    /// The offset in a partition, as its leader says.
    pub(super) async fn resolve(self, client: &mut Client, topic: &str, partition: i32) -> Result<i64, ClientError> {
        let start = client.offset_at(topic, partition, EARLIEST).await?;
        let end = client.offset_at(topic, partition, LATEST).await?;
        let at_time = match self {
            Self::Time(time) => client.offset_at(topic, partition, time).await?,
            _ => start,
        };
        Ok(self.offset(start, end, at_time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood_and_others_are_explained() {
        for (text, expected) in [
            ("beginning", Start::Beginning),
            ("end", Start::End),
            ("42", Start::Offset(42)),
            ("-10", Start::BeforeEnd(10)),
            ("@1700000000000", Start::Time(1_700_000_000_000)),
            ("1970-01-01T00:00:02Z", Start::Time(2000)),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["", "yesterday", "@", "--1", "-"] {
            assert!(text.parse::<Start>().unwrap_err().contains("beginning"), "{text}");
        }
    }

    #[test]
    fn an_offset_is_kept_within_the_partition() {
        for (from, expected) in [
            (Start::Beginning, 5),
            (Start::End, 9),
            (Start::Offset(7), 7),
            (Start::Offset(3), 5),
            (Start::Offset(30), 9),
            (Start::BeforeEnd(2), 7),
            (Start::BeforeEnd(i64::MAX), 5),
            (Start::Time(1), 6),
        ] {
            assert_eq!(from.offset(5, 9, 6), expected, "{from:?}");
        }
    }
}
