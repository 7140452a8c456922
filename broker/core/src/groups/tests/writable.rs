//! While appends are not likely to be committed, and after the process stood still.

use super::migration::{beat, heartbeat};
use super::offsets::fetch;
use super::*;
use crate::groups::request::ConsumerGroupHeartbeat;
use crate::groups::shared::COPIES;

fn commit_error(bench: &mut Bench, request: Request) -> Result<(), GroupError> {
    match bench.ask(request) {
        Response::OffsetCommit(mut answers) => answers.remove(0),
        other => panic!("{other:?}"),
    }
}

fn fetch_request(group: &str, member: Option<(Arc<str>, i32)>) -> Request {
    let topics = Some(vec![(Arc::from("t"), vec![0])]);
    Request::OffsetFetch { group: group.into(), member, topics, require_stable: false }
}

fn try_fetch(bench: &mut Bench, group: &str) -> Result<i64, GroupError> {
    match bench.ask(fetch_request(group, None)) {
        Response::OffsetFetch(answer) => answer.map(|topics| topics[0].partitions[0].offset),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_writes_nothing_goes_on_and_what_would_write_changes_nothing() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    assert_eq!(commit_error(&mut bench, commit("g", &member, generation, "t", 1, 7)), Ok(()));
    let (log, kept) = (bench.log.len(), (bench.shard.kept(), bench.shard.committed()));
    bench.event(Event::Writable(false));
    let refused = Err(GroupError::CoordinatorNotAvailable);
    assert_eq!(commit_error(&mut bench, commit("g", &member, generation, "t", 1, 8)), refused);
    assert_eq!(commit_error(&mut bench, commit("new", "", -1, "t", 1, 8)), refused);
    let leave = Request::LeaveGroup { group: "g".into(), members: vec![member_ref(&member)] };
    assert_eq!(bench.ask(leave), Response::LeaveGroup(Err(GroupError::CoordinatorNotAvailable)));
    assert_eq!(fetch(&mut bench, "g", "t"), 7);
    assert_eq!(fetch(&mut bench, "new", "t"), -1);
    assert_eq!(bench.heartbeat("g", &member, generation), Ok(()));
    assert_eq!(bench.state("g"), "Stable");
    assert_eq!(bench.log.len(), log, "something was written");
    assert_eq!((bench.shard.kept(), bench.shard.committed()), kept, "something else is counted");
    bench.event(Event::Writable(true));
    assert_eq!(commit_error(&mut bench, commit("g", &member, generation, "t", 1, 8)), Ok(()));
    assert_eq!(fetch(&mut bench, "g", "t"), 8);
}

#[test]
fn what_is_not_committed_is_told_to_nobody_and_holds_up_only_its_own_group() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    assert_eq!(commit_error(&mut bench, commit("other", "", -1, "t", 1, 5)), Ok(()));
    bench.commits = false;
    let waits = bench.send(commit("g", &member, generation, "t", 1, 7));
    bench.event(Event::Writable(false));
    assert_eq!(bench.answer(waits), Response::OffsetCommit(vec![Err(GroupError::CoordinatorNotAvailable)]));
    assert_eq!(try_fetch(&mut bench, "g"), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(try_fetch(&mut bench, "other"), Ok(5));
    assert_eq!(bench.heartbeat("g", &member, generation), Ok(()));
    assert_eq!(bench.state("g"), "Stable");
    bench.commit_all();
    assert_eq!(try_fetch(&mut bench, "g"), Ok(7), "it is committed, though nothing more is written yet");
}

#[test]
fn what_was_loaded_and_is_not_committed_is_told_to_nobody_until_it_is() {
    let mut bench = Bench::new();
    for group in ["g", "other", "deleted"] {
        assert_eq!(commit_error(&mut bench, commit(group, "", -1, "t", 1, 5)), Ok(()));
    }
    bench.commits = false;
    bench.send(commit("g", "", -1, "t", 1, 7));
    bench.send(Request::DeleteGroup("deleted".into()));
    let uncommitted = std::mem::take(&mut bench.uncommitted);
    bench.shard = Shard::new(bench.config.clone());
    for record in bench.compacted() {
        bench.event(Event::Load(record));
    }
    for record in uncommitted.into_iter().flat_map(|(_, records)| records) {
        bench.event(Event::LoadUncommitted(record));
    }
    bench.event(Event::Writable(false));
    bench.event(Event::Loaded);
    assert_eq!(bench.shard.last_append(), Some(0));
    assert_eq!(try_fetch(&mut bench, "other"), Ok(5));
    for group in ["g", "deleted"] {
        assert_eq!(try_fetch(&mut bench, group), Err(GroupError::CoordinatorNotAvailable), "{group}");
    }
    bench.event(Event::Committed(0));
    assert_eq!((try_fetch(&mut bench, "g"), try_fetch(&mut bench, "deleted")), (Ok(7), Ok(-1)));
    bench.event(Event::Writable(true));
    bench.commits = true;
    assert_eq!(commit_error(&mut bench, commit("g", "", -1, "t", 1, 8)), Ok(()));
}

#[test]
fn a_topic_that_is_deleted_while_nothing_can_be_written_is_forgotten_when_it_can() {
    let mut bench = super::migration::bench();
    assert_eq!(commit_error(&mut bench, commit("g", "", -1, "t", 1, 7)), Ok(()));
    let log = bench.log.len();
    bench.event(Event::Writable(false));
    let without = image(&[]);
    bench.event(Event::Metadata(without.clone()));
    assert_eq!((bench.log.len(), try_fetch(&mut bench, "g")), (log, Ok(-1)), "something was written");
    let later = |bench: &mut Bench| {
        bench.event(Event::Writable(true));
        (bench.log.len(), try_fetch(bench, "g"))
    };
    bench.shard = Shard::new(bench.config.clone());
    for record in bench.compacted() {
        bench.event(Event::Load(record));
    }
    bench.event(Event::Metadata(without));
    bench.event(Event::Writable(false));
    bench.event(Event::Loaded);
    assert_eq!((bench.log.len(), try_fetch(&mut bench, "g")), (log, Ok(-1)), "something was written by the next one");
    assert!(matches!(later(&mut bench), (now, Ok(-1)) if now > log), "it is not forgotten");
}

#[test]
fn members_of_a_consumer_group_heartbeat_while_an_offset_of_theirs_is_not_committed() {
    let mut bench = super::migration::bench();
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    bench.commits = false;
    bench.send(commit("g", "new", 2, "t", 1, 7));
    bench.event(Event::Writable(false));
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])).map(|answer| answer.member_epoch), Ok(2));
    assert_eq!(try_fetch(&mut bench, "g"), Err(GroupError::CoordinatorNotAvailable));
    let leaves = heartbeat(&mut bench, beat(-1, &[]));
    assert_eq!(leaves.map(|answer| answer.member_epoch), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])).map(|answer| answer.member_epoch), Ok(2), "it is still there");
}

#[test]
fn a_leader_whose_sync_is_refused_takes_nobody_with_it() {
    let mut bench = Bench::new();
    let (first, generation) = bench.one_stable("g");
    let id = bench.join_group(join("g", "")).member_id;
    let second = bench.send(Request::JoinGroup(join("g", &id)));
    assert_eq!(bench.heartbeat("g", &first, generation), Err(GroupError::RebalanceInProgress));
    let leader = bench.join_group(join("g", &first));
    let second = bench.joined(second);
    bench.event(Event::Writable(false));
    let waits = bench.send(Request::SyncGroup(sync("g", &second.member_id, second.generation, &[])));
    let assigned = [(&*leader.member_id, "1"), (&*second.member_id, "2")];
    let refused = bench.send(Request::SyncGroup(sync("g", &first, leader.generation, &assigned)));
    assert_eq!(bench.synced(refused), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.answers.get(&waits), None, "it waits for the leader, who may try again");
    bench.event(Event::Writable(true));
    let again = bench.send(Request::SyncGroup(sync("g", &first, leader.generation, &assigned)));
    assert_eq!(bench.synced(again).expect("synced").assignment, "1");
    assert_eq!(bench.synced(waits).expect("synced").assignment, "2");
}

#[test]
fn sessions_end_when_it_can_be_written_and_members_have_had_time_to_say_that_they_are_there() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    bench.event(Event::Writable(false));
    bench.pass(Duration::from_mins(1));
    assert_eq!(bench.state("g"), "Stable");
    bench.event(Event::Writable(true));
    assert_eq!(bench.heartbeat("g", &member, generation), Ok(()));
    bench.event(Event::Writable(false));
    bench.pass(Duration::from_mins(1));
    bench.event(Event::Writable(true));
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.state("g"), "Empty", "who is gone does not stay");
}

#[test]
fn who_is_gone_ends_though_replicas_come_and_go() {
    for seconds in [1, 2, 4] {
        let mut bench = Bench::new();
        bench.one_stable("g");
        for _ in 0..30 {
            for writable in [false, true] {
                bench.event(Event::Writable(writable));
                bench.pass(Duration::from_secs(seconds));
            }
        }
        assert_eq!(bench.state("g"), "Empty", "toggled every {seconds} s");
    }
}

#[test]
fn a_leader_that_goes_on_asking_is_not_taken_for_one_that_never_synced() {
    let mut bench = Bench::new();
    let (first, _) = bench.one_stable("g");
    let id = bench.join_group(join("g", "")).member_id;
    let second = bench.send(Request::JoinGroup(join("g", &id)));
    let leader = bench.join_group(join("g", &first));
    let second = bench.joined(second);
    bench.event(Event::Writable(false));
    let waits = bench.send(Request::SyncGroup(sync("g", &second.member_id, second.generation, &[])));
    let assigned = [(&*leader.member_id, "1"), (&*second.member_id, "2")];
    for _ in 0..40 {
        bench.pass(Duration::from_secs(1));
        let refused = bench.send(Request::SyncGroup(sync("g", &first, leader.generation, &assigned)));
        assert_eq!(bench.synced(refused), Err(GroupError::CoordinatorNotAvailable));
    }
    bench.event(Event::Writable(true));
    let again = bench.send(Request::SyncGroup(sync("g", &first, leader.generation, &assigned)));
    assert_eq!(bench.synced(again).expect("synced").assignment, "1");
    assert_eq!(bench.synced(waits).expect("synced").assignment, "2");
}

#[test]
fn a_leader_that_stops_asking_while_it_is_refused_is_taken_out() {
    let mut bench = Bench::new();
    let (first, _) = bench.one_stable("g");
    let id = bench.join_group(join("g", "")).member_id;
    let second = bench.send(Request::JoinGroup(join("g", &id)));
    let leader = bench.join_group(join("g", &first));
    let second = bench.joined(second);
    bench.event(Event::Writable(false));
    let waits = bench.send(Request::SyncGroup(sync("g", &second.member_id, second.generation, &[])));
    let refused = bench.send(Request::SyncGroup(sync("g", &first, leader.generation, &[])));
    assert_eq!(bench.synced(refused), Err(GroupError::CoordinatorNotAvailable));
    bench.pass(Duration::from_secs(31));
    assert_eq!(bench.synced(waits), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_member_that_gives_partitions_back_is_not_fenced_as_it_is_refused_again_and_again() {
    let mut bench = super::migration::bench();
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    let other = |epoch| ConsumerGroupHeartbeat { member_id: "other".into(), ..beat(epoch, &[]) };
    let waits = heartbeat(&mut bench, other(0)).expect("joined").member_epoch;
    let asked = heartbeat(&mut bench, beat(2, &[0, 1])).expect("it is asked to give one back");
    let left = super::migration::partitions(&asked);
    assert_eq!((asked.member_epoch, left.len()), (2, 1));
    for _ in 0..15 {
        bench.event(Event::Writable(false));
        bench.pass(Duration::from_secs(3));
        heartbeat(&mut bench, other(waits)).expect("it waits for the partition");
        let gives_back = heartbeat(&mut bench, beat(2, &left));
        assert_eq!(gives_back.map(|answer| answer.member_epoch), Err(GroupError::CoordinatorNotAvailable));
        bench.event(Event::Writable(true));
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(heartbeat(&mut bench, beat(2, &left)).map(|answer| answer.member_epoch), Ok(waits));
}

#[test]
fn a_group_of_which_many_members_are_gone_is_copied_once_a_round() {
    let mut bench = super::migration::bench();
    for n in 0..50 {
        let member_id = format!("m{n}").into();
        heartbeat(&mut bench, ConsumerGroupHeartbeat { member_id, ..beat(0, &[]) }).expect("joined");
    }
    bench.pass(Duration::from_secs(44));
    bench.event(Event::Writable(false));
    bench.pass(Duration::from_millis(2200));
    assert_eq!(bench.shard.copies.get(), 3, "at 45 s, and half a second later twice");
    let (member, generation) = (Arc::from("m1"), 1);
    bench.send(Request::ConsumerGroupDescribe("g".into()));
    bench.send(fetch_request("g", Some((member, generation))));
    assert_eq!(bench.shard.copies.get(), 3, "reading needs no copy");
}

#[test]
fn a_heartbeat_that_writes_nothing_copies_nothing_that_grows_with_its_group() {
    let mut bench = super::migration::bench();
    let mut members: Vec<_> = (0..20).map(|n| (Arc::<str>::from(format!("m{n}")), 0, Vec::new())).collect();
    let mut beat_all = |bench: &mut Bench| {
        for (member_id, epoch, owned) in &mut members {
            let request = ConsumerGroupHeartbeat { member_id: member_id.clone(), ..beat(*epoch, owned) };
            let answer = heartbeat(bench, request).expect("it is a member");
            (*epoch, *owned) = (answer.member_epoch, super::migration::partitions(&answer));
        }
    };
    let mut log = 0;
    while std::mem::replace(&mut log, bench.log.len()) != bench.log.len() || log == 0 {
        beat_all(&mut bench);
    }
    bench.event(Event::Writable(false));
    let copied = || COPIES.with(std::cell::Cell::get);
    let before = copied();
    beat_all(&mut bench);
    assert_eq!((bench.shard.copies.get(), copied() - before), (20, 0));
    let leaves = ConsumerGroupHeartbeat { member_id: "m1".into(), ..beat(-1, &[]) };
    assert_eq!(heartbeat(&mut bench, leaves), Err(GroupError::CoordinatorNotAvailable));
    assert!(copied() > before, "what is changed is copied before");
    beat_all(&mut bench);
}

#[test]
fn heartbeats_of_classic_members_need_no_copy_of_their_group() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    bench.event(Event::Writable(false));
    assert_eq!(bench.heartbeat("g", &member, generation), Ok(()));
    assert_eq!((bench.state("g"), bench.shard.copies.get()), ("Stable", 0));
}

#[test]
fn a_group_that_only_commits_is_told_of_when_it_has_committed() {
    let mut bench = Bench::new();
    bench.commits = false;
    bench.send(commit("new", "", -1, "t", 1, 5));
    let described = bench.send(Request::DescribeGroup("new".into()));
    assert_eq!(bench.answers.get(&described), None, "nobody knows yet that there is such a group");
    bench.commit_all();
    let Response::DescribeGroup(Ok(group)) = bench.answer(described) else { panic!("it is not described") };
    assert_eq!(group.state, "Empty");
}

#[test]
fn who_asks_for_a_group_that_never_was_does_not_wait_for_the_appends_of_others() {
    let mut bench = super::migration::bench();
    bench.commits = false;
    bench.send(commit("g", "", -1, "t", 1, 5));
    let unknown_topic = commit_error(&mut bench, commit("new", "", -1, "u", 9, 5));
    assert_eq!(unknown_topic, Err(GroupError::UnknownTopicOrPartition));
    assert_eq!(fetch(&mut bench, "new", "t"), -1);
    bench.commit_all();
    bench.send(Request::DeleteGroup("g".into()));
    let waits = bench.send(fetch_request("g", None));
    assert_eq!(bench.answers.get(&waits), None, "it may come back as long as its tombstones are not committed");
}

/// The process stands still for that long, and sees what time it is before it reads what came meanwhile.
fn stand_still(bench: &mut Bench) {
    bench.micros += 60_000_000;
    bench.event(Event::Tick);
}

#[test]
fn after_a_stall_a_rebalance_waits_for_what_its_members_have_sent() {
    let mut bench = Bench::new();
    let (first, generation) = bench.one_stable("g");
    let id = bench.join_group(join("g", "")).member_id;
    stand_still(&mut bench);
    let second = bench.send(Request::JoinGroup(join("g", &id)));
    assert_eq!(bench.answers.get(&second), None, "the id that it was given is known, and the first is to join");
    stand_still(&mut bench);
    assert_eq!(bench.heartbeat("g", &first, generation), Err(GroupError::RebalanceInProgress));
    let first = bench.join_group(join("g", &first));
    let second = bench.joined(second);
    assert_eq!((first.generation, second.generation), (generation + 1, generation + 1));
    stand_still(&mut bench);
    let waits = bench.send(Request::SyncGroup(sync("g", &second.member_id, second.generation, &[])));
    let assigned = [(&*first.member_id, "1"), (&*second.member_id, "2")];
    let leader = bench.send(Request::SyncGroup(sync("g", &first.member_id, first.generation, &assigned)));
    assert_eq!(bench.synced(leader).expect("synced").assignment, "1");
    assert_eq!(bench.synced(waits).expect("synced").assignment, "2");
}
