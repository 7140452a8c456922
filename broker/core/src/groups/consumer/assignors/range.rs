//! The range assignor: the partitions of each topic are dealt out in ranges, to its subscribers in an order that is the
//! same for all topics. Members with equal subscriptions own the same ranges of topics with as many partitions.

use super::{Owners, Spec};
use crate::groups::consumer::assignment::Assignment;

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Assignment> {
    // Static members come first, by instance id, so that they keep their ranges when their member ids change.
    let mut order: Vec<usize> = (0..spec.members.len()).collect();
    order.sort_by_key(|m| (spec.members[*m].instance_id.is_none(), spec.members[*m].instance_id, *m));
    let mut subscribers = vec![Vec::new(); spec.topics.len()];
    for member in order {
        for topic in spec.members[member].subscribed.iter() {
            subscribers[*topic].push(member);
        }
    }
    let owners = spec.topics.iter().zip(subscribers).map(|((_, partitions), subscribers)| {
        let least = partitions / subscribers.len().max(1);
        let extra = partitions % subscribers.len().max(1);
        let ranges = subscribers
            .iter()
            .enumerate()
            .flat_map(|(nth, member)| std::iter::repeat_n(Some(*member), least + usize::from(nth < extra)));
        let mut owners: Vec<_> = ranges.collect();
        owners.resize(*partitions, None);
        owners
    });
    Owners(owners.collect()).into_assignments(spec)
}
