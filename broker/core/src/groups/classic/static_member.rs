//! A static member that comes back without its member id (KIP-345).

use super::rebalance::refuse_join;
use super::{ClassicGroup, State};
use crate::groups::consumer_protocol::Subscription;
use crate::groups::event::Ticket;
use crate::groups::request::{Client, JoinGroup};
use crate::groups::response::{GroupError, JoinedGroup, Response};
use crate::groups::step::Step;
use crate::groups::timers::Timer;
use std::sync::Arc;

impl ClassicGroup {
    /// Gives the place of a static member to its successor. While nothing else changes, the others notice nothing.
    pub(super) fn replace_static(
        &mut self,
        old: &Arc<str>,
        new: &Arc<str>,
        request: &JoinGroup,
        client: &Client,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        let leader_before = self.leader.clone();
        self.rename(old, new, step);
        let before = self.topics_of(new);
        self.await_join(new, request, ticket, step);
        if let Some(member) = self.members.get_mut(new) {
            member.client = client.clone();
        }
        self.start_session(new, step);
        match self.state {
            State::Stable => {
                let assigned = self.assigned();
                let same = self.select_protocol() == self.protocol && before == self.topics_of(new);
                if same && self.can_be_written(assigned) {
                    self.welcome_back(new, leader_before, request, ticket, step);
                } else {
                    self.rebalance(step);
                }
            }
            // The leader may have got the former id in its JoinGroup answer, and would assign to that.
            State::CompletingRebalance => self.prepare_rebalance(step),
            State::PreparingRebalance => self.complete_join_if_all_joined(step),
            // An empty group has no static members.
            State::Empty => {}
        }
    }

    /// What a member is subscribed to. The rest of its metadata (what it owned when it joined) changes by itself.
    fn topics_of(&self, member: &str) -> Option<Vec<Arc<str>>> {
        let metadata = self.members.get(member)?.metadata(self.protocol.as_deref());
        Subscription::topics(&metadata).filter(|_| self.usable_as_consumer())
    }

    /// The successor gets its predecessor's place and assignment; whoever still uses the former id is fenced.
    fn rename(&mut self, old: &Arc<str>, new: &Arc<str>, step: &mut Step<'_>) {
        let Some(mut member) = self.members.remove(old) else { return };
        refuse_join(member.awaiting_join.take(), GroupError::FencedInstanceId, old, step);
        if let Some(ticket) = member.awaiting_sync.take() {
            step.reply(ticket, Response::SyncGroup(Err(GroupError::FencedInstanceId)));
        }
        step.timers.cancel(&Timer::Session(self.id.clone(), old.clone()));
        member.is_new = false;
        if let Some(instance) = &member.instance_id {
            self.statics.insert(instance.clone(), new.clone());
        }
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.clone());
        }
        self.members.insert(new.clone(), member);
    }

    fn welcome_back(
        &mut self,
        id: &Arc<str>,
        leader_before: Option<Arc<str>>,
        request: &JoinGroup,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        if let Some(member) = self.members.get_mut(id) {
            member.awaiting_join = None;
        }
        self.write(step);
        let answer = if request.supports_skipping_assignment {
            self.joined(id, self.is_leader(id))
        } else {
            // A client that cannot skip must not take itself for the leader, or it would assign anew.
            JoinedGroup {
                leader: leader_before.unwrap_or_else(|| Arc::from("")),
                members: Vec::new(),
                ..self.joined(id, false)
            }
        };
        step.reply_when_committed(ticket, Response::JoinGroup(answer));
    }
}
