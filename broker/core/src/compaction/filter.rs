//! What compaction leaves of a batch.

use super::OffsetMap;
use crate::ids::Offset;
use crate::record::{RawRecord, RecordBatch, TimestampType, WalkError, max_decompressed};

/// What records of a batch are kept by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The last offset of each key in the part of the log that was not cleaned before.
    pub latest: &'a OffsetMap,
    /// Where that part ends. What is at it or behind it stays as it is: of its keys nothing is known, and what its
    /// tombstones delete is still there.
    pub to: Offset,
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// Bytes that a batch may decompress to, if it is not long itself ([`max_decompressed`]).
    pub max_decompressed: u64,
}

/// What is known of the records that are kept, without having them all.
#[derive(Default)]
struct Kept {
    /// All records, kept or not.
    all: i32,
    count: i32,
    has_tombstones: bool,
    /// The least timestamp, and the greatest.
    first: i64,
    last: i64,
    bytes: usize,
}

impl Kept {
    fn note(&mut self, record: &RawRecord<'_>) {
        let begins = self.count == 0;
        self.first = if begins { record.timestamp } else { self.first.min(record.timestamp) };
        self.last = if begins { record.timestamp } else { self.last.max(record.timestamp) };
        self.count += 1;
        self.has_tombstones |= !record.has_value;
        self.bytes += record.encoded_len();
    }
}

/// What is left of a batch.
#[derive(Clone, Debug)]
pub enum Filtered {
    /// All of it, as it is.
    Same,
    /// This.
    Rewritten(RecordBatch),
    /// Nothing.
    Nothing,
}

impl Rules<'_> {
    /// What is left of the batch. If that is nothing, and `keep_empty`, an empty batch is left, which says what the batch's
    /// header did: where the log goes on, and how far its producer has come.
    ///
    /// Transaction markers stay: they have no keys that count. A record without a key goes, as it can never be replaced.
    ///
    /// The time of a batch's tombstones begins to run when all that they delete goes: not while some of the batch is
    /// behind what the map knows. (Kafka keeps such records too, but lets their time run.)
    pub fn filter(&self, batch: &RecordBatch, keep_empty: bool) -> Result<Filtered, WalkError> {
        let header = batch.header();
        if header.is_control() || header.base_offset >= self.to || header.record_count == 0 && keep_empty {
            return Ok(Filtered::Same);
        }
        let max = max_decompressed(self.max_decompressed, batch.bytes().len());
        let body = batch.decompressed(max)?;
        let horizon = header.delete_horizon_ms();
        let keeps_tombstones = horizon.is_none_or(|until| self.now_ms < until);
        let mut kept = Kept::default();
        for record in batch.raw_records(&body, max) {
            let record = record?;
            kept.all += 1;
            if self.keeps(&record, header.base_offset, keeps_tombstones) {
                kept.note(&record);
            }
        }
        if kept.count == 0 {
            return Ok(if keep_empty { Filtered::Rewritten(batch.emptied()) } else { Filtered::Nothing });
        }
        let begins_time = horizon.is_none() && kept.has_tombstones && header.end_offset() <= self.to;
        let new_horizon = begins_time.then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        if new_horizon.is_none() && kept.count == kept.all {
            return Ok(Filtered::Same);
        }
        let mut kept_header = *header;
        kept_header.record_count = kept.count;
        if header.timestamp_type() == TimestampType::CreateTime {
            kept_header.max_timestamp = kept.last;
        }
        let fits = |base: &i64| [kept.first, kept.last].iter().all(|timestamp| timestamp.checked_sub(*base).is_some());
        if let Some(base) = new_horizon.filter(fits) {
            kept_header.set_delete_horizon_ms(base);
        }
        let mut out = Vec::with_capacity(kept.bytes);
        for record in batch.raw_records(&body, max) {
            let record = record?;
            if self.keeps(&record, header.base_offset, keeps_tombstones) {
                record.encode(kept_header.base_timestamp, &mut out);
            }
        }
        batch.with_records(kept_header, &out).map(Filtered::Rewritten)
    }

    fn keeps(&self, record: &RawRecord<'_>, base: Offset, keeps_tombstones: bool) -> bool {
        let offset = base.plus(i64::from(record.offset_delta));
        if offset >= self.to {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_last = self.latest.get(key).is_none_or(|last| offset >= last);
        is_last && (record.has_value || keeps_tombstones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaderEpoch;
    use crate::record::samples::{Sample, batch_of, encoded};
    use crate::record::{Compression, HEADER_LEN};

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// A batch at offset 100 of records with these keys and values.
    fn batch(codec: Compression, records: &[(Option<&str>, Option<&str>)]) -> RecordBatch {
        let sample = |(n, (key, value)): (usize, &(Option<&str>, Option<&str>))| Sample {
            timestamp_delta: 10 * n as i64,
            offset_delta: n as i32,
            key: key.map(|k| k.as_bytes().to_vec()),
            value: value.map(|v| v.as_bytes().to_vec()),
            headers: vec![(b"h".to_vec(), None)],
        };
        let samples: Vec<_> = records.iter().enumerate().map(sample).collect();
        let last = 1000 + 10 * (records.len() as i64 - 1);
        let built = batch_of(codec, records.len() as i32, &encoded(&samples)).timestamps(1000, last);
        built.producer(7, 2, 40).build().assign(Offset(100), LeaderEpoch(3))
    }

    fn map(entries: &[(&str, i64)]) -> OffsetMap {
        let mut map = OffsetMap::new(0, 0, (1, 2));
        for (key, offset) in entries {
            map.put(key.as_bytes(), Offset(*offset)).unwrap();
        }
        map
    }

    fn rules(latest: &OffsetMap, now_ms: i64) -> Rules<'_> {
        Rules { latest, to: Offset(i64::MAX), now_ms, delete_retention_ms: 500, max_decompressed: 1 << 20 }
    }

    fn rewritten(filtered: Filtered) -> RecordBatch {
        let Filtered::Rewritten(batch) = filtered else { panic!("{filtered:?}") };
        // What is on the disk is what counts.
        let read = RecordBatch::check(batch.bytes().clone()).expect("a valid batch");
        assert_eq!(read.header(), batch.header());
        read
    }

    fn contents(batch: &RecordBatch) -> Vec<(i64, i64, Option<String>)> {
        let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let all = batch.contents(1 << 20).expect("it can be read");
        all.into_iter().map(|r| (r.offset.0, r.timestamp, r.value.map(text))).collect()
    }

    #[test]
    fn a_record_goes_when_a_later_one_has_its_key_and_the_others_stay_as_they_were() {
        for codec in CODECS {
            let before = batch(
                codec,
                &[(Some("a"), Some("1")), (Some("b"), Some("2")), (Some("a"), Some("3")), (Some("c"), Some("4"))],
            );
            let latest = map(&[("a", 102), ("c", 500)]);
            let after = rewritten(rules(&latest, 0).filter(&before, false).unwrap());
            assert_eq!(contents(&after), [(101, 1010, Some("2".into())), (102, 1020, Some("3".into()))], "{codec:?}");
            let (was, is) = (before.header(), after.header());
            assert_eq!((is.base_offset, is.end_offset()), (was.base_offset, was.end_offset()));
            assert_eq!((is.record_count, is.max_timestamp, is.compression()), (2, 1020, Some(codec)));
            assert_eq!(
                (is.producer_id, is.producer_epoch, is.base_sequence, is.last_sequence()),
                (was.producer_id, was.producer_epoch, 40, 43)
            );
            assert_eq!(is.leader_epoch, was.leader_epoch);
            assert!(matches!(rules(&latest, 0).filter(&after, false).unwrap(), Filtered::Same));
        }
    }

    #[test]
    fn a_tombstone_stays_for_delete_retention_ms_after_it_was_first_cleaned() {
        for codec in CODECS {
            let before = batch(codec, &[(Some("a"), None), (Some("b"), Some("2"))]);
            let latest = map(&[("a", 100), ("b", 101)]);
            let cleaned = rewritten(rules(&latest, 2000).filter(&before, false).unwrap());
            assert_eq!(cleaned.header().delete_horizon_ms(), Some(2500), "{codec:?}");
            assert_eq!(contents(&cleaned), contents(&before), "{codec:?}: timestamps are what they were");
            assert_eq!(cleaned.header().max_timestamp, 1010);
            let none = map(&[]);
            assert!(matches!(rules(&none, 2499).filter(&cleaned, false).unwrap(), Filtered::Same));
            let gone = rewritten(rules(&none, 2500).filter(&cleaned, false).unwrap());
            assert_eq!(contents(&gone), [(101, 1010, Some("2".into()))]);
            assert_eq!(gone.header().end_offset(), before.header().end_offset());
        }
    }

    #[test]
    fn what_is_behind_the_end_of_the_keys_stays_and_no_time_of_its_tombstones_runs() {
        for codec in CODECS {
            let before =
                batch(codec, &[(Some("a"), None), (Some("b"), Some("2")), (Some("c"), None), (None, Some("4"))]);
            let latest = map(&[("a", 100), ("b", 900)]);
            let to = |to| Rules { to: Offset(to), ..rules(&latest, 2000) };
            assert!(matches!(to(100).filter(&before, false).unwrap(), Filtered::Same), "{codec:?}");
            let half = rewritten(to(102).filter(&before, false).unwrap());
            assert_eq!(half.header().delete_horizon_ms(), None, "{codec:?}");
            assert_eq!(contents(&half), [(100, 1000, None), (102, 1020, None), (103, 1030, Some("4".into()))]);
            let whole = rewritten(to(104).filter(&half, false).unwrap());
            assert_eq!(whole.header().delete_horizon_ms(), Some(2500), "{codec:?}");
            assert_eq!(contents(&whole), [(100, 1000, None), (102, 1020, None)], "{codec:?}");
            // Another replica may have known more.
            let later = Rules { to: Offset(102), ..rules(&latest, 2500) };
            assert_eq!(contents(&rewritten(later.filter(&whole, false).unwrap())), [(102, 1020, None)]);
        }
    }

    #[test]
    fn what_is_left_of_a_batch_without_records_says_where_it_was_and_whose() {
        let before = batch(Compression::Zstd, &[(Some("a"), Some("1")), (Some("a"), Some("2"))]);
        let latest = map(&[("a", 900)]);
        assert!(matches!(rules(&latest, 0).filter(&before, false).unwrap(), Filtered::Nothing));
        let empty = rewritten(rules(&latest, 0).filter(&before, true).unwrap());
        let (was, is) = (before.header(), empty.header());
        assert_eq!(
            (is.base_offset, is.end_offset(), is.last_sequence()),
            (was.base_offset, was.end_offset(), was.last_sequence())
        );
        assert_eq!((is.record_count, is.total_len, is.compression()), (0, HEADER_LEN, Some(Compression::None)));
        assert_eq!((is.producer_id, is.max_timestamp), (was.producer_id, was.max_timestamp));
        assert_eq!(contents(&empty), []);
        assert!(matches!(rules(&latest, 0).filter(&empty, true).unwrap(), Filtered::Same));
        assert!(matches!(rules(&latest, 0).filter(&empty, false).unwrap(), Filtered::Nothing));
    }

    #[test]
    fn a_record_without_a_key_goes() {
        let before = batch(Compression::None, &[(None, Some("1")), (Some(""), Some("2"))]);
        let after = rewritten(rules(&map(&[]), 0).filter(&before, false).unwrap());
        assert_eq!(contents(&after), [(101, 1010, Some("2".into()))]);
    }

    #[test]
    fn markers_of_transactions_stay_whatever_their_keys_are() {
        let bytes =
            batch_of(Compression::None, 1, &encoded(&[Sample { key: Some(vec![0, 0, 0, 1]), ..Sample::default() }]));
        let marker = bytes.with(22, &[0x30]).build();
        let latest = map(&[("\0\0\0\u{1}", 900)]);
        assert!(matches!(rules(&latest, i64::MAX).filter(&marker, false).unwrap(), Filtered::Same));
    }

    #[test]
    fn a_batch_that_cannot_be_read_is_an_error() {
        let broken = batch_of(Compression::Lz4, 2, b"no records at all").build();
        assert!(rules(&map(&[]), 0).filter(&broken, false).is_err());
    }
}
