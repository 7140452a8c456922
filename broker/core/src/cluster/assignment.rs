//! Which brokers get the replicas of new partitions.

use super::command::Refusal;
use super::features::MetadataVersion;
use super::image::{Broker, Image};
use crate::ids::BrokerId;
use std::collections::{BTreeMap, BTreeSet};

/// Replicas for `partitions` partitions, the leader-to-be first. Leaders go round over the brokers that are alive.
/// Followers are spread over racks first; then they are taken from brokers that are alive, and from those that stop, are
/// fenced or merely expected only when there are not enough: such a replica is not in sync until its broker comes.
/// `start` shifts the round, so that topics of one partition do not all begin with the same broker. Who is cordoned gets
/// none.
pub(super) fn place(
    image: &Image,
    start: usize,
    partitions: usize,
    replication_factor: usize,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let (alive, absent): (Vec<&Broker>, Vec<&Broker>) =
        image.brokers.values().filter(|b| !b.cordoned).partition(|b| image.may_lead(b.id));
    let members = alive.len() + absent.len();
    if replication_factor == 0 || replication_factor > members {
        return Err(Refusal::InvalidReplicationFactor(format!(
            "replication factor {replication_factor} with {members} brokers{}",
            if members < image.brokers.len() { " that are not cordoned" } else { "" }
        )));
    }
    if alive.is_empty() {
        return Err(Refusal::InvalidReplicationFactor("no broker is alive to lead".into()));
    }
    let positions = (0..partitions).map(|i| start.wrapping_add(i));
    let racks: BTreeSet<_> = alive.iter().chain(&absent).map(|b| b.rack.as_deref()).collect();
    // All members must come to the same result, those too that know nothing of racks.
    if racks.len() > 1 && image.metadata_version >= MetadataVersion::RACKS {
        let mut placement = Placement::new(&alive, &absent);
        return Ok(positions.map(|position| placement.replicas(position, replication_factor)).collect());
    }
    let ids = |brokers: Vec<&Broker>| brokers.iter().map(|b| b.id).collect::<Vec<_>>();
    let (alive, absent) = (ids(alive), ids(absent));
    Ok(positions.map(|position| replicas(&alive, &absent, position, replication_factor)).collect())
}

/// Replicas of one partition where racks make no difference.
fn replicas(alive: &[BrokerId], absent: &[BrokerId], position: usize, count: usize) -> Vec<BrokerId> {
    let first = position % alive.len();
    // With each full round the followers are taken from one further on, so that the load of a broker that
    // fails is spread over all the others, and not put on its neighbour alone.
    let followers = alive.len() - 1;
    let shift = if followers == 0 { 0 } else { (position / alive.len()) % followers };
    let near = (0..followers).map(|k| alive[(first + 1 + (shift + k) % followers) % alive.len()]);
    let far = (0..absent.len()).map(|k| absent[(position + k) % absent.len()]);
    std::iter::once(alive[first]).chain(near).chain(far).take(count).collect()
}

/// Brokers in racks, and what they were given so far. Those that name no rack count as one rack, as in Kafka.
struct Placement {
    /// Those that are alive first, one of each rack after the other.
    candidates: Vec<Candidate>,
    /// How many of them are alive.
    alive: usize,
    racks: usize,
    /// How often each leader has had each of the others for a follower.
    pairs: BTreeMap<(usize, usize), usize>,
}

struct Candidate {
    id: BrokerId,
    rack: usize,
    replicas: usize,
}

impl Placement {
    fn new(alive: &[&Broker], absent: &[&Broker]) -> Self {
        let names: BTreeSet<_> = alive.iter().chain(absent).map(|b| b.rack.as_deref()).collect();
        let numbers: BTreeMap<_, _> = names.into_iter().zip(0..).collect();
        let rack_alternated = |brokers: &[&Broker]| {
            let mut seen = vec![0; numbers.len()];
            let mut ordered: Vec<_> = brokers
                .iter()
                .map(|b| {
                    let rack = numbers[&b.rack.as_deref()];
                    seen[rack] += 1;
                    (seen[rack], rack, b.id)
                })
                .collect();
            ordered.sort_unstable();
            ordered.into_iter().map(|(_, rack, id)| Candidate { id, rack, replicas: 0 })
        };
        let candidates = rack_alternated(alive).chain(rack_alternated(absent)).collect();
        Self { candidates, alive: alive.len(), racks: numbers.len(), pairs: BTreeMap::new() }
    }

    fn replicas(&mut self, position: usize, count: usize) -> Vec<BrokerId> {
        let leader = position % self.alive;
        let mut chosen = vec![leader];
        let mut in_rack = vec![0_usize; self.racks];
        in_rack[self.candidates[leader].rack] += 1;
        while chosen.len() < count {
            // The least of what there is in its rack, of what it has of this leader's (so that the load of a leader that
            // fails is spread over all others), and of what it has; and then the next one after the leader.
            let next = (0..self.candidates.len()).filter(|i| !chosen.contains(i)).min_by_key(|i| {
                let Candidate { rack, replicas, .. } = self.candidates[*i];
                let pairs = self.pairs.get(&(leader, *i)).copied().unwrap_or(0);
                let after = (i + self.candidates.len() - leader) % self.candidates.len();
                (in_rack[rack], *i >= self.alive, pairs, replicas, after)
            });
            let Some(next) = next else { break };
            in_rack[self.candidates[next].rack] += 1;
            *self.pairs.entry((leader, next)).or_default() += 1;
            chosen.push(next);
        }
        for i in &chosen {
            self.candidates[*i].replicas += 1;
        }
        chosen.into_iter().map(|i| self.candidates[i].id).collect()
    }
}
