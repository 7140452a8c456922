use super::*;

impl Cluster {
    /// What draining a broker begins: topics, and the replicas they are to have.
    fn drained(&self, broker: i32, at_once: usize) -> Vec<(u128, Vec<BrokerId>)> {
        let moves = self.image.drain(BrokerId(broker), at_once).moves;
        moves.into_iter().map(|m| (m.partition.topic.0.as_u128(), m.replicas.unwrap())).collect()
    }

    fn carry_out(&mut self, broker: i32, at_once: usize) {
        let partitions = self.image.drain(BrokerId(broker), at_once).moves;
        self.accepted(&MetadataCommand::AlterPartitionReassignments { partitions, may_change_factor: false });
    }

    /// A topic that was on 0 and 1 is on 1 and 2.
    fn is_moved(&mut self, topic: u128) {
        self.alter(topic, &[0, 1, 2]);
        self.alter(topic, &[1, 2]);
    }
}

#[test]
fn each_replica_goes_to_the_one_that_has_the_fewest_and_takes_its_place_in_the_order() {
    let mut cluster = Cluster::alive(5);
    cluster.topic(1, &[0, 1], 1);
    cluster.topic(2, &[1, 0], 1);
    cluster.topic(3, &[2, 3], 1);
    assert_eq!(cluster.drained(0, 9), [(1, ids(&[4, 1])), (2, ids(&[1, 2]))]);
    cluster.accepted(&MetadataCommand::Cordon { broker: BrokerId(4), cordoned: true });
    cluster.fence(2);
    assert_eq!(cluster.drained(0, 9), [(1, ids(&[3, 1])), (2, ids(&[1, 3]))]);
}

#[test]
fn another_rack_is_better_than_fewer_replicas() {
    let mut cluster = Cluster::alive(4);
    for (id, rack) in [(1, "a"), (2, "a"), (3, "b")] {
        cluster.image.brokers[&BrokerId(id)].rack = Some(rack.into());
    }
    cluster.topic(1, &[0, 1], 1);
    cluster.topic(2, &[3], 1);
    assert_eq!(cluster.drained(0, 9), [(1, ids(&[3, 1]))]);
}

#[test]
fn no_more_than_so_many_are_under_way_until_nothing_is_left() {
    let mut cluster = Cluster::alive(3);
    for topic in 1..=3 {
        cluster.topic(topic, &[0, 1], 1);
    }
    cluster.carry_out(0, 2);
    let drain = cluster.image.drain(BrokerId(0), 2);
    assert_eq!((drain.moves.len(), drain.under_way.len(), drain.left), (0, 2, 3));
    cluster.is_moved(1);
    assert_eq!(cluster.drained(0, 2), [(3, ids(&[2, 1]))]);
    cluster.carry_out(0, 2);
    cluster.is_moved(2);
    cluster.is_moved(3);
    assert_eq!(cluster.image.drain(BrokerId(0), 2), Drain::default());
}

#[test]
fn where_no_other_broker_is_left_it_says_so() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.topic(2, &[0, 1], 2);
    let drain = cluster.image.drain(BrokerId(0), 9);
    assert_eq!(drain.nowhere, [tp(1, 0)]);
}

#[test]
fn a_move_to_a_broker_that_is_gone_goes_elsewhere() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 1);
    cluster.carry_out(0, 9);
    assert_eq!(*cluster.partition(1).adding, ids(&[2]));
    cluster.fence(2);
    assert_eq!(cluster.drained(0, 9), [(1, ids(&[1, 3]))]);
    cluster.carry_out(0, 9);
    assert_eq!(cluster.partition(1).replicas, ids(&[1, 3, 0]));
}

#[test]
fn nothing_goes_to_a_broker_that_may_hold_no_more() {
    let mut cluster = Cluster::alive(3);
    for id in 1..=5 {
        let assignments = (0..MAX_PARTITIONS).map(|i| (i, ids(&[1]))).collect();
        let command = MetadataCommand::CreateTopic {
            id: TopicId(uuid(100 + id)),
            name: format!("full-{id}"),
            partitions: 1,
            replication_factor: 1,
            assignments,
            configs: BTreeMap::new(),
            default_min_insync_replicas: 1,
        };
        cluster.image.apply(MetadataOffset(cluster.image.offset.0 + 1), &command).0.unwrap();
    }
    let topic = |id, replica| MetadataCommand::CreateTopic {
        id: TopicId(uuid(id)),
        name: format!("t{id}"),
        partitions: 1,
        replication_factor: 1,
        assignments: BTreeMap::from([(0, ids(&[replica]))]),
        configs: BTreeMap::new(),
        default_min_insync_replicas: 1,
    };
    cluster.image.apply(MetadataOffset(cluster.image.offset.0 + 1), &topic(1, 0)).0.unwrap();
    cluster.image.apply(MetadataOffset(cluster.image.offset.0 + 1), &topic(2, 2)).0.unwrap();
    assert_eq!(cluster.drained(0, 9), [(1, ids(&[2]))]);
    let command = MetadataCommand::Cordon { broker: BrokerId(2), cordoned: true };
    cluster.image.apply(MetadataOffset(cluster.image.offset.0 + 1), &command).0.unwrap();
    let drain = cluster.image.drain(BrokerId(0), 9);
    assert_eq!((drain.moves, drain.nowhere), (vec![], vec![tp(1, 0)]));
}
