//! A consumer group as part of a shard.

use super::context::Refusal;
use super::heartbeat::validate;
use super::{ConsumerGroup, Deadline, StepContext};
use crate::cluster::Image;
use crate::groups::event::{Config, Ticket};
use crate::groups::refusal::refuse;
use crate::groups::request::{Client, ConsumerGroupHeartbeat, Request};
use crate::groups::response::{GroupError, JoinedGroup, Response};
use crate::groups::step::Step;
use crate::groups::timers::Timer;
use std::sync::Arc;

impl ConsumerGroup {
    /// Takes one step of this group, within that of its shard.
    pub(in crate::groups) fn within<R>(
        &mut self,
        step: &mut Step<'_>,
        take: impl FnOnce(&mut Self, &mut StepContext<'_>) -> R,
    ) -> R {
        let nothing = Image::default();
        let mut context = StepContext::new(step.now, step.config, step.image.unwrap_or(&nothing), &self.id);
        let result = take(self, &mut context);
        let StepContext { records, deadlines, unset_deadlines, .. } = context;
        for record in records {
            match record.value {
                Some(value) => step.write(record.key, value),
                None => step.delete(record.key),
            }
        }
        let timer = |deadline| match deadline {
            Deadline::Session(member) => Timer::Session(self.id.clone(), member),
            Deadline::Rebalance(member) => Timer::Rebalance(self.id.clone(), member),
        };
        for (deadline, after) in deadlines {
            match after {
                Some(after) => step.set_timer(timer(deadline), after),
                None => step.timers.cancel(&timer(deadline)),
            }
        }
        for (deadline, after) in unset_deadlines {
            let timer = timer(deadline);
            if !step.timers.is_set(&timer) {
                step.set_timer(timer, after);
            }
        }
        result
    }

    /// ConsumerGroupHeartbeat. What it tells of may have been written by an earlier one whose answer was lost, so the
    /// answer waits for all that is written of the group's members.
    pub(in crate::groups) fn answer_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeat,
        client: &Client,
        random: u128,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        let answer = if step.image.is_some() {
            self.within(step, |group, context| group.heartbeat(request, client, random, context))
        } else {
            Err((GroupError::CoordinatorLoadInProgress, None))
        };
        step.reply_when_members_are(ticket, Response::ConsumerGroupHeartbeat(answer));
    }

    /// A request of a member that uses the classic protocol.
    pub(in crate::groups) fn classic_request(
        &mut self,
        request: &Request,
        client: &Client,
        random: u128,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        let answer = self.within(step, |group, context| match request {
            Request::JoinGroup(join) => Ok(Response::JoinGroup(group.join(join, client, random, context)?)),
            Request::SyncGroup(sync) => Ok(Response::SyncGroup(Ok(group.sync(sync, context)?))),
            Request::Heartbeat { member, generation, .. } => {
                group.heartbeat_of_classic(member, *generation, context)?;
                Ok(Response::Heartbeat(Ok(())))
            }
            Request::LeaveGroup { members, .. } => {
                let answers = members.iter().map(|member| group.leave_group(member, context));
                Ok(Response::LeaveGroup(Ok(answers.collect())))
            }
            _ => Err(GroupError::InvalidRequest),
        });
        match answer {
            Ok(answer @ Response::Heartbeat(_)) => step.reply(ticket, answer),
            Ok(answer) => step.reply_when_committed(ticket, answer),
            // As Kafka, without the member's id: there is no such member here.
            Err(error) if matches!(request, Request::JoinGroup(_)) => {
                step.reply(ticket, Response::JoinGroup(JoinedGroup::refused(error, &Arc::from(""))));
            }
            Err(error) => step.reply(ticket, refuse(request, error)),
        }
    }

    /// A deadline of this group has passed.
    pub(in crate::groups) fn timer(&mut self, timer: &Timer, step: &mut Step<'_>) {
        let deadline = match timer {
            Timer::Session(_, member) => Deadline::Session(member.clone()),
            Timer::Rebalance(_, member) => Deadline::Rebalance(member.clone()),
            // Of the classic protocol.
            Timer::Join(_) | Timer::Sync(_) | Timer::Pending(..) | Timer::Expiry => return,
        };
        self.within(step, |group, context| group.deadline(&deadline, context));
    }
}

/// Why a heartbeat is refused that is not to a consumer group.
pub(in crate::groups) fn without_group(request: &ConsumerGroupHeartbeat, config: &Config) -> Refusal {
    let not_found = || (GroupError::GroupIdNotFound, Some(format!("Consumer group {} not found.", request.group)));
    validate(request, config).err().unwrap_or_else(not_found)
}

/// Whether a heartbeat may be the first one of a group.
pub(in crate::groups) fn may_found(request: &ConsumerGroupHeartbeat, config: &Config) -> Result<(), Refusal> {
    validate(request, config)?;
    ConsumerGroup::new(Arc::clone(&request.group)).check_regex(request)
}
