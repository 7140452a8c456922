//! How much of a disk each partition takes.

use super::client::{Client, ClientError, To};
use chronik_wire::messages::{DescribeLogDirsRequest, message};
use std::collections::BTreeMap;

/// Bytes of each partition, by topic and number: of its replicas the largest.
pub(super) type Sizes = BTreeMap<(String, i32), u64>;

/// Bytes of each partition, by topic and number, on each broker that has it.
pub(super) type Placed = BTreeMap<(String, i32), BTreeMap<i32, u64>>;

/// What all brokers say that answer.
pub(super) async fn sizes(client: &mut Client) -> Result<Sizes, ClientError> {
    let largest = |on: BTreeMap<i32, u64>| on.into_values().max().unwrap_or(0);
    Ok(placed(client).await?.into_iter().map(|(partition, on)| (partition, largest(on))).collect())
}

/// The same, each broker for itself.
pub(super) async fn placed(client: &mut Client) -> Result<Placed, ClientError> {
    client.topics(Some(&[])).await?;
    let mut placed = Placed::new();
    for broker in client.brokers() {
        let answer = client.ask(To::Broker(broker), 1..=4, &message!(DescribeLogDirsRequest { topics: None })).await?;
        for topic in answer.results.iter().flat_map(|dir| &dir.topics) {
            for partition in &topic.partitions {
                let on = placed.entry((topic.name.to_string(), partition.partition_index)).or_default();
                on.insert(broker, u64::try_from(partition.partition_size).unwrap_or(0));
            }
        }
    }
    Ok(placed)
}
