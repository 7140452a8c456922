//! Who the file says is in the cluster: its first brokers, or those at which one that joins knocks.

use super::file::{JoinsAs, MemberFile};
use super::{ConfigError, Member, wrong};
use chronik_core::ids::BrokerId;

/// What stands for a broker's number in the hosts of `joins_as`.
const ID: &str = "{id}";

/// How large the cluster is, as far as the file says.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClusterSize {
    /// How many brokers there may be.
    pub(super) most: usize,
    /// What follows from it for topics that do not say.
    pub(super) replication_factor: i16,
}

impl ClusterSize {
    /// Of a file with so many members. A broker that joins by it knows of some members only, and others may join later
    /// where it says how.
    pub(super) fn by_file(members: usize, joins: bool, others_may_join: bool) -> Self {
        let usual = if joins { 3 } else { members.min(3) };
        let most = if joins || others_may_join { usize::MAX } else { members };
        Self { most, replication_factor: i16::try_from(usual).unwrap_or(3) }
    }
}

/// The members by the file, and which of them vote at first. A broker that the file does not list is added to the
/// members with the addresses of the section `joins_as`, and does not vote.
pub(super) fn members(
    me: BrokerId,
    given: &[MemberFile],
    voters_given: Option<Vec<i32>>,
    joins_as: Option<&JoinsAs>,
) -> Result<(Vec<Member>, Vec<BrokerId>), ConfigError> {
    let mut members: Vec<Member> = given.iter().map(MemberFile::member).collect();
    for (i, member) in members.iter().enumerate() {
        if member.id.0 < 0 {
            return Err(wrong("members", format!("broker id {} is negative", member.id)));
        }
        if members[..i].iter().any(|m| m.id == member.id) {
            return Err(wrong("members", format!("broker {} stands there twice", member.id)));
        }
    }
    let voters = voters(&members, voters_given)?;
    if !members.iter().any(|m| m.id == me) {
        let joins_as = joins_as.ok_or_else(|| wrong("members", format!("broker {me} (this one) is not among them")))?;
        if members.is_empty() {
            return Err(wrong("members", "a broker that joins a cluster needs one of its brokers among them"));
        }
        members.push(joins_as.member(me));
    }
    Ok((members, voters))
}

fn voters(members: &[Member], given: Option<Vec<i32>>) -> Result<Vec<BrokerId>, ConfigError> {
    let voters: Vec<BrokerId> = match given {
        Some(ids) => ids.into_iter().map(BrokerId).collect(),
        None => members.iter().map(|m| m.id).take(if members.len() < 3 { 1 } else { 3 }).collect(),
    };
    if voters.is_empty() && members.len() < 2 {
        return Err(wrong("voters", "a broker that joins a cluster needs one of its brokers among the members"));
    }
    if voters.len().is_multiple_of(2) && !voters.is_empty() {
        return Err(wrong("voters", format!("{} voters: an odd number (1, 3 or 5) is needed", voters.len())));
    }
    for (i, voter) in voters.iter().enumerate() {
        if voters[..i].contains(voter) || !members.iter().any(|m| m.id == *voter) {
            return Err(wrong("voters", format!("broker {voter} is not a member, or stands there twice")));
        }
    }
    Ok(voters)
}

impl JoinsAs {
    fn member(&self, id: BrokerId) -> Member {
        let of = |host: &String| host.replace(ID, &id.to_string());
        MemberFile {
            id: id.0,
            host: of(&self.host),
            alternative_hosts: self.alternative_hosts.iter().map(of).collect(),
            kafka_port: self.kafka_port,
            replication_port: self.replication_port,
            controller_port: self.controller_port,
        }
        .member()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: i32) -> MemberFile {
        let host = format!("b{id}");
        let (kafka_port, replication_port, controller_port) = (1, 2, 3);
        MemberFile { id, host, alternative_hosts: Vec::new(), kafka_port, replication_port, controller_port }
    }

    fn joins_as() -> JoinsAs {
        let (host, alternative_hosts) = ("b{id}.svc".to_owned(), vec!["pod-{id}.brokers.svc".to_owned()]);
        JoinsAs { host, alternative_hosts, kafka_port: 1, replication_port: 2, controller_port: 3 }
    }

    #[test]
    fn who_is_not_among_the_first_ones_joins_and_does_not_vote() {
        let first: Vec<MemberFile> = (0..3).map(member).collect();
        let (members, voters) = super::members(BrokerId(4), &first, None, Some(&joins_as())).unwrap();
        assert_eq!(voters, [0, 1, 2].map(BrokerId));
        let me = members.last().unwrap();
        assert_eq!((me.id, &*me.controller.host, me.controller.port), (BrokerId(4), "b4.svc", 3));
        assert_eq!(*me.alternative_hosts, ["pod-4.brokers.svc".into()]);
        // One of the first presents itself as before.
        let (members, _) = super::members(BrokerId(1), &first, None, Some(&joins_as())).unwrap();
        assert_eq!((members.len(), &*members[1].kafka.host), (3, "b1"));
    }

    #[test]
    fn what_topics_get_follows_from_the_first_brokers_and_from_nothing_where_they_are_not_known() {
        let size = |members, joins, others| {
            let size = ClusterSize::by_file(members, joins, others);
            (size.replication_factor, size.most)
        };
        assert_eq!(size(1, false, false), (1, 1));
        assert_eq!(size(1, false, true), (1, usize::MAX));
        assert_eq!(size(5, false, false), (3, 5));
        assert_eq!(size(2, true, false), (3, usize::MAX));
    }

    #[test]
    fn who_is_nowhere_in_the_file_does_not_start() {
        let error = super::members(BrokerId(4), &[member(0)], None, None).unwrap_err().to_string();
        assert!(error.contains("broker 4 (this one) is not among them"), "{error}");
        super::members(BrokerId(4), &[], None, Some(&joins_as())).unwrap_err();
    }
}
