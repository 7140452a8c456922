//! Which topics a group is subscribed to, by name and by regular expression, and what is known of them.

use super::{ConsumerGroup, Resolved, StepContext, re2};
use crate::cluster::{Image, Topic};
use crate::groups::record::{RecordKey, RecordValue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// When topics come and go all the time, a group resolves its regular expressions no more often than this.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(1);

/// About how many names are matched in one heartbeat when regular expressions are resolved again.
const MATCHES_PER_HEARTBEAT: usize = 50_000;

impl ConsumerGroup {
    /// The subscribed topics that exist, by name.
    pub(super) fn topics<'a>(&self, image: &'a Image) -> BTreeMap<&'a str, &'a Topic> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for member in self.members.values() {
            let subscribed = &member.about.subscribed_topic_names;
            if subscribed.len() <= image.topics.len() {
                names.extend(subscribed.iter().map(|name| &**name));
            } else {
                // Members may name what is not there, as much as they like: it costs no more than what is there.
                let known = image.topic_ids.keys().filter(|name| subscribed.binary_search(name).is_ok());
                names.extend(known.map(|name| &**name));
            }
        }
        for resolved in self.regexes.values() {
            names.extend(resolved.topics.iter().map(|name| &**name));
        }
        names.into_iter().filter_map(|name| image.topic_by_name(name)).map(|topic| (&*topic.name, topic)).collect()
    }

    /// A hash (FNV-1a) of what an assignment goes by of the subscribed topics: names, ids, numbers of partitions. 0
    /// when there are none.
    pub(super) fn topics_hash(&self, image: &Image) -> i64 {
        let topics = self.topics(image);
        if topics.is_empty() {
            return 0;
        }
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        };
        for (name, topic) in topics {
            add(name.as_bytes());
            add(&[0]);
            add(topic.id.0.as_bytes());
            add(&(topic.partitions.len() as u64).to_be_bytes());
        }
        hash as i64
    }

    /// Follows a member that has gone from one regular expression to another one, which has been found valid.
    pub(super) fn resolve_new_regex(&mut self, regex: Option<&Arc<str>>, context: &mut StepContext<'_>) {
        self.forget_unused_regexes(context);
        if let Some(regex) = regex
            && !self.regexes.contains_key(regex)
        {
            self.resolve(regex, context);
        }
    }

    /// Resolves regular expressions again if topics have come or gone since. Whether one stands for other topics now.
    pub(super) fn refresh_regexes(&mut self, context: &mut StepContext<'_>) -> bool {
        let stale: Vec<_> = self
            .regexes
            .keys()
            .filter(|regex| self.refresh.resolved_at.get(*regex).is_none_or(|at| *at < self.refresh.changed_at))
            .take(1 + MATCHES_PER_HEARTBEAT / context.image.topics.len().max(1))
            .cloned()
            .collect();
        if stale.is_empty() || context.now.monotonic < self.refresh.not_before {
            return false;
        }
        self.refresh.not_before = context.now.monotonic + RESOLVE_INTERVAL;
        let mut changed = false;
        for regex in &stale {
            changed |= self.resolve(regex, context);
        }
        changed
    }

    /// Resolves a regular expression. Whether it stands for other topics now.
    fn resolve(&mut self, regex: &Arc<str>, context: &mut StepContext<'_>) -> bool {
        self.refresh.resolved_at.insert(regex.clone(), context.image.offset);
        // One that was accepted by another version, and is not valid for this one, stands for nothing.
        let topics: Vec<Arc<str>> = match re2::compile(regex) {
            Ok(compiled) => context.image.topic_ids.keys().filter(|name| compiled.is_match(name)).cloned().collect(),
            Err(_) => Vec::new(),
        };
        if self.regexes.get(regex).is_some_and(|before: &Resolved| before.topics == topics) {
            return false;
        }
        let version = i64::try_from(context.image.offset.0).unwrap_or(i64::MAX);
        let timestamp = context.now.wall_ms;
        let key = RecordKey::ConsumerGroupRegularExpression(self.id.clone(), regex.clone());
        let value = RecordValue::ConsumerGroupRegularExpression { topics, version, timestamp };
        self.write(key, Some(value), context);
        true
    }
}
