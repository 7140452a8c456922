//! Two listeners: each client is told the addresses of the one that it came through.

use super::client::{Client, batch};
use super::cluster::Cluster;
use super::{fetch, name, produce, text};
use crate::api::LastingHosts;
use chronik_core::cluster::config::Configs;
use chronik_core::ids::{BrokerId, IncarnationId};
use kafka_protocol::messages as m;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LEADER_NOT_AVAILABLE: i16 = 5;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const INVALID_REQUEST: i16 = 42;
const LISTENER_NOT_FOUND: i16 = 72;

/// Gives a broker an address for the listener EXTERNAL.
fn advertise(cluster: &Cluster, broker: i32) {
    let value = format!("OTHER://other:1,EXTERNAL://outside-{broker}:{}", 30_000 + broker);
    let configs: Configs = [(Arc::from("advertised.listeners"), Arc::from(value))].into_iter().collect();
    cluster.image.send_modify(|image| {
        image.broker_configs.insert(BrokerId(broker), configs);
    });
}

type Named = (i32, String, i32);

fn outside(broker: i32) -> Named {
    (broker, format!("outside-{broker}"), 30_000 + broker)
}

/// The brokers, and the error and the leader of the partition.
async fn metadata(client: &mut Client, version: i16) -> (Vec<Named>, i16, i32) {
    let topic = m::metadata_request::MetadataRequestTopic::default().with_name(Some(name("t")));
    let response = client.ask(version, &m::MetadataRequest::default().with_topics(Some(vec![topic]))).await;
    let brokers = response.brokers.iter().map(|b| (b.node_id.0, b.host.to_string(), b.port));
    let partition = &response.topics[0].partitions[0];
    (brokers.collect(), partition.error_code, partition.leader_id.0)
}

#[tokio::test]
async fn metadata_has_the_addresses_of_the_listener_that_the_client_came_through() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut inside = Client::connect(cluster.address).await;
    let mut outside_client = Client::connect(cluster.external).await;
    // A leader that has no address there yet cannot be reached, and is said to be so.
    assert_eq!(metadata(&mut outside_client, 12).await, (vec![], LISTENER_NOT_FOUND, -1));
    assert_eq!(metadata(&mut outside_client, 5).await, (vec![], LEADER_NOT_AVAILABLE, -1));
    advertise(&cluster, 1);
    assert_eq!(metadata(&mut outside_client, 12).await, (vec![outside(1)], LISTENER_NOT_FOUND, -1));
    advertise(&cluster, 0);
    assert_eq!(metadata(&mut outside_client, 12).await, (vec![outside(0), outside(1)], 0, 0));
    let registered = [0, 1].map(|id| (id, format!("broker-{id}"), 9092));
    assert_eq!(metadata(&mut inside, 12).await, (registered.to_vec(), 0, 0));
}

#[tokio::test]
async fn the_host_that_outlives_a_process_is_told_once_that_process_has_run_for_a_while() {
    let after = Duration::from_millis(1500);
    let lasting = Arc::new(LastingHosts::new("lasting-{id}", after));
    let cluster = Cluster::start_with(|config| config.lasting_hosts = Some(lasting)).await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let mut outside_client = Client::connect(cluster.external).await;
    let brokers = |first: &str, second: &str| vec![(0, first.to_owned(), 9092), (1, second.to_owned(), 9092)];
    assert_eq!(metadata(&mut client, 12).await.0, brokers("broker-0", "broker-1"));
    let lasts = brokers("lasting-0", "lasting-1");
    until_advertised(&mut client, &lasts).await;
    let coordinator = m::FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")]);
    assert_eq!(client.ask(4, &coordinator).await.coordinators[0].host.to_string(), "lasting-0");
    // Another listener has its own addresses.
    advertise(&cluster, 1);
    assert_eq!(metadata(&mut outside_client, 12).await.0, vec![outside(1)]);
    // Another process of broker 1.
    let restarted = Instant::now();
    cluster.image.send_modify(|image| {
        let broker = image.brokers.get_mut(&BrokerId(1)).unwrap();
        (broker.incarnation, broker.kafka.host) = (Some(IncarnationId(uuid::Uuid::from_u128(7))), "new-1".into());
    });
    let at_first = brokers("lasting-0", "new-1");
    until_advertised(&mut client, &at_first).await;
    until_advertised(&mut client, &lasts).await;
    assert!(restarted.elapsed() >= after, "advertised after {:?}", restarted.elapsed());
}

#[tokio::test]
async fn who_was_told_addresses_alone_has_to_ask_again_when_there_are_hosts_that_last() {
    let lasting = Arc::new(LastingHosts::new("lasting-{id}", Duration::from_millis(1500)));
    let cluster = Cluster::start_with(|config| config.lasting_hosts = Some(lasting)).await;
    cluster.topic("t", 1);
    let mut asks_again = Client::connect(cluster.address).await;
    let mut never_asks = Client::connect(cluster.address).await;
    let mut outside_client = Client::connect(cluster.external).await;
    advertise(&cluster, 0);
    metadata(&mut outside_client, 12).await;
    never_asks.ask(0, &m::ApiVersionsRequest::default()).await;
    // Each ends in its own time.
    let mut early = Vec::new();
    for _ in 0..8 {
        early.push(Client::connect(cluster.address).await);
    }
    let at_first: Vec<Named> = [0, 1].map(|id| (id, format!("broker-{id}"), 9092)).into();
    for client in early.iter_mut().chain([&mut asks_again]) {
        assert_eq!(metadata(client, 12).await.0, at_first);
    }
    let lasts: Vec<Named> = [0, 1].map(|id| (id, format!("lasting-{id}"), 9092)).into();
    until_advertised(&mut asks_again, &lasts).await;
    // That one may have been read before there were names, and answered after.
    metadata(&mut asks_again, 12).await;
    for client in &mut early {
        assert_eq!(client.receive().await, None, "it was not asked anything");
    }
    // Nobody else is sent away.
    assert_eq!(metadata(&mut asks_again, 12).await.0, lasts);
    assert_eq!(metadata(&mut outside_client, 12).await.0, vec![outside(0)]);
    never_asks.ask(0, &m::ApiVersionsRequest::default()).await;
}

async fn until_advertised(client: &mut Client, expected: &[Named]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while metadata(client, 12).await.0 != expected {
        assert!(Instant::now() < deadline, "never advertised {expected:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn so_do_describe_cluster_and_find_coordinator() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.external).await;
    let coordinator = m::FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")]);
    advertise(&cluster, 1);
    let found = client.ask(4, &coordinator).await.coordinators.remove(0);
    assert_eq!(found.error_code, COORDINATOR_NOT_AVAILABLE);
    advertise(&cluster, 0);
    let found = client.ask(4, &coordinator).await.coordinators.remove(0);
    assert_eq!((found.node_id.0, found.host.to_string(), found.port), outside(0));
    let described = client.ask(1, &m::DescribeClusterRequest::default().with_endpoint_type(1)).await;
    let brokers = described.brokers.iter().map(|b| (b.broker_id.0, b.host.to_string(), b.port));
    assert_eq!(brokers.collect::<Vec<_>>(), [outside(0), outside(1)]);
}

#[tokio::test]
async fn so_do_answers_that_name_another_leader() {
    let cluster = Cluster::start().await;
    let id = cluster.topic("t", 1);
    cluster.is_led_elsewhere(id, BrokerId(1));
    let mut client = Client::connect(cluster.external).await;
    let mut read = fetch("", 0);
    read.topics[0].topic_id = id.0;
    for known in [false, true] {
        if known {
            advertise(&cluster, 1);
        }
        let expected: Vec<Named> = known.then(|| outside(1)).into_iter().collect();
        let produced = client.ask(10, &produce("t", -1, batch(1, 10).freeze())).await;
        let named = produced.node_endpoints.iter().map(|e| (e.node_id.0, e.host.to_string(), e.port));
        assert_eq!(named.collect::<Vec<_>>(), expected);
        assert_eq!(produced.responses[0].partition_responses[0].current_leader.leader_id.0, if known { 1 } else { -1 });
        let fetched = client.ask(16, &read).await;
        let named = fetched.node_endpoints.iter().map(|e| (e.node_id.0, e.host.to_string(), e.port));
        assert_eq!(named.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn addresses_are_a_config_of_one_broker_that_is_checked_and_shown() {
    let cluster = Cluster::start_with(|config| {
        let name = "advertised.listeners".to_owned();
        config.properties = vec![crate::config::Property { name, value: String::new(), given: false }];
    })
    .await;
    let mut client = Client::connect(cluster.address).await;
    for (broker, value, error) in [
        ("0", "EXTERNAL://host", INVALID_REQUEST),
        ("", "EXTERNAL://host:9094", INVALID_REQUEST),
        ("0", "external://host:9094", 0),
    ] {
        let config = incremental::AlterableConfig::default()
            .with_name(text("advertised.listeners"))
            .with_value(Some(StrBytes::from_static_str(value)));
        let resource = incremental::AlterConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(StrBytes::from_static_str(broker))
            .with_configs(vec![config]);
        let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(client.ask(1, &request).await.responses[0].error_code, error, "{broker} {value}");
    }
    let resource = m::describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(text("0"))
        .with_configuration_keys(None);
    let described = client.ask(4, &m::DescribeConfigsRequest::default().with_resources(vec![resource])).await;
    let config = described.results[0].configs.iter().find(|c| &*c.name == "advertised.listeners").unwrap();
    assert_eq!(config.value.as_deref(), Some("EXTERNAL://host:9094"));
    assert!(!config.read_only);
}
