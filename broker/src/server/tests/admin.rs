//! What admin tools ask for: partitions, configs, log directories, producers.

use super::client::{Client, batch, seal};
use super::cluster::{Cluster, ME, partition};
use super::every_version::versions;
use super::{name, produce, text};
use bytes::Bytes;
use chronik_core::ids::BrokerId;
use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_configs_request as alter;
use kafka_protocol::messages::create_partitions_request as grow;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::describe_topic_partitions_request as pages;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::protocol::StrBytes;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

async fn cluster(partitions: i32) -> (Cluster, Client) {
    let cluster = Cluster::start().await;
    cluster.topic("t", partitions);
    let client = Client::connect(cluster.address).await;
    (cluster, client)
}

fn owned(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// One resource's changes: the config's name, the operation and the value.
fn changes(kind: i8, name: &str, configs: &[(&str, i8, Option<&str>)]) -> incremental::AlterConfigsResource {
    let configs = configs.iter().map(|(name, op, value)| {
        incremental::AlterableConfig::default()
            .with_name(owned(name))
            .with_config_operation(*op)
            .with_value(value.map(owned))
    });
    incremental::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(owned(name))
        .with_configs(configs.collect())
}

async fn change(client: &mut Client, resources: Vec<incremental::AlterConfigsResource>) -> Vec<i16> {
    let request = m::IncrementalAlterConfigsRequest::default().with_resources(resources);
    client.ask(1, &request).await.responses.iter().map(|r| r.error_code).collect()
}

/// One config as it is described.
async fn described(client: &mut Client, kind: i8, of: &str, name: &str) -> Option<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(owned(of))
        .with_configuration_keys(Some(vec![owned(name)]));
    let request = m::DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let mut response = client.ask(4, &request).await;
    assert_eq!(response.results[0].error_code, 0);
    response.results[0].configs.pop()
}

#[tokio::test]
async fn partitions_are_added_in_every_version() {
    let (cluster, mut client) = cluster(1).await;
    let mut count = 1;
    for version in versions::<m::CreatePartitionsRequest>(&mut client).await {
        count += 2;
        let topic = |name: &str, count| {
            grow::CreatePartitionsTopic::default()
                .with_name(owned(name).into())
                .with_count(count)
                .with_assignments(None)
        };
        let topics = vec![topic("t", count), topic("none", 5)];
        let request = m::CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(5000);
        let checked = client.ask(version, &request.clone().with_validate_only(true)).await;
        assert_eq!(checked.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(cluster.image.borrow().topic_by_name("t").expect("there").partitions.len() as i32, count - 2);
        let done = client.ask(version, &request).await;
        assert_eq!(done.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(cluster.image.borrow().topic_by_name("t").expect("there").partitions.len() as i32, count);
    }
}

#[tokio::test]
async fn partitions_that_cannot_be_added_are_refused_topic_by_topic() {
    let (cluster, mut client) = cluster(2).await;
    cluster.topic("other", 2);
    let assigned = |brokers: &[i32]| {
        let brokers = brokers.iter().map(|id| m::BrokerId(*id)).collect();
        grow::CreatePartitionsAssignment::default().with_broker_ids(brokers)
    };
    for (what, count, assignments, error) in [
        ("as many as there are", 2, None, 37),
        ("fewer", 1, None, 37),
        ("a negative number", -1, None, 37),
        ("no assignment for a new one", 3, Some(vec![]), 39),
        ("two assignments for one", 3, Some(vec![assigned(&[0, 1, 2]), assigned(&[0, 1, 2])]), 39),
        ("another replication factor", 3, Some(vec![assigned(&[0])]), 39),
        ("a broker twice", 3, Some(vec![assigned(&[0, 1, 1])]), 39),
        ("a broker that is no member", 3, Some(vec![assigned(&[0, 1, 9])]), 39),
        ("more than one request may", 10_003, None, 44),
    ] {
        let topic = grow::CreatePartitionsTopic::default().with_name(name("t")).with_count(count);
        let topic = topic.with_assignments(assignments);
        let request = m::CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
        let response = client.ask(3, &request).await;
        assert_eq!(response.results[0].error_code, error, "{what}");
        assert!(response.results[0].error_message.is_some(), "{what}");
    }
    let topic = |of| grow::CreatePartitionsTopic::default().with_name(name(of)).with_count(3).with_assignments(None);
    let topics = vec![topic("t"), topic("other"), topic("t")];
    let request = m::CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(5000);
    let errors: Vec<_> = client.ask(3, &request).await.results.iter().map(|r| r.error_code).collect();
    assert_eq!(errors, [42, 0, 42], "what is named twice is left alone");
    let image = cluster.image.borrow();
    assert_eq!(image.topic_by_name("t").expect("there").partitions.len(), 2);
    assert_eq!(image.topic_by_name("other").expect("there").partitions.len(), 3);
}

#[tokio::test]
async fn a_request_for_too_many_partitions_creates_none() {
    let (cluster, mut client) = cluster(1).await;
    let topic = |n: usize, partitions| {
        m::create_topics_request::CreatableTopic::default()
            .with_name(owned(&format!("new-{n}")).into())
            .with_num_partitions(partitions)
            .with_replication_factor(1)
    };
    let mut request = m::CreateTopicsRequest::default().with_timeout_ms(5000);
    request.topics = (0..6).map(|n| topic(n, 2_000)).collect();
    let response = client.ask(5, &request).await;
    assert_eq!(response.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [44; 6]);
    assert_eq!(cluster.image.borrow().topics.len(), 1);
    request.topics = vec![topic(0, 5_000), topic(1, 5_000)];
    let response = client.ask(5, &request).await;
    assert_eq!(response.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [0; 2]);
}

#[tokio::test]
async fn the_metadata_log_and_the_topic_of_transactions_are_no_topics_that_can_be_created() {
    let (cluster, mut client) = cluster(1).await;
    for (of, error) in [("__cluster_metadata", 29), ("__transaction_state", 42)] {
        let topic = m::create_topics_request::CreatableTopic::default()
            .with_name(name(of))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = m::CreateTopicsRequest::default().with_timeout_ms(5000).with_topics(vec![topic]);
        assert_eq!(client.ask(7, &request).await.topics[0].error_code, error, "{of}");
        assert!(cluster.image.borrow().topic_by_name(of).is_none());
    }
}

#[tokio::test]
async fn asking_for_a_coordinators_topic_makes_it_as_the_coordinator_needs_it_or_not_at_all() {
    let (cluster, mut client) = cluster(1).await;
    let asked = |of| m::metadata_request::MetadataRequestTopic::default().with_name(Some(name(of)));
    let topics = vec![asked("__consumer_offsets"), asked("__transaction_state"), asked("new")];
    let request = m::MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(true);
    let response = client.ask(9, &request).await;
    assert_eq!(response.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [0, 3, 0]);
    let image = cluster.image.borrow().clone();
    assert_eq!(image.topic_by_name("__consumer_offsets").map(|t| t.partitions.len()), Some(3), "not one, as others");
    assert!(image.topic_by_name("__transaction_state").is_none());
}

#[tokio::test]
async fn configs_change_in_every_version_and_are_in_force_at_once() {
    let (cluster, mut client) = cluster(1).await;
    let error = async |client: &mut Client| {
        let response = client.ask(9, &produce("t", -1, batch(1, 400).freeze())).await;
        response.responses[0].partition_responses[0].error_code
    };
    assert_eq!(error(&mut client).await, 0);
    for version in versions::<m::IncrementalAlterConfigsRequest>(&mut client).await {
        for (kind, of, config, source) in [
            (BROKER, "", "message.max.bytes", 3),
            (BROKER, "0", "message.max.bytes", 2),
            (TOPIC, "t", "max.message.bytes", 1),
        ] {
            let set = changes(kind, of, &[(config, SET, Some("200"))]);
            let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![set]);
            let checked = client.ask(version, &request.clone().with_validate_only(true)).await;
            assert_eq!(checked.responses[0].error_code, 0);
            assert_eq!(error(&mut client).await, 0, "it was only checked");
            assert_eq!(client.ask(version, &request).await.responses[0].error_code, 0);
            assert_eq!(error(&mut client).await, 10, "{kind} '{of}'");
            let shown = described(&mut client, TOPIC, "t", "max.message.bytes").await.expect("known");
            assert_eq!((shown.value.as_deref(), shown.config_source, shown.read_only), (Some("200"), source, false));
            assert_eq!(change(&mut client, vec![changes(kind, of, &[(config, DELETE, None)])]).await, [0]);
            assert_eq!(error(&mut client).await, 0);
        }
    }
    assert!(cluster.image.borrow().broker_configs.is_empty());
}

#[tokio::test]
async fn configs_that_nobody_knows_can_be_taken_away_and_not_be_set() {
    let (_cluster, mut client) = cluster(1).await;
    for (kind, of, refused) in [(TOPIC, "t", 40), (BROKER, "0", 42), (BROKER, "", 42), (GROUP, "g", 40)] {
        for (op, value, error) in [(DELETE, None, 0), (SET, Some("1"), refused)] {
            let change = changes(kind, of, &[("no.such.config", op, value)]);
            assert_eq!(self::change(&mut client, vec![change]).await, [error], "{kind} '{of}' {op}");
        }
    }
    // What nobody may change while brokers run is not taken away either.
    let resource = changes(BROKER, "0", &[("num.partitions", DELETE, None), ("message.max.bytes", DELETE, None)]);
    let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = client.ask(1, &request).await;
    assert_eq!(response.responses[0].error_code, 42);
    let said = response.responses[0].error_message.as_deref().expect("a reason");
    assert!(said.starts_with("Cannot update these configs dynamically: [num.partitions]; "), "{said}");
    assert!(said.ends_with(" is set under `kafka` in its file, and counts after a restart"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_changed_while_brokers_run_is_refused_with_what_to_do() {
    let (_cluster, mut client) = cluster(1).await;
    for (config, says) in [
        (
            "producer.id.expiration.ms",
            "[producer.id.expiration.ms]; what a broker reads when it starts is set under `kafka`",
        ),
        ("max.connections", "counts after a restart"),
        ("log.cleaner.backoff.ms", "counts after a restart"),
        ("node.id", "node.id: The broker's number: `broker_id` of its file."),
        ("num.io.threads", "num.io.threads: it has no meaning here: a broker uses the processors that it has"),
        ("log.retention.hours", "'log.retention.ms' is in its place"),
        ("no.such.config", "it is not known here"),
    ] {
        for of in ["0", ""] {
            let change = changes(BROKER, of, &[(config, SET, Some("1"))]);
            let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![change]);
            let response = client.ask(1, &request).await;
            let said = response.responses[0].error_message.as_deref().unwrap_or_default();
            assert_eq!(response.responses[0].error_code, 42, "{config}: {said}");
            assert!(said.contains(says), "{config}: {said}");
        }
    }
}

#[tokio::test]
async fn replacing_configs_forgets_those_that_are_not_named() {
    let (cluster, mut client) = cluster(1).await;
    for version in versions::<m::AlterConfigsRequest>(&mut client).await {
        let both = [("max.message.bytes", SET, Some("300")), ("message.timestamp.type", SET, Some("LogAppendTime"))];
        assert_eq!(change(&mut client, vec![changes(TOPIC, "t", &both)]).await, [0]);
        let config = alter::AlterableConfig::default().with_name(text("max.message.bytes"));
        let resource = alter::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("t"))
            .with_configs(vec![config.with_value(Some(text("400")))]);
        let request = m::AlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(client.ask(version, &request).await.responses[0].error_code, 0);
        let image = cluster.image.borrow();
        let configs = &image.topic_by_name("t").expect("there").configs;
        assert_eq!(configs.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>(), [("max.message.bytes", "400")]);
    }
}

#[tokio::test]
async fn configs_that_cannot_be_are_refused_resource_by_resource() {
    let (cluster, mut client) = cluster(1).await;
    cluster.topic("__consumer_offsets", 1);
    let max = |op, value| [("max.message.bytes", op, value)];
    for (what, resource, error) in [
        ("no such topic", changes(TOPIC, "none", &max(SET, Some("1"))), 3),
        ("no topic's name", changes(TOPIC, "a b", &max(SET, Some("1"))), 17),
        ("another broker", changes(BROKER, "1", &[("message.max.bytes", SET, Some("1"))]), 42),
        ("no broker", changes(BROKER, "one", &[("message.max.bytes", SET, Some("1"))]), 42),
        ("loggers", changes(8, "0", &[("root", SET, Some("DEBUG"))]), 42),
        ("clients' metrics", changes(16, "sub", &[("interval.ms", SET, Some("100"))]), 42),
        (
            "a session that is too short",
            changes(32, "group", &[("consumer.session.timeout.ms", SET, Some("1000"))]),
            40,
        ),
        ("no resource", changes(77, "x", &max(SET, Some("1"))), 42),
        ("an unknown config", changes(TOPIC, "t", &[("no.such.config", SET, Some("1"))]), 40),
        ("an unknown property", changes(BROKER, "0", &[("no.such.property", SET, Some("1"))]), 42),
        ("a property of the file alone", changes(BROKER, "0", &[("num.partitions", SET, Some("3"))]), 42),
        ("no number", changes(TOPIC, "t", &max(SET, Some("many"))), 40),
        ("no value", changes(TOPIC, "t", &max(SET, None)), 42),
        ("no list", changes(TOPIC, "t", &max(APPEND, Some("1"))), 40),
        ("no operation", changes(TOPIC, "t", &max(9, Some("1"))), 42),
        ("a config twice", changes(TOPIC, "t", &[max(SET, Some("1"))[0], max(SET, Some("2"))[0]]), 42),
        (
            "an internal topic that is not compacted",
            changes(TOPIC, "__consumer_offsets", &[("cleanup.policy", SET, Some("delete"))]),
            40,
        ),
        ("what is not done yet", changes(TOPIC, "t", &[("remote.storage.enable", SET, Some("true"))]), 40),
        (
            "one right, one wrong",
            changes(TOPIC, "t", &[("message.timestamp.type", SET, Some("LogAppendTime")), max(SET, Some("x"))[0]]),
            40,
        ),
    ] {
        let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = client.ask(1, &request).await;
        assert_eq!(response.responses[0].error_code, error, "{what}");
        assert!(response.responses[0].error_message.is_some(), "{what}");
    }
    let one = || changes(TOPIC, "t", &max(SET, Some("1")));
    let broker = changes(BROKER, "", &[("message.max.bytes", SET, Some("900"))]);
    assert_eq!(change(&mut client, vec![one(), broker, one()]).await, [42, 0, 42]);
    let image = cluster.image.borrow();
    assert!(image.topic_by_name("t").expect("there").configs.is_empty());
    assert_eq!(image.cluster_configs.len(), 1);
}

#[tokio::test]
async fn what_all_brokers_were_given_is_shown_for_them_and_for_one() {
    let (_cluster, mut client) = cluster(1).await;
    assert_eq!(described(&mut client, BROKER, "", "message.max.bytes").await, None);
    let set = changes(BROKER, "", &[("message.max.bytes", SET, Some("900"))]);
    assert_eq!(change(&mut client, vec![set]).await, [0]);
    let shown = described(&mut client, BROKER, "", "message.max.bytes").await.expect("given");
    assert_eq!((shown.value.as_deref(), shown.config_source, shown.config_type), (Some("900"), 3, 3));
}

#[tokio::test]
async fn configs_of_groups_are_taken_within_the_brokers_bounds_shown_and_listed() {
    const SESSION: &str = "consumer.session.timeout.ms";
    let (_cluster, mut client) = cluster(1).await;
    let set = |name, value| changes(GROUP, "g", &[(name, SET, Some(value))]);
    let shown = described(&mut client, GROUP, "g", SESSION).await.expect("known");
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("45000"), 5));
    for (what, resource, error) in [
        ("a session within the bounds", set(SESSION, "50000"), 0),
        ("below the least one", set(SESSION, "44999"), 40),
        ("above the most one", set(SESSION, "60001"), 40),
        ("a heartbeat interval above the most one", set("consumer.heartbeat.interval.ms", "15001"), 40),
        ("of share groups", set("share.session.timeout.ms", "50000"), 40),
        ("of all groups", changes(GROUP, "", &[(SESSION, SET, Some("50000"))]), 42),
    ] {
        assert_eq!(change(&mut client, vec![resource]).await, [error], "{what}");
    }
    let shown = described(&mut client, GROUP, "g", SESSION).await.expect("known");
    let synonyms: Vec<_> = shown.synonyms.iter().map(|s| (&*s.name, s.value.as_deref(), s.source)).collect();
    let inherited = ("group.consumer.session.timeout.ms", Some("45000"), 5);
    assert_eq!((shown.value.as_deref(), shown.config_source, shown.config_type), (Some("50000"), 8, 3));
    assert_eq!(synonyms, [(SESSION, Some("50000"), 8), inherited]);
    let request = m::ListConfigResourcesRequest::default().with_resource_types(vec![GROUP]);
    let listed = client.ask(1, &request).await.config_resources;
    assert_eq!(listed.iter().map(|r| (r.resource_type, &*r.resource_name)).collect::<Vec<_>>(), [(GROUP, "g")]);
    assert_eq!(change(&mut client, vec![changes(GROUP, "g", &[(SESSION, DELETE, None)])]).await, [0]);
    assert!(client.ask(1, &request).await.config_resources.is_empty());
}

#[tokio::test]
async fn acls_are_said_to_be_disabled() {
    let (_cluster, mut client) = cluster(1).await;
    for version in versions::<m::DescribeAclsRequest>(&mut client).await {
        let answer = client.ask(version, &m::DescribeAclsRequest::default()).await;
        assert_eq!((answer.error_code, answer.resources.len()), (54, 0), "SECURITY_DISABLED, in version {version}");
    }
}

#[tokio::test]
async fn clients_that_are_configured_for_sasl_hear_that_there_is_none() {
    let (_cluster, mut client) = cluster(1).await;
    for version in versions::<m::SaslHandshakeRequest>(&mut client).await {
        let answer = client.ask(version, &m::SaslHandshakeRequest::default()).await;
        assert_eq!((answer.error_code, answer.mechanisms.len()), (34, 0), "ILLEGAL_SASL_STATE, in version {version}");
    }
    for version in versions::<m::SaslAuthenticateRequest>(&mut client).await {
        let answer = client.ask(version, &m::SaslAuthenticateRequest::default()).await;
        assert_eq!(answer.error_code, 34, "ILLEGAL_SASL_STATE, in version {version}");
    }
}

#[tokio::test]
async fn resources_with_configs_are_listed() {
    let (_cluster, mut client) = cluster(1).await;
    assert_eq!(versions::<m::ListConfigResourcesRequest>(&mut client).await, 0..=1);
    for (version, kinds, error, expected) in [
        (0, vec![], 0, vec![]),
        (1, vec![], 0, vec![(TOPIC, "t"), (BROKER, "0"), (BROKER, "1")]),
        (1, vec![BROKER], 0, vec![(BROKER, "0"), (BROKER, "1")]),
        (1, vec![TOPIC], 0, vec![(TOPIC, "t")]),
        (1, vec![8, 16, 32], 0, vec![]),
        (1, vec![TOPIC, 3], 35, vec![]),
    ] {
        let request = m::ListConfigResourcesRequest::default().with_resource_types(kinds);
        let response = client.ask(version, &request).await;
        let listed: Vec<_> = response.config_resources.iter().map(|r| (r.resource_type, &*r.resource_name)).collect();
        assert_eq!((response.error_code, listed), (error, expected));
    }
}

/// Topics with the partitions that are described of them, and where to go on.
type Pages = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

async fn page(client: &mut Client, names: &[&str], limit: i32, from: Option<(&str, i32)>) -> Pages {
    let topics = names.iter().map(|of| pages::TopicRequest::default().with_name(owned(of).into())).collect();
    let cursor = from.map(|(topic, partition)| {
        pages::Cursor::default().with_topic_name(owned(topic).into()).with_partition_index(partition)
    });
    let request = m::DescribeTopicPartitionsRequest::default()
        .with_topics(topics)
        .with_response_partition_limit(limit)
        .with_cursor(cursor);
    let response = client.ask(0, &request).await;
    let topics = response.topics.iter().map(|t| {
        let partitions = t.partitions.iter().map(|p| p.partition_index).collect();
        (t.name.as_ref().map(|n| n.to_string()).unwrap_or_default(), t.error_code, partitions)
    });
    let next = response.next_cursor.map(|c| (c.topic_name.to_string(), c.partition_index));
    (topics.collect(), next)
}

#[tokio::test]
async fn partitions_are_described_page_by_page() {
    let cluster = Cluster::start().await;
    for (topic, partitions) in [("b", 2), ("a", 3), ("c", 1)] {
        cluster.topic(topic, partitions);
    }
    let mut client = Client::connect(cluster.address).await;
    let topic = |name: &str, partitions: &[i32]| (name.to_owned(), 0, partitions.to_vec());
    let at = |name: &str, partition| Some((name.to_owned(), partition));
    for (names, limit, from, topics, next) in [
        (&[][..], 100, None, vec![topic("a", &[0, 1, 2]), topic("b", &[0, 1]), topic("c", &[0])], None),
        (&[], 2, None, vec![topic("a", &[0, 1])], at("a", 2)),
        (&[], 2, Some(("a", 2)), vec![topic("a", &[2]), topic("b", &[0])], at("b", 1)),
        (&[], 3, None, vec![topic("a", &[0, 1, 2])], at("b", 0)),
        (&[], 0, Some(("b", 1)), vec![topic("b", &[1])], at("c", 0)),
        (&[], 9, Some(("bb", 1)), vec![topic("c", &[0])], None),
        (&["c", "a", "c"], 9, None, vec![topic("a", &[0, 1, 2]), topic("c", &[0])], None),
        (&["c", "a"], 9, Some(("c", 0)), vec![topic("c", &[0])], None),
        (&["a"], 9, Some(("a", 7)), vec![topic("a", &[])], None),
        (&["none"], 9, None, vec![("none".into(), 3, vec![])], None),
        (&["not one"], 9, None, vec![("not one".into(), 17, vec![])], None),
        (&["a"], 9, Some(("b", 0)), vec![("a".into(), 42, vec![])], None),
        (&["a"], 9, Some(("a", -1)), vec![("a".into(), 42, vec![])], None),
    ] {
        assert_eq!(page(&mut client, names, limit, from).await, (topics, next), "{names:?} {limit} {from:?}");
    }
    cluster.topic("many", 2001);
    let (topics, next) = page(&mut client, &["many"], i32::MAX, None).await;
    assert_eq!((topics[0].2.len(), next), (2000, at("many", 2000)));
}

#[tokio::test]
async fn a_page_has_no_more_partitions_than_the_broker_allows() {
    let cluster = Cluster::start_with(|c| c.described_partitions = 2).await;
    cluster.topic("a", 3);
    let mut client = Client::connect(cluster.address).await;
    let (topics, next) = page(&mut client, &["a"], i32::MAX, None).await;
    assert_eq!((topics, next), (vec![("a".to_owned(), 0, vec![0, 1])], Some(("a".to_owned(), 2))));
}

#[tokio::test]
async fn described_partitions_name_their_eligible_replicas() {
    let (cluster, mut client) = cluster(1).await;
    cluster.image.send_modify(|image| {
        let id = image.topic_ids["t"];
        let topic = image.topics.get_mut(&id).expect("there");
        let partition = topic.partitions.front_mut().expect("one");
        partition.isr = vec![ME];
        partition.elr = [BrokerId(1)].into();
    });
    let response = client.ask(0, &m::DescribeTopicPartitionsRequest::default()).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.leader_id.0, &partition.isr_nodes[..]), (0, &[m::BrokerId(0)][..]));
    assert_eq!(partition.eligible_leader_replicas, Some(vec![m::BrokerId(1)]));
    assert_eq!(partition.offline_replicas, [m::BrokerId(2)]);
}

#[tokio::test]
async fn log_dirs_have_the_sizes_of_their_partitions() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start_with(|config| dir.path().clone_into(&mut config.data_dir)).await;
    let topic = cluster.topic("t", 2);
    cluster.topic("other", 1);
    let mut client = Client::connect(cluster.address).await;
    client.ask(9, &produce("t", -1, batch(1, 400).freeze())).await;
    let bytes = cluster.logs().batches[&partition(topic, 0)][0].bytes().len() as i64;
    for version in versions::<m::DescribeLogDirsRequest>(&mut client).await {
        let response = client.ask(version, &m::DescribeLogDirsRequest::default().with_topics(None)).await;
        let all = &response.results[0];
        assert_eq!(
            (response.results.len(), all.error_code, &*all.log_dir),
            (1, 0, dir.path().to_str().expect("UTF-8"))
        );
        assert_eq!(
            all.topics.iter().map(|t| (&**t.name, t.partitions.len())).collect::<Vec<_>>(),
            [("other", 1), ("t", 2)]
        );
        let sizes: Vec<_> = all.topics[1].partitions.iter().map(|p| (p.partition_size, p.offset_lag)).collect();
        assert_eq!(sizes, [(bytes, 0), (0, 0)]);
        if version >= 4 {
            assert!(all.total_bytes > 0 && (0..=all.total_bytes).contains(&all.usable_bytes), "{all:?}");
        }
        let one = m::describe_log_dirs_request::DescribableLogDirTopic::default();
        let one = one.with_topic(name("t")).with_partitions(vec![1, 1, 9]);
        let response = client.ask(version, &m::DescribeLogDirsRequest::default().with_topics(Some(vec![one]))).await;
        let partitions: Vec<_> = response.results[0].topics[0].partitions.iter().map(|p| p.partition_index).collect();
        assert_eq!(partitions, [1]);
    }
}

/// A batch of an idempotent producer.
fn of_producer(id: i64, epoch: i16, sequence: i32) -> Bytes {
    let mut bytes = batch(3, 100);
    bytes[43..51].copy_from_slice(&id.to_be_bytes());
    bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
    bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    seal(&mut bytes);
    bytes.freeze()
}

#[tokio::test]
async fn producers_are_described_by_what_they_wrote_last() {
    let (_cluster, mut client) = cluster(1).await;
    for batch in [of_producer(5, 1, 0), of_producer(5, 1, 3), of_producer(4, 0, 0)] {
        let response = client.ask(9, &produce("t", -1, batch)).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
    let topic = m::describe_producers_request::TopicRequest::default();
    let topics = vec![
        topic.clone().with_name(name("t")).with_partition_indexes(vec![0, 7]),
        topic.with_name(name("none")).with_partition_indexes(vec![0]),
    ];
    let response = client.ask(0, &m::DescribeProducersRequest::default().with_topics(topics)).await;
    let known = &response.topics[0].partitions;
    let producers = known[0].active_producers.iter();
    let producers: Vec<_> = producers
        .map(|p| (p.producer_id.0, p.producer_epoch, p.last_sequence, p.last_timestamp, p.current_txn_start_offset))
        .collect();
    assert_eq!(producers, [(4, 0, 2, 1_700_000_000_000, -1), (5, 1, 5, 1_700_000_000_000, -1)]);
    assert_eq!((known[1].error_code, response.topics[1].partitions[0].error_code), (3, 3));
}
