//! ConsumerGroupHeartbeat: a member joins, says what it owns and wants, and hears what it may use.
//!
//! All refusals come before the first record is written, so a refused heartbeat changes nothing.

use super::assignment::Assignment;
use super::context::Refusal;
use super::member::{JOIN, LEAVE_STATIC, Member, State};
use super::reconcile::Reconciliation;
use super::{ConsumerGroup, Deadline, StepContext, re2, step};
use crate::groups::event::Config;
use crate::groups::record::{ConsumerGroupMemberValue, RecordKey, RecordValue};
use crate::groups::request::{Client, ConsumerGroupHeartbeat as Heartbeat};
use crate::groups::response::{ConsumerGroupHeartbeat as Answer, GroupError};
use std::sync::Arc;

/// Whose heartbeat it is.
enum Sender {
    /// Nobody's so far.
    New(Arc<str>),
    Known(Arc<str>),
    /// A static member's that has come back.
    Returned {
        before: Arc<str>,
        id: Arc<str>,
    },
}

impl Sender {
    /// The member whose place it has or takes.
    fn place(&self) -> &Arc<str> {
        match self {
            Self::New(id) | Self::Known(id) => id,
            Self::Returned { before, .. } => before,
        }
    }
}

impl ConsumerGroup {
    /// Takes in a heartbeat. `random` makes the id of a member that has none.
    pub(in crate::groups) fn heartbeat(
        &mut self,
        request: &Heartbeat,
        client: &Client,
        random: u128,
        context: &mut StepContext<'_>,
    ) -> Result<Answer, Refusal> {
        validate(request, context.config)?;
        if self.is_nothing() && request.member_epoch != JOIN {
            return Err(step::without_group(request, context.config));
        }
        if request.member_epoch < JOIN {
            return self.leave(request, context);
        }
        let owned = request.owned.as_deref().map(Assignment::from);
        let sender = self.sender(request, owned.as_ref(), random, context)?;
        self.check_regex(request)?;

        let late = matches!(&sender, Sender::Known(id) if request.member_epoch < self.members[id].epoch);
        let about = self.about(sender.place(), request, client)?;
        let id = match sender {
            Sender::New(id) | Sender::Known(id) => id,
            Sender::Returned { before, id } => {
                self.replace(&before, &id, context);
                id
            }
        };
        let had = self.members.get(&id).map(|m| m.assigned.clone()).unwrap_or_default();
        let changed = self.update_member(&id, about, context);
        self.update_epochs(changed, context);
        // What a late heartbeat owned, it may have owned before it was given more, or asked to give back.
        let believed = if late && request.member_epoch != JOIN { None } else { owned.as_ref() };
        self.reconcile(&id, believed, context);

        context.deadlines.push((Deadline::Session(id.clone()), Some(context.timeouts.session)));
        let member = &self.members[&id];
        let tell = late || is_full(request) || member.assigned != had;
        Ok(Answer {
            member_epoch: member.epoch,
            heartbeat_interval_ms: i32::try_from(context.timeouts.heartbeat_interval.as_millis()).unwrap_or(i32::MAX),
            assignment: tell.then(|| member.assigned.to_topics()),
            member_id: id,
        })
    }

    /// What the member says of itself with what it said before, if the group has room for it.
    fn about(
        &self,
        place: &Arc<str>,
        request: &Heartbeat,
        client: &Client,
    ) -> Result<ConsumerGroupMemberValue, Refusal> {
        let before = self.members.get(place).map_or_else(|| Member::new().about, |m| m.about.clone());
        let about = merged(before, request, client);
        if self.has_room_for(place, &about) {
            return Ok(about);
        }
        let text = "The members of the consumer group have subscribed to as many topic names as it has room for.";
        Err((GroupError::GroupMaxSizeReached, Some(text.to_owned())))
    }

    /// Finds out whose heartbeat it is, and whether it may come at this epoch.
    fn sender(
        &self,
        request: &Heartbeat,
        owned: Option<&Assignment>,
        random: u128,
        context: &StepContext<'_>,
    ) -> Result<Sender, Refusal> {
        let max = context.config.consumer_max_size;
        // Who takes the place of another makes the group no larger.
        let static_before = request.instance_id.as_ref().and_then(|instance| self.static_members.get(instance));
        let is_more = static_before.is_none() && !self.members.contains_key(&request.member_id);
        if is_more && self.members.len() >= max {
            let text = format!("The consumer group has reached its maximum capacity of {max} members.");
            return Err((GroupError::GroupMaxSizeReached, Some(text)));
        }
        let id = match &*request.member_id {
            "" => uuid::Uuid::from_u128(random).to_string().into(),
            _ => request.member_id.clone(),
        };
        let joins = request.member_epoch == JOIN;
        let id = match &request.instance_id {
            Some(instance) if joins => return self.joining_static(instance, id),
            // One that has joined before has lost the answer, or was fenced: it owns nothing any more.
            None if joins => {
                let known = self.members.contains_key(&id);
                return Ok(if known { Sender::Known(id) } else { Sender::New(id) });
            }
            Some(instance) => self.known_static(instance, &id)?,
            None => self.known(&id)?,
        };
        check_epoch(&self.members[&id], request.member_epoch, owned)?;
        Ok(Sender::Known(id))
    }

    fn joining_static(&self, instance: &Arc<str>, id: Arc<str>) -> Result<Sender, Refusal> {
        let Some(before) = self.static_members.get(instance) else {
            return Ok(if self.members.contains_key(&id) { Sender::Known(id) } else { Sender::New(id) });
        };
        let member = &self.members[before];
        if member.is_away() || member.about.classic.is_some() {
            return Ok(Sender::Returned { before: before.clone(), id });
        }
        if *before == id {
            return Ok(Sender::Known(id));
        }
        let text = format!(
            "Static member {id} with instance id {instance} cannot join the group because the instance id is owned by \
             {before} member."
        );
        Err((GroupError::UnreleasedInstanceId, Some(text)))
    }

    /// Refuses a regular expression that is not valid. One that the group goes by already is.
    pub(super) fn check_regex(&self, request: &Heartbeat) -> Result<(), Refusal> {
        match &request.subscribed_topic_regex {
            Some(regex) if !regex.is_empty() && !self.regexes.contains_key(regex) => {
                let text =
                    |error| format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {error}.");
                re2::compile(regex).map(|_| ()).map_err(|e| (GroupError::InvalidRegularExpression, Some(text(e))))
            }
            _ => Ok(()),
        }
    }

    /// Gives a static member that has come back, with another id, all that it had.
    pub(super) fn replace(&mut self, before: &Arc<str>, id: &Arc<str>, context: &mut StepContext<'_>) {
        let Some(mut member) = self.members.get(before).cloned() else { return };
        let target = self.targets.get(before).cloned();
        self.forget(before, context);
        member.epoch = 0;
        member.previous_epoch = 0;
        let (group, id) = (self.id.clone(), id.clone());
        let about = RecordValue::ConsumerGroupMember(member.about.clone());
        self.write(RecordKey::ConsumerGroupMember(group.clone(), id.clone()), Some(about), context);
        if let Some(target) = target {
            let key = RecordKey::ConsumerGroupTargetAssignmentMember(group.clone(), id.clone());
            let topic_partitions = target.to_topics();
            self.write(key, Some(RecordValue::ConsumerGroupTargetAssignmentMember { topic_partitions }), context);
        }
        let current = RecordValue::ConsumerGroupCurrentMemberAssignment(member.current());
        self.write(RecordKey::ConsumerGroupCurrentMemberAssignment(group, id), Some(current), context);
    }

    /// Notes what the member says of itself. Whether it subscribes to something else than before.
    pub(super) fn update_member(
        &mut self,
        id: &Arc<str>,
        about: ConsumerGroupMemberValue,
        context: &mut StepContext<'_>,
    ) -> bool {
        let known = self.members.get(id);
        let before = known.map_or_else(|| Member::new().about, |m| m.about.clone());
        let names_changed = about.subscribed_topic_names != before.subscribed_topic_names;
        let regex = |about: &ConsumerGroupMemberValue| about.subscribed_topic_regex.clone().filter(|r| !r.is_empty());
        let (regex_before, regex) = (regex(&before), regex(&about));
        if about != before || known.is_none() {
            let key = RecordKey::ConsumerGroupMember(self.id.clone(), id.clone());
            self.write(key, Some(RecordValue::ConsumerGroupMember(about)), context);
        }
        if regex != regex_before {
            self.resolve_new_regex(regex.as_ref(), context);
        }
        names_changed || regex != regex_before
    }

    /// Bumps the group's epoch if its subscriptions or topics have changed, and computes the target assignment if it
    /// is not that of the group's epoch.
    pub(super) fn update_epochs(&mut self, subscriptions_changed: bool, context: &mut StepContext<'_>) {
        let mut bump = self.epoch == 0 || subscriptions_changed;
        bump |= self.refresh_regexes(context);
        if bump || self.refresh.topics {
            self.refresh.topics = false;
            let metadata_hash = self.topics_hash(context.image);
            if bump || metadata_hash != self.metadata_hash {
                let epoch = self.next_epoch();
                let value = RecordValue::ConsumerGroupMetadata { epoch, metadata_hash };
                self.write(RecordKey::ConsumerGroupMetadata(self.id.clone()), Some(value), context);
            }
        }
        if self.epoch > self.assignment_epoch {
            self.compute_target(context);
        }
    }

    /// Takes the member on towards its target assignment.
    pub(super) fn reconcile(&mut self, id: &Arc<str>, owned: Option<&Assignment>, context: &mut StepContext<'_>) {
        let nothing = Assignment::default();
        let target = self.targets.get(id).unwrap_or(&nothing);
        let before = &self.members[id];
        let mut member = before.clone();
        Reconciliation { target_epoch: self.assignment_epoch, target, owned }
            .advance(&mut member, |topic, partition| {
                self.owners.get(&(topic, partition)).is_some_and(|owner| owner != id)
            });
        if member == *before {
            return;
        }
        let timeout = (member.state == State::UnrevokedPartitions).then(|| member.rebalance_timeout());
        context.deadlines.push((Deadline::Rebalance(id.clone()), timeout));
        let key = RecordKey::ConsumerGroupCurrentMemberAssignment(self.id.clone(), id.clone());
        self.write(key, Some(RecordValue::ConsumerGroupCurrentMemberAssignment(member.current())), context);
    }
}

/// What is wrong with a request, whatever the group is.
pub(super) fn validate(request: &Heartbeat, config: &Config) -> Result<(), Refusal> {
    let invalid = |text: &str| Err((GroupError::InvalidRequest, Some(text.to_owned())));
    let blank = |text: &Option<Arc<str>>| text.as_ref().is_some_and(|t| t.trim().is_empty());
    if request.group.trim().is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if blank(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if blank(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    if request.member_epoch != JOIN && request.member_id.trim().is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.member_epoch == JOIN {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
    }
    if request.member_epoch == LEAVE_STATIC && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    }
    if request.member_epoch < LEAVE_STATIC {
        return invalid("MemberEpoch is invalid.");
    }
    match &request.server_assignor {
        Some(name) if !config.consumer_assignors.iter().any(|assignor| assignor.name() == &**name) => {
            let supported: Vec<_> = config.consumer_assignors.iter().map(|assignor| assignor.name()).collect();
            let supported = supported.join(", ");
            let text = format!("ServerAssignor {name} is not supported. Supported assignors: {supported}.");
            Err((GroupError::UnsupportedAssignor, Some(text)))
        }
        _ => Ok(()),
    }
}

/// A member comes at its epoch; or at the one before, as an answer may have been lost, and then owns nothing that it
/// should not.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Assignment>) -> Result<(), Refusal> {
    let fenced = |how: &str| {
        let text = format!(
            "The consumer group member has a {how} member epoch ({epoch}) than the one known by the group coordinator \
             ({}). The member must abandon all its partitions and rejoin.",
            member.epoch
        );
        Err((GroupError::FencedMemberEpoch, Some(text)))
    };
    if epoch > member.epoch {
        return fenced("greater");
    }
    if epoch < member.epoch && !(epoch == member.previous_epoch && owned.is_some_and(|owned| member.owns(owned))) {
        return fenced("smaller");
    }
    if matches!(member.state, State::Unknown(_)) && owned.is_none_or(|owned| !owned.is_empty()) {
        let text = "The consumer group member is in a unknown state. The member must abandon all its partitions and \
                    rejoin.";
        return Err((GroupError::FencedMemberEpoch, Some(text.to_owned())));
    }
    Ok(())
}

/// What a member says of itself, where it says something.
fn merged(before: ConsumerGroupMemberValue, request: &Heartbeat, client: &Client) -> ConsumerGroupMemberValue {
    let names = request.subscribed_topic_names.clone().map(|mut names| {
        names.sort_unstable();
        names.dedup();
        names
    });
    ConsumerGroupMemberValue {
        instance_id: request.instance_id.clone().or(before.instance_id),
        rack_id: request.rack_id.clone().or(before.rack_id),
        client_id: client.id.clone(),
        client_host: client.host.clone(),
        subscribed_topic_names: names.unwrap_or(before.subscribed_topic_names),
        subscribed_topic_regex: request.subscribed_topic_regex.clone().or(before.subscribed_topic_regex),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            timeout => timeout,
        },
        server_assignor: request.server_assignor.clone().or(before.server_assignor),
        classic: None,
    }
}

/// Whether a member has said everything, as it does when it joins or is in doubt.
fn is_full(request: &Heartbeat) -> bool {
    let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    request.member_epoch == JOIN || (request.rebalance_timeout_ms != -1 && subscribes && request.owned.is_some())
}
