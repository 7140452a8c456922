//! SyncGroup.

use super::{ClassicGroup, State};
use crate::groups::event::Ticket;
use crate::groups::request::SyncGroup;
use crate::groups::response::{GroupError, Response, SyncedGroup};
use crate::groups::step::Step;
use crate::groups::timers::Timer;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

impl ClassicGroup {
    /// SyncGroup.
    pub(in crate::groups) fn sync(&mut self, request: SyncGroup, ticket: Ticket, step: &mut Step<'_>) {
        if let Err(error) = self.try_sync(request, ticket, step) {
            step.reply(ticket, Response::SyncGroup(Err(error)));
        }
    }

    fn try_sync(&mut self, request: SyncGroup, ticket: Ticket, step: &mut Step<'_>) -> Result<(), GroupError> {
        let id = request.member.member_id;
        if self.state == State::Empty {
            return Err(GroupError::UnknownMemberId);
        }
        self.validate(&id, request.member.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if differs(request.protocol_type.as_ref(), self.protocol_type.as_ref())
            || differs(request.protocol_name.as_ref(), self.protocol.as_ref())
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty | State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance => {
                let assigned = request.assignments.iter().map(|(_, a)| a.len()).sum();
                if self.is_leader(&id) && !self.can_be_written(assigned) {
                    return Err(GroupError::GroupMaxSizeReached);
                }
                self.await_sync(&id, ticket, step);
                self.has_synced(&id, step);
                if self.is_leader(&id) {
                    self.assign(request.assignments, step);
                }
                Ok(())
            }
            State::Stable => {
                self.has_synced(&id, step);
                let assignment = self.members.get(&id).map(|m| m.assignment.clone()).unwrap_or_default();
                let answer = self.synced(assignment);
                step.reply_when_committed(ticket, Response::SyncGroup(Ok(answer)));
                Ok(())
            }
        }
    }

    fn await_sync(&mut self, id: &Arc<str>, ticket: Ticket, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(former) = member.awaiting_sync.replace(ticket) {
            step.reply(former, Response::SyncGroup(Err(GroupError::RebalanceInProgress)));
        }
    }

    fn has_synced(&mut self, id: &Arc<str>, step: &mut Step<'_>) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            step.timers.cancel(&Timer::Sync(self.id.clone()));
        }
    }

    /// The leader has assigned: it is written, and answered when that is committed.
    fn assign(&mut self, assignments: Vec<(Arc<str>, Bytes)>, step: &mut Step<'_>) {
        let mut assignments: BTreeMap<Arc<str>, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.enter(State::Stable, step);
        self.write(step);
        self.answer_syncs(Ok(()), step);
    }

    fn synced(&self, assignment: Bytes) -> SyncedGroup {
        SyncedGroup { protocol_type: self.protocol_type.clone(), protocol_name: self.protocol.clone(), assignment }
    }

    /// Answers all that wait, and begins their sessions anew.
    pub(super) fn answer_syncs(&mut self, with: Result<(), GroupError>, step: &mut Step<'_>) {
        let mut waiting = Vec::new();
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.awaiting_sync.take() {
                waiting.push((id.clone(), ticket, member.assignment.clone()));
            }
        }
        for (id, ticket, assignment) in waiting {
            match with {
                Ok(()) => step.reply_when_committed(ticket, Response::SyncGroup(Ok(self.synced(assignment)))),
                Err(error) => step.reply(ticket, Response::SyncGroup(Err(error))),
            }
            self.start_session(&id, step);
        }
    }

    /// The time to sync is over: who has not is taken out, so that the others do not wait for ever.
    pub(super) fn sync_timed_out(&mut self, step: &mut Step<'_>) {
        if matches!(self.state, State::CompletingRebalance | State::Stable) && !self.pending_sync.is_empty() {
            for member in std::mem::take(&mut self.pending_sync) {
                self.expel(&member, step);
            }
            self.prepare_rebalance(step);
        }
    }
}

/// Whether the client takes something for the group's that is not.
fn differs(client: Option<&Arc<str>>, group: Option<&Arc<str>>) -> bool {
    matches!((client, group), (Some(c), Some(g)) if c != g)
}
