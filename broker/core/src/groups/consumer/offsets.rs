//! Who may commit and fetch a group's offsets, and which of them are in use.

use super::ConsumerGroup;
use crate::groups::response::GroupError;
use crate::ids::TopicId;

impl ConsumerGroup {
    /// Whether that member may commit offsets of these partitions with that epoch. Without members, whoever names no epoch
    /// may. A member of the consumer protocol uses a version of the request that knows its errors. It may have sent the
    /// request before it heard of its epoch: an older one counts for what it has owned since then (KIP-1251).
    pub(in crate::groups) fn may_commit(
        &self,
        member: &str,
        epoch: i32,
        knows_epochs: bool,
        partitions: impl Iterator<Item = (TopicId, i32)>,
    ) -> Result<(), GroupError> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let known = self.members.get(member);
        if !knows_epochs && known.is_some_and(|m| m.about.classic.is_none()) {
            return Err(GroupError::UnsupportedVersion);
        }
        if known.is_some_and(|m| epoch < m.epoch && m.owned_at(epoch, partitions)) {
            return Ok(());
        }
        self.has_epoch(member, epoch)
    }

    /// Whether that member may fetch offsets; `None` when the request named none, as those of tools do not.
    pub(in crate::groups) fn may_fetch(&self, member: Option<(&str, i32)>) -> Result<(), GroupError> {
        member.map_or(Ok(()), |(member, epoch)| self.has_epoch(member, epoch))
    }

    fn has_epoch(&self, member: &str, epoch: i32) -> Result<(), GroupError> {
        match self.members.get(member) {
            None => Err(GroupError::UnknownMemberId),
            Some(member) if member.epoch == epoch => Ok(()),
            Some(member) if member.about.classic.is_some() => Err(GroupError::IllegalGeneration),
            Some(_) => Err(GroupError::StaleMemberEpoch),
        }
    }

    /// Whether a member is subscribed to the topic.
    pub(in crate::groups) fn subscribes(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let named = member.about.subscribed_topic_names.iter().any(|name| &**name == topic);
            let resolved = member.regex().and_then(|regex| self.regexes.get(regex));
            named || resolved.is_some_and(|r| r.topics.binary_search_by(|name| (**name).cmp(topic)).is_ok())
        })
    }
}
