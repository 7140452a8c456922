//! Groups with members that go from one protocol to the other.

use super::*;
use crate::groups::consumer_protocol::{ByTopic, assignment, parse_assignment};
use crate::groups::migration::MigrationPolicy;
use crate::groups::record::TopicPartitions;
use crate::groups::request::ConsumerGroupHeartbeat;
use crate::groups::response::ConsumerGroupHeartbeat as Answer;

/// A bench whose topic `t` has two partitions.
pub(super) fn bench() -> Bench {
    let mut bench = Bench::new();
    partitioned(&mut bench, 2);
    bench
}

/// Lets the topic `t` have so many partitions.
fn partitioned(bench: &mut Bench, count: usize) {
    let mut image = image(&[("t", 1)]);
    let partition = crate::cluster::Partition {
        adding: Box::default(),
        removing: Box::default(),
        replicas: Vec::new(),
        isr: Vec::new(),
        elr: Box::default(),
        leader: None,
        leader_epoch: crate::ids::LeaderEpoch(0),
        partition_epoch: crate::ids::PartitionEpoch(0),
    };
    if let Some(topic) = image.topics.get_mut(&topic_id(1)) {
        topic.partitions = std::iter::repeat_n(partition, count).collect();
    }
    bench.image = Some(image.clone());
    bench.event(Event::Metadata(image));
}

pub(super) fn beat(epoch: i32, owned: &[i32]) -> ConsumerGroupHeartbeat {
    let owned = if owned.is_empty() {
        Vec::new()
    } else {
        vec![TopicPartitions { topic_id: topic_id(1), partitions: owned.to_vec() }]
    };
    ConsumerGroupHeartbeat {
        group: "g".into(),
        member_id: "new".into(),
        member_epoch: epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        subscribed_topic_regex: None,
        server_assignor: None,
        owned: Some(owned),
    }
}

/// The answer to a heartbeat, or why it is refused.
pub(super) fn heartbeat(bench: &mut Bench, request: ConsumerGroupHeartbeat) -> Result<Answer, GroupError> {
    match bench.ask(Request::ConsumerGroupHeartbeat(request)) {
        Response::ConsumerGroupHeartbeat(answer) => answer.map_err(|(error, _)| error),
        other => panic!("{other:?}"),
    }
}

/// The partitions that the answer assigns.
pub(super) fn partitions(answer: &Answer) -> Vec<i32> {
    answer.assignment.iter().flatten().flat_map(|t| t.partitions.clone()).collect()
}

/// A classic group of one cooperative member that owns both partitions; its id.
fn classic_owner(bench: &mut Bench) -> Arc<str> {
    // Its id begins with this: it is the first of all, and leads where no other member is chosen.
    let ticket = bench.send_as("0", Request::JoinGroup(join("g", "")));
    let required = bench.joined(ticket);
    let joined = bench.join_group(join("g", &required.member_id));
    let mut request = sync("g", &joined.member_id, joined.generation, &[]);
    request.assignments = vec![(joined.member_id.clone(), assignment(1, &[("t".into(), vec![0, 1])]))];
    let ticket = bench.send(Request::SyncGroup(request));
    bench.synced(ticket).expect("synced");
    joined.member_id
}

/// JoinGroup of a cooperative member that owns those partitions of `t`.
fn rejoin(member: &str, owned: &[i32]) -> JoinGroup {
    let mut metadata = vec![0, 1, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255, 0, 0, 0, 1, 0, 1, b't'];
    metadata.extend((owned.len() as i32).to_be_bytes());
    for partition in owned {
        metadata.extend(partition.to_be_bytes());
    }
    JoinGroup { protocols: vec![("range".into(), metadata.into())], ..join("g", member) }
}

fn synced_partitions(bench: &mut Bench, member: &str, generation: i32) -> Result<ByTopic, GroupError> {
    let mut request = sync("g", member, generation, &[]);
    (request.protocol_type, request.protocol_name) = (None, None);
    let ticket = bench.send(Request::SyncGroup(request));
    bench.synced(ticket).map(|synced| parse_assignment(&synced.assignment).expect("an assignment"))
}

#[test]
fn a_classic_group_is_upgraded_and_nothing_is_given_away_before_it_is_given_back() {
    let mut bench = bench();
    let old = classic_owner(&mut bench);
    let first = heartbeat(&mut bench, beat(0, &[])).expect("joined");
    assert_eq!((first.member_epoch, partitions(&first)), (2, vec![]), "the classic member owns both");
    assert!(!bench.written().contains_key(&RecordKey::GroupMetadata("g".into())));

    // The classic member is asked to join again, which a failover does not change.
    bench.fail_over();
    assert_eq!(bench.heartbeat("g", &old, 1), Err(GroupError::RebalanceInProgress));
    let joined = bench.join_group(rejoin(&old, &[0, 1]));
    assert_eq!((joined.error, joined.generation, &*joined.leader), (None, 1, ""));
    let kept = synced_partitions(&mut bench, &old, 1).expect("synced");
    assert_eq!(kept.len(), 1, "it is to give one back: {kept:?}");
    let given = 1 - kept[0].1[0];
    assert_eq!(partitions(&heartbeat(&mut bench, beat(2, &[])).expect("a member")), Vec::<i32>::new());
    assert_eq!(bench.heartbeat("g", &old, 1), Err(GroupError::RebalanceInProgress));
    let joined = bench.join_group(rejoin(&old, &kept[0].1));
    assert_eq!(joined.generation, 2);
    assert_eq!(synced_partitions(&mut bench, &old, 2), Ok(kept));
    assert_eq!(bench.heartbeat("g", &old, 2), Ok(()));
    assert_eq!(partitions(&heartbeat(&mut bench, beat(2, &[])).expect("a member")), vec![given]);
    assert_eq!(bench.ask(commit("g", &old, 2, "t", 1, 5)), Response::OffsetCommit(vec![Ok(())]));
    // What it had in the generation before counts while it has it, and not what it gave back (KIP-1251).
    for (partition, taken) in [(1 - given, Ok(())), (given, Err(GroupError::IllegalGeneration))] {
        let Request::OffsetCommit(mut older) = commit("g", &old, 1, "t", 1, 6) else { panic!("another request") };
        older.offsets[0].partition = partition;
        assert_eq!(bench.ask(Request::OffsetCommit(older)), Response::OffsetCommit(vec![taken]), "{partition}");
    }
}

#[test]
fn a_consumer_group_is_downgraded_when_its_last_consumer_goes_and_a_failover_does_not_forget_the_rebalance() {
    for fails_over in [false, true] {
        let mut bench = bench();
        let old = classic_owner(&mut bench);
        let first = heartbeat(&mut bench, beat(0, &[])).expect("joined");
        bench.join_group(rejoin(&old, &[0, 1]));
        let joined = bench.join_group(rejoin(&old, &[0]));
        assert_eq!((joined.generation, first.member_epoch), (2, 2));
        synced_partitions(&mut bench, &old, 2).expect("synced");
        assert_eq!(heartbeat(&mut bench, beat(-1, &[])).expect("left").member_epoch, -1);
        if fails_over {
            bench.fail_over();
        }
        assert_eq!(bench.state("g"), "PreparingRebalance");
        assert_eq!(bench.heartbeat("g", &old, 2), Err(GroupError::RebalanceInProgress));
        let joined = bench.join_group(rejoin(&old, &[0]));
        assert_eq!((joined.generation, &joined.leader), (3, &old));
        assert!(bench.written().keys().all(|key| matches!(key, RecordKey::GroupMetadata(_))), "{:?}", bench.written());
    }
}

/// A classic member and a static one of the consumer protocol, with a partition each and in epoch 2: the former's id, its
/// partition, and the other one.
fn one_of_each(bench: &mut Bench) -> (Arc<str>, i32, i32) {
    let old = classic_owner(bench);
    let of_static = |epoch| ConsumerGroupHeartbeat { instance_id: Some("i".into()), ..beat(epoch, &[]) };
    heartbeat(bench, of_static(0)).expect("joined");
    bench.join_group(rejoin(&old, &[0, 1]));
    let kept = synced_partitions(bench, &old, 1).expect("synced")[0].1[0];
    bench.join_group(rejoin(&old, &[kept]));
    synced_partitions(bench, &old, 2).expect("synced");
    let given = partitions(&heartbeat(bench, of_static(2)).expect("a member"));
    assert_eq!(given, [1 - kept]);
    (old, kept, 1 - kept)
}

/// JoinGroup of the static member that used the consumer protocol.
fn classic_again() -> JoinGroup {
    let mut request = rejoin("", &[]);
    request.member.instance_id = Some("i".into());
    request
}

#[test]
fn nobody_joins_again_when_the_last_consumer_comes_back_as_a_static_classic_member() {
    for fails_over in [false, true] {
        let mut bench = bench();
        let (old, kept, given) = one_of_each(&mut bench);
        let joined = bench.join_group(classic_again());
        assert_eq!((joined.error, joined.generation), (None, 2));
        // It leads, and has to know the members and their topics, but not to assign.
        assert_eq!((&joined.leader, joined.skip_assignment), (&joined.member_id, true));
        let mut members: Vec<_> = joined.members.iter().map(|member| &member.member_id).collect();
        members.sort_unstable();
        assert_eq!(members, [&old, &joined.member_id]);
        if fails_over {
            bench.fail_over();
        }
        assert_eq!(bench.state("g"), "Stable");
        assert!(bench.written().keys().all(|key| matches!(key, RecordKey::GroupMetadata(_))), "{:?}", bench.written());
        assert_eq!(bench.heartbeat("g", &old, 2), Ok(()));
        for (member, partition) in [(&joined.member_id, given), (&old, kept)] {
            assert_eq!(synced_partitions(&mut bench, member, 2), Ok(vec![("t".into(), vec![partition])]));
        }
    }
}

#[test]
fn who_came_back_as_the_static_leader_can_have_new_partitions_assigned() {
    for fails_over in [false, true] {
        let mut bench = bench();
        let (old, kept, given) = one_of_each(&mut bench);
        let leader = bench.join_group(classic_again()).member_id;
        synced_partitions(&mut bench, &leader, 2).expect("synced");
        if fails_over {
            bench.fail_over();
        }
        partitioned(&mut bench, 3);
        assert_eq!(bench.heartbeat("g", &old, 2), Ok(()), "the topics of a classic group are its leader's concern");
        // As its client does when it sees that there are more partitions than it knew when it began to lead.
        let waiting = bench.send(Request::JoinGroup(classic_leader(&leader, &[given])));
        assert_eq!(bench.state("g"), "PreparingRebalance");
        assert_eq!(bench.heartbeat("g", &old, 2), Err(GroupError::RebalanceInProgress));
        bench.send(Request::JoinGroup(rejoin(&old, &[kept])));
        let joined = bench.joined(waiting);
        assert_eq!((joined.error, joined.generation, &joined.leader), (None, 3, &leader));
        assert_eq!((joined.skip_assignment, joined.members.len()), (false, 2));
    }
}

/// JoinGroup of the static member, which has an id now and owns those partitions.
fn classic_leader(id: &str, owned: &[i32]) -> JoinGroup {
    let mut request = rejoin(id, owned);
    request.member.instance_id = Some("i".into());
    request
}

#[test]
fn a_static_member_that_is_alone_goes_on_with_what_it_has_and_leads_when_it_comes_back_as_a_classic_one() {
    let mut bench = bench();
    let alone = ConsumerGroupHeartbeat { instance_id: Some("i".into()), ..beat(0, &[]) };
    assert_eq!(partitions(&heartbeat(&mut bench, alone).expect("joined")), [0, 1]);
    let joined = bench.join_group(classic_again());
    assert_eq!((joined.error, joined.generation, joined.skip_assignment), (None, 2, true));
    assert_eq!((&joined.leader, bench.state("g")), (&joined.member_id, "Stable"));
    let assigned = synced_partitions(&mut bench, &joined.member_id, 2);
    assert_eq!(assigned, Ok(vec![("t".into(), vec![0, 1])]));
    partitioned(&mut bench, 3);
    let again = bench.join_group(classic_leader(&joined.member_id, &[0, 1]));
    assert_eq!((again.error, again.generation, again.skip_assignment), (None, 3, false));
    assert_eq!(again.leader, joined.member_id);
}

#[test]
fn all_join_again_when_the_last_consumer_comes_back_with_another_subscription_or_protocol_or_would_assign() {
    let nothing = vec![0_u8, 0, 0, 0, 0, 0, 255, 255, 255, 255];
    let same = classic_again().protocols.swap_remove(0).1;
    for request in [
        JoinGroup { protocols: vec![(Arc::from("range"), nothing.into())], ..classic_again() },
        JoinGroup {
            protocols: vec![(Arc::from("roundrobin"), same.clone()), (Arc::from("range"), same)],
            ..classic_again()
        },
        // It could not be told that it leads: it would assign anew, and nobody would hear of that.
        JoinGroup { supports_skipping_assignment: false, ..classic_again() },
    ] {
        let mut bench = bench();
        let (old, kept, _) = one_of_each(&mut bench);
        let waiting = bench.send(Request::JoinGroup(request));
        assert_eq!(bench.state("g"), "PreparingRebalance");
        assert_eq!(bench.heartbeat("g", &old, 2), Err(GroupError::RebalanceInProgress));
        bench.send(Request::JoinGroup(rejoin(&old, &[kept])));
        assert_eq!((bench.joined(waiting).error, bench.state("g")), (None, "CompletingRebalance"));
    }
}

#[test]
fn who_takes_a_static_members_place_finds_room_in_a_full_group() {
    let mut bench = bench();
    let (old, ..) = one_of_each(&mut bench);
    bench.config.consumer_max_size = 2;
    bench.shard.config = bench.config.clone();
    assert_eq!(bench.join_group(rejoin("", &[])).error, Some(GroupError::GroupMaxSizeReached));
    assert_eq!(bench.join_group(classic_again()).error, None);
    assert_eq!(bench.heartbeat("g", &old, 2), Ok(()));
}

#[test]
fn a_session_that_ends_downgrades_too() {
    let mut bench = bench();
    let old = classic_owner(&mut bench);
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    bench.join_group(rejoin(&old, &[0, 1]));
    let joined = bench.join_group(rejoin(&old, &[0]));
    for _ in 0..10 {
        bench.pass(Duration::from_secs(5));
        let _ = synced_partitions(&mut bench, &old, joined.generation);
        let _ = bench.heartbeat("g", &old, joined.generation);
    }
    assert_eq!(bench.state("g"), "PreparingRebalance");
}

#[test]
fn the_policy_says_which_way_groups_go() {
    use MigrationPolicy::{Bidirectional, Disabled, Downgrade, Upgrade};
    for (policy, up, down) in
        [(Disabled, false, false), (Upgrade, true, false), (Downgrade, false, true), (Bidirectional, true, true)]
    {
        let mut bench = bench();
        let old = classic_owner(&mut bench);
        bench.config.migration_policy = policy;
        bench.shard.config = bench.config.clone();
        assert_eq!(heartbeat(&mut bench, beat(0, &[])).is_ok(), up, "{policy:?}");
        if !up {
            assert_eq!(bench.heartbeat("g", &old, 1), Ok(()), "a refusal changes nothing");
            bench.config.migration_policy = Upgrade;
            bench.shard.config = bench.config.clone();
            heartbeat(&mut bench, beat(0, &[])).expect("joined");
            bench.config.migration_policy = policy;
            bench.shard.config = bench.config.clone();
        }
        heartbeat(&mut bench, beat(-1, &[])).expect("left");
        let classic = bench.written().contains_key(&RecordKey::GroupMetadata("g".into()));
        assert_eq!(classic, down, "{policy:?}");
    }
}

#[test]
fn a_classic_member_joins_no_consumer_group_when_groups_do_not_migrate() {
    for policy in MigrationPolicy::ALL {
        let mut bench = bench();
        bench.config.migration_policy = policy;
        bench.shard.config = bench.config.clone();
        heartbeat(&mut bench, beat(0, &[])).expect("joined");
        let joined = bench.join_group(join("g", ""));
        let (error, has_id) = match policy {
            MigrationPolicy::Disabled => (GroupError::InconsistentGroupProtocol, false),
            _ => (GroupError::MemberIdRequired, true),
        };
        assert_eq!((joined.error, !joined.member_id.is_empty()), (Some(error), has_id), "{policy:?}");
    }
}

#[test]
fn what_only_the_assignor_of_the_clients_understands_keeps_a_group_from_being_upgraded() {
    for (user_data, upgraded) in
        [(vec![255, 255, 255, 255], true), (vec![0, 0, 0, 0], true), (vec![0, 0, 0, 1, 7], false)]
    {
        let mut bench = bench();
        let required = bench.join_group(join("g", ""));
        let joined = bench.join_group(join("g", &required.member_id));
        let mut request = sync("g", &joined.member_id, joined.generation, &[]);
        let without = assignment(1, &[("t".into(), vec![0, 1])]);
        let bytes = [&without[..without.len() - 4], &user_data].concat();
        request.assignments = vec![(joined.member_id.clone(), bytes.into())];
        let ticket = bench.send(Request::SyncGroup(request));
        bench.synced(ticket).expect("synced");
        match bench.ask(Request::ConsumerGroupHeartbeat(beat(0, &[]))) {
            Response::ConsumerGroupHeartbeat(Ok(_)) => assert!(upgraded, "{user_data:?}"),
            Response::ConsumerGroupHeartbeat(Err((error, text))) => {
                assert_eq!((error, upgraded), (GroupError::GroupIdNotFound, false), "{user_data:?}");
                assert!(text.is_some_and(|text| text.contains("custom assignor")));
                assert_eq!(bench.heartbeat("g", &joined.member_id, 1), Ok(()), "a refusal changes nothing");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn members_of_either_protocol_are_removed_by_leave_group() {
    for (member, instance, left) in [
        ("new", None, Ok(())),
        ("new", Some("i"), Ok(())),
        ("", Some("i"), Ok(())),
        ("other", Some("i"), Err(GroupError::FencedInstanceId)),
        ("other", None, Err(GroupError::UnknownMemberId)),
        ("", Some("j"), Err(GroupError::UnknownMemberId)),
    ] {
        let mut bench = bench();
        let joins = ConsumerGroupHeartbeat { instance_id: instance.map(|_| Arc::from("i")), ..beat(0, &[]) };
        heartbeat(&mut bench, joins).expect("joined");
        let named = MemberRef { member_id: member.into(), instance_id: instance.map(Arc::from) };
        let leave = Request::LeaveGroup { group: "g".into(), members: vec![named] };
        assert_eq!(bench.ask(leave), Response::LeaveGroup(Ok(vec![left])), "{member:?} {instance:?}");
    }
}

#[test]
fn groups_that_are_not_of_consumers_are_not_upgraded() {
    let mut bench = bench();
    let mut request = join("g", "");
    request.requires_known_member_id = false;
    request.protocol_type = "connect".into();
    bench.join_group(request);
    assert_eq!(heartbeat(&mut bench, beat(0, &[])), Err(GroupError::GroupIdNotFound));
    let mut bench = self::bench();
    let old = bench.one_stable("g").0;
    assert_eq!(
        heartbeat(&mut bench, beat(0, &[])),
        Err(GroupError::GroupIdNotFound),
        "its assignment is not understood"
    );
    assert_eq!(bench.heartbeat("g", &old, 1), Ok(()));
}

#[test]
fn a_member_that_was_removed_does_not_come_back_with_what_it_owned() {
    let mut bench = bench();
    let old = classic_owner(&mut bench);
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    let leave = Request::LeaveGroup { group: "g".into(), members: vec![member_ref(&old)] };
    assert_eq!(bench.ask(leave), Response::LeaveGroup(Ok(vec![Ok(())])));
    assert_eq!(partitions(&heartbeat(&mut bench, beat(2, &[])).expect("a member")), vec![0, 1]);
    assert_eq!(bench.join_group(rejoin(&old, &[0, 1])).error, Some(GroupError::UnknownMemberId));
    assert_eq!(bench.join_group(rejoin(&old, &[])).error, None);
}

#[test]
fn joins_that_wait_when_a_group_is_upgraded_are_to_be_sent_again() {
    let mut bench = bench();
    let old = classic_owner(&mut bench);
    let required = bench.join_group(join("g", ""));
    let waiting = bench.send(Request::JoinGroup(join("g", &required.member_id)));
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    assert_eq!(bench.joined(waiting).error, Some(GroupError::RebalanceInProgress));
    assert_eq!(bench.join_group(join("g", &required.member_id)).error, None);
    assert_eq!(bench.heartbeat("g", &old, 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_classic_member_that_does_not_join_or_sync_in_time_is_removed() {
    for joins in [false, true] {
        let mut bench = bench();
        let old = classic_owner(&mut bench);
        heartbeat(&mut bench, beat(0, &[])).expect("joined");
        if joins {
            bench.join_group(rejoin(&old, &[0, 1]));
        }
        for _ in 0..8 {
            let _ = bench.heartbeat("g", &old, 1);
            let _ = heartbeat(&mut bench, beat(2, &[]));
            bench.pass(Duration::from_secs(5));
        }
        assert_eq!(bench.heartbeat("g", &old, 1), Err(GroupError::UnknownMemberId), "joins: {joins}");
    }
}
