//! AddRaftVoter and RemoveRaftVoter: who votes in the controller quorum, one at a time (KIP-853). A voter is named by its
//! number and the directory that it has registered: a broker on another disk is another voter.

use super::{Deadline, Handlers, describe_quorum};
use chronik_admin::{ChangeVotersRequest, FactsResponse};
use chronik_core::ids::DirectoryId;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    AddRaftVoterRequest, AddRaftVoterResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse, StrBytes, Uuid,
    cluster_id_text, message,
};
use std::time::Duration;

/// How long a removal may take: the request does not say. Less than clients wait.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why nothing was changed.
type Refused = (ErrorCode, String);

pub(super) async fn add(handlers: &Handlers, request: &AddRaftVoterRequest) -> AddRaftVoterResponse {
    let timeout = Deadline::after(request.timeout_ms).left().min(TIMEOUT);
    let who = (request.cluster_id.as_ref(), request.voter_id, request.voter_directory_id);
    let (error, text) = error_of(change(handlers, who, true, timeout).await);
    message!(AddRaftVoterResponse { error_code: error.0, error_message: text })
}

pub(super) async fn remove(handlers: &Handlers, request: &RemoveRaftVoterRequest) -> RemoveRaftVoterResponse {
    let who = (request.cluster_id.as_ref(), request.voter_id, request.voter_directory_id);
    let (error, text) = error_of(change(handlers, who, false, TIMEOUT).await);
    message!(RemoveRaftVoterResponse { error_code: error.0, error_message: text })
}

fn error_of(result: Result<(), Refused>) -> (ErrorCode, Option<StrBytes>) {
    match result {
        Ok(()) => (ErrorCode::NONE, None),
        Err((error, text)) => (error, Some(StrBytes::from(text))),
    }
}

async fn change(
    handlers: &Handlers,
    (cluster, voter, directory): (Option<&StrBytes>, i32, Uuid),
    shall_vote: bool,
    timeout: Duration,
) -> Result<(), Refused> {
    let ours = handlers.controller.image().cluster_id.map(cluster_id_text);
    if cluster.is_some_and(|theirs| ours.as_deref() != Some(&**theirs)) {
        return Err((ErrorCode::INCONSISTENT_CLUSTER_ID, "that is another cluster's id".into()));
    }
    let unsure = |status: tonic::Status| (ErrorCode::REQUEST_TIMED_OUT, status.message().to_owned());
    let facts = handlers.controller.facts(timeout).await.map_err(unsure)?;
    let seen: Vec<i32> = facts.quorum.iter().flat_map(|q| q.voters.iter().map(|v| v.broker)).collect();
    let voters = wanted(&facts, &seen, voter, directory, shall_vote)?;
    let answer = handlers.controller.change_voters(ChangeVotersRequest { voters, seen }, timeout).await;
    match answer.map_err(unsure)?.refusals.first() {
        None => Ok(()),
        // A voter that is behind, or without whose vote there would be no majority: later it may be done.
        Some(refusal) => Err((ErrorCode::REQUEST_TIMED_OUT, refusal.reason.clone())),
    }
}

/// All who shall vote.
fn wanted(
    facts: &FactsResponse,
    seen: &[i32],
    voter: i32,
    directory: Uuid,
    shall_vote: bool,
) -> Result<Vec<i32>, Refused> {
    let broker = facts.brokers.iter().find(|b| b.id == voter);
    let registered = broker.and_then(describe_quorum::registered);
    let is_it = registered == Some(DirectoryId(uuid::Uuid::from_bytes(directory.to_bytes())));
    match (shall_vote, seen.contains(&voter)) {
        (true, true) => Err((ErrorCode::DUPLICATE_VOTER, format!("broker {voter} votes already"))),
        (true, false) if !is_it => {
            let text = format!("no broker {voter} has registered that directory");
            Err((ErrorCode::INVALID_REQUEST, text))
        }
        (true, false) => Ok(seen.iter().copied().chain([voter]).collect()),
        (false, true) if is_it => Ok(seen.iter().copied().filter(|id| *id != voter).collect()),
        (false, _) => {
            let text = format!("broker {voter} does not vote, or its directory is another one");
            Err((ErrorCode::VOTER_NOT_FOUND, text))
        }
    }
}
