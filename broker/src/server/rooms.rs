//! The memory of requests in flight, divided by how long they may hold it.
//!
//! Whatever fills one room, requests of the other kinds find theirs: neither records nor long requests can stop those
//! by which clients find their way, nor can requests that wait for something.

use super::budget::Budget;

/// Longer requests share the room of the records, whatever their kind.
const SHORT: usize = 64 << 10;
/// Produce.
const PRODUCE: i16 = 0;
/// Kinds whose answer may have to wait: for records (Fetch); for members of a group (`JoinGroup`, `SyncGroup`); for
/// replicas (`OffsetCommit`, `LeaveGroup`, `DeleteGroups`, `OffsetDelete`, `ConsumerGroupHeartbeat`); or for the
/// controller (`CreateTopics`, `DeleteTopics`, `InitProducerId`, `AlterConfigs`, `CreatePartitions`,
/// `IncrementalAlterConfigs`, `ElectLeaders`, `UpdateFeatures`, `UnregisterBroker`,
/// `DescribeQuorum`, `AddRaftVoter`, `RemoveRaftVoter`).
const MAY_WAIT: [i16; 20] = [1, 8, 11, 14, 13, 42, 47, 68, 19, 20, 22, 33, 37, 44, 43, 57, 64, 55, 80, 81];

/// The rooms, which are a whole budget together. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Rooms {
    records: Budget,
    waiting: Budget,
    short: Budget,
    total: usize,
}

impl Rooms {
    /// Divides so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let (waiting, short) = (bytes / 16 * 3, bytes / 16);
        Self {
            records: Budget::new(bytes - waiting - short),
            waiting: Budget::new(waiting),
            short: Budget::new(short),
            total: bytes,
        }
    }

    /// The room of a request of that kind (Kafka's API key) and length.
    pub(crate) fn of(&self, api: i16, len: usize) -> &Budget {
        if api == PRODUCE || len > SHORT {
            &self.records
        } else if MAY_WAIT.contains(&api) {
            &self.waiting
        } else {
            &self.short
        }
    }

    /// Bytes that are taken.
    pub(crate) fn used(&self) -> usize {
        self.records.used() + self.waiting.used() + self.short.used()
    }

    /// All bytes that there are.
    pub(crate) fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Share;
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn no_kind_of_request_takes_the_room_of_another() {
        let rooms = Rooms::new(1600);
        let kinds = [(0, 10), (1, SHORT + 1), (1, 10), (8, SHORT), (3, 10), (18, 10), (12, SHORT)];
        let room_of = [1200, 1200, 300, 300, 100, 100, 100];
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
