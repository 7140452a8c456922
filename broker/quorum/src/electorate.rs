//! Who votes, and where members are, as of the newest membership in this broker's log: committed or not, as Raft counts.
//! What the configuration says of voters is of account only as long as there is no cluster.

use super::types::{Node, Raft, StoredMembership};
use chronik_core::cluster::Endpoint;
use chronik_core::ids::BrokerId;
use openraft::metrics::RaftServerMetrics;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// The membership by now. Cheap to clone.
#[derive(Clone)]
pub(super) struct Electorate {
    at_start: Arc<StoredMembership>,
    live: Arc<OnceLock<watch::Receiver<RaftServerMetrics<BrokerId, Node>>>>,
}

impl Electorate {
    /// As of what is on the disk.
    pub(super) fn new(at_start: StoredMembership) -> Self {
        Self { at_start: Arc::new(at_start), live: Arc::default() }
    }

    /// From now on what this raft goes by.
    pub(super) fn follows(&self, raft: &Raft) {
        // It is set once, by whoever has started raft.
        let _ = self.live.set(raft.server_metrics());
    }

    /// The newest membership.
    pub(super) fn current(&self) -> Arc<StoredMembership> {
        let live = self.live.get().map(|metrics| Arc::clone(&metrics.borrow().membership_config));
        // openraft reports what it has read from the disk a moment after its start.
        live.filter(|membership| membership.log_id().is_some()).unwrap_or_else(|| Arc::clone(&self.at_start))
    }

    /// Waits until it may have changed; false if raft has stopped.
    pub(super) async fn changed(metrics: &mut watch::Receiver<RaftServerMetrics<BrokerId, Node>>) -> bool {
        let before = metrics.borrow_and_update().membership_config.log_id().to_owned();
        metrics.wait_for(|now| *now.membership_config.log_id() != before).await.is_ok()
    }

    /// All who vote; while the voters change, those before and those after.
    pub(super) fn voters(&self) -> BTreeSet<BrokerId> {
        self.current().membership().voter_ids().collect()
    }

    /// Whether this broker votes.
    pub(super) fn is_voter(&self, id: BrokerId) -> bool {
        self.current().membership().get_joint_config().iter().any(|config| config.contains(&id))
    }

    /// Whether the voters are being changed: those before and those after vote.
    pub(super) fn is_changing(&self) -> bool {
        self.current().membership().get_joint_config().len() > 1
    }

    /// Where a member said that its controller port is.
    pub(super) fn place(&self, id: BrokerId) -> Option<Endpoint> {
        self.current().membership().get_node(&id).map(|node| node.0.clone())
    }

    /// Whether those make a majority; while the voters change, of those before and of those after.
    pub(super) fn is_majority(&self, holds: impl Fn(BrokerId) -> bool) -> bool {
        is_majority(self.current().membership().get_joint_config(), holds)
    }
}

/// Whether more than half of each set are among those. Nobody is a majority of nothing.
pub(super) fn is_majority(configs: &[BTreeSet<BrokerId>], holds: impl Fn(BrokerId) -> bool) -> bool {
    let held = |config: &BTreeSet<BrokerId>| config.iter().filter(|id| holds(**id)).count() > config.len() / 2;
    !configs.is_empty() && configs.iter().all(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sets that vote, who is counted, and whether they are a majority.
    type Case = (&'static [&'static [i32]], &'static [i32], bool);

    #[test]
    fn a_majority_is_one_of_each_set_while_the_voters_change() {
        let set = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<BTreeSet<_>>();
        let table: [Case; 8] = [
            (&[], &[0, 1, 2], false),
            (&[&[0]], &[0], true),
            (&[&[0, 1]], &[0], false),
            (&[&[0, 1, 2]], &[0, 2], true),
            (&[&[0, 1, 2]], &[0, 3, 4], false),
            (&[&[0, 1, 2], &[0, 1, 2, 3]], &[0, 1], false),
            (&[&[0, 1, 2], &[0, 1, 2, 3]], &[0, 1, 3], true),
            (&[&[0, 1, 2], &[1, 2]], &[0, 1], false),
        ];
        for (configs, held, expected) in table {
            let configs: Vec<_> = configs.iter().map(|ids| set(ids)).collect();
            let held = set(held);
            assert_eq!(is_majority(&configs, |id| held.contains(&id)), expected, "{held:?} of {configs:?}");
        }
    }
}
