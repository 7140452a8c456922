//! Who leads a partition, and who may (KIP-966).
//!
//! Every change of an ISR goes through [`with_isr`]. What makes the eligible replicas safe to elect: a leader commits
//! nothing while the ISR is smaller than `min.insync.replicas`, nor while anybody outside of it is eligible, so each of
//! them still holds everything committed for as long as its disk does.
//!
//! An ISR to which fencing or a registration left a single member may consist of a broker that is gone: nobody has heard
//! of it since. Whoever left last stays eligible beside it, even where one replica is enough to commit, until the
//! member has shown that it is there: as the leader, it asks for the ISR that there is.

use super::image::{Image, Partition};
use super::reassignment::advanced;
use crate::ids::{BrokerId, LeaderEpoch, PartitionEpoch};

/// What an election needs to know beside the partition.
pub(super) struct Voters<'a> {
    /// Who is alive, and who is about to stop.
    pub(super) image: &'a Image,
    /// `min.insync.replicas` as configured.
    pub(super) min_insync_replicas: usize,
    /// The leader asks for this change, so it knows of it before it commits by it.
    pub(super) leader_asks: bool,
}

impl Voters<'_> {
    fn alive(&self, id: BrokerId) -> bool {
        self.image.alive(id).is_some()
    }

    /// Who leads of these replicas when the former leader does not: one that stops, only if nobody else is in sync.
    pub(super) fn choose(&self, replicas: &[BrokerId], isr: &[BrokerId]) -> Option<BrokerId> {
        let in_sync = || replicas.iter().copied().filter(|id| isr.contains(id));
        in_sync().find(|id| self.image.may_lead(*id)).or_else(|| in_sync().find(|id| self.alive(*id)))
    }
}

/// The partition after its ISR has become `isr`, with eligible replicas, leader and epochs to match.
pub(super) fn with_isr(partition: &Partition, isr: Vec<BrokerId>, voters: &Voters<'_>) -> Partition {
    let left = partition.isr.iter().filter(|id| !isr.contains(id));
    let elr = left.chain(partition.elr.iter().filter(|id| !isr.contains(id))).copied().collect();
    choose_leader(partition, isr, elr, voters)
}

/// The partition after a replica has lost its disk: nothing that it had counts any more.
pub(super) fn without_disk(partition: &Partition, lost: BrokerId, voters: &Voters<'_>) -> Partition {
    let without = |ids: &[BrokerId]| ids.iter().copied().filter(|id| *id != lost).collect::<Vec<_>>();
    choose_leader(partition, without(&partition.isr), without(&partition.elr), voters)
}

/// The partition after an election in which replicas that have come back may stand.
pub(super) fn elect(partition: &Partition, voters: &Voters<'_>) -> Partition {
    choose_leader(partition, partition.isr.clone(), partition.elr.to_vec(), voters)
}

fn choose_leader(before: &Partition, mut isr: Vec<BrokerId>, mut elr: Vec<BrokerId>, voters: &Voters<'_>) -> Partition {
    let mut leader = before.leader.filter(|id| isr.contains(id) && voters.alive(*id));
    if leader.is_none() {
        leader = voters.choose(&before.replicas, &isr);
    }
    if leader.is_none()
        && let Some(at) = elr.iter().position(|id| voters.image.may_lead(*id))
    {
        let elected = elr.remove(at);
        isr = vec![elected];
        leader = Some(elected);
    }
    let enough = if voters.leader_asks {
        before.min_insync_replicas(voters.min_insync_replicas)
    } else {
        before.enough_in_sync(voters.min_insync_replicas)
    };
    if isr.len() >= enough {
        elr.clear();
    }
    let after = Partition { isr, elr: elr.into(), leader, ..before.clone() };
    with_epochs(before, advanced(&after, voters).unwrap_or(after))
}

/// The epochs that go with a change. A replica that is removed drops its log when it hears of that: with a new leader
/// epoch, the leader listens to it as a replica again only after it has.
pub(super) fn with_epochs(before: &Partition, mut after: Partition) -> Partition {
    let removed = before.replicas.iter().any(|id| !after.replicas.contains(id));
    if after.leader != before.leader || removed {
        after.leader_epoch = LeaderEpoch(before.leader_epoch.0.saturating_add(1));
    }
    if after != *before {
        after.partition_epoch = PartitionEpoch(before.partition_epoch.0.saturating_add(1));
    }
    after
}
