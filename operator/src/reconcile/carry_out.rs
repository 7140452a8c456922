//! What carries out a plan: in which order, which Events it publishes, and what keeps it from being done.

use super::apply::{self, Changed, Done, NOT_SUPPORTED, Outcome, REFUSED, Taker};
use super::build::Desired;
use super::observe::{Observed, PodState, in_time};
use super::plan::balance::Progress;
use super::plan::{self, Plan, Step, Wait};
use super::validate::Cluster;
use super::{ReconcileError, Reconciler};
use crate::brokers::{Contact, Unanswered};
use crate::events::{NOTE_MAX, News};
use crate::kafka::in_words;
use crate::status;
use chronik_crds::{ChronikCluster, PlanStatus};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, PersistentVolumeClaim, Service};
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use tracing::{info, warn};

/// So many objects of a cluster are looked at, and written, at the same time: one after another they are most of a reconcile.
/// No more than are read at once, as each takes a connection, and many clusters may be reconciled at the same time.
const TOGETHER: usize = 4;

/// What applying a plan came to.
pub(super) struct Applied {
    pub(super) wrote: bool,
    pub(super) plan: Option<PlanStatus>,
    /// How far partitions are spread over brokers that have joined, if that was the step.
    pub(super) spread: Option<Progress>,
    /// Whether some of it could not be done, and may not be for long.
    pub(super) refused: bool,
}

impl Reconciler {
    /// Makes what there is into what the plan says, and takes its step if nothing else was to be done.
    pub(super) async fn apply(
        &self,
        cluster: &ChronikCluster,
        valid: &Cluster,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<Applied, ReconcileError> {
        // Before anything that may fail: a drain of nodes waits for nothing else.
        let mut wrote = false;
        for budget in plan.objects.iter().filter(|desired| desired.is_budget()) {
            wrote |= self.write(cluster, &valid.namespace, budget).await?;
        }
        // Before the objects: a pod that is not wanted any more goes when its volume is marked.
        let (changed, does_not_grow) = self.change_volumes(cluster, valid, plan).await?;
        wrote |= changed;
        let mut made = Vec::new();
        let written = self.write_objects(cluster, &valid.namespace, plan, &mut made).await;
        self.publish_made(cluster, &made).await;
        wrote |= written?;
        for map in &plan.deletions {
            if apply::delete::<ConfigMap>(&self.client, &valid.namespace, map, None).await? {
                let resource = ApiResource::erase::<ConfigMap>(&());
                self.publish_change(cluster, &resource, map.name.clone(), Outcome::Deleted).await;
            }
        }
        for service in &plan.services {
            if apply::delete::<Service>(&self.client, &valid.namespace, service, None).await? {
                let resource = ApiResource::erase::<Service>(&());
                self.publish_change(cluster, &resource, service.name.clone(), Outcome::Deleted).await;
            }
        }
        let (all, single) = futures::join!(
            self.configure(cluster, valid, observed, plan),
            self.configure_single_brokers(valid, observed, plan)
        );
        let refused = all.or(single).or(does_not_grow);
        // A step is decided on what was observed: it is not taken on what has just been changed.
        let mut applied = if wrote {
            Applied { wrote, plan: status::plan::report(plan), spread: None, refused: false }
        } else {
            self.take_step(cluster, valid, observed, plan).await?
        };
        applied.refused |= refused.is_some();
        if applied.plan.is_none() {
            applied.plan = refused.as_ref().map(status::plan::of_wait);
        }
        Ok(applied)
    }

    /// Makes all objects but the budget what the plan says; returns whether any was another. What was not there is added to
    /// `made`, in words.
    async fn write_objects(
        &self,
        cluster: &ChronikCluster,
        namespace: &str,
        plan: &Plan,
        made: &mut Vec<String>,
    ) -> Result<bool, ReconcileError> {
        let mut wrote = false;
        let others = plan.objects.iter().filter(|desired| !desired.is_budget());
        // What pods refer to comes before the pods, and nothing else of it depends on anything else.
        let (sets, others): (Vec<_>, Vec<_>) = others.partition(|desired| desired.makes_pods());
        for objects in others.chunks(TOGETHER).chain(sets.chunks(1)) {
            let writes = objects.iter().map(|desired| apply::apply(&self.client, namespace, desired));
            let outcomes = join_all(writes).await;
            let mut failed = None;
            for (desired, outcome) in objects.iter().zip(outcomes) {
                match outcome {
                    Ok(Outcome::Created) => {
                        let name = desired.object.name_any();
                        self.count_change(cluster, &desired.resource, &name, Outcome::Created);
                        // What makes the pods comes last, and is what is looked for first.
                        let place = if desired.makes_pods() { 0 } else { made.len() };
                        made.insert(place, format!("{} {name}", desired.resource.kind));
                        wrote = true;
                    }
                    Ok(outcome) => wrote |= self.tell_of(cluster, desired, outcome).await,
                    Err(error) if failed.is_none() => failed = Some(error),
                    // The first one is in the status.
                    Err(error) => {
                        warn!(cluster = %cluster.name_any(), %namespace, %error, "cannot apply an object either");
                    }
                }
            }
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(wrote)
    }

    /// One Event for all objects that were made at once: a new cluster has ten, and each Event is a write.
    async fn publish_made(&self, cluster: &ChronikCluster, made: &[String]) {
        if made.is_empty() {
            return;
        }
        let note = made_in_words(made, NOTE_MAX);
        let news = News { reason: "Created".to_owned(), note, action: "Apply", ..News::default() };
        self.events.publish(&cluster.object_ref(&()), news).await;
    }

    /// Makes one object as it should be; returns whether it was another.
    pub(super) async fn write(
        &self,
        cluster: &ChronikCluster,
        namespace: &str,
        desired: &Desired,
    ) -> Result<bool, ReconcileError> {
        let outcome = apply::apply(&self.client, namespace, desired).await?;
        Ok(self.tell_of(cluster, desired, outcome).await)
    }

    /// Tells what was done to an object, if anything was; returns whether it was another.
    async fn tell_of(&self, cluster: &ChronikCluster, desired: &Desired, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Unchanged => return false,
            // What comes after it is decided again.
            Outcome::Overtaken => return true,
            Outcome::Created | Outcome::Updated | Outcome::Deleted => {}
        }
        self.publish_change(cluster, &desired.resource, desired.object.name_any(), outcome).await;
        true
    }

    /// Changes volumes' claims. Returns whether any was changed, or is another by now, and whether one does not grow.
    async fn change_volumes(
        &self,
        cluster: &ChronikCluster,
        valid: &Cluster,
        plan: &Plan,
    ) -> Result<(bool, Option<Wait>), ReconcileError> {
        let (mut changed, mut does_not_grow) = (false, None);
        for change in &plan.volumes {
            match apply::change(&self.client, &valid.namespace, change).await? {
                Changed::Done => {
                    changed = true;
                    let claim = ApiResource::erase::<PersistentVolumeClaim>(&());
                    self.publish_change(cluster, &claim, change.claim.name.clone(), Outcome::Updated).await;
                }
                Changed::Overtaken => changed = true,
                Changed::DoesNotGrow(message) => {
                    let action = format!("grow the volume {}", change.claim.name);
                    does_not_grow.get_or_insert(Wait { action, reason: plan::DOES_NOT_GROW, message });
                }
            }
        }
        Ok((changed, does_not_grow))
    }

    /// Gives all brokers what they take up while they run. Returns what speaks against it.
    async fn configure(
        &self,
        cluster: &ChronikCluster,
        valid: &Cluster,
        observed: &Observed,
        plan: &Plan,
    ) -> Option<Wait> {
        if plan.config.is_empty() {
            return None;
        }
        let wait = |reason, message: String| Wait { action: plan::config::ACTION.to_owned(), reason, message };
        let ready = observed.pods.iter().filter(|pod| pod.state == PodState::Ready).cloned().collect::<Vec<_>>();
        let Some(contact) = Contact::of(&valid.namespace, &valid.name, &ready) else {
            return Some(wait("BrokersUnknown", "no broker is ready".to_owned()));
        };
        let (contact, words) = (contact.of_cluster(observed.cluster.as_deref()), in_words(&plan.config));
        match in_time(self.kafka.alter_cluster_configs(contact, plan.config.clone())).await {
            Ok(()) => {
                self.metrics.wrote();
                info!(cluster = %valid.name, namespace = %valid.namespace, changes = %words, "configured brokers");
                let news =
                    News { reason: "ConfigChanged".to_owned(), note: words, action: "Configure", ..News::default() };
                self.events.publish(&cluster.object_ref(&()), news).await;
                None
            }
            Err(Unanswered::Refused(why)) => Some(wait("ConfigRefused", format!("{words}: {why}"))),
            Err(error) => Some(wait("BrokersUnknown", error.to_string())),
        }
    }

    /// Changes the configs of single brokers, of all of them at once. Returns what speaks against it.
    pub(super) async fn configure_single_brokers(
        &self,
        valid: &Cluster,
        observed: &Observed,
        plan: &Plan,
    ) -> Option<Wait> {
        let changed = plan.broker_configs.iter().map(async |(broker, changes)| {
            let pods = observed.pods.iter().filter(|pod| pod.ordinal == *broker).cloned().collect::<Vec<_>>();
            let contact = Contact::of(&valid.namespace, &valid.name, &pods)?.of_cluster(observed.cluster.as_deref());
            let words = in_words(changes);
            let (reason, message) =
                match in_time(self.kafka.alter_broker_configs(contact, *broker, changes.clone())).await {
                    Ok(()) => {
                        self.metrics.wrote();
                        let (cluster, namespace) = (&valid.name, &valid.namespace);
                        info!(%cluster, %namespace, broker, changes = %words, "told a broker");
                        return None;
                    }
                    Err(Unanswered::Refused(why)) => ("ConfigRefused", format!("broker {broker}: {words}: {why}")),
                    Err(error) => ("BrokersUnknown", format!("broker {broker}: {error}")),
                };
            Some(Wait { action: plan::outside::ACTION.to_owned(), reason, message })
        });
        join_all(changed).await.into_iter().flatten().next()
    }

    async fn take_step(
        &self,
        cluster: &ChronikCluster,
        valid: &Cluster,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<Applied, ReconcileError> {
        let contact = Contact::of(&valid.namespace, &valid.name, &observed.pods);
        let taker = Taker { client: &self.client, brokers: &*self.brokers, namespace: &valid.namespace, contact };
        let mut steps = plan.step.iter().chain(&plan.otherwise);
        let Some(mut step) = steps.next() else {
            let plan = status::plan::report(plan);
            return Ok(Applied { wrote: false, plan, spread: None, refused: false });
        };
        let mut done = taker.take(step).await?;
        if let (Done::Waits(Wait { reason: NOT_SUPPORTED | REFUSED, .. }), Some(otherwise)) = (&done, steps.next()) {
            // Nothing was begun. What brokers do not know yet may be what a restart brings them, and what they refuse they may
            // refuse for ever.
            step = otherwise;
            done = taker.take(step).await?;
        }
        if done == Done::Taken {
            self.metrics.wrote();
            info!(cluster = %valid.name, namespace = %valid.namespace, %step, "took a step");
            let news =
                News { reason: step.reason().to_owned(), note: step.to_string(), action: "Step", ..News::default() };
            self.events.publish(&cluster.object_ref(&()), news).await;
        }
        let spread = match (step, &done) {
            (Step::Balance { .. }, Done::Taken) => Some(Progress::Done),
            (Step::Balance { .. }, Done::Waits(wait)) if wait.reason == plan::balance::UNDER_WAY => {
                Some(Progress::UnderWay)
            }
            _ => None,
        };
        let (plan, refused) = match &done {
            Done::Waits(wait) => (Some(status::plan::of_wait(wait)), true),
            Done::Taken | Done::Overtaken => (Some(status::plan::of_step(step)), false),
        };
        Ok(Applied { wrote: false, plan, spread, refused })
    }

    /// Counts and logs a change of an object.
    fn count_change(&self, cluster: &ChronikCluster, resource: &ApiResource, name: &str, outcome: Outcome) {
        let (kind, namespace) = (&resource.kind, cluster.namespace().unwrap_or_default());
        self.metrics.wrote();
        info!(cluster = %cluster.name_any(), %namespace, %kind, object = %name, ?outcome, "applied");
    }

    /// Counts, logs and publishes a change of an object.
    async fn publish_change(&self, cluster: &ChronikCluster, resource: &ApiResource, name: String, outcome: Outcome) {
        self.count_change(cluster, resource, &name, outcome);
        let (kind, namespace) = (&resource.kind, cluster.namespace().unwrap_or_default());
        let done = match outcome {
            Outcome::Created => "Created",
            Outcome::Deleted => "Deleted",
            Outcome::Updated | Outcome::Unchanged | Outcome::Overtaken => "Updated",
        };
        let news = News {
            warning: false,
            reason: done.to_owned(),
            note: format!("{done} {kind} {name}"),
            action: "Apply",
            related: Some(ObjectReference {
                api_version: Some(resource.api_version.clone()),
                kind: Some(kind.clone()),
                namespace: Some(namespace),
                name: Some(name),
                ..ObjectReference::default()
            }),
        };
        self.events.publish(&cluster.object_ref(&()), news).await;
    }
}

/// What was made, in so many bytes at most: the first names that have room, and how many more there are.
fn made_in_words(made: &[String], most: usize) -> String {
    let all = format!("Created {}", made.join(", "));
    if all.len() <= most {
        return all;
    }
    let first = |count: usize| format!("Created {} and {} more", made[..count].join(", "), made.len() - count);
    (1..made.len()).rev().map(first).find(|note| note.len() <= most).unwrap_or(all)
}

#[cfg(test)]
mod tests {
    use super::made_in_words;

    #[test]
    fn what_has_no_room_in_an_event_is_counted() {
        let made = ["StatefulSet demo", "Service a", "Service b", "Service last-one"].map(str::to_owned);
        let all = "Created StatefulSet demo, Service a, Service b, Service last-one";
        let some = "Created StatefulSet demo, Service a and 2 more";
        for (most, words) in [
            (all.len(), all),
            (all.len() - 1, "Created StatefulSet demo, Service a, Service b and 1 more"),
            (some.len(), some),
            (some.len() - 1, "Created StatefulSet demo and 3 more"),
        ] {
            assert_eq!(made_in_words(&made, most), words, "{most} bytes");
        }
    }
}
