use super::*;

fn cordon(id: i32, cordoned: bool) -> MetadataCommand {
    MetadataCommand::Cordon { broker: BrokerId(id), cordoned }
}

fn create(topic: u128, factor: i16, assignments: &[&[i32]]) -> MetadataCommand {
    MetadataCommand::CreateTopic {
        id: TopicId(uuid(topic)),
        name: format!("topic{topic}"),
        partitions: 6,
        replication_factor: factor,
        assignments: (0..).zip(assignments).map(|(i, replicas)| (i, ids(replicas))).collect(),
        configs: BTreeMap::new(),
        default_min_insync_replicas: 1,
    }
}

#[test]
fn nothing_new_is_placed_on_a_cordoned_broker() {
    let mut cluster = Cluster::alive(4);
    cluster.accepted(&cordon(1, true));
    cluster.accepted(&create(1, 3, &[]));
    assert_eq!(cluster.image.replicas_on(BrokerId(1)), []);
    assert_eq!(cluster.image.replicas_on(BrokerId(0)).len(), 6);
    let more = MetadataCommand::CreatePartitions { topic: TopicId(uuid(1)), total: 12, assignments: Vec::new() };
    cluster.accepted(&more);
    assert_eq!(cluster.image.replicas_on(BrokerId(1)), []);
    assert_eq!(
        cluster.refused(&create(2, 0, &[&[0, 1]])),
        Refusal::InvalidAssignment("broker 1 of partition 0 is cordoned".into())
    );
    assert_eq!(
        cluster.refused(&create(2, 4, &[])),
        Refusal::InvalidReplicationFactor("replication factor 4 with 3 brokers that are not cordoned".into())
    );
}

#[test]
fn a_broker_stays_cordoned_until_somebody_says_otherwise_and_keeps_what_it_has() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.accepted(&cordon(0, true));
    cluster.expect(Some(0), &[0, 1, 2], &[]);
    cluster.register(0);
    cluster.unfence(0);
    assert!(cluster.image.brokers[&BrokerId(0)].cordoned);
    assert_eq!(cluster.apply(&cordon(0, true)).1, [], "once more changes nothing");
    cluster.accepted(&cordon(0, false));
    cluster.accepted(&create(2, 3, &[]));
    assert_eq!(cluster.image.replicas_on(BrokerId(0)).len(), 7);
    assert_eq!(cluster.refused(&cordon(9, true)), Refusal::UnknownBroker(BrokerId(9)));
}

#[test]
fn a_broker_that_is_forgotten_takes_its_permit_and_its_cordon_along() {
    let mut cluster = Cluster::alive(4);
    cluster.accepted(&cordon(3, true));
    let incarnation = cluster.image.brokers[&BrokerId(3)].incarnation.unwrap();
    let permit = MetadataCommand::GrantPermit { broker: BrokerId(3), incarnation, ttl_ms: 1, forced: None };
    cluster.accepted(&permit);
    cluster.fence(3);
    cluster.accepted(&MetadataCommand::UnregisterBroker { id: BrokerId(3) });
    assert_eq!(cluster.image.permit, None);
    cluster.register(3);
    assert!(!cluster.image.brokers[&BrokerId(3)].cordoned);
}
