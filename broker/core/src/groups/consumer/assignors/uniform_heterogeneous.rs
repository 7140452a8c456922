//! The uniform assignor for members with different subscriptions: partitions without an owner go to the subscriber with
//! the fewest, and then partitions are moved from the members with the most to those with the fewest, topic by topic,
//! as long as that helps.

use super::{Owners, Spec};
use crate::groups::consumer::assignment::Assignment;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// How often all topics are gone through at most. Two rounds are usual; the bound is for what converges slowly.
const MAX_ROUNDS: usize = 16;

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Assignment> {
    let mut owners = Owners::kept(spec);
    let mut loads = owners.loads(spec.members.len());
    let subscribers = spec.subscribers();
    let order = order(spec, &subscribers);
    for topic in &order {
        fill(&mut owners.0[*topic], &subscribers[*topic], &mut loads);
    }
    for _ in 0..MAX_ROUNDS {
        let moved: usize =
            order.iter().map(|topic| balance(&mut owners.0[*topic], &subscribers[*topic], &mut loads)).sum();
        if moved == 0 {
            break;
        }
    }
    owners.into_assignments(spec)
}

/// Topics with many partitions for each subscriber come first: those after them even out what they leave.
fn order(spec: &Spec<'_>, subscribers: &[Vec<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..spec.topics.len()).filter(|topic| !subscribers[*topic].is_empty()).collect();
    order.sort_by(|a, b| {
        let (of_a, of_b) = (subscribers[*a].len(), subscribers[*b].len());
        // partitions(a) / of_a against partitions(b) / of_b, the larger first.
        let ratio = (spec.topics[*b].1 * of_a).cmp(&(spec.topics[*a].1 * of_b));
        ratio.then(of_a.cmp(&of_b)).then(a.cmp(b))
    });
    order
}

/// Gives partitions without an owner to the subscribers with the fewest.
fn fill(owners: &mut [Option<usize>], subscribers: &[usize], loads: &mut [usize]) {
    if owners.iter().all(Option::is_some) {
        return;
    }
    let mut fewest: BinaryHeap<_> = subscribers.iter().map(|m| Reverse((loads[*m], *m))).collect();
    for owner in owners.iter_mut().filter(|owner| owner.is_none()) {
        let Some(mut least) = fewest.peek_mut() else { return };
        let Reverse((load, member)) = &mut *least;
        *load += 1;
        loads[*member] += 1;
        *owner = Some(*member);
    }
}

/// Moves partitions of one topic from the subscribers with the most partitions to those with the fewest. Says how many.
fn balance(owners: &mut [Option<usize>], subscribers: &[usize], loads: &mut [usize]) -> usize {
    let of = |m: &usize| loads[*m];
    let (most, least) = (subscribers.iter().map(of).max(), subscribers.iter().map(of).min());
    let (Some(most), Some(least)) = (most, least) else { return 0 };
    if most - least <= 1 {
        return 0;
    }
    let mut receivers: BTreeSet<(usize, usize)> = subscribers.iter().map(|m| (loads[*m], *m)).collect();
    let mut given: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (partition, owner) in owners.iter().enumerate() {
        if let Some(owner) = owner {
            given.entry(*owner).or_default().push(partition);
        }
    }
    let mut givers: BTreeSet<(usize, usize)> = given.keys().map(|m| (loads[*m], *m)).collect();
    let mut moved = 0;
    while let (Some(&(most, giver)), Some(&(least, receiver))) = (givers.last(), receivers.first()) {
        if most <= least + 1 {
            break;
        }
        givers.remove(&(most, giver));
        let Some(partition) = given.get_mut(&giver).and_then(Vec::pop) else { continue };
        owners[partition] = Some(receiver);
        loads[giver] -= 1;
        loads[receiver] += 1;
        givers.insert((loads[giver], giver));
        if givers.remove(&(least, receiver)) {
            givers.insert((loads[receiver], receiver));
        }
        for (member, before) in [(giver, most), (receiver, least)] {
            receivers.remove(&(before, member));
            receivers.insert((loads[member], member));
        }
        moved += 1;
    }
    moved
}
