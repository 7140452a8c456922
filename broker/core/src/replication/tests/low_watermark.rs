//! What is removed from the logs of all replicas that are alive.

use super::bench::*;
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::replication::*;

/// Leads ten committed records in epoch 1, which all replicas have acknowledged.
fn bench() -> Bench {
    let mut b = Bench::leading();
    b.produce(1, batch(10));
    b.durable(10);
    for follower in [2, 3] {
        b.ack(follower, 1, 10, 10);
    }
    b
}

fn says(b: &mut Bench, follower: i32, log_start: Option<i64>) {
    let message = FollowerMessage::Ack { appended: Offset(10), durable: Offset(10), log_start: log_start.map(Offset) };
    b.follower_says(follower, 1, 1, message);
}

fn low(b: &Bench) -> Option<i64> {
    b.replica.low_watermark().map(|low| low.0)
}

#[test]
fn it_is_the_least_start_of_all_that_are_alive() {
    let mut b = bench();
    says(&mut b, 2, Some(0));
    says(&mut b, 3, Some(0));
    assert_eq!(b.step(Event::AdvanceStart { to: Offset(4) }), ["advance start 4"]);
    b.step(Event::StartAdvanced { start: Offset(4), first_batch: Offset(0), damaged: None });
    assert_eq!(low(&b), Some(0), "the leader's own disk is not enough");
    says(&mut b, 2, Some(4));
    assert_eq!(low(&b), Some(0));
    says(&mut b, 3, Some(3));
    assert_eq!(low(&b), Some(3));
    b.step(Event::Metadata(state(1, (1, 2), &[1, 2], &[3])));
    assert_eq!(low(&b), Some(4), "what is down does not count");
    b.step(Event::Metadata(state(2, (2, 3), &[1, 2], &[3])));
    assert_eq!(low(&b), None, "a follower does not know");
}

#[test]
fn one_that_has_not_said_where_its_log_begins_may_have_everything() {
    let mut b = bench();
    b.step(Event::AdvanceStart { to: Offset(5) });
    b.step(Event::StartAdvanced { start: Offset(5), first_batch: Offset(0), damaged: None });
    says(&mut b, 2, Some(5));
    assert_eq!(low(&b), Some(5), "the other is of a former release, which never says");
    b.subscribe(3, 1, 2, 10, Some(1));
    assert_eq!(low(&b), Some(0));
}

#[test]
fn a_follower_tells_when_its_start_has_moved() {
    let mut b = Bench::new(log(10, &[(1, 0)]));
    b.metadata(2, (1, 1), &[1, 2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(7) });
    let says = |high_watermark, log_start| Event::FromLeader {
        leader_epoch: LeaderEpoch(1),
        stream: StreamId(7),
        message: LeaderMessage::Started { high_watermark: Offset(high_watermark), log_start: Offset(log_start) },
    };
    assert!(b.step(says(10, 6)).contains(&"advance start 6".to_owned()));
    let mut out = Vec::new();
    b.replica.step(b.now, Event::StartAdvanced { start: Offset(6), first_batch: Offset(0), damaged: None }, &mut out);
    let acknowledged = out.iter().find_map(|command| match command {
        Command::ToLeader { message: FollowerMessage::Ack { log_start, .. }, .. } => Some(*log_start),
        _ => None,
    });
    assert_eq!(acknowledged, Some(Some(Offset(6))), "{out:?}");
}
