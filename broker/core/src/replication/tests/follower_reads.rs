//! Consumers that read from a follower.

use super::bench::*;
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::replication::*;

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

fn sent_to(bench: &Bench, candidates: &[i32], offset: i64) -> Option<i32> {
    bench.replica.read_replica(bench.now, &ids(candidates), Offset(offset)).map(|id| id.0)
}

#[test]
fn a_leader_sends_readers_to_the_furthest_follower_that_is_in_sync_and_has_the_offset() {
    let mut bench = Bench::leading();
    bench.produce(1, batch(10));
    bench.durable(10);
    bench.ack(2, 1, 10, 10);
    bench.ack(3, 1, 10, 5);
    for (candidates, offset, expected) in [
        (&[2, 3][..], 5, Some(2)),
        (&[3], 5, Some(3)),
        (&[3], 6, None),
        (&[2, 3], 10, Some(2)),
        (&[2, 3], 11, None),
        (&[4], 0, None),
        (&[], 0, None),
    ] {
        assert_eq!(sent_to(&bench, candidates, offset), expected, "{candidates:?} at {offset}");
    }
    bench.metadata(1, (1, 2), &[1, 3]);
    assert_eq!(sent_to(&bench, &[2, 3], 5), Some(3), "2 is not in sync any more");
    bench.step(Event::StreamClosed { follower: BrokerId(3), stream: StreamId(1) });
    assert_eq!(sent_to(&bench, &[2, 3], 5), None, "3 is not connected any more");
}

#[test]
fn a_leader_sends_nobody_to_a_follower_whose_log_may_begin_later() {
    let mut bench = Bench::leading();
    bench.produce(1, batch(10));
    bench.durable(10);
    for (log_start, expected) in [(None, None), (Some(4), None), (Some(3), Some(2))] {
        let log_start = log_start.map(Offset);
        let message = FollowerMessage::Subscribe { log_end: Offset(10), last_epoch: Some(LeaderEpoch(1)), log_start };
        bench.follower_says(2, 1, 2, message);
        bench.ack(2, 2, 10, 10);
        assert_eq!(sent_to(&bench, &[2], 3), expected, "{log_start:?}");
    }
}

#[test]
fn a_leader_without_a_lease_sends_nobody_anywhere() {
    let mut bench = Bench::leading();
    assert_eq!(sent_to(&bench, &[2], 0), Some(2));
    bench.step(Event::Lease(bench.now));
    assert_eq!(sent_to(&bench, &[2], 0), None);
}

/// Replica 1 follows 2 in epoch 1, has ten records, and knows that seven of them are committed.
fn following() -> Bench {
    let mut bench = Bench::new(log(0, &[]));
    bench.metadata(2, (1, 1), &[1, 2, 3]);
    bench.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    let (high_watermark, log_start) = (Offset(0), Offset(0));
    bench.leader_says(1, 1, LeaderMessage::Started { high_watermark, log_start });
    let batches = vec![batch_at(0, 10, 1)];
    bench.leader_says(1, 1, LeaderMessage::Batches { from: Offset(0), batches, high_watermark, log_start });
    bench.durable(10);
    bench.leader_says(1, 1, LeaderMessage::HighWatermark { high_watermark: Offset(7), log_start });
    bench
}

fn readable(bench: &Bench) -> Option<i64> {
    bench.replica.readable_by_following(bench.now).map(|offset| offset.0)
}

#[test]
fn a_follower_is_read_up_to_what_it_knows_to_be_committed_and_has_on_its_disk() {
    let mut bench = following();
    assert_eq!(readable(&bench), Some(7));
    let message = LeaderMessage::HighWatermark { high_watermark: Offset(10), log_start: Offset(0) };
    bench.leader_says(1, 1, message);
    assert_eq!(readable(&bench), Some(10));
    let (high_watermark, log_start) = (Offset(12), Offset(0));
    let batches = vec![batch_at(10, 2, 1)];
    bench.leader_says(1, 1, LeaderMessage::Batches { from: Offset(10), batches, high_watermark, log_start });
    assert_eq!(readable(&bench), Some(10));
    bench.durable(12);
    assert_eq!(readable(&bench), Some(12));
}

#[test]
fn a_follower_is_not_read_when_it_does_not_count_or_cannot_know() {
    type Loss = fn(&mut Bench);
    let losses: [(&str, Loss); 7] = [
        ("not in sync", |b| drop(b.metadata(2, (1, 2), &[2, 3]))),
        ("fenced", |b| drop(b.step(Event::Metadata(state(2, (1, 2), &[1, 2, 3], &[1]))))),
        ("another epoch", |b| drop(b.metadata(3, (2, 2), &[1, 2, 3]))),
        ("no leader", |b| drop(b.metadata(0, (2, 2), &[]))),
        ("not connected", |b| drop(b.step(Event::LeaderDisconnected { leader: BrokerId(2) }))),
        ("damaged", |b| drop(b.step(Event::Damaged { from: Offset(9) }))),
        ("without a lease", |b| drop(b.step(Event::Lease(b.now)))),
    ];
    for (name, lose) in losses {
        let mut bench = following();
        assert_eq!(readable(&bench), Some(7));
        lose(&mut bench);
        assert_eq!(readable(&bench), None, "{name}");
    }
}

#[test]
fn a_follower_that_is_to_cut_its_log_back_is_not_read_before_it_follows_again() {
    let mut bench = Bench::new(log(5, &[(0, 0)]));
    bench.metadata(2, (1, 1), &[1, 2, 3]);
    bench.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    assert_eq!(readable(&bench), None);
    bench.leader_says(1, 1, LeaderMessage::Diverged { epoch: LeaderEpoch(0), end: Offset(3) });
    assert_eq!(readable(&bench), None);
    bench.step(Event::Truncated { log: log(3, &[(0, 0)]) });
    assert_eq!(readable(&bench), None);
    let started = LeaderMessage::Started { high_watermark: Offset(2), log_start: Offset(0) };
    bench.leader_says(1, 1, started);
    assert_eq!(readable(&bench), Some(2));
}
