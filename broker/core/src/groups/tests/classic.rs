//! The classic protocol.

use super::*;

#[test]
fn a_member_joins_syncs_heartbeats_commits_fetches_and_leaves() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    assert_eq!(generation, 1);
    assert_eq!(bench.state("g"), "Stable");
    assert_eq!(bench.heartbeat("g", &member, 1), Ok(()));
    assert_eq!(bench.heartbeat("g", &member, 0), Err(GroupError::IllegalGeneration));
    assert_eq!(bench.heartbeat("g", "other", 1), Err(GroupError::UnknownMemberId));
    assert_eq!(bench.ask(commit("g", &member, 1, "t", 1, 7)), Response::OffsetCommit(vec![Ok(())]));
    let leave = Request::LeaveGroup { group: "g".into(), members: vec![member_ref(&member), member_ref("other")] };
    let left = vec![Ok(()), Err(GroupError::UnknownMemberId)];
    assert_eq!(bench.ask(leave), Response::LeaveGroup(Ok(left)));
    assert_eq!(bench.state("g"), "Empty");
    let Some(RecordValue::GroupMetadata(value)) = bench.written().remove(&RecordKey::GroupMetadata("g".into())) else {
        panic!("the empty group is not written");
    };
    assert_eq!((value.generation, value.protocol, value.leader, value.members.len()), (2, None, None, 0));
}

#[test]
fn what_the_leader_assigned_is_told_only_when_it_is_committed() {
    let mut bench = Bench::new();
    let required = bench.join_group(join("g", ""));
    let joined = bench.join_group(join("g", &required.member_id));
    assert_eq!((joined.generation, &joined.leader), (1, &joined.member_id));
    bench.commits = false;
    let request = sync("g", &joined.member_id, 1, &[(&joined.member_id, "all")]);
    let ticket = bench.send(Request::SyncGroup(request));
    assert_eq!(bench.answers.get(&ticket), None);
    bench.commit_all();
    assert_eq!(bench.synced(ticket).expect("synced").assignment, "all");
}

#[test]
fn members_go_on_in_the_same_generation_after_a_failover() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    bench.fail_over();
    assert_eq!(bench.heartbeat("g", &member, generation), Ok(()));
    assert_eq!(bench.state("g"), "Stable");
}
