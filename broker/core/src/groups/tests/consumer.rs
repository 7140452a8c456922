//! Groups of the consumer protocol, as a shard has them: with its log, its timers and its other groups.

use super::migration::{beat, bench, partitions, told};
use super::*;

#[test]
fn a_member_is_told_of_its_epoch_and_assignment_only_when_they_are_committed() {
    let mut bench = bench();
    bench.commits = false;
    let ticket = bench.send(Request::ConsumerGroupHeartbeat(beat(0, &[])));
    assert_eq!(bench.answers.get(&ticket), None);
    bench.commit_all();
    let Response::ConsumerGroupHeartbeat(Ok(first)) = bench.answer(ticket) else { panic!("refused") };
    assert_eq!((first.member_epoch, partitions(&first)), (2, vec![0, 1]));
}

#[test]
fn what_was_not_committed_is_not_there_after_a_failover() {
    let mut bench = bench();
    bench.commits = false;
    bench.send(Request::ConsumerGroupHeartbeat(beat(0, &[])));
    bench.fail_over();
    bench.commits = true;
    assert_eq!(told(&mut bench, beat(2, &[0, 1])), Err(GroupError::GroupIdNotFound));
    assert_eq!(partitions(&told(&mut bench, beat(0, &[])).expect("joined")), vec![0, 1]);
}

#[test]
fn members_of_a_consumer_group_go_on_in_their_epoch_after_a_failover() {
    let mut bench = bench();
    told(&mut bench, beat(0, &[])).expect("joined");
    bench.fail_over();
    assert_eq!(told(&mut bench, beat(2, &[0, 1])).map(|t| t.member_epoch), Ok(2));
    assert_eq!(bench.ask(commit("g", "new", 2, "t", 1, 7)), Response::OffsetCommit(vec![Ok(())]));
    assert_eq!(
        bench.ask(commit("g", "new", 1, "t", 1, 8)),
        Response::OffsetCommit(vec![Err(GroupError::StaleMemberEpoch)])
    );
    assert_eq!(
        bench.ask(commit("g", "old", 2, "t", 1, 8)),
        Response::OffsetCommit(vec![Err(GroupError::UnknownMemberId)])
    );
}

#[test]
fn sessions_of_a_consumer_group_begin_anew_when_it_is_loaded_and_end_without_heartbeats() {
    let mut bench = bench();
    told(&mut bench, beat(0, &[])).expect("joined");
    bench.pass(Duration::from_secs(40));
    bench.fail_over();
    bench.pass(Duration::from_secs(40));
    assert_eq!(told(&mut bench, beat(2, &[0, 1])).map(|t| t.member_epoch), Ok(2));
    bench.pass(Duration::from_secs(46));
    assert_eq!(told(&mut bench, beat(2, &[0, 1])), Err(GroupError::UnknownMemberId));
}

#[test]
fn after_a_stall_sessions_of_a_consumer_group_go_on_for_one_heartbeat() {
    let mut bench = bench();
    told(&mut bench, beat(0, &[])).expect("joined");
    bench.micros += 120_000_000;
    bench.event(Event::Tick);
    assert_eq!(told(&mut bench, beat(2, &[0, 1])).map(|t| t.member_epoch), Ok(2));
    bench.micros += 120_000_000;
    bench.event(Event::Tick);
    bench.pass(Duration::from_secs(6));
    assert_eq!(told(&mut bench, beat(2, &[0, 1])), Err(GroupError::UnknownMemberId), "who is gone does not stay");
}

#[test]
fn a_consumer_group_with_members_is_listed_and_not_deleted() {
    let mut bench = bench();
    told(&mut bench, beat(0, &[])).expect("joined");
    let list = Request::ListGroups { states: vec![], types: vec!["consumer".into()] };
    let Response::ListGroups(Ok(groups)) = bench.ask(list) else { panic!("refused") };
    assert_eq!(
        groups.iter().map(|g| (&*g.group, g.state, g.group_type)).collect::<Vec<_>>(),
        [("g", "Stable", "consumer")]
    );
    bench.ask(commit("g", "new", 2, "t", 1, 7));
    bench.one_stable("h");
    let census = bench.shard.census();
    let groups = [(("classic", "Stable"), 1), (("consumer", "Stable"), 1)];
    assert_eq!((census.groups, census.members, census.offsets), (groups.into(), 2, 1));
    bench.fail_over();
    assert_eq!(bench.shard.census().members, 2, "as it is after a load");
    assert_eq!(bench.ask(Request::DeleteGroup("g".into())), Response::DeleteGroup(Err(GroupError::NonEmptyGroup)));
    told(&mut bench, beat(-1, &[])).expect("left");
    assert_eq!(bench.ask(Request::DeleteGroup("g".into())), Response::DeleteGroup(Ok(())));
    assert!(bench.written().keys().all(|key| &**key.group() == "h"), "{:?}", bench.written());
}

#[test]
fn a_session_of_a_classic_member_begins_when_it_is_loaded_joins_and_syncs() {
    for begins in ["load", "join", "sync"] {
        let mut bench = Bench::new();
        let required = bench.join_group(join("g", ""));
        let joined = bench.join_group(join("g", &required.member_id));
        let member = joined.member_id;
        if begins != "join" {
            bench.pass(Duration::from_secs(6));
            let request = sync("g", &member, 1, &[(&member, "all")]);
            bench.ask(Request::SyncGroup(request));
        }
        if begins == "load" {
            bench.pass(Duration::from_secs(6));
            bench.fail_over();
        }
        bench.pass(Duration::from_secs(9));
        assert_eq!(bench.heartbeat("g", &member, 1), Ok(()), "{begins}: too early");
        bench.pass(Duration::from_secs(11));
        assert_eq!(bench.heartbeat("g", &member, 1), Err(GroupError::UnknownMemberId), "{begins}: for ever");
    }
}
