//! Retries of idempotent producers.

use super::bench::{Bench, log, state};
use crate::ids::{Offset, ProducerId};
use crate::record::RecordBatch;
use crate::record::testing::BatchBuilder;
use crate::replication::*;

fn sequence(base: i32, count: i32) -> RecordBatch {
    BatchBuilder::new(count).producer(5, 0, base).build()
}

#[test]
fn a_retry_of_a_pending_batch_waits_for_its_outcome() {
    let mut b = Bench::leading();
    b.produce(1, sequence(0, 2));
    assert_eq!(b.produce(2, sequence(0, 2)), [""; 0]);
    b.durable(2);
    assert_eq!(b.both_ack(2), ["wake", "reply 1 at 0", "reply 2 at 0"]);
    assert_eq!(b.replica.log_end(), Offset(2));
}

#[test]
fn a_retry_of_a_committed_batch_gets_its_old_offset() {
    let mut b = Bench::leading();
    b.produce(1, sequence(0, 2));
    b.produce(2, sequence(2, 1));
    b.durable(3);
    b.both_ack(3);
    assert_eq!(b.produce(3, sequence(0, 2)), ["reply 3 at 0"]);
    assert_eq!(b.produce(4, sequence(2, 1)), ["reply 4 at 2"]);
}

#[test]
fn a_retry_at_the_next_leader_waits_until_it_is_committed_there() {
    let mut b = Bench::leading();
    b.produce(1, sequence(0, 2));
    b.durable(2);
    b.metadata(1, (2, 2), &[1, 2]);
    assert_eq!(b.produce(2, sequence(0, 2)), [""; 0], "in the log is not committed");
    b.subscribe(2, 2, 2, 2, Some(1));
    let ack = FollowerMessage::Ack { appended: Offset(2), durable: Offset(2), log_start: None };
    assert_eq!(b.follower_says(2, 2, 2, ack), ["wake", "reply 2 at 0"]);
}

#[test]
fn a_retry_waits_for_its_outcome_however_few_are_in_sync() {
    let mut b = Bench::leading();
    b.produce(1, sequence(0, 1));
    b.metadata(1, (1, 2), &[1]);
    let answered = b.produce(2, sequence(0, 1)).iter().any(|c| c.starts_with("reply"));
    assert!(!answered, "refused, it would be written a second time under another epoch");
}

#[test]
fn what_follows_a_refused_batch_is_refused_as_that_was_until_that_is_taken() {
    let mut b = Bench::leading();
    b.produce(1, sequence(0, 1));
    b.metadata(1, (1, 2), &[1]);
    assert!(b.produce(2, sequence(1, 1)).contains(&"reply 2 NotEnoughReplicas".into()));
    b.metadata(1, (1, 3), &[1, 2]);
    assert_eq!(b.produce(3, sequence(2, 1)), ["reply 3 NotEnoughReplicas"]);
    assert_eq!(b.produce(4, sequence(1, 1))[0], "append 1..2 e1");
    assert_eq!(b.produce(5, sequence(2, 1))[0], "append 2..3 e1");
    assert_eq!(
        b.after(5_000).produce(6, sequence(5, 1)),
        ["reply 6 OutOfOrderSequence"],
        "a gap of the producer's own making"
    );
}

#[test]
fn what_was_refused_before_a_leadership_began_makes_no_gap_in_it() {
    let mut b = Bench::new(log(0, &[]));
    b.metadata(2, (1, 1), &[1, 2, 3]);
    assert_eq!(b.produce(1, sequence(0, 1)), ["reply 1 NotLeader"]);
    b.metadata(1, (2, 2), &[1, 2]);
    // Sent before its producer has read the refusal.
    assert_eq!(b.produce(2, sequence(1, 1)), ["reply 2 NotLeader"]);
    assert_eq!(b.produce(3, sequence(0, 1))[0], "append 0..1 e2");
    assert_eq!(b.produce(4, sequence(2, 1)), ["reply 4 NotLeader"]);
    assert_eq!(b.produce(5, sequence(1, 1))[0], "append 1..2 e2");
    assert_eq!(b.after(5_000).produce(6, sequence(9, 1)), ["reply 6 OutOfOrderSequence"]);
}

#[test]
fn a_gap_or_an_older_incarnation_is_refused() {
    let mut b = Bench::leading();
    b.after(5_000).produce(1, sequence(0, 2));
    assert_eq!(b.produce(2, sequence(3, 1)), ["reply 2 OutOfOrderSequence"]);
    let epoch_1 = |base| BatchBuilder::new(1).producer(5, 1, base).build();
    assert_eq!(b.produce(3, epoch_1(1)), ["reply 3 OutOfOrderSequence"], "a new epoch starts at 0");
    assert_eq!(b.produce(4, epoch_1(0))[0], "append 2..3 e1");
    assert_eq!(b.produce(5, sequence(2, 1)), ["reply 5 InvalidProducerEpoch"]);
}

#[test]
fn an_older_duplicate_than_is_remembered_is_only_called_so_when_it_is_committed() {
    let mut b = Bench::leading();
    for n in 0..7 {
        b.produce(n, sequence(n as i32, 1));
        b.durable(n as i64 + 1);
        b.both_ack(0);
    }
    assert_eq!(b.produce(10, sequence(0, 1)), ["reply 10 OutOfOrderSequence"]);
    b.both_ack(7);
    assert_eq!(b.produce(11, sequence(0, 1)), ["reply 11 DuplicateSequence"]);
    assert_eq!(b.produce(12, sequence(2, 1)), ["reply 12 at 2"]);
}

/// A leader that has forgotten producers.
fn forgetful() -> Bench {
    let mut log = log(0, &[]);
    log.producers.log_start_moved();
    let mut b = Bench::new(log);
    b.metadata(1, (1, 1), &[1, 2, 3]);
    for follower in [2, 3] {
        b.subscribe(follower, 1, 1, 0, None);
    }
    b.after(5_000);
    b
}

#[test]
fn what_follows_a_refused_batch_is_not_taken_for_the_first_of_a_forgotten_producer() {
    let mut b = forgetful();
    b.metadata(1, (1, 2), &[1]);
    assert_eq!(b.produce(1, sequence(0, 1)), ["reply 1 NotEnoughReplicas"]);
    b.metadata(1, (1, 3), &[1, 2]);
    assert_eq!(b.produce(2, sequence(1, 1)), ["reply 2 NotEnoughReplicas"]);
    assert_eq!(b.produce(3, sequence(0, 1))[0], "append 0..1 e1");
    assert_eq!(b.produce(4, sequence(1, 1))[0], "append 1..2 e1");
}

#[test]
fn what_came_before_the_first_known_batch_is_not_called_a_duplicate() {
    let mut b = forgetful();
    assert_eq!(b.produce(1, sequence(1, 1))[0], "append 0..1 e1", "its producer may have been forgotten");
    b.durable(1);
    b.both_ack(1);
    assert_eq!(b.replica.high_watermark(), Some(Offset(1)));
    assert_eq!(
        b.after(5_000).produce(2, sequence(0, 1)),
        ["reply 2 OutOfOrderSequence"],
        "nobody knows whether it is in the log"
    );
}

#[test]
fn who_does_not_wait_any_more_is_not_answered() {
    let mut b = Bench::leading();
    b.produce(1, sequence(0, 1));
    b.produce(2, sequence(0, 1));
    b.step(Event::Abandoned { tickets: [Ticket(1)].into() });
    b.durable(1);
    assert_eq!(b.both_ack(1), ["wake", "reply 2 at 0"]);
}

/// Leader of a partition's first epoch, whose topic was created when ids below 8 had been given out.
fn made_again() -> Bench {
    let mut b = Bench::new(log(0, &[]));
    b.step(Event::Metadata(PartitionState { older_producers: ProducerId(8), ..state(1, (0, 1), &[1, 2, 3], &[]) }));
    b
}

#[test]
fn a_producer_goes_on_in_a_topic_that_was_deleted_and_made_again_under_it() {
    let mut b = made_again();
    b.after(60);
    assert_eq!(b.produce(1, sequence(7, 2))[0], "append 0..2 e0");
    assert_eq!(b.produce(2, sequence(9, 1))[0], "append 2..3 e0");
    let younger = BatchBuilder::new(1).producer(8, 0, 3).build();
    assert_eq!(b.after(5_000).produce(3, younger), ["reply 3 OutOfOrderSequence"], "it began with 0, which is lost");
}

#[test]
fn what_was_sent_after_a_refusal_for_want_of_a_topic_is_not_taken_for_the_first() {
    let mut b = made_again();
    assert_eq!(b.produce(1, sequence(8, 1)), ["reply 1 NotLeader"], "7 was refused a moment ago");
    assert_eq!(b.after(60).produce(2, sequence(7, 1))[0], "append 0..1 e0");
    assert_eq!(b.produce(3, sequence(8, 1))[0], "append 1..2 e0");
}

#[test]
fn at_a_failover_an_unknown_producer_waits_until_what_was_refused_before_has_come() {
    let mut b = made_again();
    b.step(Event::Metadata(PartitionState { older_producers: ProducerId(8), ..state(1, (1, 2), &[1, 2, 3], &[]) }));
    assert_eq!(b.after(60).produce(1, sequence(1, 1)), ["reply 1 NotLeader"]);
    assert_eq!(b.produce(2, sequence(0, 1))[0], "append 0..1 e1");
}
