//! Who decides that the high watermark moves.

use super::isr::IsrView;
use crate::ids::{BrokerId, Offset};

/// What is committed as far as a leader can know: the minimum over the *maximal* ISR of the durable offsets
/// acknowledged in this leader epoch; `None` while a member has not acknowledged anything in it, or while
/// fewer than `min_insync` brokers are surely in sync (KIP-966's strict rule).
///
/// `durable` gives a broker's acknowledged durable offset, the leader's own included.
pub(super) fn committed(
    view: &IsrView,
    min_insync: usize,
    durable: impl Fn(BrokerId) -> Option<Offset>,
) -> Option<Offset> {
    if view.surely_in_sync() < min_insync {
        return None;
    }
    view.maximal().map(durable).try_fold(Offset(i64::MAX), |min, end| Some(min.min(end?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PartitionEpoch;
    use std::collections::BTreeSet;

    fn durable(id: BrokerId) -> Option<Offset> {
        [None, Some(10), Some(7), Some(5)][id.0 as usize].map(Offset)
    }

    #[test]
    fn it_is_the_minimum_over_the_maximal_isr() {
        // (committed, proposed, min.insync.replicas, expected)
        for (isr, proposed, min, expected) in [
            (&[1, 2, 3][..], None, 2, Some(5)),
            (&[1, 2], None, 2, Some(7)),
            (&[1, 2], Some(&[1, 2, 3][..]), 2, Some(5)),
            (&[1, 2, 3], Some(&[1, 2]), 2, Some(5)),
            (&[1, 2, 3], Some(&[1]), 2, None),
            (&[1], Some(&[1, 2]), 2, None),
            (&[1], None, 1, Some(10)),
            (&[1], None, 2, None),
            (&[0, 1], None, 1, None),
        ] {
            let ids = |ids: &[i32]| ids.iter().map(|&id| BrokerId(id)).collect::<BTreeSet<_>>();
            let mut view = IsrView::committed_at(PartitionEpoch(0), ids(isr));
            if let Some(proposed) = proposed {
                view.propose(&ids(proposed));
            }
            assert_eq!(committed(&view, min, durable), expected.map(Offset), "{isr:?} {proposed:?} min {min}");
        }
    }
}
