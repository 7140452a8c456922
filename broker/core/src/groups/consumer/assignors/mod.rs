//! Assignors: which member is to own which partition. Each is a function of the members, their subscriptions and what
//! they are assigned already, and of nothing else: the same input has the same result on every broker.

mod range;
#[cfg(test)]
mod tests;
mod uniform;
mod uniform_heterogeneous;

use super::assignment::Assignment;
use crate::ids::TopicId;
use std::rc::Rc;
use std::sync::Arc;

/// A server-side assignor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Spreads all partitions evenly, and moves as few as it can.
    Uniform,
    /// Gives each member a range of each topic, the same one in topics with as many partitions.
    Range,
}

impl Assignor {
    /// All of them, the default first.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// Its name, as clients say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What each member is to own, in the order of the members.
    pub(in crate::groups::consumer) fn assign(self, spec: &Spec<'_>) -> Vec<Assignment> {
        match self {
            Self::Uniform if spec.is_homogeneous() => uniform::assign(spec),
            Self::Uniform => uniform_heterogeneous::assign(spec),
            Self::Range => range::assign(spec),
        }
    }
}

/// What is to be assigned to whom.
#[derive(Debug)]
pub(super) struct Spec<'a> {
    /// The subscribed topics that exist, ascending by id, with the number of their partitions.
    pub(super) topics: Vec<(TopicId, usize)>,
    /// Ascending by member id.
    pub(super) members: Vec<MemberSpec<'a>>,
}

/// A member that partitions are assigned to.
#[derive(Debug)]
pub(super) struct MemberSpec<'a> {
    /// `group.instance.id`.
    pub(super) instance_id: Option<&'a Arc<str>>,
    /// Places in [`Spec::topics`], ascending. Members with equal subscriptions may share them.
    pub(super) subscribed: Rc<[usize]>,
    /// What it was to own so far.
    pub(super) current: Option<&'a Assignment>,
}

impl Spec<'_> {
    /// Whether all members are subscribed to the same topics.
    fn is_homogeneous(&self) -> bool {
        let mut pairs = self.members.iter().zip(self.members.iter().skip(1));
        pairs.all(|(a, b)| Rc::ptr_eq(&a.subscribed, &b.subscribed) || a.subscribed == b.subscribed)
    }

    /// The members that are subscribed to each topic, ascending.
    fn subscribers(&self) -> Vec<Vec<usize>> {
        let mut subscribers = vec![Vec::new(); self.topics.len()];
        for (member, spec) in self.members.iter().enumerate() {
            for topic in spec.subscribed.iter() {
                subscribers[*topic].push(member);
            }
        }
        subscribers
    }
}

/// Who is to own each partition: places in [`Spec::members`], by place in [`Spec::topics`] and partition.
struct Owners(Vec<Vec<Option<usize>>>);

impl Owners {
    /// Everybody keeps what it is assigned and still subscribed to.
    fn kept(spec: &Spec<'_>) -> Self {
        let mut owners: Vec<Vec<_>> = spec.topics.iter().map(|(_, partitions)| vec![None; *partitions]).collect();
        for (member, m) in spec.members.iter().enumerate() {
            for (topic, partitions) in m.current.iter().flat_map(|current| current.topics()) {
                let Ok(topic) = spec.topics.binary_search_by_key(&topic, |(id, _)| *id) else { continue };
                if m.subscribed.binary_search(&topic).is_err() {
                    continue;
                }
                for partition in partitions {
                    let slot = usize::try_from(*partition).ok().and_then(|p| owners[topic].get_mut(p));
                    if let Some(slot @ None) = slot {
                        *slot = Some(member);
                    }
                }
            }
        }
        Self(owners)
    }

    /// How many partitions each member has.
    fn loads(&self, members: usize) -> Vec<usize> {
        let mut loads = vec![0; members];
        for member in self.0.iter().flatten().flatten() {
            loads[*member] += 1;
        }
        loads
    }

    fn into_assignments(self, spec: &Spec<'_>) -> Vec<Assignment> {
        let mut assignments = vec![Assignment::default(); spec.members.len()];
        for ((id, _), partitions) in spec.topics.iter().zip(self.0) {
            for (partition, owner) in partitions.into_iter().enumerate() {
                if let (Some(owner), Ok(partition)) = (owner, i32::try_from(partition)) {
                    assignments[owner].insert(*id, partition);
                }
            }
        }
        assignments
    }
}
