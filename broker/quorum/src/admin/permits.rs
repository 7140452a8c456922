//! Permits to stop a broker: asked for, and given back.

use super::confirm::View;
use super::facts::{named, numbers, permit_of};
use super::{Calls, Failure, unsure};
use api::refusal::Kind;
use chronik_admin as api;
use chronik_core::cluster::{Image, MetadataCommand, Objection, Recovery, Refusal};
use chronik_core::ids::{BrokerId, IncarnationId, MetadataOffset, TopicPartition};
use tonic::Status;
use uuid::Uuid;

/// How long a permit may last, in milliseconds.
const TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;
/// A person's reason in bytes at most: it is kept in the metadata log.
const MAX_REASON: usize = 1024;

impl Calls {
    pub(super) async fn request_stop(
        &self,
        request: api::RequestStopRequest,
    ) -> Result<api::RequestStopResponse, Failure> {
        if !TTL_MS.contains(&request.ttl_ms) {
            return Err(Status::invalid_argument("a permit lasts 1 second to 1 hour").into());
        }
        if request.force.len() > MAX_REASON {
            return Err(Status::invalid_argument(format!("a reason has {MAX_REASON} bytes at most")).into());
        }
        let (broker, incarnation) = (BrokerId(request.broker), incarnation(&request.incarnation)?);
        let view = self.view().await?;
        known(&view.image, broker)?;
        let objections = view.image.objections_to_stop(broker, incarnation);
        // Fenced or not: it may be at its end, and its raft still answer.
        let stops = |id: BrokerId| view.image.brokers.get(&id).is_some_and(|b| b.stopping);
        let votes = view.quorum.votes_missing_without(broker, stops);
        // As of now, as votes are: the entry is decided as by all versions before.
        let others: Vec<_> = view.image.brokers.keys().copied().filter(|id| *id != broker).collect();
        let stopping = view.image.stopping(&others);
        let forced = Some(request.force).filter(|reason| !reason.is_empty());
        let lets_pass = match &forced {
            None => objections.is_empty() && votes.is_none() && stopping.is_empty(),
            Some(_) => !objections.iter().any(Objection::stands_above_force),
        };
        let mut refusals: Vec<_> = objections.iter().map(|o| refusal(&view.image, broker, o)).collect();
        refusals.extend(votes.map(|missing| votes_refusal(broker, &missing)));
        if !stopping.is_empty() {
            let text = format!("{} about to stop", brokers_are(&stopping));
            refusals.push(about_brokers(Kind::PeerRecovering, text, &stopping));
        }
        let mut answer = answer(&view, broker, refusals);
        if !lets_pass {
            return Ok(answer);
        }
        let (ttl_ms, reason) = (request.ttl_ms, forced.clone());
        let command = MetadataCommand::GrantPermit { broker, incarnation, ttl_ms, forced };
        let (outcome, offset) = self.propose(command).await?;
        answer.offset = offset.0;
        match outcome {
            Ok(_) => {
                if let Some(reason) = reason {
                    tracing::warn!(%broker, reason, refusals = ?answer.refusals, "a permit to stop a broker was forced");
                }
                answer.permit = Some(self.granted(broker, incarnation)?);
            }
            // Something has happened in between.
            Err(Refusal::MayNotStop(objections)) => {
                answer.refusals = objections.iter().map(|o| refusal(&view.image, broker, o)).collect();
            }
            Err(other) => return Err(Status::failed_precondition(other.to_string()).into()),
        }
        Ok(answer)
    }

    /// The grant is applied here by now; another one may have been since, if the leader has changed.
    fn granted(&self, broker: BrokerId, incarnation: IncarnationId) -> Result<api::Permit, Failure> {
        let image = self.image.borrow();
        let permit = image.permit.as_ref().filter(|p| p.broker == broker && p.incarnation == incarnation);
        Ok(permit.map(|p| permit_of(p, None)).ok_or_else(|| unsure("the permit was closed at once"))?)
    }

    pub(super) async fn recovered(&self, request: api::RecoveredRequest) -> Result<api::RecoveredResponse, Failure> {
        let permit = MetadataOffset(request.permit);
        let view = self.view().await?;
        let state = view.image.recovery(permit);
        let open = |waits_for: &str| api::RecoveredResponse { waits_for: waits_for.into(), ..Default::default() };
        let behind = view.image.permit.as_ref().is_some_and(|permit| {
            let members = view.quorum.voters.iter().chain(&view.quorum.observers);
            members.filter(|m| m.id == permit.broker).any(|m| !m.caught_up)
        });
        let answer = match state {
            Recovery::Closed => api::RecoveredResponse { closed: true, ..Default::default() },
            _ if request.unused => self.close(permit).await?,
            Recovery::StillRuns => open("the process that the permit is for has not been succeeded by another one yet"),
            Recovery::Away => open("the broker is not back"),
            Recovery::OutOfSync(partitions) => {
                let (partitions, partitions_total) = named(&view.image, &partitions);
                let waits_for = format!("the broker is behind in {partitions_total} partitions");
                api::RecoveredResponse { closed: false, waits_for, partitions, partitions_total }
            }
            Recovery::Back if behind => open("the broker is behind in the metadata log"),
            Recovery::Back => self.close(permit).await?,
        };
        Ok(answer)
    }

    async fn close(&self, permit: MetadataOffset) -> Result<api::RecoveredResponse, Failure> {
        let (outcome, _) = self.propose(MetadataCommand::ClosePermit { permit, renewed: None }).await?;
        outcome.map_err(|refusal| Status::failed_precondition(refusal.to_string()))?;
        Ok(api::RecoveredResponse { closed: true, ..Default::default() })
    }
}

fn answer(view: &View, broker: BrokerId, refusals: Vec<api::Refusal>) -> api::RequestStopResponse {
    let (only_replica, only_replica_total) = named(&view.image, &view.image.only_replica(broker));
    let offset = view.image.offset.0;
    api::RequestStopResponse { permit: None, refusals, only_replica, only_replica_total, offset }
}

/// A process's id as clients write it.
pub(super) fn incarnation(text: &str) -> Result<IncarnationId, Status> {
    let id = Uuid::parse_str(text).map_err(|_| Status::invalid_argument("an incarnation is a UUID"))?;
    Ok(IncarnationId(id))
}

pub(super) fn known(image: &Image, broker: BrokerId) -> Result<(), Status> {
    let known = image.brokers.contains_key(&broker);
    known.then_some(()).ok_or_else(|| Status::not_found(format!("there is no broker {broker}")))
}

fn refusal(image: &Image, broker: BrokerId, objection: &Objection) -> api::Refusal {
    match objection {
        Objection::OtherIncarnation(None) => {
            about(Kind::OtherIncarnation, format!("broker {broker} has never registered"))
        }
        Objection::OtherIncarnation(Some(current)) => {
            about(Kind::OtherIncarnation, format!("broker {broker} is another process by now: {current}"))
        }
        Objection::Unavailable(partitions) => {
            let text = format!("{} would have no leader without broker {broker}", partitions_text(partitions));
            about_partitions(image, Kind::WouldBeUnavailable, text, partitions)
        }
        Objection::UnderMinIsr(partitions) => {
            let text = format!(
                "{} would be under min.insync.replicas without broker {broker}, or are already",
                partitions_text(partitions)
            );
            about_partitions(image, Kind::UnderMinIsr, text, partitions)
        }
        Objection::Reassigning(partitions) => {
            let text = format!(
                "{} on the way to other brokers would have too few in-sync replicas without broker {broker}",
                partitions_text(partitions)
            );
            about_partitions(image, Kind::Reassigning, text, partitions)
        }
        Objection::PeersRecovering(peers) => {
            about_brokers(Kind::PeerRecovering, format!("{} not in sync yet", brokers_are(peers)), peers)
        }
        Objection::PermitOutstanding(holder) => {
            let text = format!("broker {holder} holds the permit to be stopped");
            about_brokers(Kind::PermitOutstanding, text, &[*holder])
        }
    }
}

fn votes_refusal(broker: BrokerId, missing: &[BrokerId]) -> api::Refusal {
    let text = format!(
        "without broker {broker} the controller quorum has no majority that is caught up: {} not counted",
        brokers_are(missing)
    );
    about_brokers(Kind::Votes, text, missing)
}

fn partitions_text(partitions: &[TopicPartition]) -> String {
    let n = partitions.len();
    format!("{n} partition{}", if n == 1 { "" } else { "s" })
}

fn brokers_are(brokers: &[BrokerId]) -> String {
    let ids: Vec<String> = brokers.iter().map(ToString::to_string).collect();
    let (s, are) = if ids.len() == 1 { ("", "is") } else { ("s", "are") };
    format!("broker{s} {} {are}", ids.join(", "))
}

pub(super) fn about(kind: Kind, reason: String) -> api::Refusal {
    api::Refusal { kind: kind.into(), reason, ..Default::default() }
}

pub(super) fn about_brokers(kind: Kind, reason: String, brokers: &[BrokerId]) -> api::Refusal {
    api::Refusal { brokers: numbers(brokers), ..about(kind, reason) }
}

pub(super) fn about_partitions(
    image: &Image,
    kind: Kind,
    reason: String,
    partitions: &[TopicPartition],
) -> api::Refusal {
    let (partitions, partitions_total) = named(image, partitions);
    api::Refusal { partitions, partitions_total, ..about(kind, reason) }
}
