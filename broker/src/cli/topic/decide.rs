//! `chronik topic elect` and `chronik topic delete-records`: what somebody decides about one partition.

use super::TIMEOUT_MS;
use crate::cli::client::{Client, ClientError, EARLIEST, LATEST, To, refused};
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

/// Removes a partition's records before a position, for good, or says which those are. Returns how many offsets go, and where
/// the log begins then.
pub(super) async fn delete_records(
    client: &mut Client,
    (topic, index): &(String, i32),
    before: Start,
    dry_run: bool,
) -> Result<Table, ClientError> {
    let start = client.offset_at(topic, *index, EARLIEST).await?;
    let offset = match before {
        // One beyond the end is a mistake, and not all that there is.
        Start::Offset(offset) => offset,
        before => before.resolve(client, topic, *index).await?,
    };
    let begins = if dry_run {
        let end = client.offset_at(topic, *index, LATEST).await?;
        let code = if offset > end { ErrorCode::OFFSET_OUT_OF_RANGE } else { ErrorCode::NONE };
        answered(topic, *index, offset, code)?;
        offset.max(start)
    } else {
        client.again(async |client| delete(client, topic, *index, offset).await).await?
    };
    let mut table = Table::new(&["topic", "partition", "offsets removed", "log start"]);
    table.row(vec![json!(topic), json!(index), json!(begins - start), json!(begins)]);
    Ok(table)
}

/// It does no harm to do it twice: the offset says how far.
async fn delete(client: &mut Client, topic: &str, index: i32, offset: i64) -> Result<i64, ClientError> {
    let leader = client.leader(topic, index).await?;
    let partition = message!(DeleteRecordsPartition { partition_index: index, offset: offset });
    let named = message!(DeleteRecordsTopic { name: StrBytes::from(topic), partitions: vec![partition] });
    let request = message!(DeleteRecordsRequest { topics: vec![named], timeout_ms: TIMEOUT_MS });
    let answer = client.ask(leader, 0..=2, &request).await?;
    let partition = answer.topics.iter().flat_map(|t| &t.partitions).next();
    let (code, begins) = partition.map_or((ErrorCode::UNKNOWN_SERVER_ERROR.0, 0), |p| (p.error_code, p.low_watermark));
    answered(topic, index, offset, ErrorCode(code))?;
    Ok(begins)
}

/// What the answers mean that do not say so themselves.
fn answered(topic: &str, index: i32, offset: i64, code: ErrorCode) -> Result<(), ClientError> {
    let text = match code {
        ErrorCode::OFFSET_OUT_OF_RANGE => {
            format!("offset {offset} is beyond the last record that can be read; milliseconds since 1970 begin with @")
        }
        ErrorCode::POLICY_VIOLATION => {
            "records of a topic leave like that only where its cleanup.policy has delete".into()
        }
        ErrorCode::INVALID_TOPIC_EXCEPTION => "it is one of the brokers' own".into(),
        ErrorCode::REQUEST_TIMED_OUT => {
            "the leader has removed them; not all replicas have said yet that they have, and will".into()
        }
        code => code.name().to_owned(),
    };
    refused(format!("partition {index} of topic {topic}"), code.0, Some(&StrBytes::from(text)))
}
