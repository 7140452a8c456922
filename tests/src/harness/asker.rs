//! Appends by who does not know which broker leads: it asks one broker for many partitions of many topics, and takes
//! each one's own answer.

use super::cluster::PATIENCE;
use super::raw::Raw;
use anyhow::Result;
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, RequestKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeSet;
use std::net::SocketAddrV4;

/// The newest version without tagged fields.
const PRODUCE: i16 = 8;

/// A topic's number among those that are written to, and a partition.
pub type Place = (usize, i32);

/// A way to one broker, which is connected to when it is needed.
#[derive(Debug)]
pub struct Asker {
    address: SocketAddrV4,
    topics: Vec<TopicName>,
    connection: Option<Raw>,
}

impl Asker {
    /// Asks the broker at an address, about these topics.
    pub fn new(address: SocketAddrV4, topics: &[String]) -> Self {
        let name = |topic: &String| TopicName(StrBytes::from_string(topic.clone()));
        Self { address, topics: topics.iter().map(name).collect(), connection: None }
    }

    /// Appends a batch to each of these partitions with acks=all, and says which acknowledged it. Whatever was in the way of the
    /// others, they may be asked for again. An error is one of the connection: the next call makes a new one.
    pub fn append(&mut self, places: &BTreeSet<Place>, batch: &Bytes) -> Result<Vec<Place>> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Raw::connect_to(self.address, PATIENCE)?,
        };
        self.append_over(connection, places, batch)
    }

    fn append_over(&mut self, mut connection: Raw, places: &BTreeSet<Place>, batch: &Bytes) -> Result<Vec<Place>> {
        let data =
            |place: &Place| PartitionProduceData::default().with_index(place.1).with_records(Some(batch.clone()));
        let of_one_topic = |places: &[Place]| {
            TopicProduceData::default()
                .with_name(self.topics[places[0].0].clone())
                .with_partition_data(places.iter().map(data).collect())
        };
        let places: Vec<Place> = places.iter().copied().collect();
        let topics = places.chunk_by(|a, b| a.0 == b.0).map(of_one_topic).collect();
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(topics);
        connection.send(ApiKey::Produce, PRODUCE, &RequestKind::Produce(request))?;
        let answer: ProduceResponse = connection.answer(ApiKey::Produce, PRODUCE)?;
        self.connection = Some(connection);
        let mut acknowledged = Vec::new();
        for topic in answer.responses {
            let Some(number) = self.topics.iter().position(|name| *name == topic.name) else { continue };
            let fine = topic.partition_responses.iter().filter(|partition| partition.error_code == 0);
            acknowledged.extend(fine.map(|partition| (number, partition.index)));
        }
        Ok(acknowledged)
    }
}
