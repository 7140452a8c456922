//! Records as clients write them, in every compression, and as nobody should.

use super::samples::{Sample, batch_of, compressed, encoded, filled, samples, varint};
use super::testing::BatchBuilder;
use super::*;
use crate::ids::Offset;
use bytes::{Bytes, BytesMut};
use kafka_protocol::records as peer;
use proptest::prelude::*;
use std::ops::ControlFlow;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const NOW: i64 = 1_700_000_000_000;
const RULES: RecordRules = RecordRules {
    now_ms: NOW,
    timestamp_type: TimestampType::CreateTime,
    before_max_ms: i64::MAX,
    after_max_ms: TIMESTAMP_AFTER_MAX_MS,
    keyed: false,
    compression: None,
    max_decompressed: 16 << 20,
};

fn malformed(found: &Result<Examined, RecordsError>) -> Option<i32> {
    match found {
        Err(RecordsError::Unreadable(WalkError::Malformed { record, .. })) => Some(*record),
        _ => None,
    }
}

/// A record whose body is given, with its true length before it.
fn raw(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(body.len() as i64, &mut out);
    out.extend_from_slice(body);
    out
}

#[test]
fn records_are_read_in_every_compression() {
    for codec in CODECS {
        for (count, value_len) in [(1, 0), (3, 10), (500, 700)] {
            let records = samples(count, value_len);
            let batch = batch_of(codec, count, &encoded(&records)).timestamps(NOW, 0).build();
            let mut seen = Vec::new();
            let walked = batch.walk(u64::MAX, |r| {
                seen.push((r.index, r.offset_delta, r.timestamp, r.has_key));
                ControlFlow::<()>::Continue(())
            });
            assert_eq!(walked, Ok(None), "{codec:?}");
            let expected: Vec<_> = (0..count).map(|n| (n, n, NOW + i64::from(n), true)).collect();
            assert_eq!(seen, expected, "{codec:?}");
        }
    }
}

#[test]
fn broken_content_under_a_right_crc_is_refused_in_every_compression() {
    let good = encoded(&samples(3, 20));
    let first = encoded(&samples(1, 20));
    let delta = |deltas: [i32; 3]| {
        let mut records = samples(3, 20);
        for (record, delta) in records.iter_mut().zip(deltas) {
            record.offset_delta = delta;
        }
        encoded(&records)
    };
    let with_third = |body: &[u8]| [&encoded(&samples(2, 20))[..], &raw(body)].concat();
    // Attributes, timestamp delta, offset delta, key, value, headers.
    let cases: [(&str, Vec<u8>, i32); 20] = [
        ("fewer records than counted", encoded(&samples(2, 20)), 2),
        ("more records than counted", encoded(&samples(4, 20)), 3),
        ("a byte after the last record", [&good[..], &[0]].concat(), 3),
        ("a record cut off", good[..good.len() - 1].to_vec(), 2),
        ("no records at all", Vec::new(), 0),
        ("an offset delta that does not begin at 0", delta([1, 2, 3]), 0),
        ("a gap in the offset deltas", delta([0, 2, 3]), 1),
        ("an offset delta twice", delta([0, 1, 1]), 2),
        ("a negative offset delta", delta([0, -1, 2]), 1),
        ("a negative record length", [&first[..], &[0x03]].concat(), 1),
        ("a record longer than the batch", [&first[..], &[0xfe, 0xff, 0x7f], &[0; 40]].concat(), 1),
        ("a record length that does not end", [&first[..], &[0xff; 12]].concat(), 1),
        ("a key longer than its record", with_third(&[0, 0, 4, 0x7e, 1, 0]), 2),
        ("a value longer than its record", with_third(&[0, 0, 4, 1, 0x7e, 0]), 2),
        ("a key of length -2", with_third(&[0, 0, 4, 3, 1, 0]), 2),
        ("a negative count of headers", with_third(&[0, 0, 4, 1, 1, 1]), 2),
        ("more headers than bytes", with_third(&[0, 0, 4, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]), 2),
        ("a header without a key", with_third(&[0, 0, 4, 1, 1, 2, 1, 1]), 2),
        ("bytes between the last header and the end", with_third(&[0, 0, 4, 1, 1, 0, 0, 0]), 2),
        ("an empty record", with_third(&[]), 2),
    ];
    for codec in CODECS {
        let whole = batch_of(codec, 3, &good).timestamps(NOW, NOW + 2).build();
        assert!(whole.examine(&RULES).is_ok(), "{codec:?}");
        for (what, body, record) in &cases {
            let batch = batch_of(codec, 3, body).timestamps(NOW, NOW + 2).build();
            assert_eq!(malformed(&batch.examine(&RULES)), Some(*record), "{what}, {codec:?}");
        }
    }
}

#[test]
fn a_broken_stream_is_refused_in_every_compression() {
    let body = encoded(&samples(50, 100));
    for codec in &CODECS[1..] {
        let good = compressed(*codec, &body);
        let judge = |bytes: &[u8]| {
            let builder = BatchBuilder::new(50).with(22, &[*codec as u8]).records(bytes);
            builder.timestamps(NOW, NOW).build().examine(&RULES)
        };
        assert!(judge(&good).is_ok(), "{codec:?}");
        for cut in 0..good.len() {
            assert!(judge(&good[..cut]).is_err(), "{codec:?} cut at {cut} of {}", good.len());
        }
        assert!(judge(&[&good[..], &[7]].concat()).is_err(), "{codec:?} with a byte behind it");
        assert!(judge(&body).is_err(), "{codec:?} not compressed");
    }
}

#[test]
fn snappy_without_framing_is_read() {
    let body = encoded(&samples(50, 100));
    let bare = snap::raw::Encoder::new().compress_vec(&body).unwrap();
    let builder = BatchBuilder::new(50).with(22, &[Compression::Snappy as u8]).records(&bare);
    assert!(builder.timestamps(NOW, 0).build().examine(&RULES).is_ok());
}

#[test]
fn lz4_is_read_with_every_option_that_javas_clients_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write as _;
    let body = encoded(&samples(400, 1000));
    let judge = |info: FrameInfo, spoil: Option<usize>| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&body).unwrap();
        let mut frame = encoder.finish().unwrap();
        if let Some(at) = spoil {
            let at = if at == usize::MAX { frame.len() - 1 } else { at };
            frame[at] ^= 1;
        }
        let builder = BatchBuilder::new(400).with(22, &[Compression::Lz4 as u8]).records(&frame);
        builder.timestamps(NOW, 0).build().examine(&RULES)
    };
    let independent = || FrameInfo::new().block_mode(BlockMode::Independent);
    for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        assert!(judge(independent().block_size(size), None).is_ok());
    }
    let all = || {
        let size = Some(body.len() as u64);
        independent().block_checksums(true).content_checksum(true).content_size(size)
    };
    assert!(judge(all(), None).is_ok());
    assert!(malformed(&judge(all(), Some(usize::MAX))).is_some(), "a wrong checksum of the content");
    assert!(malformed(&judge(all(), Some(40))).is_some(), "a wrong checksum of a block");
    assert!(malformed(&judge(all(), Some(8))).is_some(), "a wrong checksum of the header");
    assert!(malformed(&judge(FrameInfo::new().block_mode(BlockMode::Linked), None)).is_some());
}

#[test]
fn a_batch_that_claims_a_record_for_every_offset_is_refused_at_once() {
    for codec in CODECS {
        for body in [&[0_u8][..], &[0x28], &[0xff; 20]] {
            let batch = BatchBuilder::new(i32::MAX).with(22, &[codec as u8]).records(body).build();
            assert!(batch.examine(&RULES).is_err(), "{codec:?}");
        }
    }
}

#[test]
fn what_decompresses_to_more_than_is_allowed_is_given_up() {
    // One record of 64 MiB of zeros.
    let value = vec![0; 64 << 20];
    let bomb = encoded(&[Sample { value: Some(value), ..Sample::default() }]);
    for codec in &CODECS[1..] {
        let batch = batch_of(*codec, 1, &bomb).timestamps(NOW, 0).build();
        let found = batch.examine(&RULES);
        let too_long = WalkError::TooLong { max: RULES.max_decompressed };
        assert_eq!(found, Err(RecordsError::Unreadable(too_long)), "{codec:?}");
        assert!(batch.examine(&RecordRules { max_decompressed: 65 << 20, ..RULES }).is_ok(), "{codec:?}");
    }
}

#[test]
fn a_snappy_block_that_claims_more_than_it_can_hold_is_refused() {
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    let batch = BatchBuilder::new(1).with(22, &[2]).records(&claim).build();
    let rules = RecordRules { max_decompressed: u64::MAX, ..RULES };
    assert_eq!(malformed(&batch.examine(&rules)), Some(0));
}

#[test]
fn timestamps_are_held_to_the_topics_bounds() {
    let judge = |base: i64, deltas: &[i64], rules: &RecordRules| {
        let records: Vec<_> = (0..)
            .zip(deltas)
            .map(|(offset_delta, delta)| Sample { offset_delta, timestamp_delta: *delta, ..Sample::default() })
            .collect();
        batch_of(Compression::None, deltas.len() as i32, &encoded(&records)).timestamps(base, 0).build().examine(rules)
    };
    let hour = TIMESTAMP_AFTER_MAX_MS;
    let max = |found: Result<Examined, RecordsError>| found.map(|e| (e.max_timestamp, e.max_timestamp_delta));
    assert_eq!(max(judge(NOW, &[0, 5, 5, 3], &RULES)), Ok((NOW + 5, 1)));
    assert_eq!(max(judge(NOW, &[hour], &RULES)), Ok((NOW + hour, 0)));
    assert_eq!(max(judge(-1, &[0, 0], &RULES)), Ok((-1, 0)), "no timestamps");
    assert_eq!(max(judge(0, &[0], &RULES)), Ok((0, 0)), "as old as can be");
    let past = RecordRules { before_max_ms: 1000, ..RULES };
    assert_eq!(max(judge(NOW, &[-1000, 0], &past)), Ok((NOW, 1)));
    assert_eq!(max(judge(-1, &[0], &past)), Ok((-1, 0)), "no timestamp is never too old");
    for (base, deltas, rules, wrong) in [
        (NOW, &[0, hour + 1, 0, hour + 2][..], RULES, &[1, 3][..]),
        (NOW * 1000, &[0], RULES, &[0]),
        (i64::MAX, &[0], RULES, &[0]),
        (NOW, &[-1001, -1000], past, &[0]),
        (i64::MIN, &[0], past, &[0]),
    ] {
        let error = judge(base, deltas, &rules).unwrap_err();
        assert!(error.rejected().all(|r| r.reason.is_timestamp()), "{error}");
        assert_eq!(error.rejected().map(|r| r.index).collect::<Vec<_>>(), wrong, "{error}");
    }
    assert_eq!(malformed(&judge(i64::MAX, &[1], &RULES)), Some(0), "a timestamp beyond all numbers");
}

#[test]
fn records_without_a_key_are_refused_where_keys_are_needed() {
    let mut records = samples(300, 5);
    records[0].key = Some(Vec::new());
    for record in &mut records[1..251] {
        record.key = None;
    }
    for codec in CODECS {
        let batch = batch_of(codec, 300, &encoded(&records)).timestamps(NOW, 0).build();
        assert!(batch.examine(&RULES).is_ok());
        let Err(error) = batch.examine(&RecordRules { keyed: true, ..RULES }) else { panic!("{codec:?} is taken") };
        let listed: Vec<_> = error.rejected().map(|r| (r.index, r.reason)).collect();
        assert_eq!(listed, (1..101).map(|n| (n, Reason::NoKey)).collect::<Vec<_>>(), "{codec:?}");
        assert!(matches!(error, RecordsError::Rejected { count: 250, .. }), "{codec:?}");
    }
}

#[test]
fn a_header_that_is_right_is_left_alone_and_a_wrong_one_is_put_right_in_place() {
    for codec in CODECS {
        let body = encoded(&samples(3, 20));
        for (claimed, flags, changed) in [(NOW + 2, 0, false), (0, 0, true), (i64::MAX, 0, true), (NOW + 2, 8, true)] {
            let builder = batch_of(codec, 3, &body).timestamps(NOW, claimed).with(22, &[codec as u8 | flags]);
            let batch = builder.build();
            let (before, at) = (batch.bytes().to_vec(), batch.bytes().as_ptr());
            let admitted = batch.admit(&RULES).unwrap();
            assert_eq!(admitted.bytes().as_ptr(), at, "not copied");
            assert_eq!(before != *admitted.bytes(), changed);
            let read = RecordBatch::check(admitted.bytes().clone()).unwrap();
            assert_eq!(read.header(), admitted.header());
            assert_eq!(
                (read.header().max_timestamp, read.header().timestamp_type()),
                (NOW + 2, TimestampType::CreateTime)
            );
            assert_eq!(read.header().compression(), Some(codec));
        }
    }
}

#[test]
fn bytes_that_somebody_else_holds_are_copied_before_they_are_changed() {
    let batch = filled(1, 50).timestamps(NOW, 7).build();
    let other_reference = batch.bytes().clone();
    let admitted = batch.admit(&RULES).unwrap();
    assert_eq!(BatchHeader::read(&other_reference).unwrap().max_timestamp, 7);
    assert_eq!(admitted.header().max_timestamp, NOW);
}

#[test]
fn the_brokers_time_takes_the_place_of_the_producers() {
    let rules = RecordRules { timestamp_type: TimestampType::LogAppendTime, ..RULES };
    let builder = batch_of(Compression::Zstd, 3, &encoded(&samples(3, 20))).timestamps(i64::MAX / 2, 0);
    let admitted = builder.clone().build().admit(&rules).unwrap();
    let read = RecordBatch::check(admitted.bytes().clone()).unwrap();
    assert_eq!((read.header().max_timestamp, read.header().timestamp_type()), (NOW, TimestampType::LogAppendTime));
    assert_eq!(read.first_at_or_after(NOW, Offset(0), u64::MAX), Ok(Some(Stamp { offset: Offset(0), timestamp: NOW })));
    assert_eq!(
        read.first_at_or_after(NOW, Offset(2), u64::MAX),
        Ok(Some(Stamp { offset: Offset(2), timestamp: NOW })),
        "what is before that offset may be deleted"
    );
    assert_eq!(read.first_at_or_after(NOW + 1, Offset(2), u64::MAX), Ok(None));
    assert_eq!(read.first_at_or_after(NOW, Offset(3), u64::MAX), Ok(None));
    let error = builder.with(22, &[Compression::Zstd as u8 | 8]).build().admit(&rules).unwrap_err();
    assert!(error.rejected().all(|r| r.reason == Reason::TimestampType));
    assert_eq!(error.rejected().count(), 3);
}

/// As in Kafka.
#[test]
fn a_time_that_a_producer_sets_for_its_tombstones_stays() {
    let tombstone = Sample { key: Some(b"a".to_vec()), timestamp_delta: -10, ..Sample::default() };
    for max_timestamp in [NOW - 10, NOW] {
        let builder = batch_of(Compression::None, 1, &encoded(std::slice::from_ref(&tombstone))).with(22, &[0x40]);
        let admitted = builder.timestamps(NOW, max_timestamp).build().admit(&RULES).unwrap();
        let read = RecordBatch::check(admitted.bytes().clone()).unwrap();
        assert_eq!((read.header().delete_horizon_ms(), read.header().max_timestamp), (Some(NOW), NOW - 10));
    }
}

#[test]
fn a_record_is_found_by_its_time_whatever_the_compression() {
    let mut records = samples(4, 300);
    for (record, delta) in records.iter_mut().zip([100, 105, 103, 200]) {
        record.timestamp_delta = delta;
    }
    for codec in CODECS {
        let batch = batch_of(codec, 4, &encoded(&records)).build();
        let find_from = |from, at| batch.first_at_or_after(at, Offset(from), u64::MAX).unwrap();
        let find = |at| find_from(0, at);
        assert_eq!(find_from(1, 0), Some(Stamp { offset: Offset(1), timestamp: 105 }), "{codec:?}");
        assert_eq!(find_from(2, 104), Some(Stamp { offset: Offset(3), timestamp: 200 }), "{codec:?}");
        assert_eq!(find_from(4, 0), None, "{codec:?}");
        assert_eq!(find(0), Some(Stamp { offset: Offset(0), timestamp: 100 }), "{codec:?}");
        assert_eq!(find(101), Some(Stamp { offset: Offset(1), timestamp: 105 }), "{codec:?}");
        assert_eq!(find(200), Some(Stamp { offset: Offset(3), timestamp: 200 }), "{codec:?}");
        assert_eq!(find(201), None, "{codec:?}");
    }
}

#[test]
fn the_greatest_time_of_what_a_start_leaves_of_a_batch_is_found_whatever_the_compression() {
    let mut records = samples(4, 300);
    for (record, delta) in records.iter_mut().zip([200, 100, 105, 105]) {
        record.timestamp_delta = delta;
    }
    for codec in CODECS {
        let batch = batch_of(codec, 4, &encoded(&records)).build();
        let greatest =
            |from| batch.greatest_from(Offset(from), u64::MAX).map(|found| found.map(|s| (s.offset.0, s.timestamp)));
        let expected = [Some((0, 200)), Some((2, 105)), Some((2, 105)), Some((3, 105)), None];
        assert_eq!([0, 1, 2, 3, 4].map(greatest), expected.map(Ok), "{codec:?}");
    }
    let appended = batch_of(Compression::Lz4, 4, &encoded(&records)).with(22, &[Compression::Lz4 as u8 | 8]);
    let batch = appended.timestamps(0, NOW).build();
    assert_eq!(batch.greatest_from(Offset(2), u64::MAX), Ok(Some(Stamp { offset: Offset(2), timestamp: NOW })));
}

/// Timestamp, key and value.
type Content = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// A batch as another encoder writes it.
fn of_a_peer(records: &[Content], codec: peer::Compression) -> RecordBatch {
    let records: Vec<_> = (0..)
        .zip(records)
        .map(|(n, (timestamp, key, value))| peer::Record {
            transactional: false,
            control: false,
            partition_leader_epoch: peer::NO_PARTITION_LEADER_EPOCH,
            producer_id: peer::NO_PRODUCER_ID,
            producer_epoch: peer::NO_PRODUCER_EPOCH,
            timestamp_type: peer::TimestampType::Creation,
            offset: n,
            sequence: peer::NO_SEQUENCE + n as i32,
            timestamp: *timestamp,
            key: key.clone().map(Bytes::from),
            value: value.clone().map(Bytes::from),
            headers: kafka_protocol::indexmap::IndexMap::default(),
            delete_horizon: false,
        })
        .collect();
    let mut out = BytesMut::new();
    let options = peer::RecordEncodeOptions { version: 2, compression: codec };
    peer::RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    RecordBatch::check(out.freeze()).unwrap()
}

fn content() -> impl Strategy<Value = Vec<Content>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    prop::collection::vec((0..NOW, bytes(), bytes()), 1..40)
}

fn peers_codec(n: usize) -> peer::Compression {
    use peer::Compression as C;
    [C::None, C::Gzip, C::Snappy, C::Lz4, C::Zstd][n]
}

proptest! {
    #[test]
    fn what_another_encoder_writes_is_taken_as_it_is(records in content(), codec in 0..5_usize) {
        let batch = of_a_peer(&records, peers_codec(codec));
        let examined = batch.examine(&RULES).unwrap();
        let max = records.iter().map(|r| r.0).max().unwrap();
        let first = records.iter().position(|r| r.0 == max).unwrap();
        prop_assert_eq!((examined.max_timestamp, examined.max_timestamp_delta), (max, first as i32));
        let before = batch.bytes().clone();
        let stamped = batch.stamped(&examined).into_bytes();
        prop_assert_eq!(stamped, before);
    }

    #[test]
    fn what_is_taken_can_be_read_by_another_decoder(
        records in content(), codec in 0..5_usize, changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = of_a_peer(&records, peers_codec(codec)).bytes()[HEADER_LEN..].to_vec();
        for (at, to) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = to;
        }
        let builder = BatchBuilder::new(records.len() as i32).with(22, &[codec as u8]).records(&bytes);
        let batch = builder.timestamps(0, NOW).build();
        if let Ok(admitted) = batch.admit(&RecordRules { after_max_ms: i64::MAX, ..RULES }) {
            // The other decoder takes keys of headers for text.
            if let Ok(read) = peer::RecordBatchDecoder::decode(&mut admitted.into_bytes()) {
                prop_assert_eq!(read.records.len(), records.len());
            }
        }
    }

    #[test]
    fn any_body_is_judged_without_panic(
        body in prop::collection::vec(any::<u8>(), 0..300), codec in 0..5_u8, count in 1..i32::MAX,
    ) {
        let batch = BatchBuilder::new(count).with(22, &[codec]).records(&body).build();
        let _ = batch.examine(&RULES);
        let _ = batch.first_at_or_after(7, Offset(0), RULES.max_decompressed);
    }

    #[test]
    fn a_filled_batch_has_the_length_asked_for_and_can_be_read(count in 1..200_i32, more in 0..3000_usize) {
        let len = count as usize * 8 + more;
        let batch = filled(count, len).timestamps(NOW, NOW).build();
        prop_assert_eq!(batch.bytes().len(), HEADER_LEN + len);
        prop_assert!(batch.examine(&RULES).is_ok());
    }
}
