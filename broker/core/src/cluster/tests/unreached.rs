use super::*;
use crate::time::Instant;
use std::time::Duration;

const SESSION: Duration = Duration::from_secs(1);
/// The controller hears it, and has two others for alive, who do not reach it.
const CUT_OFF: Reach = Reach { reached: false, has_lease: true, others: 2 };
const REACHED: Reach = Reach { reached: true, ..CUT_OFF };

fn at(ms: u64) -> Instant {
    Instant(ms * 1000)
}

#[test]
fn who_is_reached_by_nobody_for_a_session_and_a_half_gives_up_what_it_leads() {
    let mut unreached = Unreached::new(SESSION);
    for ms in [0, 250, 1_499] {
        assert!(!unreached.is_due(at(ms), CUT_OFF), "{ms}");
    }
    assert!(unreached.is_due(at(1_500), CUT_OFF));
    assert!(!unreached.is_due(at(1_501), CUT_OFF), "there was nothing to give up: it is looked again after as long");
    assert!(unreached.is_due(at(3_000), CUT_OFF));
}

#[test]
fn time_begins_anew_with_a_connection_and_while_the_controller_knows_no_better() {
    let no_lease = Reach { has_lease: false, ..CUT_OFF };
    let one_other = Reach { others: 1, ..CUT_OFF };
    for (what, between) in [("a follower", REACHED), ("no lease", no_lease), ("of two nobody knows", one_other)] {
        let mut unreached = Unreached::new(SESSION);
        assert!(!unreached.is_due(at(0), CUT_OFF));
        assert!(!unreached.is_due(at(1_600), between), "{what}");
        assert!(!unreached.is_due(at(1_601), CUT_OFF), "{what}");
        assert!(!unreached.is_due(at(3_100), CUT_OFF), "{what}");
        assert!(unreached.is_due(at(3_101), CUT_OFF), "{what}");
    }
}

#[test]
fn each_further_time_is_waited_for_twice_as_long_until_somebody_reaches_it() {
    let mut unreached = Unreached::new(SESSION);
    assert!(!unreached.is_due(at(0), CUT_OFF));
    let mut now = 0;
    for wait in [1_500, 3_000, 6_000, 12_000, 24_000, 24_000] {
        assert!(!unreached.is_due(at(now + wait - 1), CUT_OFF), "{wait}");
        now += wait;
        assert!(unreached.is_due(at(now), CUT_OFF), "{wait}");
        unreached.gave_up();
    }
    assert!(!unreached.is_due(at(now), REACHED));
    assert!(!unreached.is_due(at(now), CUT_OFF));
    assert!(unreached.is_due(at(now + 1_500), CUT_OFF));
}

#[test]
fn only_what_another_one_could_lead_is_given_up() {
    let mut cluster = Cluster::alive(4);
    // Led by another one; led alone; in sync alone; and two that broker 2 or 3 could lead, of which one stops.
    cluster.topic(1, &[1, 0], 1);
    cluster.topic(2, &[0], 1);
    cluster.topic(3, &[0, 1], 1);
    cluster.alter(3, &[0]);
    cluster.topic(4, &[0, 2], 1);
    cluster.topic(5, &[0, 3], 1);
    let given = |cluster: &Cluster| cluster.image.leaderships_for_others(BrokerId(0));
    assert_eq!(given(&cluster), [tp(4, 0), tp(5, 0)]);
    cluster.resign(3, ResignedPartitions::All, Leaving::Leadership, ResignReason::Stop);
    assert_eq!(given(&cluster), [tp(4, 0)]);
    let partitions = ResignedPartitions::These(given(&cluster));
    assert_eq!(cluster.resign(0, partitions, Leaving::Leadership, ResignReason::Incapable), 0);
    assert_eq!(cluster.partition(4).leader, Some(BrokerId(2)));
    assert_eq!(given(&cluster), []);
}

#[test]
fn who_gave_up_a_leadership_is_in_sync_under_another_until_it_leaves() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1], 1);
    let under_another = |cluster: &Cluster, id| cluster.image.is_in_sync_under_another(BrokerId(id), tp(1, 0));
    assert!(!under_another(&cluster, 0), "it leads");
    assert!(!under_another(&cluster, 2), "it has no replica");
    let these = || ResignedPartitions::These(vec![tp(1, 0)]);
    cluster.resign(0, these(), Leaving::Leadership, ResignReason::Incapable);
    assert!(under_another(&cluster, 0));
    cluster.resign(0, these(), Leaving::InSync, ResignReason::Incapable);
    assert!(!under_another(&cluster, 0), "it has left");
    assert!(!cluster.image.is_in_sync_under_another(BrokerId(0), tp(9, 0)), "there is no such partition");
}
