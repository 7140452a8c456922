//! What a cluster says of itself to a Kafka client: brokers, leaders, in-sync replicas.

use super::cluster::PATIENCE;
use super::raw::Raw;
use super::wait;
use anyhow::{Context, Result, bail, ensure};
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, RequestKind};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use std::net::SocketAddrV4;
use std::time::Duration;

/// How long one metadata request may take. Short, as a stopped broker may be the one that is asked.
const REQUEST: Duration = Duration::from_secs(2);

/// A client that asks, and never reads or writes.
pub struct Metadata {
    client: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
}

/// One partition as the metadata shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The leader, or none.
    pub leader: Option<i32>,
    /// In-sync replicas, ascending.
    pub isr: Vec<i32>,
    /// Assigned replicas.
    pub replicas: Vec<i32>,
}

impl Metadata {
    /// A client of the cluster at these addresses.
    pub fn new(bootstrap: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("log_level", "0").set("allow.auto.create.topics", "false");
        // This client is the observer: it should see a broker that comes back as soon as it can be seen.
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        config.set("socket.timeout.ms", "3000");
        Ok(Self { client: config.create()?, admin: config.create()? })
    }

    /// The live brokers' ids, ascending.
    pub fn brokers(&self) -> Result<Vec<i32>> {
        let metadata = self.client.fetch_metadata(Some("chronik-tests-none"), REQUEST)?;
        let mut ids: Vec<_> = metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// All partitions of a topic by number.
    pub fn partitions(&self, topic: &str) -> Result<Vec<PartitionState>> {
        let ask = || self.client.fetch_metadata(Some(topic), REQUEST);
        // A machine that stalls, or a broker that is stopped, loses one request. The next goes to another broker.
        let metadata = ask().or_else(|_| ask()).or_else(|_| ask())?;
        let topic = metadata.topics().iter().find(|t| t.name() == topic).context("the topic in the answer")?;
        if let Some(error) = topic.error() {
            bail!("topic {}: {error:?}", topic.name());
        }
        let mut states: Vec<_> = topic
            .partitions()
            .iter()
            .map(|p| {
                let mut isr = p.isr().to_vec();
                isr.sort_unstable();
                let leader = (p.leader() >= 0).then_some(p.leader());
                (p.id(), PartitionState { leader, isr, replicas: p.replicas().to_vec() })
            })
            .collect();
        states.sort_by_key(|(id, _)| *id);
        Ok(states.into_iter().map(|(_, state)| state).collect())
    }

    /// Which broker leads a partition: waits until one does.
    pub fn leader(&self, topic: &str, partition: usize) -> Result<usize> {
        wait::until(&format!("a leader of partition {partition} of {topic}"), PATIENCE, || {
            let leader = self.partitions(topic)?.get(partition).and_then(|state| state.leader);
            Ok(leader.map(|id| id as usize))
        })
    }

    /// Creates a topic and waits until every partition has a leader and `replicas` in sync.
    pub fn create_topic(&self, name: &str, partitions: i32, replicas: i32, config: &[(&str, &str)]) -> Result<()> {
        self.create(NewTopic::new(name, partitions, TopicReplication::Fixed(replicas)), config)?;
        self.wait_for_isr(name, partitions as usize, replicas as usize)
    }

    /// Creates a topic of so many partitions that are all on the same brokers, the preferred leader first, and waits until
    /// they are in sync.
    pub fn create_topic_on(&self, name: &str, partitions: usize, replicas: &[i32]) -> Result<()> {
        let places = vec![replicas; partitions];
        self.create(NewTopic::new(name, partitions as i32, TopicReplication::Variable(&places)), &[])?;
        self.wait_for_isr(name, partitions, replicas.len())
    }

    fn create<'a>(&self, mut topic: NewTopic<'a>, config: &[(&'a str, &'a str)]) -> Result<()> {
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        // A try that failed may have been carried out: then the next one finds the topic there.
        let mut tried = false;
        wait::until(&format!("topic {} to be created", topic.name), PATIENCE, || {
            let results = futures::executor::block_on(self.admin.create_topics([&topic], &options));
            match results.map(|results| results.into_iter().next()) {
                Ok(Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists)))) => ensure!(tried, "it exists already"),
                Ok(Some(Ok(_))) => {}
                failed => {
                    tried = true;
                    bail!("{failed:?}");
                }
            }
            Ok(Some(()))
        })
    }

    /// Sets all configs that a topic has of its own.
    pub fn set_configs(&self, topic: &str, configs: &[(&str, &str)]) -> Result<()> {
        let resource = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let resource = configs.iter().fold(resource, |resource, (key, value)| resource.set(key, value));
        let results = futures::executor::block_on(self.admin.alter_configs([&resource], &AdminOptions::new()))?;
        for result in results {
            result.map_err(|(_, code)| anyhow::anyhow!("set configs of {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Creates topics of so many partitions and replicas with one request, and waits for nothing but its answer.
    pub fn create_topics(&self, topics: &[(&str, i32, i32)]) -> Result<()> {
        let new = |(name, partitions, replicas)| NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let topics: Vec<_> = topics.iter().copied().map(new).collect();
        let results = futures::executor::block_on(self.admin.create_topics(&topics, &AdminOptions::new()))?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("create topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.delete_topics(&[name])
    }

    /// Deletes topics, with one request.
    pub fn delete_topics(&self, names: &[&str]) -> Result<()> {
        let results = futures::executor::block_on(self.admin.delete_topics(names, &AdminOptions::new()))?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("delete topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Waits until every replica of every topic is in sync.
    pub fn wait_for_all_in_sync(&self) -> Result<()> {
        wait::until("every replica to be in sync", PATIENCE, || {
            let metadata = self.client.fetch_metadata(None, REQUEST)?;
            let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            let missing = partitions.filter(|p| p.isr().len() < p.replicas().len()).count();
            ensure!(missing == 0, "{missing} partitions are not in full sync");
            Ok(Some(()))
        })
    }

    /// Waits until every partition has a leader and this many replicas in sync.
    pub fn wait_for_isr(&self, topic: &str, partitions: usize, replicas: usize) -> Result<()> {
        wait::until(&format!("{partitions} partitions of {topic} with {replicas} in sync"), PATIENCE, || {
            let states = self.partitions(topic)?;
            ensure!(states.len() == partitions, "{} partitions", states.len());
            let bad = states.iter().position(|s| s.leader.is_none() || s.isr.len() < replicas);
            if let Some(bad) = bad {
                bail!("partition {bad} is {:?}", states[bad]);
            }
            Ok(Some(()))
        })
    }
}

/// How many partitions lack replicas in their in-sync set by what one broker says, which may not have heard of everything.
/// A client of the cluster asks whichever it likes.
pub fn under_replicated(address: SocketAddrV4) -> Result<usize> {
    let request = RequestKind::Metadata(MetadataRequest::default().with_topics(None));
    let answer: MetadataResponse = Raw::connect_to(address, REQUEST)?.ask(ApiKey::Metadata, 12, &request)?;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    Ok(partitions.filter(|partition| partition.isr_nodes.len() < partition.replica_nodes.len()).count())
}
