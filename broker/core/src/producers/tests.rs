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
fn no_partition_tells_more_of_its_producers_than_fits_a_frame() {
    let mut log = Log::default();
    for id in 0..MAX_PRODUCERS as i64 + 5 {
        for sequence in 0..7 {
            log.append(header(id, 0, sequence, 1));
        }
    }
    let mut bytes = Vec::new();
    log.producers.encode(&mut bytes);
    assert_eq!(bytes.len(), MAX_ENCODED_LEN);
    assert_eq!(bytes.len(), log.producers.encoded_len());
}

#[test]
fn what_compaction_has_to_leave_is_known_again_when_what_is_not_committed_is_cut_off() {
    let mut log = Log::default();
    log.append(header(1, 0, 0, 2)).append(header(2, 0, 0, 2)).append(header(1, 0, 2, 2)).append(header(2, 0, 2, 1));
    let ends = |log: &Log, high_watermark: i64| {
        let mut ends: Vec<_> = log.producers.last_batches(Offset(high_watermark)).map(|end| end.0).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    };
    assert_eq!(ends(&log, 7), [6, 7]);
    assert_eq!(ends(&log, 6), [4, 6, 7]);
    assert_eq!(ends(&log, 4), [2, 4, 6, 7]);
    assert_eq!(ends(&log, 0), [6, 7]);
    // As many in flight as there may be: the last one before them is still known.
    for sequence in 4..9 {
        log.append(header(1, 0, sequence, 1));
    }
    assert_eq!(ends(&log, 7), [6, 7, 12]);
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
fn six_batches_are_remembered() {
    let mut log = Log::default();
    for n in 0..7 {
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

fn stamped(id: i64, sequence: i32, timestamp: i64) -> BatchHeader {
    BatchBuilder::new(1).producer(id, 0, sequence).timestamps(timestamp, timestamp).header()
}

#[test]
fn who_has_not_written_for_long_is_forgotten_by_the_clock_of_the_log() {
    let mut log = Log { producers: Producers::new(1_000), end: 0 };
    log.append(stamped(1, 0, 10_000)).append(stamped(2, 0, 500)).append(stamped(3, 0, 10_999));
    assert_eq!(log.producers.len(), 3, "one that writes old timestamps has written now all the same");
    log.append(stamped(4, 0, 11_000));
    assert_eq!(log.producers.iter().map(|p| p.id.0).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(log.producers.check(&stamped(1, 1, 0), NONE_OLDER), Check::Unknown, "it may go on");
    assert_eq!(log.producers.check(&stamped(5, 1, 0), NONE_OLDER), Check::OutOfOrder, "it was never known");
    // A batch without a producer moves the clock as well, and one that was forgotten begins anew.
    log.append(BatchBuilder::new(1).timestamps(12_000, 12_000).header()).append(stamped(1, 7, 12_001));
    assert_eq!(log.producers.iter().map(|p| (p.id.0, p.last_sequence)).collect::<Vec<_>>(), [(1, 7)]);
}

#[test]
fn memory_is_counted() {
    let mut log = Log::default();
    assert_eq!(log.producers.memory(), 0);
    for id in 0..100 {
        log.append(header(id, 0, 0, 1));
    }
    let once = log.producers.memory();
    for sequence in 1..20 {
        log.append(header(7, 0, sequence, 1));
    }
    assert!(log.producers.memory() > once && log.producers.memory() < once + 1_000, "six batches are remembered");
    log.producers.bound(10);
    assert_eq!(log.producers.len(), 10);
    assert!(log.producers.memory() < once);
    assert_eq!(log.producers.check(&header(7, 0, 20, 1), NONE_OLDER), Check::New, "it wrote last");
    assert_eq!(log.producers.check(&header(2, 0, 1, 1), NONE_OLDER), Check::Unknown);
}

#[test]
fn bytes_that_are_no_producers_are_refused() {
    let mut log = Log::default();
    log.append(header(1, 0, 0, 1)).append(header(2, 0, 0, 1)).append(header(1, 0, 1, 1));
    let mut bytes = Vec::new();
    log.producers.encode(&mut bytes);
    assert_eq!(bytes.len(), log.producers.encoded_len());
    assert_eq!(Producers::decode(&bytes, DEFAULT_EXPIRATION_MS), Some(log.producers));
    for len in 0..bytes.len() {
        assert_eq!(Producers::decode(&bytes[..len], DEFAULT_EXPIRATION_MS), None, "{len} bytes");
    }
    // Nothing is allocated beyond what is there.
    bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Producers::decode(&bytes, DEFAULT_EXPIRATION_MS), None);
}

proptest! {
    #[test]
    fn a_snapshot_and_what_came_after_it_are_the_whole(
        batches in prop::collection::vec((0..6_i64, 0..3_i16, 1..4_i32), 1..60),
        snapshot in 0..60_usize,
        later_from in 0..60_usize,
    ) {
        let mut next = std::collections::BTreeMap::new();
        let (mut whole, mut end) = (Producers::default(), 0);
        let (mut taken, mut later) = (Producers::default(), Producers::default());
        let later_from = later_from.min(snapshot);
        for (n, (id, epoch, count)) in batches.iter().enumerate() {
            let (last_epoch, sequence) = next.entry(*id).or_insert((0_i16, 0_i32));
            if *epoch > *last_epoch {
                (*last_epoch, *sequence) = (*epoch, 0);
            }
            let mut batch = header(*id, *last_epoch, *sequence, *count);
            *sequence += count;
            batch.base_offset = Offset(end);
            end = batch.end_offset().0;
            whole.observe(&batch);
            if n < snapshot {
                taken.observe(&batch);
            }
            // It may overlap with the snapshot.
            if n >= later_from {
                later.observe(&batch);
            }
        }
        let mut bytes = Vec::new();
        taken.encode(&mut bytes);
        let mut restored = Producers::decode(&bytes, DEFAULT_EXPIRATION_MS).expect("it was just encoded");
        restored.extend(&later);
        prop_assert!(restored.valid(Offset(end)));
        prop_assert_eq!(restored, whole);
    }

    #[test]
    fn a_snapshot_and_what_came_after_it_forget_the_same_producers_as_the_whole(
        batches in prop::collection::vec((0..5_i64, 0..4_000_i64), 1..60),
        snapshot in 0..60_usize,
    ) {
        const EXPIRATION_MS: i64 = 1_000;
        let (mut whole, mut taken, mut later) =
            (Producers::new(EXPIRATION_MS), Producers::new(EXPIRATION_MS), Producers::of_part());
        let mut next = [0; 5];
        for (n, (id, timestamp)) in batches.iter().enumerate() {
            // Timestamps go back: they are what the client says.
            let mut batch = stamped(*id, next[*id as usize], *timestamp);
            next[*id as usize] += 1;
            batch.base_offset = Offset(n as i64);
            whole.observe(&batch);
            if n < snapshot { &mut taken } else { &mut later }.observe(&batch);
        }
        taken.extend(&later);
        let states = |p: &Producers| p.iter().map(|p| (p.id, p.last_sequence)).collect::<Vec<_>>();
        prop_assert_eq!(states(&taken), states(&whole));
        for (id, sequence) in (0..).zip(next) {
            let batch = stamped(id, sequence, 0);
            prop_assert_eq!(taken.check(&batch, NONE_OLDER), whole.check(&batch, NONE_OLDER));
        }
    }

    #[test]
    fn what_was_known_before_an_offset_becomes_the_whole_by_what_follows(
        ids in prop::collection::vec(0..4_i64, 1..40),
        at in 0..40_i64,
    ) {
        let mut next = [0; 4];
        let headers: Vec<BatchHeader> = ids.iter().enumerate().map(|(n, id)| {
            let mut batch = header(*id, 0, next[*id as usize], 1);
            next[*id as usize] += 1;
            batch.base_offset = Offset(n as i64);
            batch
        }).collect();
        let mut whole = Producers::default();
        for batch in &headers {
            whole.observe(batch);
        }
        let mut copy = whole.before(Offset(at));
        for batch in headers.iter().filter(|batch| batch.base_offset.0 >= at) {
            copy.observe(batch);
        }
        // Of one that wrote much since, it is not known that it did so from its first batch on.
        let states = |p: &Producers| p.iter().collect::<Vec<_>>();
        prop_assert_eq!(states(&copy), states(&whole));
        for batch in &headers {
            let known = |p: &Producers| matches!(p.check(batch, NONE_OLDER), Check::Duplicate(_));
            prop_assert_eq!(known(&copy), known(&whole));
        }
    }
}
