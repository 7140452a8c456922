//! The controller elects whom it knows to hold all that is committed, and does not contradict itself.

use crate::checker::Invariant;
use chronik_core::cluster::Image;

/// What is wrong with an entry of the metadata log, if anything.
pub(crate) fn broken_by_entry(before: &Image, after: &Image) -> Option<(Invariant, String)> {
    for (tp, _, now) in after.partitions() {
        let Some(old) = before.partition(tp) else { continue };
        if let Some(elected) = now.leader.filter(|_| now.leader != old.leader)
            && !old.isr.contains(&elected)
            && !old.elr.contains(&elected)
        {
            return Some((Invariant::ElectedIsEligible, format!("{elected} is to lead {tp}, which was {old:?}")));
        }
    }
    after.valid().err().map(|how| (Invariant::MetadataIsSound, how))
}
