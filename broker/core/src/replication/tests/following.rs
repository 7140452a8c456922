//! What a follower does with what its leader says.

use super::bench::{Bench, batch, batch_at, log};
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::replication::*;

fn connected(b: &mut Bench, stream: u64) -> Vec<String> {
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(stream) })
}

fn started(high_watermark: i64) -> LeaderMessage {
    LeaderMessage::Started { high_watermark: Offset(high_watermark), log_start: Offset(0) }
}

fn batches(batches: Vec<crate::record::RecordBatch>, high_watermark: i64) -> LeaderMessage {
    let from = batches[0].header().base_offset;
    LeaderMessage::Batches { from, batches, high_watermark: Offset(high_watermark), log_start: Offset(0) }
}

fn diverged(epoch: i32, end: i64) -> LeaderMessage {
    LeaderMessage::Diverged { epoch: LeaderEpoch(epoch), end: Offset(end) }
}

/// A follower of 2 in epoch 3 on stream 1, subscribed.
fn subscribed(log: LogState) -> Bench {
    let mut b = Bench::new(log);
    b.metadata(2, (3, 1), &[2]);
    connected(&mut b, 1);
    b
}

#[test]
fn it_appends_over_a_gap_that_its_leader_names_and_over_no_other() {
    let after = |from, base| LeaderMessage::Batches {
        from: Offset(from),
        batches: vec![batch_at(base, 2, 3), batch_at(base + 10, 1, 3)],
        high_watermark: Offset(0),
        log_start: Offset(0),
    };
    let mut b = subscribed(log(4, &[(1, 0)]));
    b.leader_says(3, 1, started(2));
    let appended = b.leader_says(3, 1, after(4, 300_000));
    assert_eq!(appended[..2], ["append 300000..300002 e3", "append 300010..300011 e3"]);
    assert_eq!(b.durable(300_011), ["to leader 2 s1 e3: ack 300011 300011"]);
    assert_eq!(b.leader_says(3, 1, after(300_020, 300_020)), ["follow 2"], "something is missing");
    // A log that is not there yet begins where it began, and not behind the gap.
    let mut b = subscribed(LogState::default());
    b.leader_says(3, 1, started(0));
    let appended = b.leader_says(3, 1, after(0, 300_000));
    assert_eq!(appended[1..3], ["append 300000..300002 e3", "append 300010..300011 e3"]);
    assert!(appended[0].contains("start") && appended[0].ends_with(" 0"), "{appended:?}");
}

#[test]
fn it_subscribes_appends_and_acknowledges_what_its_disk_has() {
    let mut b = Bench::new(log(4, &[(1, 0)]));
    assert_eq!(b.metadata(2, (3, 1), &[2]), ["follow 2"]);
    assert_eq!(connected(&mut b, 1), ["to leader 2 s1 e3: subscribe 4 e1"]);
    assert_eq!(b.leader_says(3, 1, started(2)), ["to leader 2 s1 e3: ack 4 4"]);
    assert_eq!(b.leader_says(3, 1, batches(vec![batch_at(4, 2, 3)], 9)), ["append 4..6 e3"]);
    assert_eq!(b.replica.status().committed, Offset(6), "no more can be known to be committed than is here");
    assert_eq!(b.durable(6), ["to leader 2 s1 e3: ack 6 6"]);
    assert_eq!(b.replica.epochs(), [(LeaderEpoch(1), Offset(0)), (LeaderEpoch(3), Offset(4))]);
}

#[test]
fn it_acknowledges_the_append_only_to_keep_the_window_open() {
    let mut b = subscribed(log(0, &[]));
    b.leader_says(3, 1, started(0));
    assert_eq!(b.leader_says(3, 1, batches(vec![batch_at(0, 1, 3)], 0)), ["append 0..1 e3"]);
    assert_eq!(
        b.leader_says(3, 1, batches(vec![batch_at(1, 1, 3)], 0)),
        ["append 1..2 e3", "to leader 2 s1 e3: ack 2 0"],
        "a quarter of the window is full"
    );
}

#[test]
fn it_cuts_back_to_where_the_epoch_ends_on_both_sides() {
    // Own log: epoch 1 from 0, epoch 2 from 5, end 9. (what the leader says, truncate to)
    for (said, to) in [(diverged(2, 7), 7), (diverged(1, 8), 5), (diverged(1, 3), 3)] {
        let mut b = subscribed(log(9, &[(1, 0), (2, 5)]));
        assert_eq!(b.leader_says(3, 1, said.clone()), [format!("truncate {to}")], "{said:?}");
    }
}

/// The answer may be the same each time.
#[test]
fn it_takes_a_moment_to_ask_again_where_it_knows_of_no_other_way() {
    let mut b = subscribed(log(9, &[(1, 0), (2, 5)]));
    for _ in 0..3 {
        assert_eq!(b.leader_says(3, 1, diverged(2, 12)), [""; 0]);
        assert_eq!(b.step(Event::Tick), [""; 0]);
        assert_eq!(b.after(60).step(Event::Tick), ["to leader 2 s1 e3: subscribe 9 e2"]);
    }
}

#[test]
fn it_subscribes_again_after_cutting_back() {
    let mut b = subscribed(log(9, &[(1, 0), (2, 5)]));
    b.leader_says(3, 1, diverged(1, 8));
    assert_eq!(b.replica.status().role, Role::Truncating);
    assert_eq!(b.durable(9), [""; 0]);
    let truncated = Event::Truncated { log: log(5, &[(1, 0)]) };
    assert_eq!(b.step(truncated), ["to leader 2 s1 e3: subscribe 5 e1"]);
    assert_eq!((b.replica.log_end(), b.replica.durable_end()), (Offset(5), Offset(5)));
}

#[test]
fn metadata_that_comes_while_cutting_back_waits_for_the_end_of_it() {
    let mut b = subscribed(log(9, &[(1, 0), (2, 5)]));
    b.leader_says(3, 1, diverged(1, 8));
    assert_eq!(b.metadata(1, (4, 2), &[1, 2]), [""; 0]);
    assert_eq!(b.produce(1, batch(1)), ["reply 1 NotLeader"]);
    assert_eq!(b.step(Event::Truncated { log: log(5, &[(1, 0)]) }), ["follow nobody", "wake"]);
    assert_eq!(b.produce(2, batch(1))[0], "append 5..6 e4");
}

#[test]
fn a_connection_that_changes_while_cutting_back_is_the_one_to_use() {
    let mut b = subscribed(log(9, &[(1, 0), (2, 5)]));
    b.leader_says(3, 1, diverged(1, 8));
    b.step(Event::LeaderDisconnected { leader: BrokerId(2) });
    assert_eq!(connected(&mut b, 2), [""; 0]);
    assert_eq!(b.step(Event::Truncated { log: log(5, &[(1, 0)]) }), ["to leader 2 s2 e3: subscribe 5 e1"]);
}

#[test]
fn it_never_cuts_back_what_it_knows_to_be_committed() {
    let mut b = subscribed(log(9, &[(1, 0)]));
    b.leader_says(3, 1, started(6));
    b.metadata(2, (4, 2), &[1, 2]);
    connected(&mut b, 2);
    assert_eq!(b.leader_says(4, 2, diverged(1, 5)), [""; 0]);
    assert_eq!(b.replica.status().role, Role::RefusingToTruncate);
    assert_eq!(connected(&mut b, 3), [""; 0]);
    assert_eq!(b.metadata(2, (5, 3), &[2]), ["follow 2"], "the next leadership is another matter");
}

/// An operator has elected a leader that had less, as this broker was away, and its process went on.
#[test]
fn what_nobody_counts_on_any_more_gives_way_to_what_an_operator_chose() {
    let mut b = subscribed(log(9, &[(1, 0)]));
    b.leader_says(3, 1, started(6));
    b.metadata(2, (4, 2), &[2]);
    connected(&mut b, 2);
    assert_eq!(b.leader_says(4, 2, diverged(1, 5)), ["to leader 2 s2 e4: subscribe 5 e1"]);
    assert_eq!(b.leader_says(4, 2, started(5)), [""; 0]);
    assert_eq!(b.after(9_000).step(Event::Tick), [""; 0], "the leader may have asked for it before it knew");
    assert_eq!(b.after(1_000).step(Event::Tick), ["repair 5"]);
    assert_eq!(b.step(Event::Truncated { log: log(5, &[(1, 0)]) }), ["to leader 2 s2 e4: subscribe 5 e1"]);
    b.leader_says(4, 2, started(5));
    assert_eq!(b.replica.status().role, Role::Follower);
    // What was committed before is lost, and not waited for.
    assert_eq!(b.metadata(2, (4, 3), &[1, 2]), [""; 0]);
    assert_eq!(b.after(5_000).step(Event::Tick), [""; 0]);
}

/// The same where its log begins behind the end of what the leader has.
#[test]
fn a_log_that_lost_all_to_an_operators_choice_begins_where_its_leader_ends() {
    let beginning = |start: i64, end: i64, epochs: &[(i32, i64)]| LogState {
        start: Offset(start),
        first_batch: Offset(start),
        ..log(end, epochs)
    };
    let mut b = subscribed(beginning(3, 9, &[(1, 3)]));
    b.leader_says(3, 1, LeaderMessage::Started { high_watermark: Offset(6), log_start: Offset(3) });
    b.metadata(2, (4, 2), &[2]);
    connected(&mut b, 2);
    assert_eq!(b.leader_says(4, 2, diverged(1, 2)), ["to leader 2 s2 e4: subscribe 3 -"]);
    b.leader_says(4, 2, diverged(-1, 2));
    assert_eq!(b.after(10_000).step(Event::Tick), ["repair 3"]);
    assert_eq!(b.step(Event::Truncated { log: beginning(3, 3, &[]) }), ["to leader 2 s2 e4: subscribe 3 -"]);
    assert_eq!(b.leader_says(4, 2, diverged(-1, 2)), ["truncate 2"]);
    assert_eq!(b.step(Event::Truncated { log: beginning(2, 2, &[]) }), ["to leader 2 s2 e4: subscribe 2 -"]);
    assert_eq!(b.leader_says(4, 2, started(2)), ["to leader 2 s2 e4: ack 2 2"]);
}

/// Compaction has left nothing of epoch 2, which lies between 10 and 20, in the log of the leader, which has got it from
/// another one: its own batches are all that it knows the epoch by.
#[test]
fn it_gets_anew_what_it_has_of_an_epoch_that_compaction_removed() {
    let mut b = Bench::new(log(15, &[(1, 0), (2, 10)]));
    b.metadata(2, (3, 1), &[1, 2]);
    connected(&mut b, 1);
    b.leader_says(3, 1, started(15));
    b.metadata(3, (4, 2), &[1, 3]);
    let up = Event::LeaderConnected { leader: BrokerId(3), stream: StreamId(2) };
    assert_eq!(b.step(up), ["to leader 3 s2 e4: subscribe 15 e2"]);
    assert_eq!(
        b.leader_says(4, 2, diverged(1, 20)),
        ["to leader 3 s2 e4: subscribe 10 e1"],
        "it may not be counted on"
    );
    assert_eq!(b.replica.status().role, Role::Follower);
    assert_eq!(b.leader_says(4, 2, started(30)), ["give up"], "nothing is cut off that counts");
    assert_eq!(b.metadata(3, (4, 3), &[3]), ["repair 10"]);
    let truncated = Event::Truncated { log: log(10, &[(1, 0)]) };
    assert_eq!(b.step(truncated), ["to leader 3 s2 e4: subscribe 10 e1"]);
    b.leader_says(4, 2, started(30));
    let after_gap = LeaderMessage::Batches {
        from: Offset(10),
        batches: vec![batch_at(20, 10, 4)],
        high_watermark: Offset(30),
        log_start: Offset(0),
    };
    assert_eq!(b.leader_says(4, 2, after_gap), ["append 20..30 e4"]);
    assert_eq!(b.metadata(3, (4, 4), &[1, 3]), [""; 0], "it may be counted on");
    assert_eq!(b.after(5_000).step(Event::Tick), [""; 0]);
}

#[test]
fn it_takes_nothing_that_does_not_continue_its_log() {
    for wrong in [batch_at(3, 1, 3), batch_at(5, 1, 3), batch_at(4, 1, 4), batch_at(4, 1, 0)] {
        let mut b = subscribed(log(4, &[(1, 0)]));
        b.leader_says(3, 1, started(0));
        assert_eq!(b.leader_says(3, 1, batches(vec![wrong], 0)), ["follow 2"], "asks for a new stream");
        assert_eq!(b.replica.log_end(), Offset(4));
    }
}

#[test]
fn it_hears_nobody_but_its_leader_of_that_epoch_on_that_stream() {
    let mut b = subscribed(log(4, &[(1, 0)]));
    for (epoch, stream) in [(2, 1), (4, 1), (3, 0), (3, 2)] {
        assert_eq!(b.leader_says(epoch, stream, started(4)), [""; 0]);
    }
    assert_eq!(b.leader_says(3, 1, batches(vec![batch_at(4, 1, 3)], 4)), [""; 0], "not before it is started");
    assert_eq!(b.replica.status().committed, Offset(0));
    let other = Event::LeaderConnected { leader: BrokerId(3), stream: StreamId(7) };
    assert_eq!(b.step(other), [""; 0]);
}

#[test]
fn it_tries_again_when_the_other_side_does_not_lead_yet() {
    let mut b = subscribed(log(0, &[]));
    assert_eq!(b.leader_says(3, 1, LeaderMessage::NotLeader { leader_epoch: LeaderEpoch(2) }), [""; 0]);
    assert!(b.replica.needs_tick(b.now));
    assert_eq!(b.step(Event::Tick), [""; 0]);
    assert_eq!(b.after(60).step(Event::Tick), ["to leader 2 s1 e3: subscribe 0 -"]);
    assert!(!b.replica.needs_tick(b.now));
}
