use super::config::{ConfigChange, ConfigOp, ConfigResource, UNCLEAN_LEADER_ELECTION_ENABLE};
use super::*;

fn elect(cluster: &mut Cluster, partitions: Option<&[u128]>, election: Election) -> Vec<(u128, Elected)> {
    let partitions = partitions.map(|topics| topics.iter().map(|topic| tp(*topic, 0)).collect());
    match cluster.accepted(&MetadataCommand::ElectLeaders { partitions, election }) {
        Answer::Elected(results) => results.iter().map(|(tp, e)| (tp.topic.0.as_u128(), *e)).collect(),
        other => panic!("elected: {other:?}"),
    }
}

#[test]
fn the_preferred_replica_leads_again_once_it_is_in_sync() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.topic(2, &[1, 2, 0], 2);
    cluster.fence(0);
    let unavailable = Elected::PreferredNotAvailable;
    assert_eq!(
        elect(&mut cluster, Some(&[1, 2, 9]), Election::Preferred),
        [(1, unavailable), (2, Elected::NotNeeded), (9, Elected::UnknownPartition)]
    );
    cluster.unfence(0);
    assert_eq!(elect(&mut cluster, None, Election::Preferred), [(1, unavailable)]);
    cluster.alter(1, &[0, 1, 2]);
    let epoch = cluster.partition(1).leader_epoch.0;
    assert_eq!(elect(&mut cluster, None, Election::Preferred), [(1, Elected::Leader(BrokerId(0)))]);
    cluster.expect(Some(0), &[0, 1, 2], &[]);
    assert_eq!(cluster.partition(1).leader_epoch.0, epoch + 1);
}

#[test]
fn one_that_stops_is_not_preferred() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.stop(0);
    assert_eq!(elect(&mut cluster, Some(&[1]), Election::Preferred), [(1, Elected::PreferredNotAvailable)]);
    cluster.expect(Some(1), &[1, 2], &[]);
}

#[test]
fn the_last_resort_is_any_replica_that_is_alive_and_only_where_nobody_leads() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1], 1);
    cluster.topic(2, &[2], 1);
    cluster.alter(1, &[0]);
    cluster.fence(0);
    cluster.expect(None, &[], &[0]);
    assert!(cluster.image.is_undecided(cluster.partition(1)), "one is alive");
    assert_eq!(
        elect(&mut cluster, Some(&[1, 2]), Election::Unclean),
        [(1, Elected::Leader(BrokerId(1))), (2, Elected::NotNeeded)]
    );
    cluster.expect(Some(1), &[1], &[]);
    assert!(!cluster.image.is_undecided(cluster.partition(1)));
    cluster.fence(2);
    assert_eq!(elect(&mut cluster, None, Election::Unclean), [(2, Elected::NobodyAvailable)]);
    assert!(!cluster.image.is_undecided(cluster.partition(2)), "there is nothing to decide");
    elect(&mut cluster, None, Election::Preferred);
    assert_eq!(cluster.image.unclean_elections, 1);
}

fn set(resource: ConfigResource, value: Option<&str>) -> MetadataCommand {
    let op = value.map_or(ConfigOp::Delete, |value| ConfigOp::Set(value.into()));
    let change = ConfigChange { name: UNCLEAN_LEADER_ELECTION_ENABLE.into(), op };
    MetadataCommand::AlterConfigs { resource, replace: false, changes: vec![change] }
}

fn of_topic(topic: u128) -> ConfigResource {
    ConfigResource::Topic(TopicId(uuid(topic)))
}

/// Who was in sync last is away, and the other one, which is alive, lacks something.
fn waiting(asks: bool) -> Cluster {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1], 1);
    if asks {
        cluster.accepted(&set(of_topic(1), Some("true")));
    }
    cluster.alter(1, &[0]);
    cluster.fence(0);
    cluster
}

#[test]
fn who_may_lack_records_leads_where_the_topic_asks_for_it_and_nowhere_else() {
    let mut cluster = waiting(false);
    cluster.expect(None, &[], &[0]);
    let epoch = cluster.partition(1).leader_epoch.0;
    // In force at once.
    cluster.accepted(&set(of_topic(1), Some("true")));
    cluster.expect(Some(1), &[1], &[]);
    assert_eq!((cluster.partition(1).leader_epoch.0, cluster.image.unclean_elections), (epoch + 1, 1));
    // Who comes back follows.
    cluster.unfence(0);
    cluster.expect(Some(1), &[1], &[]);
    cluster.alter(1, &[0, 1]);
    cluster.fence(1);
    cluster.expect(Some(0), &[0], &[1]);
    assert_eq!(cluster.image.unclean_elections, 1, "that one was in sync");
}

#[test]
fn it_leads_as_soon_as_nobody_else_can_or_it_is_back_itself() {
    let mut cluster = waiting(true);
    cluster.expect(Some(1), &[1], &[]);
    cluster.fence(1);
    cluster.expect(None, &[], &[1]);
    cluster.unfence(0);
    cluster.expect(Some(0), &[0], &[]);
    assert_eq!(cluster.image.unclean_elections, 2);
    // One that has all that there is goes before.
    cluster.fence(0);
    cluster.expect(None, &[], &[0]);
    cluster.unfence(0);
    cluster.expect(Some(0), &[0], &[]);
    assert_eq!(cluster.image.unclean_elections, 2);
    // One that has lost its disk is better than none.
    cluster.fence(0);
    cluster.register_with(0, 77);
    cluster.unfence(0);
    cluster.expect(Some(0), &[0], &[]);
    assert_eq!(cluster.image.unclean_elections, 3);
}

#[test]
fn all_brokers_may_ask_for_it_but_not_one_and_a_topics_own_word_goes_before() {
    let mut cluster = waiting(false);
    cluster.accepted(&set(of_topic(1), Some("false")));
    assert!(matches!(
        cluster.refused(&set(ConfigResource::Broker(BrokerId(1)), Some("true"))),
        Refusal::InvalidConfig(_)
    ));
    cluster.accepted(&set(ConfigResource::Cluster, Some("true")));
    cluster.expect(None, &[], &[0]);
    cluster.accepted(&set(of_topic(1), None));
    cluster.expect(Some(1), &[1], &[]);
}

#[test]
fn who_is_only_being_added_leads_by_a_persons_decision_alone() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0], 1);
    cluster.accepted(&set(of_topic(1), Some("true")));
    let partitions = vec![Reassignment { partition: tp(1, 0), replicas: Some(ids(&[1])) }];
    cluster.accepted(&MetadataCommand::AlterPartitionReassignments { partitions, may_change_factor: true });
    cluster.fence(0);
    cluster.expect(None, &[], &[0]);
    cluster.unfence(0);
    cluster.expect(Some(0), &[0], &[]);
    assert_eq!(cluster.partition(1).adding.to_vec(), [BrokerId(1)], "the move goes on");
}

#[test]
fn a_cluster_of_an_older_version_refuses_it_for_all_brokers_whatever_the_value() {
    let mut cluster = Cluster::alive(1);
    cluster.image.metadata_version = MetadataVersion(4);
    for value in [Some("false"), Some("true"), None] {
        let refused = cluster.refused(&set(ConfigResource::Cluster, value));
        assert!(matches!(refused, Refusal::InvalidConfig(_)), "{value:?}: {refused:?}");
    }
}

#[test]
fn who_stops_leads_on_rather_than_one_that_lacks_records() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1], 1);
    cluster.accepted(&set(of_topic(1), Some("true")));
    cluster.alter(1, &[0]);
    assert_eq!(cluster.stop(0), 1);
    cluster.expect(Some(0), &[0], &[]);
    // Nor does it lead again without having registered anew.
    cluster.fence(0);
    cluster.expect(Some(1), &[1], &[]);
}

#[test]
fn a_broker_is_forgotten_when_it_is_gone_and_nothing_is_placed_on_it() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1], 1);
    let unregister = |id| MetadataCommand::UnregisterBroker { id: BrokerId(id) };
    assert!(matches!(cluster.refused(&unregister(2)), Refusal::BrokerInUse(_)));
    cluster.fence(2);
    cluster.accepted(&unregister(2));
    assert!(!cluster.image.brokers.contains_key(&BrokerId(2)));
    assert_eq!(cluster.refused(&unregister(2)), Refusal::UnknownBroker(BrokerId(2)));
    cluster.fence(1);
    assert!(matches!(cluster.refused(&unregister(1)), Refusal::BrokerInUse(_)));
}
