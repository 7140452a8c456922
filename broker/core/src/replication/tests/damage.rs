//! A replica whose disk has lost something while it runs.

use super::bench::{Bench, batch, batch_at, log, state};
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::replication::*;

const GIVE_UP: [&str; 1] = ["give up"];

fn damaged(b: &mut Bench, from: i64) -> Vec<String> {
    b.step(Event::Damaged { from: Offset(from) })
}

fn truncated(b: &mut Bench, end: i64) -> Vec<String> {
    b.step(Event::Truncated { log: log(end, &[(1, 0)]) })
}

fn started(high_watermark: i64) -> LeaderMessage {
    LeaderMessage::Started { high_watermark: Offset(high_watermark), log_start: Offset(0) }
}

/// A follower of 2 in epoch 3, streaming, in sync, with eight records, all committed.
fn following() -> Bench {
    let mut b = Bench::new(log(8, &[(1, 0)]));
    b.metadata(2, (3, 1), &[1, 2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    b.leader_says(3, 1, started(8));
    assert_eq!(b.replica.status().committed, Offset(8));
    b
}

#[test]
fn a_follower_is_out_of_every_set_before_it_cuts_off_what_it_has_lost() {
    let mut b = following();
    assert_eq!(damaged(&mut b, 4), ["to leader 2 s1 e3: subscribe 4 e1"], "the leader is the first to know");
    assert_eq!(b.after(100).step(Event::Tick), [""; 0], "and has not answered");
    assert_eq!(b.metadata(2, (3, 2), &[2, 3]), [""; 0], "it may want this replica back, before it hears of it");
    assert_eq!(b.metadata(2, (3, 3), &[1, 2, 3]), [""; 0]);
    assert_eq!(b.leader_says(3, 1, started(8)), GIVE_UP);
    assert_eq!(b.durable(8), [""; 0], "nothing is acknowledged");
    assert_eq!(b.after(1_000).step(Event::Tick), [""; 0]);
    assert_eq!(b.after(4_000).step(Event::Tick), GIVE_UP, "the controller may not have heard it");
    assert_eq!(b.metadata(2, (3, 4), &[2, 3]), ["repair 4"]);
    assert_eq!(truncated(&mut b, 4), ["to leader 2 s1 e3: subscribe 4 e1"], "like any other follower");
    // Nobody may count on it before it has again what was committed.
    assert_eq!(b.metadata(2, (3, 5), &[1, 2, 3]), [""; 0]);
    assert_eq!(b.after(5_000).step(Event::Tick), GIVE_UP);
}

/// Nothing else would have it subscribe: the connection is there, and stays.
#[test]
fn a_repair_that_begins_while_the_follower_waits_ends_with_a_subscription() {
    let mut b = following();
    damaged(&mut b, 4);
    assert_eq!(b.leader_says(3, 1, started(8)), GIVE_UP);
    b.step(Event::LeaderDisconnected { leader: BrokerId(2) });
    let up = Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(2) };
    assert_eq!(b.step(up), ["to leader 2 s2 e3: subscribe 4 e1"]);
    // Its process has begun anew, and has not got so far in the metadata.
    assert_eq!(b.leader_says(3, 2, LeaderMessage::NotLeader { leader_epoch: LeaderEpoch(2) }), [""; 0]);
    assert_eq!(b.metadata(2, (3, 2), &[2, 3]), ["repair 4"]);
    assert_eq!(truncated(&mut b, 4), ["to leader 2 s2 e3: subscribe 4 e1"]);
}

#[test]
fn a_leader_cuts_nothing_off_before_another_one_leads() {
    let mut b = Bench::leading();
    for n in 0..2 {
        b.produce(n, batch(2));
    }
    b.durable(4);
    b.both_ack(4);
    assert_eq!(damaged(&mut b, 2), GIVE_UP);
    assert_eq!(b.step(Event::Tick), ["to 2 s1 e1: hw 4", "to 3 s1 e1: hw 4"], "it leads on");
    let asked_again = b.after(5_000).step(Event::Tick);
    assert!(asked_again.contains(&"give up".to_owned()), "perhaps somebody else can lead by now: {asked_again:?}");
    let out = b.metadata(2, (2, 2), &[2, 3]);
    assert_eq!(out.last().map(String::as_str), Some("repair 2"), "{out:?}");
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(7) });
    assert_eq!(truncated(&mut b, 2), ["to leader 2 s7 e2: subscribe 2 e1"]);
}

/// It is still in sync then, and acknowledges nothing: nothing is committed before it has left.
#[test]
fn a_leader_that_was_succeeded_asks_at_once_to_leave_the_others() {
    let mut b = Bench::leading();
    for n in 0..2 {
        b.produce(n, batch(2));
    }
    b.durable(4);
    b.both_ack(4);
    assert_eq!(damaged(&mut b, 2), GIVE_UP);
    let asked = |out: &[String]| out.iter().filter(|command| **command == GIVE_UP[0]).count();
    let mut requests = asked(&b.metadata(2, (2, 2), &[1, 2, 3]));
    requests += asked(&b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(7) }));
    requests += asked(&b.leader_says(2, 7, started(4)));
    assert_eq!(requests, 1, "to be taken out of this epoch's set");
    assert_eq!(b.after(4_000).step(Event::Tick), [""; 0], "once in a while");
    assert_eq!(b.after(1_000).step(Event::Tick), GIVE_UP, "the controller may not have heard it");
    assert_eq!(b.metadata(2, (2, 3), &[2, 3]), ["repair 2"]);
}

#[test]
fn a_follower_that_nobody_counts_on_waits_for_what_its_leader_may_have_asked_for() {
    let mut b = following();
    b.metadata(2, (3, 2), &[2, 3]);
    damaged(&mut b, 4);
    assert_eq!(b.leader_says(3, 1, started(8)), [""; 0]);
    assert_eq!(b.after(9_000).step(Event::Tick), [""; 0]);
    assert_eq!(b.after(1_000).step(Event::Tick), ["repair 4"]);
}

#[test]
fn damage_behind_a_truncation_is_gone_with_it() {
    let mut b = following();
    damaged(&mut b, 6);
    // The next leader's log went another way long before.
    b.metadata(3, (4, 2), &[1, 2, 3]);
    b.step(Event::Tick);
    let mut b = Bench::new(log(8, &[(1, 0), (2, 5)]));
    b.metadata(2, (3, 1), &[2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    let diverged = LeaderMessage::Diverged { epoch: LeaderEpoch(1), end: Offset(5) };
    assert_eq!(b.leader_says(3, 1, diverged), ["truncate 5"]);
    assert_eq!(damaged(&mut b, 6), [""; 0]);
    assert_eq!(truncated(&mut b, 5), ["to leader 2 s1 e3: subscribe 5 e1"]);
    assert_eq!(b.leader_says(3, 1, started(5)), ["to leader 2 s1 e3: ack 5 5"]);
}

#[test]
fn a_truncation_with_damage_in_its_way_waits_until_nobody_counts_on_the_copy() {
    let mut b = Bench::new(log(8, &[(1, 0), (2, 5)]));
    b.metadata(2, (3, 1), &[1, 2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    let diverged = LeaderMessage::Diverged { epoch: LeaderEpoch(1), end: Offset(5) };
    assert_eq!(b.leader_says(3, 1, diverged), ["truncate 5"]);
    // The disk cannot read the batch before, on its way to where it is to cut.
    assert_eq!(damaged(&mut b, 3), [""; 0]);
    let as_it_was = Event::Truncated { log: log(8, &[(1, 0), (2, 5)]) };
    assert_eq!(b.step(as_it_was), [""; 0]);
    assert_eq!(b.replica.status().log_end, Offset(8), "all that it has acknowledged is there");
    assert_eq!(b.after(50).step(Event::Tick), ["to leader 2 s1 e3: subscribe 3 e1"]);
    assert_eq!(b.leader_says(3, 1, started(5)), GIVE_UP);
    assert_eq!(b.metadata(2, (3, 2), &[2, 3]), ["repair 3"]);
    assert_eq!(truncated(&mut b, 3), ["to leader 2 s1 e3: subscribe 3 e1"]);
}

#[test]
fn who_is_elected_while_damage_is_in_the_way_leads_with_all_that_it_has_acknowledged() {
    let mut b = Bench::new(log(8, &[(1, 0), (2, 5)]));
    b.metadata(2, (3, 1), &[1, 2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    let diverged = LeaderMessage::Diverged { epoch: LeaderEpoch(1), end: Offset(5) };
    assert_eq!(b.leader_says(3, 1, diverged), ["truncate 5"]);
    damaged(&mut b, 3);
    b.metadata(1, (4, 2), &[1, 3]);
    b.step(Event::Truncated { log: log(8, &[(1, 0), (2, 5)]) });
    assert_eq!(b.replica.status().role, Role::Leader);
    assert!(b.replica.log_end() >= Offset(8), "{:?}", b.replica.status());
}

/// What is found of damage while it is repaired does not make the replica forget what it had acknowledged before.
#[test]
fn damage_behind_a_repair_does_not_make_a_copy_whole_again() {
    let mut b = following();
    damaged(&mut b, 4);
    b.leader_says(3, 1, started(8));
    assert_eq!(b.metadata(2, (3, 2), &[2, 3]), ["repair 4"]);
    assert_eq!(damaged(&mut b, 2), [""; 0]);
    assert_eq!(truncated(&mut b, 2), ["to leader 2 s1 e3: subscribe 2 e1"]);
    // It has less than it has acknowledged: nobody may count on it.
    assert_eq!(b.metadata(2, (3, 3), &[1, 2, 3]), GIVE_UP);
    assert_eq!(b.leader_says(3, 1, started(8)), ["to leader 2 s1 e3: ack 2 2"], "it catches up like any other");
}

#[test]
fn damage_of_what_is_dropped_to_begin_anew_is_gone_with_it() {
    let mut b = Bench::new(log(8, &[(1, 0)]));
    b.metadata(2, (3, 1), &[2, 3]);
    b.step(Event::LeaderConnected { leader: BrokerId(2), stream: StreamId(1) });
    let begin = LeaderMessage::BeginAt { at: Offset(54), producers: None };
    assert_eq!(b.leader_says(3, 1, begin), ["begin at 54"]);
    assert_eq!(damaged(&mut b, 4), [""; 0]);
    let emptied = LogState { start: Offset(54), first_batch: Offset(54), end: Offset(54), ..log(54, &[]) };
    assert_eq!(b.step(Event::Truncated { log: emptied }), ["to leader 2 s1 e3: subscribe 54 -"]);
    b.leader_says(3, 1, started(54));
    assert_eq!(b.after(11_000).step(Event::Tick), [""; 0]);
}

fn start_advanced(b: &mut Bench, start: i64, damaged: Option<i64>) -> Vec<String> {
    let start = Offset(start);
    b.step(Event::StartAdvanced { start, first_batch: start, damaged: damaged.map(Offset) })
}

#[test]
fn damage_before_the_start_is_over_also_where_there_is_no_other_copy() {
    let leading = || {
        let mut b = Bench::leading();
        for n in 0..2 {
            b.produce(n, batch(2));
        }
        b.durable(4);
        b.both_ack(4);
        assert_eq!(damaged(&mut b, 1), GIVE_UP);
        b
    };
    let asks = |b: &mut Bench| b.after(5_000).step(Event::Tick).contains(&"give up".to_owned());
    let mut b = leading();
    start_advanced(&mut b, 1, Some(1));
    assert!(asks(&mut b), "it is behind the start");
    start_advanced(&mut b, 2, Some(3));
    assert!(asks(&mut b), "there is more of it");
    start_advanced(&mut b, 4, None);
    assert!(!asks(&mut b));
    let mut b = leading();
    start_advanced(&mut b, 2, None);
    assert!(!asks(&mut b));
    // It is a copy like any other: when others lead, nothing is cut off.
    let out = b.metadata(2, (2, 2), &[2, 3]);
    assert!(!out.iter().any(|command| command.starts_with("repair")), "{out:?}");
}

#[test]
fn a_follower_whose_damage_has_left_with_the_start_is_as_long_as_ever() {
    let whole = ["to leader 2 s1 e3: subscribe 8 e1"];
    let mut b = following();
    damaged(&mut b, 4);
    // Before the leader has answered, and after.
    assert_eq!(start_advanced(&mut b, 5, None), [""; 0]);
    assert_eq!(b.leader_says(3, 1, started(8)), whole);
    assert_eq!(b.leader_says(3, 1, started(8)), ["to leader 2 s1 e3: ack 8 8"]);
    let mut b = following();
    damaged(&mut b, 4);
    assert_eq!(b.leader_says(3, 1, started(8)), GIVE_UP);
    assert_eq!(start_advanced(&mut b, 5, Some(6)), ["to leader 2 s1 e3: subscribe 6 e1"]);
    assert_eq!(b.leader_says(3, 1, started(8)), [""; 0]);
    assert_eq!(start_advanced(&mut b, 7, None), whole);
    assert_eq!(b.leader_says(3, 1, started(8)), ["to leader 2 s1 e3: ack 8 8"]);
    assert_eq!(b.after(11_000).step(Event::Tick), [""; 0]);
}

/// What leaves with the start does not bring back what was cut off at the end.
#[test]
fn a_copy_that_was_cut_back_is_not_whole_because_later_damage_has_left() {
    let mut b = following();
    damaged(&mut b, 4);
    b.leader_says(3, 1, started(8));
    assert_eq!(b.metadata(2, (3, 2), &[2, 3]), ["repair 4"]);
    truncated(&mut b, 4);
    b.leader_says(3, 1, started(8));
    damaged(&mut b, 1);
    start_advanced(&mut b, 2, None);
    assert_eq!(b.after(5_000).metadata(2, (3, 3), &[1, 2, 3]), GIVE_UP);
}

/// A follower that was cut back to four of eight committed records.
fn cut_back() -> Bench {
    let mut b = following();
    damaged(&mut b, 4);
    assert_eq!(b.leader_says(3, 1, started(8)), GIVE_UP);
    assert_eq!(b.metadata(2, (3, 2), &[2, 3]), ["repair 4"]);
    assert_eq!(truncated(&mut b, 4), ["to leader 2 s1 e3: subscribe 4 e1"]);
    b
}

/// Follows 3 in epoch 4, whose log ends at 5, and gets the last records of that.
fn follow_a_shorter_log(b: &mut Bench, lacks: i32) {
    let end = 5 - i64::from(lacks);
    let up = Event::LeaderConnected { leader: BrokerId(3), stream: StreamId(2) };
    assert_eq!(b.step(up), [format!("to leader 3 s2 e4: subscribe {end} e1")]);
    assert_eq!(b.leader_says(4, 2, started(5)), [format!("to leader 3 s2 e4: ack {end} {end}")]);
    let batches = LeaderMessage::Batches {
        from: Offset(end),
        batches: vec![batch_at(end, lacks, 1)],
        high_watermark: Offset(5),
        log_start: Offset(0),
    };
    assert_eq!(b.leader_says(4, 2, batches)[0], format!("append {end}..5 e1"));
    assert_eq!(b.durable(5), ["to leader 3 s2 e4: ack 5 5"]);
}

fn is_whole(b: &mut Bench) {
    assert_eq!(b.after(5_000).step(Event::Tick), [""; 0]);
    assert!(b.replica.damage.is_none(), "{:?}", b.replica.damage);
}

#[test]
fn what_an_unclean_election_has_given_up_is_not_missed_by_a_copy_that_was_cut_back() {
    let mut b = cut_back();
    assert_eq!(b.metadata(3, (4, 3), &[3]), ["follow 3"]);
    follow_a_shorter_log(&mut b, 1);
    assert_eq!(b.metadata(3, (4, 4), &[1, 3]), [""; 0], "its leader has asked for it");
    is_whole(&mut b);
}

/// Nobody has heard of it in this epoch, neither before it was cut back nor after.
#[test]
fn what_an_unclean_election_has_given_up_is_not_missed_by_a_copy_that_is_cut_back_after_it() {
    let mut b = following();
    damaged(&mut b, 4);
    assert_eq!(b.metadata(3, (4, 2), &[3]), ["follow 3", "repair 4"]);
    assert_eq!(damaged(&mut b, 2), [""; 0], "the disk has lost more than was known");
    assert_eq!(truncated(&mut b, 2), [""; 0]);
    follow_a_shorter_log(&mut b, 3);
    assert_eq!(b.metadata(3, (4, 3), &[1, 3]), [""; 0]);
    is_whole(&mut b);
}

#[test]
fn a_copy_that_was_cut_back_is_not_whole_because_the_next_leader_finds_it_in_sync() {
    let mut b = cut_back();
    // The former leader had asked for that before it heard of the damage. What is lost here may be with the next one.
    assert_eq!(b.metadata(2, (3, 3), &[1, 2, 3]), [""; 0]);
    assert_eq!(b.metadata(3, (4, 4), &[1, 3]), ["follow 3", "give up"]);
    follow_a_shorter_log(&mut b, 1);
    assert_eq!(b.after(5_000).step(Event::Tick), GIVE_UP);
    assert_eq!(b.metadata(3, (4, 5), &[3]), [""; 0]);
    assert_eq!(b.metadata(3, (4, 6), &[1, 3]), [""; 0], "now that is its own request");
    is_whole(&mut b);
}

#[test]
fn a_copy_is_not_whole_because_its_leader_has_asked_for_what_it_had_before() {
    let mut b = cut_back();
    assert_eq!(b.metadata(3, (4, 3), &[3]), ["follow 3"]);
    follow_a_shorter_log(&mut b, 1);
    // The leader has heard that all of its log is here, and may be asking for this copy.
    assert_eq!(damaged(&mut b, 1), ["to leader 3 s2 e4: subscribe 1 e1"]);
    assert_eq!(b.leader_says(4, 2, started(5)), [""; 0]);
    assert_eq!(b.after(10_000).step(Event::Tick), ["repair 1"]);
    assert_eq!(truncated(&mut b, 1), ["to leader 3 s2 e4: subscribe 1 e1"]);
    assert_eq!(b.metadata(3, (4, 4), &[1, 3]), GIVE_UP);
}

/// Each request is an entry of the metadata log, and a damaged copy that is the last one may stay so for months.
#[test]
fn a_leader_that_nobody_can_succeed_asks_less_and_less_often_until_something_changes() {
    let mut b = Bench::leading();
    for n in 0..2 {
        b.produce(n, batch(2));
    }
    b.durable(4);
    b.both_ack(4);
    b.metadata(1, (1, 2), &[1]);
    assert_eq!(damaged(&mut b, 2), GIVE_UP);
    b.step(Event::CopyKept);
    let asks = |b: &mut Bench| {
        let asked = b.after(1_000).step(Event::Tick).contains(&"give up".to_owned());
        if asked {
            b.step(Event::CopyKept);
        }
        asked
    };
    // In seconds.
    let asked: Vec<u32> = (1..=4_000).filter(|_| asks(&mut b)).collect();
    assert_eq!(asked, [5, 15, 35, 75, 155, 315, 635, 1235, 1835, 2435, 3035, 3635]);
    // Another replica has come back.
    assert!(b.metadata(1, (1, 3), &[1, 2]).contains(&"give up".to_owned()));
    // An answer that was lost says nothing.
    assert!(!asks(&mut b) && b.after(4_000).step(Event::Tick).contains(&"give up".to_owned()));
}

/// What a leader does about a follower that says so.
#[test]
fn a_leader_does_not_take_a_follower_for_whole_that_has_lost_something() {
    let mut b = Bench::leading();
    for n in 0..2 {
        b.produce(n, batch(2));
    }
    b.durable(4);
    b.both_ack(4);
    assert_eq!(b.replica.status().committed, Offset(4));
    assert_eq!(b.subscribe(2, 1, 1, 2, Some(1))[0], "to 2 s1 e1: started hw 4");
    b.produce(2, batch(2));
    b.durable(6);
    b.ack(3, 1, 6, 6);
    assert_eq!(b.replica.status().committed, Offset(4), "the follower is in sync, and has not got it");
}

/// Broker 2 stopped in order, and has all that was committed while both were in sync. Alone, 1 would acknowledge what its next
/// start cuts off, and nobody could lead after it.
#[test]
fn a_leader_whose_disk_has_lost_something_leaves_the_others_eligible() {
    let eligible = |partition_epoch| {
        let alone = state(1, (1, partition_epoch), &[1], &[2, 3]);
        Event::Metadata(PartitionState { elr: vec![BrokerId(2)], min_insync_replicas: 1, ..alone })
    };
    let asks = |said: Vec<String>| said.iter().any(|command| command.starts_with("alter"));
    let mut b = Bench::new(log(8, &[(1, 0)]));
    assert!(asks(b.step(eligible(1))), "whose log is whole goes on alone");
    let mut b = Bench::new(log(8, &[(1, 0)]));
    b.metadata(1, (1, 1), &[1, 2]);
    damaged(&mut b, 4);
    assert!(!asks(b.step(eligible(2))));
    assert!(!asks(b.after(5_000).step(Event::Tick)));
    assert!(!asks(b.produce(1, batch(1))) && b.durable(9).is_empty(), "nothing is committed without 2");
    assert_eq!(b.replica.high_watermark().filter(|end| *end > Offset(8)), None);
}
