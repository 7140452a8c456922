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
fn the_leaders_assignment_is_answered_only_when_it_is_committed() {
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

fn static_join(instance: &str, member: &str) -> JoinGroup {
    let mut request = join("g", member);
    request.member.instance_id = Some(instance.into());
    request
}

/// Two static members that are stable, `a` the leader; their ids.
fn two_static(bench: &mut Bench) -> (Arc<str>, Arc<str>) {
    let a = bench.join_group(static_join("a", ""));
    let b = bench.send(Request::JoinGroup(static_join("b", "")));
    let a = bench.send(Request::JoinGroup(static_join("a", &a.member_id)));
    let (a, b) = (bench.joined(a), bench.joined(b));
    assert_eq!((a.generation, b.generation, a.members.len(), b.members.len()), (2, 2, 2, 0));
    let assignments = [(&*a.member_id, "for a"), (&*b.member_id, "for b")];
    let of_b = bench.send(Request::SyncGroup(sync("g", &b.member_id, 2, &[])));
    let of_a = bench.send(Request::SyncGroup(sync("g", &a.member_id, 2, &assignments)));
    assert_eq!(bench.synced(of_a).expect("synced").assignment, "for a");
    assert_eq!(bench.synced(of_b).expect("synced").assignment, "for b");
    (a.member_id, b.member_id)
}

#[test]
fn a_static_member_that_restarts_gets_its_assignment_without_a_rebalance_and_the_older_is_fenced() {
    let mut bench = Bench::new();
    let (a, b) = two_static(&mut bench);
    bench.fail_over();
    bench.commits = false;
    let ticket = bench.send(Request::JoinGroup(static_join("b", "")));
    assert_eq!(bench.answers.get(&ticket), None, "answered before the new id is committed");
    bench.commit_all();
    bench.commits = true;
    let again = bench.joined(ticket);
    assert_eq!((again.error, again.generation, again.skip_assignment), (None, 2, false));
    assert_ne!(again.member_id, b);
    let ticket = bench.send(Request::SyncGroup(sync("g", &again.member_id, 2, &[])));
    assert_eq!(bench.synced(ticket).expect("synced").assignment, "for b");
    assert_eq!(bench.heartbeat("g", &a, 2), Ok(()));
    let member = MemberRef { member_id: b, instance_id: Some("b".into()) };
    let request = Request::Heartbeat { group: "g".into(), member, generation: 2 };
    assert_eq!(bench.ask(request), Response::Heartbeat(Err(GroupError::FencedInstanceId)));
    bench.fail_over();
    assert_eq!(bench.heartbeat("g", &again.member_id, 2), Ok(()));
}

#[test]
fn a_static_leader_that_restarts_skips_the_assignment() {
    let mut bench = Bench::new();
    two_static(&mut bench);
    let again = bench.join_group(static_join("a", ""));
    assert_eq!((again.generation, again.skip_assignment, again.members.len()), (2, true, 2));
    assert_eq!(again.leader, again.member_id);
    let old_client = JoinGroup { supports_skipping_assignment: false, ..static_join("a", "") };
    let again = bench.join_group(old_client);
    assert_eq!((again.skip_assignment, again.members.len()), (false, 0));
    assert_ne!(again.leader, again.member_id, "it would assign anew");
}

#[test]
fn a_static_member_that_restarts_with_another_subscription_begins_a_rebalance() {
    let mut bench = Bench::new();
    let (a, _) = two_static(&mut bench);
    let mut request = static_join("b", "");
    request.protocols = vec![("range".into(), subscription(&["t", "u"]))];
    let ticket = bench.send(Request::JoinGroup(request));
    assert_eq!(bench.answers.get(&ticket), None);
    assert_eq!(bench.heartbeat("g", &a, 2), Err(GroupError::RebalanceInProgress));
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance_id() {
    let mut bench = Bench::new();
    let (a, _) = two_static(&mut bench);
    let named = |instance: &str| MemberRef { member_id: "".into(), instance_id: Some(instance.into()) };
    let request = Request::LeaveGroup { group: "g".into(), members: vec![named("b"), named("c")] };
    let answers = vec![Ok(()), Err(GroupError::UnknownMemberId)];
    assert_eq!(bench.ask(request), Response::LeaveGroup(Ok(answers)));
    assert_eq!(bench.heartbeat("g", &a, 2), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_member_id_that_nobody_joins_with_ends_with_the_session_timeout() {
    let mut bench = Bench::new();
    let required = bench.join_group(join("g", ""));
    bench.pass(Duration::from_secs(11));
    assert_eq!(bench.join_group(join("g", &required.member_id)).error, Some(GroupError::UnknownMemberId));
    bench.pass(Duration::from_mins(11));
    assert_eq!((bench.state("g"), bench.written().len()), ("", 0), "an empty group is not kept");
}

#[test]
fn a_rebalance_does_not_wait_for_members_that_are_gone() {
    let mut bench = Bench::new();
    let (member, _) = bench.one_stable("g");
    let required = bench.join_group(join("g", ""));
    let ticket = bench.send(Request::JoinGroup(join("g", &required.member_id)));
    assert_eq!(bench.state("g"), "PreparingRebalance");
    bench.pass(Duration::from_secs(11));
    let joined = bench.joined(ticket);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    assert_eq!(bench.heartbeat("g", &member, 1), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_lost_sync_of_the_leader_ends_with_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let (leader, _) = bench.one_stable("g");
    let required = bench.join_group(join("g", ""));
    let other = bench.send(Request::JoinGroup(join("g", &required.member_id)));
    bench.join_group(join("g", &leader));
    let other = bench.joined(other);
    let ticket = bench.send(Request::SyncGroup(sync("g", &other.member_id, 2, &[])));
    for _ in 0..6 {
        bench.pass(Duration::from_secs(5));
        let _ = bench.heartbeat("g", &leader, 2);
    }
    assert_eq!(bench.synced(ticket), Err(GroupError::RebalanceInProgress));
    let again = bench.join_group(join("g", &other.member_id));
    assert_eq!((again.generation, &again.leader), (3, &other.member_id));
}

#[test]
fn members_killed_while_joining_leave_the_group_empty() {
    let mut bench = Bench::new();
    bench.config.initial_rebalance_delay = Duration::from_secs(3);
    bench.shard.config = bench.config.clone();
    for _ in 0..3 {
        let required = bench.join_group(join("g", ""));
        bench.send(Request::JoinGroup(join("g", &required.member_id)));
    }
    bench.pass(Duration::from_mins(2));
    assert_eq!(bench.state("g"), "Empty");
}

#[test]
fn first_members_are_gathered_into_one_generation() {
    let mut bench = Bench::new();
    bench.config.initial_rebalance_delay = Duration::from_secs(3);
    bench.shard.config = bench.config.clone();
    let mut tickets = Vec::new();
    for _ in 0..3 {
        let mut request = join("g", "");
        request.requires_known_member_id = false;
        tickets.push(bench.send(Request::JoinGroup(request)));
        bench.pass(Duration::from_secs(2));
    }
    assert!(bench.answers.is_empty());
    bench.pass(Duration::from_secs(6));
    let generations: Vec<i32> = tickets.into_iter().map(|t| bench.joined(t).generation).collect();
    assert_eq!(generations, [1, 1, 1]);
}

#[test]
fn the_protocol_that_most_prefer_is_chosen_of_those_that_all_support() {
    let mut bench = Bench::new();
    bench.config.initial_rebalance_delay = Duration::from_secs(3);
    bench.shard.config = bench.config.clone();
    let ask = |bench: &mut Bench, protocols: &[&str]| {
        let mut request = join("g", "");
        request.requires_known_member_id = false;
        request.protocols = protocols.iter().map(|p| (Arc::from(*p), Bytes::from_static(b"x"))).collect();
        bench.send(Request::JoinGroup(request))
    };
    let first = ask(&mut bench, &["only", "range", "sticky"]);
    ask(&mut bench, &["sticky", "range"]);
    ask(&mut bench, &["sticky", "range"]);
    let refused = ask(&mut bench, &["only"]);
    assert_eq!(bench.joined(refused).error, Some(GroupError::InconsistentGroupProtocol));
    bench.pass(Duration::from_secs(7));
    assert_eq!(bench.joined(first).protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn joins_that_the_group_cannot_take_are_refused() {
    let mut bench = Bench::new();
    bench.config.max_size = 1;
    bench.fail_over();
    bench.one_stable("g");
    let changed = |change: fn(&mut JoinGroup)| {
        let mut request = join("g", "");
        change(&mut request);
        request
    };
    let cases = [
        (changed(|_| ()), GroupError::GroupMaxSizeReached),
        (changed(|r| r.session_timeout_ms = 1), GroupError::InvalidSessionTimeout),
        (changed(|r| r.session_timeout_ms = -1), GroupError::InvalidSessionTimeout),
        (changed(|r| r.group = "".into()), GroupError::InvalidGroupId),
        (changed(|r| (r.group, r.protocol_type) = ("h".into(), "".into())), GroupError::InconsistentGroupProtocol),
        (changed(|r| (r.group, r.protocols) = ("h".into(), vec![])), GroupError::InconsistentGroupProtocol),
        (changed(|r| (r.group, r.member) = ("h".into(), member_ref("x"))), GroupError::UnknownMemberId),
        (
            changed(|r| (r.group, r.protocols) = ("h".into(), vec![("p".into(), vec![0; 1_000_000].into())])),
            GroupError::GroupMaxSizeReached,
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(bench.join_group(request).error, Some(expected));
    }
    assert_eq!(bench.state("h"), "", "a refused join makes no group");
}

#[test]
fn a_group_of_another_type_keeps_its_metadata_opaque() {
    let mut bench = Bench::new();
    let mut request = join("connect", "");
    request.requires_known_member_id = false;
    request.protocol_type = "connect".into();
    request.protocols = vec![("sessioned".into(), Bytes::from_static(&[0xff, 0xff, 0xff]))];
    let joined = bench.join_group(request);
    assert_eq!(
        (joined.protocol_type.as_deref(), joined.protocol_name.as_deref()),
        (Some("connect"), Some("sessioned"))
    );
    assert_eq!(joined.members[0].metadata, &[0xff, 0xff, 0xff][..]);
    let delete = Request::OffsetDelete { group: "connect".into(), topics: vec![] };
    assert_eq!(bench.ask(delete), Response::OffsetDelete(Err(GroupError::NonEmptyGroup)));
}

#[test]
fn after_a_stall_sessions_go_on_for_one_heartbeat() {
    let mut bench = Bench::new();
    let (member, _) = bench.one_stable("g");
    bench.micros += 60_000_000;
    bench.event(Event::Tick);
    assert_eq!(bench.heartbeat("g", &member, 1), Ok(()));
    bench.micros += 60_000_000;
    bench.event(Event::Tick);
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.state("g"), "Empty", "who is gone does not stay");
}

#[test]
fn requests_of_a_shard_that_loads_are_refused() {
    let mut bench = Bench::new();
    bench.shard = Shard::new(Config::default());
    let joined = bench.join_group(join("g", ""));
    assert_eq!(joined.error, Some(GroupError::CoordinatorLoadInProgress));
}

#[test]
fn groups_are_listed_by_state_and_type_in_any_case() {
    let mut bench = Bench::new();
    bench.one_stable("a");
    bench.ask(commit("b", "", -1, "t", 1, 7));
    let cases: [(&[&str], &[&str], &[&str]); 5] = [
        (&[], &[], &["a", "b"]),
        (&["stable"], &[], &["a"]),
        (&["Empty", "STABLE"], &["CLASSIC"], &["a", "b"]),
        (&[], &["consumer"], &[]),
        (&["nonsense"], &[], &[]),
    ];
    for (states, types, expected) in cases {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let answer = bench.ask(Request::ListGroups { states: owned(states), types: owned(types) });
        let Response::ListGroups(Ok(groups)) = answer else { panic!("{answer:?}") };
        let names: Vec<&str> = groups.iter().map(|g| &*g.group).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn an_assignment_that_is_too_large_to_be_written_is_refused() {
    let mut bench = Bench::new();
    let (member, _) = bench.one_stable("g");
    let joined = bench.join_group(join("g", &member));
    let mut request = sync("g", &member, joined.generation, &[]);
    request.assignments = vec![(member.clone(), vec![0; 1_000_000].into())];
    let ticket = bench.send(Request::SyncGroup(request));
    assert_eq!(bench.synced(ticket), Err(GroupError::GroupMaxSizeReached));
    assert_eq!(bench.state("g"), "CompletingRebalance");
}

#[test]
fn a_group_without_members_takes_a_few_hundred_bytes() {
    use crate::groups::classic::ClassicGroup;
    use crate::groups::group::Group;
    let bytes = size_of::<Group>() + size_of::<ClassicGroup>();
    assert!(bytes <= 400, "{bytes}");
}
