//! Offsets that are kept no longer (`offsets.retention.minutes`), and groups that have nothing any more.

use super::classic::RetainedSince;
use super::group::{Group, GroupKind};
use super::record::OffsetCommitValue;
use super::step::Step;
use std::sync::Arc;

impl Group {
    /// Deletes offsets whose time is over: of an empty group, or of topics that nobody in it is subscribed to. An
    /// empty group without offsets is deleted with them.
    pub(super) fn expire(&mut self, id: &Arc<str>, step: &mut Step<'_>) {
        let since = match &self.kind {
            GroupKind::Classic(classic) => classic.retained_since(),
            // As in Kafka: what was committed longer ago than the retention goes as soon as the group is empty.
            GroupKind::Consumer(_) => Some(RetainedSince::Commit),
        };
        if let Some(since) = since {
            let now = step.now.wall_ms;
            let retention = i64::try_from(step.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
            let old: Vec<Arc<str>> =
                self.offsets.topics().keys().filter(|topic| !self.subscribes(topic)).cloned().collect();
            let expired = |topic: &str, _: i32, value: &OffsetCommitValue| {
                old.binary_search_by(|t| (**t).cmp(topic)).is_ok() && is_over(value, since, now, retention)
            };
            self.delete_offsets(id, expired, step);
        }
        if self.offsets.is_empty() && self.is_empty() {
            self.delete(id, step);
            self.kind = GroupKind::Classic(Box::new(super::classic::ClassicGroup::new(id)));
        }
    }
}

fn is_over(value: &OffsetCommitValue, since: RetainedSince, now: i64, retention: i64) -> bool {
    if value.expire_timestamp >= 0 {
        return now >= value.expire_timestamp;
    }
    let since = match since {
        RetainedSince::Commit => value.commit_timestamp,
        // Simple consumers may have committed since.
        RetainedSince::Moment(moment) => moment.max(value.commit_timestamp),
    };
    now.saturating_sub(since) >= retention
}
