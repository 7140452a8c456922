//! The throttle that a rebalance asks for: a rate of all brokers, for all replicas of the topics that it moves.
//!
//! It is kept as Kafka's throttle, where a person may have set one too. Nothing of theirs is changed: another rate is a
//! refusal, and a list of replicas stays. A list of all replicas, which nobody has to write out, is a rebalance's mark.

use super::command::{MetadataCommand, Reassignment};
use super::config::{ConfigChange, ConfigOp, ConfigResource};
use super::image::{Image, Topic};
use super::throttles::{FOLLOWER_RATE, FOLLOWER_REPLICAS, LEADER_RATE, LEADER_REPLICAS};
use crate::ids::TopicId;
use std::collections::BTreeSet;

const LISTS: [&str; 2] = [LEADER_REPLICAS.name, FOLLOWER_REPLICAS.name];
const RATES: [&str; 2] = [LEADER_RATE.name, FOLLOWER_RATE.name];
/// All replicas of a topic.
const ALL: &str = "*";

/// All brokers have another rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} of all brokers is {rate} already: ask for that rate, or take it away first")]
pub struct OtherRate {
    /// Which of the two.
    pub name: &'static str,
    /// Bytes a second, as set.
    pub rate: Box<str>,
}

impl Image {
    /// What throttles these moves to so many bytes a second of each broker: to be done before they begin, in this order.
    pub fn throttled(&self, moves: &[Reassignment], rate: u64) -> Result<Vec<MetadataCommand>, OtherRate> {
        let rate = rate.min(i64::MAX as u64).to_string();
        let set = |name: &str| self.cluster_configs.get(name);
        let other = RATES.iter().find_map(|name| Some((*name, set(name).filter(|is| ***is != *rate)?)));
        if let Some((name, rate)) = other {
            return Err(OtherRate { name, rate: (&**rate).into() });
        }
        let topics: BTreeSet<TopicId> = moves.iter().map(|m| m.partition.topic).collect();
        let lists = topics.iter().filter_map(|id| self.topics.get(id)).map(|topic| {
            let absent = LISTS.into_iter().filter(|name| !topic.configs.contains_key(*name));
            alter(ConfigResource::Topic(topic.id), absent, Some(ALL))
        });
        let rates = RATES.into_iter().filter(|name| set(name).is_none());
        Ok(lists.chain([alter(ConfigResource::Cluster, rates, Some(&rate))]).flatten().collect())
    }

    /// What takes that throttle away; `rate` is the one that it was, if it is known. The rate stays while a list of somebody
    /// else's needs it.
    pub fn unthrottled(&self, rate: Option<u64>) -> Vec<MetadataCommand> {
        let lists = |topic: &Topic, all: bool| {
            let list = |name: &str| topic.configs.get(name).is_some_and(|list| (**list == *ALL) == all);
            LISTS.into_iter().filter(|name| list(name)).collect::<Vec<_>>()
        };
        let marked: Vec<&Topic> = self.topics.values().filter(|topic| !lists(topic, true).is_empty()).collect();
        let others = self.topics.values().any(|topic| !lists(topic, false).is_empty());
        let rate = rate.map(|rate| rate.min(i64::MAX as u64).to_string());
        let is_its = |name: &&str| {
            self.cluster_configs.get(*name).is_some_and(|is| rate.as_ref().is_none_or(|rate| **is == **rate))
        };
        // The lists go last: while there are some, this is asked for again.
        let rates = RATES.into_iter().filter(|name| !marked.is_empty() && !others && is_its(name));
        let rates = alter(ConfigResource::Cluster, rates, None);
        let of_topics = marked.iter().map(|topic| {
            let names = lists(topic, true).into_iter();
            alter(ConfigResource::Topic(topic.id), names, None)
        });
        [rates].into_iter().chain(of_topics).flatten().collect()
    }
}

/// Sets all of these, or takes them away; `None` if there are none.
fn alter(
    resource: ConfigResource,
    names: impl Iterator<Item = &'static str>,
    value: Option<&str>,
) -> Option<MetadataCommand> {
    let op = || value.map_or(ConfigOp::Delete, |value| ConfigOp::Set(value.into()));
    let changes: Vec<ConfigChange> = names.map(|name| ConfigChange { name: name.into(), op: op() }).collect();
    (!changes.is_empty()).then_some(MetadataCommand::AlterConfigs { resource, replace: false, changes })
}
