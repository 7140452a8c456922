//! How fast replicas catch up that somebody has asked to be slowed down (KIP-73): `kafka-reassign-partitions --throttle`
//! sets a rate for each broker, and lists the replicas that it is for.
//!
//! The leader keeps to both ends' rates, as it is the one that sends. A replica in the ISR is never slowed down, and of
//! the others only what is read for them, not what is being written: who has caught up joins.

use super::config::{TopicConfig, rate, replicas};
use super::image::{Image, Topic};
use crate::ids::{BrokerId, PartitionId, TopicId, TopicPartition};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The longest list of replicas that is taken, in bytes: enough for some 10,000 partitions.
pub(super) const MAX_REPLICAS_VALUE: usize = 256 << 10;
/// What was not sent may be made up for, for so long.
const BURST: Duration = Duration::from_millis(500);
/// How long it is taken for known how many leaders a follower catches up from.
const SOURCES_KNOWN: Duration = Duration::from_secs(1);

pub(super) const LEADER_REPLICAS: TopicConfig = replicas(
    "leader.replication.throttled.replicas",
    "Leaders, as `partition:broker` with commas between or `*` for all, that send no faster than their broker's \
     `leader.replication.throttled.rate` to replicas that are not in sync.",
);
pub(super) const FOLLOWER_REPLICAS: TopicConfig = replicas(
    "follower.replication.throttled.replicas",
    "Followers, as `partition:broker` with commas between or `*` for all, that catch up no faster than their broker's \
     `follower.replication.throttled.rate` while they are not in sync.",
);
pub(super) const LEADER_RATE: TopicConfig = rate(
    "leader.replication.throttled.rate",
    "Bytes a second that the broker sends to replicas that are not in sync, of partitions that are listed in \
     `leader.replication.throttled.replicas`.",
);
pub(super) const FOLLOWER_RATE: TopicConfig = rate(
    "follower.replication.throttled.rate",
    "Bytes a second that the broker gets as a replica that is not in sync, of partitions that are listed in \
     `follower.replication.throttled.replicas`. Leaders share it evenly.",
);

/// The throttle rates of a replica's catching up, in bytes per second; `None` for one that does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThrottledRates {
    /// Of the leader, over all that it sends to throttled replicas.
    pub leader: Option<u64>,
    /// Of the follower, over all that it gets from all leaders.
    pub follower: Option<u64>,
}

impl Image {
    /// The rates that are set for what `leader` reads for this follower, if it is not in sync. They count as far as the
    /// topic [lists](Throttle::in_force) the two: asked first, as it costs little, and mostly there are none.
    pub fn throttled_rates(&self, tp: TopicPartition, leader: BrokerId, follower: BrokerId) -> Option<ThrottledRates> {
        let topic = self.topics.get(&tp.topic)?;
        let of = |replicas: &TopicConfig, broker, rate: &TopicConfig| {
            topic.configs.get(replicas.name)?;
            self.dynamic_property(broker, rate.name)?.parse::<u64>().ok()
        };
        let rates = ThrottledRates {
            leader: of(&LEADER_REPLICAS, leader, &LEADER_RATE),
            follower: of(&FOLLOWER_REPLICAS, follower, &FOLLOWER_RATE),
        };
        let in_sync = || self.partition(tp).is_some_and(|p| p.isr.contains(&follower));
        rates.any().filter(|_| !in_sync())
    }
}

impl ThrottledRates {
    /// `None` if neither counts.
    fn any(self) -> Option<Self> {
        (self.leader.is_some() || self.follower.is_some()).then_some(self)
    }
}

/// A list of replicas: each once, in the order given.
pub(super) fn canonical_replicas(value: &str) -> Result<String, String> {
    if value.is_empty() || value == "*" {
        return Ok(value.to_owned());
    }
    let replica = |text: &str| {
        let (partition, broker) = text.trim().split_once(':')?;
        let number = |text: &str| text.parse::<u32>().ok().and_then(|n| i32::try_from(n).ok());
        Some(format!("{}:{}", number(partition)?, number(broker)?))
    };
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for text in value.split(',') {
        let Some(replica) = replica(text) else {
            return Err("is not made of partition:broker with commas between, nor *".into());
        };
        if seen.insert(replica.clone()) {
            all.push(replica);
        }
    }
    Ok(all.join(","))
}

/// Lists that are kept taken apart. Those of topics that are deleted are among them until there are more.
const KNOWN_MOST: usize = 1024;

/// Topics' lists of throttled replicas, each taken apart once for as long as it is the topic's: it may be long, and every read
/// for a follower that catches up asks.
#[derive(Debug, Default)]
struct Lists {
    known: BTreeMap<(TopicId, &'static str), List>,
    #[cfg(test)]
    taken_apart: usize,
}

#[derive(Debug)]
struct List {
    /// As the topic has it. While it is held here, no other one is at its place.
    text: Arc<str>,
    /// In order; `None` for all.
    replicas: Option<Vec<(PartitionId, BrokerId)>>,
}

impl List {
    fn new(text: &Arc<str>) -> Self {
        let replica = |text: &str| {
            let (partition, broker) = text.split_once(':')?;
            Some((PartitionId(partition.parse().ok()?), BrokerId(broker.parse().ok()?)))
        };
        let replicas = (&**text != "*").then(|| {
            let mut all: Vec<_> = text.split(',').filter_map(replica).collect();
            all.sort_unstable();
            all
        });
        Self { text: Arc::clone(text), replicas }
    }

    fn has(&self, partition: PartitionId, broker: BrokerId) -> bool {
        self.replicas.as_ref().is_none_or(|all| all.binary_search(&(partition, broker)).is_ok())
    }
}

impl Lists {
    /// One of the topic's two lists, if it has it.
    fn get(&mut self, topic: &Topic, config: &TopicConfig) -> Option<&List> {
        let text = topic.configs.get(config.name)?;
        let key = (topic.id, config.name);
        if !self.known.get(&key).is_some_and(|list| Arc::ptr_eq(&list.text, text)) {
            if self.known.len() >= KNOWN_MOST {
                self.known.clear();
            }
            self.known.insert(key, List::new(text));
            #[cfg(test)]
            {
                self.taken_apart += 1;
            }
        }
        self.known.get(&key)
    }

    /// How many brokers lead something in which this follower is not in sync and is throttled.
    fn sources(&mut self, image: &Image, follower: BrokerId) -> usize {
        let is_there = |id: &TopicId, name: &str| image.topics.get(id).is_some_and(|t| t.configs.contains_key(name));
        self.known.retain(|(topic, name), _| is_there(topic, name));
        let mut leaders = BTreeSet::new();
        for topic in image.topics.values() {
            let Some(list) = self.get(topic, &FOLLOWER_REPLICAS) else { continue };
            for (i, partition) in topic.partitions.iter().enumerate() {
                if partition.replicas.contains(&follower)
                    && !partition.isr.contains(&follower)
                    && list.has(PartitionId(i as i32), follower)
                {
                    leaders.extend(partition.leader);
                }
            }
        }
        leaders.len()
    }
}

/// What one broker has sent to throttled replicas, for all that it leads. Time is an argument.
#[derive(Debug, Default)]
pub struct Throttle {
    sent: Bucket,
    to: BTreeMap<BrokerId, ToFollower>,
    lists: Lists,
}

#[derive(Debug, Default)]
struct ToFollower {
    sent: Bucket,
    /// Leaders that the follower catches up from, and when that was counted.
    sources: Option<(Instant, u64)>,
}

impl Throttle {
    /// Those of [these rates](Image::throttled_rates) that are in force, as the topic lists the replica; `None` if the leader
    /// need not be slow.
    pub fn in_force(
        &mut self,
        (image, rates): (&Image, ThrottledRates),
        tp: TopicPartition,
        (leader, follower): (BrokerId, BrokerId),
    ) -> Option<ThrottledRates> {
        let topic = image.topics.get(&tp.topic)?;
        let mut listed =
            |config: &TopicConfig, broker| self.lists.get(topic, config).is_some_and(|l| l.has(tp.partition, broker));
        let leader = rates.leader.filter(|_| listed(&LEADER_REPLICAS, leader));
        let follower = rates.follower.filter(|_| listed(&FOLLOWER_REPLICAS, follower));
        ThrottledRates { leader, follower }.any()
    }

    /// How many bytes may be read for the follower now, `wanted` at most; `None` if it is too early. What is granted counts
    /// as sent: what of it was not there after all is [corrected](Self::correct).
    pub fn take(
        &mut self,
        now: Instant,
        (image, rates): (&Image, ThrottledRates),
        follower: BrokerId,
        wanted: usize,
    ) -> Option<usize> {
        let (to, lists) = (self.to.entry(follower).or_default(), &mut self.lists);
        let share = rates.follower.map(|rate| {
            let known = to.sources.filter(|(at, _)| now.since(*at) < SOURCES_KNOWN);
            let count = || (now, lists.sources(image, follower).max(1) as u64);
            let (_, sources) = *to.sources.insert(known.unwrap_or_else(count));
            rate / sources
        });
        let most = [rates.leader, share].into_iter().flatten().min()?;
        let may = rates.leader.is_none_or(|rate| self.sent.may_take(now, rate))
            && share.is_none_or(|rate| to.sent.may_take(now, rate));
        if !may {
            return None;
        }
        let granted = wanted.min(usize::try_from(most).unwrap_or(usize::MAX)).max(1);
        self.charge(follower, rates, granted as i128);
        Some(granted)
    }

    /// Less was sent than had been granted, or more: a batch goes as a whole.
    pub fn correct(&mut self, follower: BrokerId, rates: ThrottledRates, granted: usize, sent: usize) {
        self.charge(follower, rates, sent as i128 - granted as i128);
    }

    /// How often a list was taken apart.
    #[cfg(test)]
    pub(super) fn lists_taken_apart(&self) -> usize {
        self.lists.taken_apart
    }

    fn charge(&mut self, follower: BrokerId, rates: ThrottledRates, bytes: i128) {
        if rates.leader.is_some() {
            self.sent.charge(bytes);
        }
        if rates.follower.is_some() {
            self.to.entry(follower).or_default().sent.charge(bytes);
        }
    }
}

/// A bucket of bytes that fills at a rate. Something may be taken while it is not empty, and more than there is; then it
/// takes as long until it is not empty again.
#[derive(Debug, Default)]
struct Bucket {
    /// In millionths of a byte: a microsecond at a byte per second.
    level: i128,
    at: Instant,
}

impl Bucket {
    fn may_take(&mut self, now: Instant, rate: u64) -> bool {
        let passed = now.since(self.at).as_micros() as i128;
        let full = i128::from(rate) * BURST.as_micros() as i128;
        self.level = (self.level + passed * i128::from(rate)).min(full);
        self.at = now;
        self.level > 0
    }

    fn charge(&mut self, bytes: i128) {
        self.level -= bytes * 1_000_000;
    }
}
