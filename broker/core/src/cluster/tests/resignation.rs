use super::*;

fn only(topic: u128) -> ResignedPartitions {
    ResignedPartitions::These(vec![tp(topic, 0)])
}

#[test]
fn a_leader_that_resigns_is_succeeded_by_the_first_other_replica_that_is_in_sync() {
    use Leaving::{Copy, InSync, Leadership};
    // Replicas 0, 1, 2 with a minimum of 2. Who is in sync, who resigns, how → leader, ISR, ELR, kept.
    type Case = (&'static [i32], i32, Leaving, Option<i32>, &'static [i32], &'static [i32], usize);
    let cases: &[Case] = &[
        (&[0, 1, 2], 0, Leadership, Some(1), &[0, 1, 2], &[], 0),
        (&[0, 2], 0, Leadership, Some(2), &[0, 2], &[], 0),
        (&[0], 0, Leadership, Some(0), &[0], &[1, 2], 1),
        (&[0, 1, 2], 1, Leadership, Some(0), &[0, 1, 2], &[], 0),
        (&[0, 1, 2], 0, InSync, Some(1), &[0, 1, 2], &[], 0),
        (&[0, 1, 2], 2, InSync, Some(0), &[0, 1], &[], 0),
        (&[0, 2], 0, InSync, Some(2), &[0, 2], &[], 0),
        (&[0, 2], 2, InSync, Some(0), &[0], &[2], 0),
        (&[0], 0, InSync, Some(0), &[0], &[1, 2], 1),
        (&[0, 1, 2], 0, Copy, Some(1), &[0, 1, 2], &[], 0),
        (&[0, 2], 0, Copy, Some(2), &[0, 2], &[], 0),
        (&[0, 2], 2, Copy, Some(0), &[0], &[], 0),
        (&[0], 0, Copy, Some(1), &[1], &[2], 0),
        (&[0], 1, Copy, Some(0), &[0], &[2], 0),
        (&[0], 1, InSync, Some(0), &[0], &[1, 2], 0),
    ];
    for (in_sync, who, leaving, leader, isr, elr, kept) in cases {
        let mut cluster = Cluster::alive(3);
        cluster.topic(1, &[0, 1, 2], 2);
        cluster.alter(1, in_sync);
        let before = cluster.partition(1).clone();
        for partitions in [only(1), ResignedPartitions::All] {
            let mut cluster = Cluster { image: cluster.image.clone(), processes: cluster.processes };
            assert_eq!(
                cluster.resign(*who, partitions, *leaving, ResignReason::Disk),
                *kept,
                "{in_sync:?} {leaving:?}"
            );
            cluster.expect(*leader, isr, elr);
            let moved = cluster.partition(1).leader != before.leader;
            assert_eq!(cluster.partition(1).leader_epoch.0, before.leader_epoch.0 + i32::from(moved));
        }
    }
}

#[test]
fn all_leaderships_move_in_one_entry_and_those_that_nobody_else_can_lead_are_named() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.topic(2, &[0, 2], 1);
    cluster.topic(3, &[0], 1);
    cluster.topic(4, &[1, 0], 1);
    let command = MetadataCommand::Resign {
        broker: BrokerId(0),
        broker_epoch: cluster.epoch(0),
        partitions: ResignedPartitions::All,
        leaving: Leaving::Leadership,
        reason: ResignReason::Asked,
    };
    assert_eq!(cluster.accepted(&command), Answer::Resigned { kept: vec![tp(3, 0)] });
    let leaders: Vec<_> = (1..=4).map(|t| cluster.partition(t).leader.unwrap().0).collect();
    assert_eq!(leaders, [1, 2, 0, 1]);
}

#[test]
fn a_resignation_of_a_former_registration_is_refused() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    let command = MetadataCommand::Resign {
        broker: BrokerId(0),
        broker_epoch: cluster.epoch(0),
        partitions: ResignedPartitions::All,
        leaving: Leaving::InSync,
        reason: ResignReason::Stop,
    };
    cluster.register(0);
    assert!(matches!(cluster.refused(&command), Refusal::StaleBrokerEpoch { .. }));
}

#[test]
fn a_resignation_defeats_a_change_of_the_isr_that_is_on_its_way() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    let late = cluster.isr_change(1, &[0, 2]);
    cluster.resign(0, only(1), Leaving::Leadership, ResignReason::Asked);
    assert_eq!(cluster.refused(&late), Refusal::NotLeader);
    cluster.expect(Some(1), &[0, 1, 2], &[]);
}

#[test]
fn one_that_stops_is_not_elected_and_joins_no_isr_before_it_registers_anew() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    assert_eq!(cluster.stop(0), 0);
    cluster.expect(Some(1), &[1, 2], &[]);
    let command = cluster.isr_change(1, &[0, 1, 2]);
    assert_eq!(cluster.refused(&command), Refusal::IneligibleReplica(BrokerId(0)));
    // A new topic is led by somebody else.
    cluster.topic(2, &[0, 1, 2], 2);
    assert_eq!(cluster.partition(2).leader, Some(BrokerId(1)));
    cluster.fence(0);
    cluster.register(0);
    cluster.unfence(0);
    cluster.alter(1, &[0, 1, 2]);
    cluster.expect(Some(1), &[0, 1, 2], &[]);
}

#[test]
fn one_that_stops_is_not_elected_out_of_the_eligible_replicas() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.fence(2);
    cluster.stop(0);
    cluster.expect(Some(1), &[1], &[0]);
    cluster.fence(1);
    cluster.expect(None, &[], &[1, 0]);
    cluster.register(0);
    cluster.unfence(0);
    cluster.expect(Some(0), &[0], &[1]);
}

#[test]
fn a_copy_is_kept_that_only_one_that_stops_can_succeed() {
    let kept = |cluster: &Cluster, leader| cluster.image.only_one_that_stops_can_succeed(BrokerId(leader), tp(1, 0));
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    // It has not heard yet who succeeds it elsewhere.
    cluster.resign(1, ResignedPartitions::All, Leaving::Leadership, ResignReason::Stop);
    assert!(!kept(&cluster, 0), "2 can");
    cluster.alter(1, &[0, 1]);
    assert!(kept(&cluster, 0));
    assert!(!kept(&cluster, 1), "it does not lead");
    cluster.resign(1, ResignedPartitions::All, Leaving::InSync, ResignReason::Stop);
    cluster.expect(Some(0), &[0], &[1]);
    assert!(!kept(&cluster, 0), "nobody would succeed it");
    assert_eq!(cluster.resign(0, only(1), Leaving::Copy, ResignReason::Damage), 1);
    cluster.expect(Some(0), &[0], &[1]);
}

#[test]
fn one_that_stops_goes_on_leading_what_only_it_has_and_gives_it_up_once_another_has_caught_up() {
    let mut cluster = Cluster::alive(2);
    cluster.topic(1, &[0, 1], 1);
    cluster.fence(1);
    cluster.unfence(1);
    cluster.alter(1, &[0]);
    assert_eq!(cluster.stop(0), 1);
    cluster.expect(Some(0), &[0], &[]);
    cluster.alter(1, &[0, 1]);
    assert_eq!(cluster.stop(0), 0);
    cluster.expect(Some(1), &[1], &[0]);
}

#[test]
fn a_cluster_of_an_older_version_refuses_what_its_brokers_may_not_be_able_to_read() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.image.metadata_version = MetadataVersion::FIRST;
    let command = MetadataCommand::Resign {
        broker: BrokerId(0),
        broker_epoch: cluster.epoch(0),
        partitions: ResignedPartitions::All,
        leaving: Leaving::InSync,
        reason: ResignReason::Stop,
    };
    let refusal = Refusal::VersionTooLow { needed: MetadataVersion(2), current: MetadataVersion(1) };
    assert_eq!(cluster.image.allows(&command), Err(refusal.clone()));
    assert_eq!(cluster.refused(&command), refusal);
    cluster.accepted(&MetadataCommand::SetMetadataVersion { version: MetadataVersion::LATEST });
    assert_eq!(cluster.stop(0), 0);
}
