//! What operators ask for: elections, features, brokers that are forgotten.

use super::client::Client;
use super::cluster::{Cluster, directory};
use super::every_version::versions;
use super::{name, text};
use chronik_core::cluster::MetadataVersion;
use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_partition_reassignments_request as reassign;
use kafka_protocol::messages::elect_leaders_request as elect;
use kafka_protocol::messages::list_partition_reassignments_request as list;
use kafka_protocol::messages::update_features_request as features;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_REQUEST: i16 = 42;
const ELECTION_NOT_NEEDED: i16 = 84;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
const INVALID_UPDATE_VERSION: i16 = 95;
const BROKER_ID_NOT_REGISTERED: i16 = 102;
const INCONSISTENT_CLUSTER_ID: i16 = 104;
const DUPLICATE_VOTER: i16 = 126;
const VOTER_NOT_FOUND: i16 = 127;

async fn cluster() -> (Cluster, Client) {
    let cluster = Cluster::start().await;
    cluster.topic("t", 2);
    let client = Client::connect(cluster.address).await;
    (cluster, client)
}

#[tokio::test]
async fn elections_are_answered_partition_by_partition_in_every_version() {
    let (_cluster, mut client) = cluster().await;
    for version in versions::<m::ElectLeadersRequest>(&mut client).await {
        let of =
            |topic, partitions| elect::TopicPartitions::default().with_topic(name(topic)).with_partitions(partitions);
        let request = m::ElectLeadersRequest::default()
            .with_timeout_ms(60_000)
            .with_topic_partitions(Some(vec![of("t", vec![0, 7]), of("none", vec![0])]));
        let response = client.ask(version, &request).await;
        let mut errors: Vec<_> = response
            .replica_election_results
            .iter()
            .flat_map(|t| t.partition_result.iter().map(|p| (t.topic.to_string(), p.partition_id, p.error_code)))
            .collect();
        errors.sort();
        let expected = [
            ("none".to_owned(), 0, UNKNOWN_TOPIC_OR_PARTITION),
            ("t".to_owned(), 0, ELECTION_NOT_NEEDED),
            ("t".to_owned(), 7, UNKNOWN_TOPIC_OR_PARTITION),
        ];
        assert_eq!((response.error_code, errors), (0, expected.to_vec()), "version {version}");
        // Of all partitions, those are told of that an election was held for.
        let all = m::ElectLeadersRequest::default().with_timeout_ms(60_000).with_topic_partitions(None);
        assert!(client.ask(version, &all).await.replica_election_results.is_empty());
    }
    let other = m::ElectLeadersRequest::default().with_election_type(2).with_timeout_ms(60_000);
    assert_eq!(client.ask(2, &other.with_topic_partitions(None)).await.error_code, INVALID_REQUEST);
}

#[tokio::test]
async fn the_metadata_version_is_told_and_never_goes_back() {
    let newest = i16::try_from(MetadataVersion::LATEST.0).expect("small");
    let (_cluster, mut client) = cluster().await;
    let answer = client.ask(3, &super::api_versions()).await;
    let finalized = &answer.finalized_features[0];
    assert_eq!(
        (&*finalized.name, finalized.min_version_level, finalized.max_version_level),
        ("metadata.version", newest, newest)
    );
    let supported = &answer.supported_features[0];
    assert_eq!((&*supported.name, supported.min_version, supported.max_version), ("metadata.version", 1, newest));
    for version in versions::<m::UpdateFeaturesRequest>(&mut client).await {
        for (feature, level, expected) in [
            ("metadata.version", newest, 0),
            ("metadata.version", newest - 1, INVALID_UPDATE_VERSION),
            ("metadata.version", newest + 1, INVALID_UPDATE_VERSION),
            ("metadata.version", 0, INVALID_UPDATE_VERSION),
            ("other.version", 1, INVALID_UPDATE_VERSION),
        ] {
            for validate_only in [true, false].into_iter().filter(|only| version > 0 || !only) {
                let update = features::FeatureUpdateKey::default()
                    .with_feature(text(feature))
                    .with_max_version_level(level)
                    .with_upgrade_type(1);
                let request = m::UpdateFeaturesRequest::default()
                    .with_timeout_ms(60_000)
                    .with_validate_only(validate_only)
                    .with_feature_updates(vec![update]);
                let response = client.ask(version, &request).await;
                let error = response.results.first().map_or(response.error_code, |r| r.error_code);
                assert_eq!(error, expected, "{feature} {level} in version {version}: {response:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_broker_is_forgotten_only_when_it_is_gone_and_empty() {
    let (cluster, mut client) = cluster().await;
    for (id, expected) in [(9, BROKER_ID_NOT_REGISTERED), (1, INVALID_REQUEST), (2, INVALID_REQUEST)] {
        let request = m::UnregisterBrokerRequest::default().with_broker_id(m::BrokerId(id));
        assert_eq!(client.ask(0, &request).await.error_code, expected, "broker {id}");
    }
    drop(cluster);
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    let request = m::UnregisterBrokerRequest::default().with_broker_id(m::BrokerId(2));
    assert_eq!(client.ask(0, &request).await.error_code, 0);
}

/// Kafka's tools ask for it in this way.
fn quorum() -> m::DescribeQuorumRequest {
    use m::describe_quorum_request::{PartitionData, TopicData};
    let topic = |of: &'static str, partition| {
        let partition = PartitionData::default().with_partition_index(partition);
        TopicData::default().with_topic_name(name(of)).with_partitions(vec![partition])
    };
    let topics = vec![topic("__cluster_metadata", 0), topic("__cluster_metadata", 1), topic("t", 0)];
    m::DescribeQuorumRequest::default().with_topics(topics)
}

#[tokio::test]
async fn the_quorum_is_described_in_every_version() {
    let (_cluster, mut client) = cluster().await;
    for version in versions::<m::DescribeQuorumRequest>(&mut client).await {
        let response = client.ask(version, &quorum()).await;
        let errors: Vec<i16> = response.topics.iter().map(|t| t.partitions[0].error_code).collect();
        assert_eq!((response.error_code, errors), (0, vec![0, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_OR_PARTITION]));
        let log = &response.topics[0].partitions[0];
        assert_eq!((log.leader_id.0, log.leader_epoch, log.high_watermark), (1, 5, 41));
        let voter = &log.current_voters[0];
        assert_eq!((voter.replica_id.0, voter.log_end_offset), (1, 42));
        assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1);
        assert_eq!(log.observers.iter().map(|o| o.replica_id.0).collect::<Vec<_>>(), [0, 2]);
        if version == 2 {
            assert_eq!(voter.replica_directory_id, directory(1));
            let listener = &response.nodes[0].listeners[0];
            assert_eq!((&*listener.name, &*listener.host, listener.port), ("CONTROLLER", "controller", 9292));
        }
    }
}

#[tokio::test]
async fn a_voter_is_named_by_its_number_and_its_directory() {
    let (_cluster, mut client) = cluster().await;
    let voters = async |client: &mut Client| {
        let response = client.ask(2, &quorum()).await;
        response.topics[0].partitions[0].current_voters.iter().map(|v| v.replica_id.0).collect::<Vec<_>>()
    };
    let add = |id: i32, of: i32| {
        let request = m::AddRaftVoterRequest::default().with_cluster_id(None).with_timeout_ms(60_000);
        request.with_voter_id(id).with_voter_directory_id(directory(of))
    };
    let remove = |id: i32, of: i32| {
        let request = m::RemoveRaftVoterRequest::default().with_cluster_id(None);
        request.with_voter_id(id).with_voter_directory_id(directory(of))
    };
    assert_eq!(client.ask(0, &add(1, 1)).await.error_code, DUPLICATE_VOTER);
    assert_eq!(client.ask(0, &add(2, 7)).await.error_code, INVALID_REQUEST);
    assert_eq!(client.ask(0, &add(2, 2)).await.error_code, 0);
    assert_eq!(voters(&mut client).await, [1, 2]);
    assert_eq!(client.ask(0, &remove(2, 7)).await.error_code, VOTER_NOT_FOUND);
    assert_eq!(client.ask(0, &remove(2, 2)).await.error_code, 0);
    assert_eq!(client.ask(0, &remove(2, 2)).await.error_code, VOTER_NOT_FOUND);
    assert_eq!(voters(&mut client).await, [1]);
    let stranger = remove(1, 1).with_cluster_id(Some(text("another")));
    assert_eq!(client.ask(0, &stranger).await.error_code, INCONSISTENT_CLUSTER_ID);
}

/// Asks for a reassignment of partition 0 of topic t, and says its error.
async fn reassigned(client: &mut Client, version: i16, replicas: Option<&[i32]>, may_change_factor: bool) -> i16 {
    let replicas = replicas.map(|ids| ids.iter().copied().map(m::BrokerId).collect());
    let partition = reassign::ReassignablePartition::default().with_partition_index(0).with_replicas(replicas);
    let topic = reassign::ReassignableTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let request = m::AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(60_000)
        .with_allow_replication_factor_change(may_change_factor)
        .with_topics(vec![topic]);
    let response = client.ask(version, &request).await;
    assert_eq!(response.error_code, 0);
    response.responses[0].partitions[0].error_code
}

/// What is being moved of these partitions: replicas, those that are added and those that are removed.
async fn ongoing(
    client: &mut Client,
    topics: Option<&[(&'static str, &[i32])]>,
) -> Vec<(i32, Vec<i32>, Vec<i32>, Vec<i32>)> {
    let topics = topics.map(|named| {
        let of = |(topic, partitions): &(&'static str, &[i32])| {
            list::ListPartitionReassignmentsTopics::default()
                .with_name(name(topic))
                .with_partition_indexes(partitions.to_vec())
        };
        named.iter().map(of).collect()
    });
    let request = m::ListPartitionReassignmentsRequest::default().with_timeout_ms(60_000).with_topics(topics);
    let response = client.ask(0, &request).await;
    let ids = |ids: &[m::BrokerId]| ids.iter().map(|id| id.0).collect();
    let partitions = response.topics.iter().flat_map(|t| &t.partitions);
    partitions
        .map(|p| (p.partition_index, ids(&p.replicas), ids(&p.adding_replicas), ids(&p.removing_replicas)))
        .collect()
}

#[tokio::test]
async fn partitions_are_moved_listed_and_left_where_they_were() {
    let (_cluster, mut client) = cluster().await;
    for version in versions::<m::AlterPartitionReassignmentsRequest>(&mut client).await {
        assert_eq!(reassigned(&mut client, version, None, true).await, NO_REASSIGNMENT_IN_PROGRESS);
        assert_eq!(reassigned(&mut client, version, Some(&[0, 0]), true).await, INVALID_REPLICA_ASSIGNMENT);
        assert_eq!(reassigned(&mut client, version, Some(&[0, 9]), true).await, INVALID_REPLICA_ASSIGNMENT);
        assert_eq!(reassigned(&mut client, version, Some(&[]), true).await, INVALID_REPLICA_ASSIGNMENT);
        assert_eq!(reassigned(&mut client, version, Some(&[2, 0]), true).await, 0);
        let moving = vec![(0, vec![2, 0, 1], vec![], vec![1])];
        assert_eq!(ongoing(&mut client, None).await, moving);
        assert_eq!(ongoing(&mut client, Some(&[("t", &[0, 1])])).await, moving);
        assert_eq!(ongoing(&mut client, Some(&[("t", &[1]), ("none", &[0])])).await, []);
        assert_eq!(reassigned(&mut client, version, None, true).await, 0);
        assert_eq!(ongoing(&mut client, None).await, []);
    }
    // Version 0 always may.
    assert_eq!(reassigned(&mut client, 1, Some(&[0, 1]), false).await, INVALID_REPLICATION_FACTOR);
    assert_eq!(reassigned(&mut client, 0, Some(&[0, 1]), true).await, 0);
    assert_eq!(ongoing(&mut client, None).await, [], "both are in sync: it is done at once");
    let topic = reassign::ReassignableTopic::default()
        .with_name(name("none"))
        .with_partitions(vec![reassign::ReassignablePartition::default()]);
    let request = m::AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    let response = client.ask(1, &request).await;
    assert_eq!(response.responses[0].partitions[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
}
