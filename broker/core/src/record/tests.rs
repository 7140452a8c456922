//! Batches as clients send them, and as nobody should.

use super::testing::BatchBuilder;
use super::*;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use bytes::Bytes;
use proptest::prelude::*;

const LIMITS: Limits = Limits { max_bytes: 1_000 };

fn batch(count: i32) -> BatchBuilder {
    BatchBuilder::new(count).payload(7 * usize::try_from(count).unwrap_or(0))
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let h = batch(3).producer(9, 2, 40).timestamps(100, 170).header();
    assert_eq!((h.record_count, h.last_offset_delta, h.total_len), (3, 2, HEADER_LEN + 21));
    assert_eq!((h.producer_id, h.producer_epoch), (Some(ProducerId(9)), ProducerEpoch(2)));
    assert_eq!((h.base_sequence, h.last_sequence()), (40, 42));
    assert_eq!((h.base_timestamp, h.max_timestamp), (100, 170));
    assert_eq!(h.compression(), Some(Compression::None));
    assert_eq!(h.timestamp_type(), TimestampType::CreateTime);
}

#[test]
fn sequences_wrap_to_zero() {
    for (base, count, last) in [(i32::MAX, 1, i32::MAX), (i32::MAX, 2, 0), (i32::MAX - 1, 4, 1), (0, 1, 0)] {
        assert_eq!(batch(count).producer(1, 0, base).header().last_sequence(), last, "{base} {count}");
    }
}

#[test]
fn what_a_producer_may_not_write_is_refused() {
    let cases: [(BatchBuilder, BatchError); 13] = [
        (batch(1).payload(940), BatchError::TooLarge { bytes: 1_001, max: 1_000 }),
        (batch(0), BatchError::Invalid("record count and last offset delta disagree")),
        (batch(-5), BatchError::Invalid("record count and last offset delta disagree")),
        (batch(2).with(23, &[0, 0, 0, 7]), BatchError::Invalid("record count and last offset delta disagree")),
        (batch(1).with(22, &[5]), BatchError::Compression(5)),
        (batch(1).with(7, &[1]), BatchError::Invalid("the base offset of a producer's batch must be 0")),
        (batch(1).with(22, &[0x20]), BatchError::Invalid("a producer may not write control records")),
        (batch(1).with(22, &[0x10]), BatchError::Invalid("a transactional batch needs a producer id")),
        (batch(1).producer(1, -1, 0), BatchError::Invalid("an idempotent batch needs a sequence and an epoch")),
        (batch(1).producer(1, 0, -1), BatchError::Invalid("an idempotent batch needs a sequence and an epoch")),
        (batch(1).with(16, &[1]), BatchError::Header(HeaderError::Magic(1))),
        (batch(1).with(16, &[0]), BatchError::Header(HeaderError::Magic(0))),
        (BatchBuilder::new(i32::MAX).payload(7), BatchError::Invalid("more records than bytes for them")),
    ];
    for (builder, expected) in cases {
        assert_eq!(RecordBatch::validate(builder.clone().bytes(), LIMITS).unwrap_err(), expected, "{builder:?}");
    }
    let compressed_nothing = BatchBuilder::new(1).with(22, &[4]).bytes();
    assert!(RecordBatch::validate(compressed_nothing, LIMITS).is_err());
    assert!(RecordBatch::validate(batch(1).with(22, &[4]).bytes(), LIMITS).is_ok());
}

#[test]
fn a_length_that_is_not_the_batchs_is_refused() {
    let whole = batch(1).bytes();
    let (have, need) = (whole.len() - 1, whole.len());
    let short = RecordBatch::check(whole.slice(..have)).unwrap_err();
    assert_eq!(short, BatchError::Header(HeaderError::Short { have, need }));
    assert!(RecordBatch::check([&whole[..], &[0]].concat().into()).is_err());
    for length in [-1, i32::MIN, 0, 48] {
        let mut bytes = whole.to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert_eq!(BatchHeader::read(&bytes), Err(HeaderError::Length(length)));
    }
}

#[test]
fn an_old_format_is_named_even_when_it_is_shorter_than_a_header() {
    let mut bytes = [0; 30];
    bytes[16] = 1;
    assert_eq!(BatchHeader::read(&bytes), Err(HeaderError::Magic(1)));
    assert_eq!(BatchHeader::read(&bytes[..10]), Err(HeaderError::Short { have: 10, need: HEADER_LEN }));
}

#[test]
fn an_assigned_batch_keeps_its_crc_and_leaves_other_holders_of_its_bytes_alone() {
    let original = batch(3).build();
    let assigned = original.clone().assign(Offset(70), LeaderEpoch(4));
    assert_eq!(original.header().base_offset, Offset(0));
    assert_eq!(RecordBatch::check(original.bytes().clone()).unwrap().header(), original.header());
    let read = RecordBatch::check(assigned.bytes().clone()).unwrap();
    assert_eq!(read.header(), assigned.header());
    assert_eq!((read.header().base_offset, read.header().end_offset()), (Offset(70), Offset(73)));
    assert_eq!(read.header().leader_epoch, LeaderEpoch(4));
}

#[test]
fn a_small_batch_that_is_detached_keeps_nothing_of_what_it_was_cut_from() {
    let whole = Bytes::from([&batch(3).bytes()[..], &[0; 4096]].concat());
    let cut = RecordBatch::check(whole.slice(..HEADER_LEN + 21)).unwrap();
    assert!(!whole.is_unique());
    let detached = cut.detached();
    assert!(whole.is_unique());
    assert_eq!(detached.bytes(), &batch(3).bytes());
}

#[test]
fn an_end_offset_beyond_all_offsets_stays_at_the_last_one() {
    let h = batch(3).with(0, &(i64::MAX - 1).to_be_bytes()).header();
    assert_eq!(h.end_offset(), Offset(i64::MAX));
}

#[test]
fn whole_batches_are_cut_and_a_partial_one_is_left_out() {
    let (a, b) = (batch(1).bytes(), batch(2).bytes());
    let both = [&a[..], &b[..]].concat();
    for cut in 0..=both.len() {
        let found = split_batches(Bytes::copy_from_slice(&both[..cut])).unwrap();
        let whole = usize::from(cut >= a.len()) + usize::from(cut == both.len());
        assert_eq!(found.len(), whole, "cut at {cut}");
    }
    let mut broken = both;
    *broken.last_mut().unwrap() ^= 1;
    assert!(matches!(split_batches(broken.into()), Err(BatchError::Crc { .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        judge(bytes);
    }

    #[test]
    fn any_change_of_a_batch_is_judged_without_panic(at in 0..82_usize, to in any::<u8>(), cut in 0..83_usize) {
        let mut bytes = batch(3).bytes().to_vec();
        bytes[at] = to;
        bytes.truncate(cut);
        judge(bytes);
    }

    #[test]
    fn any_header_with_a_right_crc_is_judged_without_panic(header in prop::collection::vec(any::<u8>(), 40)) {
        let bytes = batch(3).with(21, &header).bytes();
        judge(bytes.to_vec());
    }

    #[test]
    fn a_flipped_bit_that_the_crc_covers_is_noticed(bit in 21 * 8..82 * 8_usize) {
        let mut bytes = batch(3).bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let noticed = matches!(RecordBatch::check(bytes.into()), Err(BatchError::Crc { .. }));
        prop_assert!(noticed);
    }

    #[test]
    fn what_is_written_is_read(
        count in 1..50_i32, id in 0..i64::MAX, epoch in 0..i16::MAX, sequence in 0..i32::MAX, base in 0..i64::MAX / 2,
    ) {
        let built = batch(count).producer(id, epoch, sequence).build().assign(Offset(base), LeaderEpoch(3));
        let read = RecordBatch::check(built.bytes().clone()).unwrap();
        prop_assert_eq!(read.header(), built.header());
        prop_assert_eq!(read.header().producer_id, Some(ProducerId(id)));
        prop_assert_eq!(read.header().end_offset(), Offset(base + i64::from(count)));
    }
}

/// Asks everything of bytes that may be anything.
fn judge(bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    if let Ok(h) = BatchHeader::read(&bytes) {
        assert!(h.total_len >= HEADER_LEN);
        let _ = (h.end_offset(), h.last_sequence(), h.compression(), h.timestamp_type());
    }
    let _ = split_batches(bytes.clone());
    if let Ok(batch) = RecordBatch::check(bytes.clone()) {
        let _ = batch.assign(Offset(i64::MAX), LeaderEpoch(i32::MAX)).header().end_offset();
    }
    if let Ok(batch) = RecordBatch::validate(bytes, LIMITS) {
        assert!(batch.header().record_count > 0);
        assert!(batch.header().last_sequence() >= 0 || batch.header().producer_id.is_none());
    }
}
