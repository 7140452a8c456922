//! A broker is emptied, a few partitions at a time: each call begins as many as may be under way, and says what is left.

use super::confirm::View;
use super::facts::{count, numbers};
use super::permits::{about_partitions, known};
use super::{Calls, Failure};
use api::refusal::Kind;
use chronik_admin as api;
use chronik_core::cluster::{Answer, Drain, Image, MetadataCommand, Reassignment, Refusal};
use chronik_core::ids::{BrokerId, TopicPartition};
use tonic::Status;

/// Partitions that may be under way from one broker.
const AT_ONCE: usize = 16;
/// Moves of a plan that are told.
const MOST: usize = 20_000;

impl Calls {
    /// Nothing is begun, and the broker is not cordoned, while some of what it holds has no other place.
    pub(super) async fn drain(&self, request: api::DrainRequest) -> Result<api::DrainResponse, Failure> {
        let broker = BrokerId(request.broker);
        let view = self.view().await?;
        known(&view.image, broker)?;
        let at_once = if request.plan_only { MOST } else { AT_ONCE };
        let drain = view.image.drain(broker, at_once);
        if !drain.nowhere.is_empty() {
            let text = format!("no other broker could take {} partitions of broker {broker}", drain.nowhere.len());
            let refusals = vec![about_partitions(&view.image, Kind::NoPlace, text, &drain.nowhere)];
            return Ok(api::DrainResponse { refusals, moves: Vec::new(), left: count(drain.left) });
        }
        if !request.plan_only {
            self.begin(&view, broker, &drain).await?;
        }
        let under_way = drain.under_way.iter().filter_map(|tp| under_way(&view.image, *tp));
        let begun = drain.moves.iter().filter_map(|m| planned(&view.image, m));
        let moves = under_way.chain(begun).collect();
        Ok(api::DrainResponse { refusals: Vec::new(), moves, left: count(drain.left) })
    }

    async fn begin(&self, view: &View, broker: BrokerId, drain: &Drain) -> Result<(), Failure> {
        if view.image.brokers.get(&broker).is_some_and(|b| !b.cordoned) {
            let (outcome, _) = self.propose(MetadataCommand::Cordon { broker, cordoned: true }).await?;
            outcome.map_err(|refusal| precondition(&refusal))?;
        }
        self.reassign(drain.moves.clone()).await
    }

    /// Begins moves. What has changed meanwhile is refused, and planned anew with the next call.
    pub(super) async fn reassign(&self, partitions: Vec<Reassignment>) -> Result<(), Failure> {
        if partitions.is_empty() {
            return Ok(());
        }
        let command = MetadataCommand::AlterPartitionReassignments { partitions, may_change_factor: false };
        // Brokers have a limit, which whoever applies the entry does not look at.
        let image = self.image.borrow().clone();
        if let Err(refusal @ Refusal::PolicyViolation(_)) = image.try_out(&command) {
            return Err(precondition(&refusal).into());
        }
        let (outcome, _) = self.propose(command).await?;
        if let Answer::Reassigned(results) = outcome.map_err(|refusal| precondition(&refusal))? {
            for (partition, refusal) in results.into_iter().filter_map(|(tp, done)| Some((tp, done.err()?))) {
                let topic = image.topics.get(&partition.topic).map_or("", |topic| &topic.name);
                tracing::info!(topic, %partition, %refusal, "a move was refused");
            }
        }
        Ok(())
    }
}

pub(super) fn precondition(refusal: &Refusal) -> Status {
    Status::failed_precondition(refusal.to_string())
}

pub(super) fn planned(image: &Image, planned: &Reassignment) -> Option<api::Move> {
    let partition = image.partition(planned.partition)?;
    let from: Vec<BrokerId> = partition.original_replicas().collect();
    a_move(image, planned.partition, &from, planned.replicas.as_deref()?)
}

pub(super) fn under_way(image: &Image, tp: TopicPartition) -> Option<api::Move> {
    let partition = image.partition(tp)?;
    let from: Vec<BrokerId> = partition.original_replicas().collect();
    let to: Vec<BrokerId> = partition.target_replicas().collect();
    a_move(image, tp, &from, &to)
}

fn a_move(image: &Image, tp: TopicPartition, from: &[BrokerId], to: &[BrokerId]) -> Option<api::Move> {
    let topic = image.topics.get(&tp.topic)?.name.to_string();
    Some(api::Move { topic, partition: tp.partition.0, from: numbers(from), to: numbers(to) })
}
