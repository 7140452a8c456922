//! A member that uses ConsumerGroupHeartbeat (KIP-848).

use super::member::{Member, Protocol, TOPIC, is_retriable, topic_id};
use super::rules::{GroupRule, GroupViolation, broken};
use crate::rng::Rng;
use chronik_core::groups::record::TopicPartitions;
use chronik_core::groups::request::ConsumerGroupHeartbeat as Heartbeat;
use chronik_core::groups::{GroupError, Request, Response};
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct State {
    /// The assignment of its last answer.
    pub(super) assigned: BTreeSet<i32>,
    /// What it owned in the last heartbeat that was answered.
    acknowledged: Option<BTreeSet<i32>>,
}

impl Member {
    fn consumer(&mut self) -> &mut State {
        match &mut self.protocol {
            Protocol::Consumer(state) => state,
            Protocol::Classic(_) => unreachable!("asked of members of the consumer protocol alone"),
        }
    }

    pub(super) fn next_of_consumer(&mut self, rng: &mut Rng, leaves: u64) -> Option<Request> {
        let assigned = self.consumer().assigned.clone();
        if self.epoch > 0 && self.owned != assigned {
            // It revokes first, which may take its time, and then takes up what is new.
            if self.owned.is_subset(&assigned) {
                self.own(assigned);
            } else if rng.per_mille(700) {
                self.own(self.owned.intersection(&assigned).copied().collect());
            }
        }
        if self.epoch > 0 && rng.per_mille(leaves) {
            let epoch = if self.settings.instance.is_some() && rng.per_mille(500) { -2 } else { -1 };
            return Some(Request::ConsumerGroupHeartbeat(self.beat(epoch, false)));
        }
        if self.epoch > 0 && rng.per_mille(400) {
            return self.offsets(rng);
        }
        if self.id.is_empty() {
            self.id = uuid::Uuid::from_u128(u128::from(rng.any())).to_string().into();
        }
        let full = self.consumer().acknowledged.is_none();
        Some(Request::ConsumerGroupHeartbeat(self.beat(self.epoch, full)))
    }

    fn beat(&mut self, epoch: i32, full: bool) -> Heartbeat {
        let acknowledged = self.consumer().acknowledged.clone();
        let changed = acknowledged.as_ref() != Some(&self.owned);
        let owned = || {
            let partitions: Vec<i32> = self.owned.iter().copied().collect();
            if partitions.is_empty() { Vec::new() } else { vec![TopicPartitions { topic_id: topic_id(), partitions }] }
        };
        Heartbeat {
            group: self.settings.group.clone(),
            member_id: self.id.clone(),
            member_epoch: epoch,
            instance_id: self.settings.instance.clone(),
            rack_id: None,
            rebalance_timeout_ms: if full { 15_000 } else { -1 },
            subscribed_topic_names: full.then(|| vec![Arc::from(TOPIC)]),
            subscribed_topic_regex: None,
            server_assignor: None,
            owned: (full || changed).then(owned),
        }
    }

    /// An answer may have been lost: everything is said again.
    pub(super) fn doubts(&mut self) {
        if let Protocol::Consumer(state) = &mut self.protocol {
            state.acknowledged = None;
        }
    }

    pub(super) fn take_of_consumer(&mut self, request: &Request, answer: &Response) -> Result<(), GroupViolation> {
        match (request, answer) {
            (Request::ConsumerGroupHeartbeat(asked), Response::ConsumerGroupHeartbeat(Ok(answer))) => {
                if answer.member_epoch < 0 {
                    self.crash();
                    return Ok(());
                }
                if answer.member_epoch < asked.member_epoch {
                    return broken(GroupRule::EpochsNeverGoBack, format!("{asked:?}: {answer:?}"));
                }
                self.id = answer.member_id.clone();
                self.epoch = answer.member_epoch;
                let owned = self.owned.clone();
                let state = self.consumer();
                if asked.owned.is_some() {
                    state.acknowledged = Some(owned);
                }
                if let Some(assignment) = &answer.assignment {
                    state.assigned = assignment.iter().flat_map(|t| t.partitions.iter().copied()).collect();
                }
                Ok(())
            }
            (_, Response::ConsumerGroupHeartbeat(Err((error, text)))) => match error {
                error if is_retriable(*error) => {
                    self.doubts();
                    Ok(())
                }
                GroupError::FencedMemberEpoch | GroupError::UnknownMemberId | GroupError::GroupIdNotFound => {
                    self.start_anew();
                    Ok(())
                }
                // Not until the session of the one before it has ended.
                GroupError::UnreleasedInstanceId => Ok(()),
                // Another process has its place.
                GroupError::FencedInstanceId => {
                    self.id = Arc::from("");
                    self.start_anew();
                    Ok(())
                }
                other => broken(GroupRule::MembersRightlyRefused, format!("{:?}: {other:?} {text:?}", self.settings)),
            },
            (_, Response::OffsetCommit(answers)) => match answers.first() {
                Some(Err(error)) => self.offsets_refused(*error),
                _ => Ok(()),
            },
            (_, Response::OffsetFetch(Err(error))) => self.offsets_refused(*error),
            (request, other) => broken(GroupRule::MembersRightlyRefused, format!("{request:?}: {other:?}")),
        }
    }

    /// It joins again, and owns nothing.
    fn start_anew(&mut self) {
        self.epoch = 0;
        self.lost();
        *self.consumer() = State::default();
    }

    /// The next heartbeat finds out what has become of the member.
    fn offsets_refused(&mut self, error: GroupError) -> Result<(), GroupViolation> {
        let known = matches!(
            error,
            GroupError::StaleMemberEpoch
                | GroupError::UnknownMemberId
                | GroupError::FencedMemberEpoch
                | GroupError::GroupIdNotFound
                | GroupError::IllegalGeneration
        );
        if known || is_retriable(error) {
            return Ok(());
        }
        broken(GroupRule::MembersRightlyRefused, format!("{:?}: offsets: {error:?}", self.settings))
    }
}
