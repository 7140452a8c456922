//! Requests as one group answers them, and as they are answered when there is no such group.

use super::classic::ClassicGroup;
use super::consumer::{may_found, without_group};
use super::event::{Config, Ticket};
use super::group::{Group, GroupKind};
use super::refusal::{nothing_committed, refuse};
use super::request::{Client, Request};
use super::response::{GroupError, ListedGroup, Response};
use super::step::Step;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Group {
    /// A request for this group.
    pub(super) fn request(
        &mut self,
        id: &Arc<str>,
        request: Request,
        client: &Client,
        random: u128,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        match request {
            Request::OffsetCommit(commit) => self.commit(commit, ticket, step),
            Request::OffsetFetch { member, topics, .. } => {
                let member = member.as_ref().map(|(id, epoch)| (&**id, *epoch));
                let answer = self.fetch(member, topics.as_deref(), step.image);
                step.reply_when_committed(ticket, Response::OffsetFetch(answer));
            }
            Request::OffsetDelete { topics, .. } => {
                let answer = self.delete_requested(id, &topics, step);
                step.reply_when_committed(ticket, Response::OffsetDelete(answer));
            }
            Request::DeleteGroup(_) if self.is_empty() => {
                self.delete(id, step);
                step.reply_when_committed(ticket, Response::DeleteGroup(Ok(())));
            }
            Request::DeleteGroup(_) => step.reply(ticket, Response::DeleteGroup(Err(GroupError::NonEmptyGroup))),
            Request::JoinGroup(ref join) => {
                self.become_classic(id, step);
                if !self.replace_last_consumer(id, join, client, random, ticket, step) {
                    self.protocol_request(request, client, random, ticket, step);
                }
            }
            Request::ConsumerGroupHeartbeat(ref heartbeat) if heartbeat.member_epoch == 0 => {
                if let Err(refused) = may_found(heartbeat, step.config) {
                    return step.reply(ticket, Response::ConsumerGroupHeartbeat(Err(refused)));
                }
                self.become_consumer(id, step);
                if let Err(refused) = self.upgrade(id, step) {
                    return step.reply_when_committed(ticket, Response::ConsumerGroupHeartbeat(Err(refused)));
                }
                self.protocol_request(request, client, random, ticket, step);
            }
            request => self.protocol_request(request, client, random, ticket, step),
        }
        self.downgrade(id, None, step);
    }

    /// A request of one of the protocols.
    fn protocol_request(
        &mut self,
        request: Request,
        client: &Client,
        random: u128,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        match (&mut self.kind, request) {
            (GroupKind::Classic(classic), request) => classic.request(request, client, random, ticket, step),
            (GroupKind::Consumer(consumer), Request::ConsumerGroupHeartbeat(heartbeat)) => {
                consumer.answer_heartbeat(&heartbeat, client, random, ticket, step);
            }
            (GroupKind::Consumer(consumer), Request::ConsumerGroupDescribe(_)) => {
                step.reply_when_members_are(
                    ticket,
                    Response::ConsumerGroupDescribe(Ok(consumer.describe(step.config))),
                );
            }
            (GroupKind::Consumer(consumer), request) if is_classic(&request) => {
                consumer.classic_request(&request, client, random, ticket, step);
            }
            (GroupKind::Consumer(_), request) => {
                step.reply_when_committed(ticket, of_other_kind(&request, step.config));
            }
        }
    }
}

/// Whether it is a request of members of the classic protocol.
fn is_classic(request: &Request) -> bool {
    matches!(
        request,
        Request::JoinGroup(_) | Request::SyncGroup(_) | Request::Heartbeat { .. } | Request::LeaveGroup { .. }
    )
}

impl ClassicGroup {
    fn request(&mut self, request: Request, client: &Client, random: u128, ticket: Ticket, step: &mut Step<'_>) {
        match request {
            Request::JoinGroup(join) => self.join(&join, client, random, ticket, step),
            Request::SyncGroup(sync) => self.sync(sync, ticket, step),
            Request::Heartbeat { member, generation, .. } => self.heartbeat(&member, generation, ticket, step),
            Request::LeaveGroup { members, .. } => self.leave(&members, ticket, step),
            Request::DescribeGroup(_) => {
                let answer = Response::DescribeGroup(Ok(self.describe()));
                if self.is_written() {
                    step.reply_when_members_are(ticket, answer);
                } else {
                    // That there is such a group is known by its offsets alone.
                    step.reply_when_committed(ticket, answer);
                }
            }
            request => step.reply_when_committed(ticket, of_other_kind(&request, step.config)),
        }
    }
}

/// Whether a request for a group that does not exist makes it.
pub(super) fn creates_group(request: &Request) -> bool {
    match request {
        Request::JoinGroup(join) => join.member.member_id.is_empty(),
        Request::OffsetCommit(commit) => commit.generation_or_epoch < 0,
        Request::ConsumerGroupHeartbeat(heartbeat) => heartbeat.member_epoch == 0,
        _ => false,
    }
}

/// Whether an empty group id is refused. Offsets may be kept under it, as old clients do.
pub(super) fn needs_group_id(request: &Request) -> bool {
    matches!(
        request,
        Request::JoinGroup(_)
            | Request::SyncGroup(_)
            | Request::Heartbeat { .. }
            | Request::LeaveGroup { .. }
            | Request::OffsetDelete { .. }
            | Request::ConsumerGroupDescribe(_)
    )
}

/// The answer if the group has another protocol: as if there were none, but for what people read.
fn of_other_kind(request: &Request, config: &Config) -> Response {
    let refusal = |kind: &str, group: &str| {
        let text = format!("Group {group} is not a {kind} group.");
        (GroupError::GroupIdNotFound, Some(text))
    };
    match request {
        Request::DescribeGroup(group) => Response::DescribeGroup(Err(refusal("classic", group))),
        Request::ConsumerGroupDescribe(group) => Response::ConsumerGroupDescribe(Err(refusal("consumer", group))),
        request => absent(request, config),
    }
}

/// The answer if there is no such group.
pub(super) fn absent(request: &Request, config: &Config) -> Response {
    match request {
        Request::LeaveGroup { members, .. } => {
            Response::LeaveGroup(Ok(vec![Err(GroupError::UnknownMemberId); members.len()]))
        }
        Request::OffsetFetch { topics, .. } => Response::OffsetFetch(Ok(nothing_committed(topics.as_deref()))),
        Request::JoinGroup(_) | Request::SyncGroup(_) | Request::Heartbeat { .. } => {
            refuse(request, GroupError::UnknownMemberId)
        }
        Request::ConsumerGroupHeartbeat(heartbeat) => {
            Response::ConsumerGroupHeartbeat(Err(without_group(heartbeat, config)))
        }
        request => refuse(request, GroupError::GroupIdNotFound),
    }
}

/// ListGroups.
pub(super) fn list(groups: &BTreeMap<Arc<str>, Group>, request: &Request) -> Vec<ListedGroup> {
    let Request::ListGroups { states, types } = request else { return Vec::new() };
    let allows =
        |filter: &[String], name: &str| filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(name));
    groups
        .iter()
        .map(|(id, group)| group.listed(id))
        .filter(|group| allows(states, group.state) && allows(types, group.group_type))
        .collect()
}
