//! Brokers that are given nothing new, emptied and removed.

use super::confirm::View;
use super::permits::{about, about_partitions, known};
use super::{Calls, Failure};
use api::refusal::Kind;
use chronik_admin as api;
use chronik_core::cluster::MetadataCommand;
use chronik_core::ids::BrokerId;
use openraft::ChangeMembers;
use std::collections::BTreeSet;
use tonic::Status;

impl Calls {
    pub(super) async fn cordon(&self, request: api::CordonRequest) -> Result<api::CordonResponse, Failure> {
        self.set_cordoned(BrokerId(request.broker), true).await?;
        Ok(api::CordonResponse {})
    }

    pub(super) async fn uncordon(&self, request: api::UncordonRequest) -> Result<api::UncordonResponse, Failure> {
        self.set_cordoned(BrokerId(request.broker), false).await?;
        Ok(api::UncordonResponse {})
    }

    async fn set_cordoned(&self, broker: BrokerId, cordoned: bool) -> Result<(), Failure> {
        let view = self.view().await?;
        known(&view.image, broker)?;
        if view.image.brokers.get(&broker).is_some_and(|b| b.cordoned == cordoned) {
            return Ok(());
        }
        let (outcome, _) = self.propose(MetadataCommand::Cordon { broker, cordoned }).await?;
        outcome.map_err(|refusal| Status::failed_precondition(refusal.to_string()))?;
        Ok(())
    }

    /// One that is no member (any more) is removed already.
    pub(super) async fn remove_broker(
        &self,
        request: api::RemoveBrokerRequest,
    ) -> Result<api::RemoveBrokerResponse, Failure> {
        let broker = BrokerId(request.broker);
        let view = self.view().await?;
        let refusals = speak_against_removal(&view, broker);
        if !refusals.is_empty() {
            return Ok(api::RemoveBrokerResponse { refusals });
        }
        if view.quorum.observers.iter().any(|m| m.id == broker) {
            self.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([broker]))).await?;
        }
        if !view.image.brokers.contains_key(&broker) {
            return Ok(api::RemoveBrokerResponse::default());
        }
        let (outcome, _) = self.propose(MetadataCommand::UnregisterBroker { id: broker }).await?;
        outcome.map_err(|refusal| Status::failed_precondition(refusal.to_string()))?;
        Ok(api::RemoveBrokerResponse::default())
    }
}

fn speak_against_removal(view: &View, broker: BrokerId) -> Vec<api::Refusal> {
    let mut refusals = Vec::new();
    if view.quorum.is_voter(broker) {
        refusals.push(about(
            Kind::IsVoter,
            format!("broker {broker} votes in the controller quorum: remove its vote first"),
        ));
    }
    let held = view.image.replicas_on(broker);
    if !held.is_empty() {
        let text = format!("broker {broker} holds replicas of {} partitions", held.len());
        refusals.push(about_partitions(&view.image, Kind::HoldsReplicas, text, &held));
    }
    if view.image.alive(broker).is_some() {
        refusals.push(about(Kind::Runs, format!("broker {broker} runs")));
    }
    refusals
}
