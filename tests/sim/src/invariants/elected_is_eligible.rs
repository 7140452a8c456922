//! The controller elects only replicas that it knows to have all that is committed, and its state is consistent.

use crate::checker::Invariant;
use chronik_core::cluster::{Image, Partition};

/// Whether the leader of a partition that was moved has handed it to one of those that it said to be in sync.
fn has_moved(old: &Partition, now: &Partition) -> bool {
    old.leader.is_some() && old.is_reassigning() && now.target_replicas().all(|id| now.isr.contains(&id))
}

/// What is wrong with an entry of the metadata log, if anything.
pub(crate) fn broken_by_entry(before: &Image, after: &Image) -> Option<(Invariant, String)> {
    for (tp, _, now) in after.partitions() {
        let Some(old) = before.partition(tp) else { continue };
        if let Some(elected) = now.leader.filter(|_| now.leader != old.leader)
            && !old.isr.contains(&elected)
            && !old.elr.contains(&elected)
            && !has_moved(old, now)
        {
            return Some((Invariant::ElectedIsEligible, format!("{elected} is to lead {tp}, which was {old:?}")));
        }
    }
    after.valid().err().map(|how| (Invariant::MetadataIsSound, how))
}
