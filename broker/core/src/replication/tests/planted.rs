//! Checks that are decisive here, and whose absence the simulator notices too rarely to be asked: each stands behind
//! another one, or matters only within a few milliseconds of a failover. Without the check, these scripts end otherwise.

use super::bench::{Bench, batch, batch_at, log};
use crate::ids::{BrokerId, Offset};
use crate::replication::planted::Fault;
use crate::replication::*;

/// What a script says with the rule and without it.
fn with_and_without(fault: Fault, script: fn(&mut Bench) -> Vec<String>, bench: fn() -> Bench) -> [Vec<String>; 2] {
    [None, Some(fault)].map(|planted| {
        let mut b = bench();
        b.replica.plant(planted);
        script(&mut b)
    })
}

/// Follower of broker 2 in epoch 2 over stream 7, with three records of epoch 1.
fn following() -> Bench {
    let mut b = Bench::new(log(3, &[(1, 0)]));
    b.metadata(2, (2, 1), &[1, 2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(7) });
    b.leader_says(2, 7, LeaderMessage::Started { high_watermark: Offset(0) });
    b
}

/// Leader in epoch 1 with one record that its disk and broker 2 have, and broker 3 has not acknowledged.
fn leading() -> Bench {
    let mut b = Bench::leading();
    b.produce(1, batch(1));
    b.durable(1);
    b.ack(2, 1, 1, 1);
    b
}

fn batches(base: i64, epoch: i32) -> LeaderMessage {
    LeaderMessage::Batches { batches: vec![batch_at(base, 1, epoch)], high_watermark: Offset(0) }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_follower_takes_nothing_of_another_epoch() {
    let script = |b: &mut Bench| b.leader_says(1, 7, batches(3, 1));
    for fault in [Fault::FollowerTakesAnyEpoch, Fault::FollowerTakesAnything] {
        let [with, without] = with_and_without(fault, script, following);
        assert_eq!(with, NOTHING);
        assert_eq!(without, ["append 3..4 e1"], "{fault:?}");
    }
}

#[test]
fn a_follower_takes_nothing_of_another_stream() {
    let script = |b: &mut Bench| b.leader_says(2, 6, batches(3, 2));
    for fault in [Fault::FollowerTakesAnyStream, Fault::FollowerTakesAnything] {
        let [with, without] = with_and_without(fault, script, following);
        assert_eq!(with, NOTHING);
        assert_eq!(without, ["append 3..4 e2"], "{fault:?}");
    }
}

#[test]
fn a_follower_appends_nothing_older_than_its_log_or_newer_than_its_leader() {
    for script in
        [|b: &mut Bench| b.leader_says(2, 7, batches(3, 0)), |b: &mut Bench| b.leader_says(2, 7, batches(3, 3))]
    {
        let [with, without] = with_and_without(Fault::FollowerTakesBatchesOfAnyEpoch, script, following);
        assert_eq!(with, ["follow 2"]);
        assert!(without[0].starts_with("append 3..4"), "{without:?}");
    }
}

#[test]
fn a_leader_counts_no_acknowledgement_of_another_epoch_or_stream() {
    let ack = FollowerMessage::Ack { appended: Offset(1), durable: Offset(1) };
    let committed = |fault, epoch, stream| {
        let mut b = leading();
        b.replica.plant(fault);
        b.follower_says(3, epoch, stream, ack);
        b.replica.status().committed
    };
    assert_eq!(
        (committed(None, 1, 1), committed(None, 0, 1), committed(None, 1, 0)),
        (Offset(1), Offset(0), Offset(0))
    );
    assert_eq!(committed(Some(Fault::LeaderTakesAnyEpoch), 0, 1), Offset(1));
    assert_eq!(committed(Some(Fault::LeaderTakesAnyStream), 1, 0), Offset(1));
    assert_eq!(committed(Some(Fault::LeaderTakesAnything), 0, 0), Offset(1));
}

#[test]
fn a_leader_sends_on_nothing_that_was_read_in_another_epoch() {
    let bench = || {
        let mut b = Bench::new(log(5, &[(1, 0), (2, 3)]));
        b.metadata(1, (3, 1), &[1, 2, 3]);
        b.subscribe(2, 3, 1, 3, Some(1));
        b
    };
    let script = |b: &mut Bench| {
        let batches = vec![batch_at(3, 1, 1), batch_at(4, 1, 1)];
        b.step(Event::ReadDone { follower: BrokerId(2), stream: StreamId(1), batches })
    };
    let [with, without] = with_and_without(Fault::ReadOfAnyEpoch, script, bench);
    assert_eq!(with, NOTHING);
    assert_eq!(without, ["to 2 s1 e3: 3..5 hw 0"]);
}
