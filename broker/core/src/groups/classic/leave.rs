//! Heartbeat and LeaveGroup.

use super::{ClassicGroup, State};
use crate::groups::event::Ticket;
use crate::groups::request::MemberRef;
use crate::groups::response::{GroupError, Response};
use crate::groups::step::Step;
use crate::groups::timers::Timer;
use std::sync::Arc;

impl ClassicGroup {
    /// Heartbeat.
    pub(in crate::groups) fn heartbeat(
        &mut self,
        member: &MemberRef,
        generation: i32,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        let answer = self.try_heartbeat(member, generation, step);
        step.reply(ticket, Response::Heartbeat(answer));
    }

    fn try_heartbeat(&mut self, member: &MemberRef, generation: i32, step: &mut Step<'_>) -> Result<(), GroupError> {
        self.validate(&member.member_id, member.instance_id.as_deref())?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.start_session(&member.member_id, step);
        match self.state {
            State::Empty => Err(GroupError::UnknownMemberId),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// LeaveGroup.
    pub(in crate::groups) fn leave(&mut self, members: &[MemberRef], ticket: Ticket, step: &mut Step<'_>) {
        let answers: Vec<Result<(), GroupError>> = members.iter().map(|m| self.leave_one(m, step)).collect();
        if answers.iter().any(Result::is_ok) {
            self.rebalance_without(step);
        }
        step.reply_when_committed(ticket, Response::LeaveGroup(Ok(answers)));
    }

    fn leave_one(&mut self, member: &MemberRef, step: &mut Step<'_>) -> Result<(), GroupError> {
        let id: Arc<str> = if member.member_id.is_empty() {
            // An administrator names a static member by its instance id.
            let instance = member.instance_id.as_ref().ok_or(GroupError::UnknownMemberId)?;
            self.statics.get(instance).cloned().ok_or(GroupError::UnknownMemberId)?
        } else {
            member.member_id.clone()
        };
        if self.pending.remove(&id) {
            step.timers.cancel(&Timer::Pending(self.id.clone(), id));
            return Ok(());
        }
        self.validate(&id, member.instance_id.as_deref())?;
        self.expel(&id, step);
        Ok(())
    }
}
