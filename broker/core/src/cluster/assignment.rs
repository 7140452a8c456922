//! Which brokers get the replicas of a new topic.

use super::command::Refusal;
use super::image::Image;
use crate::ids::BrokerId;

/// Replicas for `partitions` partitions, the leader-to-be first. Leaders go round over the brokers that are
/// alive; followers are taken from those too, and from those that stop, are fenced or merely expected only when there are
/// not enough: such a replica is not in sync until its broker comes. `start` shifts the round, so that topics
/// of one partition do not all begin with the same broker. Who is cordoned gets none.
pub(super) fn place(
    image: &Image,
    start: usize,
    partitions: usize,
    replication_factor: usize,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let (alive, absent): (Vec<BrokerId>, Vec<BrokerId>) =
        image.brokers.values().filter(|b| !b.cordoned).map(|b| b.id).partition(|id| image.may_lead(*id));
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
    Ok((0..partitions).map(|i| replicas(&alive, &absent, start.wrapping_add(i), replication_factor)).collect())
}

fn replicas(alive: &[BrokerId], absent: &[BrokerId], turn: usize, count: usize) -> Vec<BrokerId> {
    let first = turn % alive.len();
    // With each full round the followers are taken from one further on, so that the load of a broker that
    // fails is spread over all the others, and not put on its neighbour alone.
    let followers = alive.len() - 1;
    let shift = if followers == 0 { 0 } else { (turn / alive.len()) % followers };
    let near = (0..followers).map(|k| alive[(first + 1 + (shift + k) % followers) % alive.len()]);
    let far = (0..absent.len()).map(|k| absent[(turn + k) % absent.len()]);
    std::iter::once(alive[first]).chain(near).chain(far).take(count).collect()
}
