//! How far groups are behind, as whoever scrapes the broker sees it.

use super::client::{Client, batch};
use super::cluster::Cluster;
use super::{name, produce, text, until};
use chronik_core::ids::BrokerId;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::StrBytes;

/// What the broker shows to whoever scrapes it.
fn scraped(cluster: &Cluster) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &cluster.registry).expect("a string takes everything");
    text
}

async fn write(client: &mut Client, index: i32, records: i32) {
    let mut request = produce("t", -1, batch(records, 100).freeze());
    request.topic_data[0].partition_data[0].index = index;
    let response = client.ask(7, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// Finds the coordinator of a group, and commits an offset in each partition of `t` when it is loaded.
async fn commit(client: &mut Client, group: &'static str, offsets: &[i64]) {
    client.ask(3, &m::FindCoordinatorRequest::default().with_key(text(group))).await;
    let partitions = (0..)
        .zip(offsets)
        .map(|(index, offset)| {
            m::offset_commit_request::OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(*offset)
        })
        .collect();
    let topic =
        m::offset_commit_request::OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(partitions);
    let request = m::OffsetCommitRequest::default()
        .with_group_id(m::GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    while client.ask(8, &request).await.topics[0].partitions.iter().any(|p| p.error_code != 0) {}
}

#[tokio::test]
async fn committed_offsets_and_lags_are_shown_wherever_the_partitions_are_led() {
    let other = Cluster::start().await;
    other.topic("t", 3);
    write(&mut Client::connect(other.address).await, 1, 4).await;
    let cluster = Cluster::start().await;
    let id = cluster.topic("t", 3);
    cluster.image.send_modify(|image| {
        let topic = image.topics.get_mut(&id).expect("it was made above");
        topic.partitions[1].leader = Some(BrokerId(1));
        // It has no address that anybody answers at.
        topic.partitions[2].leader = Some(BrokerId(2));
        let broker = image.brokers.get_mut(&BrokerId(1)).expect("one of three");
        broker.kafka.host = other.address.ip().to_string().into();
        broker.kafka.port = other.address.port();
    });
    let mut client = Client::connect(cluster.address).await;
    write(&mut client, 0, 5).await;
    commit(&mut client, "a \"group\"", &[2, 1, 7]).await;
    let labels = |partition: i32| format!(r#"{{group="a \"group\"",topic="t",partition="{partition}"}}"#);
    let shows = |line: &str| scraped(&cluster).lines().any(|found| found == line);
    for line in [
        format!("chronik_groups_offset{} 2", labels(0)),
        format!("chronik_groups_lag{} 3", labels(0)),
        format!("chronik_groups_offset{} 1", labels(1)),
        format!("chronik_groups_lag{} 3", labels(1)),
        format!("chronik_groups_offset{} 7", labels(2)),
        "chronik_groups_lag_left_out 0".to_owned(),
    ] {
        until(|| shows(&line)).await;
    }
    let unknown = format!("chronik_groups_lag{} ", labels(2));
    assert!(!scraped(&cluster).contains(&unknown), "nobody says where partition 2 ends");
    // It follows what is written and committed, and ends with the group's offsets.
    write(&mut client, 0, 5).await;
    until(|| shows(&format!("chronik_groups_lag{} 8", labels(0)))).await;
    commit(&mut client, "a \"group\"", &[10]).await;
    until(|| shows(&format!("chronik_groups_lag{} 0", labels(0)))).await;
    // Whoever commits may be ahead of the end.
    commit(&mut client, "a \"group\"", &[12]).await;
    until(|| shows(&format!("chronik_groups_offset{} 12", labels(0)))).await;
    assert!(shows(&format!("chronik_groups_lag{} 0", labels(0))));
    let group = m::GroupId(StrBytes::from_static_str("a \"group\""));
    let deleted = client.ask(1, &m::DeleteGroupsRequest::default().with_groups_names(vec![group])).await;
    assert_eq!(deleted.results[0].error_code, 0);
    until(|| {
        !scraped(&cluster).contains("chronik_groups_lag{") && !scraped(&cluster).contains("chronik_groups_offset{")
    })
    .await;
}

#[tokio::test]
async fn groups_are_counted_by_type_and_state() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    for (kind, state) in [("classic", "Stable"), ("consumer", "Empty")] {
        let none = format!("chronik_groups_groups{{type=\"{kind}\",state=\"{state}\"}} 0");
        assert!(scraped(&cluster).lines().any(|line| line == none), "no group is {state}, and it is not said");
    }
    let mut client = Client::connect(cluster.address).await;
    commit(&mut client, "first", &[0]).await;
    commit(&mut client, "second", &[0]).await;
    let count = r#"chronik_groups_groups{type="classic",state="Empty"} 2"#;
    until(|| scraped(&cluster).lines().any(|line| line == count)).await;
}
