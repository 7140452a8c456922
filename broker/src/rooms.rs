//! The memory of requests in flight, divided by how long they may keep it.
//!
//! Whatever fills one room, requests of the other kinds find theirs: neither records nor long requests can stop those
//! by which clients find their way, nor can requests that wait for something.

use crate::budget::Budget;
use chronik_wire::RequestKind;

/// Longer requests share the room of the records, whatever their kind.
const SHORT: usize = 64 << 10;
/// The smaller rooms are counted in such parts of the whole.
const PARTS: usize = 16;

/// Where the memory of a kind of request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Records, until they are on the disk.
    Records,
    /// Readers, who may wait for records, and for those who look one up by its time before them.
    Reads,
    /// Members of groups that may wait for each other, for minutes.
    Members,
    /// What groups and producers ask for and may have to wait for replicas, or for the controller: an answer about
    /// a group waits until that is committed.
    Clients,
    /// What administrators ask for and may have to wait for the controller, or for replicas.
    Changes,
    /// What is answered from what the broker knows; Metadata and `FindCoordinator` may wait for a topic that
    /// they create, but not for long.
    Short,
}

/// Every kind has its place here before it is served: a kind that waits in the wrong room keeps others from finding
/// their way.
fn room_of(kind: RequestKind) -> Room {
    use RequestKind as Kind;
    match kind {
        Kind::Produce => Room::Records,
        Kind::Fetch | Kind::ListOffsets => Room::Reads,
        Kind::JoinGroup | Kind::SyncGroup => Room::Members,
        Kind::LeaveGroup
        | Kind::Heartbeat
        | Kind::OffsetCommit
        | Kind::OffsetFetch
        | Kind::DescribeGroups
        | Kind::ListGroups
        | Kind::ConsumerGroupHeartbeat
        | Kind::ConsumerGroupDescribe
        | Kind::InitProducerId => Room::Clients,
        Kind::CreateTopics
        | Kind::DeleteTopics
        | Kind::DeleteRecords
        | Kind::AlterConfigs
        | Kind::CreatePartitions
        | Kind::DeleteGroups
        | Kind::ElectLeaders
        | Kind::IncrementalAlterConfigs
        | Kind::AlterPartitionReassignments
        | Kind::OffsetDelete
        | Kind::DescribeQuorum
        | Kind::UpdateFeatures
        | Kind::UnregisterBroker
        | Kind::AddRaftVoter
        | Kind::RemoveRaftVoter => Room::Changes,
        Kind::Metadata
        | Kind::FindCoordinator
        | Kind::ApiVersions
        | Kind::OffsetForLeaderEpoch
        | Kind::DescribeAcls
        | Kind::SaslHandshake
        | Kind::SaslAuthenticate
        | Kind::DescribeConfigs
        | Kind::DescribeLogDirs
        | Kind::ListPartitionReassignments
        | Kind::DescribeCluster
        | Kind::DescribeProducers
        | Kind::ListConfigResources
        | Kind::DescribeTopicPartitions => Room::Short,
    }
}

/// The rooms, which are a whole budget together. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Rooms {
    records: Budget,
    reads: Budget,
    members: Budget,
    clients: Budget,
    changes: Budget,
    short: Budget,
    total: usize,
}

impl Rooms {
    /// Divides so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let part = bytes / PARTS;
        Self {
            records: Budget::new(bytes - 7 * part),
            reads: Budget::new(2 * part),
            members: Budget::new(2 * part),
            clients: Budget::new(part),
            changes: Budget::new(part),
            short: Budget::new(part),
            total: bytes,
        }
    }

    /// The room of a request of that kind (Kafka's API key) and length.
    pub(crate) fn of(&self, api: i16, len: usize) -> &Budget {
        let kind = RequestKind::of_key(api);
        match kind.map_or(Room::Short, room_of) {
            Room::Records => &self.records,
            _ if len > SHORT => &self.records,
            Room::Reads => &self.reads,
            Room::Members => &self.members,
            Room::Clients => &self.clients,
            Room::Changes => &self.changes,
            Room::Short => &self.short,
        }
    }

    /// Bytes that are taken.
    pub(crate) fn used(&self) -> usize {
        let small = [&self.reads, &self.members, &self.clients, &self.changes, &self.short].map(Budget::used);
        self.records.used() + small.iter().sum::<usize>()
    }

    /// All bytes that there are.
    pub(crate) fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Share;
    use futures::FutureExt as _;

    #[test]
    fn no_kind_of_request_takes_the_room_of_another() {
        let rooms = Rooms::new(1600);
        let kinds = [
            (0, 10),
            (1, SHORT + 1),
            (45, SHORT + 1),
            (1, 10),
            (11, SHORT),
            (8, SHORT),
            (45, 10),
            (19, SHORT),
            (3, 10),
            (99, SHORT),
        ];
        let room_of = [900, 900, 900, 200, 200, 100, 100, 100, 100, 100];
        for ((api, len), bytes) in kinds.into_iter().zip(room_of) {
            let room = rooms.of(api, len);
            let mut share = Share::default();
            room.grow(&mut share, bytes).now_or_never().expect("nobody else is there");
            assert_eq!(room.used(), bytes, "kind {api} of {len} bytes");
            assert!(room.grow(&mut Share::default(), 1).now_or_never().is_none(), "kind {api} of {len} bytes");
            assert_eq!(rooms.used(), bytes);
        }
        assert_eq!(rooms.used(), 0);
    }
}
