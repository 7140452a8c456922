use super::*;

#[test]
fn a_registration_has_the_offset_of_its_entry_as_epoch_and_starts_fenced() {
    let mut cluster = Cluster::of(3);
    let epoch = cluster.register(1);
    assert_eq!(epoch.0 as u64, cluster.image.offset.0);
    assert!(cluster.image.alive(BrokerId(1)).is_none());
    cluster.unfence(1);
    assert!(cluster.image.alive(BrokerId(1)).is_some());
}

#[test]
fn a_process_that_registers_again_keeps_its_epoch_and_stays_unfenced() {
    let mut cluster = Cluster::of(3);
    let command = MetadataCommand::RegisterBroker {
        member: member(0),
        directory: DirectoryId(uuid(0)),
        incarnation: IncarnationId(uuid(9)),
        damaged: vec![],
        versions: SupportedVersions::HERE,
    };
    let first = cluster.accepted(&command);
    cluster.unfence(0);
    assert_eq!(cluster.accepted(&command), first);
    assert!(cluster.image.alive(BrokerId(0)).is_some());
}

#[test]
fn a_stale_epoch_fences_and_unfences_nobody() {
    let mut cluster = Cluster::alive(3);
    let old = cluster.epoch(0);
    let current = cluster.register(0);
    let stale = Refusal::StaleBrokerEpoch { id: BrokerId(0), given: old, current: Some(current) };
    assert_eq!(cluster.refused(&MetadataCommand::Unfence { id: BrokerId(0), epoch: old }), stale);
    cluster.unfence(0);
    assert_eq!(cluster.refused(&MetadataCommand::Fence { id: BrokerId(0), epoch: old }), stale);
}

#[test]
fn a_broker_beyond_the_initial_members_may_register() {
    let mut cluster = Cluster::alive(3);
    cluster.register(7);
    cluster.unfence(7);
    assert!(cluster.image.alive(BrokerId(7)).is_some());
}

#[test]
fn nothing_is_accepted_before_the_cluster_exists_nor_is_it_created_twice() {
    let mut image = Image::default();
    let create = MetadataCommand::CreateCluster {
        cluster_id: ClusterId(uuid(5)),
        members: vec![member(0)],
        metadata_version: MetadataVersion::LATEST,
    };
    let delete = MetadataCommand::DeleteTopic { id: TopicId(uuid(1)) };
    assert_eq!(image.apply(MetadataOffset(1), &delete).0, Err(Refusal::NoCluster));
    assert_eq!(image.apply(MetadataOffset(2), &create).0, Ok(Answer::Done));
    assert_eq!(image.apply(MetadataOffset(3), &create).0, Err(Refusal::ClusterExists));
}

#[test]
fn a_fenced_leader_is_succeeded_by_the_first_in_sync_replica() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[1, 2, 0], 2);
    cluster.expect(Some(1), &[1, 2, 0], &[]);
    cluster.fence(1);
    cluster.expect(Some(2), &[2, 0], &[]);
    assert_eq!(cluster.partition(1).leader_epoch, LeaderEpoch(1));
}

#[test]
fn a_fenced_follower_leaves_the_isr_and_the_leader_epoch_stays() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.fence(2);
    cluster.expect(Some(0), &[0, 1], &[]);
    assert_eq!(cluster.partition(1).leader_epoch, LeaderEpoch(0));
    assert_eq!(cluster.partition(1).partition_epoch, PartitionEpoch(1));
}

#[test]
fn who_leaves_an_isr_below_its_minimum_stays_eligible_the_last_one_first() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.fence(0);
    cluster.expect(Some(1), &[1, 2], &[]);
    cluster.fence(1);
    cluster.expect(Some(2), &[2], &[1]);
    cluster.fence(2);
    cluster.expect(None, &[], &[2, 1]);

    cluster.unfence(0);
    cluster.expect(None, &[], &[2, 1]);
    cluster.unfence(1);
    cluster.expect(Some(1), &[1], &[2]);
    cluster.unfence(2);
    cluster.expect(Some(1), &[1], &[2]);
    cluster.alter(1, &[0, 1]);
    cluster.expect(Some(1), &[0, 1], &[]);
}

#[test]
fn who_left_a_single_member_behind_stays_eligible_until_that_has_shown_itself() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 1);
    cluster.fence(0);
    cluster.expect(Some(1), &[1, 2], &[]);
    cluster.fence(1);
    cluster.expect(Some(2), &[2], &[1]);
    cluster.alter(1, &[2]);
    cluster.expect(Some(2), &[2], &[]);
    cluster.fence(2);
    cluster.expect(None, &[], &[2]);
    cluster.unfence(1);
    cluster.expect(None, &[], &[2]);
    cluster.unfence(2);
    cluster.expect(Some(2), &[2], &[]);
}

#[test]
fn a_leader_that_leaves_others_behind_by_its_own_decision_is_the_only_one_that_can_lead() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 1);
    cluster.alter(1, &[0]);
    cluster.expect(Some(0), &[0], &[]);
}

/// With a minimum of one, too: the last member of the ISR has not been heard of since the others left it.
#[test]
fn after_a_power_cut_of_all_one_that_does_not_return_is_not_needed() {
    for min_insync_replicas in [1, 2] {
        for (missing, first, second) in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)] {
            for disk_lost in [false, true] {
                let mut cluster = Cluster::alive(3);
                cluster.topic(1, &[0, 1, 2], min_insync_replicas);
                cluster.register(first);
                cluster.register(second);
                if disk_lost {
                    cluster.register_with(missing, 77);
                } else {
                    cluster.fence(missing);
                }
                cluster.unfence(first);
                cluster.unfence(second);
                let partition = cluster.partition(1);
                assert!(partition.leader.is_some(), "without {missing}, {disk_lost}: {partition:?}");
            }
        }
    }
}

#[test]
fn of_two_replicas_either_leads_after_both_were_killed() {
    for (first, missing) in [(0, 1), (1, 0)] {
        let mut cluster = Cluster::alive(2);
        cluster.topic(1, &[0, 1], 1);
        cluster.register(first);
        cluster.fence(missing);
        cluster.unfence(first);
        cluster.expect(Some(first), &[first], &[missing]);
    }
}

#[test]
fn a_minimum_above_the_number_of_replicas_is_that_number() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1], 3);
    cluster.fence(1);
    cluster.expect(Some(0), &[0], &[1]);
    cluster.unfence(1);
    cluster.alter(1, &[0, 1]);
    cluster.expect(Some(0), &[0, 1], &[]);
}

#[test]
fn a_minimum_that_is_lowered_counts_once_the_leader_has_asked_for_its_isr() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 3);
    cluster.fence(2);
    cluster.expect(Some(0), &[0, 1], &[2]);
    let lower =
        config::ConfigChange { name: config::MIN_INSYNC_REPLICAS.into(), op: config::ConfigOp::Set("2".into()) };
    cluster.accepted(&MetadataCommand::AlterConfigs {
        resource: config::ConfigResource::Topic(TopicId(uuid(1))),
        replace: false,
        changes: vec![lower],
    });
    cluster.expect(Some(0), &[0, 1], &[2]);
    cluster.alter(1, &[0, 1]);
    cluster.expect(Some(0), &[0, 1], &[]);
}

#[test]
fn a_restarted_leader_never_resumes_its_leadership() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.register(0);
    cluster.expect(Some(1), &[1, 2], &[]);
    cluster.unfence(0);
    cluster.expect(Some(1), &[1, 2], &[]);
    assert_eq!(cluster.partition(1).leader_epoch, LeaderEpoch(1));
}

#[test]
fn a_restarted_only_replica_leads_again_in_a_greater_epoch() {
    let mut cluster = Cluster::alive(1);
    cluster.topic(1, &[0], 1);
    cluster.register(0);
    cluster.expect(None, &[], &[0]);
    cluster.unfence(0);
    cluster.expect(Some(0), &[0], &[]);
    assert_eq!(cluster.partition(1).leader_epoch, LeaderEpoch(2));
}

#[test]
fn any_two_of_three_suffice_after_all_were_killed() {
    for (first, second) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        let mut cluster = Cluster::alive(3);
        cluster.topic(1, &[0, 1, 2], 2);
        cluster.register(first);
        cluster.register(second);
        let third = 3 - first - second;
        cluster.fence(third);
        cluster.unfence(first);
        cluster.unfence(second);
        assert!(cluster.partition(1).leader.is_some(), "{first}, {second}: {:?}", cluster.partition(1));
    }
}

#[test]
fn a_wiped_disk_counts_for_nothing() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.fence(0);
    cluster.fence(1);
    cluster.fence(2);
    cluster.expect(None, &[], &[2, 1]);
    cluster.register_with(2, 77);
    cluster.expect(None, &[], &[1]);
    cluster.unfence(2);
    cluster.expect(None, &[], &[1]);
    cluster.unfence(1);
    cluster.expect(Some(1), &[1], &[]);
}

#[test]
fn a_wiped_last_in_sync_replica_is_not_believed() {
    let mut cluster = Cluster::alive(2);
    cluster.topic(1, &[0], 1);
    cluster.register_with(0, 77);
    cluster.expect(None, &[], &[]);
    cluster.unfence(0);
    cluster.expect(None, &[], &[]);
}

#[test]
fn a_wiped_member_of_a_larger_isr_leaves_it_for_good() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 3);
    cluster.register_with(0, 77);
    cluster.expect(Some(1), &[1, 2], &[]);
}

#[test]
fn damage_costs_a_broker_its_place_in_the_damaged_partition_alone() {
    // Damaged topics, then who is eligible in topic 1 after broker 0 came back.
    let rows: [(&[u128], &[i32]); 4] = [
        (&[], &[2, 1, 0]),
        (&[2], &[2, 1, 0]),
        (&[1], &[2, 1]),
        // A topic that is gone by now.
        (&[1, 9], &[2, 1]),
    ];
    for (damaged, eligible) in rows {
        let mut cluster = Cluster::alive(3);
        cluster.topic(1, &[0, 1, 2], 3);
        cluster.topic(2, &[0, 1, 2], 3);
        for id in 0..3 {
            cluster.fence(id);
        }
        cluster.register_damaged(0, damaged);
        cluster.expect(None, &[], eligible);
        cluster.unfence(0);
        let leads = |topic: u128| cluster.partition(topic).leader == Some(BrokerId(0));
        assert_eq!((leads(1), leads(2)), (!damaged.contains(&1), !damaged.contains(&2)), "{damaged:?}");
    }
}

#[test]
fn a_damaged_member_of_an_isr_leaves_it_for_good() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 3);
    cluster.register_damaged(0, &[1]);
    cluster.expect(Some(1), &[1, 2], &[]);
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 3);
    cluster.register_damaged(0, &[]);
    cluster.expect(Some(1), &[1, 2], &[0]);
}

#[test]
fn damage_beside_a_sole_copy_leaves_it_to_lead_again() {
    let mut cluster = Cluster::alive(2);
    cluster.topic(1, &[0], 1);
    cluster.topic(2, &[0, 1], 1);
    cluster.register_damaged(0, &[2]);
    cluster.unfence(0);
    cluster.expect(Some(0), &[0], &[]);
    assert_eq!(cluster.partition(2).leader, Some(BrokerId(1)));
}

#[test]
fn a_registration_that_is_asked_for_twice_takes_what_was_repaired_away_once() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    let command = MetadataCommand::RegisterBroker {
        member: member(0),
        directory: DirectoryId(uuid(0)),
        incarnation: IncarnationId(uuid(99)),
        damaged: vec![tp(1, 0)],
        versions: SupportedVersions::HERE,
    };
    cluster.accepted(&command);
    cluster.unfence(0);
    cluster.alter(1, &[0, 1, 2]);
    cluster.accepted(&command);
    cluster.expect(Some(1), &[0, 1, 2], &[]);
}

#[test]
fn a_power_cut_that_damages_another_partition_on_each_broker_leaves_every_partition_a_leader() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for min_insync_replicas in [2, 3] {
            let mut cluster = Cluster::alive(3);
            for topic in 1..=3 {
                cluster.topic(topic, &[0, 1, 2], min_insync_replicas);
            }
            for id in order {
                cluster.register_damaged(id, &[id as u128 + 1]);
            }
            for id in order {
                cluster.unfence(id);
            }
            for topic in 1..=3 {
                let leader = cluster.partition(topic).leader;
                let sound = leader.is_some_and(|id| id.0 as u128 + 1 != topic);
                assert!(sound, "{order:?}, topic {topic}: {:?}", cluster.partition(topic));
            }
        }
    }
}

#[test]
fn fencing_a_broker_of_ten_thousand_partitions_changes_each_of_them_once() {
    let mut cluster = Cluster::alive(3);
    let command = MetadataCommand::CreateTopic {
        id: TopicId(uuid(1)),
        name: "large".into(),
        partitions: 10_000,
        replication_factor: 3,
        assignments: BTreeMap::new(),
        configs: BTreeMap::new(),
        default_min_insync_replicas: 2,
    };
    cluster.accepted(&command);
    let epoch = cluster.epoch(0);
    let (_, changes) = cluster.apply(&MetadataCommand::Fence { id: BrokerId(0), epoch });
    assert_eq!(changes.len(), 10_001);
    assert!(cluster.image.partitions().all(|(_, _, p)| p.isr.len() == 2 && p.leader != Some(BrokerId(0))));
}
