//! A broker's process is told to stop, or to hand over what it leads.

use super::calls::Call as _;
use super::facts::{count, named, permit};
use super::permits::{incarnation, known};
use super::{Calls, Client, Failure, TIMEOUT, admin_request, answer_of, said, unsure};
use chronik_admin as api;
use chronik_core::cluster::{Answer, Image, Leaving, MetadataCommand, ResignReason, ResignedPartitions};
use chronik_core::ids::BrokerId;
use prost::Message as _;
use std::time::Duration;
use tonic::Status;

/// The leader's order to a broker, under a name that no client's call has.
pub(super) const HERE: &str = "stop-here";
/// A broker that was told to stop begins after so long: the answer has to leave it.
const GRACE: Duration = Duration::from_millis(100);
/// It asks the leader before that, which waits for its answer.
const CONFIRM: Duration = TIMEOUT.saturating_sub(Duration::from_millis(500));

impl Calls {
    /// Only who holds the permit is stopped.
    pub(super) async fn stop(&self, request: api::StopRequest) -> Result<api::StopResponse, Failure> {
        let (broker, process) = (BrokerId(request.broker), incarnation(&request.incarnation)?);
        let view = self.view().await?;
        known(&view.image, broker)?;
        let held = permit(&view).is_some_and(|p| {
            p.id == request.permit && p.broker == request.broker && p.incarnation == process.to_string()
        });
        if !held {
            let why = format!("broker {broker} does not hold that permit: ask for one first");
            return Err(Status::failed_precondition(why).into());
        }
        if broker == self.me {
            self.stop_here(&request)?;
            return Ok(api::StopResponse {});
        }
        let order = admin_request(&self.links, broker, HERE, request.encode_to_vec());
        let link = self.links.to(broker).ok_or_else(|| unsure("the broker's address is not known"))?;
        match link.call(TIMEOUT, |mut client: Client| async move { client.admin(order).await }).await {
            Ok(answer) => answer_of(&answer),
            Err(error) => Err(unsure(&format!("broker {broker} {}", said(&error))).into()),
        }
    }

    /// The leader's order to this broker. It may come late, as this process was paused, or the order was long on its
    /// way: by then the permit may be somebody else's. So the leader is asked once more.
    pub(super) async fn ordered(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let request = api::StopRequest::decode(body)
            .map_err(|_| Status::invalid_argument("the order's body is not understood"))?;
        let leader = self.raft.server_metrics().borrow().current_leader;
        let leader =
            leader.filter(|id| *id != self.me).ok_or_else(|| unsure("nobody else leads, who could confirm it"))?;
        let link = self.links.to(leader).ok_or_else(|| unsure("the leader's address is not known"))?;
        let facts = admin_request(&self.links, leader, api::FactsRequest::NAME, Vec::new());
        let facts: api::FactsResponse =
            match link.call(CONFIRM, |mut client: Client| async move { client.admin(facts).await }).await {
                Ok(answer) => answer_of(&answer)?,
                Err(error) => return Err(unsure(&format!("broker {leader}, the leader, {}", said(&error))).into()),
            };
        let held = |p: &api::Permit| {
            (p.id, p.broker, &p.incarnation) == (request.permit, request.broker, &request.incarnation)
        };
        if !facts.permit.as_ref().is_some_and(held) {
            return Err(Status::failed_precondition("the order comes late: the permit is closed").into());
        }
        self.stop_here(&request)?;
        Ok(api::StopResponse {}.encode_to_vec())
    }

    /// This process is told to stop.
    fn stop_here(&self, request: &api::StopRequest) -> Result<(), Failure> {
        if request.broker != self.me.0 || request.incarnation != self.incarnation.to_string() {
            return Err(Status::failed_precondition("another process is meant").into());
        }
        tracing::info!(permit = request.permit, "this broker is told to stop");
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            stop.cancel();
        });
        Ok(())
    }

    /// The broker goes on as a follower of what it led.
    pub(super) async fn hand_over(&self, request: api::HandOverRequest) -> Result<api::HandOverResponse, Failure> {
        let (broker, process) = (BrokerId(request.broker), incarnation(&request.incarnation)?);
        let view = self.view().await?;
        known(&view.image, broker)?;
        let member = view.image.brokers.get(&broker).filter(|b| b.incarnation == Some(process));
        let Some(broker_epoch) = member.and_then(|b| b.epoch) else {
            return Err(Status::failed_precondition(format!("broker {broker} is another process by now")).into());
        };
        let led = |image: &Image| image.holdings().get(&broker).map_or(0, |held| held.leaders);
        let before = led(&view.image);
        let command = MetadataCommand::Resign {
            broker,
            broker_epoch,
            partitions: ResignedPartitions::All,
            leaving: Leaving::Leadership,
            reason: ResignReason::Asked,
        };
        let (outcome, _) = self.propose(command).await?;
        match outcome {
            Ok(Answer::Resigned { kept }) => {
                let moved = count(before.saturating_sub(kept.len()));
                let (kept, kept_total) = named(&view.image, &kept);
                Ok(api::HandOverResponse { moved, kept, kept_total })
            }
            Ok(_) => Err(Status::internal("that is no answer to a resignation").into()),
            Err(refusal) => Err(Status::failed_precondition(refusal.to_string()).into()),
        }
    }
}
