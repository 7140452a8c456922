use super::*;

/// Two members share four partitions: `a` has 0 and 1 at epoch 3, `b` has 2 and 3.
fn shared() -> Harness {
    let mut harness = Harness::new(&[("t", 4)]);
    harness.ok(&join("a", &["t"]));
    harness.ok(&join("b", &["t"]));
    harness.ok(&beat("a", 2));
    harness.ok(&owns("a", 2, &[("t", &[0, 1])]));
    harness.ok(&beat("b", 3));
    harness
}

#[test]
fn a_partition_is_assigned_to_nobody_before_its_owner_has_revoked_it() {
    let mut harness = Harness::new(&[("t", 4)]);
    harness.ok(&join("a", &["t"]));
    assert_eq!(harness.ok(&join("b", &["t"])), (3, Some(Vec::new())), "all partitions are in use");
    assert_eq!(harness.group.state(), "Reconciling");
    assert_eq!(harness.ok(&beat("a", 2)), (2, Some(partitions(&[("t", &[0, 1])]))), "a is to give two back");
    let described = harness.group.describe(&harness.config).members[0].assignment.clone();
    assert_eq!(described, partitions(&[("t", &[0, 1, 2, 3])]), "what it has not given back is still its own");
    assert_eq!(harness.ok(&beat("a", 2)), (2, None), "it has not said that it has");
    assert_eq!(harness.ok(&beat("b", 3)), (3, None), "so b waits");
    assert_eq!(harness.ok(&owns("a", 2, &[("t", &[0, 1, 2])])), (2, None), "one is not enough");
    assert_eq!(harness.ok(&beat("b", 3)), (3, None));
    assert_eq!(harness.ok(&owns("a", 2, &[("t", &[0, 1])])), (3, None), "now it has given back");
    assert_eq!(harness.ok(&beat("b", 3)), (3, Some(partitions(&[("t", &[2, 3])]))));
    assert_eq!(harness.group.state(), "Stable");
    harness.assert_loaded_is_written();
}

#[test]
fn the_group_is_assigning_after_a_leave_until_somebody_asks() {
    let mut harness = shared();
    harness.ok(&beat("b", -1));
    assert_eq!(harness.group.state(), "Assigning");
    assert_eq!(harness.ok(&beat("a", 3)), (4, Some(partitions(&[("t", &[0, 1, 2, 3])]))));
    assert_eq!(harness.group.state(), "Stable");
}

#[test]
fn who_does_not_heartbeat_is_fenced_and_the_others_get_what_it_had() {
    let mut harness = shared();
    harness.pass(Duration::from_secs(44));
    harness.ok(&beat("a", 3));
    harness.pass(Duration::from_secs(2));
    assert_eq!(harness.heartbeat(&beat("b", 3)), Err(GroupError::UnknownMemberId));
    assert_eq!(harness.ok(&beat("a", 3)), (4, Some(partitions(&[("t", &[0, 1, 2, 3])]))));
    harness.assert_loaded_is_written();
}

#[test]
fn who_does_not_give_back_in_time_is_fenced_though_it_heartbeats() {
    for failed_over in [false, true] {
        let mut harness = Harness::new(&[("t", 4)]);
        harness.ok(&join("a", &["t"]));
        harness.ok(&join("b", &["t"]));
        harness.ok(&beat("a", 2));
        if failed_over {
            harness.fail_over();
        }
        for _ in 0..5 {
            harness.ok(&beat("a", 2));
            harness.ok(&beat("b", 3));
            harness.pass(Duration::from_secs(11));
        }
        harness.ok(&beat("a", 2));
        harness.pass(Duration::from_secs(11));
        assert_eq!(harness.heartbeat(&beat("a", 2)), Err(GroupError::UnknownMemberId), "{failed_over}");
        assert_eq!(harness.ok(&beat("b", 3)), (4, Some(partitions(&[("t", &[0, 1, 2, 3])]))));
    }
}

#[test]
fn giving_back_ends_the_deadline_for_it() {
    let harness = shared();
    let rebalances = harness.deadlines.keys().filter(|d| matches!(d, Deadline::Rebalance(_)));
    assert_eq!(rebalances.count(), 0);
}

#[test]
fn after_a_failover_sessions_begin_anew_and_nothing_is_forgotten() {
    let mut harness = shared();
    harness.pass(Duration::from_secs(40));
    harness.fail_over();
    harness.pass(Duration::from_secs(40));
    assert_eq!(harness.ok(&beat("a", 3)), (3, None));
    assert_eq!(harness.ok(&beat("b", 3)), (3, None));
}

#[test]
fn a_member_that_joins_again_owns_nothing_any_more() {
    let mut harness = Harness::new(&[("t", 4)]);
    harness.ok(&join("a", &["t"]));
    harness.ok(&join("b", &["t"]));
    harness.ok(&join("c", &["t"]));
    // Owning nothing was true at epoch 0 of a; at its epoch 1 it has been given everything.
    harness.ok(&owns("a", 0, &[]).with_join());
    assert_eq!(harness.ok(&beat("b", 3)).1, Some(partitions(&[("t", &[2])])), "a joined again, and owns nothing");
}

trait WithJoin {
    fn with_join(self) -> Self;
}

impl WithJoin for Heartbeat {
    fn with_join(self) -> Self {
        Self { rebalance_timeout_ms: 60_000, subscribed_topic_names: Some(vec![Arc::from("t")]), ..self }
    }
}

#[test]
fn the_target_is_computed_once_for_an_epoch() {
    let mut harness = shared();
    let targets = |h: &Harness| {
        h.log.iter().filter(|r| matches!(r.key, RecordKey::ConsumerGroupTargetAssignmentMetadata(_))).count()
    };
    let before = targets(&harness);
    for _ in 0..3 {
        harness.ok(&beat("a", 3));
        harness.ok(&owns("b", 3, &[("t", &[2, 3])]));
    }
    assert_eq!(targets(&harness), before);
}

#[test]
fn most_members_choose_the_assignor() {
    let mut harness = Harness::new(&[("t", 4), ("u", 4)]);
    let ranged = |member: &str| Heartbeat { server_assignor: Some(Arc::from("range")), ..join(member, &["t", "u"]) };
    harness.ok(&ranged("a"));
    harness.ok(&ranged("b"));
    let uniform = Heartbeat { server_assignor: Some(Arc::from("uniform")), ..join("c", &["t", "u"]) };
    harness.ok(&uniform);
    let described = harness.group.describe(&harness.config);
    assert_eq!(&*described.assignor, "range");
    let targets: Vec<_> = described.members.iter().map(|m| m.target_assignment.clone()).collect();
    let same: Vec<_> = [&[0, 1][..], &[2], &[3]].iter().map(|p| partitions(&[("t", p), ("u", p)])).collect();
    assert_eq!(targets, same);
}
