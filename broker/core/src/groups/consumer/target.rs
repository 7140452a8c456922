//! The target assignment: computed once for each epoch of the group.

use super::assignors::{Assignor, MemberSpec, Spec};
use super::member::Member;
use super::{ConsumerGroup, StepContext};
use crate::cluster::{Image, Topic};
use crate::groups::record::{RecordKey, RecordValue};
use crate::ids::TopicId;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

impl ConsumerGroup {
    /// The assignor of `allowed` that most members ask for; of several, the one that comes first. Members that ask for
    /// none, or for one that was allowed once, leave it to the others.
    pub(super) fn assignor(&self, allowed: &[Assignor]) -> Assignor {
        let mut votes = vec![0_usize; allowed.len()];
        for name in self.members.values().filter_map(|m| m.about.server_assignor.as_ref()) {
            let place = allowed.iter().position(|assignor| assignor.name() == &**name);
            if let Some(votes) = place.and_then(|place| votes.get_mut(place)) {
                *votes += 1;
            }
        }
        let most = votes.iter().max();
        let first = allowed.iter().zip(&votes).find(|(_, count)| Some(*count) == most);
        first.map_or(Assignor::ALL[0], |(assignor, _)| *assignor)
    }

    /// Computes the target assignment for the group's epoch, and writes what has changed of it.
    pub(super) fn compute_target(&mut self, context: &mut StepContext<'_>) {
        let assignments = self.assignor(&context.config.consumer_assignors).assign(&self.spec(context.image));
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for (id, assignment) in ids.into_iter().zip(assignments) {
            if self.targets.get(&id) != Some(&assignment) {
                let key = RecordKey::ConsumerGroupTargetAssignmentMember(self.id.clone(), id);
                let topic_partitions = assignment.to_topics();
                self.write(key, Some(RecordValue::ConsumerGroupTargetAssignmentMember { topic_partitions }), context);
            }
        }
        let key = RecordKey::ConsumerGroupTargetAssignmentMetadata(self.id.clone());
        let value = RecordValue::ConsumerGroupTargetAssignmentMetadata { assignment_epoch: self.epoch };
        self.write(key, Some(value), context);
    }

    fn spec(&self, image: &Image) -> Spec<'_> {
        let by_name = self.topics(image);
        let mut topics: Vec<(TopicId, usize)> = by_name.values().map(|t| (t.id, t.partitions.len())).collect();
        topics.sort_unstable();
        // Most members subscribe alike; each subscription is resolved once.
        let mut resolved: BTreeMap<Subscription<'_>, Rc<[usize]>> = BTreeMap::new();
        let subscribed = |member: &'_ Member| -> Rc<[usize]> {
            let by_regex = member.regex().and_then(|regex| self.regexes.get(regex));
            let named = named(&member.about.subscribed_topic_names, &by_name);
            let resolved = by_regex.iter().flat_map(|r| &r.topics).filter_map(|name| by_name.get(&**name).copied());
            places(named.into_iter().chain(resolved), &topics)
        };
        let members = self.members.iter().map(|(id, member)| {
            let key = (member.about.subscribed_topic_names.as_slice(), member.regex());
            let subscribed = resolved.entry(key).or_insert_with(|| subscribed(member)).clone();
            let instance_id = member.about.instance_id.as_ref();
            MemberSpec { instance_id, subscribed, current: self.targets.get(id) }
        });
        let members = members.collect();
        Spec { topics, members }
    }
}

/// Names of topics, and a regular expression.
type Subscription<'a> = (&'a [Arc<str>], Option<&'a Arc<str>>);

/// The topics of those names, which ascend, in as many steps as there are topics at most.
fn named<'t>(names: &[Arc<str>], by_name: &BTreeMap<&str, &'t Topic>) -> Vec<&'t Topic> {
    if names.len() <= by_name.len() {
        return names.iter().filter_map(|name| by_name.get(&**name).copied()).collect();
    }
    by_name.values().copied().filter(|topic| names.binary_search(&topic.name).is_ok()).collect()
}

/// The places of those topics, ascending.
fn places<'t>(found: impl Iterator<Item = &'t Topic>, topics: &[(TopicId, usize)]) -> Rc<[usize]> {
    let ids = found.map(|topic| topic.id);
    let mut places: Vec<usize> = ids.filter_map(|id| topics.binary_search_by_key(&id, |(id, _)| *id).ok()).collect();
    places.sort_unstable();
    places.dedup();
    places.into()
}
