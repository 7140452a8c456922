//! A client for one command: its connections, where leaders and coordinators are, and patience with errors that pass.

mod connection;
mod error;
mod offsets;

pub use error::ClientError;
pub(super) use offsets::{EARLIEST, LATEST, Member, Place};

use self::connection::Connection;
use chronik_wire::ErrorCode;
use chronik_wire::client::Call;
use chronik_wire::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataRequestTopic, MetadataResponseTopic, StrBytes, message,
};
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::time::Instant;

type Result<T> = std::result::Result<T, ClientError>;

/// How long errors that pass are waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long no broker at all is waited for.
const UNREACHABLE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// Whoever answers.
    Any,
    /// The broker with that id.
    Broker(i32),
}

/// The connections to a cluster.
pub(super) struct Client {
    bootstrap: Vec<String>,
    connections: HashMap<String, Connection>,
    brokers: BTreeMap<i32, String>,
}

/// An error code as an error, if it is one.
pub(super) fn refused(what: impl Into<String>, code: i16, text: Option<&StrBytes>) -> Result<()> {
    if code == ErrorCode::NONE.0 {
        return Ok(());
    }
    Err(ClientError::Refused { what: what.into(), code: ErrorCode(code), text: text.map(ToString::to_string) })
}

impl Client {
    /// A client of the cluster with these brokers, separated by commas.
    pub(super) fn new(bootstrap: &str) -> Self {
        let bootstrap = bootstrap.split(',').map(|one| one.trim().to_owned()).collect();
        Self { bootstrap, connections: HashMap::new(), brokers: BTreeMap::new() }
    }

    /// The brokers' ids, as of the last answer about metadata.
    pub(super) fn brokers(&self) -> Vec<i32> {
        self.brokers.keys().copied().collect()
    }

    /// Where a broker is, as of the last answer about it.
    pub(super) fn address(&self, broker: i32) -> Option<&str> {
        self.brokers.get(&broker).map(String::as_str)
    }

    /// Asks in the highest version of these that the broker serves.
    pub(super) async fn ask<R: Call>(
        &mut self,
        to: To,
        versions: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Response> {
        let address = match to {
            To::Any => self.any().await?,
            To::Broker(id) => self.brokers.get(&id).cloned().ok_or_else(|| ClientError::Refused {
                what: format!("broker {id}"),
                code: ErrorCode::BROKER_NOT_AVAILABLE,
                text: Some("is not there".into()),
            })?,
        };
        self.connect(&address).await?;
        // It is taken out, so that it is not used again if this is cancelled or fails.
        let mut connection = self
            .connections
            .remove(&address)
            .ok_or_else(|| ClientError::Unreachable { address: address.clone(), reason: "no connection".into() })?;
        let answer = connection.ask(versions, request).await?;
        self.connections.insert(address, connection);
        Ok(answer)
    }

    async fn connect(&mut self, address: &str) -> Result<()> {
        if !self.connections.contains_key(address) {
            let connection = Connection::open(address).await?;
            self.connections.insert(address.to_owned(), connection);
        }
        Ok(())
    }

    /// An address that answers: one of those that were given, or of those that were heard of.
    async fn any(&mut self) -> Result<String> {
        let known: Vec<String> = self.bootstrap.iter().chain(self.brokers.values()).cloned().collect();
        if let Some(open) = known.iter().find(|address| self.connections.contains_key(*address)) {
            return Ok(open.clone());
        }
        let mut last = ClientError::Unreachable { address: String::new(), reason: "no address was given".into() };
        for address in known {
            match self.connect(&address).await {
                Ok(()) => return Ok(address),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Does something again while its error may pass. It must do no harm to do it twice.
    pub(super) async fn again<T>(&mut self, mut what: impl AsyncFnMut(&mut Self) -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        loop {
            match what(self).await {
                Err(error) if error.is_retriable() => {
                    let away = matches!(error, ClientError::Unreachable { .. });
                    if begun.elapsed() > if away { UNREACHABLE } else { PATIENCE } {
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// What the cluster says of these topics, or of all. Nothing is created by it.
    pub(super) async fn topics(&mut self, names: Option<&[String]>) -> Result<Vec<MetadataResponseTopic>> {
        let topics = names.map(|names| {
            names.iter().map(|n| message!(MetadataRequestTopic { name: Some(StrBytes::from(&**n)) })).collect()
        });
        let request = message!(MetadataRequest { topics: topics, allow_auto_topic_creation: false });
        let answer = self.again(async |client| client.ask(To::Any, 10..=12, &request).await).await?;
        self.brokers = answer.brokers.iter().map(|b| (b.node_id, format!("{}:{}", b.host, b.port))).collect();
        Ok(answer.topics)
    }

    /// One topic, which must exist.
    pub(super) async fn topic(&mut self, name: &str) -> Result<MetadataResponseTopic> {
        let names = [name.to_owned()];
        let topic = self.topics(Some(&names)).await?.into_iter().next();
        let mut topic = topic.ok_or_else(|| ClientError::Refused {
            what: format!("topic {name}"),
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            text: None,
        })?;
        refused(format!("topic {name}"), topic.error_code, None)?;
        topic.partitions.sort_by_key(|p| p.partition_index);
        Ok(topic)
    }

    /// The leader of a partition.
    pub(super) async fn leader(&mut self, topic: &str, partition: i32) -> Result<To> {
        let found = self.topic(topic).await?;
        let what = || format!("partition {partition} of topic {topic}");
        let found = found.partitions.iter().find(|p| p.partition_index == partition);
        let found = found.ok_or_else(|| ClientError::Refused {
            what: what(),
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            text: None,
        })?;
        if found.leader_id < 0 {
            refused(what(), ErrorCode::LEADER_NOT_AVAILABLE.0, None)?;
        }
        Ok(To::Broker(found.leader_id))
    }

    /// The coordinator of a group.
    pub(super) async fn coordinator(&mut self, group: &str) -> Result<To> {
        let request = message!(FindCoordinatorRequest { key_type: 0, coordinator_keys: vec![StrBytes::from(group)] });
        self.again(async |client| {
            let answer = client.ask(To::Any, 4..=4, &request).await?;
            let what = format!("the coordinator of group {group}");
            let Some(found) = answer.coordinators.first() else {
                refused(what, ErrorCode::COORDINATOR_NOT_AVAILABLE.0, None)?;
                return Ok(To::Any);
            };
            refused(what, found.error_code, found.error_message.as_ref())?;
            client.brokers.insert(found.node_id, format!("{}:{}", found.host, found.port));
            Ok(To::Broker(found.node_id))
        })
        .await
    }
}
