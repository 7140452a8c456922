//! What a drain of nodes may take away follows what there is, whatever else fails: a budget that stays open while brokers
//! have yet to catch up lets a drain take one too many.

use super::build::{self, Place};
use super::observe::{self, Observed};
use super::plan::{self, Plan};
use super::{ReconcileError, Reconciler, in_time, readable, resource, stand_in};
use chronik_crds::ChronikCluster;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{DynamicObject, ObjectMeta};
use kube::{Api, Resource, ResourceExt};

impl Reconciler {
    /// Brings the budget of disruptions, and nothing else, to what is so now: for a cluster whose reconcile failed, until
    /// that is tried again. `watched` is what is known of the resource if it cannot be read.
    pub async fn guard(&self, watched: &ObjectMeta) -> Result<(), ReconcileError> {
        let (name, namespace) =
            (watched.name.clone().unwrap_or_default(), watched.namespace.clone().unwrap_or_default());
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, &resource());
        let stored = match in_time(async { api.get_opt(&name).await.map_err(ReconcileError::Observe) }).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(()),
            Err(error) => {
                let stored = DynamicObject { metadata: watched.clone(), ..DynamicObject::new(&name, &resource()) };
                self.close_budget(&stand_in(stored, 0)).await?;
                return Err(error);
            }
        };
        if stored.metadata.deletion_timestamp.is_some() || self.other_operator(&stored).is_some() {
            return Ok(());
        }
        let observing = async {
            let observed = observe::objects(&self.client, &namespace, &name).await;
            let mut observed = observed.map_err(ReconcileError::Observe)?;
            let known = stored.data["status"]["clusterId"].as_str();
            observed.facts = observe::facts(&*self.brokers, (&namespace, &name), &observed.pods, known).await;
            Ok::<_, ReconcileError>(observed)
        };
        let (read, observed) = (readable(&stored), in_time(Box::pin(observing)).await);
        let cluster = read.as_ref().map_or_else(|_| stand_in(stored, 0), Clone::clone);
        let observed = match observed {
            Ok(observed) => observed,
            Err(error) => {
                self.close_budget(&cluster).await?;
                return Err(error);
            }
        };
        let planned =
            read.ok().and_then(|cluster| plan::plan(&self.validate(&cluster, &observed).ok()?, &observed).ok());
        match planned {
            Some(plan) => self.guard_pods(&cluster, &observed, &plan).await.map(|_| ()),
            None => self.guard_what_runs(&cluster, &observed).await,
        }
    }

    /// Writes the plan's budget, if there is a pod to protect. Returns whether it was another.
    pub(super) async fn guard_pods(
        &self,
        cluster: &ChronikCluster,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<bool, ReconcileError> {
        let mut wrote = false;
        let namespace = cluster.namespace().unwrap_or_default();
        for budget in plan.objects.iter().filter(|desired| desired.is_budget() && !observed.pods.is_empty()) {
            wrote |= self.write(cluster, &namespace, budget).await?;
        }
        Ok(wrote)
    }

    /// The same of a cluster whose spec is not followed.
    pub(super) async fn guard_what_runs(
        &self,
        cluster: &ChronikCluster,
        observed: &Observed,
    ) -> Result<(), ReconcileError> {
        let (brokers, max_unavailable) = plan::budget::of_what_runs(observed);
        self.write_budget(cluster, brokers, max_unavailable).await
    }

    /// Lets a drain of nodes take nothing of a cluster of which nothing is known. A single broker has no budget.
    pub(super) async fn close_budget(&self, cluster: &ChronikCluster) -> Result<(), ReconcileError> {
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let last = cluster.status.as_ref().map_or(0, |status| status.replicas);
        let mut brokers = last.max(cluster.spec.replicas);
        if brokers <= 1 {
            // What was said of it last may be too little: one that has a budget has more.
            let budgets = Api::<PodDisruptionBudget>::namespaced(self.client.clone(), &namespace);
            let there = budgets.get_opt(&name).await.map_err(ReconcileError::Observe)?.is_some();
            brokers = if there { 2 } else { brokers };
        }
        self.write_budget(cluster, brokers, 0).await
    }

    async fn write_budget(
        &self,
        cluster: &ChronikCluster,
        brokers: i32,
        max_unavailable: i32,
    ) -> Result<(), ReconcileError> {
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let Some(owner) = cluster.controller_owner_ref(&()) else { return Ok(()) };
        let place = Place { name: &name, namespace: &namespace, owner: &owner };
        if let Some(budget) = build::budget(&place, brokers, max_unavailable)? {
            self.write(cluster, &namespace, &budget).await?;
        }
        Ok(())
    }
}
