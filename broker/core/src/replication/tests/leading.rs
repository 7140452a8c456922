//! How a leadership begins and ends.

use super::bench::{Bench, batch, log, state};
use crate::ids::{LeaderEpoch, Offset};
use crate::replication::*;

#[test]
fn losing_the_leadership_fails_all_that_wait_at_once() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.step(Event::Produce { ticket: Ticket(2), batch: batch(1), acks: Acks::Leader });
    assert_eq!(b.metadata(2, (2, 2), &[2, 3]), ["reply 1 NotLeader", "reply 2 NotLeader", "wake", "follow 2"]);
    assert_eq!(b.durable(2), [""; 0]);
    assert_eq!(b.produce(3, batch(1)), ["reply 3 NotLeader"]);
    assert_eq!((b.replica.high_watermark(), b.replica.leadership(b.now)), (None, None));
}

#[test]
fn an_election_of_the_same_broker_starts_a_new_leadership() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    assert_eq!(b.metadata(1, (2, 2), &[1, 2, 3]), ["reply 1 NotLeader", "wake", "wake"]);
    assert_eq!(b.replica.leadership(b.now), Some(LeaderEpoch(2)));
    assert_eq!(b.both_ack(1), [""; 0], "acknowledgements of the former epoch count no more");
    assert_eq!(b.replica.epochs(), [(LeaderEpoch(1), Offset(0)), (LeaderEpoch(2), Offset(1))]);
}

#[test]
fn an_epoch_without_records_leaves_no_trace() {
    let mut b = Bench::new(log(4, &[(1, 0)]));
    b.metadata(1, (2, 1), &[1, 2]);
    assert_eq!(b.replica.epoch_end(LeaderEpoch(2)), Some((LeaderEpoch(2), Offset(4))));
    b.metadata(2, (3, 2), &[1, 2]);
    assert_eq!(b.replica.epochs(), [(LeaderEpoch(1), Offset(0))]);
}

#[test]
fn stale_metadata_changes_nothing() {
    let mut b = Bench::leading();
    b.metadata(1, (3, 5), &[1, 2, 3]);
    for stale in [(2, 6), (3, 4)] {
        assert_eq!(b.metadata(2, stale, &[2]), [""; 0]);
        assert_eq!(b.replica.leadership(b.now), Some(LeaderEpoch(3)));
    }
}

#[test]
fn a_broker_that_metadata_has_as_fenced_does_not_lead() {
    let mut b = Bench::new(log(0, &[]));
    b.step(Event::Metadata(state(1, (1, 1), &[1, 2], &[1])));
    assert_eq!(b.replica.leadership(b.now), None);
    b.step(Event::Metadata(state(1, (1, 1), &[1, 2], &[])));
    assert_eq!(b.replica.leadership(b.now), Some(LeaderEpoch(1)));
}

#[test]
fn without_a_leader_there_is_nothing_to_follow() {
    let mut b = Bench::new(log(0, &[]));
    assert_eq!(b.metadata(2, (1, 1), &[2]), ["follow 2"]);
    assert_eq!(b.metadata(0, (2, 2), &[2]), ["follow nobody"]);
    assert_eq!(b.replica.status().role, Role::Idle);
}

#[test]
fn a_follower_that_hears_of_the_election_first_need_not_ask_twice() {
    let mut b = Bench::new(log(0, &[]));
    assert_eq!(b.subscribe(2, 1, 4, 0, None), [""; 0]);
    assert_eq!(b.metadata(1, (1, 1), &[1, 2]), ["wake", "to 2 s4 e1: started hw 0"]);
}

#[test]
fn a_subscription_to_whom_does_not_lead_is_refused_in_its_own_epoch() {
    let mut b = Bench::leading();
    assert_eq!(b.subscribe(2, 0, 2, 0, None), ["to 2 s2 e0: not leader, e1"]);
    b.subscribe(2, 2, 3, 0, None);
    assert_eq!(b.metadata(3, (2, 2), &[3]), ["wake", "follow 3", "to 2 s3 e2: not leader, e2"]);
}
