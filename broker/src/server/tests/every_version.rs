//! Requests in every version that is advertised, with another codec at the client's end. Those of groups are beside,
//! and those of administrators in `admin` and `operations`.

use super::client::{Client, batch};
use super::cluster::{Cluster, EPOCH};
use super::{name, text};
use chronik_wire::SERVED;
use kafka_protocol::messages as m;
use kafka_protocol::messages::{ApiKey, BrokerId};
use kafka_protocol::protocol::Request;

/// Those of which a version is served that the client's codec does not know: Kafka's own tools and tests ask in it.
const NEWER: [ApiKey; 5] =
    [ApiKey::ApiVersions, ApiKey::DescribeLogDirs, ApiKey::ListOffsets, ApiKey::OffsetCommit, ApiKey::OffsetFetch];

/// The advertised versions of a kind that the client's codec knows.
pub(super) async fn versions<R: Request>(client: &mut Client) -> std::ops::RangeInclusive<i16> {
    let response = client.ask(0, &m::ApiVersionsRequest::default()).await;
    let served = response.api_keys.iter().find(|a| a.api_key == R::KEY).expect("it is advertised");
    assert!(
        served.max_version <= R::VERSIONS.max || NEWER.iter().any(|api| *api as i16 == R::KEY),
        "the client's codec knows {} in versions up to {}, and {} is served: test it by other means",
        R::KEY,
        R::VERSIONS.max,
        served.max_version
    );
    served.min_version.max(R::VERSIONS.min)..=served.max_version.min(R::VERSIONS.max)
}

#[tokio::test]
async fn what_is_advertised_is_what_is_dispatched() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    let response = client.ask(3, &super::api_versions()).await;
    let advertised: Vec<_> = response.api_keys.iter().map(|a| (a.api_key, a.min_version, a.max_version)).collect();
    let dispatched: Vec<_> = SERVED
        .iter()
        // Listed for clients that probe, and not served (KAFKA-18659).
        .map(|s| (s.api as i16, if s.api as i16 == ApiKey::Produce as i16 { 0 } else { s.min }, s.max))
        .collect();
    assert_eq!(advertised, dispatched);
}

#[tokio::test]
async fn api_versions() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    for version in versions::<m::ApiVersionsRequest>(&mut client).await {
        let response = client.ask(version, &super::api_versions()).await;
        assert_eq!(response.error_code, 0);
        assert_eq!(response.api_keys.len(), SERVED.len());
        if version < 3 {
            continue;
        }
        for (name, software, error) in [
            ("", "1", 42),
            ("test", "", 42),
            ("-test", "1", 42),
            ("a test", "1", 42),
            ("test", "1.", 42),
            ("a-te.st", "1.0-2", 0),
            ("t", "1", 0),
        ] {
            let request = m::ApiVersionsRequest::default()
                .with_client_software_name(text(name))
                .with_client_software_version(text(software));
            let response = client.ask(version, &request).await;
            let listed = if error == 0 { SERVED.len() } else { 0 };
            assert_eq!((response.error_code, response.api_keys.len()), (error, listed), "'{name}' '{software}'");
        }
    }
}

#[tokio::test]
async fn produce_and_fetch() {
    let cluster = Cluster::start().await;
    let id = cluster.topic("t", 2);
    let mut client = Client::connect(cluster.address).await;
    let mut end = 0;
    for version in versions::<m::ProduceRequest>(&mut client).await {
        let records = batch(3, 100).freeze();
        let partition = m::produce_request::PartitionProduceData::default().with_index(1).with_records(Some(records));
        let mut topic = m::produce_request::TopicProduceData::default().with_partition_data(vec![partition]);
        topic = if version >= 13 { topic.with_topic_id(id.0) } else { topic.with_name(name("t")) };
        let request = m::ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic]);
        let response = client.ask(version, &request).await;
        let topic = &response.responses[0];
        if version >= 13 {
            assert_eq!(topic.topic_id, id.0);
        } else {
            assert_eq!(topic.name, name("t"));
        }
        let partition = &topic.partition_responses[0];
        assert_eq!((partition.index, partition.error_code, partition.base_offset), (1, 0, end));
        end += 3;
    }
    for version in versions::<m::FetchRequest>(&mut client).await {
        let partition = |index, offset| {
            m::fetch_request::FetchPartition::default()
                .with_partition(index)
                .with_fetch_offset(offset)
                .with_partition_max_bytes(1 << 20)
        };
        let mut topic = m::fetch_request::FetchTopic::default().with_partitions(vec![partition(0, 0), partition(1, 4)]);
        topic = if version >= 13 { topic.with_topic_id(id.0) } else { topic.with_topic(name("t")) };
        let request = m::FetchRequest::default()
            .with_max_wait_ms(0)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_topics(vec![topic]);
        let response = client.ask(version, &request).await;
        assert_eq!((response.error_code, response.session_id), (0, 0));
        let parts = &response.responses[0].partitions;
        assert_eq!((parts[0].error_code, parts[0].high_watermark), (0, 0));
        assert_eq!(parts[0].records.as_ref().map(bytes::Bytes::len), Some(0), "empty, and not null");
        assert_eq!((parts[1].error_code, parts[1].high_watermark, parts[1].last_stable_offset), (0, end, end));
        // From the batch on that holds offset 4, which is the second one.
        let records = parts[1].records.as_ref().expect("records");
        assert_eq!(records.len(), 10 * batch(3, 100).len());
        assert_eq!(&records[..8], &3i64.to_be_bytes());
        assert_eq!(&records[12..16], &EPOCH.0.to_be_bytes());
    }
}

#[tokio::test]
async fn list_offsets() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    for version in versions::<m::ListOffsetsRequest>(&mut client).await {
        for (timestamp, error, offset) in [
            (-1, 0, 0),
            (-2, 0, 0),
            (5, 0, 0),
            (-3, if version >= 7 { 0 } else { 35 }, -1),
            (-4, if version >= 8 { 0 } else { 35 }, if version >= 8 { 0 } else { -1 }),
            (-5, if version >= 9 { 0 } else { 35 }, -1),
            (-6, 35, -1),
            (-77, 35, -1),
        ] {
            let partition = m::list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
            let topic = m::list_offsets_request::ListOffsetsTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition]);
            let request = m::ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            let response = client.ask(version, &request).await;
            let found = &response.topics[0].partitions[0];
            assert_eq!((found.error_code, found.offset), (error, offset), "v{version}, {timestamp}");
        }
    }
}

#[tokio::test]
async fn metadata() {
    let cluster = Cluster::start().await;
    let id = cluster.topic("t", 2);
    let mut client = Client::connect(cluster.address).await;
    for version in versions::<m::MetadataRequest>(&mut client).await {
        let request = m::MetadataRequest::default().with_topics(if version == 0 { Some(Vec::new()) } else { None });
        let response = client.ask(version, &request).await;
        let alive: Vec<_> = response.brokers.iter().map(|b| (b.node_id.0, b.host.to_string(), b.port)).collect();
        assert_eq!(alive, [(0, "broker-0".to_owned(), 9092), (1, "broker-1".to_owned(), 9092)]);
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAQ"));
        }
        let topic = &response.topics[0];
        assert_eq!(topic.name, Some(name("t")));
        if version >= 10 {
            assert_eq!(topic.topic_id, id.0);
        }
        let partition = &topic.partitions[1];
        assert_eq!((partition.partition_index, partition.leader_id.0), (1, 0));
        if version >= 7 {
            assert_eq!(partition.leader_epoch, EPOCH.0);
        }
        if version >= 5 {
            assert_eq!(partition.offline_replicas, [BrokerId(2)]);
        }
        assert_eq!(partition.error_code, if version == 0 { 9 } else { 0 });
        if version > 0 {
            let request = m::MetadataRequest::default().with_topics(Some(Vec::new()));
            let response = client.ask(version, &request).await;
            assert!(response.topics.is_empty(), "none is not all");
        }
    }
}

#[tokio::test]
async fn create_topics() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    for version in versions::<m::CreateTopicsRequest>(&mut client).await {
        let topic = m::create_topics_request::CreatableTopic::default()
            .with_name(name("new"))
            .with_num_partitions(4)
            .with_replication_factor(3);
        let request = m::CreateTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![topic]);
        let response = client.ask(version, &request).await;
        let created = &response.topics[0];
        assert_eq!((created.error_code, created.name.clone()), (0, name("new")));
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (4, 3));
            assert!(created.configs.as_ref().is_some_and(|c| c.iter().any(|c| &*c.name == "min.insync.replicas")));
        }
        let again = client.ask(version, &request).await;
        assert_eq!(again.topics[0].error_code, 36);
        let delete = m::DeleteTopicsRequest::default().with_topic_names(vec![name("new")]).with_timeout_ms(1000);
        assert_eq!(client.ask(1, &delete).await.responses[0].error_code, 0);
    }
}

#[tokio::test]
async fn delete_topics() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    for version in versions::<m::DeleteTopicsRequest>(&mut client).await {
        for by_id in [false, true] {
            let id = cluster.topic("new", 1);
            let of_topic = m::delete_topics_request::DeleteTopicState::default();
            let request = match (version, by_id) {
                (..=5, true) => continue,
                (..=5, false) => m::DeleteTopicsRequest::default().with_topic_names(vec![name("new")]),
                (_, false) => {
                    m::DeleteTopicsRequest::default().with_topics(vec![of_topic.with_name(Some(name("new")))])
                }
                (_, true) => m::DeleteTopicsRequest::default().with_topics(vec![of_topic.with_topic_id(id.0)]),
            };
            let request = request.with_timeout_ms(1000);
            let response = client.ask(version, &request).await;
            let deleted = &response.responses[0];
            assert_eq!((deleted.error_code, deleted.name.clone()), (0, Some(name("new"))), "version {version}");
            let again = client.ask(version, &request).await;
            assert_eq!(again.responses[0].error_code, if by_id { 100 } else { 3 }, "version {version}");
        }
    }
}

#[tokio::test]
async fn delete_records() {
    use m::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    client.ask(9, &super::produce("t", -1, batch(3, 100).freeze())).await;
    for version in versions::<m::DeleteRecordsRequest>(&mut client).await {
        for (before, error, mark) in [(2, 0, 2), (-1, 0, 3), (9, 1, -1)] {
            let partition = DeleteRecordsPartition::default().with_offset(before);
            let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
            let request = m::DeleteRecordsRequest::default().with_timeout_ms(1000).with_topics(vec![topic]);
            let response = client.ask(version, &request).await;
            let deleted = &response.topics[0].partitions[0];
            assert_eq!((deleted.error_code, deleted.low_watermark), (error, mark), "version {version}, {before}");
        }
    }
}

#[tokio::test]
async fn init_producer_id() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    for (next, version) in (1000..).zip(versions::<m::InitProducerIdRequest>(&mut client).await) {
        let request = m::InitProducerIdRequest::default().with_transactional_id(None);
        let response = client.ask(version, &request).await;
        assert_eq!((response.error_code, response.producer_id.0, response.producer_epoch), (0, next, 0));
        let request = request.with_transactional_id(Some(text("tx").into()));
        let response = client.ask(version, &request).await;
        assert_eq!((response.error_code, response.producer_id.0), (53, -1));
    }
}

#[tokio::test]
async fn offset_for_leader_epoch() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    for version in versions::<m::OffsetForLeaderEpochRequest>(&mut client).await {
        let partition = m::offset_for_leader_epoch_request::OffsetForLeaderPartition::default().with_leader_epoch(5);
        let topic = m::offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
            .with_topic(name("t"))
            .with_partitions(vec![partition]);
        let request = m::OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let response = client.ask(version, &request).await;
        let found = &response.topics[0].partitions[0];
        assert_eq!((found.error_code, found.leader_epoch, found.end_offset), (0, 5, 0));
    }
}

#[tokio::test]
async fn describe_cluster() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    for version in versions::<m::DescribeClusterRequest>(&mut client).await {
        let request = m::DescribeClusterRequest::default()
            .with_include_cluster_authorized_operations(true)
            .with_include_fenced_brokers(version >= 2);
        let response = client.ask(version, &request).await;
        assert_eq!((response.error_code, response.controller_id.0), (0, 0));
        let brokers: Vec<_> = response.brokers.iter().map(|b| (b.broker_id.0, b.is_fenced)).collect();
        let alive = [(0, false), (1, false), (2, true)];
        assert_eq!(brokers, alive[..if version >= 2 { 3 } else { 2 }]);
        if version >= 1 {
            let request = m::DescribeClusterRequest::default().with_endpoint_type(2);
            let response = client.ask(version, &request).await;
            assert_eq!(response.error_code, 114);
        }
    }
}

#[tokio::test]
async fn describe_configs() {
    let property = crate::config::Property { name: "message.max.bytes".into(), value: "5000".into(), given: true };
    let cluster = Cluster::start_with(|c| c.properties = vec![property]).await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    for version in versions::<m::DescribeConfigsRequest>(&mut client).await {
        let resource = |kind, name| {
            m::describe_configs_request::DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        let request = m::DescribeConfigsRequest::default()
            .with_resources(vec![resource(2, "t"), resource(4, "0"), resource(2, "none"), resource(4, "1")])
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3);
        let response = client.ask(version, &request).await;
        let errors: Vec<_> = response.results.iter().map(|r| r.error_code).collect();
        assert_eq!(errors, [0, 0, 3, 42]);
        let max = response.results[0].configs.iter().find(|c| &*c.name == "max.message.bytes").expect("known");
        assert_eq!((max.value.as_deref(), max.config_source), (Some("5000"), 4));
        assert_eq!(&*max.synonyms[0].name, "message.max.bytes");
        if version >= 3 {
            assert_eq!(max.config_type, 3);
            assert!(max.documentation.is_some());
        }
        assert_eq!(response.results[1].configs[0].value.as_deref(), Some("5000"));
        // No names at all ask for all, as in Kafka.
        let all = m::DescribeConfigsRequest::default()
            .with_resources(vec![resource(2, "t").with_configuration_keys(Some(Vec::new()))]);
        assert_eq!(client.ask(version, &all).await.results[0].configs.len(), response.results[0].configs.len());
    }
}

#[tokio::test]
async fn find_coordinator() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    for version in versions::<m::FindCoordinatorRequest>(&mut client).await {
        let request = if version >= 4 {
            m::FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")])
        } else {
            m::FindCoordinatorRequest::default().with_key(text("a"))
        };
        let response = client.ask(version, &request).await;
        if version >= 4 {
            let all: Vec<_> = response.coordinators.iter().map(|c| (c.key.to_string(), c.error_code)).collect();
            assert_eq!(all, [("a".to_owned(), 0), ("b".to_owned(), 0)]);
            assert!(response.coordinators.iter().all(|c| (c.node_id.0, c.port) == (0, 9092)));
        } else {
            assert_eq!((response.error_code, response.node_id.0, &*response.host), (0, 0, "broker-0"));
        }
    }
}
