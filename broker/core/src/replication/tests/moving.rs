//! Partitions that move to other replicas: who goes, and when.

use super::bench::{Bench, batch, log, state};
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::replication::*;

fn removing(ids: &[i32], epochs: (i32, i32), isr: &[i32]) -> Event {
    Event::Metadata(PartitionState {
        removing: ids.iter().map(|id| BrokerId(*id)).collect(),
        ..state(1, epochs, isr, &[])
    })
}

#[test]
fn who_is_removed_goes_when_all_that_stay_are_in_sync() {
    let mut b = Bench::leading();
    assert_eq!(b.step(removing(&[3], (1, 2), &[1, 3])), ["alter p2 isr 1,2,3"], "first the one that stays joins");
    assert_eq!(b.step(removing(&[3], (1, 3), &[1, 2, 3])), ["alter p3 isr 1,2"]);
}

#[test]
fn a_new_leader_lets_nobody_go_before_it_has_heard_all_in_its_epoch() {
    let mut b = Bench::new(log(5, &[(1, 0)]));
    b.step(removing(&[3], (2, 1), &[1, 2, 3]));
    let ack = || FollowerMessage::Ack { appended: Offset(5), durable: Offset(5), log_start: None };
    for follower in [2, 3] {
        b.subscribe(follower, 2, 1, 5, Some(1));
    }
    assert_eq!(b.follower_says(2, 2, 1, ack()), [""; 0]);
    assert_eq!(b.follower_says(3, 2, 1, ack()), ["wake", "alter p1 isr 1,2"], "it knows by now that it leads no more");
}

#[test]
fn a_new_leader_that_knows_all_to_be_committed_lets_the_former_one_go_only_when_that_has_heard() {
    let mut b = Bench::new(log(5, &[(1, 0)]));
    b.metadata(2, (1, 1), &[1, 2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(7) });
    b.step(Event::FromLeader {
        leader_epoch: LeaderEpoch(1),
        stream: StreamId(7),
        message: LeaderMessage::Started { high_watermark: Offset(5), log_start: Offset(0) },
    });
    let led = b.step(removing(&[2], (2, 2), &[1, 2, 3]));
    assert_eq!(b.replica.high_watermark(), Some(Offset(5)), "all of its log is committed");
    assert!(!led.iter().any(|command| command.starts_with("alter")), "{led:?}");
    let ack = || FollowerMessage::Ack { appended: Offset(5), durable: Offset(5), log_start: None };
    b.subscribe(3, 2, 1, 5, Some(1));
    assert_eq!(b.follower_says(3, 2, 1, ack()), [""; 0], "the former leader may take itself for one still");
    b.subscribe(2, 2, 1, 5, Some(1));
    assert_eq!(b.follower_says(2, 2, 1, ack()), ["alter p2 isr 1,3"]);
}

#[test]
fn a_leader_that_is_removed_waits_for_those_that_stay_and_then_asks_for_another_one() {
    let mut b = Bench::leading();
    assert_eq!(b.step(removing(&[1], (1, 2), &[1, 2])), ["alter p2 isr 1,2,3"], "those that stay join");
    assert_eq!(b.step(removing(&[1], (1, 3), &[1, 2, 3])), ["alter p3 isr 1,2,3"]);
    assert_eq!(b.step(Event::Tick), [""; 0], "once");
}

#[test]
fn a_leader_that_is_removed_asks_for_another_one_only_when_those_that_stay_have_what_is_committed() {
    let mut b = Bench::new(log(5, &[(1, 0)]));
    let led = b.step(removing(&[1], (2, 2), &[1, 2, 3]));
    assert!(!led.iter().any(|command| command.starts_with("alter")), "who led before may have lost something: {led:?}");
    let ack = || FollowerMessage::Ack { appended: Offset(5), durable: Offset(5), log_start: None };
    b.subscribe(2, 2, 1, 5, Some(1));
    assert_eq!(b.follower_says(2, 2, 1, ack()), [""; 0]);
    b.subscribe(3, 2, 1, 5, Some(1));
    assert_eq!(b.follower_says(3, 2, 1, ack()), ["wake", "alter p2 isr 1,2,3"]);
}

#[test]
fn a_leader_that_has_lost_something_lets_nobody_go() {
    let mut b = Bench::leading();
    b.produce(1, batch(4));
    b.durable(4);
    b.both_ack(4);
    b.step(Event::Damaged { from: Offset(2) });
    let asked = b.step(removing(&[3], (1, 3), &[1, 2, 3]));
    assert!(!asked.iter().any(|command| command.starts_with("alter")), "{asked:?}");
}

#[test]
fn a_replica_that_is_being_added_and_subscribes_before_the_leader_knows_of_it_has_to_ask_again() {
    let mut b = Bench::new(log(0, &[]));
    let mut others = state(1, (1, 1), &[1, 2], &[]);
    others.replicas.truncate(2);
    b.step(Event::Metadata(others));
    assert_eq!(b.subscribe(3, 1, 1, 0, None), ["to 3 s1 e1: not leader, e1"]);
    b.metadata(1, (1, 2), &[1, 2]);
    assert_eq!(b.subscribe(3, 1, 1, 0, None), ["to 3 s1 e1: started hw 0"]);
}
