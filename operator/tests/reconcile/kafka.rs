//! A cluster's topics and configs in memory, as the operator sees them through the Kafka protocol.

use chronik_operator::brokers::{Answer, Contact, Unanswered};
use chronik_operator::kafka::{AdvertisedBroker, ConfigChanges, Configs, Kafka, KafkaTopic, NewTopic};
use chronik_wire::messages::Uuid;
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Barrier, oneshot};

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct FakeKafka {
    state: Arc<Mutex<KafkaState>>,
}

#[derive(Default)]
pub(crate) struct KafkaState {
    pub(crate) topics: BTreeMap<String, KafkaTopic>,
    pub(crate) cluster: Configs,
    /// What single brokers were given.
    pub(crate) brokers: BTreeMap<i32, Configs>,
    /// Why brokers refuse every change.
    pub(crate) refuse: Option<String>,
    /// Why no broker answers.
    pub(crate) silent: Option<String>,
    /// Brokers take changes, and never answer.
    pub(crate) hangs: bool,
    /// Changes of single brokers are answered when so many have come.
    pub(crate) together: Option<Arc<Barrier>>,
    /// Notified when somebody asks for the configs of all brokers.
    pub(crate) asked: Option<oneshot::Sender<()>>,
    /// What was asked for beside questions.
    pub(crate) changes: Vec<String>,
    /// The clusters that brokers were to be of which something was asked for beside questions.
    pub(crate) clusters: BTreeSet<Option<String>>,
    created: u8,
}

impl FakeKafka {
    pub(crate) fn state(&self) -> MutexGuard<'_, KafkaState> {
        self.state.lock().unwrap()
    }

    /// A topic that somebody else has made.
    pub(crate) fn make(&self, name: &str, partitions: i32) {
        let mut state = self.state();
        state.created += 1;
        let id = Uuid::from_bytes([state.created; 16]);
        let topic = KafkaTopic { id, partitions, factors: [3].into(), leaderless: 0, configs: Configs::new() };
        state.topics.insert(name.to_owned(), topic);
    }

    fn change(&self, contact: &Contact, what: String, change: impl FnOnce(&mut KafkaState)) -> Answer<()> {
        let mut state = self.state();
        state.clusters.insert(contact.cluster.clone());
        if state.hangs {
            return std::future::pending().boxed();
        }
        let answer = match (&state.silent, &state.refuse) {
            (Some(why), _) => Err(Unanswered::Unsure(why.clone())),
            (None, Some(why)) => Err(Unanswered::Refused(why.clone())),
            (None, None) => {
                state.changes.push(what);
                change(&mut state);
                Ok(())
            }
        };
        async { answer }.boxed()
    }

    fn answer<T: Send + 'static>(&self, answer: impl FnOnce(&KafkaState) -> T) -> Answer<T> {
        let state = self.state();
        let answer = match &state.silent {
            Some(why) => Err(Unanswered::Unsure(why.clone())),
            None => Ok(answer(&state)),
        };
        async { answer }.boxed()
    }
}

fn alter(configs: &mut Configs, changes: ConfigChanges) {
    for (name, value) in changes {
        match value {
            Some(value) => configs.insert(name, value),
            None => configs.remove(&name),
        };
    }
}

impl Kafka for FakeKafka {
    fn cluster_configs(&self, _: Contact) -> Answer<Configs> {
        if let Some(asked) = self.state().asked.take() {
            asked.send(()).unwrap();
        }
        self.answer(|state| state.cluster.clone())
    }

    fn alter_cluster_configs(&self, contact: Contact, changes: ConfigChanges) -> Answer<()> {
        let what = chronik_operator::kafka::in_words(&changes);
        self.change(&contact, what, |state| alter(&mut state.cluster, changes))
    }

    /// Every broker that is asked listens at every port. Port 9092 has the registered addresses, and every other one those
    /// of the first listener that brokers were given.
    fn advertised_brokers(&self, contact: Contact, port: i32) -> Answer<BTreeMap<i32, AdvertisedBroker>> {
        self.answer(move |state| {
            let advertised = |(id, host): (&i32, &String)| {
                let own = state.brokers.get(id);
                let rack = own.and_then(|own| own.get("broker.rack")).cloned();
                let (host, port) = if port == 9092 {
                    (host.clone(), port)
                } else {
                    let (_, at) = own?.get("advertised.listeners")?.split(',').next()?.split_once("://")?;
                    let (host, port) = at.rsplit_once(':')?;
                    (host.to_owned(), port.parse().ok()?)
                };
                Some((*id, AdvertisedBroker { host, port, rack }))
            };
            contact.addresses.iter().filter_map(advertised).collect()
        })
    }

    fn alter_broker_configs(&self, contact: Contact, broker: i32, changes: ConfigChanges) -> Answer<()> {
        assert_eq!(contact.addresses.keys().collect::<Vec<_>>(), [&broker], "it is that broker's to take");
        let what = format!("broker {broker}: {}", chronik_operator::kafka::in_words(&changes));
        let (kafka, together) = (self.clone(), self.state().together.clone());
        async move {
            if let Some(together) = together {
                together.wait().await;
            }
            kafka.change(&contact, what, |state| alter(state.brokers.entry(broker).or_default(), changes)).await
        }
        .boxed()
    }

    fn topic(&self, _: Contact, name: String) -> Answer<Option<KafkaTopic>> {
        self.answer(|state| state.topics.get(&name).cloned())
    }

    fn create_topic(&self, contact: Contact, topic: NewTopic) -> Answer<()> {
        let kafka = self.clone();
        let created = self.change(&contact, format!("create {}", topic.name), |_| {});
        async move {
            created.await?;
            kafka.make(&topic.name, topic.partitions.unwrap_or(1));
            kafka.state().topics.get_mut(&topic.name).unwrap().configs = topic.configs;
            Ok(())
        }
        .boxed()
    }

    fn grow_topic(&self, contact: Contact, name: String, partitions: i32) -> Answer<()> {
        self.change(&contact, format!("grow {name} to {partitions}"), |state| {
            state.topics.get_mut(&name).unwrap().partitions = partitions;
        })
    }

    fn alter_topic_configs(&self, contact: Contact, name: String, changes: ConfigChanges) -> Answer<()> {
        let what = format!("{name}: {}", chronik_operator::kafka::in_words(&changes));
        self.change(&contact, what, |state| alter(&mut state.topics.get_mut(&name).unwrap().configs, changes))
    }

    fn delete_topic(&self, contact: Contact, id: Uuid) -> Answer<()> {
        self.change(&contact, "delete".to_owned(), |state| state.topics.retain(|_, topic| topic.id != id))
    }
}
