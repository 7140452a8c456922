//! From a change of the members to the next generation.

use super::{ClassicGroup, State};
use crate::groups::event::Ticket;
use crate::groups::response::{GroupError, JoinedGroup, JoinedMember, Response};
use crate::groups::step::Step;
use crate::groups::timers::Timer;
use std::sync::Arc;
use std::time::Duration;

/// The first members of a group are waited for, so that not each of them makes a generation
/// (`group.initial.rebalance.delay.ms`).
#[derive(Clone, Debug)]
pub(super) struct Gathering {
    /// The wait that runs.
    delay: Duration,
    /// How much longer may be waited after it.
    remaining: Duration,
    /// Somebody has joined since it began.
    pub(super) joined: bool,
}

impl ClassicGroup {
    /// The members have changed: begins a rebalance, or ends it if this was what it waited for.
    pub(super) fn rebalance(&mut self, step: &mut Step<'_>) {
        if self.state == State::PreparingRebalance {
            self.complete_join_if_all_joined(step);
        } else {
            self.prepare_rebalance(step);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, step: &mut Step<'_>) {
        if self.state == State::CompletingRebalance {
            self.answer_syncs(Err(GroupError::RebalanceInProgress), step);
        }
        self.pending_sync.clear();
        step.timers.cancel(&Timer::Sync(self.id.clone()));
        let initial = self.state == State::Empty;
        self.enter(State::PreparingRebalance, step);
        if initial {
            let delay = step.config.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.gathering = Some(Gathering { delay, remaining, joined: false });
            step.set_timer(Timer::Join(self.id.clone()), delay);
        } else if self.all_joined() {
            self.complete_join(step);
        } else {
            step.set_timer(Timer::Join(self.id.clone()), self.rebalance_timeout());
        }
    }

    fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|m| m.awaiting_join.is_some())
    }

    /// Ends the joining early, unless the first members are still gathering.
    pub(super) fn complete_join_if_all_joined(&mut self, step: &mut Step<'_>) {
        if self.state == State::PreparingRebalance && self.gathering.is_none() && self.all_joined() {
            self.complete_join(step);
        }
    }

    /// The time to join is over.
    pub(super) fn join_timed_out(&mut self, step: &mut Step<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        match &mut self.gathering {
            Some(gathering) if gathering.joined && !gathering.remaining.is_zero() => {
                let delay = step.config.initial_rebalance_delay.min(gathering.remaining);
                gathering.remaining = gathering.remaining.saturating_sub(gathering.delay);
                gathering.delay = delay;
                gathering.joined = false;
                step.set_timer(Timer::Join(self.id.clone()), delay);
            }
            _ => self.complete_join(step),
        }
    }

    /// Makes the next generation of those that have joined. Static members stay, though they have not.
    fn complete_join(&mut self, step: &mut Step<'_>) {
        step.timers.cancel(&Timer::Join(self.id.clone()));
        let absent = |m: &super::Member| m.awaiting_join.is_none() && m.instance_id.is_none();
        let absent: Vec<Arc<str>> = self.members.iter().filter(|(_, m)| absent(m)).map(|(id, _)| id.clone()).collect();
        for member in absent {
            self.remove(&member, step);
        }
        if !self.elect_leader() {
            // Nobody is left but static members that are away: their sessions end the wait.
            let wait = self.rebalance_timeout().max(Duration::from_secs(1));
            step.set_timer(Timer::Join(self.id.clone()), wait);
            return;
        }
        self.gathering = None;
        // A generation is never reused; after the last one the count begins again.
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.protocol = self.select_protocol();
        self.subscribed = self.compute_subscribed();
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.enter(State::Empty, step);
            return self.write(step);
        }
        self.enter(State::CompletingRebalance, step);
        self.tell_generation(step);
        step.set_timer(Timer::Sync(self.id.clone()), self.rebalance_timeout());
    }

    /// A leader must have joined. Says whether there is one, or nobody to lead.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &Arc<str>| self.members.get(id).is_some_and(|m| m.awaiting_join.is_some());
        if !self.leader.as_ref().is_some_and(joined) {
            let first = self.members.iter().find(|(_, m)| m.awaiting_join.is_some());
            match first {
                Some((id, _)) => self.leader = Some(id.clone()),
                None if self.members.is_empty() => self.leader = None,
                None => return false,
            }
        }
        true
    }

    /// The protocol that all support and most prefer; of equals, the one that the leader prefers.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id))?;
        let candidate = |name: &str| self.members.values().all(|m| m.supports(name));
        let candidates: Vec<&Arc<str>> =
            leader.protocols.iter().map(|(name, _)| name).filter(|name| candidate(name)).collect();
        let mut votes = vec![0_usize; candidates.len()];
        for member in self.members.values() {
            let vote = member.protocols.iter().find_map(|(name, _)| candidates.iter().position(|c| *c == name));
            if let Some(vote) = vote {
                votes[vote] += 1;
            }
        }
        let best = votes.iter().copied().max()?;
        let chosen = votes.iter().position(|v| *v == best)?;
        Some(candidates[chosen].clone())
    }

    fn tell_generation(&mut self, step: &mut Step<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            let answer = Response::JoinGroup(self.joined(id, false));
            let Some(member) = self.members.get_mut(id) else { continue };
            member.is_new = false;
            if let Some(ticket) = member.awaiting_join.take() {
                step.reply(ticket, answer);
            }
            self.start_session(id, step);
        }
        self.pending_sync.extend(ids);
    }

    /// The JoinGroup answer of a member.
    pub(in crate::groups) fn joined(&self, member: &Arc<str>, skip_assignment: bool) -> JoinedGroup {
        JoinedGroup {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| Arc::from("")),
            skip_assignment,
            member_id: member.clone(),
            members: if self.is_leader(member) { self.joined_members() } else { Vec::new() },
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let of = |(id, member): (&Arc<str>, &super::Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
        };
        self.members.iter().map(of).collect()
    }

    /// A member has not been heard of for its session timeout.
    pub(super) fn session_ended(&mut self, member: &Arc<str>, step: &mut Step<'_>) {
        if self.members.get(member).is_some_and(|m| !m.waits()) {
            self.expel(member, step);
            self.rebalance_without(step);
        }
    }

    /// Takes a member out that may wait for an answer: it may join anew.
    pub(super) fn expel(&mut self, member: &str, step: &mut Step<'_>) {
        let Some(removed) = self.remove(member, step) else { return };
        let nobody = Arc::from("");
        refuse_join(removed.awaiting_join, GroupError::UnknownMemberId, &nobody, step);
        if let Some(ticket) = removed.awaiting_sync {
            step.reply(ticket, Response::SyncGroup(Err(GroupError::UnknownMemberId)));
        }
    }

    /// Goes on after members have been taken out.
    pub(super) fn rebalance_without(&mut self, step: &mut Step<'_>) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(step),
            State::PreparingRebalance => self.complete_join_if_all_joined(step),
            State::Empty => {}
        }
    }
}

/// Refuses a JoinGroup that waits.
pub(super) fn refuse_join(ticket: Option<Ticket>, error: GroupError, member: &Arc<str>, step: &mut Step<'_>) {
    if let Some(ticket) = ticket {
        step.reply(ticket, Response::JoinGroup(JoinedGroup::refused(error, member)));
    }
}
