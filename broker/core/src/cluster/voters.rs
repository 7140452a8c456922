//! Who votes in the controller quorum, changed one at a time (KIP-853): never so that those voters who are caught up are
//! no majority.

use crate::ids::BrokerId;
use std::collections::{BTreeMap, BTreeSet};

/// Whether each member of the quorum has lately answered and holds all that was committed.
pub type CaughtUp = BTreeMap<BrokerId, bool>;

/// One step from the voters that there are to those that there shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterChange {
    /// An observer votes from now on.
    Add(BrokerId),
    /// A voter is an observer from now on.
    Remove(BrokerId),
}

/// What speaks against the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoterObjection {
    /// Somebody has to vote.
    #[error("a cluster needs a voter")]
    Nobody,
    /// These have not joined the cluster.
    #[error("not members of the quorum: {}", list(.0))]
    Unknown(Vec<BrokerId>),
    /// That observer lacks entries, or is not heard.
    #[error("broker {0} is away, or behind in the metadata log: it can vote once it has caught up")]
    Behind(BrokerId),
    /// Those who are caught up would be no majority after the step.
    #[error(
        "without broker {without} the voters {} would be no majority of {of}: bring back the others first", list(.caught_up)
    )]
    NoMajority {
        /// The voter to be removed.
        without: BrokerId,
        /// The other voters that are caught up.
        caught_up: Vec<BrokerId>,
        /// How many would vote.
        of: usize,
    },
    /// As many as are not caught up already would have to be.
    #[error("with broker {with} the voters that are caught up would be no majority: bring back {} first", list(.behind))]
    StillNoMajority {
        /// The voter to be added.
        with: BrokerId,
        /// The voters that are not caught up.
        behind: Vec<BrokerId>,
    },
}

fn list(ids: &[BrokerId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The next step from `voters` to `wanted`, if there is one left. Those that come are added before others go, those that
/// are away go before others, and the leader goes last.
pub fn next_voter_change(
    leader: BrokerId,
    voters: &CaughtUp,
    observers: &CaughtUp,
    wanted: &BTreeSet<BrokerId>,
) -> Result<Option<VoterChange>, VoterObjection> {
    if wanted.is_empty() {
        return Err(VoterObjection::Nobody);
    }
    let known = |id: &&BrokerId| voters.contains_key(id) || observers.contains_key(id);
    let unknown: Vec<BrokerId> = wanted.iter().filter(|id| !known(id)).copied().collect();
    if !unknown.is_empty() {
        return Err(VoterObjection::Unknown(unknown));
    }
    let with = |caught_up: bool| move |voter: &(&BrokerId, &bool)| *voter.1 == caught_up;
    if let Some(id) = wanted.iter().find(|id| !voters.contains_key(id)).copied() {
        if observers.get(&id) != Some(&true) {
            return Err(VoterObjection::Behind(id));
        }
        let behind: Vec<BrokerId> = voters.iter().filter(with(false)).map(|(id, _)| *id).collect();
        let of = voters.len() + 1;
        return if of - behind.len() > of / 2 {
            Ok(Some(VoterChange::Add(id)))
        } else {
            Err(VoterObjection::StillNoMajority { with: id, behind })
        };
    }
    let going = voters.iter().filter(|(id, _)| !wanted.contains(id));
    let Some((id, _)) = going.min_by_key(|(id, caught_up)| (**id == leader, **caught_up, **id)) else {
        return Ok(None);
    };
    let caught_up: Vec<BrokerId> =
        voters.iter().filter(with(true)).map(|(id, _)| *id).filter(|other| other != id).collect();
    let of = voters.len() - 1;
    if caught_up.len() > of / 2 {
        Ok(Some(VoterChange::Remove(*id)))
    } else {
        Err(VoterObjection::NoMajority { without: *id, caught_up, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[(i32, bool)]) -> CaughtUp {
        ids.iter().map(|(id, caught_up)| (BrokerId(*id), *caught_up)).collect()
    }

    fn next(
        voters: &[(i32, bool)],
        observers: &[(i32, bool)],
        wanted: &[i32],
    ) -> Result<Option<VoterChange>, VoterObjection> {
        let wanted = wanted.iter().copied().map(BrokerId).collect();
        next_voter_change(BrokerId(0), &members(voters), &members(observers), &wanted)
    }

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    const WELL: [(i32, bool); 3] = [(0, true), (1, true), (2, true)];

    #[test]
    fn voters_come_one_at_a_time_and_before_others_go() {
        let add = |id| Ok(Some(VoterChange::Add(BrokerId(id))));
        assert_eq!(next(&[(0, true)], &[(1, true), (2, true)], &[0, 1, 2]), add(1));
        assert_eq!(next(&[(0, true), (1, true)], &[(2, true)], &[0, 1, 2]), add(2));
        assert_eq!(next(&WELL, &[(3, true)], &[3]), add(3));
        assert_eq!(next(&WELL, &[(3, true)], &[0, 1, 2]), Ok(None));
    }

    #[test]
    fn who_is_away_goes_first_and_the_leader_last() {
        let remove = |id| Ok(Some(VoterChange::Remove(BrokerId(id))));
        assert_eq!(next(&WELL, &[], &[2]), remove(1));
        assert_eq!(next(&[(0, true), (1, true), (2, false)], &[], &[1]), remove(2));
        assert_eq!(next(&[(0, true), (2, true)], &[], &[2]), remove(0));
    }

    #[test]
    fn a_lost_voter_is_replaced_by_itself() {
        let remove = Ok(Some(VoterChange::Remove(BrokerId(2))));
        assert_eq!(next(&[(0, true), (1, true), (2, false)], &[], &[0, 1]), remove);
        assert_eq!(next(&[(0, true), (1, true)], &[(2, false)], &[0, 1, 2]), Err(VoterObjection::Behind(BrokerId(2))));
        assert_eq!(next(&[(0, true), (1, true)], &[(2, true)], &[0, 1, 2]), Ok(Some(VoterChange::Add(BrokerId(2)))));
    }

    #[test]
    fn those_who_are_caught_up_stay_a_majority() {
        let behind_two = [(0, true), (1, true), (2, true), (3, false), (4, false)];
        let refused = VoterObjection::NoMajority { without: BrokerId(1), caught_up: ids(&[0, 2]), of: 4 };
        assert_eq!(next(&behind_two, &[], &[0, 2, 3, 4]), Err(refused));
        assert_eq!(next(&behind_two, &[], &[0, 1, 2, 4]), Ok(Some(VoterChange::Remove(BrokerId(3)))));
        let refused = VoterObjection::StillNoMajority { with: BrokerId(3), behind: ids(&[1, 2]) };
        assert_eq!(next(&[(0, true), (1, false), (2, false)], &[(3, true)], &[0, 1, 2, 3]), Err(refused));
        let refused = VoterObjection::NoMajority { without: BrokerId(0), caught_up: Vec::new(), of: 1 };
        assert_eq!(next(&[(0, true), (1, false)], &[], &[1]), Err(refused));
    }

    #[test]
    fn nobody_and_strangers_do_not_vote() {
        assert_eq!(next(&WELL, &[], &[]), Err(VoterObjection::Nobody));
        assert_eq!(next(&WELL, &[(3, true)], &[0, 7, 8]), Err(VoterObjection::Unknown(ids(&[7, 8]))));
    }
}
