//! Sequences as producers number them.

use super::*;
use crate::record::testing::BatchBuilder;
use proptest::prelude::*;

fn header(id: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchBuilder::new(count).producer(id, epoch, sequence).header()
}

/// No producer is older than the topic.
const NONE_OLDER: ProducerId = ProducerId(0);

/// A log that grows batch by batch.
#[derive(Default)]
struct Log {
    producers: Producers,
    end: i64,
}

impl Log {
    fn append(&mut self, mut header: BatchHeader) -> &mut Self {
        header.base_offset = Offset(self.end);
        self.end = header.end_offset().0;
        self.producers.observe(&header);
        assert!(self.producers.valid(Offset(self.end)));
        self
    }
}

#[test]
fn the_next_batch_continues_the_sequence() {
    let mut log = Log::default();
    log.append(header(1, 0, 0, 3));
    let offsets = |range: Range<i64>| Check::Duplicate(Offset(range.start)..Offset(range.end));
    // (epoch, base sequence, records, expected)
    for (epoch, sequence, count, expected) in [
        (0, 3, 1, Check::New),
        (0, 4, 1, Check::OutOfOrder),
        (0, 0, 3, offsets(0..3)),
        (0, 0, 2, Check::OutOfOrder),
        (0, 1, 2, Check::OutOfOrder),
        (1, 0, 1, Check::New),
        (1, 3, 1, Check::OutOfOrder),
    ] {
        let check = log.producers.check(&header(1, epoch, sequence, count), NONE_OLDER);
        assert_eq!(check, expected, "epoch {epoch}, {count} records from {sequence}");
    }
    log.append(header(1, 1, 0, 1));
    assert_eq!(log.producers.check(&header(1, 0, 3, 1), NONE_OLDER), Check::Fenced);
}

#[test]
fn the_sequence_wraps_to_zero() {
    let mut log = Log::default();
    log.producers.log_start_moved();
    log.append(header(1, 0, i32::MAX - 1, 2));
    assert_eq!(log.producers.check(&header(1, 0, 0, 1), NONE_OLDER), Check::New);
    log.append(header(1, 0, 0, 1)).append(header(1, 0, 1, 1));
    assert_eq!(log.producers.check(&header(1, 0, i32::MAX - 1, 2), NONE_OLDER), Check::Duplicate(Offset(0)..Offset(2)));
    assert_eq!(
        log.producers.check(&header(1, 0, i32::MAX - 3, 2), NONE_OLDER),
        Check::OutOfOrder,
        "it may never have come"
    );
}

#[test]
fn five_batches_are_remembered() {
    let mut log = Log::default();
    for n in 0..6 {
        log.append(header(1, 0, n, 1));
    }
    assert_eq!(log.producers.check(&header(1, 0, 1, 1), NONE_OLDER), Check::Duplicate(Offset(1)..Offset(2)));
    assert_eq!(log.producers.check(&header(1, 0, 0, 1), NONE_OLDER), Check::OldDuplicate { before: Offset(1) });
}

#[test]
fn an_unknown_producer_starts_at_zero_unless_it_may_have_been_forgotten() {
    let mut log = Log::default();
    assert_eq!(log.producers.check(&header(1, 0, 0, 1), NONE_OLDER), Check::New);
    assert_eq!(log.producers.check(&header(1, 0, 4, 1), NONE_OLDER), Check::OutOfOrder);
    log.producers.log_start_moved();
    assert_eq!(log.producers.check(&header(1, 0, 4, 1), NONE_OLDER), Check::Unknown);
}

/// A topic was deleted and made again while they wrote.
#[test]
fn an_unknown_producer_that_is_older_than_the_topic_goes_on_where_it_is() {
    let mut log = Log::default();
    assert_eq!(log.producers.check(&header(7, 0, 4, 1), ProducerId(8)), Check::Unknown);
    assert_eq!(log.producers.check(&header(8, 0, 4, 1), ProducerId(8)), Check::OutOfOrder, "it is not older");
    log.append(header(7, 0, 4, 1));
    assert_eq!(log.producers.check(&header(7, 0, 5, 1), ProducerId(8)), Check::New);
    assert_eq!(log.producers.check(&header(7, 0, 7, 1), ProducerId(8)), Check::OutOfOrder, "it is known now");
}

#[test]
fn the_one_that_has_not_written_for_longest_is_forgotten_first() {
    let mut log = Log::default();
    for id in 0..MAX_PRODUCERS as i64 {
        log.append(header(id, 0, 0, 1));
    }
    log.append(header(0, 0, 1, 1)).append(header(-1, 0, 0, 1)).append(header(1_000_000, 0, 0, 1));
    assert_eq!(log.producers.len(), MAX_PRODUCERS);
    assert_eq!(log.producers.check(&header(0, 0, 2, 1), NONE_OLDER), Check::New);
    assert_eq!(log.producers.check(&header(1, 0, 0, 1), NONE_OLDER), Check::New, "forgotten");
    assert!(matches!(log.producers.check(&header(2, 0, 0, 1), NONE_OLDER), Check::Duplicate(_)));
    assert_eq!(
        log.producers.check(&header(1, 0, 1, 1), NONE_OLDER),
        Check::Unknown,
        "it may be the one that was forgotten"
    );
    assert_eq!(log.producers.check(&header(2_000_000, 0, 1, 1), NONE_OLDER), Check::OutOfOrder, "it was never known");
}

proptest! {
    #[test]
    fn every_batch_is_let_in_once_however_it_is_retried(
        counts in prop::collection::vec(1..4_i32, 1..30),
        start in prop_oneof![Just(0), Just(i32::MAX - 20)],
        retries in prop::collection::vec(0..5_usize, 30),
    ) {
        let mut log = Log::default();
        if start > 0 {
            log.producers.log_start_moved();
        }
        let mut written: Vec<BatchHeader> = Vec::new();
        let mut next = start;
        for (count, retry) in counts.into_iter().zip(retries) {
            let batch = header(1, 0, next, count);
            let expected = if next == start && start > 0 { Check::Unknown } else { Check::New };
            prop_assert_eq!(log.producers.check(&batch, NONE_OLDER), expected);
            log.append(batch);
            written.push(batch);
            next = batch.last_sequence().wrapping_add(1) & i32::MAX;
            if let Some(old) = written.iter().rev().nth(retry) {
                prop_assert!(matches!(log.producers.check(old, NONE_OLDER), Check::Duplicate(_)));
            }
        }
    }
}
