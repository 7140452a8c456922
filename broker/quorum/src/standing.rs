//! Whether this voter's vote may be believed.
//!
//! A vote says: "nothing that was committed is missing in the candidate's log, as far as I have it". A voter
//! whose disk was replaced has forgotten what it once confirmed, and would say so of anybody. So a voter that
//! starts with an empty disk votes for nobody and never stands for election, until one of these holds:
//!
//! - It founds the cluster: a majority of the configured voters, itself included, answered a probe with "empty",
//!   and none said that there is a cluster. A majority that is empty has never committed anything.
//! - The candidate founded the cluster, and this very disk (its directory id) was among those found empty then.
//! - It has received all entries up to the commit index of a leader that has committed an entry of its own
//!   leadership: whatever it may have confirmed before it was wiped is among them.
//!
//! What holds for votes holds for entries: a leader that was deposed without hearing of it (it was stopped, or cut
//! off) could commit with a voter that has forgotten who deposed it. So until its vote may be believed, a broker follows
//! only a leader that a majority has followed lately, this broker not counted (an empty disk does not say whether its
//! broker votes); and a broker that led when it stopped
//! does not lead again without an election; see [`super::restart`].
//!
//! The limit: a voter that has never started cannot be told from one that was wiped. If one voter is wiped while
//! another has never started, and the only one that knows the cluster is down, those two found a new cluster;
//! the third then refuses it as a stranger. The same is true when a majority is wiped at once: its
//! commitments are gone, which no protocol can undo. And if of two voters that made the cluster one goes away before
//! the third has ever started, the third waits for it: the one that is left may have been deposed, for all it knows.
//! And if the founder dies within the milliseconds between winning the first vote and replicating the first entry, the
//! voters that it did not find empty wait for it.

use super::proto;
use chronik_core::ids::{BrokerId, DirectoryId};
use serde::{Deserialize, Serialize};

/// What is known of this voter's own past. Saved in its journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// Its vote may be believed.
    pub(super) proven: bool,
    /// If it founded the cluster: the voters that were empty then, by their disks.
    pub(super) founders: Vec<(BrokerId, DirectoryId)>,
}

impl Standing {
    /// The founders, as candidates name them.
    pub(super) fn founders_to_send(self) -> Vec<proto::Founder> {
        let founders = self.founders.into_iter();
        founders.map(|(id, at)| proto::Founder { broker: id.0, directory_id: at.0.as_bytes().to_vec() }).collect()
    }
}
