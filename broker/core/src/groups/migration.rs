//! A group with members goes from one protocol to the other, while they go on (KIP-848).
//!
//! Upwards when a member of the consumer protocol joins a classic group whose members are consumers; down when the last
//! such member goes, and classic members are left. What members own is carried over: the coordinator takes a partition
//! to be in use until the member has said that it is not.

use super::classic::ClassicGroup;
use super::consumer::{ConsumerGroup, Refusal};
use super::event::Ticket;
use super::group::{Group, GroupKind};
use super::request::{Client, JoinGroup};
use super::response::{GroupError, Response};
use super::step::Step;
use super::timers::Timer;
use crate::cluster::Image;
use std::sync::Arc;

/// `group.consumer.migration.policy`: which way groups with members may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Neither.
    Disabled,
    /// From the classic protocol to the consumer protocol.
    Upgrade,
    /// From the consumer protocol to the classic protocol.
    Downgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Disabled, Self::Upgrade, Self::Downgrade, Self::Bidirectional];

    /// As it is written in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Bidirectional => "bidirectional",
        }
    }

    fn allows_upgrade(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    pub(super) fn allows_downgrade(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

impl Group {
    /// A member of the consumer protocol wants to join: a classic group that can becomes a consumer group first.
    pub(super) fn upgrade(&mut self, id: &Arc<str>, step: &mut Step<'_>) -> Result<(), Refusal> {
        let GroupKind::Classic(classic) = &mut self.kind else { return Ok(()) };
        if classic.is_empty() || step.image.is_none() {
            return Ok(());
        }
        let config = step.config;
        let migrating = if config.migration_policy.allows_upgrade() {
            classic.consumers(config.consumer_max_size)
        } else {
            Err("online upgrade is disabled.")
        };
        let (generation, members) = migrating.map_err(|why| {
            let text = format!("Cannot upgrade classic group {id} to consumer group because {why}");
            (GroupError::GroupIdNotFound, Some(text))
        })?;
        classic.dissolve(step);
        let mut consumer = ConsumerGroup::new(id.clone());
        consumer.within(step, |group, context| group.take_over(generation, members, context));
        self.kind = GroupKind::Consumer(Box::new(consumer));
        Ok(())
    }

    /// A static member that used the consumer protocol comes back with the classic one. If it was the last of its kind
    /// the others go on in a classic group. When nobody has to do anything else then than before, it takes the place in
    /// the consumer group first, and then leads the classic one: true is returned, as it has been answered. Otherwise
    /// the others are to join the classic group as it does.
    pub(super) fn replace_last_consumer(
        &mut self,
        id: &Arc<str>,
        join: &JoinGroup,
        client: &Client,
        random: u128,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) -> bool {
        let GroupKind::Consumer(consumer) = &mut self.kind else { return false };
        let Some(before) = consumer.replaces_consumer(&join.member) else { return false };
        if !consumer.is_last_of_consumer_protocol(&before) || !step.config.migration_policy.allows_downgrade() {
            return false;
        }
        if consumer.is_undisturbed_by(&before, join) {
            // A refusal has changed nothing, and is told when it is refused again.
            let joined = consumer.within(step, |group, context| group.join(join, client, random, context));
            let Ok(joined) = joined else { return false };
            let member = joined.member_id.clone();
            self.downgrade(id, Some(&member), step);
            let answer = match &self.kind {
                GroupKind::Classic(classic) => classic.joined(&member, classic.is_leader(&member)),
                GroupKind::Consumer(_) => joined,
            };
            step.reply_when_committed(ticket, Response::JoinGroup(answer));
            return true;
        }
        consumer.within(step, |group, context| group.fence(&before, context));
        if consumer.is_empty() {
            self.become_classic(id, step);
        } else {
            self.downgrade(id, None, step);
        }
        false
    }

    /// A deadline of this group has passed.
    pub(super) fn timer(&mut self, id: &Arc<str>, timer: &Timer, step: &mut Step<'_>) {
        match &mut self.kind {
            GroupKind::Classic(classic) => classic.timer(timer, step),
            GroupKind::Consumer(consumer) => consumer.timer(timer, step),
        }
        self.downgrade(id, None, step);
    }

    /// Once all members use the classic protocol the group becomes a classic one. They join it again, unless nobody has
    /// gone, each has what it is to have, and one (`leader`) is about to be told that it leads.
    pub(super) fn downgrade(&mut self, id: &Arc<str>, leader: Option<&Arc<str>>, step: &mut Step<'_>) {
        let GroupKind::Consumer(consumer) = &mut self.kind else { return };
        if !consumer.has_classic_members_alone(step.config) {
            return;
        }
        let nothing = Image::default();
        let (generation, members) = consumer.classic_members(step.image.unwrap_or(&nothing));
        let leader = leader.filter(|_| consumer.is_settled());
        consumer.within(step, ConsumerGroup::delete);
        let mut classic = ClassicGroup::new(id);
        classic.take_over(generation, members, leader, step);
        self.kind = GroupKind::Classic(Box::new(classic));
    }
}
