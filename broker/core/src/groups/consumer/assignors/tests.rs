use super::*;
use std::collections::BTreeSet;

fn topic(n: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(n))
}

fn spec<'a>(
    topics: &[usize],
    subscribed: &[&[usize]],
    instances: &'a [Option<Arc<str>>],
    current: &'a [Assignment],
) -> Spec<'a> {
    let member = |(m, subscribed): (usize, &&[usize])| MemberSpec {
        instance_id: instances.get(m).and_then(Option::as_ref),
        subscribed: Rc::from(*subscribed),
        current: current.get(m),
    };
    Spec {
        topics: topics.iter().enumerate().map(|(n, partitions)| (topic(n as u128), *partitions)).collect(),
        members: subscribed.iter().enumerate().map(member).collect(),
    }
}

fn sizes(assignments: &[Assignment]) -> Vec<usize> {
    assignments.iter().map(|a| a.iter().count()).collect()
}

/// Each partition with a subscriber has one owner, which is subscribed to it.
fn check(spec: &Spec<'_>, assignments: &[Assignment]) {
    let mut owned = BTreeSet::new();
    for (member, assignment) in spec.members.iter().zip(assignments) {
        for (id, partition) in assignment.iter() {
            assert!(owned.insert((id, partition)), "{id}-{partition} has two owners");
            let place = spec.topics.iter().position(|(t, _)| *t == id).unwrap();
            assert!(member.subscribed.contains(&place) && (partition as usize) < spec.topics[place].1);
        }
    }
    let subscribed: BTreeSet<usize> = spec.members.iter().flat_map(|m| m.subscribed.iter().copied()).collect();
    assert_eq!(owned.len(), subscribed.iter().map(|t| spec.topics[*t].1).sum::<usize>(), "some have no owner");
}

#[test]
fn uniform_gives_all_the_same_number_or_one_more() {
    for (topics, members, expected) in [
        (vec![6], 2, vec![3, 3]),
        (vec![3, 4], 3, vec![3, 2, 2]),
        (vec![1, 1, 1], 2, vec![2, 1]),
        (vec![2], 3, vec![1, 1, 0]),
        (vec![], 1, vec![0]),
    ] {
        let all: Vec<usize> = (0..topics.len()).collect();
        let spec = spec(&topics, &vec![&all[..]; members], &[], &[]);
        let assignments = Assignor::Uniform.assign(&spec);
        check(&spec, &assignments);
        assert_eq!(sizes(&assignments), expected, "{topics:?}");
    }
}

#[test]
fn uniform_moves_no_more_than_it_must() {
    let first = Assignor::Uniform.assign(&spec(&[10], &[&[0], &[0], &[0]], &[], &[]));
    // The third leaves; then one joins.
    let second = Assignor::Uniform.assign(&spec(&[10], &[&[0], &[0]], &[], &first));
    for (before, after) in first.iter().zip(&second) {
        assert!(before.iter().all(|(t, p)| after.contains(t, p)), "{before:?} became {after:?}");
    }
    let third = Assignor::Uniform.assign(&spec(&[10], &[&[0], &[0], &[0]], &[], &second));
    assert_eq!(sizes(&third), [4, 3, 3]);
    for (before, after) in second.iter().zip(&third) {
        assert!(after.iter().all(|(t, p)| before.contains(t, p)), "{before:?} became {after:?}");
    }
    // With one partition too many, it stays with who has it.
    let uneven = [(1..4).map(|p| (topic(0), p)).collect(), [(topic(0), 0)].into_iter().collect()];
    let kept = Assignor::Uniform.assign(&spec(&[5], &[&[0], &[0]], &[], &uneven));
    assert_eq!(sizes(&kept), [3, 2]);
    assert!(uneven[0].iter().all(|(t, p)| kept[0].contains(t, p)));
}

#[test]
fn uniform_evens_out_different_subscriptions_as_far_as_they_allow() {
    for (topics, subscribed, expected) in [
        (vec![4, 4], vec![&[0, 1][..], &[0], &[1]], vec![2, 3, 3]),
        (vec![6, 2], vec![&[0], &[0, 1]], vec![4, 4]),
        (vec![2, 6], vec![&[0], &[0, 1]], vec![2, 6]),
        (vec![3], vec![&[0], &[]], vec![3, 0]),
    ] {
        let spec = spec(&topics, &subscribed, &[], &[]);
        let assignments = Assignor::Uniform.assign(&spec);
        check(&spec, &assignments);
        assert!(sizes(&assignments).iter().zip(&expected).all(|(a, e)| a.abs_diff(*e) <= 1), "{assignments:?}");
        let sum = |s: &[usize]| s.iter().sum::<usize>();
        assert_eq!(sum(&sizes(&assignments)), sum(&expected));
        let again =
            Assignor::Uniform.assign(&Spec { members: with_current(&spec, &assignments), topics: spec.topics.clone() });
        assert_eq!(again, assignments, "what is even stays");
    }
}

fn with_current<'a>(spec: &Spec<'a>, current: &'a [Assignment]) -> Vec<MemberSpec<'a>> {
    let member = |(m, current): (&MemberSpec<'a>, &'a Assignment)| MemberSpec {
        instance_id: m.instance_id,
        subscribed: m.subscribed.clone(),
        current: Some(current),
    };
    spec.members.iter().zip(current).map(member).collect()
}

#[test]
fn uniform_takes_from_members_with_much_for_a_new_one_with_another_subscription() {
    let current: Vec<Assignment> = vec![(0..8).map(|p| (topic(0), p)).collect(), Assignment::default()];
    let spec = spec(&[8, 1], &[&[0], &[0, 1]], &[], &current);
    let assignments = Assignor::Uniform.assign(&spec);
    check(&spec, &assignments);
    assert!(sizes(&assignments) == [5, 4] || sizes(&assignments) == [4, 5], "{assignments:?}");
}

#[test]
fn range_gives_members_the_same_ranges_of_all_topics_and_static_ones_come_first() {
    let instances = [None, Some(Arc::from("z")), Some(Arc::from("a"))];
    let spec = spec(&[4, 4], &[&[0, 1], &[0, 1], &[0, 1]], &instances, &[]);
    let assignments = Assignor::Range.assign(&spec);
    check(&spec, &assignments);
    let range = |p: &[i32]| p.iter().flat_map(|p| [(topic(0), *p), (topic(1), *p)]).collect::<Assignment>();
    assert_eq!(assignments, [range(&[3]), range(&[2]), range(&[0, 1])]);
}

#[test]
fn range_deals_each_topic_to_its_subscribers() {
    let spec = spec(&[3, 2], &[&[0], &[0, 1], &[1]], &[], &[]);
    let assignments = Assignor::Range.assign(&spec);
    check(&spec, &assignments);
    assert_eq!(sizes(&assignments), [2, 2, 1]);
}
