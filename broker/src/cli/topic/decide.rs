//! `chronik topic elect` and `chronik topic delete-records`: what somebody decides about one partition.

use super::TIMEOUT_MS;
use crate::cli::client::{Client, ClientError, EARLIEST, To, refused};
use crate::cli::output::Table;
use crate::cli::start::Start;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, ElectLeadersRequest, ElectedPartitions, StrBytes,
    message,
};
use serde_json::json;

/// Has a partition led by its preferred replica or, if `unclean`, by one that may lack acknowledged records.
pub(super) async fn elect(
    client: &mut Client,
    (topic, index): &(String, i32),
    unclean: bool,
) -> Result<(), ClientError> {
    let named = message!(ElectedPartitions { topic: StrBytes::from(&**topic), partitions: vec![*index] });
    let request = message!(ElectLeadersRequest {
        election_type: i8::from(unclean),
        topic_partitions: Some(vec![named]),
        timeout_ms: TIMEOUT_MS,
    });
    let answer = client.again(async |client| client.ask(To::Any, 1..=2, &request).await).await?;
    refused("the election", answer.error_code, None)?;
    for partition in answer.replica_election_results.iter().flat_map(|t| &t.partition_result) {
        // It is as it was asked for, as one that is repeated finds it.
        if partition.error_code != ErrorCode::ELECTION_NOT_NEEDED.0 {
            let what = format!("partition {index} of topic {topic}");
            refused(what, partition.error_code, partition.error_message.as_ref())?;
        }
    }
    Ok(())
}

/// Removes a partition's records before a position, for good. Returns how many offsets went.
pub(super) async fn delete_records(
    client: &mut Client,
    (topic, index): &(String, i32),
    before: Start,
) -> Result<Table, ClientError> {
    let start = client.offset_at(topic, *index, EARLIEST).await?;
    let offset = before.resolve(client, topic, *index).await?;
    let leader = client.leader(topic, *index).await?;
    let partition = message!(DeleteRecordsPartition { partition_index: *index, offset: offset });
    let named = message!(DeleteRecordsTopic { name: StrBytes::from(&**topic), partitions: vec![partition] });
    let request = message!(DeleteRecordsRequest { topics: vec![named], timeout_ms: TIMEOUT_MS });
    let answer = client.ask(leader, 0..=2, &request).await?;
    let mut table = Table::new(&["topic", "partition", "offsets removed", "log start"]);
    for partition in answer.topics.iter().flat_map(|t| &t.partitions) {
        refused(format!("partition {index} of topic {topic}"), partition.error_code, None)?;
        let now = partition.low_watermark;
        table.row(vec![json!(topic), json!(index), json!(now - start), json!(now)]);
    }
    Ok(table)
}
