//! Brokers that are given nothing new, emptied and removed.

use super::permits::known;
use super::{Calls, Failure};
use chronik_admin as api;
use chronik_core::cluster::MetadataCommand;
use chronik_core::ids::BrokerId;
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

    #[expect(clippy::unused_async, reason = "as the other calls are")]
    pub(super) async fn drain(&self, _: api::DrainRequest) -> Result<api::DrainResponse, Failure> {
        Err(Status::unimplemented("this version moves no replicas by itself").into())
    }

    #[expect(clippy::unused_async, reason = "as the other calls are")]
    pub(super) async fn remove_broker(
        &self,
        _: api::RemoveBrokerRequest,
    ) -> Result<api::RemoveBrokerResponse, Failure> {
        Err(Status::unimplemented("this version removes no brokers").into())
    }

    #[expect(clippy::unused_async, reason = "as the other calls are")]
    pub(super) async fn change_voters(
        &self,
        _: api::ChangeVotersRequest,
    ) -> Result<api::ChangeVotersResponse, Failure> {
        Err(Status::unimplemented("this version does not change who votes").into())
    }
}
