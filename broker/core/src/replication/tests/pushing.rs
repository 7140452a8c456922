//! What is sent to followers, and when it has to be read first.

use super::bench::{Bench, batch, batch_at, log, state};
use crate::ids::{BrokerId, Offset};
use crate::record::testing::BatchBuilder;
use crate::replication::*;

fn read_done(b: &mut Bench, follower: i32, batches: Vec<crate::record::RecordBatch>) -> Vec<String> {
    let from = batches.first().map_or(Offset(3), |first| first.header().base_offset);
    b.step(Event::ReadDone { follower: BrokerId(follower), stream: StreamId(1), from, batches })
}

/// Leader of five records in one batch each, of which it has pushed none.
fn with_a_log() -> Bench {
    let mut b = Bench::new(log(5, &[(1, 0)]));
    b.metadata(1, (1, 1), &[1, 2, 3]);
    b
}

#[test]
fn a_follower_that_is_behind_is_served_by_reads_until_it_is_at_the_tail() {
    let mut b = with_a_log();
    assert_eq!(b.subscribe(2, 1, 1, 3, Some(1)), ["to 2 s1 e1: started hw 0", "read for 2 from 3 max 400"]);
    assert_eq!(b.produce(1, batch(1)), ["append 5..6 e1"], "not pushed out of order");
    assert_eq!(
        read_done(&mut b, 2, vec![batch_at(3, 1, 1), batch_at(4, 1, 1)]),
        ["to 2 s1 e1: 3..5 hw 0", "read for 2 from 5 max 358"]
    );
    assert_eq!(read_done(&mut b, 2, vec![batch_at(5, 1, 1)]), ["to 2 s1 e1: 5..6 hw 0"]);
    assert_eq!(b.produce(2, batch(1)), ["append 6..7 e1", "to 2 s1 e1: 6..7 hw 0"]);
}

#[test]
fn a_full_window_waits_for_the_followers_append() {
    let mut b = Bench::leading();
    let large = || BatchBuilder::new(1).payload(300).build();
    assert_eq!(b.produce(1, large()).len(), 3);
    assert_eq!(b.produce(2, large()), ["append 1..2 e1"], "480 bytes may be on their way");
    assert_eq!(b.ack(2, 1, 1, 0), ["read for 2 from 1 max 400"]);
    assert_eq!(b.ack(3, 1, 0, 0), ["read for 3 from 1 max 119"]);
}

#[test]
fn what_the_connection_refuses_is_sent_again_when_there_is_room() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.step(Event::SendRefused { follower: BrokerId(2), stream: StreamId(1), from: Offset(0) });
    assert_eq!(b.produce(2, batch(1)), ["append 1..2 e1", "to 3 s1 e1: 1..2 hw 0"]);
    let writable = Event::Writable { follower: BrokerId(2), stream: StreamId(1) };
    assert_eq!(b.step(writable), ["read for 2 from 0 max 400"]);
}

/// The read was made of a log that was cut back since, and went on otherwise. The connection, and its stream, are still
/// the same.
#[test]
fn what_was_read_in_a_former_leadership_is_not_sent_in_a_later_one() {
    let mut b = with_a_log();
    assert_eq!(b.subscribe(2, 1, 1, 3, Some(1)), ["to 2 s1 e1: started hw 0", "read for 2 from 3 max 400"]);
    b.metadata(3, (2, 2), &[1, 2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(3), stream: StreamId(1) });
    b.leader_says(2, 1, LeaderMessage::Diverged { epoch: crate::ids::LeaderEpoch(1), end: Offset(3) });
    b.step(Event::Truncated { log: log(3, &[(1, 0)]) });
    b.metadata(1, (3, 3), &[1, 2, 3]);
    assert_eq!(b.produce(1, batch(2)), ["append 3..5 e3"]);
    assert_eq!(b.subscribe(2, 3, 1, 3, Some(1)), ["to 2 s1 e3: started hw 0", "read for 2 from 3 max 400"]);
    assert_eq!(read_done(&mut b, 2, vec![batch_at(3, 1, 1), batch_at(4, 1, 1)]), [""; 0]);
    assert_eq!(b.step(Event::Tick), ["read for 2 from 3 max 400"]);
    assert_eq!(read_done(&mut b, 2, vec![batch_at(3, 2, 3)]), ["to 2 s1 e3: 3..5 hw 0"]);
}

#[test]
fn a_read_that_brings_nothing_or_something_else_is_tried_again_later() {
    let mut b = with_a_log();
    b.subscribe(2, 1, 1, 3, Some(1));
    assert_eq!(read_done(&mut b, 2, vec![]), [""; 0]);
    assert_eq!(b.step(Event::Tick), ["read for 2 from 3 max 400"]);
    let wrong = vec![batch_at(2, 1, 1)];
    let read = Event::ReadDone { follower: BrokerId(2), stream: StreamId(1), from: Offset(3), batches: wrong };
    assert_eq!(b.step(read), [""; 0]);
    assert_eq!(b.step(Event::Tick), ["read for 2 from 3 max 400"]);
    let other = Event::ReadDone {
        follower: BrokerId(2),
        stream: StreamId(9),
        from: Offset(3),
        batches: vec![batch_at(3, 1, 1)],
    };
    assert_eq!(b.step(other), [""; 0]);
}

/// A follower subscribes anew on the same connection, as its disk had no room for what was sent.
#[test]
fn what_was_read_for_a_former_subscription_does_not_end_the_read_for_the_newer_one() {
    let mut b = with_a_log();
    assert_eq!(b.subscribe(2, 1, 1, 2, Some(1))[1..], ["read for 2 from 2 max 400"]);
    assert_eq!(b.subscribe(2, 1, 1, 3, Some(1))[1..], ["read for 2 from 3 max 400"]);
    assert_eq!(read_done(&mut b, 2, vec![batch_at(2, 1, 1)]), [""; 0]);
    assert_eq!(b.step(Event::Tick), [""; 0], "one read at a time");
    assert_eq!(b.produce(1, batch(1)), ["append 5..6 e1"]);
    let read = read_done(&mut b, 2, vec![batch_at(3, 1, 1), batch_at(4, 1, 1)]);
    assert_eq!(read, ["to 2 s1 e1: 3..5 hw 0", "read for 2 from 5 max 358"]);
}

#[test]
fn a_gap_is_sent_with_where_it_begins() {
    let mut b = Bench::new(log(300_002, &[(1, 0)]));
    b.metadata(1, (1, 1), &[1, 2, 3]);
    b.subscribe(2, 1, 1, 3, Some(1));
    let batches = vec![batch_at(300_000, 2, 1)];
    let read = Event::ReadDone { follower: BrokerId(2), stream: StreamId(1), from: Offset(3), batches };
    assert_eq!(b.step(read), ["to 2 s1 e1: after 3 300000..300002 hw 0"]);
}

#[test]
fn followers_hear_of_the_high_watermark_with_batches_or_with_the_next_tick() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.durable(1);
    b.both_ack(1);
    assert_eq!(b.step(Event::Tick), ["to 2 s1 e1: hw 1", "to 3 s1 e1: hw 1"]);
    assert_eq!(b.step(Event::Tick), [""; 0]);
    assert_eq!(b.produce(2, batch(1)).last().unwrap(), "to 3 s1 e1: 1..2 hw 1");
}

/// Leader of one record that it has sent to both followers, and of which nothing is committed. Follower 2 is not in sync, and
/// is about to stop, so that nothing waits for it.
fn leading_without_2() -> Bench {
    let mut b = Bench::leading();
    let stopping = vec![BrokerId(2)];
    b.step(Event::Metadata(PartitionState { stopping, ..state(1, (1, 2), &[1, 3], &[]) }));
    assert!(b.produce(1, batch(1)).contains(&"to 2 s1 e1: 0..1 hw 0".to_owned()));
    b
}

/// The other one has it, so that it is committed.
fn committed_without_2(b: &mut Bench) {
    b.durable(1);
    b.ack(3, 1, 1, 1);
    assert_eq!(b.replica.status().committed, Offset(1));
}

/// What is said to follower 2 within so many tenths of a second.
fn said_to_2(b: &mut Bench, ticks: u32) -> Vec<String> {
    let said = (0..ticks).flat_map(|_| b.after(100).step(Event::Tick)).filter(|said| said.starts_with("to 2 "));
    said.collect()
}

/// These messages take no credit: nothing else bounds how many of them wait for a connection.
#[test]
fn who_has_not_taken_what_was_sent_hears_of_the_high_watermark_when_it_has() {
    let mut b = leading_without_2();
    committed_without_2(&mut b);
    assert_eq!(said_to_2(&mut b, 9), [""; 0], "it is on its way");
    b.ack(2, 1, 1, 1);
    assert_eq!(said_to_2(&mut b, 9), ["to 2 s1 e1: hw 1"]);
    let mut b = leading_without_2();
    committed_without_2(&mut b);
    assert_eq!(said_to_2(&mut b, 9), [""; 0], "it is on its way");
    assert_eq!(said_to_2(&mut b, 30), ["to 2 s1 e1: hw 1"], "its disk may have no room, and it is read from");
    let mut b = leading_without_2();
    b.step(Event::SendRefused { follower: BrokerId(2), stream: StreamId(1), from: Offset(0) });
    committed_without_2(&mut b);
    assert_eq!(said_to_2(&mut b, 100), [""; 0], "the connection has no room");
    let writable = Event::Writable { follower: BrokerId(2), stream: StreamId(1) };
    assert_eq!(b.step(writable), ["read for 2 from 0 max 400"]);
    let read = Event::ReadDone {
        follower: BrokerId(2),
        stream: StreamId(1),
        from: Offset(0),
        batches: vec![batch_at(0, 1, 1)],
    };
    assert_eq!(b.step(read), ["to 2 s1 e1: 0..1 hw 1"], "the batch says it");
    b.ack(2, 1, 1, 1);
    assert_eq!(said_to_2(&mut b, 100), [""; 0]);
}

/// Its disk may have no room before it removes what was deleted.
#[test]
fn who_has_not_taken_what_was_sent_hears_of_a_start_that_has_moved() {
    let mut b = leading_without_2();
    committed_without_2(&mut b);
    let start = Offset(1);
    assert_eq!(b.step(Event::AdvanceStart { to: start }), ["advance start 1"]);
    b.step(Event::StartAdvanced { start, first_batch: start, damaged: None });
    assert_eq!(said_to_2(&mut b, 100), ["to 2 s1 e1: hw 1 start 1"]);
}

#[test]
fn a_diverged_log_gets_the_offset_to_truncate_to() {
    let mut b = Bench::new(log(9, &[(1, 0), (2, 5), (4, 7)]));
    b.metadata(1, (5, 1), &[1, 2, 3]);
    // (follower's log end, its last epoch, answer)
    for (end, last, answer) in [
        (9, Some(4), "started hw 0"),
        (8, Some(4), "started hw 0"),
        (10, Some(4), "diverged e4 9"),
        (8, Some(3), "diverged e2 7"),
        (6, Some(3), "diverged e2 7"),
        (7, Some(2), "started hw 0"),
        (8, Some(2), "diverged e2 7"),
        (5, Some(1), "started hw 0"),
        (6, Some(1), "diverged e1 5"),
        (1, Some(0), "diverged e0 0"),
        (0, None, "started hw 0"),
        (10, Some(6), "diverged e5 9"),
    ] {
        assert_eq!(b.subscribe(2, 5, 1, end, last)[0], format!("to 2 s1 e5: {answer}"), "{end} {last:?}");
    }
}

#[test]
fn an_older_stream_is_ignored_even_when_the_newer_one_is_gone() {
    let mut b = Bench::leading();
    b.subscribe(2, 1, 5, 0, None);
    b.step(Event::StreamClosed { follower: BrokerId(2), stream: StreamId(1) });
    assert_eq!(b.produce(1, batch(1))[1], "to 2 s5 e1: 0..1 hw 0", "the end of an older stream is nothing");
    b.step(Event::StreamClosed { follower: BrokerId(2), stream: StreamId(5) });
    assert_eq!(b.subscribe(2, 1, 4, 0, None), [""; 0]);
    assert_eq!(b.subscribe(2, 1, 6, 1, Some(1))[0], "to 2 s6 e1: started hw 0");
}

#[test]
fn of_two_subscriptions_that_come_too_early_the_newer_one_counts() {
    let mut b = Bench::new(log(0, &[]));
    assert_eq!(b.subscribe(2, 7, 2, 0, None), [""; 0]);
    assert_eq!(b.subscribe(2, 7, 1, 0, None), [""; 0], "its connection was replaced");
    b.step(Event::StreamClosed { follower: BrokerId(2), stream: StreamId(1) });
    let out = b.metadata(1, (7, 1), &[1, 2, 3]);
    assert!(out.contains(&"to 2 s2 e7: started hw 0".to_owned()), "{out:?}");
    // The same connection has seen a newer election.
    assert_eq!(b.subscribe(2, 8, 2, 0, None), [""; 0]);
    assert_eq!(b.subscribe(2, 9, 2, 0, None), [""; 0]);
    let out = b.metadata(1, (9, 2), &[1, 2, 3]);
    assert!(out.contains(&"to 2 s2 e9: started hw 0".to_owned()), "{out:?}");
}
