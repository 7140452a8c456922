//! The requests. Any ready broker will do: each passes on what the controller decides.

use super::connection::Connection;
use super::{AdvertisedBroker, ConfigChanges, Configs, Kafka, KafkaTopic, NewTopic};
use crate::brokers::{Answer, Bounds, Contact, Failure, Unanswered, ask_each};
use crate::reconcile::build::port;
use chronik_wire::ErrorCode;
use chronik_wire::messages::create_topics_request::CreatableTopicConfig;
use chronik_wire::messages::incremental_alter_configs_request::AlterConfigsResource;
use chronik_wire::messages::{
    CreatableTopic, CreatePartitionsRequest, CreatePartitionsTopic, CreateTopicsRequest, DeleteTopicState,
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResult,
    IncrementalAlterConfigsRequest, IncrementalConfig, MetadataRequest, MetadataRequestTopic, MetadataResponseTopic,
    StrBytes, Uuid, message, topic_id_text,
};
use futures::FutureExt;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// How long one broker is given to accept a connection; the next is asked then.
const CONNECT: Duration = Duration::from_secs(1);
/// How long one broker is given for an answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Of a question, and of what may be asked of two brokers at once, as both do the same.
const QUESTION: Bounds = Bounds { patience: Duration::from_secs(1), in_all: Duration::from_secs(10) };
/// Of what is asked of another broker only when the first has not done it: two of them, and some time.
const CHANGE: Bounds = Bounds { patience: Duration::from_secs(11), in_all: Duration::from_secs(25) };
/// How long the controller is given: less than the answer is waited for.
const TIMEOUT_MS: i32 = 8_000;

/// Kafka's numbers of resources that have configs.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// The source of a topic's own value.
const OF_TOPIC: i8 = 1;
/// `AlterConfigOp`, by Kafka's numbers.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// A client of clusters' brokers.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    port: u16,
}

impl Default for Client {
    fn default() -> Self {
        Self { port: port::KAFKA.unsigned_abs() as u16 }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Client {
    /// Asks one broker after the other, until one gives an answer. What was asked of a broker that did not answer may have
    /// been done: every request is one that may be repeated.
    async fn ask<T>(
        self,
        bounds: Bounds,
        contact: Contact,
        request: impl AsyncFn(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Unanswered> {
        self.ask_at(self.port, bounds, contact, request).await
    }

    async fn ask_at<T>(
        self,
        port: u16,
        bounds: Bounds,
        contact: Contact,
        request: impl AsyncFn(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Unanswered> {
        let cluster = contact.cluster.as_deref();
        let brokers = contact.addresses.iter().map(|(id, address)| (*id, ask_one(address, port, cluster, &request)));
        ask_each(brokers.collect(), bounds).await
    }
}

/// One broker's answer, or why there is none. On the same connection it has to say first that it is of the cluster.
async fn ask_one<T>(
    address: &str,
    port: u16,
    cluster: Option<&str>,
    request: &impl AsyncFn(&mut Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let opened = tokio::time::timeout(CONNECT, Connection::open(address, port)).await;
    let mut connection = opened.map_err(|_| Failure::Broken("it accepts no connection".to_owned()))??;
    let asked = async {
        if let Some(cluster) = cluster {
            is_of(&mut connection, cluster).await?;
        }
        request(&mut connection).await
    };
    let answer = tokio::time::timeout(DEADLINE, asked).await;
    answer.unwrap_or_else(|_| Err(Failure::Broken("it does not answer".to_owned())))
}

/// Fails unless the broker says that it is of this cluster.
async fn is_of(connection: &mut Connection, cluster: &str) -> Result<(), Failure> {
    let answer = connection.ask(12, &message!(MetadataRequest { topics: Some(Vec::new()) })).await?;
    let said = answer.cluster_id.map(|id| id.to_string()).unwrap_or_default();
    // Clients are told it in another form than whoever asks the admin API.
    let meant = in_kafkas_form(cluster).unwrap_or_else(|| cluster.to_owned());
    if said == meant {
        return Ok(());
    }
    Err(Failure::Broken(format!("it is of the cluster {said:?}, and this is {meant} (status.clusterId: {cluster})")))
}

/// An identity of 32 hexadecimal digits, as Kafka writes its own.
fn in_kafkas_form(id: &str) -> Option<String> {
    let digits = id.replace('-', "");
    let bits = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(topic_id_text(Uuid::from_bytes(bits.to_be_bytes())))
}

/// An error code as a failure, if it is one.
fn refused(code: i16, text: Option<&StrBytes>) -> Result<(), Failure> {
    let code = ErrorCode(code);
    let text = text.map_or_else(|| code.name().to_owned(), ToString::to_string);
    match code {
        ErrorCode::NONE => Ok(()),
        // These pass, or are another broker's to answer.
        ErrorCode::NOT_CONTROLLER
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::BROKER_NOT_AVAILABLE => Err(Failure::Broken(text)),
        _ => Err(Failure::Final(Unanswered::Refused(text))),
    }
}

async fn describe(connection: &mut Connection, kind: i8, name: &str) -> Result<DescribeConfigsResult, Failure> {
    let asked = message!(DescribeConfigsResource {
        resource_type: kind,
        resource_name: StrBytes::from(name),
        configuration_keys: None,
    });
    let answer = connection.ask(4, &message!(DescribeConfigsRequest { resources: vec![asked] })).await?;
    let result = answer.results.into_iter().next().ok_or_else(no_result)?;
    refused(result.error_code, result.error_message.as_ref())?;
    Ok(result)
}

fn values(result: &DescribeConfigsResult, source: Option<i8>) -> Configs {
    let own = result.configs.iter().filter(|config| source.is_none_or(|source| config.config_source == source));
    own.filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string()))).collect()
}

fn no_result() -> Failure {
    Failure::Broken("an answer without a result".to_owned())
}

async fn alter(connection: &mut Connection, kind: i8, name: &str, changes: &ConfigChanges) -> Result<(), Failure> {
    let configs = changes.iter().map(|(name, value)| {
        message!(IncrementalConfig {
            name: StrBytes::from(&**name),
            config_operation: if value.is_some() { SET } else { DELETE },
            value: value.as_deref().map(StrBytes::from),
        })
    });
    let resource = message!(AlterConfigsResource {
        resource_type: kind,
        resource_name: StrBytes::from(name),
        configs: configs.collect(),
    });
    let answer = connection.ask(1, &message!(IncrementalAlterConfigsRequest { resources: vec![resource] })).await?;
    let result = answer.responses.first().ok_or_else(no_result)?;
    refused(result.error_code, result.error_message.as_ref())
}

async fn advertised_brokers(connection: &mut Connection) -> Result<BTreeMap<i32, AdvertisedBroker>, Failure> {
    let answer = connection.ask(12, &message!(MetadataRequest { topics: Some(Vec::new()) })).await?;
    let brokers = answer.brokers.into_iter().map(|broker| {
        let rack = broker.rack.map(|rack| rack.to_string());
        (broker.node_id, AdvertisedBroker { host: broker.host.to_string(), port: broker.port, rack })
    });
    Ok(brokers.collect())
}

async fn topic(connection: &mut Connection, name: &str) -> Result<Option<KafkaTopic>, Failure> {
    let topics = vec![message!(MetadataRequestTopic { name: Some(StrBytes::from(name)) })];
    let request = message!(MetadataRequest { topics: Some(topics), allow_auto_topic_creation: false });
    let answer = connection.ask(12, &request).await?;
    let found = answer.topics.into_iter().next().ok_or_else(no_result)?;
    if ErrorCode(found.error_code) == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
        return Ok(None);
    }
    refused(found.error_code, None)?;
    let described = describe(connection, TOPIC, name).await?;
    Ok(Some(described_topic(&found, values(&described, Some(OF_TOPIC)))))
}

fn described_topic(found: &MetadataResponseTopic, configs: Configs) -> KafkaTopic {
    KafkaTopic {
        id: found.topic_id,
        partitions: i32::try_from(found.partitions.len()).unwrap_or(i32::MAX),
        factors: found.partitions.iter().map(|partition| partition.replica_nodes.len()).collect(),
        leaderless: found.partitions.iter().filter(|partition| partition.leader_id < 0).count(),
        configs,
    }
}

async fn create(connection: &mut Connection, topic: &NewTopic) -> Result<(), Failure> {
    let configs = topic.configs.iter().map(|(name, value)| {
        message!(CreatableTopicConfig { name: StrBytes::from(&**name), value: Some(StrBytes::from(&**value)) })
    });
    let topic = message!(CreatableTopic {
        name: StrBytes::from(&*topic.name),
        num_partitions: topic.partitions.unwrap_or(-1),
        replication_factor: topic.factor.unwrap_or(-1),
        configs: configs.collect(),
    });
    let answer =
        connection.ask(7, &message!(CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS })).await?;
    let result = answer.topics.first().ok_or_else(no_result)?;
    match ErrorCode(result.error_code) {
        // By somebody else, or by this very request when it was sent to another broker.
        ErrorCode::TOPIC_ALREADY_EXISTS => Ok(()),
        _ => refused(result.error_code, result.error_message.as_ref()),
    }
}

async fn grow(connection: &mut Connection, name: &str, count: i32) -> Result<(), Failure> {
    let topic = message!(CreatePartitionsTopic { name: StrBytes::from(name), count: count, assignments: None });
    let request = message!(CreatePartitionsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS });
    let answer = connection.ask(3, &request).await?;
    let result = answer.results.first().ok_or_else(no_result)?;
    refused(result.error_code, result.error_message.as_ref())
}

async fn delete(connection: &mut Connection, id: Uuid) -> Result<(), Failure> {
    let topic = message!(DeleteTopicState { name: None, topic_id: id });
    let answer =
        connection.ask(6, &message!(DeleteTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS })).await?;
    let result = answer.responses.first().ok_or_else(no_result)?;
    match ErrorCode(result.error_code) {
        ErrorCode::UNKNOWN_TOPIC_ID => Ok(()),
        _ => refused(result.error_code, result.error_message.as_ref()),
    }
}

impl Kafka for Client {
    fn cluster_configs(&self, contact: Contact) -> Answer<Configs> {
        self.ask(QUESTION, contact, async |connection: &mut Connection| {
            Ok(values(&describe(connection, BROKER, "").await?, None))
        })
        .boxed()
    }

    fn alter_cluster_configs(&self, contact: Contact, changes: ConfigChanges) -> Answer<()> {
        self.ask(QUESTION, contact, async move |connection: &mut Connection| {
            alter(connection, BROKER, "", &changes).await
        })
        .boxed()
    }

    fn advertised_brokers(&self, contact: Contact, port: i32) -> Answer<BTreeMap<i32, AdvertisedBroker>> {
        let client = *self;
        let port = u16::try_from(port).unwrap_or(client.port);
        async move {
            client
                .ask_at(port, QUESTION, contact, async |connection: &mut Connection| {
                    advertised_brokers(connection).await
                })
                .await
        }
        .boxed()
    }

    fn alter_broker_configs(&self, contact: Contact, broker: i32, changes: ConfigChanges) -> Answer<()> {
        self.ask(QUESTION, contact, async move |connection: &mut Connection| {
            alter(connection, BROKER, &broker.to_string(), &changes).await
        })
        .boxed()
    }

    fn topic(&self, contact: Contact, name: String) -> Answer<Option<KafkaTopic>> {
        self.ask(QUESTION, contact, async move |connection: &mut Connection| topic(connection, &name).await).boxed()
    }

    fn create_topic(&self, contact: Contact, topic: NewTopic) -> Answer<()> {
        self.ask(CHANGE, contact, async move |connection: &mut Connection| create(connection, &topic).await).boxed()
    }

    fn grow_topic(&self, contact: Contact, name: String, partitions: i32) -> Answer<()> {
        self.ask(CHANGE, contact, async move |connection: &mut Connection| grow(connection, &name, partitions).await)
            .boxed()
    }

    fn alter_topic_configs(&self, contact: Contact, name: String, changes: ConfigChanges) -> Answer<()> {
        self.ask(QUESTION, contact, async move |connection: &mut Connection| {
            alter(connection, TOPIC, &name, &changes).await
        })
        .boxed()
    }

    fn delete_topic(&self, contact: Contact, id: Uuid) -> Answer<()> {
        self.ask(CHANGE, contact, async move |connection: &mut Connection| delete(connection, id).await).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use chronik_wire::messages::{
        ApiVersionsResponse, IncrementalAlterConfigsResponse, IncrementalAlterConfigsResult, MetadataResponse,
        ServedVersions,
    };
    use chronik_wire::{Frame, Request, SERVED};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const HERE: &str = "00112233-4455-6677-8899-aabbccddeeff";

    /// A broker that is of the cluster `HERE`, and counts how often its configs are changed.
    async fn broker() -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, changed) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&changed);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &count).await;
            }
        });
        (port, changed)
    }

    /// Until the client is gone.
    async fn serve(mut stream: TcpStream, changed: &AtomicUsize) {
        while let Ok(len) = stream.read_u32().await {
            let mut frame = vec![0; len as usize];
            stream.read_exact(&mut frame).await.unwrap();
            let asked = Request::decode(Bytes::from(frame)).unwrap();
            let answer = match asked.request {
                Request::ApiVersions(_) => {
                    let served = |one: &chronik_wire::RequestKind| *one as i16;
                    let api_keys = SERVED.iter().map(|one| {
                        message!(ServedVersions {
                            api_key: served(&one.api),
                            min_version: one.min,
                            max_version: one.max
                        })
                    });
                    Frame::encode(asked.header, &message!(ApiVersionsResponse { api_keys: api_keys.collect() }))
                }
                Request::Metadata(_) => {
                    let cluster_id = in_kafkas_form(HERE).map(StrBytes::from);
                    Frame::encode(asked.header, &message!(MetadataResponse { cluster_id: cluster_id }))
                }
                Request::IncrementalAlterConfigs(_) => {
                    changed.fetch_add(1, Ordering::SeqCst);
                    let responses = vec![message!(IncrementalAlterConfigsResult { resource_type: BROKER })];
                    Frame::encode(asked.header, &message!(IncrementalAlterConfigsResponse { responses: responses }))
                }
                other => panic!("{other:?}"),
            };
            for chunk in answer.unwrap().into_chunks() {
                stream.write_all(&chunk).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_changed_at_a_broker_of_another_cluster() {
        let (port, changed) = broker().await;
        let contact = |cluster: Option<&str>| Contact {
            namespace: "default".to_owned(),
            name: "demo".to_owned(),
            addresses: [(0, "127.0.0.1".to_owned())].into(),
            cluster: cluster.map(str::to_owned),
        };
        let other = "10112233-4455-6677-8899-aabbccddeeff";
        for (cluster, taken) in [(Some(HERE), true), (Some(other), false), (Some("of no form"), false), (None, true)] {
            let before = changed.load(Ordering::SeqCst);
            let configs = [("log.retention.ms".to_owned(), Some("5".to_owned()))].into();
            let answer = Client { port }.alter_cluster_configs(contact(cluster), configs).await;
            assert_eq!(changed.load(Ordering::SeqCst) - before, usize::from(taken), "{cluster:?}");
            match answer {
                Ok(()) => assert!(taken, "{cluster:?}"),
                Err(Unanswered::Unsure(why)) => {
                    assert!(!taken && why.contains("ABEiM0RVZneImaq7zN3u_w"), "{cluster:?}: {why}");
                }
                Err(error) => panic!("{cluster:?}: {error}"),
            }
        }
    }
}
