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
