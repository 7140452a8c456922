//! The topic, its cluster, and the other resources that name the same topic.

use super::plan::{ClusterState, Observed, kafka_name};
use crate::brokers::Contact;
use crate::kafka::Kafka;
use crate::reconcile::observe::{Known, ready_contact};
use chronik_crds::{ChronikCluster, ChronikTopic};
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

/// What was read of the cluster's resource.
pub(super) struct ClusterSeen {
    pub(super) state: ClusterState,
    /// The operator that looks after it.
    pub(super) operator: Option<String>,
    /// Its identity, once that is known.
    pub(super) id: Option<String>,
}

pub(super) async fn cluster(client: &Client, namespace: &str, name: &str) -> Result<ClusterSeen, kube::Error> {
    // Only some of it is read: a spec that cannot be followed keeps no topic from being looked after.
    let resource = ApiResource::erase::<ChronikCluster>(&());
    let found = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource).get_opt(name).await?;
    Ok(found.map_or(ClusterSeen { state: ClusterState::Missing, operator: None, id: None }, |cluster| {
        let state = if cluster.metadata.deletion_timestamp.is_some() {
            ClusterState::Leaving
        } else if cluster.data["spec"]["paused"] == Value::Bool(true) {
            ClusterState::Paused
        } else {
            ClusterState::There
        };
        let said = |field: &str| cluster.data["status"][field].as_str().map(str::to_owned);
        ClusterSeen { state, operator: said("operator"), id: said("clusterId") }
    }))
}

pub(super) async fn observe(
    client: &Client,
    kafka: &dyn Kafka,
    topic: &ChronikTopic,
    cluster: &ClusterSeen,
) -> Result<Observed, kube::Error> {
    let namespace = topic.namespace().unwrap_or_default();
    // Who has the topic keeps it.
    let claims = topic.status.as_ref().is_some_and(|status| status.topic_id.is_some());
    let rival = if claims { None } else { rival(client, &namespace, topic).await? };
    let found = match cluster.state {
        ClusterState::Missing | ClusterState::Leaving => Known::Unknown("there is no cluster".to_owned()),
        ClusterState::Paused | ClusterState::There => {
            let place = (&*namespace, &*topic.spec.cluster);
            let contact = ready_contact(client, place, cluster.id.as_deref()).await?;
            read(kafka, contact, kafka_name(topic)).await
        }
    };
    Ok(Observed { cluster: cluster.state, rival, topic: found })
}

async fn read(kafka: &dyn Kafka, contact: Option<Contact>, name: String) -> Known<Option<crate::kafka::KafkaTopic>> {
    let Some(contact) = contact else { return Known::Unknown("no broker is ready".to_owned()) };
    kafka.topic(contact, name).await.map_or_else(|error| Known::Unknown(error.to_string()), Known::Is)
}

/// Another resource for the same topic that has it already, or is older.
async fn rival(client: &Client, namespace: &str, topic: &ChronikTopic) -> Result<Option<String>, kube::Error> {
    let resource = ApiResource::erase::<ChronikTopic>(&());
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let all = api.list(&ListParams::default()).await?.items;
    // One that cannot be read has no topic.
    let readable = all.into_iter().filter_map(|object| {
        serde_json::to_value(object).ok().and_then(|value| serde_json::from_value::<ChronikTopic>(value).ok())
    });
    let age = |topic: &ChronikTopic| (topic.metadata.creation_timestamp.as_ref().map(|t| t.0), topic.name_any());
    let same = |other: &ChronikTopic| {
        other.name_any() != topic.name_any()
            && other.spec.cluster == topic.spec.cluster
            && kafka_name(other) == kafka_name(topic)
    };
    let has = |other: &ChronikTopic| other.status.as_ref().is_some_and(|status| status.topic_id.is_some());
    let mut rivals = readable.filter(|other| same(other) && (has(other) || age(other) < age(topic)));
    Ok(rivals.next().map(|other| other.name_any()))
}
