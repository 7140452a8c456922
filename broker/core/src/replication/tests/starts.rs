//! A log's start: who may move it, who hears of it, and who has to begin anew because of it.

use super::bench::{Bench, batch, batch_at, log, state};
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use crate::producers::{DEFAULT_EXPIRATION_MS, Producers};
use crate::record::RecordBatch;
use crate::record::testing::BatchBuilder;
use crate::replication::*;

fn advance(b: &mut Bench, to: i64) -> Vec<String> {
    b.step(Event::AdvanceStart { to: Offset(to) })
}

fn advanced(b: &mut Bench, start: i64, first_batch: i64) {
    let event = Event::StartAdvanced { start: Offset(start), first_batch: Offset(first_batch), damaged: None };
    // A follower acknowledges to its leader.
    let acks = b.step(event);
    assert!(acks.iter().all(|command| command.starts_with("to leader") && command.contains(": ack ")), "{acks:?}");
}

/// A log that begins in the middle of a batch, or at one.
fn log_from(start: i64, first_batch: i64, end: i64, epochs: &[(i32, i64)]) -> LogState {
    LogState { start: Offset(start), first_batch: Offset(first_batch), ..log(end, epochs) }
}

/// A leader in epoch 1 of four committed records in two batches.
fn leading() -> Bench {
    let mut b = Bench::leading();
    for n in 0..2 {
        b.produce(n, batch(2));
    }
    b.durable(4);
    b.both_ack(4);
    assert_eq!(b.replica.status().committed, Offset(4));
    b
}

/// A follower of 2 in epoch 3 on stream 1, subscribed.
fn subscribed(log: LogState) -> Bench {
    let mut b = Bench::new(log);
    b.metadata(2, (3, 1), &[2]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    b
}

#[test]
fn a_leader_removes_what_is_committed_and_nothing_else() {
    let mut b = leading();
    b.produce(2, batch(2));
    for to in [5, 6, 7, i64::MAX, 0, -1] {
        assert_eq!(advance(&mut b, to), [""; 0], "to {to}");
    }
    assert_eq!(advance(&mut b, 2), ["advance start 2"]);
    assert_eq!(b.replica.log_start(), Offset(0), "it holds once it is on the disk");
    assert_eq!(advance(&mut b, 2), [""; 0], "it is on its way");
    assert_eq!(advance(&mut b, 4), ["advance start 4"]);
    advanced(&mut b, 2, 2);
    assert_eq!(b.replica.log_start(), Offset(2));
    assert_eq!(b.replica.epochs(), [(LeaderEpoch(1), Offset(2))]);
    advanced(&mut b, 1, 0);
    assert_eq!(b.replica.log_start(), Offset(2), "it never goes back");
    advanced(&mut b, 4, 4);
    assert_eq!(b.replica.epochs(), [(LeaderEpoch(1), Offset(4))]);
}

#[test]
fn who_does_not_lead_removes_nothing_by_itself() {
    let mut b = Bench::new(log(4, &[(1, 0)]));
    assert_eq!(advance(&mut b, 0), [""; 0]);
    b.metadata(2, (3, 1), &[2]);
    assert_eq!(advance(&mut b, 1), [""; 0]);
}

#[test]
fn followers_and_producers_get_the_log_start_offset() {
    let mut b = leading();
    b.step(Event::Tick);
    advance(&mut b, 3);
    advanced(&mut b, 3, 2);
    assert_eq!(b.step(Event::Tick), ["to 2 s1 e1: hw 4 start 3", "to 3 s1 e1: hw 4 start 3"]);
    assert_eq!(b.step(Event::Tick), [""; 0], "once");
    let pushed = b.produce(9, batch(1));
    assert_eq!(pushed, ["append 4..5 e1", "to 2 s1 e1: 4..5 hw 4 start 3", "to 3 s1 e1: 4..5 hw 4 start 3"]);
    assert_eq!(b.subscribe(2, 1, 2, 4, Some(1))[0], "to 2 s2 e1: started hw 4 start 3");
}

#[test]
fn a_follower_whose_log_ends_before_the_leaders_begins_there() {
    // (the follower's end and last epoch, the answer); the leader's log begins at 3, in the middle of the batch 2..4.
    for (end, last, answer) in [
        (0, None, "begin at 2"),
        (1, Some(1), "begin at 2"),
        (2, Some(1), "begin at 2"),
        (3, Some(1), "begin at 2"),
        (2, None, "started hw 4 start 3"),
        (3, None, "begin at 2"),
        (4, Some(1), "started hw 4 start 3"),
        (4, None, "started hw 4 start 3"),
        (5, None, "diverged e-1 4"),
        (4, Some(0), "diverged e0 3"),
    ] {
        let mut b = leading();
        advance(&mut b, 3);
        advanced(&mut b, 3, 2);
        assert_eq!(b.subscribe(2, 1, 2, end, last)[0], format!("to 2 s2 e1: {answer}"), "{end} {last:?}");
    }
}

#[test]
fn catching_up_begins_with_the_batch_that_holds_the_start() {
    let mut b = leading();
    advance(&mut b, 3);
    advanced(&mut b, 3, 2);
    let out = b.subscribe(2, 1, 2, 2, None);
    assert_eq!(out, ["to 2 s2 e1: started hw 4 start 3", "read for 2 from 3 max 400"]);
    let read = Event::ReadDone {
        follower: BrokerId(2),
        stream: StreamId(2),
        from: Offset(3),
        batches: vec![batch_at(2, 2, 1)],
    };
    assert_eq!(b.step(read), ["to 2 s2 e1: 2..4 hw 4 start 3"]);
}

#[test]
fn a_follower_that_is_overtaken_by_the_start_while_it_catches_up_begins_anew() {
    let mut b = leading();
    // Out of sync, so that nothing waits for it.
    b.metadata(1, (1, 2), &[1, 3]);
    assert_eq!(b.subscribe(2, 1, 2, 0, None), ["to 2 s2 e1: started hw 4", "read for 2 from 0 max 400"]);
    advance(&mut b, 4);
    advanced(&mut b, 4, 4);
    let said = b.step(Event::Tick);
    assert!(said.contains(&"to 2 s2 e1: begin at 4".to_owned()), "{said:?}");
    let late = Event::ReadDone {
        follower: BrokerId(2),
        stream: StreamId(2),
        from: Offset(0),
        batches: vec![batch_at(0, 2, 1)],
    };
    assert_eq!(b.step(late), [""; 0]);
}

#[test]
fn a_follower_moves_its_start_no_further_than_its_high_watermark() {
    let mut b = subscribed(log(4, &[(1, 0)]));
    let started = LeaderMessage::Started { high_watermark: Offset(2), log_start: Offset(2) };
    assert_eq!(b.leader_says(3, 1, started), ["advance start 2", "to leader 2 s1 e3: ack 4 4"]);
    advanced(&mut b, 2, 2);
    let watermarks = |high_watermark, log_start| LeaderMessage::HighWatermark {
        high_watermark: Offset(high_watermark),
        log_start: Offset(log_start),
    };
    assert_eq!(b.leader_says(3, 1, watermarks(3, 9)), ["advance start 3"]);
    assert_eq!(b.leader_says(3, 1, watermarks(3, 9)), [""; 0]);
    assert_eq!(b.leader_says(3, 1, watermarks(20, 9)), ["advance start 4"], "its own log ends there");
    assert_eq!(b.leader_says(3, 1, watermarks(20, 1)), [""; 0]);
    let more = LeaderMessage::Batches {
        from: Offset(4),
        batches: vec![batch_at(4, 2, 3)],
        high_watermark: Offset(20),
        log_start: Offset(5),
    };
    assert_eq!(b.leader_says(3, 1, more), ["append 4..6 e3", "advance start 5"]);
}

#[test]
fn a_follower_drops_its_log_and_begins_where_the_leaders_does() {
    let mut b = subscribed(log(4, &[(1, 0)]));
    assert_eq!(b.leader_says(3, 1, LeaderMessage::BeginAt { at: Offset(9), producers: None }), ["begin at 9"]);
    assert_eq!(b.replica.status().role, Role::Truncating);
    let truncated = Event::Truncated { log: log_from(9, 9, 9, &[(1, 9)]) };
    assert_eq!(b.step(truncated), ["to leader 2 s1 e3: subscribe 9 -"]);
    assert_eq!((b.replica.log_start(), b.replica.status().committed), (Offset(9), Offset(9)));
    // What a follower has beyond the leader's first batch's beginning is not of it.
    let mut b = subscribed(log(4, &[(1, 0)]));
    assert_eq!(b.leader_says(3, 1, LeaderMessage::BeginAt { at: Offset(3), producers: None }), ["truncate 3"]);
    assert_eq!(b.step(Event::Truncated { log: log(3, &[(1, 0)]) }), ["to leader 2 s1 e3: subscribe 3 e1"]);
}

/// One record of producer 7.
fn sequenced(sequence: i32) -> RecordBatch {
    BatchBuilder::new(1).producer(7, 0, sequence).build()
}

/// Of what the producer wrote, all is removed: no batch tells a replica that begins anew.
#[test]
fn a_replica_that_begins_behind_a_producers_last_batch_knows_it_for_the_duplicate_that_it_is() {
    let mut leader = Bench::leading();
    for sequence in 0..4 {
        leader.produce(0, sequenced(sequence));
    }
    leader.durable(4);
    leader.both_ack(4);
    advance(&mut leader, 4);
    advanced(&mut leader, 4, 4);
    let mut out = Vec::new();
    let message = FollowerMessage::Subscribe { log_start: None, log_end: Offset(0), last_epoch: None };
    let event = Event::FromFollower {
        follower: BrokerId(2),
        broker_epoch: BrokerEpoch(20),
        leader_epoch: LeaderEpoch(1),
        stream: StreamId(2),
        message,
    };
    leader.replica.step(leader.now, event, &mut out);
    let Some(Command::Send { message, .. }) = out.first() else { panic!("{out:?}") };

    let mut b = subscribed(LogState::default());
    b.replica.step(
        b.now,
        Event::FromLeader { leader_epoch: LeaderEpoch(3), stream: StreamId(1), message: message.clone() },
        &mut out,
    );
    let Some(Command::BeginAt { at, producers: Some(encoded) }) = out.last() else { panic!("{out:?}") };
    let producers = Producers::decode(encoded, DEFAULT_EXPIRATION_MS).expect("the leader has encoded it");
    let log = LogState { start: *at, first_batch: *at, end: *at, producers, ..LogState::default() };
    b.step(Event::Truncated { log });
    b.metadata(1, (4, 2), &[1, 2]);
    assert_eq!(b.produce(1, sequenced(3)), ["reply 1 at 3"], "it is in the log, or was");
    assert_eq!(b.produce(2, sequenced(4))[0], "append 4..5 e4");
}

#[test]
fn a_follower_keeps_what_it_knows_to_be_committed_from_a_leader_that_begins_before_it() {
    let mut b = subscribed(log(4, &[(1, 0)]));
    b.metadata(2, (3, 2), &[1, 2]);
    b.leader_says(3, 1, LeaderMessage::Started { high_watermark: Offset(3), log_start: Offset(0) });
    assert_eq!(b.leader_says(3, 1, LeaderMessage::BeginAt { at: Offset(2), producers: None }), [""; 0]);
    assert_eq!(b.replica.status().role, Role::RefusingToTruncate);
    // Nor does it go back before its own start.
    let mut b = subscribed(log_from(3, 3, 6, &[(2, 3)]));
    b.metadata(2, (3, 2), &[1, 2]);
    assert_eq!(b.leader_says(3, 1, LeaderMessage::Diverged { epoch: LeaderEpoch(1), end: Offset(2) }), [""; 0]);
    assert_eq!(b.replica.status().role, Role::RefusingToTruncate);
}

#[test]
fn a_log_without_records_that_begins_within_a_batch_begins_with_it() {
    let mut b = subscribed(log_from(3, 3, 3, &[]));
    assert_eq!(b.leader_says(3, 1, LeaderMessage::BeginAt { at: Offset(2), producers: None }), ["truncate 2"]);
    let truncated = Event::Truncated { log: log_from(2, 2, 2, &[]) };
    assert_eq!(b.step(truncated), ["to leader 2 s1 e3: subscribe 2 -"]);
}

#[test]
fn an_empty_log_is_followed_on_by_a_leader_that_has_not_moved_its_start_yet() {
    let mut b = leading();
    assert_eq!(b.subscribe(2, 1, 2, 4, None), ["to 2 s2 e1: started hw 4"]);
}

/// What it had of its last epoch is removed, and was committed: nothing is left that could have gone another way.
#[test]
fn a_follower_without_records_says_so_to_its_next_leader() {
    let mut b = subscribed(log(4, &[(1, 0)]));
    assert_eq!(b.leader_says(3, 1, started_at_4())[0], "advance start 4");
    advanced(&mut b, 4, 4);
    assert!(b.replica.epochs().is_empty(), "{:?}", b.replica.epochs());
    b.metadata(2, (4, 2), &[2]);
    let up = Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(2) };
    assert_eq!(b.step(up), ["to leader 2 s2 e4: subscribe 4 -"]);
    // A leader whose own log is as empty.
    let mut b = leading();
    advance(&mut b, 4);
    advanced(&mut b, 4, 4);
    assert_eq!(b.subscribe(2, 1, 2, 4, None), ["to 2 s2 e1: started hw 4 start 4"]);
}

/// Its leader may have been elected without what is removed there, and have written that part anew since. One that counts has
/// all that was committed, and must not forget how far it had come.
#[test]
fn a_log_without_records_that_does_not_count_begins_where_its_leader_has_any() {
    let counts = "started hw 0";
    for (in_sync, eligible, answer) in
        [(&[1, 2][..], None, "begin at 0"), (&[1, 2, 3], None, counts), (&[1], Some(BrokerId(3)), counts)]
    {
        let mut b = Bench::new(log(4, &[(1, 0)]));
        b.step(Event::Metadata(PartitionState {
            elr: eligible.into_iter().collect(),
            ..state(1, (2, 1), in_sync, &[])
        }));
        let (log_end, log_start) = (Offset(3), Some(Offset(3)));
        let message = FollowerMessage::Subscribe { log_end, last_epoch: None, log_start };
        let answers = b.follower_says(3, 2, 2, message);
        assert_eq!(answers[0], format!("to 3 s2 e2: {answer}"), "{in_sync:?}: {answers:?}");
    }
    // It drops what it has, which is nothing, and gets the rest.
    let mut b = subscribed(log_from(4, 4, 4, &[]));
    assert_eq!(b.leader_says(3, 1, LeaderMessage::BeginAt { at: Offset(0), producers: None }), ["truncate 0"]);
    assert_eq!(b.step(Event::Truncated { log: log(0, &[]) }), ["to leader 2 s1 e3: subscribe 0 -"]);
}

/// A leader of epoch 3 sends what comes behind a gap to a replica that has nothing from 4 on.
fn behind_a_gap(b: &mut Bench) -> Vec<(i32, i64)> {
    let batches = LeaderMessage::Batches {
        from: Offset(4),
        batches: vec![batch_at(6, 2, 3)],
        high_watermark: Offset(8),
        log_start: Offset(4),
    };
    assert!(b.leader_says(3, 1, batches).contains(&"append 6..8 e3".to_owned()));
    b.replica.epochs().iter().map(|(epoch, first)| (epoch.0, first.0)).collect()
}

fn started_at_4() -> LeaderMessage {
    LeaderMessage::Started { high_watermark: Offset(4), log_start: Offset(4) }
}

#[test]
fn a_log_without_records_takes_a_gap_for_the_epoch_of_the_first_batch_behind_it() {
    // All that it had is removed.
    let mut b = subscribed(log(4, &[(1, 0)]));
    assert_eq!(b.leader_says(3, 1, started_at_4())[0], "advance start 4");
    advanced(&mut b, 4, 4);
    assert_eq!(behind_a_gap(&mut b), [(3, 4)]);
    // It began there.
    let mut b = subscribed(log_from(4, 4, 4, &[]));
    b.leader_says(3, 1, started_at_4());
    assert_eq!(behind_a_gap(&mut b), [(3, 4)]);
    // As the disk says after a restart.
    let b = Bench::new(log_from(4, 4, 8, &[(3, 6)]));
    assert_eq!(b.replica.epochs(), [(LeaderEpoch(3), Offset(4))]);
    // While there is something, the epoch begins with its first batch, which compaction leaves.
    let mut b = subscribed(log(4, &[(1, 0)]));
    b.leader_says(3, 1, started_at_4());
    assert_eq!(behind_a_gap(&mut b), [(1, 0), (3, 6)]);
}

/// It was written by a leader that went on alone for a while, and somebody else has written there since, and that is
/// compacted.
#[test]
fn a_record_that_nobody_committed_is_not_taken_for_one_that_compaction_left_nothing_of() {
    let mut b = subscribed(log(4, &[(1, 0)]));
    b.leader_says(3, 1, started_at_4());
    advanced(&mut b, 4, 4);
    behind_a_gap(&mut b);
    b.metadata(1, (4, 2), &[1, 2]);
    assert_eq!(b.subscribe(2, 4, 1, 5, Some(1))[0], "to 2 s1 e4: diverged e1 4");
}
