//! Where the replicas of new partitions come to be when brokers name their racks.

use super::*;

/// A cluster whose brokers are in these racks; "" for those that name none.
fn in_racks(racks: &[&str]) -> Cluster {
    let mut cluster = Cluster::alive(i32::try_from(racks.len()).unwrap());
    for (id, rack) in racks.iter().enumerate() {
        let broker = cluster.image.brokers.get_mut(&BrokerId(id as i32)).unwrap();
        broker.rack = Some(*rack).filter(|rack| !rack.is_empty()).map(Into::into);
    }
    cluster
}

fn create(cluster: &mut Cluster, topic: u128, partitions: i32, replication_factor: i16) -> Vec<Partition> {
    cluster.accepted(&MetadataCommand::CreateTopic {
        id: TopicId(uuid(topic)),
        name: format!("t{topic}"),
        partitions,
        replication_factor,
        assignments: BTreeMap::new(),
        configs: BTreeMap::new(),
        default_min_insync_replicas: 1,
    });
    cluster.image.topics[&TopicId(uuid(topic))].partitions.iter().cloned().collect()
}

fn racks_of(cluster: &Cluster, partition: &Partition) -> usize {
    let rack = |id: &BrokerId| cluster.image.brokers[id].rack.clone();
    partition.replicas.iter().map(rack).collect::<std::collections::BTreeSet<_>>().len()
}

/// The least and the greatest number of these that a broker has.
fn spread(brokers: usize, counted: impl Iterator<Item = BrokerId>) -> (usize, usize) {
    let mut counts = vec![0; brokers];
    counted.for_each(|id| counts[id.0 as usize] += 1);
    (counts.iter().copied().min().unwrap(), counts.iter().copied().max().unwrap())
}

#[test]
fn replicas_are_spread_over_racks_and_leaders_over_brokers() {
    // (racks, partitions, replication factor, racks of each partition, fewest and most replicas of a broker)
    for (racks, partitions, factor, distinct, replicas) in [
        (&["a", "b", "c"][..], 12, 3, 3, (12, 12)),
        (&["a", "a", "b", "b", "c", "c"], 12, 3, 3, (6, 6)),
        (&["a", "a", "b", "b"], 12, 2, 2, (6, 6)),
        (&["a", "a", "b", "b"], 12, 3, 2, (9, 9)),
        (&["a", "b", "b", "c", "c", "c"], 18, 1, 1, (3, 3)),
        // A rack of one broker has a replica of everything.
        (&["a", "a", "a", "b"], 16, 2, 2, (5, 16)),
        // Who names none are in one rack.
        (&["", "", "a", "a"], 12, 2, 2, (6, 6)),
        (&["", "", "", "a", "b"], 30, 3, 3, (10, 30)),
        (&["", "", ""], 12, 2, 1, (8, 8)),
        (&["a", "a", "a"], 12, 2, 1, (8, 8)),
    ] {
        let mut cluster = in_racks(racks);
        let created = create(&mut cluster, 1, partitions, factor);
        for partition in &created {
            assert_eq!(racks_of(&cluster, partition), distinct, "{racks:?}: {partition:?}");
        }
        let leaders = spread(racks.len(), created.iter().filter_map(|p| p.leader));
        assert!(leaders.1 - leaders.0 <= 1, "{racks:?}: leaders {leaders:?}");
        let found = spread(racks.len(), created.iter().flat_map(|p| p.replicas.clone()));
        assert_eq!(found, replicas, "{racks:?} with {factor} replicas");
    }
}

#[test]
fn topics_of_one_partition_are_spread_over_racks_and_brokers_too() {
    let mut cluster = in_racks(&["a", "a", "b", "b", "c", "c"]);
    let mut created = Vec::new();
    for topic in 1..=12 {
        created.extend(create(&mut cluster, topic, 1, 3));
    }
    assert!(created.iter().all(|p| racks_of(&cluster, p) == 3));
    assert_eq!(spread(6, created.iter().filter_map(|p| p.leader)), (2, 2));
    assert_eq!(spread(6, created.iter().flat_map(|p| p.replicas.clone())), (6, 6));
}

#[test]
fn the_followers_of_a_leader_are_not_always_the_same() {
    let mut cluster = in_racks(&["a", "a", "a", "b", "b", "b"]);
    let created = create(&mut cluster, 1, 18, 2);
    for leader in 0..6 {
        let led = created.iter().filter(|p| p.leader == Some(BrokerId(leader)));
        let followers: std::collections::BTreeSet<_> = led.map(|p| p.replicas[1]).collect();
        assert_eq!(followers.len(), 3, "broker {leader} would be replaced by {followers:?} alone");
    }
}

#[test]
fn partitions_that_are_added_are_spread_over_racks() {
    let mut cluster = in_racks(&["a", "a", "b", "b"]);
    create(&mut cluster, 1, 2, 2);
    let topic = TopicId(uuid(1));
    cluster.accepted(&MetadataCommand::CreatePartitions { topic, total: 8, assignments: Vec::new() });
    let all: Vec<_> = cluster.image.topics[&topic].partitions.iter().cloned().collect();
    assert!(all.iter().all(|p| racks_of(&cluster, p) == 2));
}

#[test]
fn who_is_cordoned_gets_nothing_and_its_rack_only_what_its_others_can_take() {
    let mut cluster = in_racks(&["a", "a", "b", "c"]);
    for id in [1, 3] {
        cluster.accepted(&MetadataCommand::Cordon { broker: BrokerId(id), cordoned: true });
    }
    for partition in create(&mut cluster, 1, 6, 2) {
        let mut replicas = partition.replicas;
        replicas.sort();
        assert_eq!(replicas, ids(&[0, 2]));
    }
}

#[test]
fn who_is_fenced_does_not_lead_and_is_taken_where_its_rack_has_nobody_else() {
    let mut cluster = in_racks(&["a", "a", "b", "c"]);
    for id in [1, 3] {
        cluster.fence(id);
    }
    for partition in create(&mut cluster, 1, 12, 3) {
        let mut replicas = partition.replicas.clone();
        replicas.sort();
        assert_eq!(replicas, ids(&[0, 2, 3]), "broker 0 is there, and nobody else in rack c");
        assert_ne!(partition.leader, Some(BrokerId(3)));
        assert_eq!(partition.isr.len(), 2);
    }
}

#[test]
fn racks_make_no_difference_while_there_may_be_brokers_that_know_nothing_of_them() {
    let placed = |mut cluster: Cluster| {
        cluster.image.metadata_version = MetadataVersion::FIRST;
        create(&mut cluster, 1, 12, 2)
    };
    assert_eq!(placed(in_racks(&["a", "a", "b", "b"])), placed(in_racks(&["", "", "", ""])));
}

#[test]
fn the_followers_near_a_consumer_are_those_in_its_rack_that_are_in_sync_while_the_leader_is_elsewhere() {
    let mut cluster = in_racks(&["a", "b", "b", ""]);
    cluster.accepted(&MetadataCommand::CreateTopic {
        id: TopicId(uuid(1)),
        name: "t".into(),
        partitions: 1,
        replication_factor: 4,
        assignments: [(0, ids(&[0, 1, 2, 3]))].into(),
        configs: BTreeMap::new(),
        default_min_insync_replicas: 1,
    });
    let near = |cluster: &Cluster, rack| cluster.image.followers_in_rack(tp(1, 0), rack);
    for (rack, expected) in [("a", &[][..]), ("b", &[1, 2]), ("c", &[]), ("", &[])] {
        assert_eq!(near(&cluster, rack), ids(expected), "{rack}");
    }
    cluster.fence(1);
    assert_eq!(near(&cluster, "b"), ids(&[2]));
    cluster.fence(0);
    assert_eq!(near(&cluster, "b"), [], "the leader is there now");
    assert_eq!(cluster.image.followers_in_rack(tp(2, 0), "b"), []);
}

#[test]
fn a_broker_stays_in_the_rack_that_it_was_put_into_while_it_ran() {
    let mut cluster = Cluster::alive(3);
    cluster.accepted(&MetadataCommand::AlterConfigs {
        resource: config::ConfigResource::Broker(BrokerId(1)),
        replace: false,
        changes: vec![config::ConfigChange {
            name: config::BROKER_RACK.into(),
            op: config::ConfigOp::Set("zone-a".into()),
        }],
    });
    let rack = |cluster: &Cluster| cluster.image.brokers[&BrokerId(1)].rack.clone();
    assert_eq!(rack(&cluster).as_deref(), Some("zone-a"));
    // Its file, which names none, says nothing against it.
    cluster.register(1);
    assert_eq!(rack(&cluster).as_deref(), Some("zone-a"));
    assert_eq!(cluster.image.brokers[&BrokerId(2)].rack, None);
}
