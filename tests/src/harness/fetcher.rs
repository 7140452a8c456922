//! A consumer that speaks the protocol itself, and does no more with what it reads than to find out where to go on.

use super::raw::Raw;
use anyhow::{Context, Result, bail};
use bytes::Buf as _;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, BrokerId, FetchRequest, FetchResponse, RequestKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;

const FETCH: i16 = 12;
/// What Kafka's consumer asks for by default, of a partition and in all.
const PARTITION_BYTES: i32 = 1 << 20;
const BYTES: i32 = 50 << 20;
/// A batch's offset and length, which the length does not count.
const BEFORE_LENGTH_COUNTS: usize = 12;

/// Reads partitions of one broker from their beginnings to where they end when nothing more comes. Returns how many bytes
/// it were.
pub fn read_all(port: u16, topic: &str, partitions: &[i32], patience: Duration) -> Result<usize> {
    let topic = TopicName(StrBytes::from_string(topic.to_owned()));
    let mut connection = Raw::connect(port, patience)?;
    let (mut next, mut all) = (vec![0; partitions.len()], 0);
    loop {
        let wanted = |(partition, offset): (&i32, &i64)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*offset)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(PARTITION_BYTES)
        };
        let wanted = partitions.iter().zip(&next).map(wanted).collect();
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(0)
            .with_max_bytes(BYTES)
            .with_session_epoch(-1)
            .with_topics(vec![FetchTopic::default().with_topic(topic.clone()).with_partitions(wanted)]);
        let answer: FetchResponse = connection.ask(ApiKey::Fetch, FETCH, &RequestKind::Fetch(request))?;
        let mut read = 0;
        for found in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            if let Some(error) = ResponseError::try_from_code(found.error_code) {
                bail!("a fetch is refused: {error:?}");
            }
            let records = found.records.as_deref().unwrap_or_default();
            let place = partitions.iter().position(|id| *id == found.partition_index).context("another partition")?;
            next[place] = end(records).unwrap_or(next[place]);
            read += records.len();
        }
        if read == 0 {
            return Ok(all);
        }
        all += read;
    }
}

/// Where the last whole batch ends; `None` if there is none.
fn end(mut batches: &[u8]) -> Option<i64> {
    let mut end = None;
    while batches.len() > BEFORE_LENGTH_COUNTS {
        let length = BEFORE_LENGTH_COUNTS + (&batches[8..]).get_u32() as usize;
        let (batch, rest) = batches.split_at_checked(length)?;
        end = Some((&batch[..8]).get_i64() + i64::from(batch.get(23..27)?.try_get_i32().ok()?) + 1);
        batches = rest;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::end;
    use crate::harness::appender;

    #[test]
    fn it_goes_on_behind_the_last_batch() {
        let mut two = appender::batch(5).unwrap().to_vec();
        let mut second = two.clone();
        second[..8].copy_from_slice(&41_i64.to_be_bytes());
        two.extend(second);
        assert_eq!(end(&two), Some(42));
        assert_eq!(end(&[]), None);
    }
}
