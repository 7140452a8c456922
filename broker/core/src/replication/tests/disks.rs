//! Disks that are full, and disks that stand still.

use super::bench::{Bench, batch, batch_at, log};
use crate::ids::{BrokerId, Offset, PartitionEpoch};
use crate::record::testing::BatchBuilder;
use crate::replication::*;

fn following() -> Bench {
    let mut b = Bench::new(log(0, &[]));
    b.metadata(2, (1, 1), &[1, 2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(7) });
    b.leader_says(1, 7, LeaderMessage::Started { high_watermark: Offset(0), log_start: Offset(0) });
    b
}

fn batches(base: i64, high_watermark: i64) -> LeaderMessage {
    let batches = vec![batch_at(base, 1, 1)];
    LeaderMessage::Batches { from: Offset(base), batches, high_watermark: Offset(high_watermark), log_start: Offset(0) }
}

#[test]
fn a_leader_whose_disk_is_full_refuses_before_anything_is_written() {
    let mut b = Bench::leading();
    b.step(Event::Room(false));
    assert_eq!(b.produce(1, batch(1)), ["reply 1 NoRoom"]);
    assert_eq!(b.replica.log_end(), Offset(0));
    b.step(Event::Room(true));
    assert_eq!(b.produce(2, batch(1)).last().unwrap(), "to 3 s1 e1: 0..1 hw 0");
}

#[test]
fn what_follows_a_batch_that_had_no_room_waits_for_it() {
    let mut b = Bench::leading();
    let sequence = |at| BatchBuilder::new(1).producer(7, 0, at).build();
    b.step(Event::Room(false));
    assert_eq!(b.produce(1, sequence(0)), ["reply 1 NoRoom"]);
    b.step(Event::Room(true));
    assert_eq!(b.produce(2, sequence(1)), ["reply 2 NoRoom"], "taken first, it would make the other one a duplicate");
    assert_eq!(b.produce(3, sequence(0))[0], "append 0..1 e1");
    assert_eq!(b.produce(4, sequence(1))[0], "append 1..2 e1");
}

#[test]
fn a_full_disk_still_answers_for_what_it_has() {
    let mut b = Bench::leading();
    let one = BatchBuilder::new(1).producer(7, 0, 0).build();
    b.produce(1, one.clone());
    b.step(Event::Room(false));
    assert_eq!(b.produce(2, one), [""; 0], "a duplicate waits with the original");
    b.durable(1);
    b.ack(2, 1, 1, 1);
    assert_eq!(b.ack(3, 1, 1, 1), ["wake", "reply 1 at 0", "reply 2 at 0"]);
}

#[test]
fn a_follower_whose_disk_is_full_takes_nothing_and_says_so_by_its_silence() {
    let mut b = following();
    assert_eq!(b.leader_says(1, 7, batches(0, 0)), ["append 0..1 e1"]);
    b.step(Event::Room(false));
    assert_eq!(b.leader_says(1, 7, batches(1, 0)), [""; 0]);
    assert_eq!(b.leader_says(1, 7, batches(2, 1)), [""; 0]);
    assert_eq!(b.durable(1), ["to leader 2 s7 e1: ack 1 1"], "what it took before counts");
    assert_eq!(b.replica.status().committed, Offset(1), "and what is committed of it is learned");
    assert_eq!(b.step(Event::Room(true)), ["to leader 2 s7 e1: subscribe 1 e1"]);
    let started = LeaderMessage::Started { high_watermark: Offset(1), log_start: Offset(0) };
    assert_eq!(b.leader_says(1, 7, started), ["to leader 2 s7 e1: ack 1 1"]);
    assert_eq!(b.leader_says(1, 7, batches(1, 1)), ["append 1..2 e1"]);
}

#[test]
fn a_follower_whose_disk_is_full_removes_what_its_leader_has_removed() {
    let mut b = following();
    b.leader_says(1, 7, batches(0, 0));
    b.durable(1);
    b.step(Event::Room(false));
    b.leader_says(1, 7, batches(1, 0));
    let removed = LeaderMessage::HighWatermark { high_watermark: Offset(2), log_start: Offset(1) };
    assert_eq!(b.leader_says(1, 7, removed), ["advance start 1"]);
}

/// Leader in epoch 1 of one batch, which 2 has and 3 is said to have appended.
fn with_3_standing() -> Bench {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.durable(1);
    b.ack(2, 1, 1, 1);
    b.ack(3, 1, 1, 0);
    b.step(Event::Tick);
    b
}

#[test]
fn a_member_whose_disk_stands_still_leaves_long_before_it_lags() {
    let mut b = with_3_standing();
    assert_eq!(b.after(5_000).step(Event::Tick), [""; 0]);
    assert_eq!(b.after(1).step(Event::Tick), ["alter p1 isr 1,2"]);
    assert_eq!(b.metadata(1, (1, 2), &[1, 2])[0], "wake", "what waited for it is committed");
    assert_eq!(b.after(1_000).ack(3, 1, 1, 1), ["alter p2 isr 1,2,3"], "it moves again");
}

#[test]
fn a_member_that_a_new_leader_does_not_hear_leaves_like_one_that_stands_still() {
    let mut b = Bench::new(log(0, &[]));
    b.metadata(1, (1, 1), &[1, 2, 3]);
    b.subscribe(2, 1, 1, 0, None);
    b.ack(2, 1, 0, 0);
    b.produce(1, batch(1));
    b.durable(1);
    b.ack(2, 1, 1, 1);
    b.step(Event::Tick);
    assert_eq!(b.after(5_000).step(Event::Tick), [""; 0]);
    assert_eq!(b.after(1).step(Event::Tick), ["alter p1 isr 1,2"]);
}

#[test]
fn a_slow_disk_that_moves_stays() {
    let mut b = Bench::leading();
    for n in 1..20 {
        b.produce(n, batch(1));
        b.durable(n as i64);
        b.ack(2, 1, n as i64, n as i64);
        assert_eq!(b.after(3_000).step(Event::Tick).iter().filter(|c| c.starts_with("alter")).count(), 0);
        // Behind by one batch, always.
        b.ack(3, 1, n as i64, n as i64 - 1);
    }
}

#[test]
fn a_disk_that_has_all_there_is_may_stand_still() {
    let mut b = Bench::leading();
    b.step(Event::Tick);
    b.after(9_000);
    assert_eq!(b.step(Event::Tick), [""; 0]);
    // Nor does it count that nothing came before.
    b.produce(1, batch(1));
    b.durable(1);
    b.step(Event::Tick);
    assert_eq!(b.after(900).step(Event::Tick), [""; 0]);
}

#[test]
fn no_member_leaves_by_standing_still_if_too_few_stay() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.durable(1);
    for follower in [2, 3] {
        b.ack(follower, 1, 1, 0);
    }
    b.step(Event::Tick);
    assert_eq!(b.after(9_000).step(Event::Tick), [""; 0], "one is less than the minimum of two");
    assert_eq!(b.replica.isr().unwrap().partition_epoch(), PartitionEpoch(1));
}
