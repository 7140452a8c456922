//! `ChronikTopic`: observe → plan → apply, through the Kafka protocol.

mod controller;
mod observe;
pub mod plan;
mod status;

pub use controller::run;

use crate::MANAGER;
use crate::brokers::{Contact, Unanswered};
use crate::events::{Events, News};
use crate::kafka::Kafka;
use crate::metrics::Metrics;
use crate::reconcile::ReconcileError;
use crate::reconcile::observe::ready_contact;
use chronik_crds::{ChronikTopic, ChronikTopicStatus};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use plan::{Finding, Observed, Plan, Step, kafka_name, wanted_configs};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

/// How soon to look again when something was done.
const AT_ONCE: Duration = Duration::from_millis(100);
/// The same while something is waited for that no watch tells of.
const LATER: Duration = Duration::from_secs(5);
/// How often a topic is compared with its spec when nothing is under way.
const AT_REST: Duration = Duration::from_mins(1);

/// Keeps the resource, when it is deleted, until its topic is.
pub const FINALIZER: &str = "chronik.io/topic";

/// What reconciles of topics work with.
#[derive(Clone)]
pub struct TopicReconciler {
    /// The API server.
    pub client: Client,
    /// The brokers, through the Kafka protocol.
    pub kafka: Arc<dyn Kafka>,
    /// Where events go.
    pub events: Events,
    /// What this operator is known by to others; without it, it looks after every cluster.
    pub operator: Option<String>,
    /// What is counted.
    pub metrics: Metrics,
}

impl TopicReconciler {
    /// Makes the topic of that resource what its spec says, as far as that can be done now. Returns how soon to look again
    /// although nothing changes; `None` if the resource is gone, or another operator's.
    pub async fn reconcile(&self, namespace: &str, name: &str) -> Result<Option<Duration>, ReconcileError> {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource());
        let Some(stored) = api.get_opt(name).await.map_err(ReconcileError::Observe)? else { return Ok(None) };
        let topic = match readable(&stored) {
            Ok(topic) => topic,
            // It is not known which topic is to be deleted with it: the topic stays, and the resource need not.
            Err(_) if stored.metadata.deletion_timestamp.is_some() => {
                if has_finalizer(&stored.metadata) {
                    self.set_finalizer(&stored.metadata, false).await?;
                }
                return Ok(None);
            }
            Err(error) => {
                let finding = Finding::not("InvalidSpec", format!("the resource cannot be read: {error}"));
                self.report_unreadable(&stored, &finding).await?;
                return Ok(Some(AT_REST));
            }
        };
        let cluster =
            observe::cluster(&self.client, namespace, &topic.spec.cluster).await.map_err(ReconcileError::Observe)?;
        if let (Some(me), Some(other)) = (&self.operator, &cluster.operator)
            && me != other
        {
            // Its condition is the other one's to write.
            let note = format!("{me} leaves it to {other}, which looks after the cluster {}", topic.spec.cluster);
            let news = News { reason: "OtherOperator".to_owned(), note, action: "Reconcile", ..News::default() };
            self.events.publish_once(&topic.object_ref(&()), news).await;
            return Ok(None);
        }
        let observed =
            observe::observe(&self.client, &*self.kafka, &topic, &cluster).await.map_err(ReconcileError::Observe)?;
        self.follow(&topic, &observed, plan::plan(&topic, &observed), cluster.id.as_deref()).await.map(Some)
    }

    async fn follow(
        &self,
        topic: &ChronikTopic,
        observed: &Observed,
        plan: Plan,
        cluster: Option<&str>,
    ) -> Result<Duration, ReconcileError> {
        let leaving = topic.metadata.deletion_timestamp.is_some();
        if has_finalizer(&topic.metadata) != plan.finalizer && (!leaving || !plan.finalizer) {
            self.set_finalizer(&topic.metadata, plan.finalizer).await?;
            return Ok(AT_ONCE);
        }
        if leaving && !plan.finalizer {
            return Ok(AT_REST);
        }
        // Which configs are to be reset one day is written before they are set.
        let before = topic.status.clone().unwrap_or_default();
        if wanted_configs(topic).keys().any(|name| !before.managed_config.contains(name)) && !plan.steps.is_empty() {
            let managed = status::managed(topic, &before, None);
            self.write_status(topic, &ChronikTopicStatus { managed_config: managed, ..before }).await?;
            return Ok(Duration::ZERO);
        }
        let mut finding = plan.finding;
        let mut done = false;
        for step in &plan.steps {
            match self.take(topic, step, cluster).await? {
                Ok(()) => {
                    done = true;
                    self.publish_change(topic, &before, step).await;
                }
                Err(why) => {
                    finding = why;
                    break;
                }
            }
        }
        let again = match (done, finding.ready) {
            (true, _) => AT_ONCE,
            (false, true) => AT_REST,
            (false, false) => LATER,
        };
        self.report(topic, observed, &finding).await?;
        Ok(again)
    }

    /// Takes a step, of brokers of this cluster; returns what to report where it could not be taken.
    async fn take(
        &self,
        topic: &ChronikTopic,
        step: &Step,
        cluster: Option<&str>,
    ) -> Result<Result<(), Finding>, ReconcileError> {
        let namespace = topic.namespace().unwrap_or_default();
        let contact = ready_contact(&self.client, (&namespace, &topic.spec.cluster), cluster).await;
        let Some(contact) = contact.map_err(ReconcileError::Observe)? else {
            return Ok(Err(Finding::not("BrokersUnknown", "no broker is ready")));
        };
        Ok(self.ask(contact, kafka_name(topic), step.clone()).await.map_err(|error| {
            let reason = match &error {
                Unanswered::Refused(_) => "BrokersRefuse",
                Unanswered::Unsupported(_) => "NotSupported",
                Unanswered::Unsure(_) => "BrokersUnknown",
            };
            Finding::not(reason, format!("{step}: {error}"))
        }))
    }

    async fn ask(&self, contact: Contact, name: String, step: Step) -> Result<(), Unanswered> {
        match step {
            Step::Create(topic) => self.kafka.create_topic(contact, topic).await,
            Step::Grow(partitions) => self.kafka.grow_topic(contact, name, partitions).await,
            Step::Configs(changes) => self.kafka.alter_topic_configs(contact, name, changes).await,
            Step::Delete(id) => self.kafka.delete_topic(contact, id).await,
        }
    }

    /// Logs and publishes a change. One that no change of the spec asked for corrects what somebody else has done.
    async fn publish_change(&self, topic: &ChronikTopic, before: &ChronikTopicStatus, step: &Step) {
        let (name, namespace) = (topic.name_any(), topic.namespace());
        let drifted = before.topic_id.is_some() && before.observed_generation == topic.metadata.generation;
        info!(topic = %name, namespace, %step, drifted, "changed a topic");
        let (warning, reason, note) = match step {
            Step::Create(_) if before.topic_id.is_some() => {
                (true, "TopicRecreated", "the topic was deleted by somebody else, with its records".to_owned())
            }
            Step::Grow(_) | Step::Configs(_) if drifted => (true, "DriftCorrected", step.to_string()),
            _ => (false, step.reason(), step.to_string()),
        };
        let news = News { warning, reason: reason.to_owned(), note, action: "Reconcile", ..News::default() };
        self.events.publish(&topic.object_ref(&()), news).await;
    }

    async fn report(&self, topic: &ChronikTopic, observed: &Observed, finding: &Finding) -> Result<(), ReconcileError> {
        let before = topic.status.clone().unwrap_or_default();
        let found = observed.topic.known().and_then(Option::as_ref);
        let after = status::report(topic, &before, found, finding, Timestamp::now());
        if after == before {
            return Ok(());
        }
        self.write_status(topic, &after).await?;
        for news in status::news(&before, &after) {
            self.events.publish(&topic.object_ref(&()), news).await;
        }
        Ok(())
    }

    async fn report_unreadable(&self, stored: &DynamicObject, finding: &Finding) -> Result<(), ReconcileError> {
        let before = serde_json::from_value::<ChronikTopicStatus>(stored.data["status"].clone()).unwrap_or_default();
        let (generation, now) = (stored.metadata.generation, Timestamp::now());
        let condition = status::condition(&before.conditions, finding, generation, now);
        let after = ChronikTopicStatus { conditions: vec![condition], ..before.clone() };
        if after == before {
            return Ok(());
        }
        self.patch_status(&stored.metadata, &json!(after)).await
    }

    async fn write_status(&self, topic: &ChronikTopic, status: &ChronikTopicStatus) -> Result<(), ReconcileError> {
        self.patch_status(&topic.metadata, &json!(status)).await
    }

    /// Of the resource as it was read alone.
    async fn patch_status(&self, metadata: &ObjectMeta, status: &Value) -> Result<(), ReconcileError> {
        let body = json!({
            "apiVersion": ChronikTopic::api_version(&()),
            "kind": ChronikTopic::kind(&()),
            "metadata": { "uid": metadata.uid, "resourceVersion": metadata.resource_version },
            "status": status,
        });
        let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref());
        self.metrics.wrote();
        Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource())
            .patch_status(name.unwrap_or_default(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body))
            .await
            .map(|_| ())
            .map_err(ReconcileError::Status)
    }

    async fn set_finalizer(&self, of: &ObjectMeta, wanted: bool) -> Result<(), ReconcileError> {
        let mut finalizers = of.finalizers.clone().unwrap_or_default();
        finalizers.retain(|known| known != FINALIZER);
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        let metadata = json!({ "uid": of.uid, "resourceVersion": of.resource_version, "finalizers": finalizers });
        self.metrics.wrote();
        let (namespace, name) = (of.namespace.as_deref().unwrap_or_default(), of.name.as_deref());
        Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource())
            .patch(name.unwrap_or_default(), &PatchParams::default(), &Patch::Merge(json!({ "metadata": metadata })))
            .await
            .map(|_| ())
            .map_err(ReconcileError::Status)
    }
}

fn resource() -> ApiResource {
    ApiResource::erase::<ChronikTopic>(&())
}

fn has_finalizer(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.iter().flatten().any(|known| known == FINALIZER)
}

fn readable(stored: &DynamicObject) -> Result<ChronikTopic, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(stored)?)
}
