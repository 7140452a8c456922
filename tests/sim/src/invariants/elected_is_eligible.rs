//! The controller elects only replicas that it knows to have all that is committed, unless it is asked for another one, and
//! its state is consistent.

use crate::checker::Invariant;
use chronik_core::cluster::{Image, Partition};
use chronik_core::ids::{LeaderEpoch, TopicPartition};

/// Whether the leader of a partition that was moved has handed it to one of those that it said to be in sync.
fn has_moved(old: &Partition, now: &Partition) -> bool {
    old.leader.is_some() && old.is_reassigning() && now.target_replicas().all(|id| now.isr.contains(&id))
}

/// Whether somebody is to lead who was not eligible.
fn is_unclean(old: &Partition, now: &Partition) -> bool {
    let elected = now.leader.filter(|_| now.leader != old.leader);
    elected.is_some_and(|id| !old.isr.contains(&id) && !old.elr.contains(&id))
}

/// The partitions of which an entry has made somebody leader who was not eligible, and in which epoch, if somebody has asked
/// for that, or the topic's configs.
pub(crate) fn elected_uncleanly(before: &Image, after: &Image) -> Vec<(TopicPartition, LeaderEpoch)> {
    if after.unclean_elections == before.unclean_elections {
        return Vec::new();
    }
    let elected =
        after.partitions().filter(|(tp, _, now)| before.partition(*tp).is_some_and(|old| is_unclean(old, now)));
    elected.map(|(tp, _, now)| (tp, now.leader_epoch)).collect()
}

/// What is wrong with an entry of the metadata log, if anything.
pub(crate) fn broken_by_entry(before: &Image, after: &Image) -> Option<(Invariant, String)> {
    let mut asked_for = after.unclean_elections.saturating_sub(before.unclean_elections);
    for (tp, _, now) in after.partitions() {
        let Some(old) = before.partition(tp) else { continue };
        if !is_unclean(old, now) || has_moved(old, now) {
            continue;
        }
        if asked_for == 0 {
            let how = format!("{:?} is to lead {tp}, which was {old:?}", now.leader);
            return Some((Invariant::ElectedIsEligible, how));
        }
        asked_for -= 1;
    }
    after.valid().err().map(|how| (Invariant::MetadataIsSound, how))
}
