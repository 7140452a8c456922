//! When the high watermark moves and who is answered by it.

use super::bench::{Bench, batch, batch_at, log, state};
use crate::ids::{BrokerId, Offset};
use crate::replication::*;
use crate::time::Instant;

#[test]
fn a_batch_is_committed_when_every_in_sync_disk_has_it() {
    let mut b = Bench::leading();
    assert_eq!(b.produce(7, batch(3)), ["append 0..3 e1", "to 2 s1 e1: 0..3 hw 0", "to 3 s1 e1: 0..3 hw 0"]);
    assert_eq!(b.ack(2, 1, 3, 3), [""; 0]);
    assert_eq!(b.ack(3, 1, 3, 0), [""; 0], "appended is not durable");
    assert_eq!(b.ack(3, 1, 3, 3), [""; 0], "the leader's own disk counts too");
    assert_eq!(b.durable(3), ["wake", "reply 7 at 0"]);
    assert_eq!(b.replica.high_watermark(), Some(Offset(3)));
}

#[test]
fn acks_1_waits_for_the_leaders_disk_and_acks_0_for_nothing() {
    let mut b = Bench::leading();
    let one = Event::Produce { ticket: Ticket(1), batch: batch(1), acks: Acks::Leader };
    assert!(!b.step(one).iter().any(|c| c.starts_with("reply")));
    assert_eq!(b.durable(1), ["reply 1 at 0"]);
    let none = Event::Produce { ticket: Ticket(2), batch: batch(1), acks: Acks::None };
    assert_eq!(b.step(none).last().unwrap(), "reply 2 at 1");
}

#[test]
fn nothing_is_readable_before_the_start_of_the_epoch_is_committed() {
    let mut b = Bench::new(log(5, &[(1, 0)]));
    b.metadata(1, (2, 1), &[1, 2]);
    assert_eq!(b.replica.high_watermark(), None);
    b.subscribe(2, 2, 1, 3, Some(1));
    b.follower_says(2, 2, 1, FollowerMessage::Ack { appended: Offset(3), durable: Offset(3), log_start: None });
    assert_eq!((b.replica.high_watermark(), b.replica.status().committed), (None, Offset(3)));
    let batches = vec![super::bench::batch_at(3, 2, 1)];
    b.step(Event::ReadDone { follower: BrokerId(2), stream: StreamId(1), from: Offset(3), batches });
    b.follower_says(2, 2, 1, FollowerMessage::Ack { appended: Offset(5), durable: Offset(5), log_start: None });
    assert_eq!(b.replica.high_watermark(), Some(Offset(5)));
}

#[test]
fn too_few_in_sync_replicas_refuse_before_the_append_and_fail_after_it() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    let alone = state(1, (1, 2), &[1], &[2, 3]);
    assert_eq!(b.step(Event::Metadata(alone)), ["reply 1 NotEnoughReplicasAfterAppend"]);
    assert_eq!(b.durable(1), [""; 0], "the strict rule: nothing is committed on a smaller set");
    assert_eq!(b.replica.high_watermark(), Some(Offset(0)));
    assert!(b.produce(2, batch(1)).contains(&"reply 2 NotEnoughReplicas".into()));
    assert_eq!(b.replica.log_end(), Offset(1));
    let leader_only = Event::Produce { ticket: Ticket(3), batch: batch(1), acks: Acks::Leader };
    assert_eq!(b.step(leader_only)[0], "append 1..2 e1", "acks=1 does not ask for more");
}

#[test]
fn who_waits_until_it_is_committed_waits_while_too_few_are_in_sync() {
    let mut b = Bench::leading();
    let until_committed = |ticket| Event::Produce { ticket: Ticket(ticket), batch: batch(1), acks: Acks::Committed };
    b.step(until_committed(1));
    assert_eq!(b.step(Event::Metadata(state(1, (1, 2), &[1], &[2, 3]))), [""; 0]);
    assert_eq!(b.step(until_committed(2))[0], "append 1..2 e1", "however few are in sync");
    assert_eq!(b.durable(2), [""; 0], "it is not committed on a smaller set");
    let ended = b.step(Event::Metadata(state(2, (2, 3), &[1, 2], &[])));
    assert!(ended.contains(&"reply 1 NotLeader".into()) && ended.contains(&"reply 2 NotLeader".into()), "{ended:?}");

    let mut b = Bench::leading();
    b.step(until_committed(1));
    b.step(Event::Metadata(state(1, (1, 2), &[1], &[2, 3])));
    b.durable(1);
    b.ack(2, 1, 1, 1);
    b.ack(3, 1, 1, 1);
    let mut back = b.step(Event::Metadata(state(1, (1, 3), &[1, 2, 3], &[])));
    back.extend(b.step(Event::Tick));
    assert!(back.contains(&"reply 1 at 0".into()), "{back:?}");
}

#[test]
fn an_acknowledgement_of_another_epoch_or_stream_counts_for_nothing() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.durable(1);
    b.ack(2, 1, 1, 1);
    let ack = FollowerMessage::Ack { appended: Offset(1), durable: Offset(1), log_start: None };
    b.follower_says(3, 0, 1, ack);
    b.follower_says(3, 1, 9, ack);
    b.ack(3, 1, 2, 2);
    b.ack(3, 1, 0, 1);
    assert_eq!(b.replica.high_watermark(), Some(Offset(0)));
    assert_eq!(b.ack(3, 1, 1, 1), ["wake", "reply 1 at 0"]);
}

#[test]
fn what_a_wiped_broker_once_acknowledged_counts_no_more() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.ack(2, 1, 1, 1);
    b.ack(3, 1, 1, 1);
    b.step(Event::FromFollower {
        follower: BrokerId(3),
        broker_epoch: crate::ids::BrokerEpoch(99),
        leader_epoch: crate::ids::LeaderEpoch(1),
        stream: StreamId(1),
        message: FollowerMessage::Subscribe { log_end: Offset(0), last_epoch: None, log_start: None },
    });
    assert!(!b.durable(1).contains(&"reply 1 at 0".into()));
}

#[test]
fn without_a_lease_nothing_is_appended_committed_or_acknowledged() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.step(Event::Lease(Instant(b.now.0 + 500_000)));
    b.after(600);
    assert_eq!(b.replica.leadership(b.now), None);
    assert_eq!(b.ack(2, 1, 1, 1), ["reply 1 NotLeader"]);
    b.ack(3, 1, 1, 1);
    b.durable(1);
    assert_eq!(b.replica.high_watermark(), Some(Offset(0)));
    assert_eq!(b.produce(2, batch(1)), ["reply 2 NotLeader"]);
    assert_eq!(b.replica.log_end(), Offset(1));
    assert_eq!(b.step(Event::Lease(Instant(b.now.0 + 500_000))), ["wake"], "the leadership goes on with a new lease");
    assert_eq!(b.replica.high_watermark(), Some(Offset(1)));
}

#[test]
fn the_high_watermark_stays_when_a_member_joins_that_has_less() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.durable(1);
    b.after(300).ack(2, 1, 1, 1);
    b.metadata(1, (1, 2), &[1, 2]);
    assert_eq!(b.replica.high_watermark(), Some(Offset(1)));
    b.step(Event::Metadata(state(1, (1, 3), &[1, 2, 3], &[])));
    assert_eq!(b.replica.high_watermark(), Some(Offset(1)));
}

/// Broker 1 as the only one in sync, with 2 eligible beside it, as fencing leaves them.
fn alone(epochs: (i32, i32), elr: &[i32], min_insync_replicas: usize) -> PartitionState {
    let elr = elr.iter().map(|id| BrokerId(*id)).collect();
    PartitionState { elr, min_insync_replicas, ..state(1, epochs, &[1], &[2, 3]) }
}

#[test]
fn alone_nothing_is_committed_before_the_controller_has_heard_that_it_is_there() {
    let mut b = Bench::new(log(0, &[]));
    assert_eq!(b.step(Event::Metadata(alone((1, 1), &[2], 1))), ["wake", "alter p1 isr 1"]);
    assert_eq!(b.produce(1, batch(1)), ["append 0..1 e1"]);
    assert_eq!(b.durable(1), [""; 0], "2 may be elected, and does not have it");
    assert_eq!(b.step(Event::Metadata(alone((1, 2), &[], 1))), ["wake", "reply 1 at 0"]);
}

#[test]
fn with_fewer_in_sync_than_the_minimum_nothing_is_there_to_be_confirmed() {
    let mut b = Bench::new(log(0, &[]));
    assert_eq!(b.step(Event::Metadata(alone((1, 1), &[2], 2))), ["wake"]);
}

#[test]
fn a_minimum_above_the_number_of_replicas_asks_for_all_of_them() {
    let mut b = Bench::new(log(0, &[]));
    let mut only = alone((1, 1), &[], 2);
    only.replicas.truncate(1);
    b.step(Event::Metadata(only));
    assert_eq!(b.produce(1, batch(1)), ["append 0..1 e1"]);
    assert_eq!(b.durable(1), ["wake", "reply 1 at 0"]);
    let leader_only = Event::Produce { ticket: Ticket(2), batch: batch(1), acks: Acks::Leader };
    b.step(leader_only);
    b.durable(2);
    assert_eq!(b.replica.high_watermark(), Some(Offset(2)), "what is acknowledged can be read");
}

/// An operator has chosen a follower that was not in sync, and that knows more to be committed than its disk has.
#[test]
fn who_is_chosen_by_an_operator_answers_for_nothing_that_its_disk_has_not_got() {
    let mut b = Bench::new(log(0, &[]));
    b.metadata(2, (3, 1), &[2]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    b.leader_says(3, 1, LeaderMessage::Started { high_watermark: Offset(0), log_start: Offset(0) });
    let (from, batches) = (Offset(0), vec![batch_at(0, 2, 3)]);
    let (high_watermark, log_start) = (Offset(2), Offset(0));
    b.leader_says(3, 1, LeaderMessage::Batches { from, batches, high_watermark, log_start });
    assert_eq!(b.replica.status().committed, Offset(2));
    b.step(Event::Metadata(alone((4, 2), &[], 1)));
    assert_eq!(b.replica.readable(b.now).map(|readable| readable.end), Some(Offset(0)));
    b.durable(2);
    assert_eq!(b.replica.high_watermark(), Some(Offset(2)));
}
