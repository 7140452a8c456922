//! Where partitions end, for all that groups have committed offsets of: this broker knows it of what it leads, and asks
//! the other leaders, as any client would, for the rest.

use crate::partitions::{OffsetSpec, Partitions};
use bytes::Bytes;
use chronik_core::cluster::{Endpoint, Image};
use chronik_core::ids::{BrokerId, PartitionId, TopicPartition};
use chronik_wire::ErrorCode;
use chronik_wire::client::{decode_response, encode_request};
use chronik_wire::messages::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, StrBytes, message,
};
use futures::future::join_all;
use futures::stream::{self, StreamExt as _};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

/// How long another broker may take to answer, the connection included, and an owner of this one.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions to this broker's owners at once.
const AT_ONCE: usize = 32;
/// A version that every broker serves.
const VERSION: i16 = 6;
/// ListOffsets' timestamp for the high watermark.
const LATEST: i64 = -1;
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 64 << 20;
/// Who asks, in the other broker's log.
const CLIENT_ID: &str = "chronik-lag";

/// A topic and a partition.
pub(super) type Place = (Arc<str>, i32);

/// The partitions of some topics.
type Topics = BTreeMap<Arc<str>, Vec<i32>>;

/// The high watermarks of these partitions. One is missing if there is no such partition, if it has no leader, or if its
/// leader does not answer or does not know it yet.
pub(super) async fn of(
    me: BrokerId,
    image: &Image,
    partitions: &Partitions,
    places: impl Iterator<Item = Place>,
) -> HashMap<Place, i64> {
    let (mut here, mut elsewhere) = (Vec::new(), BTreeMap::<BrokerId, Topics>::new());
    for (topic, index) in places {
        let Some(known) = image.topic_by_name(&topic) else { continue };
        let state = usize::try_from(index).ok().and_then(|index| known.partitions.get(index));
        match state.and_then(|state| state.leader) {
            Some(leader) if leader == me => {
                let partition = TopicPartition { topic: known.id, partition: PartitionId(index) };
                here.push(((topic, index), partition));
            }
            Some(leader) => elsewhere.entry(leader).or_default().entry(topic).or_default().push(index),
            None => {}
        }
    }
    let here = stream::iter(here)
        .map(|(place, partition)| async move {
            let found = timeout(PATIENCE, partitions.offset(partition, None, OffsetSpec::Latest)).await.ok()?.ok()?;
            Some((place, found.offset?.0))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |found| found)
        .collect::<HashMap<_, _>>();
    let elsewhere = join_all(elsewhere.into_iter().map(async |(leader, topics)| {
        let address = &image.alive(leader)?.kafka;
        match timeout(PATIENCE, ask(address, topics)).await {
            Ok(Ok(ends)) => Some(ends),
            Ok(Err(error)) => {
                debug!(%leader, %error, "Cannot ask a leader where its partitions end");
                None
            }
            Err(_) => {
                debug!(%leader, "A leader does not say in time where its partitions end");
                None
            }
        }
    }));
    let (mut ends, others) = futures::future::join(here, elsewhere).await;
    ends.extend(others.into_iter().flatten().flatten());
    ends
}

/// Asks another leader, over a connection of its own: one each round is little, and nothing is kept that may be stale.
async fn ask(address: &Endpoint, topics: Topics) -> anyhow::Result<Vec<(Place, i64)>> {
    let frame = encode_request(&request(&topics), VERSION, 0, CLIENT_ID)?;
    let mut stream = TcpStream::connect((&*address.host, address.port)).await?;
    stream.write_all(&frame).await?;
    let len = usize::try_from(stream.read_i32().await?).ok().filter(|len| *len <= MAX_ANSWER);
    let len = len.ok_or_else(|| anyhow::anyhow!("an answer of an impossible length"))?;
    let mut answer = Vec::new();
    // Grows with what arrives, not with what is announced.
    let read = stream.take(len as u64).read_to_end(&mut answer).await?;
    anyhow::ensure!(read == len, "the connection ended before the answer");
    Ok(ends(&topics, &decode_response::<ListOffsetsRequest>(Bytes::from(answer), VERSION, 0)?))
}

fn request(topics: &Topics) -> ListOffsetsRequest {
    let latest = |index: &i32| message!(ListOffsetsPartition { partition_index: *index, timestamp: LATEST });
    let topics = topics.iter().map(|(topic, indexes)| {
        let partitions = indexes.iter().map(latest).collect();
        message!(ListOffsetsTopic { name: StrBytes::from(&**topic), partitions: partitions })
    });
    message!(ListOffsetsRequest { replica_id: -1, topics: topics.collect() })
}

/// What was asked for and found; the names are those that this broker has already.
fn ends(topics: &Topics, answer: &ListOffsetsResponse) -> Vec<(Place, i64)> {
    let mut ends = Vec::new();
    for found in &answer.topics {
        let Some((topic, _)) = topics.get_key_value(&*found.name) else { continue };
        for partition in &found.partitions {
            if partition.error_code == ErrorCode::NONE.0 && partition.offset >= 0 {
                ends.push(((Arc::clone(topic), partition.partition_index), partition.offset));
            }
        }
    }
    ends
}
