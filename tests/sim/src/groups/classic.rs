//! A member that uses JoinGroup and SyncGroup: eager, or cooperative (KIP-429).

use super::consumer_protocol;
use super::member::{Member, Protocol, TOPIC, is_retriable};
use super::rules::{GroupRule, GroupViolation, broken};
use crate::rng::Rng;
use bytes::Bytes;
use chronik_core::groups::request::{JoinGroup, SyncGroup};
use chronik_core::groups::response::JoinedGroup;
use chronik_core::groups::{GroupError, Request, Response};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions of the topic.
pub(super) const PARTITIONS: i32 = 6;

#[derive(Debug)]
pub(super) struct State {
    /// It keeps what it owns while the group rebalances.
    pub(super) cooperative: bool,
    /// It must sync with this.
    joined: Option<JoinedGroup>,
    /// In the generation, with an assignment.
    stable: bool,
}

impl State {
    pub(super) fn new(cooperative: bool) -> Self {
        Self { cooperative, joined: None, stable: false }
    }

    pub(super) fn is_stable(&self) -> bool {
        self.stable
    }
}

impl Member {
    fn classic(&mut self) -> &mut State {
        match &mut self.protocol {
            Protocol::Classic(state) => state,
            Protocol::Consumer(_) => unreachable!("asked of classic members alone"),
        }
    }

    pub(super) fn next_of_classic(&mut self, rng: &mut Rng, leaves: u64) -> Option<Request> {
        if let Some(joined) = self.classic().joined.clone() {
            return Some(Request::SyncGroup(self.sync(&joined)));
        }
        if !self.classic().stable {
            return Some(Request::JoinGroup(self.join()));
        }
        if rng.per_mille(leaves) {
            let leave = Request::LeaveGroup { group: self.settings.group.clone(), members: vec![self.reference()] };
            return Some(leave);
        }
        if rng.per_mille(400) {
            return self.offsets(rng);
        }
        Some(Request::Heartbeat {
            group: self.settings.group.clone(),
            member: self.reference(),
            generation: self.epoch,
        })
    }

    fn join(&mut self) -> JoinGroup {
        let cooperative = self.classic().cooperative;
        if !cooperative {
            self.lost();
        }
        JoinGroup {
            group: self.settings.group.clone(),
            member: self.reference(),
            requires_known_member_id: true,
            supports_skipping_assignment: true,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 15_000,
            protocol_type: Arc::from("consumer"),
            protocols: vec![(Arc::from("p"), consumer_protocol::subscription(TOPIC, &self.owned))],
            reason: None,
        }
    }

    fn sync(&self, joined: &JoinedGroup) -> SyncGroup {
        SyncGroup {
            group: self.settings.group.clone(),
            member: self.reference(),
            generation: joined.generation,
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments: assign(joined),
        }
    }

    pub(super) fn take_of_classic(&mut self, request: &Request, answer: &Response) -> Result<(), GroupViolation> {
        match answer {
            Response::JoinGroup(joined) => match joined.error {
                None => {
                    self.id = joined.member_id.clone();
                    self.epoch = joined.generation;
                    self.classic().joined = Some(joined.clone());
                }
                Some(GroupError::MemberIdRequired) => self.id = joined.member_id.clone(),
                Some(error) => return self.refused(request, error),
            },
            Response::SyncGroup(Ok(synced)) => {
                let assigned = consumer_protocol::assigned(&synced.assignment);
                let state = self.classic();
                state.joined = None;
                // What it gives back is for others after one more rebalance.
                state.stable = true;
                if !self.owned.is_subset(&assigned) && self.classic().cooperative {
                    self.classic().stable = false;
                }
                self.own(assigned);
            }
            Response::LeaveGroup(_) => self.crash(),
            Response::OffsetCommit(answers) => {
                if let Some(Err(error)) = answers.first() {
                    return self.refused(request, *error);
                }
            }
            Response::SyncGroup(Err(error)) | Response::Heartbeat(Err(error)) | Response::OffsetFetch(Err(error)) => {
                return self.refused(request, *error);
            }
            Response::Heartbeat(Ok(())) => {}
            other => return broken(GroupRule::MembersRightlyRefused, format!("{request:?}: {other:?}")),
        }
        Ok(())
    }

    fn refused(&mut self, request: &Request, error: GroupError) -> Result<(), GroupViolation> {
        let cooperative = self.classic().cooperative;
        let state = self.classic();
        match error {
            error if is_retriable(error) => {}
            GroupError::RebalanceInProgress if matches!(request, Request::OffsetCommit(_)) => state.stable = false,
            GroupError::RebalanceInProgress => {
                (state.joined, state.stable) = (None, false);
                if !cooperative {
                    self.lost();
                }
            }
            GroupError::IllegalGeneration => {
                (state.joined, state.stable) = (None, false);
                self.lost();
            }
            GroupError::UnknownMemberId | GroupError::FencedInstanceId => {
                (state.joined, state.stable) = (None, false);
                self.id = Arc::from("");
                self.lost();
            }
            other => return broken(GroupRule::MembersRightlyRefused, format!("{:?}: {other:?}", self.settings)),
        }
        Ok(())
    }
}

/// What a leader assigns: as evenly as it goes, and no partition that somebody else says it owns.
fn assign(joined: &JoinedGroup) -> Vec<(Arc<str>, Bytes)> {
    let owned: BTreeMap<&str, BTreeSet<i32>> =
        joined.members.iter().map(|m| (&*m.member_id, consumer_protocol::owned(&m.metadata))).collect();
    let count = i32::try_from(joined.members.len()).unwrap_or(1);
    let of = |at: i32, member: &str| {
        let mine = (0..PARTITIONS).filter(|p| p % count == at);
        let free = mine.filter(|p| !owned.iter().any(|(id, owned)| *id != member && owned.contains(p)));
        consumer_protocol::assignment(TOPIC, &free.collect())
    };
    (0..count).zip(&joined.members).map(|(at, m)| (m.member_id.clone(), of(at, &m.member_id))).collect()
}
