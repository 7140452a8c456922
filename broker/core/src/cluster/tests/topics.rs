use super::*;

fn create(id: u128, name: &str, partitions: i32, replication_factor: i16) -> MetadataCommand {
    MetadataCommand::CreateTopic {
        id: TopicId(uuid(id)),
        name: name.into(),
        partitions,
        replication_factor,
        assignments: BTreeMap::new(),
        configs: BTreeMap::new(),
        default_min_insync_replicas: 1,
    }
}

fn assigned(assignments: &[(i32, &[i32])]) -> MetadataCommand {
    let mut command = create(1, "a", 1, 1);
    if let MetadataCommand::CreateTopic { assignments: a, .. } = &mut command {
        *a = assignments.iter().map(|(i, replicas)| (*i, ids(replicas))).collect();
    }
    command
}

fn with_config(name: &str, value: &str) -> MetadataCommand {
    let mut command = create(1, "a", 1, 1);
    if let MetadataCommand::CreateTopic { configs, .. } = &mut command {
        configs.insert(name.into(), value.into());
    }
    command
}

#[test]
fn leaders_and_replicas_are_spread_evenly() {
    let mut cluster = Cluster::alive(3);
    cluster.accepted(&create(1, "a", 12, 2));
    for id in ids(&[0, 1, 2]) {
        let partitions: Vec<_> = cluster.image.partitions().map(|(_, _, p)| p.clone()).collect();
        assert_eq!(partitions.iter().filter(|p| p.leader == Some(id)).count(), 4);
        assert_eq!(partitions.iter().filter(|p| p.replicas.contains(&id)).count(), 8);
    }
}

#[test]
fn topics_of_one_partition_are_spread_over_the_brokers() {
    let mut cluster = Cluster::alive(3);
    for id in 1..=3 {
        cluster.accepted(&create(id, &format!("t{id}"), 1, 3));
    }
    let mut leaders: Vec<_> = cluster.image.partitions().filter_map(|(_, _, p)| p.leader).collect();
    leaders.sort();
    assert_eq!(leaders, ids(&[0, 1, 2]));
}

#[test]
fn with_one_of_three_never_seen_a_topic_of_three_replicas_begins_with_two_in_sync() {
    let mut cluster = Cluster::of(3);
    for id in [0, 2] {
        cluster.register(id);
        cluster.unfence(id);
    }
    cluster.accepted(&create(1, "a", 4, 3));
    for (_, _, p) in cluster.image.partitions() {
        assert_eq!((p.replicas.len(), p.isr.len()), (3, 2));
        assert!(!p.isr.contains(&BrokerId(1)));
        assert_eq!(p.leader, Some(p.replicas[0]));
    }
}

#[test]
fn replicas_go_to_brokers_that_are_there_while_there_are_enough() {
    let mut cluster = Cluster::alive(4);
    cluster.fence(2);
    cluster.accepted(&create(1, "a", 20, 3));
    assert!(cluster.image.partitions().all(|(_, _, p)| !p.replicas.contains(&BrokerId(2))));
}

#[test]
fn impossible_replication_factors_are_refused() {
    let mut cluster = Cluster::alive(3);
    for factor in [4, 0, -1] {
        let refusal = cluster.refused(&create(1, "a", 1, factor));
        assert!(matches!(refusal, Refusal::InvalidReplicationFactor(_)), "{factor}: {refusal}");
    }
    let mut nobody = Cluster::of(3);
    assert!(matches!(nobody.refused(&create(1, "a", 1, 1)), Refusal::InvalidReplicationFactor(_)));
}

#[test]
fn impossible_numbers_of_partitions_are_refused() {
    let mut cluster = Cluster::alive(3);
    for partitions in [0, -1, MAX_PARTITIONS + 1, i32::MAX] {
        assert!(matches!(cluster.refused(&create(1, "a", partitions, 1)), Refusal::InvalidPartitions(_)));
    }
}

/// A topic with all partitions that one may have, each with these replicas.
fn full(id: u128, replicas: &[i32]) -> MetadataCommand {
    let mut command = create(id, &format!("full-{id}"), 1, 1);
    if let MetadataCommand::CreateTopic { assignments, .. } = &mut command {
        *assignments = (0..MAX_PARTITIONS).map(|i| (i, ids(replicas))).collect();
    }
    command
}

#[test]
fn a_broker_and_a_cluster_have_so_many_replicas_and_who_wants_more_is_told_what_to_do() {
    let mut cluster = Cluster::alive(2);
    for id in 1..=5 {
        cluster.image.try_out(&full(id, &[0])).unwrap();
        cluster.image.apply(MetadataOffset(cluster.image.offset.0 + 1), &full(id, &[0])).0.unwrap();
    }
    let refused = |cluster: &Cluster, command: &MetadataCommand| match cluster.image.try_out(command) {
        Err(Refusal::PolicyViolation(why)) => why,
        other => panic!("{other:?}"),
    };
    let one_more = |replica| {
        let mut command = create(9, "more", 1, 1);
        if let MetadataCommand::CreateTopic { assignments, .. } = &mut command {
            *assignments = BTreeMap::from([(0, ids(&[replica]))]);
        }
        command
    };
    let why = refused(&cluster, &one_more(0));
    assert!(why.starts_with("broker 0 has 50000 replicas") && why.contains("move partitions"), "{why}");
    cluster.image.apply(MetadataOffset(cluster.image.offset.0 + 1), &one_more(1)).0.unwrap();
    let more = |assignments| {
        let topic = TopicId(uuid(9));
        MetadataCommand::CreatePartitions { topic, total: 2, assignments }
    };
    let why = refused(&cluster, &more(vec![ids(&[0])]));
    assert!(why.starts_with("broker 0 has 50000 replicas"), "{why}");
    cluster.image.try_out(&more(vec![ids(&[1])])).unwrap();
    let to = |replica| Reassignment { partition: tp(9, 0), replicas: Some(ids(&[replica])) };
    let moved = |replica| MetadataCommand::AlterPartitionReassignments {
        partitions: vec![to(replica)],
        may_change_factor: false,
    };
    let why = refused(&cluster, &moved(0));
    assert!(why.starts_with("broker 0 has 50000 replicas"), "{why}");
    // What is not about more replicas is not refused for those that there are.
    cluster.image.try_out(&MetadataCommand::DeleteTopic { id: TopicId(uuid(1)) }).unwrap();
    for id in 10..=13 {
        cluster.image.apply(MetadataOffset(cluster.image.offset.0 + 1), &full(id, &[1])).0.unwrap();
    }
    let why = refused(&cluster, &full(14, &[1]));
    assert!(why.starts_with("the cluster has 90001 replicas") && why.contains("add brokers"), "{why}");
}

#[test]
fn names_follow_kafkas_rules() {
    let mut cluster = Cluster::alive(1);
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "é", "a\0", &long] {
        assert!(matches!(cluster.refused(&create(1, name, 1, 1)), Refusal::InvalidTopicName(_)), "{name:?}");
    }
    for (id, name) in [(1, "a.b"), (2, "..."), (3, "A-0_z"), (4, &long[..249])] {
        cluster.accepted(&create(id, name, 1, 1));
    }
    assert!(matches!(cluster.refused(&create(9, "a_b", 1, 1)), Refusal::InvalidTopicName(_)));
}

#[test]
fn a_name_is_taken_until_its_topic_is_deleted_and_a_retry_finds_its_own_creation() {
    let mut cluster = Cluster::alive(1);
    cluster.accepted(&create(1, "a", 2, 1));
    assert_eq!(cluster.accepted(&create(1, "a", 2, 1)), Answer::Topic(TopicId(uuid(1))));
    assert_eq!(cluster.refused(&create(2, "a", 1, 1)), Refusal::TopicExists("a".into()));

    let delete = MetadataCommand::DeleteTopic { id: TopicId(uuid(1)) };
    let (_, changes) = cluster.apply(&delete);
    assert_eq!(changes, [Change::PartitionDeleted(tp(1, 0)), Change::PartitionDeleted(tp(1, 1))]);
    assert_eq!(cluster.refused(&delete), Refusal::UnknownTopic);
    cluster.accepted(&create(2, "a", 1, 1));
    assert_eq!(cluster.image.topic_by_name("a").unwrap().id, TopicId(uuid(2)));
}

#[test]
fn assignments_are_taken_as_given_or_refused() {
    let mut cluster = Cluster::alive(3);
    cluster.fence(2);
    let unfit: [&[(i32, &[i32])]; 7] = [
        &[(1, &[0])],
        &[(0, &[0]), (2, &[0])],
        &[(0, &[0, 1]), (1, &[0])],
        &[(0, &[])],
        &[(0, &[0, 0])],
        &[(0, &[0, 9])],
        &[(0, &[2])],
    ];
    for assignments in unfit {
        let refusal = cluster.refused(&assigned(assignments));
        assert!(matches!(refusal, Refusal::InvalidAssignment(_)), "{assignments:?}: {refusal}");
    }
    cluster.accepted(&assigned(&[(0, &[2, 1]), (1, &[0, 1])]));
    cluster.expect(Some(1), &[1], &[]);
}

#[test]
fn configs_are_honoured_or_refused() {
    let mut cluster = Cluster::alive(1);
    for (name, value) in [("cleanup.policy", "shrink"), ("min.insync.replicas", "0"), ("nonsense", "1")] {
        assert!(matches!(cluster.refused(&with_config(name, value)), Refusal::InvalidConfig(_)), "{name}");
    }
    cluster.accepted(&with_config("min.insync.replicas", "3"));
    assert_eq!(cluster.image.topic_by_name("a").unwrap().min_insync_replicas, 3);
}
