//! What clients may read of a leader, and which high watermark they see.

use super::bench::{Bench, batch, log, state};
use crate::ids::{BrokerId, Offset};
use crate::replication::*;
use crate::time::Instant;

/// Where what may be read ends, and the high watermark that clients may see.
fn readable(b: &Bench) -> Option<(i64, Option<i64>)> {
    b.replica.readable(b.now).map(|r| (r.end.0, r.high_watermark.map(|hw| hw.0)))
}

/// Follower of 2 in epoch 1 with ten records, which has heard that nine of them are committed.
fn following() -> Bench {
    let mut b = Bench::new(log(10, &[(1, 0)]));
    b.metadata(2, (1, 1), &[1, 2]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    b.leader_says(1, 1, LeaderMessage::Started { high_watermark: Offset(9), log_start: Offset(0) });
    b
}

#[test]
fn a_follower_is_not_read() {
    assert_eq!(readable(&following()), None);
}

#[test]
fn a_survivor_serves_what_it_knows_to_be_committed_and_does_not_say_that_it_is_all() {
    let mut b = following();
    b.step(Event::Metadata(state(1, (2, 2), &[1], &[2, 3])));
    assert_eq!(readable(&b), Some((9, None)), "clients may have seen ten from the former leader");
    b.metadata(1, (2, 3), &[1, 2]);
    b.subscribe(2, 2, 2, 10, Some(1));
    b.follower_says(2, 2, 2, FollowerMessage::Ack { appended: Offset(10), durable: Offset(10), log_start: None });
    assert_eq!(readable(&b), Some((10, Some(10))));
}

#[test]
fn without_a_lease_what_was_committed_is_served_and_nothing_is_said_of_the_rest() {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.durable(1);
    b.both_ack(1);
    assert_eq!(readable(&b), Some((1, Some(1))));
    b.step(Event::Lease(Instant(b.now.0 + 500_000)));
    b.after(600);
    assert_eq!(readable(&b), Some((1, None)), "another may lead, and clients may have seen more from it");
    b.metadata(2, (2, 2), &[2, 3]);
    assert_eq!(readable(&b), None);
}
