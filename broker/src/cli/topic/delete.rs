//! `chronik topic delete`: topics go with all their records.

use super::TIMEOUT_MS;
use crate::cli::client::{Client, ClientError, EARLIEST, LATEST, To, refused};
use crate::cli::common::done_so_far;
use crate::cli::output::Table;
use crate::cli::{group, sizes};
use chronik_wire::messages::{DeleteTopicsRequest, StrBytes, message};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// A row for each topic that would go. Records are counted by offsets: compaction and transactions leave fewer. Bytes are
/// those of one replica, the largest, of each partition.
pub(super) async fn plan(client: &mut Client, names: &[String]) -> Result<Table, ClientError> {
    let mut table = Table::new(&["topic", "partitions", "replicas", "records", "bytes", "groups with offsets"]);
    let sizes = sizes::sizes(client).await?;
    let groups = groups_by_topic(client).await?;
    for name in names {
        let topic = client.topic(name).await?;
        let replicas = topic.partitions.iter().map(|p| p.replica_nodes.len()).max().unwrap_or(0);
        // No leader says how many records there are in a partition that has none.
        let mut records = Some(0);
        for p in &topic.partitions {
            let count = if p.leader_id < 0 {
                None
            } else {
                let start = client.offset_at(name, p.partition_index, EARLIEST).await?;
                Some(client.offset_at(name, p.partition_index, LATEST).await? - start)
            };
            records = records.zip(count).map(|(all, count)| all + count);
        }
        let bytes: u64 = sizes.iter().filter(|((topic, _), _)| topic == name).map(|(_, bytes)| bytes).sum();
        table.row(vec![
            json!(name),
            json!(topic.partitions.len()),
            json!(replicas),
            json!(records),
            json!(bytes),
            json!(groups.get(name).cloned().unwrap_or_default()),
        ]);
    }
    Ok(table)
}

/// Which groups have committed offsets in which topics.
async fn groups_by_topic(client: &mut Client) -> Result<BTreeMap<String, BTreeSet<String>>, ClientError> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for group in group::all(client).await?.into_keys() {
        for (topic, _) in client.committed(&group).await?.into_keys() {
            groups.entry(topic).or_default().insert(group.clone());
        }
    }
    Ok(groups)
}

/// Removes them: none, unless all of them are there.
pub(super) async fn delete(client: &mut Client, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        client.topic(name).await?;
    }
    let topic_names = names.iter().map(|name| StrBytes::from(&**name)).collect();
    let request = message!(DeleteTopicsRequest { topic_names: topic_names, timeout_ms: TIMEOUT_MS });
    let answer = client.ask(To::Any, 4..=5, &request).await?;
    let (mut done, mut left, mut failed) = (Vec::new(), Vec::new(), None);
    for topic in &answer.responses {
        let name = topic.name.as_deref().unwrap_or_default().to_owned();
        let what = format!("topic {name} cannot be deleted");
        match refused(what, topic.error_code, topic.error_message.as_ref()) {
            Ok(()) => done.push(name),
            Err(error) => {
                left.push(name);
                failed = failed.or(Some(error));
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(done_so_far(error, "deleted", &done, &left)))
}
