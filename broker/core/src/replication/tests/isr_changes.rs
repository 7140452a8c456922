//! Who joins the ISR, who leaves it, and what the controller's answers do to the view.

use super::bench::{Bench, batch, batch_at, log, state};
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use crate::replication::*;
use std::time::Duration;

/// Leader in epoch 1 with 2 in sync, and 3 for a while at offset 1 of 2 committed ones.
fn with_3_behind() -> Bench {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.produce(2, batch(1));
    b.durable(2);
    b.after(300).ack(2, 1, 2, 2);
    b.metadata(1, (1, 2), &[1, 2]);
    assert_eq!(b.ack(3, 1, 1, 1), [""; 0], "its disk has less than is committed");
    b
}

#[test]
fn a_follower_joins_when_its_disk_has_all_that_is_committed() {
    let mut b = with_3_behind();
    assert_eq!(b.ack(3, 1, 2, 2), ["alter p2 isr 1,2,3"]);
    assert_eq!(b.replica.isr().unwrap().state(), IsrState::PendingExpand);
    b.produce(3, batch(1));
    b.durable(3);
    assert_eq!(b.ack(2, 1, 3, 3), [""; 0], "who may be in sync by now counts for what is committed");
    assert_eq!(b.ack(3, 1, 3, 3), ["wake", "reply 3 at 2"]);
    assert_eq!(b.metadata(1, (1, 3), &[1, 2, 3]), [""; 0]);
    assert_eq!(b.replica.isr().unwrap().state(), IsrState::Committed);
}

#[test]
fn a_follower_of_a_new_leader_joins_only_at_the_start_of_its_epoch() {
    let mut b = Bench::new(log(5, &[(1, 0)]));
    b.metadata(1, (2, 1), &[1, 2]);
    b.subscribe(3, 2, 1, 4, Some(1));
    let ack = |end| FollowerMessage::Ack { appended: Offset(end), durable: Offset(end), log_start: None };
    assert_eq!(b.follower_says(3, 2, 1, ack(4)), [""; 0]);
    b.step(Event::ReadDone {
        follower: BrokerId(3),
        stream: StreamId(1),
        from: Offset(4),
        batches: vec![batch_at(4, 1, 1)],
    });
    assert_eq!(b.follower_says(3, 2, 1, ack(5)), ["alter p1 isr 1,2,3"]);
}

#[test]
fn a_follower_of_another_registration_or_a_fenced_one_does_not_join() {
    let mut b = with_3_behind();
    b.step(Event::Metadata(state(1, (1, 3), &[1, 2], &[3])));
    assert_eq!(b.ack(3, 1, 2, 2), [""; 0], "fenced");
    let mut other = state(1, (1, 4), &[1, 2], &[]);
    other.replicas[2].1 = Some(BrokerEpoch(31));
    assert_eq!(b.step(Event::Metadata(other)), [""; 0], "its stream is of broker epoch 30");
    assert_eq!(
        b.step(Event::Metadata(state(1, (1, 5), &[1, 2], &[]))),
        ["alter p5 isr 1,2,3"],
        "alive, as the broker whose stream it is"
    );
}

#[test]
fn a_follower_that_is_about_to_stop_neither_joins_nor_is_waited_for() {
    let mut b = with_3_behind();
    let stopping = vec![BrokerId(3)];
    b.step(Event::Metadata(PartitionState { stopping, ..state(1, (1, 3), &[1, 2], &[]) }));
    assert_eq!(b.ack(3, 1, 2, 2), [""; 0], "it has all that is committed");
    b.produce(3, batch(1));
    b.durable(3);
    assert_eq!(b.ack(2, 1, 3, 3), ["wake", "reply 3 at 2"]);
    assert_eq!(b.ack(3, 1, 3, 3), [""; 0]);
    b.step(Event::Metadata(state(1, (1, 4), &[1, 2], &[])));
    assert_eq!(b.replica.isr().unwrap().state(), IsrState::PendingExpand, "it does not stop");
}

#[test]
fn a_follower_leaves_when_it_was_not_caught_up_for_too_long() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.durable(1);
    b.ack(2, 1, 1, 1);
    assert_eq!(b.after(9_900).step(Event::Tick), [""; 0]);
    assert_eq!(b.after(200).step(Event::Tick), ["alter p1 isr 1,2"]);
    assert_eq!(b.replica.high_watermark(), Some(Offset(0)), "before the controller agrees it still counts");
    assert_eq!(b.metadata(1, (1, 2), &[1, 2]), ["wake", "reply 1 at 0"]);
}

#[test]
fn a_follower_that_hangs_does_not_come_and_go_while_nothing_is_committed() {
    let mut b = Bench::leading();
    b.step(Event::Metadata(state(1, (1, 2), &[1, 3], &[2])));
    b.produce(1, batch(1));
    b.durable(1);
    assert_eq!(b.after(11_000).step(Event::Tick), ["alter p2 isr 1"]);
    assert_eq!(
        b.step(Event::Metadata(state(1, (1, 3), &[1], &[2]))),
        ["reply 1 NotEnoughReplicasAfterAppend"],
        "3 has all that is committed, and yet"
    );
    assert_eq!(b.ack(3, 1, 1, 1), ["alter p3 isr 1,3"]);
}

#[test]
fn a_follower_that_keeps_up_with_a_growing_log_stays() {
    let mut b = Bench::leading();
    for n in 1..30 {
        b.produce(n as u64, batch(1));
        b.durable(n);
        // Always one batch behind.
        b.ack(2, 1, n - 1, n - 1);
        b.ack(3, 1, n - 1, n - 1);
        let commands = b.after(1_000).step(Event::Tick);
        assert!(!commands.iter().any(|c| c.starts_with("alter")), "{commands:?}");
    }
}

#[test]
fn an_idle_follower_stays_while_it_is_connected() {
    let mut b = Bench::leading();
    for _ in 0..30 {
        assert_eq!(b.after(1_000).step(Event::Tick), [""; 0]);
    }
    b.step(Event::StreamClosed { follower: BrokerId(3), stream: StreamId(1) });
    b.after(9_000).step(Event::Tick);
    assert_eq!(b.after(1_100).step(Event::Tick), ["alter p1 isr 1,2"]);
}

#[test]
fn nobody_looks_at_an_idle_partition_and_no_follower_is_late_for_that() {
    let mut b = Bench::leading();
    assert!(!needs_tick(&mut b), "all have nothing");
    b.after(60_000).produce(1, batch(1));
    assert!(needs_tick(&mut b), "a producer waits");
    b.durable(1);
    b.ack(2, 1, 1, 1);
    assert_eq!(b.ack(3, 1, 1, 1), ["wake", "reply 1 at 0"]);
    assert!(needs_tick(&mut b), "they do not know that it is committed");
    assert_eq!(b.after(100).step(Event::Tick).len(), 2);
    assert!(!needs_tick(&mut b));
    let closed = Event::StreamClosed { follower: BrokerId(3), stream: StreamId(1) };
    assert_eq!(b.after(60_000).step(closed), [""; 0]);
    assert!(needs_tick(&mut b), "it is late when it stays away");
    assert_eq!(b.after(9_900).step(Event::Tick), [""; 0]);
    assert_eq!(b.after(200).step(Event::Tick), ["alter p1 isr 1,2"]);
    b.metadata(1, (1, 2), &[1, 2]);
    assert!(!needs_tick(&mut b), "it comes by itself");
}

fn needs_tick(b: &mut Bench) -> bool {
    b.replica.needs_tick(b.now)
}

#[test]
fn a_fenced_member_leaves_at_once() {
    let mut b = Bench::leading();
    assert_eq!(b.step(Event::Metadata(state(1, (1, 2), &[1, 2, 3], &[3]))), ["alter p2 isr 1,2"]);
}

#[test]
fn a_refused_change_is_undone_and_asked_for_again() {
    let mut b = with_3_behind();
    b.ack(3, 1, 2, 2);
    assert_eq!(b.alter_failed(2, true), [""; 0]);
    assert_eq!(b.replica.isr().unwrap().state(), IsrState::Committed);
    assert_eq!(b.after(60).step(Event::Tick).last().unwrap(), "alter p2 isr 1,2,3");
}

#[test]
fn a_change_of_unknown_outcome_counts_until_metadata_tells() {
    let mut b = with_3_behind();
    b.ack(3, 1, 2, 2);
    assert_eq!(b.alter_failed(2, false), [""; 0]);
    assert_eq!(b.replica.isr().unwrap().state(), IsrState::PendingExpand);
    // 3 is gone, so that the change is not wanted any more; but it may be in force.
    b.step(Event::StreamClosed { follower: BrokerId(3), stream: StreamId(1) });
    b.produce(3, batch(1));
    b.durable(3);
    assert_eq!(b.ack(2, 1, 3, 3), [""; 0]);
    let again = b.after(60).step(Event::Tick);
    assert_eq!(again.last().unwrap(), "alter p2 isr 1,2", "an accepted change, even to the same, tells");
    b.alter_failed(2, true);
    assert_eq!(b.replica.high_watermark(), Some(Offset(2)));
    assert!(b.metadata(1, (1, 3), &[1, 2]).contains(&"reply 3 at 2".into()));
}

#[test]
fn only_one_change_is_asked_for_at_a_time() {
    let mut b = with_3_behind();
    assert_eq!(b.ack(3, 1, 2, 2), ["alter p2 isr 1,2,3"]);
    assert_eq!(b.step(Event::Metadata(state(1, (1, 2), &[1, 2], &[2]))), [""; 0]);
    assert_eq!(
        b.step(Event::Metadata(state(1, (1, 3), &[1, 2, 3], &[2]))),
        ["alter p3 isr 1,3"],
        "the next change waits for the first one's outcome"
    );
    let answer = Event::AlterPartitionFailed { partition_epoch: crate::ids::PartitionEpoch(2), refused: true };
    assert_eq!(b.step(answer), [""; 0], "an answer to another request says nothing");
    assert_eq!(b.replica.isr().unwrap().state(), IsrState::PendingShrink);
    assert_eq!(b.replica.leader_epoch(), LeaderEpoch(1));
}

#[test]
fn a_follower_that_is_always_a_moment_behind_joins_all_the_same() {
    let mut b = with_3_behind();
    let joined = (3..20).any(|n| {
        b.produce(n as u64, batch(1));
        b.durable(n);
        b.ack(2, 1, n, n);
        b.after(1).ack(3, 1, n - 1, n - 1).iter().any(|c| c == "alter p2 isr 1,2,3")
    });
    assert!(joined, "a load that never pauses must not keep it out");
}

#[test]
fn a_follower_that_is_far_behind_is_not_waited_for() {
    let mut b = with_3_behind();
    b.after(1_000);
    b.produce(3, batch(1));
    b.durable(3);
    assert_eq!(b.ack(2, 1, 3, 3), ["wake", "reply 3 at 2"]);
}

#[test]
fn a_follower_that_was_waited_for_and_did_not_come_is_not_waited_for_again_at_once() {
    let mut b = with_3_behind();
    // It is close, and falls silent.
    b.produce(3, batch(1));
    b.durable(3);
    b.after(10).ack(3, 1, 1, 1);
    b.after(10).ack(3, 1, 2, 2);
    b.metadata(1, (1, 3), &[1, 2]);
    b.alter_failed(3, true);
    assert_eq!(b.ack(2, 1, 3, 3), [""; 0], "it may be there in a moment");
    let late = b.after(600).step(Event::Tick);
    assert!(late.contains(&"reply 3 at 2".into()), "{late:?}");
    b.produce(4, batch(1));
    b.durable(4);
    assert!(b.ack(2, 1, 4, 4).contains(&"reply 4 at 3".into()));
}

#[test]
fn a_leader_says_how_far_who_is_not_in_sync_is_behind_and_guesses_nothing() {
    let lag = |behind, ms| Lag { follower: BrokerId(3), behind, for_at_least: Duration::from_millis(ms) };
    let mut b = with_3_behind();
    assert_eq!(b.replica.lags(b.now), [lag(Some(1), 300)]);
    b.metadata(1, (1, 3), &[1, 2, 3]);
    assert_eq!(b.replica.lags(b.now), [], "it is in sync");
    b.metadata(2, (2, 4), &[2]);
    assert_eq!(b.replica.lags(b.now), [], "who follows does not know");

    let mut b = Bench::new(log(5, &[(1, 0)]));
    b.metadata(1, (2, 1), &[1, 2]);
    b.after(2000);
    assert_eq!(b.replica.lags(b.now), [lag(None, 2000)], "it was not heard in this leadership");
    b.subscribe(3, 2, 1, 2, Some(1));
    assert_eq!(b.replica.lags(b.now), [lag(Some(3), 2000)]);
}
