//! Which part of a log can be cleaned, and whether it is time to.

use crate::ids::Offset;
use crate::retention::Segment;

/// What a compacted topic says of its cleaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// `min.cleanable.dirty.ratio`.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`, since the first record of a segment: the longest that one in it has waited.
    pub max_lag_ms: i64,
}

/// What can be cleaned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The first offset that stays as it is.
    pub until: Offset,
    /// Bytes below it that were never cleaned.
    pub dirty_bytes: u64,
    /// Their share in all bytes below it.
    pub dirty_ratio: f64,
    /// Whether it is time to clean.
    pub due: bool,
}

/// Looks at a log's segments, which are all that there are, ascending; the last one is appended to. `cleaned_to` is what
/// was cleaned before; `now` is in milliseconds since 1970. What is not committed stays as it is, and what is appended to.
pub fn plan(segments: &[Segment], cleaned_to: Offset, high_watermark: Offset, now: i64, limits: &Limits) -> Plan {
    let closed = &segments[..segments.len().saturating_sub(1)];
    let young = |segment: &Segment| {
        // What has no timestamps is as old as anything; of what is not known nothing can be said.
        limits.min_lag_ms > 0
            && segment.max_timestamp.is_none_or(|newest| newest > now.saturating_sub(limits.min_lag_ms))
    };
    let cleanable = closed.iter().take_while(|segment| segment.end <= high_watermark && !young(segment));
    let (mut until, mut dirty_bytes, mut bytes) = (Offset::ZERO, 0, 0);
    let mut overdue = false;
    for segment in cleanable {
        until = segment.end;
        bytes += segment.bytes;
        if segment.end > cleaned_to {
            dirty_bytes += segment.bytes;
            let waits = segment.first_timestamp.filter(|t| *t >= 0).map(|oldest| now.saturating_sub(oldest));
            overdue |= waits.is_some_and(|waits| waits > limits.max_lag_ms);
        }
    }
    let dirty_ratio = if bytes == 0 { 0.0 } else { dirty_bytes as f64 / bytes as f64 };
    let due = dirty_bytes > 0 && (dirty_ratio > limits.min_dirty_ratio || overdue);
    Plan { until, dirty_bytes, dirty_ratio, due }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 10_000;
    const LIMITS: Limits = Limits { min_dirty_ratio: 0.5, min_lag_ms: 0, max_lag_ms: i64::MAX };

    /// Segments of ten records and a hundred bytes each, with these greatest timestamps.
    fn segments(stamps: &[i64]) -> Vec<Segment> {
        let segment = |(n, stamp): (usize, &i64)| Segment {
            end: Offset(10 * (n as i64 + 1)),
            bytes: 100,
            first_timestamp: Some(*stamp),
            max_timestamp: Some(*stamp),
            modified: None,
        };
        stamps.iter().enumerate().map(segment).collect()
    }

    #[test]
    fn closed_segments_below_the_high_watermark_are_cleaned_when_enough_of_them_is_dirty() {
        // (segments, cleaned before, high watermark, until, due)
        for (n, cleaned, high_watermark, until, due) in [
            (0, 0, 0, 0, false),
            (1, 0, 10, 0, false),
            (5, 0, 100, 40, true),
            (5, 0, 39, 30, true),
            (5, 0, 9, 0, false),
            (5, 20, 100, 40, false),
            (5, 15, 100, 40, true),
            (5, 40, 100, 40, false),
        ] {
            let plan = plan(&segments(&vec![1; n]), Offset(cleaned), Offset(high_watermark), NOW, &LIMITS);
            assert_eq!((plan.until, plan.due), (Offset(until), due), "{n} {cleaned} {high_watermark}: {plan:?}");
        }
    }

    #[test]
    fn what_is_young_stays_and_what_is_old_is_cleaned_however_little_it_is() {
        let of = |stamps: &[i64], limits| plan(&segments(stamps), Offset(30), Offset(100), NOW, &limits);
        let lag = Limits { min_lag_ms: 1000, min_dirty_ratio: 0.0, ..LIMITS };
        assert_eq!(of(&[1, 1, 1, 1, 1], lag).until, Offset(40));
        assert_eq!(of(&[1, 9001, 1, 1, 1], lag).until, Offset(10));
        assert_eq!(of(&[1, 1, 1, -1, 1], lag).until, Offset(40));
        let unknown = Segment { max_timestamp: None, ..segments(&[1])[0] };
        assert_eq!(plan(&[unknown, unknown], Offset(0), Offset(100), NOW, &lag).until, Offset(0));
        let late = Limits { max_lag_ms: 1000, min_dirty_ratio: 1.0, ..LIMITS };
        assert!(of(&[1, 1, 1, 8999, 1], late).due);
        assert!(!of(&[1, 1, 1, 9000, 1], late).due);
        assert!(!of(&[1, 1, 1, -1, 1], late).due);
    }

    #[test]
    fn a_segments_first_record_waits_longest() {
        let late = Limits { max_lag_ms: 1000, min_dirty_ratio: 1.0, ..LIMITS };
        for (first, due) in [(Some(8999), true), (Some(9000), false), (Some(-1), false), (None, false)] {
            let mut segments = segments(&[1, 1]);
            segments[0] = Segment { first_timestamp: first, max_timestamp: Some(NOW), ..segments[0] };
            assert_eq!(plan(&segments, Offset(0), Offset(100), NOW, &late).due, due, "{first:?}");
        }
    }
}
