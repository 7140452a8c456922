//! What to do about a topic, as a pure function of its resource and of what was observed.

use crate::kafka::{ConfigChanges, Configs, KafkaTopic, NewTopic, config_changes, in_words};
use crate::reconcile::observe::Known;
use chronik_crds::{ChronikTopic, DeletionPolicy};
use chronik_wire::messages::Uuid;
use kube::ResourceExt;
use std::fmt;

/// What was observed of a topic, and of what it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The cluster that it names.
    pub cluster: ClusterState,
    /// Another resource that has the topic already.
    pub rival: Option<String>,
    /// The topic in Kafka, if there is one.
    pub topic: Known<Option<KafkaTopic>>,
}

/// The cluster of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// There is no such resource.
    Missing,
    /// It is being deleted.
    Leaving,
    /// Everything is to stay as it is.
    Paused,
    /// It is there.
    There,
}

/// What to do about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// Whether the resource is kept, when it is deleted, until its topic is.
    pub finalizer: bool,
    /// What is reported.
    pub finding: Finding,
}

/// A change of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is created.
    Create(NewTopic),
    /// It gets more partitions, so that it has this many.
    Grow(i32),
    /// Its configs are changed.
    Configs(ConfigChanges),
    /// It is deleted, if it is still the one with this id.
    Delete(Uuid),
}

impl Step {
    /// In one word, as in an Event's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Create(_) => "TopicCreated",
            Self::Grow(_) => "PartitionsAdded",
            Self::Configs(_) => "ConfigChanged",
            Self::Delete(_) => "TopicDeleted",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(_) => write!(f, "create the topic"),
            Self::Grow(partitions) => write!(f, "give it {partitions} partitions"),
            Self::Configs(changes) => write!(f, "{}", in_words(changes)),
            Self::Delete(_) => write!(f, "delete the topic"),
        }
    }
}

/// Whether the topic is as the spec says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is.
    pub ready: bool,
    /// In one word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

impl Finding {
    /// It is not, and why.
    pub fn not(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: false, reason, message: message.into() }
    }
}

/// The topic's name in Kafka.
pub fn kafka_name(topic: &ChronikTopic) -> String {
    topic.spec.topic_name.clone().unwrap_or_else(|| topic.name_any())
}

/// The configs that the spec asks for.
pub fn wanted_configs(topic: &ChronikTopic) -> Configs {
    topic.spec.config.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
}

/// Decides what to do.
pub fn plan(topic: &ChronikTopic, observed: &Observed) -> Plan {
    if topic.metadata.deletion_timestamp.is_some() {
        return removal(topic, observed);
    }
    let finalizer = topic.spec.deletion_policy == DeletionPolicy::Delete;
    match hindrance(topic, observed) {
        Some(finding) => Plan { steps: Vec::new(), finalizer, finding },
        None => match &observed.topic {
            Known::Unknown(why) => {
                Plan { steps: Vec::new(), finalizer, finding: Finding::not("BrokersUnknown", why.clone()) }
            }
            Known::Is(None) => {
                let finding = Finding::not("Creating", "the topic is being created");
                Plan { steps: vec![Step::Create(new_topic(topic))], finalizer, finding }
            }
            Known::Is(Some(there)) => {
                let steps = changes(topic, there);
                let finding = compare(topic, there, &steps);
                Plan { steps, finalizer, finding }
            }
        },
    }
}

/// What keeps the topic from being looked at.
fn hindrance(topic: &ChronikTopic, observed: &Observed) -> Option<Finding> {
    let (name, cluster) = (kafka_name(topic), &topic.spec.cluster);
    if name.starts_with("__") {
        return Some(Finding::not("InvalidSpec", format!("topicName: {name} is one of the brokers' own topics")));
    }
    let of_kafka = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if name.is_empty() || name.len() > 249 || !of_kafka || name == "." || name == ".." {
        return Some(Finding::not("InvalidSpec", format!("topicName: {name:?} is no name of a topic")));
    }
    if topic.spec.partitions.is_some_and(|partitions| partitions < 1) {
        return Some(Finding::not("InvalidSpec", "partitions: a topic has one at least"));
    }
    match observed.cluster {
        ClusterState::Missing => {
            return Some(Finding::not("ClusterNotFound", format!("there is no ChronikCluster {cluster} here")));
        }
        ClusterState::Leaving => {
            return Some(Finding::not("ClusterLeaving", format!("ChronikCluster {cluster} is being deleted")));
        }
        ClusterState::Paused => {
            let message = format!("spec.paused of ChronikCluster {cluster} is true: nothing is changed");
            return Some(Finding::not("Paused", message));
        }
        ClusterState::There => {}
    }
    let taken =
        |rival: &String| Finding::not("TopicTaken", format!("ChronikTopic {rival} is for topic {name} already"));
    observed.rival.as_ref().map(taken)
}

fn new_topic(topic: &ChronikTopic) -> NewTopic {
    NewTopic {
        name: kafka_name(topic),
        partitions: topic.spec.partitions,
        factor: topic.spec.replicas.map(|replicas| i16::try_from(replicas).unwrap_or(i16::MAX)),
        configs: wanted_configs(topic),
    }
}

fn changes(topic: &ChronikTopic, there: &KafkaTopic) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(partitions) = topic.spec.partitions.filter(|partitions| *partitions > there.partitions) {
        steps.push(Step::Grow(partitions));
    }
    let managed = topic.status.as_ref().map(|status| status.managed_config.as_slice()).unwrap_or_default();
    let changes = config_changes(&wanted_configs(topic), managed, &there.configs);
    if !changes.is_empty() {
        steps.push(Step::Configs(changes));
    }
    steps
}

fn compare(topic: &ChronikTopic, there: &KafkaTopic, steps: &[Step]) -> Finding {
    if !steps.is_empty() {
        let words = steps.iter().map(ToString::to_string).collect::<Vec<_>>();
        return Finding::not("Changing", words.join(", "));
    }
    let (partitions, factors) = (there.partitions, &there.factors);
    if let Some(wanted) = topic.spec.partitions.filter(|wanted| *wanted < partitions) {
        let message = format!("it has {partitions} partitions, and not {wanted}; a topic never gets fewer");
        return Finding::not("MorePartitions", message);
    }
    let number = factors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let wanted = topic.spec.replicas.and_then(|wanted| usize::try_from(wanted).ok());
    if let Some(wanted) = wanted.filter(|wanted| factors.iter().any(|factor| factor != wanted)) {
        let message = format!("its partitions have {number} replicas, and not {wanted}; they are moved by hand");
        return Finding::not("OtherReplicas", message);
    }
    if there.leaderless > 0 {
        let message = format!("{} of {partitions} partitions have no leader", there.leaderless);
        return Finding::not("PartitionsOffline", message);
    }
    let message = format!("{partitions} partitions with {number} replicas each");
    Finding { ready: true, reason: "AsSpecified", message }
}

/// A resource that is being deleted: its topic goes with it where the policy says so, and as far as it is certain that
/// it is the one that the resource was for.
fn removal(topic: &ChronikTopic, observed: &Observed) -> Plan {
    let gone = |message: &str| Plan { steps: Vec::new(), finalizer: false, finding: Finding::not("Deleting", message) };
    let known = topic.status.as_ref().and_then(|status| status.topic_id.as_deref());
    let Some(known) = known.filter(|_| topic.spec.deletion_policy == DeletionPolicy::Delete) else {
        return gone("the topic stays");
    };
    let waits =
        |reason, message: String| Plan { steps: Vec::new(), finalizer: true, finding: Finding::not(reason, message) };
    match observed.cluster {
        ClusterState::Missing | ClusterState::Leaving => return gone("the cluster is gone"),
        ClusterState::Paused => {
            let message = format!("spec.paused of ChronikCluster {} is true: nothing is changed", topic.spec.cluster);
            return waits("Paused", message);
        }
        ClusterState::There => {}
    }
    match &observed.topic {
        Known::Unknown(why) => waits("BrokersUnknown", why.clone()),
        Known::Is(Some(there)) if there.id_text() == known => {
            Plan { steps: vec![Step::Delete(there.id)], ..waits("Deleting", "the topic is being deleted".to_owned()) }
        }
        Known::Is(_) => gone("the topic is gone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ID: Uuid = Uuid::from_bytes([1; 16]);

    /// The resource, and what its status says of the topic's id and of the configs that it has set.
    fn topic(spec: &Value, id: Option<Uuid>, managed: &[&str]) -> ChronikTopic {
        let mut spec = spec.clone();
        spec["cluster"] = json!("demo");
        let id = id.map(chronik_wire::messages::topic_id_text);
        serde_json::from_value(json!({
            "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikTopic",
            "metadata": { "name": "orders", "namespace": "default" }, "spec": spec,
            "status": { "topicId": id, "managedConfig": managed }
        }))
        .unwrap()
    }

    fn there(partitions: i32, configs: &[(&str, &str)]) -> KafkaTopic {
        KafkaTopic {
            id: ID,
            partitions,
            factors: [3].into(),
            leaderless: 0,
            configs: configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn observed(topic: Option<KafkaTopic>) -> Observed {
        Observed { cluster: ClusterState::There, rival: None, topic: Known::Is(topic) }
    }

    fn planned(topic: &ChronikTopic, observed: &Observed) -> String {
        let made = plan(topic, observed);
        let steps = made.steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("{}: {steps}", made.finding.reason)
    }

    #[test]
    fn a_topic_becomes_what_its_spec_says_and_never_shrinks() {
        for (spec, managed, found, expected) in [
            (json!({ "partitions": 3 }), &[][..], None, "Creating: create the topic"),
            (json!({ "partitions": 3 }), &[], Some(there(3, &[])), "AsSpecified: "),
            (json!({}), &[], Some(there(3, &[("retention.ms", "1")])), "AsSpecified: "),
            (json!({ "partitions": 6 }), &[], Some(there(3, &[])), "Changing: give it 6 partitions"),
            (json!({ "partitions": 2 }), &[], Some(there(3, &[])), "MorePartitions: "),
            (json!({ "replicas": 2 }), &[], Some(there(3, &[])), "OtherReplicas: "),
            (json!({ "replicas": 3 }), &[], Some(there(3, &[])), "AsSpecified: "),
            (
                json!({ "config": { "retention.ms": 5 } }),
                &["retention.ms"],
                Some(there(3, &[("retention.ms", "7")])),
                "Changing: set retention.ms to 5",
            ),
            (
                json!({ "config": { "cleanup.policy": "compact, delete" } }),
                &["cleanup.policy"],
                Some(there(3, &[("cleanup.policy", "delete,compact")])),
                "AsSpecified: ",
            ),
            (json!({}), &["retention.ms"], Some(there(3, &[("retention.ms", "7")])), "Changing: reset retention.ms"),
            (json!({}), &["retention.ms"], Some(there(3, &[])), "AsSpecified: "),
            (json!({ "topicName": "__consumer_offsets" }), &[], Some(there(3, &[])), "InvalidSpec: "),
            (json!({ "topicName": ".." }), &[], None, "InvalidSpec: "),
        ] {
            let found = observed(found);
            assert_eq!(planned(&topic(&spec, None, managed), &found), expected, "{spec} {managed:?} {found:?}");
        }
    }

    #[test]
    fn nothing_is_done_while_it_is_not_known_what_there_is_or_to_whom_it_belongs() {
        let spec = json!({ "partitions": 6 });
        let all = observed(Some(there(3, &[])));
        for (observed, reason) in [
            (Observed { topic: Known::Unknown("no broker".to_owned()), ..all.clone() }, "BrokersUnknown"),
            (Observed { cluster: ClusterState::Missing, ..all.clone() }, "ClusterNotFound"),
            (Observed { cluster: ClusterState::Leaving, ..all.clone() }, "ClusterLeaving"),
            (Observed { cluster: ClusterState::Paused, ..all.clone() }, "Paused"),
            (Observed { rival: Some("older".to_owned()), ..all.clone() }, "TopicTaken"),
        ] {
            assert_eq!(planned(&topic(&spec, Some(ID), &[]), &observed), format!("{reason}: "));
        }
    }

    #[test]
    fn a_topic_is_deleted_with_its_resource_only_where_that_is_asked_for_and_it_is_that_very_topic() {
        let (delete, retain) = (json!({ "deletionPolicy": "Delete" }), json!({}));
        let other = KafkaTopic { id: Uuid::from_bytes([2; 16]), ..there(3, &[]) };
        let all = observed(Some(there(3, &[])));
        let unknown = Observed { topic: Known::Unknown("no broker".to_owned()), ..all.clone() };
        let missing = Observed { cluster: ClusterState::Missing, ..unknown.clone() };
        let paused = Observed { cluster: ClusterState::Paused, ..all.clone() };
        for (spec, id, observed, steps, kept) in [
            (&delete, Some(ID), &all, 1, true),
            (&retain, Some(ID), &all, 0, false),
            (&delete, None, &all, 0, false),
            (&delete, Some(ID), &observed(Some(other)), 0, false),
            (&delete, Some(ID), &observed(None), 0, false),
            (&delete, Some(ID), &unknown, 0, true),
            (&delete, Some(ID), &paused, 0, true),
            (&delete, Some(ID), &missing, 0, false),
        ] {
            let mut topic = topic(spec, id, &[]);
            topic.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
            let made = plan(&topic, observed);
            assert_eq!((made.steps.len(), made.finalizer), (steps, kept), "{spec} {id:?} {observed:?}");
        }
        assert!(plan(&topic(&delete, None, &[]), &all).finalizer);
        assert!(!plan(&topic(&retain, None, &[]), &all).finalizer);
    }
}
