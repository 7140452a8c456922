//! How many groups, members and offsets a shard has, for metrics.

use super::group::{Group, GroupKind};
use super::shard::Shard;
use std::collections::BTreeMap;

/// What a shard has at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Groups by Kafka's names of type and state.
    pub groups: BTreeMap<(&'static str, &'static str), u64>,
    /// Members of all groups.
    pub members: u64,
    /// Partitions that groups have committed offsets of.
    pub offsets: u64,
}

impl Shard {
    /// Counts all groups.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for group in self.groups.values() {
            *census.groups.entry((group.type_name(), group.state_name())).or_default() += 1;
            census.members += group.member_count();
            census.offsets += group.offsets.topics().values().map(|partitions| partitions.len() as u64).sum::<u64>();
        }
        census
    }
}

impl Group {
    /// Kafka's name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self.kind {
            GroupKind::Classic(_) => "classic",
            GroupKind::Consumer(_) => "consumer",
        }
    }

    fn member_count(&self) -> u64 {
        match &self.kind {
            GroupKind::Classic(classic) => classic.member_count() as u64,
            GroupKind::Consumer(consumer) => consumer.member_count() as u64,
        }
    }
}
