use super::*;
use crate::groups::Assignor;

#[test]
fn a_request_that_is_not_valid_is_refused_before_anything_changes() {
    let text = |s: &str| Some(Arc::from(s));
    for (what, request, error) in [
        ("no group", Heartbeat { group: Arc::from(" "), ..join("a", &["t"]) }, GroupError::InvalidRequest),
        ("an empty instance id", Heartbeat { instance_id: text(""), ..join("a", &["t"]) }, GroupError::InvalidRequest),
        ("an empty rack", Heartbeat { rack_id: text(""), ..join("a", &["t"]) }, GroupError::InvalidRequest),
        ("no member id", beat("", 1), GroupError::InvalidRequest),
        ("no member id to leave", beat("", -1), GroupError::InvalidRequest),
        ("no timeout", Heartbeat { rebalance_timeout_ms: -1, ..join("a", &["t"]) }, GroupError::InvalidRequest),
        ("owned not said", Heartbeat { owned: None, ..join("a", &["t"]) }, GroupError::InvalidRequest),
        (
            "owning something",
            Heartbeat { owned: Some(partitions(&[("t", &[0])])), ..join("a", &["t"]) },
            GroupError::InvalidRequest,
        ),
        ("no subscription", Heartbeat { subscribed_topic_names: None, ..join("a", &[]) }, GroupError::InvalidRequest),
        ("a static leave of nobody", beat("a", -2), GroupError::InvalidRequest),
        ("an unknown epoch", beat("a", -3), GroupError::InvalidRequest),
        (
            "an unknown assignor",
            Heartbeat { server_assignor: text("sticky"), ..join("a", &["t"]) },
            GroupError::UnsupportedAssignor,
        ),
        (
            "a regular expression that is none",
            Heartbeat { subscribed_topic_regex: text("["), ..join("a", &["t"]) },
            GroupError::InvalidRegularExpression,
        ),
        ("a heartbeat to no group", beat("a", 2), GroupError::GroupIdNotFound),
        ("a leave of no group", beat("a", -1), GroupError::GroupIdNotFound),
    ] {
        let mut harness = Harness::new(&[("t", 2)]);
        assert_eq!(harness.heartbeat(&request), Err(error), "{what}");
        assert!(harness.group.is_nothing() && harness.deadlines.is_empty(), "{what}");
    }
}

#[test]
fn the_first_member_gets_everything_and_what_is_written_is_what_kafka_writes() {
    let mut harness = Harness::new(&[("t", 2)]);
    let client = Client { id: Arc::from("c"), host: Arc::from("/10.0.0.1") };
    let (answer, records) = harness.step(|group, context| group.heartbeat(&join("a", &["t"]), &client, 7, context));
    let answer = answer.unwrap();
    assert_eq!((answer.member_epoch, answer.heartbeat_interval_ms), (2, 5000));
    assert_eq!(answer.assignment, Some(partitions(&[("t", &[0, 1])])));
    let (group, member) = (Arc::from("g"), Arc::from("a"));
    let keys: Vec<_> = records.iter().map(|r| r.key.clone()).collect();
    let expected = [
        RecordKey::ConsumerGroupMember(Arc::clone(&group), Arc::clone(&member)),
        RecordKey::ConsumerGroupMetadata(Arc::clone(&group)),
        RecordKey::ConsumerGroupTargetAssignmentMember(Arc::clone(&group), Arc::clone(&member)),
        RecordKey::ConsumerGroupTargetAssignmentMetadata(Arc::clone(&group)),
        RecordKey::ConsumerGroupCurrentMemberAssignment(group, member),
    ];
    assert_eq!(keys, expected);
    assert_eq!(harness.group.state(), "Stable");
    assert_eq!(harness.ok(&beat("a", 2)), (2, None), "nothing has changed");
    assert_eq!(harness.log.len(), expected.len(), "a heartbeat that changes nothing writes nothing");
    harness.assert_loaded_is_written();
}

#[test]
fn a_member_without_an_id_is_given_one() {
    let mut harness = Harness::new(&[("t", 1)]);
    let answer = harness.heartbeat(&join("", &["t"])).unwrap();
    assert_eq!(*answer.member_id, *uuid::Uuid::from_u128(7).to_string());
}

#[test]
fn the_first_of_the_assignors_is_used_and_no_others_may_be_asked_for() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.config.consumer_assignors = vec![Assignor::Range];
    harness.ok(&join("a", &["t"]));
    assert_eq!(&*harness.group.describe(&harness.config).assignor, "range");
    let uniform = Heartbeat { server_assignor: Some(Arc::from("uniform")), ..join("b", &["t"]) };
    assert_eq!(harness.heartbeat(&uniform), Err(GroupError::UnsupportedAssignor));
    harness.config.consumer_assignors = vec![Assignor::Range, Assignor::Uniform];
    harness.ok(&uniform);
    assert_eq!(&*harness.group.describe(&harness.config).assignor, "uniform", "one asks for it, and one for none");
    harness.config.consumer_assignors = vec![Assignor::Range];
    assert_eq!(&*harness.group.describe(&harness.config).assignor, "range", "it is not allowed any more");
}

#[test]
fn a_full_group_takes_only_those_it_knows() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.config.consumer_max_size = 1;
    harness.ok(&join("a", &["t"]));
    assert_eq!(harness.heartbeat(&join("b", &["t"])), Err(GroupError::GroupMaxSizeReached));
    assert_eq!(harness.heartbeat(&join("", &["t"])), Err(GroupError::GroupMaxSizeReached));
    assert_eq!(harness.ok(&beat("a", 2)).0, 2);
}

#[test]
fn members_come_at_their_epoch_or_are_fenced() {
    let mut harness = Harness::new(&[("t", 4)]);
    harness.ok(&join("a", &["t"]));
    assert_eq!(harness.heartbeat(&beat("a", 3)), Err(GroupError::FencedMemberEpoch));
    assert_eq!(harness.heartbeat(&beat("b", 2)), Err(GroupError::UnknownMemberId));
    // The answer to the join was lost: it joins again, and gets its full assignment again.
    assert_eq!(harness.ok(&join("a", &["t"])), (2, Some(partitions(&[("t", &[0, 1, 2, 3])]))));
    harness.ok(&join("b", &["t"]));
    harness.ok(&beat("a", 2));
    assert_eq!(harness.ok(&owns("a", 2, &[("t", &[0, 1])])), (3, None));
    // That answer was lost as well.
    assert_eq!(harness.heartbeat(&beat("a", 2)), Err(GroupError::FencedMemberEpoch), "it must say what it owns");
    let too_much = owns("a", 2, &[("t", &[0, 1, 2])]);
    assert_eq!(harness.heartbeat(&too_much), Err(GroupError::FencedMemberEpoch));
    assert_eq!(harness.ok(&owns("a", 2, &[("t", &[0])])), (3, Some(partitions(&[("t", &[0, 1])]))));
}

#[test]
fn a_member_that_leaves_is_gone_with_all_its_records() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.ok(&join("a", &["t"]));
    let left = harness.heartbeat(&beat("a", -1)).unwrap();
    assert_eq!((left.member_epoch, left.heartbeat_interval_ms, left.assignment), (-1, 0, None));
    assert_eq!((harness.group.state(), harness.group.epoch), ("Empty", 3));
    assert!(harness.deadlines.is_empty());
    assert_eq!(harness.heartbeat(&beat("a", 2)), Err(GroupError::UnknownMemberId));
    let tombstones: Vec<_> = harness.log.iter().filter(|r| r.value.is_none()).map(|r| r.key.clone()).collect();
    let (group, member) = (Arc::from("g"), Arc::from("a"));
    let expected = [
        RecordKey::ConsumerGroupCurrentMemberAssignment(Arc::clone(&group), Arc::clone(&member)),
        RecordKey::ConsumerGroupTargetAssignmentMember(Arc::clone(&group), Arc::clone(&member)),
        RecordKey::ConsumerGroupMember(group, member),
    ];
    assert_eq!(tombstones, expected);
    harness.step(ConsumerGroup::delete);
    assert!(harness.group.is_nothing() && harness.loaded().is_nothing());
}

#[test]
fn offsets_are_committed_and_fetched_at_the_members_epoch() {
    let mut harness = Harness::new(&[("t", 2)]);
    let all = || [(topic_id("t"), 0), (topic_id("t"), 1)].into_iter();
    assert_eq!(harness.group.may_commit("", -1, true, all()), Ok(()), "without members, tools may");
    harness.ok(&join("a", &["t"]));
    for (member, epoch, expected) in [
        ("a", 2, Ok(())),
        ("a", 0, Err(GroupError::StaleMemberEpoch)),
        ("a", 3, Err(GroupError::StaleMemberEpoch)),
        ("b", 1, Err(GroupError::UnknownMemberId)),
        ("", -1, Err(GroupError::UnknownMemberId)),
    ] {
        assert_eq!(harness.group.may_commit(member, epoch, true, all()), expected, "{member} at {epoch}");
        assert_eq!(harness.group.may_fetch(Some((member, epoch))), expected, "{member} at {epoch}");
    }
    let unknowing = harness.group.may_commit("a", 2, false, all());
    assert_eq!(unknowing, Err(GroupError::UnsupportedVersion), "it knows no epochs");
    assert_eq!(harness.group.may_fetch(None), Ok(()));
    assert!(harness.group.subscribes("t") && !harness.group.subscribes("u"));
}

/// KIP-1251.
#[test]
fn a_commit_at_an_older_epoch_counts_for_what_has_been_held_since_then() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.ok(&join("a", &["t"]));
    harness.ok(&join("b", &["t"]));
    // One is to be given back, and the other stays; the epoch goes up with either.
    let (epoch, assignment) = harness.ok(&beat("a", 2));
    assert_eq!(epoch, 2);
    let kept = assignment.expect("what it keeps")[0].partitions[0];
    let given_back = 1 - kept;
    let may = |harness: &Harness, epoch, partition: i32| {
        harness.group.may_commit("a", epoch, true, [(topic_id("t"), partition)].into_iter())
    };
    assert_eq!(may(&harness, 2, given_back), Ok(()), "it still owns it");
    assert_eq!(harness.ok(&owns("a", 2, &[("t", &[kept])])).0, 3);
    assert_eq!(may(&harness, 3, given_back), Ok(()), "at its epoch it may commit whatever it says");
    assert_eq!(may(&harness, 2, kept), Ok(()), "it has owned that since then");
    assert_eq!(may(&harness, 2, given_back), Err(GroupError::StaleMemberEpoch));
    assert_eq!(may(&harness, 1, kept), Err(GroupError::StaleMemberEpoch), "not yet");
    assert_eq!(may(&harness, 4, kept), Err(GroupError::StaleMemberEpoch));
    harness.fail_over();
    assert_eq!(may(&harness, 2, kept), Ok(()), "as the record says");
    // What is assigned to it again counts as owned from that epoch on alone.
    harness.ok(&beat("b", -1));
    let (epoch, _) = harness.ok(&beat("a", 3));
    assert_eq!((epoch, may(&harness, 3, given_back)), (4, Err(GroupError::StaleMemberEpoch)));
    assert_eq!(may(&harness, 2, kept), Ok(()));
}
