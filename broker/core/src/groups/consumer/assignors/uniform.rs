//! The uniform assignor for members that are all subscribed to the same topics: each gets as many partitions as any
//! other, or one more.

use super::{Owners, Spec};
use crate::groups::consumer::assignment::Assignment;

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Assignment> {
    let mut owners = Owners::kept(spec);
    let mut quotas = quotas(spec, &owners.loads(spec.members.len()));
    for (topic, partition) in partitions(spec) {
        let slot = &mut owners.0[topic][partition];
        if let Some(member) = *slot {
            if quotas[member] == 0 {
                *slot = None;
            } else {
                quotas[member] -= 1;
            }
        }
    }
    let mut unfilled = 0;
    for (topic, partition) in partitions(spec) {
        let slot = &mut owners.0[topic][partition];
        if slot.is_none() {
            while quotas.get(unfilled) == Some(&0) {
                unfilled += 1;
            }
            let Some(quota) = quotas.get_mut(unfilled) else { break };
            *quota -= 1;
            *slot = Some(unfilled);
        }
    }
    owners.into_assignments(spec)
}

/// How many partitions each member is to have. Those who have more than the least get what is left over first, so that
/// it need not move.
fn quotas(spec: &Spec<'_>, loads: &[usize]) -> Vec<usize> {
    let subscribed = spec.members.first().map(|m| m.subscribed.clone()).unwrap_or_default();
    let total: usize = subscribed.iter().map(|topic| spec.topics[*topic].1).sum();
    let members = spec.members.len().max(1);
    let least = total / members;
    let mut extra = total % members;
    let mut quotas = vec![least; spec.members.len()];
    for wants_more in [true, false] {
        for (quota, load) in quotas.iter_mut().zip(loads) {
            if extra > 0 && *quota == least && (*load > least) == wants_more {
                *quota += 1;
                extra -= 1;
            }
        }
    }
    quotas
}

/// Each partition, by place of its topic.
fn partitions<'a>(spec: &'a Spec<'_>) -> impl Iterator<Item = (usize, usize)> + use<'a> {
    spec.topics.iter().enumerate().flat_map(|(topic, (_, partitions))| (0..*partitions).map(move |p| (topic, p)))
}
