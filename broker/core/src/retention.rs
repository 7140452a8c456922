//! How long records are kept: where a partition's log should begin, by `retention.ms` and `retention.bytes`.
//!
//! As Kafka decides it: whole segments, from the oldest on, as long as one after the other is beyond a limit. Nothing
//! that is not committed goes. The segment that is appended to goes by its age alone: when its newest record is
//! older than allowed nothing was appended for that long, and the log becomes empty.

use crate::ids::Offset;

/// A topic's limits. `None`: without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds after its newest record's timestamp that a segment is kept (`retention.ms`).
    pub ms: Option<u64>,
    /// Bytes of segments that are kept (`retention.bytes`).
    pub bytes: Option<u64>,
}

/// One of a partition's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The offset after its last record.
    pub end: Offset,
    /// Bytes of its batches.
    pub bytes: u64,
    /// The greatest timestamp of its first batch, in milliseconds since 1970; `None` when that has none, or it is not known.
    pub first_timestamp: Option<i64>,
    /// The greatest timestamp in it, in milliseconds since 1970; negative when its records have none; `None` when it is
    /// not known: then it does not go by its age.
    pub max_timestamp: Option<i64>,
    /// When its file was last written to, in milliseconds since 1970, if that is known: its age where its records have
    /// no timestamps, as in Kafka (`LogSegment.largestTimestamp`).
    pub modified: Option<i64>,
}

/// Where the log should begin at the time `now`, in milliseconds since 1970; `None` when it may stay as it is. The
/// segments are all that there are, ascending; the last one is appended to. The result never passes `high_watermark`.
pub fn log_start(segments: &[Segment], high_watermark: Offset, now: i64, limits: &Retention) -> Option<Offset> {
    let total: u64 = segments.iter().map(|s| s.bytes).sum();
    let mut excess = limits.bytes.map_or(0, |max| total.saturating_sub(max));
    let mut start = None;
    for (i, segment) in segments.iter().enumerate() {
        let is_active = i + 1 == segments.len();
        let too_much = !is_active && segment.bytes > 0 && segment.bytes <= excess;
        if segment.end > high_watermark || !(too_much || too_old(segment, now, limits)) {
            break;
        }
        excess = excess.saturating_sub(segment.bytes);
        start = Some(segment.end);
    }
    start
}

fn too_old(segment: &Segment, now: i64, limits: &Retention) -> bool {
    let newest = match segment.max_timestamp {
        Some(0..) | None => segment.max_timestamp,
        Some(_) => segment.modified,
    };
    let (Some(max), Some(newest)) = (limits.ms, newest) else { return false };
    // A timestamp of the future is no age.
    u64::try_from(now.saturating_sub(newest)).is_ok_and(|age| age > max)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    const NOW: i64 = 1000;

    fn start(stamps: &[i64], high_watermark: i64, ms: Option<u64>, bytes: Option<u64>) -> Option<i64> {
        log_start(&segments(stamps), Offset(high_watermark), NOW, &Retention { ms, bytes }).map(|start| start.0)
    }

    #[test]
    fn segments_go_from_the_oldest_on_while_they_are_older_than_retention_ms() {
        for (stamps, expected) in [
            (&[][..], None),
            (&[899, 900, 950], Some(10)),
            (&[900, 100, 100], None),
            (&[100, 200, 950], Some(20)),
            // Nothing was appended for so long that the last one goes too.
            (&[100, 200, 300], Some(30)),
            // No timestamps and no time of the file, and timestamps of the future.
            (&[-1, 100, 100], None),
            (&[5000, 100, 100], None),
            (&[100, 5000, 100], Some(10)),
            (&[100, i64::MAX, 100], Some(10)),
            (&[i64::MIN, 100, 100], None),
        ] {
            assert_eq!(start(stamps, 1000, Some(100), None), expected, "{stamps:?}");
        }
    }

    #[test]
    fn records_without_timestamps_are_as_old_as_their_file() {
        for (modified, expected) in [(899, Some(10)), (900, None), (5000, None)] {
            let mut of_file = segments(&[-1, 950]);
            of_file[0].modified = Some(modified);
            of_file[1].modified = Some(0);
            let limits = Retention { ms: Some(100), bytes: None };
            assert_eq!(log_start(&of_file, Offset(20), NOW, &limits), expected.map(Offset), "{modified}");
        }
    }

    #[test]
    fn segments_go_from_the_oldest_on_while_what_is_left_has_retention_bytes_but_for_the_last() {
        for (bytes, expected) in [
            (1000, None),
            (400, None),
            (399, None),
            (301, None),
            (300, Some(10)),
            (201, Some(10)),
            (200, Some(20)),
            (100, Some(30)),
            (99, Some(30)),
            (0, Some(30)),
        ] {
            assert_eq!(start(&[900; 4], 1000, None, Some(bytes)), expected, "{bytes}");
        }
    }

    #[test]
    fn a_segment_goes_by_either_limit() {
        assert_eq!(start(&[100, 900, 900, 900], 1000, Some(500), Some(200)), Some(20));
        assert_eq!(start(&[900, 100, 900, 900], 1000, Some(500), Some(300)), Some(20));
    }

    #[test]
    fn nothing_goes_that_is_not_committed() {
        for (high_watermark, expected) in [(0, None), (9, None), (10, Some(10)), (19, Some(10)), (30, Some(30))] {
            assert_eq!(start(&[1, 1, 1], high_watermark, Some(1), Some(0)), expected, "{high_watermark}");
        }
    }

    #[test]
    fn without_limits_everything_is_kept() {
        assert_eq!(start(&[1, 1, 1], 1000, None, None), None);
    }

    #[test]
    fn what_is_not_known_to_be_old_stays() {
        let unknown =
            Segment { end: Offset(10), bytes: 1, first_timestamp: None, max_timestamp: None, modified: Some(0) };
        assert_eq!(log_start(&[unknown], Offset(10), NOW, &Retention { ms: Some(0), bytes: None }), None);
    }
}
