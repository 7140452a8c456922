use super::*;

fn fixed(request: Heartbeat) -> Heartbeat {
    Heartbeat { instance_id: Some(Arc::from("i")), ..request }
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.ok(&fixed(join("a", &["t"])));
    harness.ok(&join("b", &["t"]));
    harness.ok(&fixed(beat("a", 2)));
    harness.ok(&fixed(owns("a", 2, &[("t", &[0])])));
    harness.ok(&beat("b", 3));
    let epoch = harness.group.epoch;
    assert_eq!(harness.ok(&fixed(beat("a", -2))), (-2, None));
    assert_eq!(harness.ok(&beat("b", 3)), (3, None), "its partition waits for it");
    harness.fail_over();
    assert_eq!(harness.ok(&fixed(join("a2", &["t"]))), (3, Some(partitions(&[("t", &[0])]))));
    assert_eq!(harness.group.epoch, epoch, "no rebalance");
    assert_eq!(harness.heartbeat(&fixed(beat("a", 3))), Err(GroupError::FencedInstanceId));
    assert_eq!(harness.ok(&fixed(beat("a2", 3))), (3, None));
    assert_eq!(harness.group.members.len(), 2);
    harness.assert_loaded_is_written();
}

#[test]
fn an_instance_id_in_use_is_not_given_away() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.ok(&fixed(join("a", &["t"])));
    assert_eq!(harness.heartbeat(&fixed(join("a2", &["t"]))), Err(GroupError::UnreleasedInstanceId));
    assert_eq!(harness.heartbeat(&fixed(beat("a2", 2))), Err(GroupError::FencedInstanceId));
    assert_eq!(harness.heartbeat(&fixed(beat("a2", -1))), Err(GroupError::FencedInstanceId));
    let other = Heartbeat { instance_id: Some(Arc::from("j")), ..beat("a", 2) };
    assert_eq!(harness.heartbeat(&other), Err(GroupError::UnknownMemberId));
    assert_eq!(harness.ok(&fixed(join("a", &["t"]))).0, 2, "the answer to its join was lost");
}

#[test]
fn a_static_member_that_stays_away_is_fenced_when_its_session_ends() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.ok(&fixed(join("a", &["t"])));
    harness.ok(&join("b", &["t"]));
    harness.ok(&fixed(beat("a", -2)));
    harness.pass(Duration::from_secs(40));
    harness.ok(&beat("b", 3));
    harness.pass(Duration::from_secs(10));
    assert_eq!(harness.ok(&beat("b", 3)), (4, Some(partitions(&[("t", &[0, 1])]))));
    assert!(harness.group.static_members.is_empty());
}

#[test]
fn a_static_member_may_leave_for_good() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.ok(&fixed(join("a", &["t"])));
    harness.ok(&fixed(beat("a", -1)));
    assert!(harness.group.is_empty() && harness.group.static_members.is_empty());
}

#[test]
fn what_a_leaving_member_had_to_give_back_is_given_back() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.ok(&fixed(join("a", &["t"])));
    harness.ok(&join("b", &["t"]));
    harness.ok(&fixed(beat("a", 2)));
    harness.ok(&fixed(beat("a", -2)));
    assert_eq!(harness.ok(&beat("b", 3)), (3, Some(partitions(&[("t", &[1])]))));
    assert!(!harness.deadlines.keys().any(|d| matches!(d, Deadline::Rebalance(_))));
}

#[test]
fn who_takes_a_static_members_place_finds_room_in_a_full_group() {
    let mut harness = Harness::new(&[("t", 2)]);
    harness.config.consumer_max_size = 1;
    harness.ok(&fixed(join("a", &["t"])));
    assert_eq!(harness.heartbeat(&fixed(join("a2", &["t"]))), Err(GroupError::UnreleasedInstanceId));
    harness.ok(&fixed(beat("a", -2)));
    let other = Heartbeat { instance_id: Some(Arc::from("j")), ..join("a2", &["t"]) };
    assert_eq!(harness.heartbeat(&other), Err(GroupError::GroupMaxSizeReached));
    assert_eq!(harness.ok(&fixed(join("a2", &["t"]))), (2, Some(partitions(&[("t", &[0, 1])]))));
    assert_eq!(harness.group.members.len(), 1);
}
